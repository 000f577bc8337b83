//! The 2-level ABI against a small model: one domain pair, ports as plain enums in maps, no packing, no
//! bitmaps, no locks.

use super::support::Machine;
use abi::event_channel as op;
use abi::shared_info::{SHARED_INFO_EVTCHN_MASK as MASK, SHARED_INFO_EVTCHN_PENDING as PENDING};
use abi::{DomainId, Errno, Port};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;

const MAX_PORT: u32 = 70;
const VCPUS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Unbound(u16),
    Connected(u16, u32),
    Virq(u32),
    Ipi,
    Console,
}

#[derive(Default)]
struct Domain {
    ports: BTreeMap<u32, (Kind, u32)>,
    pending: BTreeSet<u32>,
    masked: BTreeSet<u32>,
    /// vCPU 0 only: vCPU 1 has no vcpu_info.
    selector: BTreeSet<u32>,
    flag: bool,
    upcalls: u32,
}

impl Domain {
    fn free(&self) -> Result<u32, Errno> {
        let free = (1..=MAX_PORT).find(|port| !self.ports.contains_key(port));
        free.ok_or(Errno::NoSpace)
    }

    fn announce(&mut self, port: u32, vcpu: u32) {
        if vcpu == 0 && self.selector.insert(port / 64) && !self.flag {
            self.flag = true;
            self.upcalls += 1;
        }
    }

    fn raise(&mut self, port: u32) {
        let vcpu = self.ports[&port].1;
        if self.pending.insert(port) && !self.masked.contains(&port) {
            self.announce(port, vcpu);
        }
    }
}

#[derive(Default)]
struct Model(BTreeMap<u16, Domain>);

impl Model {
    fn of(&mut self, domain: u16) -> &mut Domain {
        self.0.get_mut(&domain).unwrap()
    }

    fn step(&mut self, me: u16, action: &Action) -> Result<u32, Errno> {
        match *action {
            Action::Open(remote) => {
                let port = self.of(me).free()?;
                self.of(me).ports.insert(port, (Kind::Unbound(remote), 0));
                Ok(port)
            }
            Action::Connect(remote, remote_port) => {
                let offer = self.of(remote).ports.get(&remote_port).copied();
                let Some((Kind::Unbound(owner), vcpu)) = offer else {
                    return Err(Errno::Invalid);
                };
                if owner != me {
                    return Err(Errno::Invalid);
                }
                let port = self.of(me).free()?;
                let kind = Kind::Connected(remote, remote_port);
                self.of(me).ports.insert(port, (kind, 0));
                let back = Kind::Connected(me, port);
                self.of(remote).ports.insert(remote_port, (back, vcpu));
                self.of(me).raise(port);
                Ok(port)
            }
            Action::Virq(virq, vcpu) => {
                if self
                    .of(me)
                    .ports
                    .values()
                    .any(|bound| *bound == (Kind::Virq(virq), vcpu))
                {
                    return Err(Errno::Exists);
                }
                let port = self.of(me).free()?;
                self.of(me).ports.insert(port, (Kind::Virq(virq), vcpu));
                Ok(port)
            }
            Action::Ipi(vcpu) => {
                let port = self.of(me).free()?;
                self.of(me).ports.insert(port, (Kind::Ipi, vcpu));
                Ok(port)
            }
            Action::Close(port) => {
                let kind = self.of(me).ports.get(&port).ok_or(Errno::Invalid)?.0;
                self.of(me).pending.remove(&port);
                if kind == Kind::Console {
                    return Ok(0);
                }
                if let Kind::Connected(remote, remote_port) = kind {
                    let peer = self.of(remote).ports.get_mut(&remote_port).unwrap();
                    peer.0 = Kind::Unbound(me);
                }
                self.of(me).ports.remove(&port);
                Ok(0)
            }
            Action::Send(port) => {
                let kind = self.of(me).ports.get(&port).ok_or(Errno::Invalid)?.0;
                match kind {
                    Kind::Ipi => self.of(me).raise(port),
                    Kind::Connected(remote, remote_port) => self.of(remote).raise(remote_port),
                    Kind::Virq(_) => return Err(Errno::Invalid),
                    Kind::Unbound(_) | Kind::Console => {}
                }
                Ok(0)
            }
            Action::Move(port, vcpu) => {
                let bound = self.of(me).ports.get_mut(&port).ok_or(Errno::Invalid)?;
                if matches!(bound.0, Kind::Virq(_) | Kind::Ipi) {
                    return Err(Errno::Invalid);
                }
                bound.1 = vcpu;
                Ok(0)
            }
            Action::Unmask(port) => {
                if port == 0 || port > MAX_PORT {
                    return Err(Errno::Invalid);
                }
                let domain = self.of(me);
                let vcpu = domain.ports.get(&port).map_or(0, |bound| bound.1);
                if domain.masked.remove(&port) && domain.pending.contains(&port) {
                    domain.announce(port, vcpu);
                }
                Ok(0)
            }
            Action::Mask(port) => {
                self.of(me).masked.insert(port);
                Ok(0)
            }
            Action::Scan => {
                let domain = self.of(me);
                domain.flag = false;
                domain.selector.clear();
                Ok(0)
            }
            Action::Consume(port) => {
                self.of(me).pending.remove(&port);
                Ok(0)
            }
            Action::Reset => {
                let ports: Vec<_> = self.of(me).ports.keys().copied().collect();
                for port in ports {
                    self.step(me, &Action::Close(port)).ok();
                }
                Ok(0)
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Open(u16),
    Connect(u16, u32),
    Virq(u32, u32),
    Ipi(u32),
    Close(u32),
    Send(u32),
    Move(u32, u32),
    Unmask(u32),
    /// The guest sets a mask bit itself.
    Mask(u32),
    /// The guest takes flag and selector.
    Scan,
    /// The guest clears a pending bit.
    Consume(u32),
    Reset,
}

fn action() -> impl Strategy<Value = Action> {
    let port = || prop_oneof![8 => 0_u32..12, 1 => 60..MAX_PORT + 3];
    let valid = || prop_oneof![8 => 1_u32..12, 1 => 60..=MAX_PORT];
    prop_oneof![
        4 => (1_u16..3).prop_map(Action::Open),
        6 => (1_u16..3, port()).prop_map(|(domain, port)| Action::Connect(domain, port)),
        1 => (prop_oneof![Just(op::VIRQ_DEBUG), Just(op::VIRQ_TIMER)], 0..VCPUS)
            .prop_map(|(virq, vcpu)| Action::Virq(virq, vcpu)),
        2 => (0..VCPUS).prop_map(Action::Ipi),
        3 => port().prop_map(Action::Close),
        8 => port().prop_map(Action::Send),
        2 => (port(), 0..VCPUS).prop_map(|(port, vcpu)| Action::Move(port, vcpu)),
        4 => port().prop_map(Action::Unmask),
        4 => valid().prop_map(Action::Mask),
        4 => Just(Action::Scan),
        4 => valid().prop_map(Action::Consume),
        1 => Just(Action::Reset),
    ]
}

/// The same through the hypercall, or through shared memory where a guest does it itself.
fn perform(machine: &Machine, me: u16, action: &Action) -> Result<u32, Errno> {
    let guest = machine.guest(me);
    match *action {
        Action::Open(remote) => {
            let request = op::AllocUnbound {
                dom: DomainId::SELF,
                remote_dom: DomainId(remote),
                ..op::AllocUnbound::default()
            };
            return guest
                .event(op::ALLOC_UNBOUND, request)
                .map(|done| done.port.0);
        }
        Action::Connect(remote, port) => {
            let request = op::BindInterdomain {
                remote_dom: DomainId(remote),
                remote_port: Port(port),
                ..op::BindInterdomain::default()
            };
            let done = guest.event(op::BIND_INTERDOMAIN, request);
            return done.map(|done| done.local_port.0);
        }
        Action::Virq(virq, vcpu) => {
            let request = op::BindVirq {
                virq,
                vcpu,
                ..op::BindVirq::default()
            };
            return guest.event(op::BIND_VIRQ, request).map(|done| done.port.0);
        }
        Action::Ipi(vcpu) => {
            let request = op::BindIpi {
                vcpu,
                ..op::BindIpi::default()
            };
            return guest.event(op::BIND_IPI, request).map(|done| done.port.0);
        }
        Action::Close(port) => guest.event(op::CLOSE, port).map(|_| ())?,
        Action::Send(port) => guest.event(op::SEND, port).map(|_| ())?,
        Action::Move(port, vcpu) => {
            let request = op::BindVcpu {
                port: Port(port),
                vcpu,
            };
            guest.event(op::BIND_VCPU, request).map(|_| ())?;
        }
        Action::Unmask(port) => guest.event(op::UNMASK, port).map(|_| ())?,
        Action::Mask(port) => guest.set_bit(MASK, port, true),
        Action::Scan => {
            let page = guest.state.shared_info;
            page.u8(0).unwrap().store(0, SeqCst);
            page.u64(8).unwrap().store(0, SeqCst);
        }
        Action::Consume(port) => guest.set_bit(PENDING, port, false),
        Action::Reset => {
            let dom = DomainId::SELF;
            guest.event(op::RESET, op::Reset { dom }).map(|_| ())?;
        }
    }
    Ok(0)
}

proptest! {
    #[test]
    fn two_domains_behave_as_the_model(
        steps in proptest::collection::vec((1_u16..3, action()), 1..120),
    ) {
        let machine = Machine::with(2, VCPUS, |config| config.max_port = MAX_PORT);
        let mut model = Model::default();
        for domain in [1, 2] {
            let mut state = Domain::default();
            state.ports.insert(1, (Kind::Console, 0));
            model.0.insert(domain, state);
        }
        for (me, action) in &steps {
            let expected = model.step(*me, action);
            prop_assert_eq!(perform(&machine, *me, action), expected, "{:?}", action);
            for (domain, expected) in &model.0 {
                let guest = machine.guest(*domain);
                for (array, expected) in [(PENDING, &expected.pending), (MASK, &expected.masked)] {
                    for word in 0..2 {
                        let bits = expected.iter().filter(|port| **port / 64 == word);
                        let bits = bits.fold(0, |bits, port| bits | 1_u64 << (port % 64));
                        let got = guest.state.shared_info.u64(array + word as usize * 8);
                        prop_assert_eq!(got.unwrap().load(SeqCst), bits);
                    }
                }
                let selector = guest.state.shared_info.u64(8).unwrap().load(SeqCst);
                let bits = expected.selector.iter().fold(0, |bits, word| bits | 1_u64 << word);
                prop_assert_eq!(selector, bits);
                let upcalls = machine.upcalls.borrow();
                let mine = upcalls.iter().filter(|(id, vcpu)| id == domain && *vcpu == 0).count();
                prop_assert_eq!(mine, expected.upcalls as usize);
            }
        }
        for (domain, expected) in &model.0 {
            for port in 1..=MAX_PORT {
                let request = op::Status {
                    dom: DomainId::SELF,
                    port: Port(port),
                    ..op::Status::default()
                };
                let status = machine.guest(*domain).event(op::STATUS, request).unwrap();
                let kind = match expected.ports.get(&port).map(|bound| bound.0) {
                    None => (op::STATUS_CLOSED, 0, 0),
                    Some(Kind::Unbound(remote)) => (op::STATUS_UNBOUND, remote.into(), 0),
                    Some(Kind::Connected(remote, port)) => (op::STATUS_INTERDOMAIN, remote.into(), port),
                    Some(Kind::Virq(virq)) => (op::STATUS_VIRQ, virq, 0),
                    Some(Kind::Ipi) => (op::STATUS_IPI, 0, 0),
                    Some(Kind::Console) => (op::STATUS_INTERDOMAIN, DomainId::XEN.0.into(), 0),
                };
                prop_assert_eq!((status.status, status.detail, status.detail_port.0), kind);
                let vcpu = expected.ports.get(&port).map_or(0, |bound| bound.1);
                prop_assert_eq!(status.vcpu, vcpu);
            }
        }
    }
}
