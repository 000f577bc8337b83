//! The short way of a pick, where nobody has a budget: each entry is looked up once. It comes to the same as the general
//! way in `queue` and `choice`; a test compares the two.

use super::entry::State;
use super::ordered::is_before;
use super::queue::{RunQueue, later};
use super::{Pick, Slot};

impl<T: Copy> RunQueue<T> {
    /// Who is to run from `now` on, of those who all share.
    pub(super) fn pick_shared(&mut self, now: u64) -> Pick<T> {
        let ran = now.saturating_sub(self.counted);
        self.counted = self.counted.max(now);
        let first = self.shared.first();
        let mut preempt = self.preempt;
        let mut current = None;
        if let Some(slot) = self.current
            && let Some(entry) = self.entries.get_mut(usize::from(slot.0))
        {
            entry.run(ran);
            let least = match first {
                Some((_, time)) if !is_before(entry.virtual_time, time) => time,
                _ => entry.virtual_time,
            };
            self.floor = later(self.floor, least);
            if let Some((_, time)) = first.filter(|_| self.yields) {
                let after = time.wrapping_add(entry.passed(self.slice));
                entry.virtual_time = later(entry.virtual_time, after);
                preempt = true;
            }
            let may_stay = entry.affinity & self.here != 0;
            current = Some((slot, entry.virtual_time, entry.affinity, may_stay));
        }
        self.preempt = false;
        self.yields = false;
        let over = now.saturating_sub(self.picked) >= self.slice;
        let goes_on =
            current.is_some_and(|(.., may_stay)| first.is_none() || !over && !preempt && may_stay);
        if !goes_on {
            self.picked = now;
            let chosen = match (self.shared.first_for(self.here), current) {
                (Some((slot, time)), Some((_, least, _, may_stay))) => {
                    (!may_stay || !is_before(least, time)).then_some(slot)
                }
                (Some((slot, _)), None) => Some(slot),
                (None, Some(_)) => None,
                (None, None) => first.map(|(slot, _)| slot),
            };
            if let Some(slot) = chosen {
                match current {
                    Some((before, time, affinity, _)) => {
                        self.shared.replace(slot, before.0, time, affinity);
                        if let Some(entry) = self.entries.get_mut(usize::from(before.0)) {
                            entry.state = State::Waiting;
                        }
                    }
                    None => {
                        self.shared.remove(slot);
                    }
                }
                self.current = Some(Slot(slot));
            }
        }
        let mut next = None;
        if let Some(slot) = self.current
            && let Some(entry) = self.entries.get_mut(usize::from(slot.0))
        {
            entry.state = State::Current;
            next = entry.vcpu;
        }
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
