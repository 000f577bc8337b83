//! A vCPU that may run on two CPUs runs on the one that is free, with both of its timers going. To be run with vCPU 0
//! on CPU 0 alone, vCPU 1 on CPU 1 alone, and vCPU 2 on both.

use super::clocks;
use crate::check::{Outcome, Trouble, check, equal, fail, within};
use crate::raw::{hypercall, pointer};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::{hypercall as number, vcpu};
use runtime::{cpu, println, timer};

const PHASES: u32 = 6;
const PHASE: Duration = Duration::from_millis(100);

/// Whether vCPU 1 is to compute now.
static COMPUTE: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);
/// vCPU 2's runstate: state, time of entry, and time spent running, runnable, blocked and off.
static AREA: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

fn body(index: usize) {
    if index == 2 {
        let mut argument = vcpu::RegisterRunstateArea {
            address: AREA.as_ptr() as u64,
        };
        let command = vcpu::REGISTER_RUNSTATE_MEMORY_AREA;
        let arguments = [command, 2, pointer(&mut argument), 0, 0];
        hypercall(number::VCPU_OP, arguments);
        clocks::start_ticks();
        within(Duration::from_secs(30), || STOP.load(SeqCst));
        clocks::stop_ticks();
        return;
    }
    // vCPU 1 sleeps, or computes for a phase.
    while !STOP.load(SeqCst) {
        if COMPUTE.swap(false, SeqCst) {
            timer::spin(PHASE);
        }
        timer::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn moves() -> Outcome {
    if cpu::count() != 3 {
        return Err(Trouble::Skip("three vCPUs are needed"));
    }
    // Who emulates the CPUs may be short of CPUs itself: the best of some rounds counts.
    let mut best = (0, 1);
    for _ in 0..4 {
        let (running, waiting) = round()?;
        println!("NOTE moves ran {running} ms, waited {waiting} ms");
        if waiting * best.0 <= best.1 * running {
            best = (running, waiting);
        }
        // On one CPU alone it would wait for a third of the time that it runs.
        if best.1 <= best.0 / 6 {
            return Ok(());
        }
    }
    fail!("it waited {} ms, and ran {} ms", best.1, best.0)
}

/// Milliseconds that vCPU 2 ran, and waited, while the others computed in turn.
fn round() -> Result<(u64, u64), Trouble> {
    STOP.store(false, SeqCst);
    let times = || [2, 3].map(|place| AREA[place].load(SeqCst) / 1_000_000);
    let before = times();
    clocks::with_ticks(|| {
        super::smp::everywhere(body, || {
            for phase in 0..PHASES {
                if phase % 2 == 0 {
                    timer::spin(PHASE);
                } else {
                    COMPUTE.store(true, SeqCst);
                    timer::sleep(PHASE);
                }
            }
            STOP.store(true, SeqCst);
            Ok(())
        })
    })?;
    let (ticks, early) = clocks::ticks_of(2);
    equal!(early, 0, "ticks that came early");
    let least = PHASES * 10;
    check!(
        ticks.iter().all(|&ticks| ticks >= least),
        "{ticks:?} ticks, less than {least}"
    );
    let after = times();
    Ok((after[0] - before[0], after[1] - before[1]))
}
