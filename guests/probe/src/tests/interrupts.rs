//! The interrupt controller (xen-arm-guest-environment section 10), the same tests for both versions.

use crate::check::{Outcome, Trouble, check, equal, settle, soon, within};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use runtime::gic::{self, Gic, Target, distributor};
use runtime::{cpu, interrupt, sync::Lock, timer};

static ORDER: Lock<Vec<u32>> = Lock::new(Vec::new());

fn note(intid: u32) {
    ORDER.lock().push(intid);
}

/// Installs the note handler for `intids`, runs `body`, takes it away again.
fn noting(intids: &[u32], body: impl FnOnce() -> Outcome) -> Outcome {
    *ORDER.lock() = Vec::with_capacity(64);
    for intid in intids {
        interrupt::on(*intid, note);
    }
    let outcome = body();
    for intid in intids {
        interrupt::off(*intid);
        gic::set_priority(*intid, gic::PRIORITY);
    }
    outcome
}

fn noted() -> Vec<u32> {
    core::mem::replace(&mut *ORDER.lock(), Vec::with_capacity(64))
}

/// An SPI that nothing is wired to, if there are SPIs.
fn spare_spi() -> Result<u32, Trouble> {
    let lines = match gic::driver() {
        Some(Gic::V2(gic)) => gic.distributor.read32(distributor::TYPER) & 0x1f,
        Some(Gic::V3(gic)) => gic.distributor.read32(distributor::TYPER) & 0x1f,
        None => 0,
    };
    if lines == 0 {
        Err(Trouble::Skip("no SPIs"))
    } else {
        Ok(62)
    }
}

/// Fourteen of them.
pub(crate) fn spare_spis() -> Result<core::ops::Range<u32>, Trouble> {
    spare_spi().map(|_| 44..58)
}

pub(crate) fn sgi_self() -> Outcome {
    noting(&[3], || {
        for round in 1..=100 {
            gic::send(
                3,
                if round % 2 == 0 {
                    Target::Myself
                } else {
                    Target::Cpu(0)
                },
            );
            check!(
                soon(|| ORDER.lock().len() == round),
                "no interrupt in round {round}"
            );
        }
        settle();
        equal!(ORDER.lock().len(), 100, "interrupts");
        Ok(())
    })
}

/// WFI with interrupts masked ends when one is pending, and lets it wait.
pub(crate) fn wfi_wake() -> Outcome {
    noting(&[3], || {
        let early = cpu::masked(|| {
            gic::send(3, Target::Myself);
            cpu::wait_for_interrupt();
            ORDER.lock().len()
        });
        equal!(early, 0, "interrupts while masked");
        check!(
            soon(|| ORDER.lock().len() == 1),
            "no interrupt after unmasking"
        );
        Ok(())
    })
}

pub(crate) fn identity() -> Outcome {
    let cpus = cpu::count() as u32;
    match gic::driver() {
        None => return Err(Trouble::Skip("no interrupt controller")),
        Some(Gic::V2(gic)) => {
            let kind = gic.distributor.read32(distributor::TYPER);
            equal!((kind >> 5 & 7) + 1, cpus.min(8), "CPUs in GICD_TYPER");
            // A single CPU has no targets to show.
            let own = gic.distributor.read8(distributor::ITARGETSR);
            check!(own == 1 || cpus == 1, "ITARGETSR0 on CPU 0 is {own:#x}");
        }
        Some(Gic::V3(gic)) => {
            let revision = gic.distributor.read32(0xffe8) >> 4 & 0xf;
            check!(
                revision == 3 || revision == 4,
                "GICD_PIDR2 says version {revision}"
            );
            let Some(own) = gic.redistributor() else {
                crate::check::fail!("no redistributor for this CPU");
            };
            let kind = own.read64(8);
            equal!(kind >> 8 & 0xffff, 0, "processor number in GICR_TYPER");
            equal!(kind & 1 << 4 != 0, cpus == 1, "Last in GICR_TYPER");
            let halves = u64::from(own.read32(12)) << 32 | u64::from(own.read32(8));
            equal!(halves, kind, "GICR_TYPER by halves");
            let last = gic
                .redistributors
                .at(u64::from(cpus - 1) * 0x2_0000)
                .read64(8);
            check!(
                last & 1 << 4 != 0,
                "GICR_TYPER of the last CPU is {last:#x}"
            );
        }
    }
    Ok(())
}

/// A disabled interrupt waits. A GICv2 may have its SGIs enabled for ever: an SPI is taken there.
pub(crate) fn enable() -> Outcome {
    let intid = match gic::driver() {
        Some(Gic::V2(_)) => spare_spi()?,
        _ => 5,
    };
    let raise = || match intid {
        0..16 => gic::send(intid, Target::Myself),
        _ => gic::set_pending(intid),
    };
    noting(&[intid], || {
        check!(gic::is_enabled(intid), "not enabled");
        gic::disable(intid);
        check!(!gic::is_enabled(intid), "not disabled");
        raise();
        settle();
        equal!(noted().len(), 0, "interrupts while disabled");
        gic::enable(intid);
        check!(
            soon(|| !ORDER.lock().is_empty()),
            "no interrupt after enabling"
        );
        settle();
        equal!(noted().len(), 1, "interrupts");
        Ok(())
    })
}

/// Priorities read back, a byte and a word at a time.
pub(crate) fn priority() -> Outcome {
    for intid in [4, 5, 6, 7] {
        gic::set_priority(intid, 0x20 * intid as u8);
    }
    for intid in [4, 5, 6, 7] {
        equal!(
            gic::priority(intid),
            0x20 * intid as u8,
            "priority of {intid}"
        );
    }
    if let Some(block) = gic::block(4) {
        let word = block.read32(distributor::IPRIORITYR + 4);
        equal!(word, 0xe0c0_a080, "priorities as a word");
        block.write32(distributor::IPRIORITYR + 4, 0xa0a0_a0a0);
        equal!(gic::priority(5), 0xa0, "priority of 5");
    }
    if let Ok(intid) = spare_spi() {
        gic::set_priority(intid, 0x40);
        equal!(gic::priority(intid), 0x40, "priority of {intid}");
    }
    Ok(())
}

pub(crate) fn priority_mask() -> Outcome {
    noting(&[5], || {
        gic::set_priority_mask(0x80);
        let mask = gic::priority_mask();
        gic::send(5, Target::Myself);
        settle();
        let early = noted().len();
        gic::set_priority_mask(0xff);
        equal!(mask, 0x80, "mask");
        equal!(early, 0, "interrupts below the mask");
        check!(
            soon(|| !ORDER.lock().is_empty()),
            "no interrupt after opening the mask"
        );
        Ok(())
    })
}

/// What waits is taken by priority.
pub(crate) fn order() -> Outcome {
    noting(&[1, 2, 3, 4], || {
        for (intid, priority) in [(1, 0xc0), (2, 0x40), (3, 0x80), (4, 0x20)] {
            gic::set_priority(intid, priority);
        }
        cpu::masked(|| {
            for intid in 1..=4 {
                gic::send(intid, Target::Myself);
            }
        });
        check!(soon(|| ORDER.lock().len() == 4), "{:?}", noted());
        equal!(noted(), [4, 2, 3, 1], "order");
        Ok(())
    })
}

/// More at once than any hardware has list registers, each exactly once.
pub(crate) fn many() -> Outcome {
    let mut all: Vec<u32> = (0..16).collect();
    if spare_spi().is_ok() {
        all.extend(48..63);
    }
    noting(&all, || {
        for _ in 0..5 {
            cpu::masked(|| {
                for intid in &all {
                    if *intid < 16 {
                        gic::send(*intid, Target::Myself);
                    } else {
                        gic::set_pending(*intid);
                    }
                }
            });
            soon(|| ORDER.lock().len() >= all.len());
            settle();
            let mut came = noted();
            came.sort_unstable();
            check!(came == all, "took {came:?}");
        }
        Ok(())
    })
}

pub(crate) fn pending() -> Outcome {
    let intid = spare_spi()?;
    noting(&[intid], || {
        let before = cpu::mask();
        gic::set_pending(intid);
        let set = gic::is_pending(intid);
        gic::clear_pending(intid);
        let cleared = !gic::is_pending(intid);
        cpu::restore(before);
        settle();
        check!(set, "not pending after ISPENDR");
        check!(cleared, "still pending after ICPENDR");
        equal!(noted().len(), 0, "interrupts taken although cleared");
        gic::set_pending(intid);
        check!(soon(|| !ORDER.lock().is_empty()), "no interrupt");
        settle();
        equal!(noted().len(), 1, "interrupts");
        check!(!gic::is_pending(intid), "still pending after it was taken");
        Ok(())
    })
}

/// Active from acknowledge to end; pending again meanwhile means once more afterwards.
pub(crate) fn active() -> Outcome {
    static ACTIVE: AtomicBool = AtomicBool::new(false);
    static PENDING: AtomicBool = AtomicBool::new(true);
    static ROUNDS: AtomicU32 = AtomicU32::new(0);
    fn handler(intid: u32) {
        if ROUNDS.fetch_add(1, SeqCst) == 0 {
            ACTIVE.store(gic::is_active(intid), SeqCst);
            PENDING.store(gic::is_pending(intid), SeqCst);
            gic::set_pending(intid);
        }
    }
    let intid = spare_spi()?;
    ROUNDS.store(0, SeqCst);
    interrupt::on(intid, handler);
    gic::set_pending(intid);
    let twice = soon(|| ROUNDS.load(SeqCst) == 2);
    settle();
    let after = gic::is_active(intid);
    interrupt::off(intid);
    check!(twice, "taken {} times", ROUNDS.load(SeqCst));
    equal!(ROUNDS.load(SeqCst), 2, "times taken");
    check!(ACTIVE.load(SeqCst), "not active in its handler");
    check!(!PENDING.load(SeqCst), "pending in its handler");
    check!(!after, "active after its end");
    Ok(())
}

/// An SPI goes to the CPU it is routed to.
pub(crate) fn route() -> Outcome {
    static WHERE: AtomicUsize = AtomicUsize::new(usize::MAX);
    static STOP: AtomicBool = AtomicBool::new(false);
    static READY: AtomicU32 = AtomicU32::new(0);
    fn handler(_: u32) {
        WHERE.store(cpu::index(), SeqCst);
    }
    let intid = spare_spi()?;
    STOP.store(false, SeqCst);
    READY.store(0, SeqCst);
    interrupt::on(intid, handler);
    let outcome = super::smp::everywhere(
        |_| {
            READY.fetch_add(1, SeqCst);
            // Awake now and then: the end is not announced by an interrupt.
            while !STOP.load(SeqCst) {
                timer::sleep(Duration::from_millis(1));
            }
        },
        || {
            let others = cpu::count() as u32 - 1;
            let body = || {
                let ready = within(Duration::from_secs(30), || READY.load(SeqCst) == others);
                check!(ready, "not all CPUs came");
                for index in (0..cpu::count()).rev() {
                    WHERE.store(usize::MAX, SeqCst);
                    gic::route(intid, index);
                    gic::set_pending(intid);
                    let came = soon(|| WHERE.load(SeqCst) == index);
                    check!(
                        came,
                        "routed to CPU {index}, taken by {:#x}",
                        WHERE.load(SeqCst)
                    );
                }
                Ok(())
            };
            let outcome = body();
            STOP.store(true, SeqCst);
            outcome
        },
    );
    interrupt::off(intid);
    outcome
}
