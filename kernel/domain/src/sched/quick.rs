//! The short ways of a pick, a wake-up and a sleep, where nobody has a budget: each entry is looked up once. They come to
//! the same as the general ways in `queue` and `choice`; a test compares the two.

use super::entry::State;
use super::ordered::{First, is_before};
use super::queue::{RunQueue, later};
use super::{Pick, Slot};

impl<T: Copy> RunQueue<T> {
    /// Who is to run from `now` on, of those who all share.
    #[inline]
    pub(super) fn pick_shared(&mut self, now: u64) -> Pick<T> {
        let ran = now.saturating_sub(self.counted);
        self.counted = self.counted.max(now);
        let yields = core::mem::take(&mut self.yields);
        let preempt = core::mem::take(&mut self.preempt);
        let Some((slot, current)) = self.current.and_then(|slot| {
            let entry = self.entries.get_mut(usize::from(slot.0))?;
            Some((slot, entry))
        }) else {
            return self.pick_for_nobody(now);
        };
        current.run(ran);
        let Some(first) = self.shared.first() else {
            self.floor = later(self.floor, current.virtual_time);
            self.uncrowded = now;
            return Pick {
                next: current.vcpu,
                slice_end: None,
                alone: true,
                crowded: false,
            };
        };
        let least = earlier(current.virtual_time, first.key);
        self.floor = later(self.floor, least);
        if yields {
            let after = first.key.wrapping_add(current.passed(self.slice));
            current.virtual_time = later(current.virtual_time, after);
        }
        let may_stay = current.affinity & self.here != 0;
        let over = now.saturating_sub(self.picked) >= self.slice;
        let mut next = current.vcpu;
        if over || preempt || yields || !may_stay {
            self.picked = now;
            let first = if first.mask & self.here != 0 {
                Some(first)
            } else {
                self.shared.first_for(self.here)
            };
            if let Some(First {
                slot: first, key, ..
            }) = first
                && !(may_stay && is_before(current.virtual_time, key))
            {
                current.state = State::Waiting;
                let (time, affinity) = (current.virtual_time, current.affinity);
                self.shared.replace(first, slot.0, time, affinity);
                next = self.begin(Slot(first));
            }
        }
        self.picked(next, now)
    }

    /// The same where nobody has run: who is first begins, and better one that may run here.
    fn pick_for_nobody(&mut self, now: u64) -> Pick<T> {
        self.picked = now;
        let first = self.shared.first_for(self.here);
        let next = first.or_else(|| self.shared.first()).and_then(|first| {
            self.shared.remove(first.slot);
            self.begin(Slot(first.slot))
        });
        self.picked(next, now)
    }

    /// A vCPU that has been taken out of those that wait is the current one from now on.
    #[inline]
    fn begin(&mut self, slot: Slot) -> Option<T> {
        self.current = Some(slot);
        let entry = self.entries.get_mut(usize::from(slot.0))?;
        entry.state = State::Current;
        entry.vcpu
    }

    #[inline]
    fn picked(&mut self, next: Option<T>, now: u64) -> Pick<T> {
        let alone = self.shared.is_empty();
        let waited_for = next.is_some() && !alone;
        Pick {
            next,
            slice_end: waited_for.then_some(self.picked.saturating_add(self.slice)),
            alone,
            crowded: self.is_crowded(now),
        }
    }

    /// Counts the current vCPU's time up to now: how much it has had.
    #[inline]
    fn count_shared(&mut self, now: u64) -> Option<u64> {
        let ran = now.saturating_sub(self.counted);
        self.counted = self.counted.max(now);
        let current = self.entries.get_mut(usize::from(self.current?.0))?;
        current.run(ran);
        Some(current.virtual_time)
    }

    /// A vCPU that was blocked can run from `now` on; `settle` says what its virtual time is to be.
    #[inline]
    pub(super) fn arrive_shared(
        &mut self,
        slot: Slot,
        now: u64,
        settle: impl FnOnce(&Self, bool, u64) -> u64,
    ) -> bool {
        let ran = self.count_shared(now);
        let first = self.shared.first().map(|first| first.key);
        let least = |time: u64| first.map_or(time, |first| earlier(time, first));
        if let Some(ran) = ran {
            self.floor = later(self.floor, least(ran));
        }
        let Some(before) = self.view(slot).map(|entry| entry.virtual_time) else {
            return false;
        };
        let time = settle(self, ran.is_some() || first.is_some(), before);
        if ran.is_none() {
            self.floor = later(self.floor, least(time));
        }
        let Some(entry) = self.entries.get_mut(usize::from(slot.0)) else {
            return false;
        };
        entry.virtual_time = time;
        entry.state = State::Waiting;
        self.shared.insert(slot.0, time, entry.affinity);
        let at_once = ran.is_none_or(|ran| is_before(time, ran.wrapping_sub(self.slice / 8)));
        self.preempt |= at_once && ran.is_some();
        at_once || first.is_none()
    }

    /// A vCPU cannot run from `now` on.
    #[inline]
    pub(super) fn block_shared(&mut self, slot: Slot, now: u64) {
        let ran = self.count_shared(now);
        if let Some(ran) = ran {
            let least = self
                .shared
                .first()
                .map_or(ran, |first| earlier(ran, first.key));
            self.floor = later(self.floor, least);
        }
        if self.current == Some(slot) {
            self.current = None;
        } else {
            self.shared.remove(slot.0);
        }
        if let Some(entry) = self
            .entries
            .get_mut(usize::from(slot.0))
            .filter(|entry| entry.vcpu.is_some())
        {
            entry.state = State::Blocked;
        }
    }
}

/// The earlier of two virtual times.
const fn earlier(one: u64, other: u64) -> u64 {
    if is_before(one, other) { one } else { other }
}
