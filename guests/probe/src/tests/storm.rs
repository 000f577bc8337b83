//! CPUs switched on and off by each other as fast as they can: CPU_ON of one that goes off, two CPU_ONs at
//! once, AFFINITY_INFO meanwhile, interrupts for those that go.

use crate::check::{Outcome, check, equal, fail, is_off_soon};
use crate::hostile::wild::Random;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use runtime::gic::{self, Target};
use runtime::psci::{self, Error};
use runtime::{cpu, interrupt, timer};

const PING: u32 = 3;

static STARTS: [AtomicU32; cpu::MAX] = [const { AtomicU32::new(0) }; cpu::MAX];
static RUNS: [AtomicU32; cpu::MAX] = [const { AtomicU32::new(0) }; cpu::MAX];
static STOP: AtomicBool = AtomicBool::new(false);
/// Answers that PSCI does not have.
static WRONG: AtomicU32 = AtomicU32::new(0);

/// One thing that a CPU does to another.
fn meddle(random: &mut Random) {
    let further = cpu::count() as u64 - 1;
    let target = 1 + (random.next() >> 16) as usize % further as usize;
    let right = match random.next() >> 16 & 7 {
        0 => {
            gic::send(PING, Target::Cpu(target));
            true
        }
        1 | 2 => {
            let affinity = cpu::affinity(target).unwrap_or(0);
            matches!(psci::affinity_info(affinity, 0), Ok(0..=2))
        }
        _ => match cpu::start(target, move || live(target)) {
            Ok(()) => {
                STARTS[target].fetch_add(1, SeqCst);
                true
            }
            Err(error) => matches!(error, Error::AlreadyOn | Error::OnPending),
        },
    };
    if !right {
        WRONG.fetch_add(1, SeqCst);
    }
}

/// The life of a CPU: short.
fn live(index: usize) {
    RUNS[index].fetch_add(1, SeqCst);
    gic::enable(PING);
    let mut random = Random(timer::now() << 8 | index as u64 | 1);
    for _ in 0..3 {
        if STOP.load(SeqCst) {
            return;
        }
        meddle(&mut random);
    }
}

/// Lets `rounds` of it pass.
pub(crate) fn rage(rounds: u32) {
    STOP.store(false, SeqCst);
    interrupt::on(PING, |_| {});
    let mut random = Random(timer::now() << 8 | 1);
    for _ in 0..rounds {
        meddle(&mut random);
    }
}

/// Every CPU that was started ran once for it, and all are off in the end.
pub(crate) fn storm() -> Outcome {
    for count in STARTS.iter().chain(&RUNS).chain([&WRONG]) {
        count.store(0, SeqCst);
    }
    rage(1_500);
    STOP.store(true, SeqCst);
    // Who was started by one that had not seen the end starts nobody.
    for index in (1..cpu::count()).chain(1..cpu::count()) {
        check!(is_off_soon(index), "CPU {index} is not off");
    }
    interrupt::off(PING);
    equal!(WRONG.load(SeqCst), 0, "answers that PSCI does not have");
    for index in 1..cpu::count() {
        let starts = STARTS[index].load(SeqCst);
        equal!(RUNS[index].load(SeqCst), starts, "runs of CPU {index}");
        if starts == 0 {
            fail!("CPU {index} was never started");
        }
    }
    Ok(())
}
