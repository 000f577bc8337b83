//! The guest's side of the FIFO ABI (xen-arm-hypercalls section 8.2): one page of event words, a control
//! block for each CPU, and the taking of ports from its queues.

use super::operate;
use crate::{cpu, hypercall::Error, memory};
use abi::{Port, event_channel as op};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

#[repr(C, align(4096))]
struct Words([AtomicU32; op::FIFO_WORDS_PER_PAGE]);

/// 128 bytes, so that none crosses a page.
#[repr(C, align(128))]
struct Control {
    ready: AtomicU32,
    reserved: AtomicU32,
    heads: [AtomicU32; op::FIFO_QUEUES],
}

const _: () = assert!(core::mem::offset_of!(Control, heads) == op::FIFO_CONTROL_HEADS);

static IN_USE: AtomicBool = AtomicBool::new(false);
static WORDS: Words = Words([const { AtomicU32::new(0) }; op::FIFO_WORDS_PER_PAGE]);
static CONTROLS: [Control; cpu::MAX] = [const {
    Control {
        ready: AtomicU32::new(0),
        reserved: AtomicU32::new(0),
        heads: [const { AtomicU32::new(0) }; op::FIFO_QUEUES],
    }
}; cpu::MAX];
/// Where each CPU is in its queues; 0: at the control block's head.
static HEADS: [[AtomicU32; op::FIFO_QUEUES]; cpu::MAX] =
    [const { [const { AtomicU32::new(0) }; op::FIFO_QUEUES] }; cpu::MAX];

/// Whether events come by the FIFO ABI.
pub(super) fn in_use() -> bool {
    IN_USE.load(SeqCst)
}

pub(super) fn set_in_use(value: bool) {
    IN_USE.store(value, SeqCst);
}

fn word(Port(port): Port) -> &'static AtomicU32 {
    &WORDS.0[port as usize % op::FIFO_WORDS_PER_PAGE]
}

fn place<T>(of: &'static T) -> (u64, u32) {
    let address = core::ptr::from_ref(of) as u64;
    (address / memory::PAGE, (address % memory::PAGE) as u32)
}

/// Gives the hypervisor a control block for every CPU, and the words, all masked.
pub(super) fn start() -> Result<(), Error> {
    for word in &WORDS.0 {
        word.store(op::FIFO_MASKED, SeqCst);
    }
    for index in 0..cpu::count() {
        let control = &CONTROLS[index];
        control.ready.store(0, SeqCst);
        control.reserved.store(0, SeqCst);
        for (head, local) in control.heads.iter().zip(&HEADS[index]) {
            head.store(0, SeqCst);
            local.store(0, SeqCst);
        }
        let (control_gfn, offset) = place(control);
        let mut argument = op::InitControl {
            control_gfn,
            offset,
            vcpu: index as u32,
            ..Default::default()
        };
        operate(op::INIT_CONTROL, &mut argument)?;
    }
    let (array_gfn, _) = place(&WORDS);
    operate(op::EXPAND_ARRAY, &mut op::ExpandArray { array_gfn })
}

pub(super) fn mask(port: Port) {
    word(port).fetch_or(op::FIFO_MASKED, SeqCst);
}

pub(super) fn is_pending(port: Port) -> bool {
    word(port).load(SeqCst) & op::FIFO_PENDING != 0
}

pub(super) fn take(port: Port) -> bool {
    word(port).fetch_and(!op::FIFO_PENDING, SeqCst) & op::FIFO_PENDING != 0
}

/// Takes every port from this CPU's queues, the first queue first, and delivers what is to be delivered.
pub(super) fn upcall(deliver: fn(Port)) {
    let index = cpu::index();
    let control = &CONTROLS[index];
    let mut ready = control.ready.swap(0, SeqCst);
    while ready != 0 {
        let queue = ready.trailing_zeros() as usize % op::FIFO_QUEUES;
        let head = &HEADS[index][queue];
        let port = match head.load(SeqCst) {
            0 => Port(control.heads[queue].load(SeqCst)),
            port => Port(port),
        };
        let unlinked = !(op::FIFO_LINKED | op::FIFO_LINK_MASK);
        let next = word(port).fetch_and(unlinked, SeqCst) & op::FIFO_LINK_MASK;
        head.store(next, SeqCst);
        if next == 0 {
            ready &= !(1 << queue);
        }
        let value = word(port).load(SeqCst);
        if value & op::FIFO_PENDING != 0 && value & op::FIFO_MASKED == 0 {
            take(port);
            deliver(port);
        }
        ready |= control.ready.swap(0, SeqCst);
    }
}
