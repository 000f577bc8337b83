use super::support::Machine;
use crate::Host;
use abi::event_channel as op;
use abi::shared_info::SHARED_INFO_EVTCHN_PENDING as PENDING;
use abi::{DomainId, Errno, Port};

fn open(machine: &Machine, domain: u16, remote: DomainId) -> Result<Port, Errno> {
    let request = op::AllocUnbound {
        dom: DomainId::SELF,
        remote_dom: remote,
        ..op::AllocUnbound::default()
    };
    let guest = machine.guest(domain);
    guest
        .event(op::ALLOC_UNBOUND, request)
        .map(|bound| bound.port)
}

fn bind(machine: &Machine, domain: u16, remote: DomainId, port: Port) -> Result<Port, Errno> {
    let request = op::BindInterdomain {
        remote_dom: remote,
        remote_port: port,
        ..op::BindInterdomain::default()
    };
    let guest = machine.guest(domain);
    guest
        .event(op::BIND_INTERDOMAIN, request)
        .map(|bound| bound.local_port)
}

fn status(machine: &Machine, domain: u16, port: Port) -> (u32, u32, Port) {
    let request = op::Status {
        dom: DomainId::SELF,
        port,
        ..op::Status::default()
    };
    let status = machine.guest(domain).event(op::STATUS, request).unwrap();
    (status.status, status.detail, status.detail_port)
}

fn send(machine: &Machine, domain: u16, port: Port) {
    let guest = machine.guest(domain);
    guest.event(op::SEND, op::Send { port }).unwrap();
}

fn close(machine: &Machine, domain: u16, port: Port) {
    let guest = machine.guest(domain);
    guest.event(op::CLOSE, op::Close { port }).unwrap();
}

#[test]
fn two_domains_connect_send_and_part() {
    for (server, client) in [(1, 2), (2, 1)] {
        let machine = Machine::new(2, 1);
        let offered = open(&machine, server, DomainId(client)).unwrap();
        assert_eq!(
            status(&machine, server, offered),
            (op::STATUS_UNBOUND, client.into(), Port(0))
        );
        // Nobody there yet: sent to nobody.
        send(&machine, server, offered);
        let port = bind(&machine, client, DomainId(server), offered).unwrap();
        assert!(machine.guest(client).bit(PENDING, port.0), "starts pending");
        assert_eq!(machine.take_upcalls(), [(client, 0)]);
        assert_eq!(
            status(&machine, client, port),
            (op::STATUS_INTERDOMAIN, server.into(), offered)
        );
        assert_eq!(
            status(&machine, server, offered),
            (op::STATUS_INTERDOMAIN, client.into(), port)
        );
        send(&machine, client, port);
        assert!(machine.guest(server).bit(PENDING, offered.0));
        assert_eq!(machine.take_upcalls(), [(server, 0)]);
        // Bound once, it is bound.
        let again = bind(&machine, client, DomainId(server), offered);
        assert_eq!(again, Err(Errno::Invalid));

        close(&machine, client, port);
        assert_eq!(
            status(&machine, server, offered),
            (op::STATUS_UNBOUND, client.into(), Port(0))
        );
        assert!(!machine.guest(client).bit(PENDING, port.0));
        let port = bind(&machine, client, DomainId(server), offered).unwrap();
        close(&machine, server, offered);
        assert_eq!(
            status(&machine, client, port),
            (op::STATUS_UNBOUND, server.into(), Port(0))
        );
        send(&machine, client, port);
    }
}

#[test]
fn a_port_is_for_the_domain_it_was_opened_for() {
    let machine = Machine::new(3, 1);
    let offered = open(&machine, 1, DomainId(2)).unwrap();
    let bad = Err(Errno::Invalid);
    assert_eq!(bind(&machine, 3, DomainId(1), offered), bad);
    assert_eq!(bind(&machine, 1, DomainId(1), offered), bad);
    assert_eq!(bind(&machine, 2, DomainId(1), Port(0)), bad);
    assert_eq!(
        bind(&machine, 2, DomainId(1), Port(1)),
        bad,
        "the console's"
    );
    assert_eq!(bind(&machine, 2, DomainId(1), Port(5000)), bad);
    let nobody = Err(Errno::NoSuchDomain);
    assert_eq!(bind(&machine, 2, DomainId(7), offered), nobody);
    assert_eq!(bind(&machine, 2, DomainId::XEN, offered), nobody);
    assert!(bind(&machine, 2, DomainId(1), offered).is_ok());
}

#[test]
fn ports_are_opened_for_oneself_alone() {
    let machine = Machine::new(2, 1);
    for (dom, error) in [(2, Errno::Perm), (3, Errno::NoSuchDomain)] {
        let request = op::AllocUnbound {
            dom: DomainId(dom),
            remote_dom: DomainId::SELF,
            ..op::AllocUnbound::default()
        };
        let result = machine.guest(1).event(op::ALLOC_UNBOUND, request);
        assert_eq!(result.err(), Some(error));
    }
}

#[test]
fn a_domain_can_connect_to_itself() {
    let machine = Machine::new(1, 1);
    for remote in [DomainId::SELF, DomainId(1)] {
        let offered = open(&machine, 1, remote).unwrap();
        let port = bind(&machine, 1, remote, offered).unwrap();
        assert_ne!(port, offered);
        send(&machine, 1, port);
        assert!(machine.guest(1).bit(PENDING, offered.0));
        close(&machine, 1, offered);
        let (state, other, _) = status(&machine, 1, port);
        assert_eq!((state, other), (op::STATUS_UNBOUND, 1));
    }
}

#[test]
fn no_port_left_leaves_the_offer_open() {
    let machine = Machine::with(2, 1, |config| config.max_port = 3);
    let offered = open(&machine, 1, DomainId(2)).unwrap();
    while open(&machine, 2, DomainId(1)).is_ok() {}
    let full = bind(&machine, 2, DomainId(1), offered);
    assert_eq!(full, Err(Errno::NoSpace));
    assert_eq!(status(&machine, 1, offered).0, op::STATUS_UNBOUND);
}

#[test]
fn a_domain_that_ends_is_disconnected_from_all() {
    let machine = Machine::new(3, 1);
    let mut ports = Vec::new();
    for client in [2, 3] {
        for _ in 0..40 {
            let offered = open(&machine, client, DomainId(1)).unwrap();
            let port = bind(&machine, 1, DomainId(client), offered).unwrap();
            ports.push((client, offered, port));
        }
    }
    let state = machine.guest(1).state;
    let mut steps = 0;
    while !state.disconnect_all(&machine) {
        steps += 1;
    }
    assert!(steps > 2, "in steps");
    machine.dead.set(Some(DomainId(1)));
    assert!(machine.peer(DomainId(1)).is_none());
    for (client, offered, _) in ports {
        assert_eq!(status(&machine, client, offered).0, op::STATUS_UNBOUND);
        send(&machine, client, offered);
        close(&machine, client, offered);
    }
}

#[test]
fn two_domains_on_two_cpus_do_not_deadlock() {
    let machine = Machine::new(2, 1);
    let states: Vec<_> = machine.domains.iter().map(|(state, _)| state).collect();
    let hosts = [Silent(&states), Silent(&states)];
    std::thread::scope(|scope| {
        for (host, (me, you)) in hosts.iter().zip([(0, 1), (1, 0)]) {
            let (me, you): (&crate::XenState, &crate::XenState) = (states[me], states[you]);
            scope.spawn(move || {
                for _ in 0..2000 {
                    let offered = me.alloc_unbound(you.id()).unwrap();
                    for port in 2..8 {
                        if let Ok(port) = me.bind_interdomain(host, you, port) {
                            me.send(host, port).unwrap();
                            let _ = me.close(host, port);
                        }
                    }
                    while me.close(host, offered) == Err(Errno::Restart) {}
                }
            });
        }
    });
}

/// A host that two threads can share.
struct Silent<'a>(&'a [&'a crate::XenState]);

impl Host for Silent<'_> {
    super::support::no_grants!();
    fn upcall(&self, _: DomainId, _: abi::VcpuId) {}
    fn wake(&self, _: DomainId, _: abi::VcpuId) {}
    fn peer(&self, id: DomainId) -> Option<&crate::XenState> {
        self.0.iter().find(|state| state.id() == id).copied()
    }
    fn console_write(&self, _: DomainId, _: &[u8]) {}
    fn condemn(&self, _: DomainId) {}
    fn release_page(&self, _: DomainId, _: &crate::SharedPage) {}
    fn serve_store(&self, _: DomainId) -> bool {
        false
    }
    fn console_has_room(&self, _: DomainId) -> bool {
        true
    }
}

/// What an operator sees of it, however the ports lie.
#[test]
fn ports_are_met_once_by_who_looks() {
    use crate::PortBinding;
    let machine = Machine::new(2, 1);
    let offered = open(&machine, 1, DomainId(2)).unwrap();
    let bound = bind(&machine, 2, DomainId(1), offered).unwrap();
    let _waiting = open(&machine, 1, DomainId(2)).unwrap();
    send(&machine, 2, bound);
    let (mut place, mut found) = (0, Vec::new());
    while let Some((port, next)) = machine.guest(1).state.inspect_port(place) {
        assert!(next > place);
        place = next;
        found.extend(port);
    }
    let mine: Vec<_> = found
        .iter()
        .filter(|port| !matches!(port.binding, PortBinding::Service(_)))
        .map(|port| (port.port, port.binding, port.pending))
        .collect();
    assert_eq!(mine.len(), 2);
    let peer = PortBinding::Interdomain(DomainId(2), bound.0);
    assert_eq!(mine[0], (offered.0, peer, true));
    assert_eq!(mine[1].1, PortBinding::Unbound(DomainId(2)));
}
