//! The run queue of one CPU.

use alloc::vec::Vec;

use super::entry::{Entry, State};
use super::ordered::{Ordered, is_before};
use super::{AddError, Parameters, Pick, Slot, VirtualTime};
use crate::timers::TimerQueue;

/// The later of two virtual times.
pub(super) const fn later(one: u64, other: u64) -> u64 {
    if is_before(one, other) { other } else { one }
}

/// The run queue of one CPU.
pub struct RunQueue<T> {
    pub(super) entries: Vec<Entry<T>>,
    pub(super) free: Option<Slot>,
    /// Those that wait and share, by virtual time.
    pub(super) shared: Ordered,
    /// Those that wait and have budget left, by deadline.
    pub(super) urgent: Ordered,
    /// When those that can run and have used up their budget get a new one.
    pub(super) replenishments: TimerQueue,
    pub(super) current: Option<Slot>,
    /// When the current one was picked, and up to when its time is counted.
    pub(super) picked: u64,
    pub(super) counted: u64,
    /// Who woke is to have the CPU.
    pub(super) preempt: bool,
    /// The current one has yielded.
    pub(super) yields: bool,
    /// Some vCPU has, or had, a budget.
    pub(super) has_servers: bool,
    /// No virtual time of those that share lies much before this, and it never goes back.
    pub(super) floor: u64,
    /// What is added to virtual times before they are compared with other CPUs'.
    offset: u64,
    /// When it was last said that the CPU is crowded, or that it was not.
    pub(super) uncrowded: u64,
    pub(super) slice: u64,
    /// The bit of this CPU.
    pub(super) here: u64,
}

impl<T: Copy> RunQueue<T> {
    /// An empty queue of the CPU with number `cpu`, below 64, whose slices are this many ticks ([`slice_ticks`]).
    #[must_use]
    pub const fn new(cpu: usize, slice: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: None,
            shared: Ordered::new(),
            urgent: Ordered::new(),
            replenishments: TimerQueue::new(),
            current: None,
            picked: 0,
            counted: 0,
            preempt: false,
            yields: false,
            has_servers: false,
            floor: 0,
            offset: 0,
            uncrowded: 0,
            slice,
            here: 1_u64.wrapping_shl(cpu as u32),
        }
    }

    /// Gives a vCPU a place; it cannot run until [`wake`](Self::wake). Allocates.
    ///
    /// # Errors
    ///
    /// There is no memory or no number for another place; nothing has changed then.
    pub fn add(&mut self, vcpu: T, parameters: Parameters) -> Result<Slot, AddError> {
        let mut entry = Entry {
            vcpu: Some(vcpu),
            state: State::Blocked,
            affinity: 0,
            pace: 0,
            virtual_time: self.floor,
            rest: 0,
            server: None,
        };
        entry.set(parameters);
        self.has_servers |= entry.server.is_some();
        if let Some(slot) = self.free
            && let Some(place) = self.entries.get_mut(usize::from(slot.0))
            && let State::Free(next) = place.state
        {
            self.free = next;
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
        // What was made before another failed has the number that the next entry will have: it is made once.
        if self.replenishments.slots() == self.entries.len() {
            self.replenishments
                .add_slot()
                .map_err(|_| AddError::NoMemory)?;
        }
        for tree in [&mut self.shared, &mut self.urgent] {
            if tree.slots() == self.entries.len() {
                tree.add_slot().map_err(|_| AddError::NoMemory)?;
            }
        }
        self.entries.push(entry);
        Ok(slot)
    }

    /// Changes how a vCPU is scheduled, from now on. The CPU has to [`pick`](Self::pick).
    pub fn set_parameters(&mut self, slot: Slot, parameters: Parameters, now: u64) {
        self.count(now);
        let waits = self.is(slot, State::Waiting);
        if waits {
            self.unlink(slot);
        }
        self.replenishments.clear(usize::from(slot.0));
        let floor = self.floor;
        let Some(entry) = self.entry(slot) else {
            return;
        };
        // What it has had more than others counts as time of the CPU, and so less at a greater weight: else who had next
        // to none would have to wait for long before it gets its new share.
        let ahead = later(entry.virtual_time, floor).wrapping_sub(floor);
        let ticks = entry.ticks(ahead);
        entry.set(parameters);
        if let Some(server) = &mut entry.server {
            server.arrive(now);
        }
        entry.virtual_time = floor.wrapping_add(entry.passed(ticks));
        let has_server = entry.server.is_some();
        self.has_servers |= has_server;
        if waits {
            self.link(slot);
        }
        self.preempt = true;
    }

    /// A vCPU can run from `now` on. Nothing changes if it could already. Whether the CPU has to
    /// [`pick`](Self::pick) because of it.
    pub fn wake(&mut self, slot: Slot, now: u64) -> bool {
        self.arrive(slot, now, |queue, _, time| later(time, queue.slept()))
    }

    /// A vCPU comes from another CPU's queue, where it had had `time`, and can run. Whether the CPU has to pick.
    pub fn receive(&mut self, slot: Slot, time: VirtualTime, now: u64) -> bool {
        self.arrive(slot, now, |queue, others, _| {
            let time = time.0.wrapping_sub(queue.offset);
            let most = queue.floor.wrapping_add(queue.limit());
            if others && is_before(most, time) {
                return most;
            }
            later(time, queue.floor.wrapping_sub(queue.limit()))
        })
    }

    /// `settle` says what its virtual time is to be: of the queue, whether others share here, and what it was.
    fn arrive(
        &mut self,
        slot: Slot,
        now: u64,
        settle: impl FnOnce(&Self, bool, u64) -> u64,
    ) -> bool {
        if !self.is(slot, State::Blocked) {
            return false;
        }
        if !self.has_servers {
            return self.arrive_shared(slot, now, settle);
        }
        self.count(now);
        let nobody_waited = self.nobody_waits();
        let current = self.current.and_then(|current| self.view(current));
        let others = !self.shared.is_empty() || current.is_some_and(|entry| !entry.is_urgent());
        let before = self.view(slot).map_or(0, |entry| entry.virtual_time);
        let time = settle(self, others, before);
        let Some(entry) = self.entry(slot) else {
            return false;
        };
        entry.virtual_time = time;
        if let Some(server) = &mut entry.server {
            server.arrive(now);
        }
        // Who has no budget left has an alarm for the next one.
        let has_server = entry.server.is_some();
        self.link(slot);
        self.advance_floor();
        let at_once = self.preempts(slot);
        self.preempt |= at_once;
        nobody_waited || at_once || has_server || self.current.is_none()
    }

    /// A vCPU cannot run from `now` on, be it the current one or one that waits.
    #[inline(never)]
    pub fn block(&mut self, slot: Slot, now: u64) {
        if self.has_servers {
            self.count(now);
            self.take_out(slot);
        } else {
            self.block_shared(slot, now);
        }
    }

    /// Takes a vCPU that waits out, to another CPU: how much it has had. `None` if it does not wait.
    pub fn take(&mut self, slot: Slot, now: u64) -> Option<VirtualTime> {
        if !self.waits(slot) {
            return None;
        }
        self.block(slot, now);
        Some(self.time_of(slot))
    }

    /// The current vCPU lets all others that share go first, when the CPU [picks](Self::pick) next. Who has budget left
    /// gives up nothing.
    pub fn yield_now(&mut self) {
        self.yields = self.current.is_some();
    }

    /// Takes a vCPU's place away; its slot is no longer good.
    pub fn remove(&mut self, slot: Slot) {
        self.take_out(slot);
        let free = self.free;
        if let Some(entry) = self.entry(slot) {
            entry.vcpu = None;
            entry.state = State::Free(free);
            self.free = Some(slot);
        }
    }

    /// Who is to run from `now` on.
    #[inline]
    pub fn pick(&mut self, now: u64) -> Pick<T> {
        if self.has_servers {
            self.pick_any(now)
        } else {
            self.pick_shared(now)
        }
    }

    /// The general way of a pick.
    pub(super) fn pick_any(&mut self, now: u64) -> Pick<T> {
        self.count(now);
        self.replenish(now);
        self.spend();
        if self.yields {
            self.step_back();
        }
        if !self.goes_on(now) {
            self.picked = now;
            if let Some(slot) = self.choose() {
                // Taken out first: so the tree is mostly empty when the other goes in.
                self.unlink(slot);
                if let Some(before) = self.current.replace(slot) {
                    self.link(before);
                }
                if let Some(entry) = self.entry(slot) {
                    entry.state = State::Current;
                }
            }
        }
        self.preempt = false;
        self.yields = false;
        Pick {
            next: self.current(),
            slice_end: self.slice_end(now),
            alone: self.is_alone(),
            crowded: self.is_crowded(now),
        }
    }

    /// The vCPU that was picked last and has not blocked or yielded since.
    #[must_use]
    pub fn current(&self) -> Option<T> {
        self.view(self.current?)?.vcpu
    }

    /// Whether who runs may keep the CPU while it sleeps, and yields to nobody: no other waits for it, and it has no
    /// budget that its sleep would use up.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let current = self.current.and_then(|slot| self.view(slot));
        self.nobody_waits() && current.is_none_or(|entry| entry.server.is_none())
    }

    /// Whether nobody waits for the CPU.
    #[inline]
    #[must_use]
    pub fn nobody_waits(&self) -> bool {
        self.shared.is_empty() && self.urgent.is_empty()
    }

    /// A bit for each CPU that somebody may run on who waits and shares.
    #[must_use]
    pub const fn wanted(&self) -> u64 {
        self.shared.masks()
    }

    /// How many wait and share.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.shared.length()
    }

    /// Whether a vCPU waits in this queue.
    #[must_use]
    pub fn waits(&self, slot: Slot) -> bool {
        self.is(slot, State::Waiting)
    }

    /// Of those who wait and share the one that has had least, of those that may run on a CPU of `mask` and that
    /// `accept` does not refuse.
    pub fn first_for(&self, mask: u64, accept: impl Fn(T) -> bool) -> Option<(Slot, T)> {
        let vcpu = |slot: u16| self.view(Slot(slot))?.vcpu;
        let found = self
            .shared
            .find(mask, &mut |slot| vcpu(slot).is_some_and(&accept))?;
        Some((Slot(found), vcpu(found)?))
    }

    /// Who waits here and may not run here, if there is one that `accept` does not refuse.
    pub fn stranger(&self, accept: impl Fn(T) -> bool) -> Option<(Slot, T)> {
        let here = self.here;
        let may_not = |slot: Slot| {
            self.view(slot)
                .is_some_and(|entry| entry.affinity & here == 0)
        };
        let (slot, vcpu) = self.first_for(!here, accept)?;
        may_not(slot).then_some((slot, vcpu))
    }

    /// How much a vCPU has had; who sleeps, as if it woke now.
    #[must_use]
    pub fn time_of(&self, slot: Slot) -> VirtualTime {
        let time = self
            .view(slot)
            .map_or(self.floor, |entry| match entry.state {
                State::Blocked => later(entry.virtual_time, self.slept()),
                _ => entry.virtual_time,
            });
        self.outside(time)
    }

    /// How much has had who has had least of those that share, `now`; `None` if nobody shares.
    pub fn least_time(&mut self, now: u64) -> Option<VirtualTime> {
        self.count(now);
        self.least().map(|time| self.outside(time))
    }

    /// Sets this CPU's virtual clock, if it is further behind `time` than [`limit`](Self::limit), to that: it did not pass
    /// while the CPU idled. Nothing changes between those who are here.
    pub fn catch_up(&mut self, time: VirtualTime) {
        let most = time.0.wrapping_sub(self.limit());
        if let Some(least) = self.least().map(|least| self.outside(least).0)
            && is_before(least, most)
        {
            self.offset = self.offset.wrapping_add(most.wrapping_sub(least));
        }
    }

    /// Virtual time as it is compared with other CPUs'.
    fn outside(&self, time: u64) -> VirtualTime {
        VirtualTime(time.wrapping_add(self.offset))
    }

    /// Virtual time of who wakes and slept for long: what it did not use is gone, but for a slice.
    pub(super) fn slept(&self) -> u64 {
        self.floor.wrapping_sub(self.slice)
    }

    /// How much more or less than others one has had counts at most when it goes to another CPU.
    const fn limit(&self) -> u64 {
        self.slice.saturating_mul(4)
    }

    pub(super) fn least(&self) -> Option<u64> {
        let first = self.shared.first().map(|first| first.key);
        let current = self.current.and_then(|slot| self.view(slot));
        let current = current
            .filter(|entry| !entry.is_urgent())
            .map(|entry| entry.virtual_time);
        match (first, current) {
            (Some(one), Some(other)) if is_before(other, one) => Some(other),
            (first, current) => first.or(current),
        }
    }

    /// Ticks of a slice.
    #[must_use]
    pub const fn slice(&self) -> u64 {
        self.slice
    }

    /// Counts the current vCPU's time up to now.
    pub(super) fn count(&mut self, now: u64) {
        let ran = now.saturating_sub(self.counted);
        self.counted = self.counted.max(now);
        let Some(slot) = self.current else { return };
        let Some(entry) = self.entry(slot) else {
            return;
        };
        match &mut entry.server {
            Some(server) if !server.is_exhausted() => {
                server.charge(ran, now);
            }
            _ => {
                entry.run(ran);
                self.advance_floor();
            }
        }
    }

    pub(super) fn advance_floor(&mut self) {
        if let Some(least) = self.least() {
            self.floor = later(self.floor, least);
        }
    }
}
