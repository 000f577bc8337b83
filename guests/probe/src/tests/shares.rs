//! What a guest gets of the CPUs that it shares with others: how much it ran, by its runstate, and whether periodic work
//! is done in time. Runs beside guests that compute all the time.

use crate::check::{Outcome, check, equal};
use crate::raw::{hypercall, pointer};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::{hypercall as number, vcpu};
use runtime::arguments::arguments;
use runtime::{println, timer};

/// vCPU 0's runstate: state, time of entry, and time spent running, runnable, blocked and off.
static AREA: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

fn register() -> Outcome {
    let mut argument = vcpu::RegisterRunstateArea {
        address: AREA.as_ptr() as u64,
    };
    let command = vcpu::REGISTER_RUNSTATE_MEMORY_AREA;
    let result = hypercall(number::VCPU_OP, [command, 0, pointer(&mut argument), 0, 0]);
    equal!(result, 0, "registering the runstate area");
    Ok(())
}

/// Time that this vCPU has run so far.
fn ran() -> Duration {
    loop {
        let entered = AREA[1].load(SeqCst);
        let before = AREA[2].load(SeqCst);
        let now = timer::uptime().as_nanos() as u64;
        if AREA[1].load(SeqCst) == entered {
            // It runs, since then.
            return Duration::from_nanos(before + now.saturating_sub(entered));
        }
    }
}

/// Computes, and says how much of `seconds` it ran, from `begin` after its start on (two seconds); goes on as long
/// afterwards, so that others find it busy to their ends.
pub(crate) fn share() -> Outcome {
    register()?;
    let seconds = arguments().number("seconds").unwrap_or(10);
    let begin = arguments()
        .duration("begin")
        .unwrap_or(Duration::from_secs(2));
    let until = |time: Duration| timer::spin(time.saturating_sub(timer::uptime()));
    until(begin);
    let (start, ran_before) = (timer::uptime(), ran());
    until(begin + Duration::from_secs(seconds));
    let (end, ran_after) = (timer::uptime(), ran());
    until(begin + Duration::from_secs(seconds) + begin);
    let (window, ran) = (end - start, ran_after - ran_before);
    println!(
        "NOTE share {} of {} us",
        ran.as_micros(),
        window.as_micros()
    );
    Ok(())
}

/// Wakes by its timer in every period, computes for some time of its own, and is done before the period's end.
/// Arguments: `period=`, `work=`, `jobs=`.
pub(crate) fn deadlines() -> Outcome {
    register()?;
    let arguments = arguments();
    let milliseconds = |name, usual| {
        arguments
            .duration(name)
            .unwrap_or(Duration::from_millis(usual))
    };
    let (period, work) = (milliseconds("period", 10), milliseconds("work", 2));
    let jobs = arguments.number("jobs").unwrap_or(100);
    let mut release = timer::uptime() + period;
    let (mut late, mut wakes, mut done) = (0, Duration::ZERO, Duration::ZERO);
    for _ in 0..jobs {
        timer::sleep_until(timer::ticks(release));
        wakes = wakes.max(timer::uptime().saturating_sub(release));
        let end = ran() + work;
        while ran() < end {
            core::hint::spin_loop();
        }
        let took = timer::uptime().saturating_sub(release);
        done = done.max(took);
        late += u64::from(took > period);
        release += period;
    }
    println!(
        "NOTE deadlines {late} of {jobs} missed; woke within {} us, done within {} of {} us",
        wakes.as_micros(),
        done.as_micros(),
        period.as_micros()
    );
    check!(late == 0, "{late} deadlines missed");
    Ok(())
}
