//! The virtual timer, direct, and the physical one (xen-arm-guest-environment section 7). How late an
//! interrupt may be: boot argument `late=10ms`.

use crate::check::{Outcome, Trouble, check, equal, fail, settle, soon};
use crate::raw;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::{arguments::arguments, cpu, entry, interrupt, println, timer};

static TAKEN: AtomicU32 = AtomicU32::new(0);
static WHEN: AtomicU64 = AtomicU64::new(0);

fn note() {
    WHEN.store(timer::now(), SeqCst);
    TAKEN.fetch_add(1, SeqCst);
}

/// Counts expiries during `body`.
fn counted(body: impl FnOnce() -> Outcome) -> Outcome {
    TAKEN.store(0, SeqCst);
    timer::on_expired(Some(note));
    let outcome = body();
    timer::clear_deadline();
    timer::on_expired(None);
    outcome
}

fn taken() -> u32 {
    TAKEN.load(SeqCst)
}

fn milliseconds(number: u64) -> u64 {
    timer::ticks(Duration::from_millis(number))
}

fn limit() -> Duration {
    arguments()
        .duration("late")
        .unwrap_or(Duration::from_millis(20))
}

pub(crate) fn counter() -> Outcome {
    let frequency = timer::frequency();
    check!(
        (1_000_000..=10_000_000_000).contains(&frequency),
        "CNTFRQ_EL0 is {frequency}"
    );
    let mut last = timer::now();
    for _ in 0..10_000 {
        let now = timer::now();
        check!(
            now >= last,
            "the counter went back from {last:#x} to {now:#x}"
        );
        last = now;
    }
    Ok(())
}

/// Has `rounds` measure how late interrupts are, in ticks, until they are in time: whoever emulates the CPUs may be short
/// of them itself, so the best of some tries counts.
fn in_time(name: &str, mut rounds: impl FnMut() -> Result<u64, Trouble>) -> Outcome {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        best = best.min(timer::duration(rounds()?));
        if best <= limit() {
            break;
        }
    }
    println!("NOTE {name} {} us late at most", best.as_micros());
    check!(best <= limit(), "{best:?} late");
    Ok(())
}

/// A busy guest takes the interrupt neither early nor late.
pub(crate) fn accuracy() -> Outcome {
    in_time("timer-accuracy", || {
        let mut worst = 0;
        counted(|| {
            for round in 1..=20 {
                let deadline = timer::now() + milliseconds(1);
                timer::set_deadline(deadline);
                check!(soon(|| taken() == round), "no interrupt in round {round}");
                let late = WHEN.load(SeqCst).wrapping_sub(deadline);
                check!(late < u64::MAX / 2, "{} ticks early", late.wrapping_neg());
                worst = worst.max(late);
            }
            Ok(())
        })?;
        Ok(worst)
    })
}

/// So does a sleeping one.
pub(crate) fn wfi() -> Outcome {
    in_time("timer-wfi", || {
        let mut worst = 0;
        for _ in 0..20 {
            let deadline = timer::now() + milliseconds(1);
            timer::sleep_until(deadline);
            worst = worst.max(timer::now() - deadline);
        }
        Ok(worst)
    })
}

/// A deadline moved before it expires counts only where it was moved to. It is tried again where the machine stood
/// still for so long that a deadline passed before it could be moved.
pub(crate) fn rearm() -> Outcome {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut in_time = true;
        let outcome = rearm_once(&mut in_time);
        if outcome.is_ok() || in_time || tries == 20 {
            return outcome;
        }
    }
}

fn rearm_once(in_time: &mut bool) -> Outcome {
    counted(|| {
        // Far enough from each other that an emulated CPU seldom stands still for as long.
        let start = timer::now();
        let (first, second) = (start + milliseconds(50), start + milliseconds(3000));
        timer::set_deadline(first);
        timer::set_deadline(second);
        *in_time = timer::now() < first;
        timer::spin(Duration::from_millis(60));
        let before = taken();
        timer::set_deadline(timer::now() + milliseconds(1));
        *in_time &= timer::now() < second;
        equal!(before, 0, "interrupts before the deadline");
        check!(
            soon(|| taken() == 1),
            "{} interrupts in a second, CNTV_CTL_EL0 is {:#x}",
            taken(),
            timer::control()
        );
        timer::spin(Duration::from_millis(25));
        equal!(taken(), 1, "interrupts");
        Ok(())
    })
}

/// A handler that only moves the compare value, and never writes the control register, keeps ticking.
pub(crate) fn compare_only() -> Outcome {
    fn tick(_: u32) {
        timer::set_compare(timer::now() + milliseconds(1));
        TAKEN.fetch_add(1, SeqCst);
    }
    TAKEN.store(0, SeqCst);
    interrupt::on(timer::intid(), tick);
    timer::set_deadline(timer::now() + milliseconds(1));
    let ticked = soon(|| taken() >= 10);
    let control = timer::control();
    timer::clear_deadline();
    timer::restore_handler();
    check!(ticked, "{} ticks, CNTV_CTL_EL0 is {control:#x}", taken());
    Ok(())
}

/// With interrupts masked, WFI ends at the deadline, and the interrupt comes with the unmasking.
pub(crate) fn masked() -> Outcome {
    counted(|| {
        let deadline = timer::now() + milliseconds(5);
        let before = cpu::masked(|| {
            timer::set_deadline(deadline);
            while timer::now() < deadline {
                cpu::wait_for_interrupt();
            }
            (taken(), timer::control())
        });
        equal!(
            before,
            (0, timer::ENABLE | timer::ISTATUS),
            "taken and CNTV_CTL_EL0 while masked"
        );
        check!(soon(|| taken() == 1), "no interrupt after unmasking");
        settle();
        equal!(taken(), 1, "interrupts");
        Ok(())
    })
}

/// IMASK keeps the interrupt away, not the status; taking IMASK away lets it come.
pub(crate) fn imask() -> Outcome {
    counted(|| {
        timer::set_compare(timer::now() + milliseconds(1));
        timer::set_control(timer::ENABLE | timer::IMASK);
        timer::spin(Duration::from_millis(5));
        equal!(taken(), 0, "interrupts");
        let all = timer::ENABLE | timer::IMASK | timer::ISTATUS;
        // An emulator on a busy machine may set the status late.
        check!(
            soon(|| timer::control() == all),
            "CNTV_CTL_EL0: {}",
            timer::control()
        );
        timer::set_control(timer::ENABLE);
        check!(soon(|| taken() == 1), "no interrupt");
        Ok(())
    })
}

/// A line that was lowered again gives no interrupt, given one trap in between.
pub(crate) fn withdraw() -> Outcome {
    counted(|| {
        let before = cpu::mask();
        timer::set_deadline(timer::now());
        timer::spin(Duration::from_millis(5));
        timer::clear_deadline();
        let _ = raw::execute(raw::mrs(3, 0, 0, 4, 0), 0);
        cpu::restore(before);
        settle();
        equal!(taken(), 0, "interrupts");
        Ok(())
    })
}

/// A compare value in the past expires at once, one in the far future never; and the first once, also where it takes the
/// place of the second while the timer runs.
pub(crate) fn past() -> Outcome {
    counted(|| {
        timer::set_deadline(0);
        check!(soon(|| taken() == 1), "no interrupt for compare value 0");
        timer::set_deadline(u64::MAX / 2);
        timer::spin(Duration::from_millis(5));
        equal!(taken(), 1, "interrupts");
        timer::set_deadline(0);
        check!(
            soon(|| taken() >= 2),
            "no interrupt for a deadline moved into the past"
        );
        settle();
        equal!(
            taken(),
            2,
            "interrupts after the deadline was moved into the past"
        );
        Ok(())
    })
}

/// CNTP: the same rules, through the hypervisor.
pub(crate) fn physical() -> Outcome {
    const CTL: (u32, u32) = (2, 1);
    const CVAL: (u32, u32) = (2, 2);
    fn write((crm, op2): (u32, u32), value: u64) -> Outcome {
        match raw::execute(raw::msr(3, 3, 14, crm, op2), value) {
            Ok(_) => Ok(()),
            Err(fault) => fail!("writing CNTP: {fault}"),
        }
    }
    fn take(_: u32) {
        let _ = write(CTL, 0);
        TAKEN.fetch_add(1, SeqCst);
    }
    let node = entry::tree().and_then(|tree| tree.compatible("arm,armv8-timer"));
    let Some(intid) = node.and_then(|node| node.interrupts().nth(1)) else {
        return Err(Trouble::Skip("no physical timer in the tree"));
    };
    TAKEN.store(0, SeqCst);
    interrupt::on(intid, take);
    let body = || {
        for round in 1..=5 {
            write(CVAL, raw::physical_counter() + milliseconds(2))?;
            write(CTL, 1)?;
            check!(soon(|| taken() == round), "no interrupt in round {round}");
        }
        write(CVAL, raw::physical_counter() + milliseconds(1))?;
        write(CTL, 3)?;
        timer::spin(Duration::from_millis(5));
        equal!(taken(), 5, "interrupts with IMASK");
        let control = raw::execute(raw::mrs(3, 3, 14, 2, 1), 0);
        equal!(control, Ok(7), "CNTP_CTL_EL0");
        Ok(())
    };
    let outcome = body();
    let _ = write(CTL, 0);
    interrupt::off(intid);
    outcome
}
