//! The FIFO ABI (`xen/include/public/event_channel.h`, `xen/common/event_fifo.c`): one word a port in pages
//! of the guest's, and 16 queues a vCPU, in the order of their priority, whose heads lie in the vCPU's
//! control block. A queue is a list by links in the words. The hypervisor adds at the tail, the guest takes
//! from the head, and neither waits for the other.
//!
//! Everything in those pages is the guest's to change at any moment. The hypervisor reads no link; it keeps
//! the tails itself, so that a damaged word only loses the guest its own events. A word that the guest will
//! not let go of ends it ([`crate::contended`]).
//!
//! A domain begins with the 2-level ABI, and is moved by its first `init_control`; `reset` brings it back.
//! All memory for it is there from the start. The lock of [`Fifo`] is taken for every event, which the
//! 2-level ABI does without.

use crate::SharedPage;
use crate::contended::{self, Contended};
use crate::state::boxed;
use abi::event_channel as op;
use abi::{Errno, PAGE_SIZE};
use alloc::boxed::Box;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::SeqCst;

/// Most pages of event words that a domain can give.
pub const PAGES: usize = op::PORTS_2L.div_ceil(op::FIFO_WORDS_PER_PAGE);
const QUEUES: usize = op::FIFO_QUEUES;

/// The queues of a vCPU.
struct Queues {
    /// Control block: page and offset. Without it the vCPU's events are not delivered.
    block: Option<(SharedPage, usize)>,
    /// Last port of each queue; 0 if it is known to be empty.
    tails: [u16; QUEUES],
}

impl Queues {
    const NONE: Self = Self {
        block: None,
        tails: [0; QUEUES],
    };

    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let (page, start) = self.block.as_ref()?;
        page.u32(start.wrapping_add(offset))
    }
}

/// What is kept of a port, of which there are many.
#[derive(Clone, Copy)]
struct PortState {
    /// Its priority, and in the upper four bits that of the queue that it was put on last.
    priorities: u8,
    /// Whose queue that was.
    last_vcpu: u8,
}

impl PortState {
    const NEW: Self = Self {
        priorities: (op::FIFO_PRIORITY_DEFAULT | op::FIFO_PRIORITY_DEFAULT << 4) as u8,
        last_vcpu: 0,
    };

    fn priority(self) -> u8 {
        self.priorities & 15
    }

    fn last_priority(self) -> u8 {
        self.priorities >> 4
    }

    fn set_priority(&mut self, priority: u8) {
        self.priorities = self.priorities & !15 | priority & 15;
    }

    /// It is put on the queue of its priority.
    fn set_last(&mut self, vcpu: u8) {
        self.last_vcpu = vcpu;
        self.priorities = self.priority() << 4 | self.priority();
    }
}

/// The bit of a port in its word of 64.
const fn bit(port: u32) -> u64 {
    1_u64.wrapping_shl(port)
}

/// What is to be done when a port was raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Raised {
    /// It was not pending before: pollers are to be woken.
    pub(crate) is_news: bool,
    /// The vCPU is to get an upcall.
    pub(crate) upcall: bool,
}

/// The FIFO side of a domain.
pub(crate) struct Fifo {
    active: bool,
    queues: Box<[Queues]>,
    ports: Box<[PortState]>,
    /// A bit for each port: raised before there was a page for its word.
    waiting: Box<[u64]>,
    pages: [Option<SharedPage>; PAGES],
    /// Pages of words that the guest has given.
    given: usize,
    /// An `expand_array` has added its page and is to be restarted.
    pub(crate) is_expanding: bool,
}

impl Fifo {
    /// Not active. `None` if there is no memory.
    pub(crate) fn new(vcpus: u32, ports: u32) -> Option<Self> {
        Some(Self {
            active: false,
            queues: boxed(vcpus as usize, |_| Queues::NONE)?,
            ports: boxed(ports as usize, |_| PortState::NEW)?,
            waiting: boxed(ports.div_ceil(64) as usize, |_| 0)?,
            pages: [None; PAGES],
            given: 0,
            is_expanding: false,
        })
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Back to the 2-level ABI. What the guest has given is then to be taken by [`Self::take_page`].
    pub(crate) fn stop(&mut self) {
        self.active = false;
        self.ports.fill(PortState::NEW);
        self.waiting.fill(0);
        (self.given, self.is_expanding) = (0, false);
    }

    /// Takes a page that the guest has given; `None` when there is none left.
    pub(crate) fn take_page(&mut self) -> Option<SharedPage> {
        if let Some(page) = self.pages.iter_mut().find_map(Option::take) {
            return Some(page);
        }
        let queues = self.queues.iter_mut().find(|queues| queues.block.is_some());
        let queues = core::mem::replace(queues?, Queues::NONE);
        queues.block.map(|(page, _)| page)
    }

    /// Gives a vCPU its control block, once. Returns whether it is the domain's first.
    pub(crate) fn set_control(
        &mut self,
        vcpu: u32,
        page: SharedPage,
        offset: usize,
    ) -> Result<bool, Errno> {
        self.check_control(vcpu)?;
        let queues = self.queues.get_mut(vcpu as usize).ok_or(Errno::NoEntry)?;
        queues.block = Some((page, offset));
        Ok(!core::mem::replace(&mut self.active, true))
    }

    /// Whether a vCPU may give a control block.
    pub(crate) fn check_control(&self, vcpu: u32) -> Result<(), Errno> {
        let queues = self.queues.get(vcpu as usize).ok_or(Errno::NoEntry)?;
        match queues.block {
            Some(_) => Err(Errno::Invalid),
            None => Ok(()),
        }
    }

    /// Adds a page of words.
    pub(crate) fn add_page(&mut self, page: SharedPage) -> Result<(), Errno> {
        self.check_room()?;
        let slot = self.pages.get_mut(self.given).ok_or(Errno::NoSpace)?;
        *slot = Some(page);
        self.given = self.given.saturating_add(1);
        self.is_expanding = true;
        Ok(())
    }

    /// Whether there may be a page more: not beyond the domain's last port.
    pub(crate) fn check_room(&self) -> Result<(), Errno> {
        match self.active {
            false => Err(Errno::NotSupported),
            true if self.given.saturating_mul(op::FIFO_WORDS_PER_PAGE) >= self.ports.len() => {
                Err(Errno::NoSpace)
            }
            true => Ok(()),
        }
    }

    pub(crate) fn set_priority(&mut self, port: u32, priority: u32) -> Result<(), Errno> {
        if !self.active {
            return Err(Errno::NoSys);
        }
        if priority as usize >= QUEUES {
            return Err(Errno::Invalid);
        }
        if let Some(state) = self.ports.get_mut(port as usize) {
            // If it is on a queue, it stays there this once.
            state.set_priority(priority as u8);
        }
        Ok(())
    }

    fn word(&self, port: u32) -> Option<&AtomicU32> {
        if port as usize >= self.ports.len() {
            return None;
        }
        let index = port as usize;
        let page = self.pages.get(index / op::FIFO_WORDS_PER_PAGE)?.as_ref()?;
        page.u32((index % op::FIFO_WORDS_PER_PAGE) << 2)
    }

    fn has(&self, port: u32, bit: u32) -> bool {
        let word = self.word(port);
        word.is_some_and(|word| word.load(SeqCst) & bit != 0)
    }

    pub(crate) fn is_pending(&self, port: u32) -> bool {
        self.has(port, op::FIFO_PENDING)
    }

    /// Whether the guest has yet to take the port from a queue: then it is not to be bound anew.
    pub(crate) fn is_linked(&self, port: u32) -> bool {
        self.has(port, op::FIFO_LINKED)
    }

    /// Remembers that a port without a word is pending.
    pub(crate) fn set_waiting(&mut self, port: u32) {
        if let Some(word) = self.waiting.get_mut((port >> 6) as usize) {
            *word |= bit(port);
        }
    }

    /// The next port from `first` on that was pending before it had a word and has one now. It waits no longer.
    pub(crate) fn take_waiting(&mut self, first: u32) -> Option<u32> {
        let words = self.given.saturating_mul(op::FIFO_WORDS_PER_PAGE);
        let ports = words.min(self.ports.len()) as u32;
        let waits = |port: &u32| {
            let word = self.waiting.get((port >> 6) as usize);
            word.is_some_and(|word| word & bit(*port) != 0)
        };
        let port = (first..ports).find(waits)?;
        self.stop_waiting(port);
        Some(port)
    }

    /// A port is closed: its next owner begins with the usual priority.
    pub(crate) fn forget_priority(&mut self, port: u32) {
        if let Some(state) = self.ports.get_mut(port as usize) {
            state.set_priority(PortState::NEW.priority());
        }
    }

    fn stop_waiting(&mut self, port: u32) {
        if let Some(word) = self.waiting.get_mut((port >> 6) as usize) {
            *word &= !bit(port);
        }
    }

    pub(crate) fn clear_pending(&mut self, port: u32) {
        self.stop_waiting(port);
        if let Some(word) = self.word(port) {
            // A guest that does not let go of the word keeps an event that nobody sent.
            let _ = contended::and_u32(word, !op::FIFO_PENDING);
        }
    }

    /// Clears the mask, and puts the port on its queue if it is pending.
    pub(crate) fn unmask(&mut self, port: u32, vcpu: u32) -> Result<Raised, Contended> {
        let Some(word) = self.word(port) else {
            return Ok(Raised::default());
        };
        match contended::and_u32(word, !op::FIFO_MASKED)? & op::FIFO_PENDING {
            0 => Ok(Raised::default()),
            _ => self.raise(port, vcpu),
        }
    }

    /// Makes a port pending, and puts it on its queue unless it is masked or on one.
    pub(crate) fn raise(&mut self, port: u32, vcpu: u32) -> Result<Raised, Contended> {
        let Some(word) = self.word(port) else {
            self.set_waiting(port);
            return Ok(Raised::default());
        };
        let before = contended::or_u32(word, op::FIFO_PENDING)?;
        let mut raised = Raised {
            is_news: before & op::FIFO_PENDING == 0,
            upcall: false,
        };
        let has_block = self
            .queues
            .get(vcpu as usize)
            .is_some_and(|queues| queues.block.is_some());
        if before & op::FIFO_MASKED == 0
            && has_block
            && contended::or_u32(word, op::FIFO_LINKED)? & op::FIFO_LINKED == 0
        {
            raised.upcall = self.enqueue(port, vcpu)?;
        }
        Ok(raised)
    }

    /// Puts a port, whose word says LINKED now, at the end of its queue. Returns whether the queue's ready bit
    /// was clear.
    fn enqueue(&mut self, port: u32, vcpu: u32) -> Result<bool, Contended> {
        let Some(state) = self.ports.get_mut(port as usize) else {
            return Ok(false);
        };
        let (old_vcpu, old_queue) = (state.last_vcpu, state.last_priority());
        let queue = state.priority();
        state.set_last(vcpu as u8);
        // The guest has taken it from where it was last. If it was the tail there, that queue is empty, and
        // nothing may be linked behind it: it is elsewhere from now on.
        if let Some(tail) = self.tail(u32::from(old_vcpu), old_queue)
            && u32::from(*tail) == port
        {
            *tail = 0;
        }
        let Some(tail) = self.tail(vcpu, queue) else {
            return Ok(false);
        };
        let last = core::mem::replace(tail, port as u16);
        let is_linked = match self.word(u32::from(last)) {
            Some(word) if last != 0 => set_link(word, port)?,
            _ => false,
        };
        let Some(queues) = self.queues.get(vcpu as usize).filter(|_| !is_linked) else {
            return Ok(false);
        };
        let head = usize::from(queue).wrapping_mul(size_of::<u32>());
        if let Some(head) = queues.word(op::FIFO_CONTROL_HEADS.wrapping_add(head)) {
            head.store(port, SeqCst);
        }
        let bit = 1_u32.wrapping_shl(u32::from(queue));
        match queues.word(op::FIFO_CONTROL_READY) {
            Some(ready) => Ok(contended::or_u32(ready, bit)? & bit == 0),
            None => Ok(false),
        }
    }

    fn tail(&mut self, vcpu: u32, queue: u8) -> Option<&mut u16> {
        let queues = self.queues.get_mut(vcpu as usize)?;
        queues.tails.get_mut(usize::from(queue))
    }
}

/// Links `port` behind the tail of a queue; `false` if the guest has taken the tail, so that the queue is
/// empty. After the first exchange that fails BUSY is set, which keeps the guest from unmasking the word;
/// then only its taking the port can change it.
fn set_link(word: &AtomicU32, port: u32) -> Result<bool, Contended> {
    let mut old = word.load(SeqCst);
    let mut is_busy = false;
    for _ in 0..contended::TRIES {
        if old & op::FIFO_LINKED == 0 {
            if is_busy {
                contended::and_u32(word, !op::FIFO_BUSY)?;
            }
            return Ok(false);
        }
        let new = old & !(op::FIFO_BUSY | op::FIFO_LINK_MASK) | port;
        match word.compare_exchange_weak(old, new, SeqCst, SeqCst) {
            Ok(_) => return Ok(true),
            Err(seen) if is_busy => old = seen,
            Err(_) => {
                old = contended::or_u32(word, op::FIFO_BUSY)? | op::FIFO_BUSY;
                is_busy = true;
            }
        }
    }
    Err(Contended)
}

/// The place of a control block, checked: within a page, aligned to 8 bytes.
pub(crate) fn control_offset(offset: u32) -> Result<usize, Errno> {
    let offset = offset as usize;
    if offset > PAGE_SIZE.saturating_sub(op::FIFO_CONTROL_SIZE) || !offset.is_multiple_of(8) {
        return Err(Errno::Invalid);
    }
    Ok(offset)
}
