//! The FIFO ABI: its calls one by one, then a guest that behaves as Linux's `events_fifo.c` does against a
//! model of plain lists, one that damages everything it may, and threads.

use super::support::{Guest, Machine, RAM_GFN, page};
use crate::{Config, Host, SharedPage, XenState};
use abi::event_channel as op;
use abi::shared_info::{SHARED_INFO_EVTCHN_MASK, SHARED_INFO_EVTCHN_PENDING};
use abi::{DomainId, Errno, Port, VcpuId, hypercall as number, vcpu};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

const VCPUS: u32 = 2;
/// Pages of the guest's RAM: control blocks, words, and vCPU 1's vcpu_info.
const CONTROL: u64 = RAM_GFN;
const WORDS: u64 = RAM_GFN + 1;
const INFO: u64 = RAM_GFN + 2;

pub(super) fn init_control(
    guest: &Guest<'_>,
    gfn: u64,
    offset: u32,
    vcpu: u32,
) -> Result<u8, Errno> {
    let request = op::InitControl {
        control_gfn: gfn,
        offset,
        vcpu,
        ..op::InitControl::default()
    };
    let done = guest.event(op::INIT_CONTROL, request);
    done.map(|done| done.link_bits)
}

pub(super) fn expand_array(guest: &Guest<'_>, gfn: u64) -> Result<(), Errno> {
    let request = op::ExpandArray { array_gfn: gfn };
    guest.event(op::EXPAND_ARRAY, request).map(|_| ())
}

fn set_priority(guest: &Guest<'_>, port: u32, priority: u32) -> Result<(), Errno> {
    let port = Port(port);
    let request = op::SetPriority { port, priority };
    guest.event(op::SET_PRIORITY, request).map(|_| ())
}

fn bind_ipi(guest: &Guest<'_>, vcpu: u32) -> Result<u32, Errno> {
    let port = Port(0);
    let done = guest.event(op::BIND_IPI, op::BindIpi { vcpu, port });
    done.map(|done| done.port.0)
}

pub(super) fn ram(guest: &Guest<'_>, gfn: u64) -> SharedPage {
    guest.physical.ram.borrow()[(gfn - RAM_GFN) as usize]
}

/// The guest's side of the ABI for one vCPU, as Linux has it.
pub(super) struct Consumer {
    control: SharedPage,
    offset: usize,
    words: SharedPage,
    heads: [u32; op::FIFO_QUEUES],
    ready: u32,
}

impl Consumer {
    pub(super) fn new(control: SharedPage, vcpu: u32, words: SharedPage) -> Self {
        Self {
            control,
            offset: vcpu as usize * op::FIFO_CONTROL_SIZE,
            words,
            heads: [0; op::FIFO_QUEUES],
            ready: 0,
        }
    }

    pub(super) fn word(&self, port: u32) -> &AtomicU32 {
        self.words.u32(port as usize * 4).unwrap()
    }

    fn control(&self, offset: usize) -> &AtomicU32 {
        self.control.u32(self.offset + offset).unwrap()
    }

    /// Takes one port off the first queue that has one; `Some(None)` if it was not to be handled.
    pub(super) fn take(&mut self) -> Option<Option<u32>> {
        self.ready |= self.control(op::FIFO_CONTROL_READY).swap(0, SeqCst);
        if self.ready == 0 {
            return None;
        }
        let queue = self.ready.trailing_zeros() as usize;
        let port = match self.heads[queue] {
            0 => self
                .control(op::FIFO_CONTROL_HEADS + queue * 4)
                .load(SeqCst),
            head => head,
        };
        let word = self.word(port);
        let clear = !(op::FIFO_LINKED | op::FIFO_LINK_MASK);
        let next = word.fetch_and(clear, SeqCst) & op::FIFO_LINK_MASK;
        let value = word.load(SeqCst);
        let handle = value & op::FIFO_PENDING != 0 && value & op::FIFO_MASKED == 0;
        if handle {
            word.fetch_and(!op::FIFO_PENDING, SeqCst);
        }
        if next == 0 {
            self.ready &= !(1 << queue);
        }
        self.heads[queue] = next;
        Some(handle.then_some(port))
    }

    /// Clears MASKED if nothing is pending; else the hypervisor is to be asked.
    fn clear_masked(&self, port: u32) -> bool {
        let word = self.word(port);
        let mut value = word.load(SeqCst);
        loop {
            if value & op::FIFO_MASKED == 0 {
                return true;
            }
            if value & op::FIFO_PENDING != 0 {
                return false;
            }
            let old = value & !op::FIFO_BUSY;
            match word.compare_exchange(old, old & !op::FIFO_MASKED, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(seen) => value = seen,
            }
        }
    }
}

/// A machine with one domain that has moved to the FIFO ABI.
fn moved() -> Machine {
    let machine = Machine::new(1, VCPUS);
    let guest = machine.guest(1);
    let info = vcpu::RegisterVcpuInfo {
        gfn: INFO,
        offset: 0,
        reserved: 0,
    };
    guest.put(super::support::SCRATCH, &info);
    let arguments = [vcpu::REGISTER_VCPU_INFO, 1, super::support::SCRATCH];
    assert_eq!(guest.returns(number::VCPU_OP, &arguments), 0);
    for vcpu in 0..VCPUS {
        let offset = vcpu * op::FIFO_CONTROL_SIZE as u32;
        assert_eq!(init_control(&guest, CONTROL, offset, vcpu), Ok(17));
    }
    expand_array(&guest, WORDS).unwrap();
    ram(&guest, INFO).u8(0).unwrap().store(0, SeqCst);
    machine.take_upcalls();
    machine
}

#[test]
fn calls_are_refused_as_on_xen() {
    let machine = Machine::new(1, VCPUS);
    let guest = machine.guest(1);
    assert_eq!(expand_array(&guest, WORDS), Err(Errno::NotSupported));
    assert_eq!(set_priority(&guest, 1, 3), Err(Errno::NoSys));
    assert_eq!(set_priority(&guest, 1024, 3), Err(Errno::Invalid));
    assert_eq!(init_control(&guest, CONTROL, 0, VCPUS), Err(Errno::NoEntry));
    for offset in [4, 1, 4096 - 64, 4096, u32::MAX] {
        assert_eq!(
            init_control(&guest, CONTROL, offset, 0),
            Err(Errno::Invalid)
        );
    }
    for gfn in [0, RAM_GFN - 1, RAM_GFN + 99, u64::MAX] {
        assert_eq!(init_control(&guest, gfn, 0, 0), Err(Errno::Invalid));
    }
    assert_eq!(
        set_priority(&guest, 1, 3),
        Err(Errno::NoSys),
        "still 2-level"
    );
    assert_eq!(init_control(&guest, CONTROL, 4096 - 72, 0), Ok(17));
    assert_eq!(init_control(&guest, CONTROL, 0, 0), Err(Errno::Invalid));
    assert_eq!(expand_array(&guest, 0), Err(Errno::Invalid));
    assert_eq!(set_priority(&guest, 1, 16), Err(Errno::Invalid));
    assert_eq!(set_priority(&guest, 1, 15), Ok(()));
    assert_eq!(expand_array(&guest, WORDS), Ok(()));
    assert_eq!(guest.physical.kept.get(), 2);
    assert_eq!(expand_array(&guest, WORDS), Err(Errno::NoSpace));
    assert_eq!(
        guest.bad_pointer(number::EVENT_CHANNEL_OP, op::INIT_CONTROL),
        -14
    );
    assert_eq!(
        guest.bad_pointer(number::EVENT_CHANNEL_OP, op::EXPAND_ARRAY),
        -14
    );
    assert_eq!(
        guest.bad_pointer(number::EVENT_CHANNEL_OP, op::SET_PRIORITY),
        -14
    );
}

#[test]
fn what_was_pending_comes_over_and_waits_for_its_word() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let ports: Vec<u32> = (0..300).map(|_| bind_ipi(&guest, 0).unwrap()).collect();
    for port in &ports[..150] {
        guest.event(op::SEND, *port).unwrap();
    }
    init_control(&guest, CONTROL, 0, 0).unwrap();
    for port in &ports[150..] {
        guest.event(op::SEND, *port).unwrap();
    }
    assert!(
        !guest.bit(SHARED_INFO_EVTCHN_PENDING, ports[0]),
        "no longer 2-level"
    );
    let mut consumer = Consumer::new(ram(&guest, CONTROL), 0, ram(&guest, WORDS));
    assert!(consumer.take().is_none());
    // More than one step's worth.
    expand_array(&guest, WORDS).unwrap();
    let taken: Vec<u32> = std::iter::from_fn(|| consumer.take()).flatten().collect();
    assert_eq!(taken, ports);
    // The 2-level mask means nothing any more.
    guest.set_bit(SHARED_INFO_EVTCHN_MASK, ports[0], true);
    guest.event(op::SEND, ports[0]).unwrap();
    assert_eq!(consumer.take(), Some(Some(ports[0])));
    assert_eq!(consumer.take(), None);
}

#[test]
fn a_port_on_a_queue_is_not_bound_anew_until_the_guest_has_taken_it() {
    let machine = moved();
    let guest = machine.guest(1);
    let port = bind_ipi(&guest, 0).unwrap();
    guest.event(op::SEND, port).unwrap();
    guest.event(op::CLOSE, port).unwrap();
    let next = bind_ipi(&guest, 0).unwrap();
    assert_eq!(next, port + 1);
    let mut consumer = Consumer::new(ram(&guest, CONTROL), 0, ram(&guest, WORDS));
    assert_eq!(consumer.take(), Some(None), "closed: no longer pending");
    assert_eq!(bind_ipi(&guest, 0), Ok(port));
}

#[test]
fn reset_brings_the_2_level_abi_back() {
    let machine = moved();
    let guest = machine.guest(1);
    let port = bind_ipi(&guest, 0).unwrap();
    set_priority(&guest, port, 2).unwrap();
    guest.event(op::SEND, port).unwrap();
    let dom = DomainId::SELF;
    guest.event(op::RESET, op::Reset { dom }).unwrap();
    assert_eq!(set_priority(&guest, port, 2), Err(Errno::NoSys));
    assert_eq!(guest.physical.kept.get(), 1, "all but vCPU 1's vcpu_info");
    let port = bind_ipi(&guest, 0).unwrap();
    guest.event(op::SEND, port).unwrap();
    assert!(guest.bit(SHARED_INFO_EVTCHN_PENDING, port));
    assert_eq!(init_control(&guest, CONTROL, 0, 1), Ok(17));
    assert_eq!(expand_array(&guest, WORDS), Ok(()));
}

#[test]
fn a_poll_ends_by_a_fifo_event_too() {
    let machine = moved();
    let guest = machine.guest(1);
    let port = bind_ipi(&guest, 0).unwrap();
    let (id, state) = guest.state.vcpu(1).unwrap();
    guest.state.start_poll(state, &[port]);
    assert!(!guest.state.is_pending(port));
    guest.event(op::SEND, port).unwrap();
    assert!(guest.state.is_pending(port) && !guest.state.is_polling(id));
    assert_eq!(machine.wakes.take(), [(1, 1)]);
}

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

#[derive(Default)]
struct Counts(AtomicU32);

impl Host for Counts {
    fn upcall(&self, _: DomainId, _: VcpuId) {
        self.0.fetch_add(1, SeqCst);
    }
    fn wake(&self, _: DomainId, _: VcpuId) {}
    fn peer(&self, _: DomainId) -> Option<&XenState> {
        None
    }
    super::support::no_grants!();
    fn console_write(&self, _: DomainId, _: &[u8]) {}
    fn serve_store(&self, _: DomainId) -> bool {
        false
    }
    fn condemn(&self, _: DomainId) {}
    fn release_page(&self, _: DomainId, _: &SharedPage) {}
    fn console_has_room(&self, _: DomainId) -> bool {
        true
    }
}

/// A domain on the FIFO ABI, and its consumer.
fn threaded() -> (XenState, Consumer) {
    let state = XenState::new(&Config::new(DomainId(1), 1, page(), page())).unwrap();
    let (control, words) = (page(), page());
    let mut fifo = state.events.fifo.lock();
    assert_eq!(fifo.set_control(0, control, 0), Ok(true));
    fifo.add_page(words).unwrap();
    drop(fifo);
    state.events.uses_fifo.store(true, SeqCst);
    (state, Consumer::new(control, 0, words))
}

#[test]
fn no_event_is_lost_between_threads() {
    const EVENTS: u32 = 3_000;
    const PORTS: u32 = 6;
    let (state, mut consumer) = threaded();
    let counts = Counts::default();
    let work: Vec<AtomicU32> = (0..PORTS).map(|_| AtomicU32::new(0)).collect();
    let ports: Vec<u32> = (0..PORTS).map(|_| state.bind_ipi(0).unwrap()).collect();
    for (port, priority) in ports.iter().zip([7, 7, 7, 0, 0, 15]) {
        state.set_priority(*port, priority).unwrap();
    }
    std::thread::scope(|scope| {
        for sender in 0..2 {
            let (work, ports, state, counts) = (&work, &ports, &state, &counts);
            scope.spawn(move || {
                for turn in 0..EVENTS {
                    let at = ((turn * 2 + sender) % PORTS) as usize;
                    work[at].fetch_add(1, SeqCst);
                    state.send(counts, ports[at]).unwrap();
                    if turn % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut seen = vec![0; PORTS as usize];
        let (mut upcalls, start, mut turn) = (0, Instant::now(), 0_u32);
        while seen.iter().sum::<u32>() < 2 * EVENTS {
            while counts.0.load(SeqCst) == upcalls {
                assert!(start.elapsed() < Duration::from_secs(20), "lost: {seen:?}");
                std::thread::yield_now();
            }
            upcalls = counts.0.load(SeqCst);
            state.shared_info.u8(0).unwrap().store(0, SeqCst);
            while let Some(taken) = consumer.take() {
                let Some(port) = taken else { continue };
                let at = ports.iter().position(|own| *own == port).unwrap();
                // Some are masked while they are handled.
                turn += 1;
                let mask = turn % 3 == 0;
                if mask {
                    consumer.word(port).fetch_or(op::FIFO_MASKED, SeqCst);
                }
                seen[at] = work[at].load(SeqCst);
                if mask && !consumer.clear_masked(port) {
                    state.unmask(&counts, port).unwrap();
                }
            }
        }
    });
}

#[test]
fn every_call_ends_while_the_guest_writes_without_pause() {
    let (state, consumer) = threaded();
    let (counts, stop) = (Counts::default(), AtomicU32::new(0));
    let ports: Vec<u32> = (0..4).map(|_| state.bind_ipi(0).unwrap()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 1_u32;
            while stop.load(SeqCst) == 0 {
                value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                consumer.word(value >> 8 & 7).store(value, SeqCst);
                consumer
                    .control((value >> 16 & 15) as usize * 4)
                    .store(value, SeqCst);
            }
        });
        for turn in 0..20_000 {
            let _ = state.send(&counts, ports[turn % ports.len()]);
        }
        stop.store(1, SeqCst);
    });
}
