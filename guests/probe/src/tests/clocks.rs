//! Both timers of every CPU: the corners of their registers (DDI 0487, D12.2), and ticks while all CPUs are busy.
//! The virtual timer is the hardware's, the physical one is emulated; the rules are the same.

use super::smp::everywhere;
use crate::check::{Outcome, Trouble, check, equal, within};
use crate::raw::{self, TimerRegister};
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::sync::Lock;
use runtime::{cpu, entry, gic, interrupt, timer};

/// A timer: its registers' value, control and compare value.
#[derive(Clone, Copy)]
struct Timer {
    name: &'static str,
    registers: [TimerRegister; 3],
    now: fn() -> u64,
}

const VALUE: usize = 0;
const CONTROL: usize = 1;
const COMPARE: usize = 2;

impl Timer {
    fn read(self, register: usize) -> u64 {
        raw::timer_register(self.registers[register])
    }

    fn write(self, register: usize, value: u64) {
        raw::set_timer_register(self.registers[register], value);
    }
}

fn physical_intid() -> Result<u32, Trouble> {
    let node = entry::tree().and_then(|tree| tree.compatible("arm,armv8-timer"));
    node.and_then(|node| node.interrupts().nth(1))
        .ok_or(Trouble::Skip("no physical timer in the tree"))
}

const VIRTUAL: Timer = Timer {
    name: "virtual",
    registers: [
        TimerRegister::VirtualValue,
        TimerRegister::VirtualControl,
        TimerRegister::VirtualCompare,
    ],
    now: timer::now,
};

const PHYSICAL: Timer = Timer {
    name: "physical",
    registers: [
        TimerRegister::PhysicalValue,
        TimerRegister::PhysicalControl,
        TimerRegister::PhysicalCompare,
    ],
    now: raw::physical_counter,
};

/// What is wrong with a timer of this CPU, with interrupts masked.
fn corners_of(timer: Timer, intid: u32) -> Outcome {
    let Timer { name, .. } = timer;
    let second = timer::frequency();
    let enabled = gic::is_enabled(intid);
    if !enabled {
        gic::enable(intid);
    }
    timer.write(COMPARE, (timer.now)() + second);
    timer.write(CONTROL, 1);
    equal!(timer.read(CONTROL), 1, "{name} control, a second to go");
    let left = timer.read(VALUE);
    check!(
        left <= second && left > second / 2,
        "{name} value is {left}"
    );
    check!(!gic::is_pending(intid), "{name}: pending too early");

    let before = (timer.now)();
    timer.write(VALUE, 0xffff_fff0);
    let compare = timer.read(COMPARE);
    check!(
        compare >= before - 16 && compare < (timer.now)(),
        "{name} compare value is {compare:#x} for -16 at {before:#x}"
    );
    equal!(timer.read(CONTROL), 5, "{name} control, value in the past");
    check!(timer.read(VALUE) > 0xf000_0000, "{name} value counts on");
    check!(gic::is_pending(intid), "{name}: not pending");
    timer.write(CONTROL, 3);
    equal!(timer.read(CONTROL), 7, "{name} control with IMASK");
    check!(!gic::is_pending(intid), "{name}: pending with IMASK");
    timer.write(CONTROL, 1);
    check!(gic::is_pending(intid), "{name}: not pending without IMASK");

    timer.write(VALUE, 1 << 40 | second);
    let left = timer.read(VALUE);
    check!(
        left <= second && left > second / 2,
        "{name} value of 32 bits: {left}"
    );
    equal!(timer.read(CONTROL), 1, "{name} control, moved on");
    check!(
        !gic::is_pending(intid),
        "{name}: pending after it was moved on"
    );
    timer.write(COMPARE, 0);
    equal!(timer.read(CONTROL), 5, "{name} control, compare value 0");
    timer.write(COMPARE, u64::MAX);
    equal!(timer.read(CONTROL), 1, "{name} control, compare value ~0");
    let far = (timer.now)() + (3 << 32);
    timer.write(COMPARE, far);
    let passed = far.wrapping_sub(timer.read(VALUE)) & 0xffff_ffff;
    let error = (timer.now)().wrapping_sub(passed) & 0xffff_ffff;
    check!(
        error < second,
        "{name} value of a far compare value: {error} off"
    );
    timer.write(CONTROL, 0);
    equal!(timer.read(CONTROL) & 3, 0, "{name} control, off");
    check!(!gic::is_pending(intid), "{name}: pending while it is off");
    if !enabled {
        gic::disable(intid);
    }
    Ok(())
}

pub(crate) fn corners() -> Outcome {
    let (first, second) = (timer::intid(), physical_intid()?);
    let here = move |_| {
        cpu::masked(|| {
            corners_of(VIRTUAL, first)?;
            corners_of(PHYSICAL, second)
        })
    };
    let trouble = Arc::new(Lock::new(None::<String>));
    let theirs = trouble.clone();
    everywhere(
        move |index| {
            if let Err(Trouble::Fail(why)) = here(index) {
                *theirs.lock() = Some(alloc::format!("CPU {index}: {why}"));
            }
        },
        || here(0),
    )?;
    match trouble.lock().take() {
        Some(why) => Err(Trouble::Fail(why)),
        None => Ok(()),
    }
}

/// Ticks of each timer on each CPU.
static TICKS: [[AtomicU32; cpu::MAX]; 2] = [const { [const { AtomicU32::new(0) }; cpu::MAX] }; 2];
static DUE: [[AtomicU64; cpu::MAX]; 2] = [const { [const { AtomicU64::new(0) }; cpu::MAX] }; 2];
/// Ticks that came before their time.
static EARLY: AtomicU32 = AtomicU32::new(0);

/// Whether ticks go on.
static GOING: AtomicBool = AtomicBool::new(false);

const ENOUGH: u32 = 15;

fn tick(which: usize) {
    let timer = [VIRTUAL, PHYSICAL][which];
    let due = &DUE[which][cpu::index()];
    if (timer.now)() < due.load(SeqCst) {
        EARLY.fetch_add(1, SeqCst);
    }
    TICKS[which][cpu::index()].fetch_add(1, SeqCst);
    if GOING.load(SeqCst) {
        let period = timer::ticks(Duration::from_micros(1000 + 700 * which as u64));
        due.store((timer.now)() + period, SeqCst);
        timer.write(COMPARE, due.load(SeqCst));
        timer.write(CONTROL, 1);
    } else {
        timer.write(CONTROL, 0);
    }
}

/// Starts both timers of this CPU, each of which starts itself again at each tick.
pub(crate) fn start_ticks() {
    timer::on_expired(Some(|| tick(0)));
    if let Ok(intid) = physical_intid() {
        gic::enable(intid);
    }
    cpu::masked(|| (0..2).for_each(tick));
}

/// Stops them.
pub(crate) fn stop_ticks() {
    cpu::masked(|| {
        VIRTUAL.write(CONTROL, 0);
        PHYSICAL.write(CONTROL, 0);
        if let Ok(intid) = physical_intid() {
            gic::disable(intid);
        }
        timer::on_expired(None);
    });
}

/// The ticks of each timer of a CPU, and how many came early on any.
pub(crate) fn ticks_of(index: usize) -> ([u32; 2], u32) {
    let ticks = [0, 1].map(|which: usize| TICKS[which][index].load(SeqCst));
    (ticks, EARLY.load(SeqCst))
}

/// Runs `body`, in which CPUs may start their ticks.
pub(crate) fn with_ticks(body: impl FnOnce() -> Outcome) -> Outcome {
    let physical = physical_intid()?;
    for (ticks, due) in TICKS.iter().flatten().zip(DUE.iter().flatten()) {
        ticks.store(0, SeqCst);
        due.store(0, SeqCst);
    }
    EARLY.store(0, SeqCst);
    GOING.store(true, SeqCst);
    interrupt::on(physical, |_| tick(1));
    let outcome = body();
    GOING.store(false, SeqCst);
    stop_ticks();
    interrupt::off(physical);
    outcome
}

/// Every CPU computes, and gets the ticks of both of its timers, none early.
pub(crate) fn busy() -> Outcome {
    let work = |index: usize| {
        start_ticks();
        let enough = within(Duration::from_secs(60), || {
            ticks_of(index).0.iter().all(|&ticks| ticks >= ENOUGH)
        });
        stop_ticks();
        enough
    };
    with_ticks(|| {
        everywhere(
            move |index| {
                work(index);
            },
            || {
                work(0);
                Ok(())
            },
        )
    })?;
    for index in 0..cpu::count() {
        let (ticks, early) = ticks_of(index);
        let enough = ticks.iter().all(|&ticks| ticks >= ENOUGH);
        check!(enough, "CPU {index}: {ticks:?} ticks");
        equal!(early, 0, "ticks that came early");
    }
    Ok(())
}
