//! `sched_op`, and the end of the guest.

use crate::raw::{call, with};
use crate::suite::{NOBODY, Suite};
use alloc::format;
use core::time::Duration;
use runtime::abi::Errno::{Fault, Invalid, NoSpace, NoSuchDomain, NoSys, Perm};
use runtime::abi::{DomainId, Port, hypercall as number, sched as op};
use runtime::{cpu, event, psci, timer};

fn ask(command: u64, at: u64) -> i64 {
    call(number::SCHED_OP, [command, at, 0, 0, 0])
}

fn given<T>(command: u64, argument: &mut T) -> i64 {
    with(number::SCHED_OP, command, argument, 0)
}

/// System time in nanoseconds, as `poll` counts it.
fn system_time() -> u64 {
    (u128::from(timer::now()) * 1_000_000_000 / u128::from(timer::frequency())) as u64
}

pub(crate) fn run(suite: &mut Suite) {
    suite.subject("sched_op.yield");
    suite.is("alone", ask(op::YIELD, 8), 0);
    block(suite);
    poll(suite);
    suite.subject("sched_op.shutdown");
    suite.faults(|bad| ask(op::SHUTDOWN, bad));
    suite.subject("sched_op.remote_shutdown");
    let remote = |domid| {
        let mut request = op::RemoteShutdown {
            domid,
            ..Default::default()
        };
        given(op::REMOTE_SHUTDOWN, &mut request)
    };
    suite.is("itself", remote(suite.own), Perm);
    suite.is("another", remote(suite.stranger), Perm);
    suite.is("nobody", remote(NOBODY), NoSuchDomain);
    suite.is(
        "SELF, which is no number",
        remote(DomainId::SELF),
        NoSuchDomain,
    );
    suite.faults(|bad| ask(op::REMOTE_SHUTDOWN, bad));
    watchdogs(suite);
    suite.subject("sched_op.pin_override");
    suite.is("to CPU 0", given(op::PIN_OVERRIDE, &mut 0_i32), Perm);
    suite.is("nowhere", ask(op::PIN_OVERRIDE, 8), Perm);
    suite.subject("sched_op.others");
    for command in [8, 9, 99, 0xffff_ffff] {
        suite.is(&format!("command {command}"), ask(command, 8), NoSys);
    }
    suite.subject("sched_op.shutdown_code");
    suite.faults(|bad| ask(op::SHUTDOWN_CODE, bad));
}

/// Interrupts are masked before, and not after: the timer's came.
fn block(suite: &mut Suite) {
    suite.subject("sched_op.block");
    let start = timer::now();
    let wait = timer::ticks(Duration::from_millis(20));
    let _ = cpu::mask();
    timer::set_deadline(start + wait);
    suite.is("until the timer's interrupt", ask(op::BLOCK, 8), 0);
    suite.that("as long as that", timer::now() >= start + wait);
    timer::clear_deadline();
    let port = event::bind_ipi(0).unwrap_or_default();
    let _ = event::unmask(port);
    let _ = cpu::mask();
    let _ = event::send(port);
    suite.is("not if an event waits", ask(op::BLOCK, 8), 0);
    cpu::unmask();
    let _ = event::close(port);
}

fn poll(suite: &mut Suite) {
    suite.subject("sched_op.poll");
    let mut ports = [Port(0); op::POLL_MAX_PORTS as usize + 1];
    let poll = |ports: &mut [Port], count: u32, timeout| {
        let mut request = op::Poll {
            ports: ports.as_mut_ptr() as u64,
            nr_ports: count,
            reserved: 0,
            timeout,
        };
        given(op::POLL, &mut request)
    };
    let soon = || system_time() + 20_000_000;
    let port = event::bind_ipi(0).unwrap_or_default();
    event::mask(port);
    ports.fill(port);
    suite.is("a time that is over", poll(&mut ports, 1, 1), 0);
    let end = soon();
    suite.is("until a time", poll(&mut ports, 1, end), 0);
    suite.that("as long as that", system_time() >= end);
    let end = soon();
    suite.is("no ports", poll(&mut [], 0, end), 0);
    suite.that("as long as that, too", system_time() >= end);
    suite.is("128 ports", poll(&mut ports, 128, 1), 0);
    suite.is("129 ports", poll(&mut ports, 129, 1), Invalid);
    suite.is("2^32 - 1 ports", poll(&mut ports, u32::MAX, 1), Invalid);
    let _ = event::send(port);
    let start = timer::now();
    suite.is(
        "one that is pending, though masked",
        poll(&mut ports, 3, 0),
        0,
    );
    ports[1] = Port(u32::MAX);
    suite.is("it hides what is behind it", poll(&mut ports, 2, 0), 0);
    suite.that("at once", timer::now() - start < 20 * timer::frequency());
    event::take(port);
    suite.is("a port that cannot be", poll(&mut ports, 2, 1), Invalid);
    ports[0] = Port(0);
    suite.is("port 0", poll(&mut ports, 1, soon()), 0);
    let mut request = op::Poll {
        ports: 8,
        nr_ports: 1,
        ..Default::default()
    };
    suite.is("no list", given(op::POLL, &mut request), Fault);
    suite.faults(|bad| ask(op::POLL, bad));
    let _ = event::close(port);
}

fn watchdogs(suite: &mut Suite) {
    suite.subject("sched_op.watchdog");
    let watchdog = |id, timeout| given(op::WATCHDOG, &mut op::Watchdog { id, timeout });
    suite.is("one that is not there", watchdog(1, 5), Invalid);
    suite.is("none, for no time", watchdog(0, 0), Invalid);
    suite.is("the first", watchdog(0, 600), 1);
    suite.is("the second", watchdog(0, u32::MAX), 2);
    suite.is("a third", watchdog(0, 600), NoSpace);
    suite.is("number 3", watchdog(3, 600), Invalid);
    suite.is("the first, fed", watchdog(1, 700), 0);
    suite.is("the first, off", watchdog(1, 0), 0);
    suite.is("the first, fed when it is off", watchdog(1, 5), Invalid);
    suite.is("the first, again", watchdog(0, 600), 1);
    suite.is("the first, off again", watchdog(1, 0), 0);
    suite.is("the second, off", watchdog(2, 0), 0);
    suite.faults(|bad| ask(op::WATCHDOG, bad));
}

/// The reason that is recorded first is the one that counts.
pub(crate) fn end(suite: &mut Suite) {
    suite.subject("sched_op.shutdown_code");
    let record = |reason| given(op::SHUTDOWN_CODE, &mut op::Shutdown { reason });
    suite.is("a crash", record(op::SHUTDOWN_CRASH), 0);
    suite.is("and then a reboot", record(op::SHUTDOWN_REBOOT), 0);
    runtime::console::flush();
    let answer = given(
        op::SHUTDOWN,
        &mut op::Shutdown {
            reason: op::SHUTDOWN_POWEROFF,
        },
    );
    suite.subject("sched_op.shutdown");
    suite.is("it does not come back", answer, Fault);
    psci::system_off();
}
