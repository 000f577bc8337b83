use super::support::{Guest, Machine, SCRATCH};
use crate::Outcome;
use abi::event_channel as event;
use abi::hypercall::SCHED_OP;
use abi::sched as op;
use abi::shared_info::SHARED_INFO_EVTCHN_MASK as MASK;
use abi::{DomainId, Errno, Port, VcpuId};
use core::num::NonZeroU64;

fn shutdown(guest: &Guest, cmd: u64, reason: u32) -> Outcome {
    guest.put(SCRATCH, &op::Shutdown { reason });
    guest.call(SCHED_OP, &[cmd, SCRATCH])
}

fn ipi(guest: &Guest) -> Port {
    let request = event::BindIpi::default();
    guest.event(event::BIND_IPI, request).unwrap().port
}

fn poll(guest: &Guest, ports: &[Port], timeout: u64) -> Outcome {
    let list = SCRATCH + 0x100;
    for (index, port) in ports.iter().enumerate() {
        guest.put(list + index as u64 * 4, port);
    }
    let request = op::Poll {
        ports: list,
        nr_ports: ports.len() as u32,
        timeout,
        ..op::Poll::default()
    };
    guest.put(SCRATCH, &request);
    guest.call(SCHED_OP, &[op::POLL, SCRATCH])
}

#[test]
fn yield_and_block() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    assert_eq!(guest.call(SCHED_OP, &[op::YIELD, 8]), Outcome::Yield);
    assert_eq!(guest.call(SCHED_OP, &[op::BLOCK, 8]), Outcome::Block);
    assert_eq!(guest.returns(SCHED_OP, &[8, SCRATCH]), -38);
}

#[test]
fn shutdown_gives_the_first_reason() {
    for reason in 0..=op::SHUTDOWN_MAX {
        let machine = Machine::new(1, 1);
        let outcome = shutdown(&machine.guest(1), op::SHUTDOWN, reason);
        assert_eq!(outcome, Outcome::Shutdown(reason as u8));
    }
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let crash = op::SHUTDOWN_CRASH;
    assert_eq!(
        shutdown(&guest, op::SHUTDOWN_CODE, crash),
        Outcome::Return(0)
    );
    assert_eq!(
        shutdown(&guest, op::SHUTDOWN_CODE, op::SHUTDOWN_REBOOT),
        Outcome::Return(0)
    );
    assert_eq!(
        shutdown(&guest, op::SHUTDOWN, op::SHUTDOWN_POWEROFF),
        Outcome::Shutdown(crash as u8)
    );
    assert_eq!(guest.state.shutdown_reason(1), crash as u8);
    assert_eq!(guest.bad_pointer(SCHED_OP, op::SHUTDOWN), -14);
    assert_eq!(guest.bad_pointer(SCHED_OP, op::SHUTDOWN_CODE), -14);
}

#[test]
fn poll_returns_at_once_if_something_waits() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let (first, second) = (ipi(&guest), ipi(&guest));
    guest.set_bit(MASK, second.0, true);
    guest.event(event::SEND, second).unwrap();
    assert_eq!(poll(&guest, &[first, second], 0), Outcome::Return(0));
    assert!(!guest.state.is_polling(VcpuId(0)));
    assert_eq!(poll(&guest, &[first], 0), Outcome::Poll(None));
}

#[test]
fn an_event_ends_a_poll_even_if_it_is_masked() {
    let machine = Machine::new(1, 2);
    let (poller, sender) = (machine.vcpu(1, 0), machine.vcpu(1, 1));
    let (awaited, other) = (ipi(&poller), ipi(&poller));
    poller.set_bit(MASK, awaited.0, true);
    let deadline = NonZeroU64::new(77);
    assert_eq!(poll(&poller, &[awaited], 77), Outcome::Poll(deadline));
    assert!(poller.state.is_polling(VcpuId(0)));
    sender.event(event::SEND, other).unwrap();
    assert!(machine.wakes.take().is_empty(), "not this one");
    sender.event(event::SEND, awaited).unwrap();
    assert_eq!(machine.wakes.take(), [(1, 0)]);
    assert!(!poller.state.is_polling(VcpuId(0)));

    // Several ports, or none: any event will do. A poll that is over is not woken.
    let (third, fourth) = (ipi(&poller), ipi(&poller));
    assert_eq!(poll(&poller, &[third, fourth], 0), Outcome::Poll(None));
    poller.state.end_poll(VcpuId(0));
    poller.state.end_poll(VcpuId(0));
    sender.event(event::SEND, third).unwrap();
    assert!(machine.wakes.take().is_empty());
    assert_eq!(poll(&poller, &[], 1), Outcome::Poll(NonZeroU64::new(1)));
    sender.event(event::SEND, fourth).unwrap();
    assert_eq!(machine.wakes.take(), [(1, 0)]);
}

#[test]
fn poll_checks_its_ports() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let bad = Outcome::Return(Errno::Invalid.as_return());
    assert_eq!(poll(&guest, &[Port(1024)], 0), bad);
    assert_eq!(poll(&guest, &[Port(2), Port(u32::MAX)], 0), bad);
    assert!(!guest.state.is_polling(VcpuId(0)));
    assert_eq!(poll(&guest, &[Port(2); 129], 0), bad);
    assert_eq!(poll(&guest, &[Port(2); 128], 0), Outcome::Poll(None));
    let request = op::Poll {
        ports: 8,
        nr_ports: 1,
        ..op::Poll::default()
    };
    guest.put(SCRATCH, &request);
    assert_eq!(guest.returns(SCHED_OP, &[op::POLL, SCRATCH]), -14);
    assert_eq!(guest.bad_pointer(SCHED_OP, op::POLL), -14);
}

#[test]
fn a_pending_port_is_found_before_what_is_wrong_behind_it() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let port = ipi(&guest);
    guest.event(event::SEND, port).unwrap();
    let done = Outcome::Return(0);
    assert_eq!(poll(&guest, &[port, Port(u32::MAX)], 0), done);
    // Port 0 alone is any event.
    assert_eq!(poll(&guest, &[Port(0)], 0), Outcome::Poll(None));
    machine.wakes.take();
    let other = ipi(&guest);
    guest.event(event::SEND, other).unwrap();
    assert_eq!(machine.wakes.take(), [(1, 0)]);
}

#[test]
fn other_domains_are_not_shut_down() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    for (domid, error) in [
        (DomainId::SELF, -3),
        (DomainId(1), -1),
        (DomainId(2), -1),
        (DomainId(3), -3),
    ] {
        let mut request = op::RemoteShutdown {
            domid,
            ..op::RemoteShutdown::default()
        };
        let result = guest.with(SCHED_OP, op::REMOTE_SHUTDOWN, &mut request);
        assert_eq!(result, error);
    }
    assert_eq!(guest.returns(SCHED_OP, &[op::PIN_OVERRIDE, SCRATCH]), -1);
    assert_eq!(guest.bad_pointer(SCHED_OP, op::REMOTE_SHUTDOWN), -14);
}

#[test]
fn watchdogs_run_out_unless_they_are_fed() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let state = guest.state;
    let set = |id, timeout| {
        let mut request = op::Watchdog { id, timeout };
        guest.with(SCHED_OP, op::WATCHDOG, &mut request)
    };
    assert_eq!(state.next_watchdog(), None);
    assert_eq!(set(0, 0), -22);
    assert_eq!(set(1, 5), -22, "not running");
    assert_eq!(set(0, 10), 1);
    assert_eq!(set(0, 5), 2);
    assert_eq!(set(0, 5), -28);
    assert_eq!(set(3, 5), -22);
    assert_eq!(set(u32::MAX, 5), -22);
    assert_eq!(state.next_watchdog(), Some(5_000_001_000));
    assert!(!state.watchdog_expired(5_000_000_999));
    assert!(state.watchdog_expired(5_000_001_000));
    machine.now.set(4_000_000_000);
    assert_eq!(set(2, 5), 0);
    assert_eq!(state.next_watchdog(), Some(9_000_000_000));
    assert_eq!(set(2, 0), 0);
    assert_eq!(state.next_watchdog(), Some(10_000_001_000));
    assert_eq!(set(2, 1), -22);
    assert_eq!(set(1, 0), 0);
    assert_eq!(state.next_watchdog(), None);
    assert_eq!(machine.watchdog_changes.get(), 5);
    machine.now.set(u64::MAX);
    assert_eq!(set(0, u32::MAX), 1);
    assert_eq!(guest.bad_pointer(SCHED_OP, op::WATCHDOG), -14);
}
