//! Further CPUs: start, stop, start again, interrupts between them, atomics.

use crate::check::{Outcome, check, equal, fail, is_off_soon, soon, within};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::{
    cpu,
    gic::{self, Target},
    interrupt,
    sync::Lock,
    timer,
};

const PING: u32 = 1;
const PONG: u32 = 2;

/// Starts every further CPU in `body` and waits until each is off again.
pub(crate) fn everywhere(
    body: impl Fn(usize) + Send + Sync + 'static,
    meanwhile: impl FnOnce() -> Outcome,
) -> Outcome {
    let body = Arc::new(body);
    for index in 1..cpu::count() {
        let body = body.clone();
        if let Err(error) = cpu::start(index, move || body(index)) {
            fail!("CPU_ON of CPU {index}: {error}");
        }
    }
    let outcome = meanwhile();
    for index in 1..cpu::count() {
        if !is_off_soon(index) && outcome.is_ok() {
            fail!("CPU {index} is not off");
        }
    }
    outcome
}

pub(crate) fn start() -> Outcome {
    let seen = Arc::new([const { AtomicU64::new(u64::MAX) }; cpu::MAX]);
    let theirs = seen.clone();
    everywhere(
        move |index| {
            if cpu::index() == index {
                theirs[index].store(cpu::own_affinity(), SeqCst);
            }
        },
        || {
            for index in 1..cpu::count() {
                let came = within(Duration::from_secs(30), || {
                    seen[index].load(SeqCst) != u64::MAX
                });
                check!(came, "CPU {index} did not come");
                equal!(
                    Some(seen[index].load(SeqCst)),
                    cpu::affinity(index),
                    "affinity of CPU {index}"
                );
            }
            Ok(())
        },
    )
}

/// Off and on ten times, as CPU hotplug does.
pub(crate) fn again() -> Outcome {
    for _ in 0..10 {
        start()?;
    }
    Ok(())
}

static PINGS: [AtomicU32; cpu::MAX] = [const { AtomicU32::new(0) }; cpu::MAX];
static PONGS: AtomicU32 = AtomicU32::new(0);
static READY: AtomicU32 = AtomicU32::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

fn ping(_: u32) {
    PINGS[cpu::index()].fetch_add(1, SeqCst);
    gic::send(PONG, Target::Cpu(0));
}

fn pong(_: u32) {
    PONGS.fetch_add(1, SeqCst);
}

/// Has every further CPU asleep with the ping handler on, and runs `body`.
fn with_listeners(body: fn() -> Outcome) -> Outcome {
    READY.store(0, SeqCst);
    PONGS.store(0, SeqCst);
    STOP.store(false, SeqCst);
    PINGS.iter().for_each(|count| count.store(0, SeqCst));
    interrupt::on(PONG, pong);
    interrupt::on(PING, ping);
    let outcome = everywhere(
        |_| {
            gic::enable(PING);
            READY.fetch_add(1, SeqCst);
            cpu::wait_until(|| STOP.load(SeqCst));
        },
        || {
            let others = cpu::count() as u32 - 1;
            check!(
                within(Duration::from_secs(30), || READY.load(SeqCst) == others),
                "not all CPUs came"
            );
            let outcome = body();
            STOP.store(true, SeqCst);
            gic::send(PING, Target::Others);
            outcome
        },
    );
    interrupt::off(PONG);
    interrupt::off(PING);
    outcome
}

/// The further CPUs and their counts of pings.
fn further() -> impl Iterator<Item = (usize, &'static AtomicU32)> {
    PINGS.iter().enumerate().take(cpu::count()).skip(1)
}

pub(crate) fn ipi() -> Outcome {
    with_listeners(|| {
        for round in 1..=50 {
            for (index, pings) in further() {
                let before = PONGS.load(SeqCst);
                gic::send(PING, Target::Cpu(index));
                check!(
                    soon(|| PONGS.load(SeqCst) > before),
                    "no answer from CPU {index}, round {round}"
                );
                equal!(pings.load(SeqCst), round, "interrupts taken by CPU {index}");
            }
        }
        equal!(PINGS[0].load(SeqCst), 0, "interrupts taken by the sender");
        Ok(())
    })
}

pub(crate) fn broadcast() -> Outcome {
    with_listeners(|| {
        for round in 1..=20 {
            gic::send(PING, Target::Others);
            for (index, pings) in further() {
                let came = soon(|| pings.load(SeqCst) == round);
                check!(came, "CPU {index} has {} of {round}", pings.load(SeqCst));
            }
        }
        equal!(PINGS[0].load(SeqCst), 0, "interrupts taken by the sender");
        Ok(())
    })
}

pub(crate) fn atomics() -> Outcome {
    const ROUNDS: u64 = 20_000;
    let total = Arc::new((AtomicU64::new(0), Lock::new(0u64)));
    let work = |total: &(AtomicU64, Lock<u64>)| {
        for _ in 0..ROUNDS {
            total.0.fetch_add(1, SeqCst);
            *total.1.lock() += 1;
        }
    };
    let theirs = total.clone();
    everywhere(
        move |_| work(&theirs),
        || {
            work(&total);
            Ok(())
        },
    )?;
    let wanted = ROUNDS * cpu::count() as u64;
    equal!(total.0.load(SeqCst), wanted, "atomic additions");
    equal!(*total.1.lock(), wanted, "additions under the lock");
    Ok(())
}

/// Every CPU has a virtual timer of its own.
pub(crate) fn timer() -> Outcome {
    let late = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicU32::new(0));
    let (their_late, their_done) = (late.clone(), done.clone());
    everywhere(
        move |index| {
            for _ in 0..5 {
                let end = timer::now() + timer::ticks(Duration::from_millis(1 + index as u64));
                timer::sleep_until(end);
                let now = timer::now();
                their_late.fetch_max(now.wrapping_sub(end), SeqCst);
            }
            their_done.fetch_add(1, SeqCst);
        },
        || {
            timer::sleep(Duration::from_millis(5));
            let others = cpu::count() as u32 - 1;
            let all = within(Duration::from_secs(30), || done.load(SeqCst) == others);
            check!(all, "{} of {others} CPUs slept", done.load(SeqCst));
            Ok(())
        },
    )?;
    let late = timer::duration(late.load(SeqCst));
    check!(late < Duration::from_secs(2), "{late:?} late");
    Ok(())
}
