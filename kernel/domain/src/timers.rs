//! Deadlines of the vCPUs of one physical CPU, earliest first: a binary heap in which every vCPU has at
//! most one entry and knows its place.
//!
//! Nothing is allocated after a slot was added; setting, clearing and taking a deadline cost O(log n).
//!
//! The place of the first is left vacant when it is taken, for the next deadline that is set: who woke sets one
//! when it sleeps again. So the wake-up itself moves nothing, however many wait.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// Place of a vCPU that has no deadline, and the slot of a vacant place.
const NOWHERE: u32 = u32::MAX;

/// What a vacant place at the top holds: earlier than all, so that the order below it needs no exception.
const VACANT: Entry = Entry {
    deadline: 0,
    slot: NOWHERE,
};

#[derive(Clone, Copy)]
struct Entry {
    deadline: u64,
    slot: u32,
}

/// Deadlines in ticks of the system counter, one at most for each slot.
#[derive(Default)]
pub struct TimerQueue {
    /// The first of it may be [`VACANT`].
    heap: Vec<Entry>,
    /// Where in `heap` each slot's entry is.
    place: Vec<u32>,
}

impl TimerQueue {
    /// A queue without slots.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: Vec::new(),
            place: Vec::new(),
        }
    }

    /// Makes room for one more slot and returns its number. Slots are counted from 0.
    pub fn add_slot(&mut self) -> Result<usize, TryReserveError> {
        self.place.try_reserve(1)?;
        let slots = self.place.len().saturating_add(1);
        self.heap
            .try_reserve(slots.saturating_sub(self.heap.len()))?;
        self.place.push(NOWHERE);
        Ok(slots.saturating_sub(1))
    }

    /// How many slots there are.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.place.len()
    }

    /// Whether `slot` has a deadline.
    #[must_use]
    pub fn contains(&self, slot: usize) -> bool {
        self.place.get(slot).is_some_and(|place| *place != NOWHERE)
    }

    /// The earliest deadline.
    #[inline]
    #[must_use]
    pub fn earliest(&self) -> Option<u64> {
        self.first().map(|entry| entry.deadline)
    }

    /// The entry with the earliest deadline: the one at the top, or one of the two below if that is vacant.
    #[inline]
    fn first(&self) -> Option<Entry> {
        let top = *self.heap.first()?;
        if top.slot != NOWHERE {
            return Some(top);
        }
        let left = *self.heap.get(1)?;
        Some(match self.heap.get(2) {
            Some(right) if right.deadline < left.deadline => *right,
            _ => left,
        })
    }

    /// Gives `slot` this deadline instead of any it had. A slot that was never added is ignored.
    pub fn set(&mut self, slot: usize, deadline: u64) {
        let Some(place) = self.place.get(slot).copied() else {
            return;
        };
        if let Some(entry) = self.heap.get_mut(place as usize) {
            entry.deadline = deadline;
            self.settle(place as usize);
        } else if let Some(top) = self.heap.first_mut()
            && top.slot == NOWHERE
        {
            *top = Entry {
                deadline,
                slot: slot as u32,
            };
            self.note(0);
            self.settle(0);
        } else if self.heap.len() < self.place.len() {
            // Room was reserved with the slot.
            let place = self.heap.len();
            self.heap.push(Entry {
                deadline,
                slot: slot as u32,
            });
            self.note(place);
            self.settle(place);
        }
    }

    /// Takes away the deadline of `slot`, if it has one.
    pub fn clear(&mut self, slot: usize) {
        let Some(place) = self.place.get_mut(slot) else {
            return;
        };
        let hole = core::mem::replace(place, NOWHERE) as usize;
        if hole >= self.heap.len() {
            return;
        }
        if hole == 0
            && let Some(top) = self.heap.first_mut()
        {
            *top = VACANT;
            return;
        }
        self.heap.swap_remove(hole);
        if hole < self.heap.len() {
            self.note(hole);
            self.settle(hole);
        }
    }

    /// The slot of the earliest deadline that is not after `now`.
    #[inline]
    #[must_use]
    pub fn first_expired(&self, now: u64) -> Option<usize> {
        let first = self.first()?;
        (first.deadline <= now).then_some(first.slot as usize)
    }

    /// Takes the earliest deadline that is not after `now`, and returns its slot.
    pub fn take_expired(&mut self, now: u64) -> Option<usize> {
        let slot = self.first_expired(now)?;
        self.clear(slot);
        Some(slot)
    }

    fn note(&mut self, place: usize) {
        if let Some(entry) = self.heap.get(place)
            && let Some(slot) = self.place.get_mut(entry.slot as usize)
        {
            *slot = place as u32;
        }
    }

    fn deadline(&self, place: usize) -> Option<u64> {
        self.heap.get(place).map(|entry| entry.deadline)
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.note(one);
        self.note(other);
    }

    /// Moves the entry at `place` up or down until the heap is in order again.
    fn settle(&mut self, mut place: usize) {
        while let Some(parent) = place.checked_sub(1).map(|place| place / 2)
            && self.deadline(parent) > self.deadline(place)
        {
            self.swap(parent, place);
            place = parent;
        }
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let Some(left_deadline) = self.deadline(left) else {
                return;
            };
            let right = left.saturating_add(1);
            let child = match self.deadline(right) {
                Some(right_deadline) if right_deadline < left_deadline => right,
                _ => left,
            };
            if self.deadline(child) >= self.deadline(place) {
                return;
            }
            self.swap(child, place);
            place = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_slot_has_one_deadline() {
        let mut queue = TimerQueue::new();
        let slot = queue.add_slot().unwrap();
        queue.set(slot, 10);
        queue.set(slot, 5);
        assert_eq!(queue.earliest(), Some(5));
        assert_eq!(queue.take_expired(4), None);
        assert_eq!(queue.take_expired(5), Some(slot));
        assert_eq!(queue.take_expired(u64::MAX), None);
        queue.set(7, 1);
        assert_eq!(queue.earliest(), None);
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(
            operations in prop::collection::vec((0_u8..3, 0_usize..21, 0_u64..50), 1..300)
        ) {
            let mut queue = TimerQueue::new();
            for _ in 0..20 {
                queue.add_slot().unwrap();
            }
            let mut model = BTreeMap::new();
            for (kind, slot, time) in operations {
                match kind {
                    0 => {
                        queue.set(slot, time);
                        if slot < 20 {
                            model.insert(slot, time);
                        }
                    }
                    1 => {
                        queue.clear(slot);
                        model.remove(&slot);
                    }
                    _ => match queue.take_expired(time) {
                        Some(slot) => {
                            let deadline = model.remove(&slot).unwrap();
                            prop_assert!(deadline <= time);
                            prop_assert!(model.values().all(|&other| other >= deadline));
                        }
                        None => prop_assert!(model.values().all(|&deadline| deadline > time)),
                    },
                }
                prop_assert_eq!(queue.earliest(), model.values().min().copied());
            }
        }
    }
}
