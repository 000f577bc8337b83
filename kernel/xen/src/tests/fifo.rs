//! The FIFO ABI: its calls one by one, then a guest that behaves as Linux's `events_fifo.c` does against a
//! model of plain lists, one that damages everything it may, and threads.

mod model;
mod threads;

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
