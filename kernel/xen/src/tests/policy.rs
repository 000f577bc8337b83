//! Who may deal with whom, and the channels that the tree makes.

use super::support::Machine;
use crate::{Host, StaticChannel, XenState};
use abi::event_channel as op;
use abi::shared_info::SHARED_INFO_EVTCHN_PENDING as PENDING;
use abi::{DomainId, DomainSet, Errno, Port};

fn open(machine: &Machine, domain: u16, remote: DomainId) -> Result<Port, Errno> {
    let request = op::AllocUnbound {
        dom: DomainId::SELF,
        remote_dom: remote,
        ..op::AllocUnbound::default()
    };
    let guest = machine.guest(domain);
    guest
        .event(op::ALLOC_UNBOUND, request)
        .map(|done| done.port)
}

fn bind(machine: &Machine, domain: u16, remote: DomainId, port: u32) -> Result<Port, Errno> {
    let request = op::BindInterdomain {
        remote_dom: remote,
        remote_port: Port(port),
        ..op::BindInterdomain::default()
    };
    let guest = machine.guest(domain);
    let done = guest.event(op::BIND_INTERDOMAIN, request);
    done.map(|done| done.local_port)
}

/// Domains 1 and 2 are peers, 3 is nobody's.
fn three() -> Machine {
    Machine::with(3, 1, |config| {
        config.peers = match config.id {
            DomainId(3) => DomainSet::NONE,
            id => [DomainId(3 - id.0), DomainId(9)].into_iter().collect(),
        };
    })
}

#[test]
fn only_peers_bind_to_each_other() {
    let machine = three();
    for (me, other) in [(1, 3), (3, 1), (3, 2), (2, 3)] {
        assert_eq!(open(&machine, me, DomainId(other)), Err(Errno::Perm));
        for port in [0, 1, 2, 5000] {
            let result = bind(&machine, me, DomainId(other), port);
            assert_eq!(
                result,
                Err(Errno::Perm),
                "the answer does not say what port there is"
            );
        }
    }
    // A peer that is not there yet may be waited for, but not be bound to.
    assert!(open(&machine, 1, DomainId(9)).is_ok());
    assert_eq!(bind(&machine, 1, DomainId(9), 1), Err(Errno::NoSuchDomain));
    for nobody in [DomainId(8), DomainId(300), DomainId::XEN, DomainId::ANY] {
        assert_eq!(open(&machine, 1, nobody), Err(Errno::NoSuchDomain));
        assert_eq!(bind(&machine, 1, nobody, 1), Err(Errno::NoSuchDomain));
    }
    let port = open(&machine, 1, DomainId(2)).unwrap();
    assert!(bind(&machine, 2, DomainId(1), port.0).is_ok());
    let port = open(&machine, 3, DomainId::SELF).unwrap();
    assert!(bind(&machine, 3, DomainId(3), port.0).is_ok());
}

const fn end(port: u32, peer: u16, peer_port: u32) -> StaticChannel {
    StaticChannel {
        port: Port(port),
        peer: DomainId(peer),
        peer_port: Port(peer_port),
    }
}

#[test]
fn channels_of_the_tree_are_there_without_a_call() {
    const ENDS: [&[StaticChannel]; 3] = [&[end(10, 2, 1)], &[end(1, 1, 10), end(5, 7, 5)], &[]];
    let machine = Machine::with(3, 1, |config| {
        config.channels = ENDS[usize::from(config.id.0) - 1];
    });
    let state = |id: u16| -> &XenState { machine.peer(DomainId(id)).unwrap() };
    // Both say it, it is done once; the one whose peer is not there waits.
    for (id, ends) in (1..).zip(ENDS) {
        ends.iter()
            .for_each(|end| state(id).connect_channel(&machine, end));
    }
    assert_eq!(state(1).console_port(), Some(Port(1)));
    assert_eq!(state(2).console_port(), Some(Port(2)));
    assert_eq!(machine.take_upcalls(), [(2, 0)]);
    assert!(machine.guest(2).bit(PENDING, 1) && !machine.guest(1).bit(PENDING, 10));
    machine.guest(2).event(op::SEND, 1_u32).unwrap();
    assert!(machine.guest(1).bit(PENDING, 10));
    machine.guest(2).event(op::SEND, 5_u32).unwrap();
    // Closed by one it waits for that one again, as any other does.
    machine.guest(2).event(op::CLOSE, 1_u32).unwrap();
    assert_eq!(bind(&machine, 2, DomainId(1), 10), Ok(Port(1)));
}

#[test]
fn a_channel_of_the_tree_needs_a_port_that_can_be_had() {
    use super::support::page;
    for ends in [
        &[end(0, 2, 1)][..],
        &[end(1024, 2, 1)],
        &[end(3, 2, 1), end(3, 2, 2)],
    ] {
        let mut config = crate::Config::new(DomainId(1), 1, page(), page());
        config.channels = ends;
        assert_eq!(XenState::new(&config).err(), Some(crate::NewError::BadPort));
    }
}
