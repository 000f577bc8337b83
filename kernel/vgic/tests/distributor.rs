//! The distributor's registers, GICv2 (IHI0048B 4.3) unless a test says GICv3 (IHI0069 12.9).

mod common;

use common::{Domain, NOWHERE, intid, vcpu};
use viaduct_vgic::{AccessError, Region, Version, Width};

const GICD: Region = Region::Distributor;

fn access(domain: &Domain, offset: u64, width: Width) -> Result<u64, AccessError> {
    domain.access(0, GICD, offset, width)
}

fn store(domain: &Domain, offset: u64, width: Width, value: u64) -> Result<(), AccessError> {
    domain.put(0, GICD, offset, width, value).map(|_| ())
}

/// IHI0048B 4.3.2; IHI0069 12.9.38.
#[test]
fn typer_counts_interrupts_and_vcpus() {
    let v2 = Domain::new(Version::V2, 4, 64, 4);
    assert_eq!(v2.read(0, GICD, 4), 2 | (3 << 5));
    let v3 = Domain::new(Version::V3, 4, 33, 4);
    assert_eq!(v3.read(0, GICD, 4), 2 | (9 << 19) | (1 << 25));
    let most = Domain::new(Version::V3, 1, 988, 4);
    assert_eq!(most.read(0, GICD, 4) & 0x1f, 31);
}

/// IHI0048B 4.3.1; IHI0069 12.9.4: one security state, affinity routing for good.
#[test]
fn control_keeps_its_enable_bits_only() {
    let v2 = Domain::new(Version::V2, 1, 32, 4);
    assert_eq!(v2.read(0, GICD, 0), 0);
    v2.write(0, GICD, 0, u32::MAX);
    assert_eq!(v2.read(0, GICD, 0), 1);
    let v3 = Domain::new(Version::V3, 1, 32, 4);
    assert_eq!(v3.read(0, GICD, 0), 0x50);
    v3.write(0, GICD, 0, u32::MAX);
    assert_eq!(v3.read(0, GICD, 0), 0x53);
}

/// IHI0048B 4.3.3, 4.3.18; IHI0069 12.1.1: ArchRev in PIDR2 bits 7:4.
#[test]
fn identification() {
    let v2 = Domain::new(Version::V2, 1, 32, 4);
    assert_eq!(v2.read(0, GICD, 8), 0x43b);
    assert_eq!(v2.read(0, GICD, 0xfe8) >> 4, 2);
    let ids: Vec<u32> = (0..4).map(|n| v2.read(0, GICD, 0xff0 + n * 4)).collect();
    assert_eq!(ids, [0x0d, 0xf0, 0x05, 0xb1]);
    let v3 = Domain::new(Version::V3, 1, 32, 4);
    assert_eq!(v3.read(0, GICD, 0xffe8) >> 4, 3);
    assert_eq!(v3.read(0, GICD, 0xfe8), 0, "there on GICv2 only");
}

/// IHI0048B 4.1.4: words everywhere; bytes in the priority, target and SGI pending registers.
#[test]
fn widths() {
    let domain = Domain::new(Version::V2, 2, 64, 4);
    for offset in [0x000, 0x008, 0x100, 0x280, 0x300, 0xc08, 0xf00] {
        for width in [Width::Byte, Width::Halfword, Width::Doubleword] {
            assert_eq!(access(&domain, offset, width), Err(AccessError::Width));
            assert_eq!(store(&domain, offset, width, 0), Err(AccessError::Width));
        }
    }
    for offset in [0x420, 0x820, 0xf20] {
        for width in [Width::Byte, Width::Halfword, Width::Word] {
            assert!(access(&domain, offset, width).is_ok());
            assert!(store(&domain, offset, width, 0).is_ok());
        }
        let wide = Width::Doubleword;
        assert_eq!(access(&domain, offset, wide), Err(AccessError::Width));
        assert_eq!(store(&domain, offset, wide, 0), Err(AccessError::Width));
    }
    assert_eq!(
        access(&domain, 0x422, Width::Word),
        Err(AccessError::Misaligned)
    );
    assert_eq!(
        access(&domain, 0x1000, Width::Word),
        Err(AccessError::Outside)
    );
    let far = Region::Redistributor;
    let result = domain.access(0, far, 0, Width::Word);
    assert_eq!(
        result,
        Err(AccessError::Outside),
        "GICv2 has no redistributor"
    );
}

/// What is reserved reads as zero and ignores writes: every word of both distributors is tried.
#[test]
fn no_offset_aborts_a_word_access() {
    for (version, size) in [(Version::V2, 0x1000), (Version::V3, 0x1_0000)] {
        let domain = Domain::new(version, 3, 96, 4);
        for offset in (0..size).step_by(4) {
            assert!(access(&domain, offset, Width::Word).is_ok(), "{offset:#x}");
            assert!(store(&domain, offset, Width::Word, u64::MAX).is_ok());
            assert!(store(&domain, offset, Width::Word, 0).is_ok());
        }
        for reserved in [0x00c, 0x040, 0xd00, 0xe00, 0xf80] {
            assert_eq!(domain.read(0, GICD, reserved), 0, "{reserved:#x}");
        }
    }
}

/// IHI0048B 4.3.5, 4.3.6: two views of one bit; SGIs are always enabled.
#[test]
fn enables() {
    let domain = Domain::new(Version::V2, 2, 64, 4);
    assert_eq!(domain.read(0, GICD, 0x100), 0xffff);
    domain.write(0, GICD, 0x100, 1 << 27);
    domain.write(0, GICD, 0x180, 0xffff);
    assert_eq!(domain.read(0, GICD, 0x180), 0x0800_ffff);
    assert_eq!(domain.read(1, GICD, 0x100), 0xffff, "banked");
    domain.write(0, GICD, 0x104, 0xf0f0_0001);
    domain.write(1, GICD, 0x184, 0xf000_0000);
    assert_eq!(domain.read(1, GICD, 0x104), 0x00f0_0001, "shared");
    // Not implemented: RAZ/WI.
    domain.write(0, GICD, 0x10c, u32::MAX);
    assert_eq!(domain.read(0, GICD, 0x10c), 0);
}

/// 1020 to 1023 are no interrupts (IHI0048B 2.2.1).
#[test]
fn special_numbers_have_no_state() {
    let domain = Domain::new(Version::V2, 1, 988, 4);
    domain.write(0, GICD, 0x17c, u32::MAX);
    assert_eq!(domain.read(0, GICD, 0x17c), 0x0fff_ffff);
    domain.write(0, GICD, 0x27c, u32::MAX);
    assert_eq!(domain.read(0, GICD, 0x27c), 0x0fff_ffff);
    domain.write(0, GICD, 0, 1);
    domain.enter_dirty();
    for _ in 0..988 {
        if let Some(intid) = domain.acknowledge(0) {
            assert!(intid < 1020);
            domain.end(0, intid);
        }
    }
}

/// On GICv3 the first word of each is in the redistributors (IHI0069 12.9.26 and others).
#[test]
fn v3_private_words_are_reserved_in_the_distributor() {
    let domain = Domain::new(Version::V3, 2, 64, 4);
    for offset in [0x080, 0x100, 0x200, 0x300, 0x400, 0x41c, 0xc00, 0xc04] {
        domain.write(0, GICD, offset, u32::MAX);
        assert_eq!(domain.read(0, GICD, offset), 0, "{offset:#x}");
    }
    assert_eq!(domain.read(0, GICD, 0x084), u32::MAX, "group 1");
    assert_eq!(domain.read(0, GICD, 0x820), 0, "no target registers");
    assert_eq!(domain.read(0, GICD, 0xf20), 0, "no SGI registers");
}

/// IHI0048B 4.3.11: five bits of priority.
#[test]
fn priorities() {
    let domain = Domain::new(Version::V2, 1, 64, 4);
    domain.write(0, GICD, 0x424, 0x1234_56ff);
    assert_eq!(domain.read(0, GICD, 0x424), 0x1030_50f8);
    store(&domain, 0x425, Width::Byte, 0xaa).unwrap();
    assert_eq!(domain.read(0, GICD, 0x424), 0x1030_a8f8);
    store(&domain, 0x426, Width::Halfword, 0x4440).unwrap();
    assert_eq!(domain.read(0, GICD, 0x424), 0x4040_a8f8);
    assert_eq!(access(&domain, 0x425, Width::Byte), Ok(0xa8));
    assert_eq!(access(&domain, 0x426, Width::Halfword), Ok(0x4040));
}

/// IHI0048B 4.3.12: read-only and one's own for SGIs and PPIs.
#[test]
fn targets() {
    let domain = Domain::new(Version::V2, 3, 64, 4);
    assert_eq!(domain.read(1, GICD, 0x800), 0x0202_0202);
    domain.write(1, GICD, 0x81c, u32::MAX);
    assert_eq!(domain.read(2, GICD, 0x81c), 0x0404_0404);
    assert_eq!(
        domain.read(0, GICD, 0x820),
        0x0101_0101,
        "vCPU 0 from reset"
    );
    domain.write(0, GICD, 0x820, 0xff02_0006);
    assert_eq!(
        domain.read(0, GICD, 0x820),
        0x0702_0006,
        "vCPUs that are not there"
    );
    store(&domain, 0x821, Width::Byte, 4).unwrap();
    assert_eq!(access(&domain, 0x821, Width::Byte), Ok(4));
    let alone = Domain::new(Version::V2, 1, 64, 4);
    alone.write(0, GICD, 0x820, 0x0101_0101);
    assert_eq!(alone.read(0, GICD, 0x800) | alone.read(0, GICD, 0x820), 0);
}

/// IHI0048B 4.3.13: SGIs edge, PPIs level, SPIs as written in the odd bits.
#[test]
fn configuration() {
    let domain = Domain::new(Version::V2, 1, 64, 4);
    for offset in [0xc00, 0xc04, 0xc08, 0xc0c] {
        domain.write(0, GICD, offset, 0xdead_beef);
    }
    assert_eq!(domain.read(0, GICD, 0xc00), 0xaaaa_aaaa);
    assert_eq!(domain.read(0, GICD, 0xc04), 0);
    assert_eq!(domain.read(0, GICD, 0xc08), 0xdead_beef & 0xaaaa_aaaa);
    assert_eq!(domain.read(0, GICD, 0xc0c), 0xdead_beef & 0xaaaa_aaaa);
}

/// IHI0048B 4.3.7 to 4.3.10, on an interrupt that is not enabled and so never listed.
#[test]
fn pending_and_active_bits() {
    let domain = Domain::new(Version::V2, 1, 64, 4);
    domain.write(0, GICD, 0x204, 0x30);
    domain.write(0, GICD, 0x284, 0x10);
    assert_eq!(domain.read(0, GICD, 0x204), 0x20);
    assert_eq!(domain.read(0, GICD, 0x284), 0x20);
    domain.write(0, GICD, 0x304, 0x6);
    domain.enter_dirty();
    domain.write(0, GICD, 0x384, 0x2);
    domain.enter_dirty();
    assert_eq!(domain.read(0, GICD, 0x304), 0x4);
    assert_eq!(domain.read(0, GICD, 0x384), 0x4);
    // SGI bits are read-only here.
    domain.write(0, GICD, 0x200, 0xffff);
    assert_eq!(domain.read(0, GICD, 0x200), 0);
}

/// The line keeps a level-sensitive interrupt pending whatever is written (IHI0048B 4.3.8).
#[test]
fn clear_pending_does_not_lower_a_line() {
    let domain = Domain::ready(Version::V2, 1, 32, 4, 2);
    let here = Some(domain.here(0));
    let _ = domain.vgic.set_level(vcpu(0), intid(32), true, here);
    domain.write(0, GICD, 0x284, 1);
    assert_eq!(domain.read(0, GICD, 0x204), 1);
    assert_eq!(domain.acknowledge(0), Some(32));
}

/// IHI0048B 4.3.15: list, all others, self.
#[test]
fn sgir_filters() {
    let domain = Domain::ready(Version::V2, 4, 32, 4, 1);
    let who = |value: u32, sgi| {
        let notify = domain.tell(1, GICD, 0xf00, value | sgi);
        let told: Vec<u32> = notify.map(|one| one.get()).collect();
        let got: Vec<u32> = (0..4)
            .filter(|&n| {
                let got = domain.acknowledge(n) == Some(sgi);
                if got {
                    domain.end(n, sgi);
                }
                got
            })
            .collect();
        (told, got)
    };
    assert_eq!(who(0b1011 << 16, 3), (vec![0, 3], vec![0, 1, 3]));
    assert_eq!(who(1 << 24, 4), (vec![0, 2, 3], vec![0, 2, 3]));
    assert_eq!(who(2 << 24, 5), (vec![], vec![1]));
    assert_eq!(who(3 << 24 | 0xff << 16, 6), (vec![], vec![]));
    assert_eq!(who(0xf0 << 16, 7), (vec![], vec![]), "no such vCPUs");
}

/// IHI0048B 4.3.16, 4.3.17, and each source is an interrupt of its own (2.2.1).
#[test]
fn sgi_sources() {
    let domain = Domain::ready(Version::V2, 3, 32, 4, 1);
    domain.write(2, GICD, 0xf00, 1 << 16 | 9);
    domain.write(1, GICD, 0xf00, 1 << 16 | 9);
    domain.enter_dirty();
    assert_eq!(domain.read(0, GICD, 0xf28), 0b110 << 8);
    assert_eq!(domain.read(0, GICD, 0xf18), 0b110 << 8);
    assert_eq!(domain.read(0, GICD, 0x200), 1 << 9);
    store(&domain, 0xf29, Width::Byte, 1).unwrap();
    domain.enter_dirty();
    assert_eq!(domain.read(0, GICD, 0xf28), 0b111 << 8);
    domain.write(0, GICD, 0xf18, 0b010 << 8);
    domain.enter_dirty();
    let mut sources = Vec::new();
    while let Some((intid, source)) = domain.cpus[0].acknowledge() {
        assert_eq!(intid, 9);
        sources.push(source);
        domain.end(0, 9);
    }
    assert_eq!(sources, [0, 2]);
    assert_eq!(domain.read(0, GICD, 0xf28), 0);
}

/// IHI0069 12.9.22: 64 bits, or either half; affinities that nobody has get nothing.
#[test]
fn v3_routes() {
    let domain = Domain::ready(Version::V3, 18, 64, 4, 1);
    let route = 0x6000 + 40 * 8;
    for number in [0, 1, 15, 16, 17] {
        let affinity = u64::from(vcpu(number).affinity());
        store(&domain, route, Width::Doubleword, affinity).unwrap();
        assert_eq!(access(&domain, route, Width::Doubleword), Ok(affinity));
        domain.write(0, GICD, 0x104, 1 << 8);
        domain.enter_dirty();
        let notify = domain.vgic.pulse(vcpu(3), intid(40), NOWHERE);
        assert!(notify.contains(vcpu(number)));
        assert_eq!(domain.acknowledge(number), Some(40));
        domain.end(number, 40);
    }
    domain.write(0, GICD, route + 4, 0x0100_0005);
    domain.write(0, GICD, route, 0x8000_0012);
    let stored = access(&domain, route, Width::Doubleword);
    assert_eq!(
        stored,
        Ok(0x05_0000_0012),
        "Interrupt_Routing_Mode is reserved"
    );
    assert_eq!(domain.read(0, GICD, route + 4), 5);
    domain.enter_dirty();
    assert!(domain.vgic.pulse(vcpu(3), intid(40), NOWHERE).is_empty());
    let byte = access(&domain, route, Width::Byte);
    assert_eq!(byte, Err(AccessError::Width));
}
