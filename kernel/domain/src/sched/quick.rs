//! The short way of a pick, where nobody has a budget: each entry is looked up once. It comes to the same as the general
//! way in `queue` and `choice`; a test compares the two.

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
}

/// The earlier of two virtual times.
const fn earlier(one: u64, other: u64) -> u64 {
    if is_before(one, other) { one } else { other }
}
