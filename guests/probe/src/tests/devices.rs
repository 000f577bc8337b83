//! Devices of the board that the guest was given: QEMU's PL031, a clock with an alarm.

use crate::check::{Outcome, check, equal, fail, within};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::time::Duration;
use runtime::mmio::Mmio;
use runtime::sync::Lock;
use runtime::{entry, gic, interrupt, timer};

/// Registers of the PL031 (DDI 0224).
pub(crate) mod register {
    /// Seconds.
    pub(crate) const DATA: usize = 0x00;
    /// The alarm is raised when the seconds are these.
    pub(crate) const MATCH: usize = 0x04;
    /// Bit 0: the alarm's interrupt is let through.
    pub(crate) const MASK: usize = 0x10;
    /// Bit 0: the alarm is raised.
    pub(crate) const RAW_STATUS: usize = 0x14;
    /// Bit 0: takes the alarm back.
    pub(crate) const CLEAR: usize = 0x1c;
    /// The first byte of the part number.
    pub(crate) const PART_0: usize = 0xfe0;
}

static CLOCK: Lock<Option<Mmio>> = Lock::new(None);
static ALARMS: AtomicU32 = AtomicU32::new(0);

fn alarm(_: u32) {
    if let Some(clock) = *CLOCK.lock() {
        clock.write32(register::CLEAR, 1);
        ALARMS.fetch_add(1, SeqCst);
    }
}

/// The clock that this guest has, and its interrupt.
pub(crate) fn clock() -> Option<(Mmio, u32)> {
    let node = entry::tree()?.compatible("arm,pl031")?;
    let (base, size) = node.reg().next()?;
    Some((Mmio::new(base, size), node.interrupts().next()?))
}

/// Reads the time, sees it go on, and has its alarm come three times, also while the guest sleeps. While its
/// interrupt is disabled an alarm waits, and comes when it is enabled.
pub(crate) fn rtc() -> Outcome {
    let tree = entry::tree();
    let Some(node) = tree.and_then(|tree| tree.compatible("arm,pl031")) else {
        fail!("no arm,pl031");
    };
    let (Some((base, size)), Some(intid)) = (node.reg().next(), node.interrupts().next()) else {
        fail!("no reg, or no interrupts");
    };
    for property in ["xen,reg", "xen,path", "xen,force-assign-without-iommu"] {
        check!(node.property(property).is_none(), "{property} is there");
    }
    let clock = Mmio::new(base, size);
    equal!(clock.read32(register::PART_0), 0x31, "part");
    let now = || clock.read32(register::DATA);
    let first = now();
    check!(first > 1_000_000_000, "it is {first}");
    let goes_on = within(Duration::from_secs(30), || now() > first);
    check!(goes_on, "time stands at {first}");
    *CLOCK.lock() = Some(clock);
    ALARMS.store(0, SeqCst);
    interrupt::on(intid, alarm);
    clock.write32(register::CLEAR, 1);
    clock.write32(register::MASK, 1);
    for round in 1..=3 {
        clock.write32(register::MATCH, now() + 1);
        for _ in 0..300 {
            if ALARMS.load(SeqCst) >= round {
                break;
            }
            timer::sleep(Duration::from_millis(100));
        }
        equal!(ALARMS.load(SeqCst), round, "alarms");
    }
    gic::disable(intid);
    clock.write32(register::MATCH, now() + 1);
    let raised = within(Duration::from_secs(30), || {
        clock.read32(register::RAW_STATUS) == 1
    });
    check!(raised, "no alarm is raised");
    timer::sleep(Duration::from_millis(20));
    equal!(ALARMS.load(SeqCst), 3, "alarms while it is disabled");
    gic::enable(intid);
    let came = within(Duration::from_secs(30), || ALARMS.load(SeqCst) == 4);
    check!(came, "{} alarms in the end", ALARMS.load(SeqCst));
    clock.write32(register::MASK, 0);
    interrupt::off(intid);
    Ok(())
}
