//! Which interrupts go into the list registers: a pure function of the candidates and the room.
//!
//! The most urgent go first. Where not all fit, at least one that is pending gets in, so that a guest
//! that keeps many interrupts active (EOImode 1) still receives; what is left out comes in by a
//! maintenance interrupt.

use crate::identity::IntId;
use crate::list::{MAX_LISTS, Maintenance};

/// An interrupt that wants a list register. They sort by priority, at equal priority the active ones
/// first (they end first), then by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Candidate(u32);

impl Candidate {
    /// The interrupt, its priority, and whether it is active.
    #[must_use]
    pub const fn new(intid: IntId, priority: u8, active: bool) -> Self {
        Self(((priority as u32) << 16) | ((!active as u32) << 15) | intid.get())
    }

    /// The interrupt.
    #[must_use]
    pub const fn intid(self) -> Option<IntId> {
        IntId::new(self.0 & 0x7fff)
    }

    const fn is_active(self) -> bool {
        self.0 & (1 << 15) == 0
    }
}

/// The interrupts chosen, most urgent first, and what to be told of about those left out.
#[derive(Clone, Debug)]
pub struct Choice {
    chosen: [Candidate; MAX_LISTS],
    length: usize,
    capacity: usize,
    /// The most urgent pending one that found no room.
    left_pending: Option<Candidate>,
    left_active: bool,
}

impl Choice {
    /// Room for `capacity` interrupts, [`MAX_LISTS`] at most.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self {
            chosen: [Candidate(0); MAX_LISTS],
            length: 0,
            capacity: if capacity < MAX_LISTS {
                capacity
            } else {
                MAX_LISTS
            },
            left_pending: None,
            left_active: false,
        }
    }

    /// One more candidate.
    #[inline]
    pub fn offer(&mut self, candidate: Candidate) {
        if self.length < self.capacity {
            self.length = self.length.wrapping_add(1);
        } else {
            match self.chosen.get(self.capacity.wrapping_sub(1)) {
                Some(&last) if candidate < last => self.leave_out(last),
                _ => return self.leave_out(candidate),
            }
        }
        // Insertion into the sorted part; the last place is free.
        let mut place = self.length.wrapping_sub(1);
        while place > 0 {
            let before = place.wrapping_sub(1);
            match self.chosen.get(before).copied() {
                Some(other) if candidate < other => self.put(place, other),
                _ => break,
            }
            place = before;
        }
        self.put(place, candidate);
    }

    /// Nothing more comes. Sees to it that one that is pending got in, if there is any.
    pub fn close(&mut self) {
        let Some(pending) = self.left_pending else {
            return;
        };
        if self.length == 0 || self.chosen().iter().any(|candidate| !candidate.is_active()) {
            return;
        }
        // All places are taken by active ones: the least urgent of them gives way. Others that are
        // pending may be left out still, so the pending one stays counted as left out; the worst that
        // follows is a maintenance interrupt too many.
        self.left_active = true;
        self.put(self.length.wrapping_sub(1), pending);
    }

    /// The interrupts chosen.
    #[must_use]
    pub fn chosen(&self) -> &[Candidate] {
        self.chosen.get(..self.length).unwrap_or_default()
    }

    /// The maintenance interrupts that bring in the others.
    #[must_use]
    pub const fn maintenance(&self) -> Maintenance {
        match (self.left_pending.is_some(), self.left_active) {
            (false, false) => Maintenance::NONE,
            (true, false) => Maintenance::NONE_PENDING,
            (false, true) => Maintenance::UNLISTED_END,
            (true, true) => Maintenance::NONE_PENDING.union(Maintenance::UNLISTED_END),
        }
    }

    fn leave_out(&mut self, candidate: Candidate) {
        if candidate.is_active() {
            self.left_active = true;
        } else if self.left_pending.is_none_or(|other| candidate < other) {
            self.left_pending = Some(candidate);
        }
    }

    fn put(&mut self, place: usize, candidate: Candidate) {
        if let Some(slot) = self.chosen.get_mut(place) {
            *slot = candidate;
        }
    }
}

/// Chooses among all candidates at once.
#[must_use]
pub fn choose(candidates: impl IntoIterator<Item = Candidate>, capacity: usize) -> Choice {
    let mut choice = Choice::new(capacity);
    for candidate in candidates {
        choice.offer(candidate);
    }
    choice.close();
    choice
}
