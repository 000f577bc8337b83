//! What the EL2 image relies on, one situation a test.

mod common;

use common::{Domain, NOWHERE, intid, vcpu};
use viaduct_vgic::{AccessError, Error, Here, Link, Notify, Others, Region, Version, Vgic, Width};

const VERSIONS: [Version; 2] = [Version::V2, Version::V3];

fn timer_fires(domain: &Domain, number: u32) {
    domain.cpus[number as usize]
        .physically_active
        .borrow_mut()
        .insert(27);
    let here = Some(domain.here(number));
    let notify = domain
        .vgic
        .inject_hardware(vcpu(number), intid(27), intid(27), here);
    assert!(notify.is_empty());
}

#[test]
fn creation_checks_its_numbers() {
    let error = |version, vcpus, spis| Vgic::new(version, vcpus, spis).err();
    assert_eq!(error(Version::V2, 0, 32), Some(Error::VcpuCount));
    assert_eq!(error(Version::V2, 9, 32), Some(Error::VcpuCount));
    assert_eq!(error(Version::V3, 129, 32), Some(Error::VcpuCount));
    assert_eq!(error(Version::V3, 128, 989), Some(Error::SpiCount));
    assert_eq!(error(Version::V3, 128, 988), None);
    assert_eq!(error(Version::V2, 8, 0), None);
}

/// The timer's interrupt goes straight into a list register, and again after its end, without one
/// entry in between.
#[test]
fn timer_straight_in() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 1, 32, 4, 1);
        for _ in 0..5 {
            timer_fires(&domain, 0);
            assert!(!domain.vgic.is_dirty(vcpu(0)));
            assert!(domain.vgic.needs_enter(vcpu(0)));
            let list = domain.cpus[0].find(27).unwrap();
            assert_eq!(list.link, Link::Hardware(intid(27)));
            assert_eq!(domain.cpus[0].acknowledge(), Some((27, 0)));
            domain.cpus[0].end(27);
            assert!(domain.cpus[0].physically_active.borrow().is_empty());
        }
        assert_eq!(domain.vgic.arrivals(vcpu(0)), 5);
        let before = domain.vgic.arrivals(vcpu(0));
        domain.vgic.reset_vcpu(vcpu(0));
        assert_eq!(
            domain.vgic.arrivals(vcpu(0)),
            before,
            "a reset keeps the count"
        );
    }
}

/// A line that dropped takes its pending list register back, and the physical interrupt can come
/// again; one that is still high costs nothing.
#[test]
fn timer_withdrawn() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 1, 32, 4, 1);
        timer_fires(&domain, 0);
        let raw = domain.cpus[0].lists.borrow().clone();
        assert!(domain.vgic.enter_if_needed(domain.here(0)).is_empty());
        assert_eq!(*domain.cpus[0].lists.borrow(), raw);
        domain.cpus[0].low.borrow_mut().insert(27);
        assert_eq!(domain.read_word(0, 0, 0x200), 0, "read from the line");
        assert!(domain.vgic.enter_if_needed(domain.here(0)).is_empty());
        assert!(domain.cpus[0].held().is_empty());
        assert!(domain.cpus[0].physically_active.borrow().is_empty());
        assert!(!domain.vgic.needs_enter(vcpu(0)));
        domain.cpus[0].low.borrow_mut().clear();
        timer_fires(&domain, 0);
        assert_eq!(domain.acknowledge(0), Some(27));
    }
}

/// A timer that fires while disabled is held; enabled, it comes; or its line drops first.
#[test]
fn timer_while_disabled() {
    for version in VERSIONS {
        for dropped in [false, true] {
            let domain = Domain::ready(version, 1, 32, 4, 1);
            domain.write_word(0, 0, 0x180, 1 << 27);
            timer_fires(&domain, 0);
            assert!(!domain.vgic.needs_enter(vcpu(0)));
            assert!(!domain.vgic.has_deliverable(vcpu(0), Some(domain.here(0))));
            assert_eq!(domain.read_word(0, 0, 0x200), 1 << 27);
            if dropped {
                domain.cpus[0].low.borrow_mut().insert(27);
                assert_eq!(domain.read_word(0, 0, 0x200), 0);
            }
            domain.write_word(0, 0, 0x100, 1 << 27);
            assert_eq!(domain.acknowledge(0), (!dropped).then_some(27));
            let active = domain.cpus[0].physically_active.borrow().len();
            assert_eq!(active, usize::from(!dropped));
        }
    }
}

/// ICACTIVER on an interrupt that is active in its list register deactivates the physical one.
#[test]
fn timer_deactivated_by_register() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 1, 32, 4, 1);
        timer_fires(&domain, 0);
        assert_eq!(domain.acknowledge(0), Some(27));
        assert_eq!(domain.read_word(0, 0, 0x300), 1 << 27);
        domain.write_word(0, 0, 0x380, 1 << 27);
        assert_eq!(domain.read_word(0, 0, 0x300), 0);
        domain.enter_dirty();
        assert!(domain.cpus[0].held().is_empty());
        assert!(domain.cpus[0].physically_active.borrow().is_empty());
    }
}

/// A vCPU switched out in its timer's handler goes on there on its way back.
#[test]
fn switch_in_a_handler() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 1, 32, 4, 1);
        timer_fires(&domain, 0);
        assert_eq!(domain.acknowledge(0), Some(27));
        let _ = domain.vgic.pulse(vcpu(0), intid(31), NOWHERE);
        assert!(domain.vgic.save(domain.here(0)).notify.is_empty());
        assert!(domain.cpus[0].held().is_empty());
        assert!(domain.vgic.has_deliverable(vcpu(0), NOWHERE));
        let _ = domain.vgic.restore(domain.here(0));
        domain.cpus[0].end(27);
        assert!(domain.cpus[0].physically_active.borrow().is_empty());
        assert_eq!(domain.acknowledge(0), Some(31));
    }
}

/// The event upcall is an edge whatever the guest's tree calls it: one pulse, one interrupt; a pulse
/// in the handler, another one.
#[test]
fn pulses_of_a_level_ppi() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 2, 32, 4, 1);
        let pulse = |here| domain.vgic.pulse(vcpu(0), intid(31), here);
        assert!(pulse(Some(domain.here(0))).is_empty());
        assert!(pulse(Some(domain.here(0))).is_empty());
        assert!(!domain.vgic.is_dirty(vcpu(0)));
        assert_eq!(domain.cpus[0].acknowledge(), Some((31, 0)));
        assert!(pulse(Some(domain.here(0))).is_empty());
        assert!(!domain.vgic.is_dirty(vcpu(0)));
        assert_eq!(domain.cpus[0].acknowledge(), None);
        domain.end(0, 31);
        assert_eq!(domain.cpus[0].acknowledge(), Some((31, 0)));
        // From another CPU, while it is active here.
        let notify = pulse(Some(domain.here(1)));
        assert!(notify.contains(vcpu(0)));
        domain.enter_dirty();
        domain.end(0, 31);
        assert_eq!(domain.acknowledge(0), Some(31));
        domain.end(0, 31);
        assert_eq!(domain.acknowledge(0), None);
    }
}

/// The UART's line: pending as long as it is high, again after its end, gone when it drops.
#[test]
fn level_spi() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 1, 32, 4, 2);
        let level = |high| {
            let here = Some(domain.here(0));
            assert!(
                domain
                    .vgic
                    .set_level(vcpu(0), intid(32), high, here)
                    .is_empty()
            );
        };
        level(true);
        assert_eq!(domain.acknowledge(0), Some(32));
        assert_eq!(domain.read_word(0, 1, 0x200), 1);
        domain.end(0, 32);
        assert_eq!(domain.acknowledge(0), Some(32), "still high");
        level(false);
        domain.end(0, 32);
        assert_eq!(domain.acknowledge(0), None);
        level(true);
        level(false);
        assert!(domain.vgic.is_dirty(vcpu(0)));
        assert_eq!(domain.acknowledge(0), None, "withdrawn");
        assert!(!domain.vgic.has_deliverable(vcpu(0), Some(domain.here(0))));
    }
}

/// What sits pending in a list register is pulled back by a disable, by GICD_CTLR, by ICPENDR.
#[test]
fn pulled_back() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 1, 64, 4, 2);
        let spi = intid(40);
        let _ = domain.vgic.pulse(vcpu(0), spi, Some(domain.here(0)));
        domain.enter_dirty();
        assert!(domain.cpus[0].find(40).is_some());
        domain.write_word(0, 1, 0x180, 1 << 8);
        domain.enter_dirty();
        assert!(domain.cpus[0].held().is_empty());
        assert_eq!(domain.read_word(0, 1, 0x200), 1 << 8, "pending still");
        domain.write_word(0, 1, 0x100, 1 << 8);
        domain.enter_dirty();
        assert!(domain.cpus[0].find(40).is_some());
        domain.write(0, Region::Distributor, 0, 0);
        domain.enter_dirty();
        assert!(domain.cpus[0].held().is_empty());
        domain.write(0, Region::Distributor, 0, 3);
        domain.enter_dirty();
        assert!(domain.cpus[0].find(40).is_some());
        domain.write_word(0, 1, 0x280, 1 << 8);
        assert_eq!(domain.read_word(0, 1, 0x200), 0);
        assert_eq!(domain.acknowledge(0), None);
    }
}

/// A new priority or target reaches what is listed.
#[test]
fn priority_and_target_of_the_listed() {
    let domain = Domain::ready(Version::V2, 2, 64, 4, 2);
    let _ = domain.vgic.pulse(vcpu(0), intid(40), NOWHERE);
    domain.enter_dirty();
    assert_eq!(domain.cpus[0].find(40).unwrap().priority, 0xa0);
    domain.write(1, Region::Distributor, 0x428, 0x20);
    domain.enter_dirty();
    assert_eq!(domain.cpus[0].find(40).unwrap().priority, 0x20);
    let notify = domain.tell(1, Region::Distributor, 0x828, 0b10);
    // The write is done when vCPU 0 has given it up, which tells the other.
    assert!(notify.contains(vcpu(0)) && notify.contains(vcpu(1)));
    assert!(domain.cpus[0].held().is_empty());
    domain.enter_dirty();
    assert!(domain.cpus[0].held().is_empty());
    assert_eq!(domain.acknowledge(1), Some(40));
}

/// What a guest writes about an interrupt that another CPU has listed is done when the write returns.
#[test]
fn writes_about_what_is_listed_elsewhere() {
    for version in VERSIONS {
        for (base, acknowledged) in [(0x180, false), (0x280, false), (0x380, true)] {
            let domain = Domain::ready(version, 2, 64, 4, 2);
            let _ = domain.vgic.pulse(vcpu(0), intid(40), NOWHERE);
            domain.enter_dirty();
            if acknowledged {
                assert_eq!(domain.cpus[0].acknowledge(), Some((40, 0)));
            }
            assert!(domain.tell_word(1, 1, base, 1 << 8).contains(vcpu(0)));
            assert!(domain.cpus[0].held().is_empty(), "{base:#x}");
            let active = domain.read_word(1, 1, 0x300);
            let pending = domain.read_word(1, 1, 0x200);
            assert_eq!((pending, active), (u32::from(base == 0x180) << 8, 0));
        }
    }
}

/// Nobody answers: the read gives up, to be tried again, and the write is done a little later.
#[test]
fn no_answer() {
    struct Deaf;
    impl Others for Deaf {
        fn notify(&self, _: Notify) {}
        fn ask(&self, _: Notify) {}
        fn wait(&self, _: u32) -> bool {
            false
        }
    }
    let domain = Domain::ready(Version::V3, 2, 64, 4, 2);
    let _ = domain.vgic.pulse(vcpu(0), intid(40), NOWHERE);
    domain.enter_dirty();
    let read = || {
        let (here, region) = (domain.here(1), Region::Distributor);
        domain.vgic.read(here, region, 0x204, Width::Word, &Deaf)
    };
    assert_eq!(read(), Err(AccessError::Unanswered));
    let here = domain.here(1);
    let written = domain
        .vgic
        .write(here, Region::Distributor, 0x284, Width::Word, 1 << 8, &Deaf);
    assert_eq!(written, Ok(()));
    domain.enter_dirty();
    assert_eq!(read(), Ok(0));
}

/// The timer of a vCPU on another CPU: pending as its line was when that CPU was asked.
#[test]
fn a_timer_elsewhere() {
    let domain = Domain::ready(Version::V3, 2, 64, 4, 2);
    timer_fires(&domain, 0);
    let pending = || domain.read(1, Region::Redistributor, 0x1_0200);
    assert_eq!(pending(), 1 << 27);
    assert_eq!(domain.cpus[0].acknowledge(), Some((27, 0)));
    assert_eq!(pending(), 1 << 27, "its line is high still");
    domain.cpus[0].low.borrow_mut().insert(27);
    assert_eq!(pending(), 0);
    let active = domain.read(1, Region::Redistributor, 0x1_0300);
    assert_eq!(active, 1 << 27);
    let _ = domain.leave(0);
    assert_eq!(domain.read(1, Region::Redistributor, 0x1_0300), 1 << 27);
}

/// ISPENDR on a hardware interrupt while it is handled: it comes once more, and the physical one, active until then, is
/// deactivated once.
#[test]
fn a_device_pended_while_handled() {
    for version in VERSIONS {
        for again in [true, false] {
            let domain = Domain::ready(version, 1, 32, 4, 2);
            domain.cpus[0].physically_active.borrow_mut().insert(40);
            let here = Some(domain.here(0));
            let _ = domain
                .vgic
                .inject_shared_hardware(vcpu(0), intid(40), intid(40), here);
            assert_eq!(domain.acknowledge(0), Some(40));
            domain.write_word(0, 1, 0x200, 1 << 8);
            if !again {
                domain.write_word(0, 1, 0x280, 1 << 8);
            }
            assert_eq!(domain.read_word(0, 1, 0x200), u32::from(again) << 8);
            domain.enter_dirty();
            domain.end(0, 40);
            assert_eq!(domain.acknowledge(0), again.then_some(40));
            if again {
                domain.end(0, 40);
            }
            assert!(domain.cpus[0].held().is_empty());
            assert!(domain.cpus[0].physically_active.borrow().is_empty());
        }
    }
}

/// More pending than list registers: all come, in the order of their priorities.
#[test]
fn more_than_fits() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 1, 64, 4, 3);
        for number in 32_u32..64 {
            let (region, offset) = domain.place(0, 1, 0x400, 32);
            let priority = u64::from(number * 40 % 256) & 0xf8;
            let byte = viaduct_vgic::Width::Byte;
            let offset = offset + u64::from(number % 32);
            let _ = domain.put(0, region, offset, byte, priority);
        }
        domain.write_word(0, 1, 0x200, u32::MAX);
        let mut last = 0;
        for _ in 32..64 {
            let intid = domain.acknowledge(0).unwrap();
            let priority = (intid * 40 % 256) & 0xf8;
            assert!(priority >= last);
            last = priority;
            // An urgent one cuts in, though no list register is free.
            domain.end(0, intid);
        }
        assert_eq!(domain.acknowledge(0), None);
        assert_eq!(domain.cpus[0].maintenance.get().bits(), 0);
    }
}

/// EOImode 1: a guest that keeps more interrupts active than there are list registers still receives,
/// and all of them end.
#[test]
fn more_active_than_fits() {
    for version in VERSIONS {
        let domain = Domain::ready(version, 1, 64, 4, 2);
        for number in 32..44 {
            let _ = domain
                .vgic
                .pulse(vcpu(0), intid(number), Some(domain.here(0)));
            assert_eq!(domain.acknowledge(0), Some(number));
            domain.cpus[0].drop_priority();
            domain.enter_dirty();
        }
        assert_eq!(domain.read_word(0, 1, 0x300), 0xfff);
        for number in 32..44 {
            domain.cpus[0].deactivate_virtual(number);
            domain.enter_dirty();
        }
        assert_eq!(domain.read_word(0, 1, 0x300), 0);
        assert!(domain.cpus[0].held().is_empty());
    }
}

/// The line of an interrupt rises and falls while what the guest pended itself of it is active, and in no list register:
/// after the end nothing of it is left.
#[test]
fn a_line_that_dropped_before_the_end() {
    let domain = Domain::ready(Version::V3, 1, 32, 2, 1);
    domain.write_word(0, 0, 0x200, 1 << 27);
    domain.enter_dirty();
    assert_eq!(domain.acknowledge(0), Some(27));
    domain.cpus[0].drop_priority();
    // Two that are before it.
    domain.write_word(0, 0, 0x300, 1 << 1);
    domain.write_word(0, 0, 0x200, 1 << 20);
    domain.enter_dirty();
    assert!(domain.cpus[0].find(27).is_none());
    timer_fires(&domain, 0);
    domain.cpus[0].low.borrow_mut().insert(27);
    let _ = domain.vgic.deactivate(domain.here(0), 27);
    let timer = |base| domain.read_word(0, 0, base) >> 27 & 1;
    assert_eq!((timer(0x200), timer(0x300)), (0, 0));
    assert!(domain.cpus[0].physically_active.borrow().is_empty());
}

/// State of a domain and of a vCPU is small (250 domains on a board).
#[test]
fn the_vgic_itself_is_small() {
    assert!(size_of::<Vgic>() <= 256);
    assert_eq!(size_of::<Option<Here<'_, common::Cpu>>>(), 16);
}
