//! The redistributors and SGIs of GICv3 (IHI0069 12.11, 12.2.24).

mod common;

use common::{Domain, NOWHERE, intid, vcpu};
use viaduct_vgic::{AccessError, Notify, Region, VcpuId, Version, Width};

const GICR: Region = Region::Redistributor;
const FRAME: u64 = 0x2_0000;
const SGI: u64 = 0x1_0000;

/// IHI0069 12.11.35: affinity, number, Last.
#[test]
fn typer() {
    let domain = Domain::new(Version::V3, 18, 32, 4);
    let typer = |number: u64, width| {
        let offset = number * FRAME + 8;
        domain.access(3, GICR, offset, width)
    };
    assert_eq!(typer(0, Width::Doubleword), Ok(0));
    assert_eq!(typer(5, Width::Doubleword), Ok((5 << 32) | (5 << 8)));
    let last = (0x101 << 32) | (17 << 8) | (1 << 4);
    assert_eq!(typer(17, Width::Doubleword), Ok(last));
    assert_eq!(typer(17, Width::Word), Ok(last & 0xffff_ffff));
    assert_eq!(domain.read(0, GICR, 17 * FRAME + 12), 0x101);
    assert_eq!(typer(17, Width::Byte), Err(AccessError::Width));
    assert_eq!(typer(18, Width::Word), Err(AccessError::Outside));
    assert_eq!(typer(1 << 40, Width::Word), Err(AccessError::Outside));
}

/// IHI0069 12.11.42: ChildrenAsleep follows ProcessorSleep, which starts clear: awake.
#[test]
fn waker() {
    let domain = Domain::new(Version::V3, 2, 32, 4);
    let waker = FRAME + 0x14;
    assert_eq!(domain.read(1, GICR, waker), 0);
    domain.write(1, GICR, waker, 2);
    assert_eq!(domain.read(1, GICR, waker), 6);
    assert_eq!(domain.read(1, GICR, 0x14), 0);
    domain.write(1, GICR, waker, 0);
    assert_eq!(domain.read(1, GICR, waker), 0);
}

#[test]
fn identification_and_reserved() {
    let domain = Domain::new(Version::V3, 2, 32, 4);
    assert_eq!(domain.read(0, GICR, FRAME + 0xffe8) >> 4, 3);
    assert_eq!(domain.read(0, GICR, FRAME + 4), 0x43b);
    for offset in (0..2 * FRAME).step_by(4) {
        let word = Width::Word;
        assert!(domain.access(0, GICR, offset, word).is_ok());
        assert!(domain.put(0, GICR, offset, word, u64::MAX).is_ok());
        assert!(domain.put(0, GICR, offset, word, 0).is_ok());
    }
    // No LPIs: their table registers are there with 64 bits, and zero.
    for offset in [0x70, 0x78] {
        let wide = Width::Doubleword;
        assert!(domain.put(0, GICR, offset, wide, u64::MAX).is_ok());
        assert_eq!(domain.access(0, GICR, offset, wide), Ok(0));
    }
}

/// IHI0069 12.11: the private words of any vCPU, through its own frame.
#[test]
fn private_words() {
    let domain = Domain::new(Version::V3, 3, 32, 4);
    let frame = 2 * FRAME + SGI;
    assert_eq!(domain.read(0, GICR, frame + 0x80), u32::MAX, "group 1");
    assert_eq!(domain.read(0, GICR, frame + 0x100), 0xffff);
    domain.write(0, GICR, frame + 0x180, 0xff);
    domain.write(0, GICR, frame + 0x100, 1 << 27);
    assert_eq!(domain.read(1, GICR, frame + 0x180), 0x0800_ff00);
    assert_eq!(domain.read(0, GICR, SGI + 0x100), 0xffff);
    domain.write(0, GICR, frame + 0x418, 0x8899_aabb);
    assert_eq!(domain.read(0, GICR, frame + 0x418), 0x8898_a8b8);
    assert_eq!(domain.read(0, GICR, frame + 0xc00), 0xaaaa_aaaa);
    assert_eq!(domain.read(0, GICR, frame + 0xc04), 0);
    assert_eq!(domain.read(0, GICR, frame + 0x104), 0, "one word only");
    assert_eq!(domain.read(0, GICR, frame + 0x420), 0);
}

/// An SGI's pending bit is writable on GICv3 (IHI0069 12.11.24), by another vCPU too.
#[test]
fn pending_sgi_of_another() {
    let domain = Domain::ready(Version::V3, 2, 32, 4, 1);
    let notify = domain.tell(0, GICR, FRAME + SGI + 0x200, 1 << 5);
    assert!(notify.contains(vcpu(1)) && !notify.contains(vcpu(0)));
    assert_eq!(domain.acknowledge(1), Some(5));
}

fn told(notify: Notify) -> Vec<u32> {
    notify.map(VcpuId::get).collect()
}

/// IHI0069 12.2.24.
#[test]
fn sgi1r() {
    let domain = Domain::ready(Version::V3, 18, 32, 4, 1);
    let send = |value| told(domain.send_sgi1r(1, value));
    assert_eq!(send(0b0110_1011 | 4 << 24), [0, 3, 5, 6]);
    assert_eq!(domain.acknowledge(1), Some(4), "itself, without a notice");
    assert_eq!(send(0b111 | 1 << 16 | 6 << 24), [16, 17]);
    assert_eq!(send(1 << 40 | 7 << 24).len(), 17);
    assert_eq!(send(1 << 32 | 1), [], "Aff2");
    assert_eq!(send(1 << 48 | 1), [], "Aff3");
    assert_eq!(send(1 << 44 | 1), [], "RS");
    assert_eq!(send(9 << 16 | 1), [], "Aff1 beyond 128 vCPUs");
    assert_eq!(send(8 << 16 | 0xffff), []);
    domain.end(1, 4);
    assert_eq!(domain.acknowledge(1), None);
    assert_eq!(domain.acknowledge(16), Some(6));
}

#[test]
fn a_disabled_sgi_waits() {
    let domain = Domain::ready(Version::V3, 2, 32, 4, 1);
    domain.write(1, GICR, FRAME + SGI + 0x180, 1 << 3);
    let notify = domain.send_sgi1r(0, 0b10 | 3 << 24);
    assert!(notify.is_empty());
    assert!(!domain.vgic.has_deliverable(vcpu(1), Some(domain.here(1))));
    assert_eq!(domain.acknowledge(1), None);
    domain.write(1, GICR, FRAME + SGI + 0x100, 1 << 3);
    assert_eq!(domain.acknowledge(1), Some(3));
}

/// CPU_ON: private state as from reset, SPIs left alone.
#[test]
fn reset_of_a_vcpu() {
    let domain = Domain::ready(Version::V3, 2, 32, 4, 2);
    domain.write(0, Region::Distributor, 0x6000 + 32 * 8, 1);
    let _ = domain.vgic.pulse(vcpu(1), intid(31), NOWHERE);
    let _ = domain.vgic.pulse(vcpu(1), intid(32), NOWHERE);
    let _ = domain.vgic.save(domain.here(1));
    domain.vgic.reset_vcpu(vcpu(1));
    let _ = domain.vgic.restore(domain.here(1));
    assert_eq!(domain.read(1, GICR, FRAME + SGI + 0x100), 0xffff);
    assert_eq!(domain.read(1, GICR, FRAME + SGI + 0x41c), 0);
    assert_eq!(domain.read(1, GICR, FRAME + SGI + 0x200), 0);
    assert_eq!(domain.acknowledge(1), Some(32));
    domain.vgic.reset();
    assert_eq!(domain.read(0, Region::Distributor, 0), 0x50);
    assert_eq!(domain.read(0, Region::Distributor, 0x104), 0);
}
