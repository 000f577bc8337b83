//! Guests that misbehave. Each says `BEGIN name` first. `wild`, `collude` and `flood count=N` come back and count
//! as tests; the others end the guest, or leave it spinning for the hypervisor to deal with.

pub(crate) mod collude;
pub(crate) mod device;
mod fail;
pub(crate) mod wild;

use crate::check::{BARE, Outcome, TWO, Test, XEN, XEN_TWO, fail};
use crate::raw;
use crate::tests::storm;
use runtime::abi::sched;
use runtime::{arguments::arguments, console, cpu, exception, hypercall, println, psci};

pub(crate) const ALL: &[Test] = &[
    Test::new("fault", BARE, fault),
    Test::new("fault-jump", BARE, fault_jump),
    Test::new("spin", BARE, spin),
    Test::new("spin-all", BARE, spin_all),
    Test::new("crash", XEN, crash),
    Test::new("watchdog", XEN, watchdog),
    Test::new("panic", BARE, panic),
    Test::new("reboot", BARE, reboot),
    Test::new("poweroff", BARE, poweroff),
    Test::new("power-race", TWO, power_race),
    Test::new("flood", BARE, flood),
    Test::new("vectors", BARE, fail::vectors),
    Test::new("calls", XEN, fail::calls),
    Test::new("deaf", BARE, fail::deaf),
    Test::new("power", XEN_TWO, fail::power),
    Test::new("exhaust", XEN, fail::exhaust),
    Test::new("wild", XEN, wild::run),
    Test::new("collude", XEN_TWO, collude::run),
    Test::new("device-storm", TWO, device::run),
];

fn begin(name: &str) {
    println!("BEGIN {name}");
    console::flush();
}

/// Stores to nowhere with vectors that are nowhere too: exceptions without end.
fn fault() -> Outcome {
    begin("fault");
    exception::break_vectors();
    let _ = raw::store64(0x10, 0);
    fail!("still here");
}

/// The same by a jump.
fn fault_jump() -> Outcome {
    begin("fault-jump");
    exception::break_vectors();
    raw::jump(0x10);
    fail!("still here");
}

fn for_ever() -> ! {
    let _ = cpu::mask();
    loop {
        core::hint::spin_loop();
    }
}

/// Interrupts masked, no exit of its own.
fn spin() -> Outcome {
    begin("spin");
    for_ever();
}

/// The same on every CPU.
fn spin_all() -> Outcome {
    begin("spin-all");
    for index in 1..cpu::count() {
        let _ = cpu::start(index, || for_ever());
    }
    for_ever();
}

fn crash() -> Outcome {
    begin("crash");
    let answer = hypercall::shutdown(sched::SHUTDOWN_CRASH);
    fail!("still here: {answer:?}");
}

/// Sets a watchdog of one second and never comes back to it.
fn watchdog() -> Outcome {
    begin("watchdog");
    let mut argument = sched::Watchdog { id: 0, timeout: 1 };
    let number = runtime::abi::hypercall::SCHED_OP;
    let answer = raw::hypercall(
        number,
        [sched::WATCHDOG, raw::pointer(&mut argument), 0, 0, 0],
    );
    if answer < 0 {
        fail!("sched_op watchdog is {answer}");
    }
    for_ever();
}

fn panic() -> Outcome {
    begin("panic");
    panic!("on purpose");
}

fn reboot() -> Outcome {
    begin("reboot");
    psci::system_reset();
}

fn poweroff() -> Outcome {
    begin("poweroff");
    psci::system_off();
}

/// Ends in the middle of CPUs that switch each other on and off; and not one of them alone says so.
fn power_race() -> Outcome {
    begin("power-race");
    storm::rage(200);
    for index in 1..cpu::count() {
        let _ = cpu::start(index, || {
            storm::rage(3);
            psci::system_off()
        });
    }
    storm::rage(20);
    psci::system_off();
}

/// Prints lines as fast as it can: `count=N`, else for ever.
fn flood() -> Outcome {
    begin("flood");
    let count = arguments().number("count").unwrap_or(u64::MAX);
    for line in 0..count {
        println!("flood {line} ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    }
    Ok(())
}
