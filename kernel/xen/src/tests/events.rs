use super::support::{Machine, SCRATCH};
use crate::Outcome;
use abi::event_channel as op;
use abi::hypercall::EVENT_CHANNEL_OP;
use abi::shared_info::{SHARED_INFO_EVTCHN_MASK as MASK, SHARED_INFO_EVTCHN_PENDING as PENDING};
use abi::{DomainId, Errno, Port, VcpuId};
use std::sync::atomic::Ordering::SeqCst;

/// First port that a guest gets: the console has port 1.
const FIRST: Port = Port(2);

fn ipi(machine: &Machine, vcpu: u32) -> Port {
    let request = op::BindIpi {
        vcpu,
        ..op::BindIpi::default()
    };
    machine.guest(1).event(op::BIND_IPI, request).unwrap().port
}

fn send(machine: &Machine, port: Port) -> Result<(), Errno> {
    machine
        .guest(1)
        .event(op::SEND, op::Send { port })
        .map(|_| ())
}

fn status(machine: &Machine, port: Port) -> Result<op::Status, Errno> {
    let request = op::Status {
        dom: DomainId::SELF,
        port,
        ..op::Status::default()
    };
    machine.guest(1).event(op::STATUS, request)
}

#[test]
fn an_ipi_raises_one_upcall_until_the_guest_has_looked() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let port = ipi(&machine, 0);
    assert_eq!(port, FIRST);
    send(&machine, port).unwrap();
    send(&machine, port).unwrap();
    assert!(guest.bit(PENDING, port.0));
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
    // Another port of the same word: the selector is set already.
    let second = ipi(&machine, 0);
    send(&machine, second).unwrap();
    assert!(machine.take_upcalls().is_empty());
    // The guest takes the flag and the selector, then events are announced anew.
    let page = guest.state.shared_info;
    page.u8(0).unwrap().store(0, SeqCst);
    assert_eq!(page.u64(8).unwrap().swap(0, SeqCst), 1);
    guest.set_bit(PENDING, port.0, false);
    send(&machine, port).unwrap();
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
}

#[test]
fn a_masked_port_waits_for_unmask() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let port = ipi(&machine, 0);
    guest.set_bit(MASK, port.0, true);
    send(&machine, port).unwrap();
    assert!(guest.bit(PENDING, port.0));
    assert!(machine.take_upcalls().is_empty());
    guest.event(op::UNMASK, op::Unmask { port }).unwrap();
    assert!(!guest.bit(MASK, port.0));
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
    // Not masked: nothing to do. Masked and not pending: the mask alone.
    guest.event(op::UNMASK, op::Unmask { port }).unwrap();
    guest.set_bit(PENDING, port.0, false);
    guest.set_bit(MASK, port.0, true);
    guest.event(op::UNMASK, op::Unmask { port }).unwrap();
    assert!(machine.take_upcalls().is_empty());
    for bad in [0, 1024, u32::MAX] {
        let request = op::Unmask { port: Port(bad) };
        assert_eq!(guest.event(op::UNMASK, request).err(), Some(Errno::Invalid));
    }
}

#[test]
fn ports_are_the_lowest_free_and_run_out() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for port in FIRST.0..=op::DEFAULT_MAX_PORT {
        assert_eq!(ipi(&machine, 0), Port(port));
    }
    let again = guest.event(op::BIND_IPI, op::BindIpi::default());
    assert_eq!(again.err(), Some(Errno::NoSpace));
    for port in [700, 65] {
        let request = op::Close { port: Port(port) };
        guest.event(op::CLOSE, request).unwrap();
        assert_eq!(guest.event(op::CLOSE, request).err(), Some(Errno::Invalid));
    }
    assert_eq!(ipi(&machine, 0), Port(65));
    assert_eq!(ipi(&machine, 0), Port(700));
}

#[test]
fn all_ports_of_the_abi_can_be_had() {
    let machine = Machine::with(1, 1, |config| config.max_port = u32::MAX);
    for port in FIRST.0..4096 {
        assert_eq!(ipi(&machine, 0), Port(port));
    }
    let again = machine.guest(1).event(op::BIND_IPI, op::BindIpi::default());
    assert_eq!(again.err(), Some(Errno::NoSpace));
    send(&machine, Port(4095)).unwrap();
    assert!(machine.guest(1).bit(PENDING, 4095));
}

#[test]
fn virqs_are_bound_once() {
    let machine = Machine::new(1, 2);
    let guest = machine.guest(1);
    let bind = |virq, vcpu| {
        let request = op::BindVirq {
            virq,
            vcpu,
            ..op::BindVirq::default()
        };
        guest.event(op::BIND_VIRQ, request).map(|bound| bound.port)
    };
    assert_eq!(bind(op::VIRQ_DEBUG, 0), Ok(Port(2)));
    assert_eq!(bind(op::VIRQ_DEBUG, 0), Err(Errno::Exists));
    assert_eq!(bind(op::VIRQ_DEBUG, 1), Ok(Port(3)));
    assert_eq!(bind(op::VIRQ_DEBUG, 2), Err(Errno::NoEntry));
    assert_eq!(bind(op::VIRQS, 0), Err(Errno::Invalid));
    assert_eq!(bind(u32::MAX, 0), Err(Errno::Invalid));
    assert_eq!(bind(op::VIRQ_ARGO, 1), Err(Errno::Invalid));
    assert_eq!(bind(op::VIRQ_ARGO, 0), Ok(Port(4)));
    assert_eq!(bind(op::VIRQ_CONSOLE, 0), Err(Errno::Busy));
    for virq in [op::VIRQ_TIMER, op::VIRQ_XENOPROF, op::VIRQ_XENPMU] {
        assert!(bind(virq, 1).is_ok());
    }
    let bound = status(&machine, Port(4)).unwrap();
    assert_eq!(
        (bound.status, bound.detail),
        (op::STATUS_VIRQ, op::VIRQ_ARGO)
    );

    guest.state.raise_virq(&machine, VcpuId(0), op::VIRQ_DEBUG);
    assert!(guest.bit(PENDING, 2));
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
    guest.event(op::CLOSE, op::Close { port: Port(2) }).unwrap();
    assert!(!guest.bit(PENDING, 2));
    guest.state.raise_virq(&machine, VcpuId(0), op::VIRQ_DEBUG);
    guest.state.raise_virq(&machine, VcpuId(7), 99);
    assert!(!guest.bit(PENDING, 2));
    assert_eq!(bind(op::VIRQ_DEBUG, 0), Ok(Port(2)));
}

#[test]
fn delivery_moves_with_bind_vcpu() {
    let machine = Machine::new(1, 2);
    let guest = machine.guest(1);
    let bind = |port, vcpu| {
        let request = op::BindVcpu { port, vcpu };
        guest.event(op::BIND_VCPU, request).map(|_| ())
    };
    let open = op::AllocUnbound {
        dom: DomainId::SELF,
        remote_dom: DomainId::SELF,
        ..op::AllocUnbound::default()
    };
    let unbound = guest.event(op::ALLOC_UNBOUND, open).unwrap().port;
    assert_eq!(bind(unbound, 1), Ok(()));
    assert_eq!(status(&machine, unbound).unwrap().vcpu, 1);
    assert_eq!(bind(unbound, 2), Err(Errno::NoEntry));
    assert_eq!(bind(Port(1), 1), Ok(()), "the console's");
    let ipi = ipi(&machine, 0);
    assert_eq!(bind(ipi, 1), Err(Errno::Invalid));
    assert_eq!(bind(Port(0), 1), Err(Errno::Invalid));
    assert_eq!(bind(Port(500), 1), Err(Errno::Invalid));
    assert_eq!(bind(Port(5000), 1), Err(Errno::Invalid));
    let virq = |virq| {
        let request = op::BindVirq {
            virq,
            ..op::BindVirq::default()
        };
        guest.event(op::BIND_VIRQ, request).unwrap().port
    };
    let (debug, argo) = (virq(op::VIRQ_DEBUG), virq(op::VIRQ_ARGO));
    assert_eq!(bind(debug, 1), Err(Errno::Invalid));
    assert_eq!(bind(argo, 1), Ok(()));
}

#[test]
fn status_tells_what_a_port_is() {
    let machine = Machine::new(2, 2);
    let ipi = ipi(&machine, 1);
    let bound = status(&machine, ipi).unwrap();
    assert_eq!((bound.status, bound.vcpu), (op::STATUS_IPI, 1));
    let console = status(&machine, Port(1)).unwrap();
    assert_eq!(console.status, op::STATUS_INTERDOMAIN);
    assert_eq!(console.detail, u32::from(DomainId::XEN.0));
    assert_eq!(status(&machine, Port(9)).unwrap().status, op::STATUS_CLOSED);
    assert_eq!(status(&machine, Port(0)).unwrap().status, op::STATUS_CLOSED);
    for bad in [1024, u32::MAX] {
        assert_eq!(status(&machine, Port(bad)).err(), Some(Errno::Invalid));
    }
    for (dom, error) in [(2, Errno::Perm), (3, Errno::NoSuchDomain)] {
        let request = op::Status {
            dom: DomainId(dom),
            port: ipi,
            ..op::Status::default()
        };
        let result = machine.guest(1).event(op::STATUS, request);
        assert_eq!(result.err(), Some(error));
    }
}

#[test]
fn send_wants_a_port_that_can_send() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for bad in [0, 77, 1024, u32::MAX] {
        assert_eq!(send(&machine, Port(bad)), Err(Errno::Invalid));
    }
    let virq = op::BindVirq {
        virq: op::VIRQ_DEBUG,
        ..op::BindVirq::default()
    };
    let virq = guest.event(op::BIND_VIRQ, virq).unwrap().port;
    assert_eq!(send(&machine, virq), Err(Errno::Invalid));
}

#[test]
fn the_console_port_stays_when_it_is_closed() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let port = guest.state.console_port().unwrap();
    guest.event(op::CLOSE, op::Close { port }).unwrap();
    assert_eq!(ipi(&machine, 0), FIRST);
    let dom = DomainId::SELF;
    guest.event(op::RESET, op::Reset { dom }).unwrap();
    assert_eq!(status(&machine, FIRST).unwrap().status, op::STATUS_CLOSED);
    assert_eq!(
        status(&machine, port).unwrap().status,
        op::STATUS_INTERDOMAIN
    );
    send(&machine, port).unwrap();
}

#[test]
fn reset_closes_everything_in_steps() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    for _ in 0..500 {
        ipi(&machine, 0);
    }
    for port in 2..300 {
        send(&machine, Port(port)).unwrap();
    }
    for (dom, error) in [(2, Errno::Perm), (3, Errno::NoSuchDomain)] {
        let dom = DomainId(dom);
        let result = guest.event(op::RESET, op::Reset { dom });
        assert_eq!(result.err(), Some(error));
    }
    let dom = DomainId(1);
    guest.event(op::RESET, op::Reset { dom }).unwrap();
    for port in 2..502 {
        assert_eq!(status(&machine, Port(port)).unwrap().status, 0);
        assert!(!guest.bit(PENDING, port));
    }
    assert_eq!(ipi(&machine, 0), FIRST);
}

/// A guest whose reset was cut short, and that opens ports behind it, ends: all are closed all the same.
#[test]
fn a_reset_that_was_given_up_leaves_nothing_open() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    for _ in 0..100 {
        ipi(&machine, 0);
    }
    let dom = DomainId(1);
    guest.put(SCRATCH, &op::Reset { dom });
    let one = machine.vcpu(1, 0);
    let mut registers = [op::RESET, SCRATCH, 0, 0, 0];
    for _ in 0..3 {
        let outcome = crate::hypercall(&one, EVENT_CHANNEL_OP, &mut registers);
        assert_eq!(outcome, Outcome::Restart);
    }
    // The lowest one is free again.
    assert_eq!(ipi(&machine, 0), FIRST);
    while !guest.state.disconnect_all(&machine) {}
    for port in FIRST.0..200 {
        assert_eq!(status(&machine, Port(port)).unwrap().status, 0, "{port}");
    }
}

#[test]
fn commands_that_are_not_there() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    assert_eq!(guest.event(14, 0_u32).err(), Some(Errno::NoSys));
    assert_eq!(
        guest.event(op::BIND_PIRQ, 0_u32).err(),
        Some(Errno::NotSupported)
    );
}

#[test]
fn bad_pointers_are_faults() {
    let machine = Machine::new(1, 1);
    for cmd in 0..=op::RESET {
        if cmd != op::BIND_PIRQ {
            let result = machine.guest(1).bad_pointer(EVENT_CHANNEL_OP, cmd);
            assert_eq!(result, -14, "{cmd}");
        }
    }
}
