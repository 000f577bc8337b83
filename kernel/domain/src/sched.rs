//! Who runs on a CPU: one queue a CPU, under a spin lock of the caller's.
//!
//! Round robin. A vCPU gets a slice ([`SLICE_MILLISECONDS`], scaled by its weight); when the slice is over
//! and another waits, it goes to the end. While nobody else waits there is no end of slice, and so no
//! timer to set: a vCPU alone on its CPU is never disturbed. Its slice is counted all the same, so that a
//! vCPU that wakes beside one that has run for long gets the CPU at once.
//!
//! Times are in ticks of the system counter. Every operation takes the same few steps however many vCPUs
//! there are, and only [`RunQueue::add`] allocates.

use alloc::vec::Vec;
use core::fmt;

/// Length of a slice for a vCPU of weight [`DEFAULT_WEIGHT`].
pub const SLICE_MILLISECONDS: u64 = 10;
/// Weight of a vCPU that nobody gave another, as in Xen.
pub const DEFAULT_WEIGHT: u16 = 256;
const USUAL_WEIGHT: u64 = DEFAULT_WEIGHT as u64;

/// Ticks of a slice at this frequency of the counter, in Hz.
#[must_use]
pub const fn slice_ticks(frequency: u64) -> u64 {
    frequency.saturating_mul(SLICE_MILLISECONDS) / 1000
}

/// How a vCPU is to be scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Share of the CPU against the other vCPUs on it: the length of its slice, in 256ths of the usual one.
    /// Below a tenth and above ten times the usual it has no further effect.
    pub weight: u16,
    /// How it is chosen.
    pub class: Class,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            weight: DEFAULT_WEIGHT,
            class: Class::Shared,
        }
    }
}

/// How a vCPU is chosen among those that could run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Class {
    /// In turn with the others.
    #[default]
    Shared,
}

/// A vCPU's place in one run queue; good until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u16);

/// A vCPU could not be given a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddError {
    /// No memory.
    NoMemory,
    /// 65,535 are there.
    Full,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "no memory for the run queue",
            Self::Full => "the run queue is full",
        })
    }
}

/// Who is to run, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick<T> {
    /// The vCPU; `None`: nobody, the CPU idles.
    pub next: Option<T>,
    /// Counter value at which to pick again; `None`: nobody waits, no timer is needed.
    pub slice_end: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The slot is nobody's; the link is the next free one.
    Free,
    /// Cannot run.
    Blocked,
    /// Waits in the queue; the links are its neighbours.
    Waiting,
    /// Was picked.
    Current,
}

struct Entry<T> {
    /// `None` when the slot is free.
    vcpu: Option<T>,
    state: State,
    slice: u64,
    next: Option<Slot>,
    previous: Option<Slot>,
}

/// The run queue of one CPU.
pub struct RunQueue<T> {
    entries: Vec<Entry<T>>,
    free: Option<Slot>,
    first: Option<Slot>,
    last: Option<Slot>,
    current: Option<Slot>,
    /// When the current vCPU was picked, and its slice.
    started: u64,
    slice: u64,
    usual_slice: u64,
}

impl<T: Copy> RunQueue<T> {
    /// An empty queue whose usual slice is this many ticks ([`slice_ticks`]).
    #[must_use]
    pub const fn new(slice: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: None,
            first: None,
            last: None,
            current: None,
            started: 0,
            slice: 0,
            usual_slice: slice,
        }
    }

    /// Gives a vCPU a place; it cannot run until [`wake`](Self::wake). Allocates.
    ///
    /// # Errors
    ///
    /// There is no memory or no number for another place; nothing has changed then.
    pub fn add(&mut self, vcpu: T, parameters: Parameters) -> Result<Slot, AddError> {
        let slice = self.slice_of(parameters);
        let entry = Entry {
            vcpu: Some(vcpu),
            state: State::Blocked,
            slice,
            next: None,
            previous: None,
        };
        if let Some(slot) = self.free
            && let Some(place) = self.entries.get_mut(usize::from(slot.0))
        {
            self.free = place.next;
            *place = entry;
            return Ok(slot);
        }
        let slot = u16::try_from(self.entries.len())
            .ok()
            .filter(|number| *number != u16::MAX)
            .map(Slot)
            .ok_or(AddError::Full)?;
        self.entries
            .try_reserve(1)
            .map_err(|_| AddError::NoMemory)?;
        self.entries.push(entry);
        Ok(slot)
    }

    /// Changes how a vCPU is scheduled, from its next slice on.
    pub fn set_parameters(&mut self, slot: Slot, parameters: Parameters) {
        let slice = self.slice_of(parameters);
        if let Some(entry) = self.entry(slot) {
            entry.slice = slice;
        }
    }

    /// A vCPU can run. Nothing changes if it could already. Whether the CPU has to [`pick`](Self::pick)
    /// because of it: it idled, or its vCPU was alone and has had no end of slice so far.
    pub fn wake(&mut self, slot: Slot) -> bool {
        if !self.is(slot, State::Blocked) {
            return false;
        }
        let nobody_waited = self.first.is_none();
        self.append(slot);
        nobody_waited
    }

    /// A vCPU cannot run for now, be it the current one or one that waits.
    pub fn block(&mut self, slot: Slot) {
        self.take_out(slot);
    }

    /// The current vCPU lets all others go first.
    pub fn yield_now(&mut self) {
        if let Some(slot) = self.current.take() {
            self.append(slot);
        }
    }

    /// Takes a vCPU's place away; its slot is no longer good.
    pub fn remove(&mut self, slot: Slot) {
        self.take_out(slot);
        let free = self.free;
        if let Some(entry) = self.entry(slot) {
            entry.vcpu = None;
            entry.state = State::Free;
            entry.next = free;
            self.free = Some(slot);
        }
    }

    /// Who is to run from `now` on. The one that runs goes on until its slice is over.
    pub fn pick(&mut self, now: u64) -> Pick<T> {
        if let Some(slot) = self.current {
            let over = now.saturating_sub(self.started) >= self.slice;
            if !over || self.first.is_none() {
                return self.answer(slot);
            }
            self.current = None;
            self.append(slot);
        }
        let Some(slot) = self.first else {
            return Pick {
                next: None,
                slice_end: None,
            };
        };
        self.unlink(slot);
        if let Some(entry) = self.entry(slot) {
            entry.state = State::Current;
            self.slice = entry.slice;
        }
        self.started = now;
        self.current = Some(slot);
        self.answer(slot)
    }

    /// The vCPU that was picked last and has not blocked or yielded since.
    #[must_use]
    pub fn current(&self) -> Option<T> {
        self.vcpu(self.current?)
    }

    /// Whether nobody waits for the CPU: who runs there may wait in it, and yields to nobody.
    #[inline]
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.first.is_none()
    }

    /// Those that wait, the first in line first.
    pub fn waiting(&self) -> impl Iterator<Item = (Slot, T)> + '_ {
        let after = |slot: &Slot| self.entries.get(usize::from(slot.0))?.next;
        core::iter::successors(self.first, after)
            .filter_map(|slot| self.vcpu(slot).map(|vcpu| (slot, vcpu)))
    }

    fn answer(&self, slot: Slot) -> Pick<T> {
        let end = self.started.saturating_add(self.slice);
        Pick {
            next: self.vcpu(slot),
            slice_end: self.first.map(|_| end),
        }
    }

    fn vcpu(&self, slot: Slot) -> Option<T> {
        self.entries.get(usize::from(slot.0))?.vcpu
    }

    fn slice_of(&self, parameters: Parameters) -> u64 {
        let usual = self.usual_slice;
        let weighted = usual.saturating_mul(u64::from(parameters.weight)) / USUAL_WEIGHT;
        weighted.clamp((usual / 10).max(1), usual.saturating_mul(10).max(1))
    }

    /// The entry of a slot that is somebody's.
    fn entry(&mut self, slot: Slot) -> Option<&mut Entry<T>> {
        self.entries
            .get_mut(usize::from(slot.0))
            .filter(|entry| entry.state != State::Free)
    }

    fn is(&self, slot: Slot, state: State) -> bool {
        self.entries
            .get(usize::from(slot.0))
            .is_some_and(|entry| entry.state == state)
    }

    /// Puts a vCPU that is not in the queue at its end.
    fn append(&mut self, slot: Slot) {
        let last = self.last;
        let Some(entry) = self.entry(slot) else {
            return;
        };
        entry.state = State::Waiting;
        entry.previous = last;
        entry.next = None;
        match last.and_then(|last| self.entry(last)) {
            Some(last) => last.next = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
    }

    /// Takes a vCPU that waits out of the queue; the caller sets its state.
    fn unlink(&mut self, slot: Slot) {
        let Some(entry) = self.entry(slot) else {
            return;
        };
        let (previous, next) = (entry.previous.take(), entry.next.take());
        match previous.and_then(|previous| self.entry(previous)) {
            Some(previous) => previous.next = next,
            None => self.first = next,
        }
        match next.and_then(|next| self.entry(next)) {
            Some(next) => next.previous = previous,
            None => self.last = previous,
        }
    }

    fn take_out(&mut self, slot: Slot) {
        if self.is(slot, State::Waiting) {
            self.unlink(slot);
        }
        if self.current == Some(slot) {
            self.current = None;
        }
        if let Some(entry) = self.entry(slot) {
            entry.state = State::Blocked;
        }
    }
}

/// The CPU for a new vCPU: of those that bit mask `allowed` names, the one with the least load, and of these
/// the first. `None` if none is allowed.
#[must_use]
pub fn place(loads: &[u32], allowed: u64) -> Option<usize> {
    loads
        .iter()
        .take(64)
        .enumerate()
        .filter(|(cpu, _)| allowed.wrapping_shr(*cpu as u32) & 1 != 0)
        .min_by_key(|(_, load)| **load)
        .map(|(cpu, _)| cpu)
}

#[cfg(test)]
#[path = "sched_tests.rs"]
mod tests;
