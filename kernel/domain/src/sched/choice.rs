//! Inside a run queue: whose turn it is, and where those stand who wait.

use super::Slot;
use super::entry::{Entry, State};
use super::ordered::is_before;
use super::queue::{RunQueue, later};

impl<T: Copy> RunQueue<T> {
    /// Those whose next period has come have budget again.
    pub(super) fn replenish(&mut self, now: u64) {
        while let Some(slot) = self.replenishments.take_expired(now) {
            let slot = Slot(slot as u16);
            let waits = self.is(slot, State::Waiting);
            if waits {
                self.unlink(slot);
            }
            if let Some(server) = self.entry(slot).and_then(|entry| entry.server.as_mut()) {
                server.replenish(now);
            }
            if waits {
                self.link(slot);
            }
        }
    }

    /// If the current one has used up its budget, it shares from here on, until its next period.
    pub(super) fn spend(&mut self) {
        let Some(slot) = self.current else { return };
        if self.replenishments.contains(usize::from(slot.0)) {
            return;
        }
        let floor = self.floor;
        if let Some(entry) = self.entry(slot)
            && let Some(server) = entry.server.filter(|server| server.is_exhausted())
        {
            entry.virtual_time = later(entry.virtual_time, floor);
            self.replenishments
                .set(usize::from(slot.0), server.deadline());
            self.preempt = true;
        }
    }

    /// The current one has yielded: it comes behind those that are as far as the first, as if it had had a slice of its
    /// own, and no further behind however often it yields.
    pub(super) fn step_back(&mut self) {
        let (slice, first) = (self.slice, self.shared.first());
        if let Some(first) = first
            && let Some(entry) = self.current.and_then(|slot| self.entry(slot))
            && !entry.is_urgent()
        {
            let after = first.key.wrapping_add(entry.passed(slice));
            entry.virtual_time = later(entry.virtual_time, after);
            self.preempt = true;
        }
    }

    /// Whether the current one keeps the CPU, to the end of its slice.
    pub(super) fn goes_on(&self, now: u64) -> bool {
        let Some(current) = self.current.and_then(|slot| self.view(slot)) else {
            return false;
        };
        if !self.urgent.is_empty() || current.is_urgent() {
            return false;
        }
        let over = now.saturating_sub(self.picked) >= self.slice;
        self.shared.is_empty() || !over && !self.preempt && current.affinity & self.here != 0
    }

    /// Who is first of those that wait, if the current one does not come before: by deadline, then by virtual time, of
    /// those that may run here if there are any.
    pub(super) fn choose(&self) -> Option<Slot> {
        let current = self.current.and_then(|slot| self.view(slot));
        let server = current
            .and_then(|entry| entry.server)
            .filter(|server| !server.is_exhausted());
        if let Some(first) = self.urgent.first()
            && server.is_none_or(|server| is_before(first.key, server.deadline()))
        {
            return Some(Slot(first.slot));
        }
        if server.is_some() {
            return None;
        }
        let here = self.shared.first_for(self.here);
        match (here, current) {
            (Some(first), Some(current)) => {
                let may_stay = current.affinity & self.here != 0;
                (!may_stay || !is_before(current.virtual_time, first.key))
                    .then_some(Slot(first.slot))
            }
            (Some(first), None) => Some(Slot(first.slot)),
            (None, Some(_)) => None,
            (None, None) => self.shared.first().map(|first| Slot(first.slot)),
        }
    }

    /// Whether one that has just begun to wait is to have the CPU at once.
    pub(super) fn preempts(&self, slot: Slot) -> bool {
        let (Some(new), Some(current)) = (
            self.view(slot),
            self.current.and_then(|slot| self.view(slot)),
        ) else {
            return false;
        };
        match (new.server, current.server) {
            (Some(new), Some(current)) if !new.is_exhausted() && !current.is_exhausted() => {
                is_before(new.deadline(), current.deadline())
            }
            _ if new.is_urgent() || current.is_urgent() => new.is_urgent(),
            _ => {
                let least = current.virtual_time.wrapping_sub(self.slice / 8);
                is_before(new.virtual_time, least)
            }
        }
    }

    /// When to pick again, if others wait.
    pub(super) fn slice_end(&self, now: u64) -> Option<u64> {
        let current = self.current.and_then(|slot| self.view(slot))?;
        if self.nobody_waits() {
            return None;
        }
        let end = match current.server.filter(|server| !server.is_exhausted()) {
            Some(server) => now.saturating_add(server.left()),
            None => self.picked.saturating_add(self.slice),
        };
        let alarm = self.replenishments.earliest();
        Some(alarm.map_or(end, |alarm| alarm.min(end)))
    }

    pub(super) fn is_crowded(&mut self, now: u64) -> bool {
        let long = now.saturating_sub(self.uncrowded) >= self.slice;
        if long || self.shared.is_empty() {
            self.uncrowded = now;
        }
        long && !self.shared.is_empty()
    }

    pub(super) fn view(&self, slot: Slot) -> Option<&Entry<T>> {
        self.entries.get(usize::from(slot.0))
    }

    /// The entry of a slot that is somebody's.
    pub(super) fn entry(&mut self, slot: Slot) -> Option<&mut Entry<T>> {
        self.entries
            .get_mut(usize::from(slot.0))
            .filter(|entry| entry.vcpu.is_some())
    }

    pub(super) fn is(&self, slot: Slot, state: State) -> bool {
        self.view(slot).is_some_and(|entry| entry.state == state)
    }

    /// Puts a vCPU that waits in no tree into that of its class.
    pub(super) fn link(&mut self, slot: Slot) {
        let Some(entry) = self.entry(slot) else {
            return;
        };
        entry.state = State::Waiting;
        let (time, affinity) = (entry.virtual_time, entry.affinity);
        match entry.server {
            Some(server) if !server.is_exhausted() => {
                self.urgent.insert(slot.0, server.deadline(), affinity);
            }
            Some(server) => {
                self.replenishments
                    .set(usize::from(slot.0), server.deadline());
                self.shared.insert(slot.0, time, affinity);
            }
            None => self.shared.insert(slot.0, time, affinity),
        }
    }

    /// Takes a vCPU that waits out of its tree; the caller sets its state.
    pub(super) fn unlink(&mut self, slot: Slot) {
        if !self.shared.remove(slot.0) {
            self.urgent.remove(slot.0);
        }
    }

    pub(super) fn take_out(&mut self, slot: Slot) {
        if self.is(slot, State::Waiting) {
            self.unlink(slot);
        }
        if self.current == Some(slot) {
            self.current = None;
        }
        self.replenishments.clear(usize::from(slot.0));
        if let Some(entry) = self.entry(slot) {
            entry.state = State::Blocked;
        }
    }
}
