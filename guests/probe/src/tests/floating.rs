//! FP and SIMD registers stay a vCPU's own, whatever else runs on its CPU.

use crate::check::{Outcome, check, equal, within};
use crate::raw::{self, FloatingPoint};
use alloc::{boxed::Box, sync::Arc};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::time::Duration;
use runtime::{arguments::arguments, cpu, timer};

fn pattern(seed: u64) -> Box<FloatingPoint> {
    let mut registers = Box::new(FloatingPoint {
        v: [0; 32],
        control: 0,
        status: 0,
    });
    for (number, register) in registers.v.iter_mut().enumerate() {
        let low = (seed << 32 | number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *register = u128::from(!low) << 64 | u128::from(low);
    }
    registers.control = (seed & 3) << 22;
    registers.status = seed & 0x1f;
    registers
}

/// Fills the registers, is busy or asleep for a while, and returns the first register that changed.
fn disturbed(seed: u64, time: Duration) -> Option<usize> {
    let wanted = pattern(seed);
    let mut found = pattern(!seed);
    let end = timer::now() + timer::ticks(time);
    raw::load_floating_point(&wanted);
    while timer::now() < end {
        timer::spin(Duration::from_millis(3));
        timer::sleep(Duration::from_millis(1));
    }
    raw::store_floating_point(&mut found);
    (0..32)
        .find(|number| wanted.v[*number] != found.v[*number])
        .or_else(|| (wanted != found).then_some(32))
}

fn time() -> Duration {
    arguments()
        .duration("time")
        .unwrap_or(Duration::from_millis(60))
}

/// Give the test a second guest or another vCPU on the same CPU, and `time=` to meet it.
pub(crate) fn alone() -> Outcome {
    for seed in 1..=3 {
        equal!(disturbed(seed, time()), None, "register changed");
    }
    Ok(())
}

/// Every vCPU with a pattern of its own.
pub(crate) fn smp() -> Outcome {
    let good = Arc::new(AtomicU32::new(0));
    let theirs = good.clone();
    super::smp::everywhere(
        move |index| {
            if disturbed(100 + index as u64, time()).is_none() {
                theirs.fetch_add(1, SeqCst);
            }
        },
        || {
            equal!(disturbed(100, time()), None, "register changed on CPU 0");
            let others = cpu::count() as u32 - 1;
            let all = within(Duration::from_secs(30), || good.load(SeqCst) == others);
            check!(
                all,
                "kept on {} of {others} further CPUs",
                good.load(SeqCst)
            );
            Ok(())
        },
    )
}
