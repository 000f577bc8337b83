//! FIFO events against a model: whatever is sent, masked, moved and closed, in any order.

use super::*;

#[derive(Clone, Debug)]
enum Action {
    Ipi(u32),
    Open,
    Close(u32),
    Send(u32),
    Move(u32, u32),
    Priority(u32, u32),
    Mask(u32),
    Unmask(u32),
    Take(u32),
    Drain(u32),
}

fn action() -> impl Strategy<Value = Action> {
    let port = || 2_u32..10;
    prop_oneof![
        2 => (0..VCPUS).prop_map(Action::Ipi),
        2 => Just(Action::Open),
        1 => port().prop_map(Action::Close),
        10 => port().prop_map(Action::Send),
        2 => (port(), 0..VCPUS).prop_map(|(port, vcpu)| Action::Move(port, vcpu)),
        3 => (port(), 0_u32..4).prop_map(|(port, priority)| Action::Priority(port, priority)),
        3 => port().prop_map(Action::Mask),
        4 => port().prop_map(Action::Unmask),
        8 => (0..VCPUS).prop_map(Action::Take),
        2 => (0..VCPUS).prop_map(Action::Drain),
    ]
}

/// What a port is for the model: the port that a send raises, its vCPU and priority.
#[derive(Clone, Copy)]
struct Bound {
    target: u32,
    vcpu: u32,
    is_ipi: bool,
}

#[derive(Default)]
struct Model {
    bound: std::collections::BTreeMap<u32, Bound>,
    priority: std::collections::BTreeMap<u32, u32>,
    pending: BTreeSet<u32>,
    masked: BTreeSet<u32>,
    /// By vCPU and priority.
    queues: [[VecDeque<u32>; 16]; VCPUS as usize],
}

impl Model {
    fn is_linked(&self, port: u32) -> bool {
        self.queues.iter().flatten().flatten().any(|at| *at == port)
    }

    fn free(&self) -> u32 {
        let free = |port: &u32| !self.bound.contains_key(port) && !self.is_linked(*port);
        (2..).find(free).unwrap()
    }

    fn raise(&mut self, port: u32) {
        self.pending.insert(port);
        if !self.masked.contains(&port) && !self.is_linked(port) {
            let vcpu = self.bound.get(&port).map_or(0, |bound| bound.vcpu);
            let priority = self.priority.get(&port).map_or(7, |priority| *priority);
            self.queues[vcpu as usize][priority as usize].push_back(port);
        }
    }

    fn take(&mut self, vcpu: u32) -> Option<Option<u32>> {
        let queue = self.queues[vcpu as usize]
            .iter_mut()
            .find(|queue| !queue.is_empty())?;
        let port = queue.pop_front()?;
        let handle = !self.masked.contains(&port) && self.pending.remove(&port);
        Some(handle.then_some(port))
    }
}

fn step(
    guest: &Guest<'_>,
    consumers: &mut [Consumer],
    model: &mut Model,
    action: &Action,
) -> Result<(), TestCaseError> {
    match *action {
        Action::Ipi(vcpu) => {
            let port = model.free();
            let is_ipi = true;
            let bound = Bound {
                target: port,
                vcpu,
                is_ipi,
            };
            model.bound.insert(port, bound);
            prop_assert_eq!(bind_ipi(guest, vcpu), Ok(port));
        }
        Action::Open => {
            let port = model.free();
            // Unbound: a send raises nothing. Its own events come by the one who binds, here nobody, so that it
            // stands for ports that only move.
            let bound = Bound {
                target: 0,
                vcpu: 0,
                is_ipi: false,
            };
            model.bound.insert(port, bound);
            let request = op::AllocUnbound {
                dom: DomainId::SELF,
                remote_dom: DomainId::SELF,
                ..op::AllocUnbound::default()
            };
            let offered = guest.event(op::ALLOC_UNBOUND, request).unwrap().port;
            prop_assert_eq!(offered.0, port);
            let other = model.free();
            let request = op::BindInterdomain {
                remote_dom: DomainId::SELF,
                remote_port: offered,
                ..op::BindInterdomain::default()
            };
            let done = guest.event(op::BIND_INTERDOMAIN, request).unwrap();
            prop_assert_eq!(done.local_port.0, other);
            for (port, target) in [(port, other), (other, port)] {
                let bound = Bound {
                    target,
                    vcpu: 0,
                    is_ipi: false,
                };
                model.bound.insert(port, bound);
            }
            model.raise(other);
        }
        Action::Close(port) => {
            let expected = model.bound.remove(&port);
            let done = guest.event(op::CLOSE, port);
            prop_assert_eq!(done.is_ok(), expected.is_some());
            if expected.is_some() {
                model.pending.remove(&port);
                model.priority.remove(&port);
                for bound in model
                    .bound
                    .values_mut()
                    .filter(|bound| bound.target == port)
                {
                    bound.target = 0;
                }
            }
        }
        Action::Send(port) => {
            let bound = model.bound.get(&port).copied();
            let done = guest.event(op::SEND, port);
            prop_assert_eq!(done.is_ok(), bound.is_some());
            if let Some(bound) = bound.filter(|bound| bound.target != 0) {
                model.raise(bound.target);
            }
        }
        Action::Move(port, vcpu) => {
            let port_id = Port(port);
            let done = guest.event(
                op::BIND_VCPU,
                op::BindVcpu {
                    port: port_id,
                    vcpu,
                },
            );
            let bound = model.bound.get_mut(&port).filter(|bound| !bound.is_ipi);
            prop_assert_eq!(done.is_ok(), bound.is_some());
            if let Some(bound) = bound {
                bound.vcpu = vcpu;
            }
        }
        Action::Priority(port, priority) => {
            prop_assert_eq!(set_priority(guest, port, priority), Ok(()));
            model.priority.insert(port, priority);
        }
        Action::Mask(port) => {
            consumers[0].word(port).fetch_or(op::FIFO_MASKED, SeqCst);
            model.masked.insert(port);
        }
        Action::Unmask(port) => {
            if !consumers[0].clear_masked(port) {
                guest.event(op::UNMASK, port).unwrap();
            }
            if model.masked.remove(&port) && model.pending.contains(&port) {
                model.raise(port);
            }
        }
        Action::Take(vcpu) => {
            let taken = consumers[vcpu as usize].take();
            prop_assert_eq!(taken, model.take(vcpu));
        }
        Action::Drain(vcpu) => loop {
            let taken = consumers[vcpu as usize].take();
            prop_assert_eq!(taken, model.take(vcpu));
            if taken.is_none() {
                break;
            }
        },
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_guest_as_linux_sees_what_the_model_says(
        steps in proptest::collection::vec(action(), 1..200),
    ) {
        let machine = moved();
        let guest = machine.guest(1);
        let (control, words) = (ram(&guest, CONTROL), ram(&guest, WORDS));
        let mut consumers = [0, 1].map(|vcpu| Consumer::new(control, vcpu, words));
        let mut model = Model::default();
        for action in &steps {
            if let Action::Take(vcpu) | Action::Drain(vcpu) = action {
                let info = if *vcpu == 0 { guest.state.shared_info } else { ram(&guest, INFO) };
                info.u8(0).unwrap().store(0, SeqCst);
            }
            step(&guest, &mut consumers, &mut model, action)?;
            for (vcpu, consumer) in consumers.iter().enumerate() {
                let info = if vcpu == 0 { guest.state.shared_info } else { ram(&guest, INFO) };
                let ready = consumer.control(op::FIFO_CONTROL_READY).load(SeqCst);
                if ready != 0 {
                    prop_assert_eq!(info.u8(0).unwrap().load(SeqCst), 1, "no upcall");
                }
                for (queue, ports) in model.queues[vcpu].iter().enumerate() {
                    let is_told = (ready | consumer.ready) >> queue & 1 == 1;
                    prop_assert!(is_told || ports.is_empty(), "queue {} is not ready", queue);
                }
            }
            for port in 2..40 {
                let value = consumers[0].word(port).load(SeqCst);
                prop_assert_eq!(value & op::FIFO_PENDING != 0, model.pending.contains(&port));
                prop_assert_eq!(value & op::FIFO_LINKED != 0, model.is_linked(port));
                prop_assert_eq!(value & op::FIFO_BUSY, 0);
            }
        }
    }

    /// Whatever the guest writes where it may, calls end, and nothing but its own events is lost.
    #[test]
    fn a_guest_that_damages_its_queues_only_harms_itself(
        steps in proptest::collection::vec((action(), 0_usize..1024, any::<u32>(), 0_usize..4), 1..100),
    ) {
        let machine = moved();
        let guest = machine.guest(1);
        let (control, words) = (ram(&guest, CONTROL), ram(&guest, WORDS));
        for (action, at, value, what) in steps {
            match what {
                0 => words.u32(at * 4).unwrap().store(value, SeqCst),
                1 => words.u32(at % 16 * 4).unwrap().store(value, SeqCst),
                2 => control.u32(at % 36 * 4).unwrap().store(value, SeqCst),
                _ => {}
            }
            match action {
                Action::Ipi(vcpu) => { let _ = bind_ipi(&guest, vcpu); }
                Action::Send(port) => { let _ = guest.event(op::SEND, port); }
                Action::Close(port) => { let _ = guest.event(op::CLOSE, port); }
                Action::Unmask(port) => { let _ = guest.event(op::UNMASK, port); }
                Action::Priority(port, priority) => { let _ = set_priority(&guest, port, priority); }
                _ => {}
            }
        }
        let dom = DomainId::SELF;
        guest.event(op::RESET, op::Reset { dom }).unwrap();
        prop_assert_eq!(bind_ipi(&guest, 0), Ok(2));
    }
}
