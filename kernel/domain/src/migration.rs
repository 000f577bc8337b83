//! vCPUs move between CPUs, so that none waits while a CPU idles that it may run on.
//!
//! Every CPU has its own run queue. A vCPU has a *home*: the CPU in whose queue it is, or that runs it, or that
//! ran it last. Only one party at a time can change it: who has just made a blocked vCPU ready
//! ([`enqueue`]), or who took a waiting one out of another CPU's queue ([`steal`]).
//!
//! * What wakes goes to its home if that idles, else to another CPU that idles, else it waits at home.
//! * A CPU that has nothing to do says so, and then looks for somebody who waits elsewhere; who puts a vCPU into a
//!   queue does that first, and then looks for a CPU that idles. Whatever the order, one sees the other.
//! * A vCPU whose registers are still in its home is not moved. That CPU stores them when it loads another,
//!   and then offers who waits there ([`offer`]).
//! * A CPU on which some have waited for a slice gives the one that has had least to a CPU whose vCPUs have had more
//!   ([`balance`]).
//! * A CPU whose only vCPU sleeps by a WFI that is not trapped would never be seen to idle: it is told when somebody
//!   waits that it could run, and traps from then on ([`is_alone`]).
//!
//! No two queues' locks are held at once. `tests/loom.rs` tries the orders, `migration_tests.rs` the promise.

use crate::sched::{RunQueue, Slot, VirtualTime};

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Some of the CPUs 0 to 63.
pub struct CpuSet(AtomicU64);

impl CpuSet {
    /// None.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// None.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn bits(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn insert(&self, cpu: usize) {
        self.0.fetch_or(bit(cpu), Ordering::SeqCst);
    }

    fn remove(&self, cpu: usize) -> bool {
        self.bits() & bit(cpu) != 0 && self.0.fetch_and(!bit(cpu), Ordering::SeqCst) & bit(cpu) != 0
    }

    /// Takes one of `allowed` out.
    fn take(&self, allowed: u64) -> Option<usize> {
        loop {
            let cpu = (self.bits() & allowed).trailing_zeros() as usize;
            if cpu >= 64 {
                return None;
            }
            if self.remove(cpu) {
                return Some(cpu);
            }
        }
    }
}

impl Default for CpuSet {
    fn default() -> Self {
        Self::new()
    }
}

/// What the CPUs say to each other about their load.
#[derive(Default)]
pub struct Load {
    /// Have nothing to run, and sleep or are about to.
    idle: CpuSet,
    /// Leave the WFI of their only vCPU alone.
    lone: CpuSet,
}

impl Load {
    /// All are busy.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            idle: CpuSet::new(),
            lone: CpuSet::new(),
        }
    }
}

/// The CPUs of the machine and the vCPUs on them. CPUs have numbers below 64.
pub trait Cpus {
    /// A reference to a vCPU.
    type Vcpu: Copy;

    /// CPUs have numbers below this.
    fn count(&self) -> usize;

    /// What they say about their load.
    fn load(&self) -> &Load;

    /// Calls `operation` with a CPU's queue, under its lock. `None` if there is no such CPU.
    fn queue<R>(
        &self,
        cpu: usize,
        operation: impl FnOnce(&mut RunQueue<Self::Vcpu>) -> R,
    ) -> Option<R>;

    /// The same for an operation that changes who waits there: what it comes to is [`settle`]d.
    fn change<R>(
        &self,
        cpu: usize,
        operation: impl FnOnce(&mut RunQueue<Self::Vcpu>) -> R,
    ) -> Option<R>
    where
        Self: Sized,
    {
        self.queue(cpu, |queue| {
            let result = operation(queue);
            settle(self, cpu, queue);
            result
        })
    }

    /// A bit for each CPU that somebody may be able to run on who waits in this CPU's queue. Written under the
    /// lock of the queue.
    fn wanted(&self, cpu: usize) -> Option<&AtomicU64>;

    /// A vCPU's place in the queue of a CPU.
    fn slot(&self, vcpu: Self::Vcpu, cpu: usize) -> Option<Slot>;

    /// A bit for each CPU that the vCPU may run on.
    fn affinity(&self, vcpu: Self::Vcpu) -> u64;

    /// The CPU that it belongs to.
    fn home(&self, vcpu: Self::Vcpu) -> usize;

    /// It belongs to another one now, its alarms too.
    fn set_home(&self, vcpu: Self::Vcpu, cpu: usize);

    /// The system counter.
    fn now(&self) -> u64;

    /// Whether some of its state is still in its home's registers.
    fn is_loaded(&self, vcpu: Self::Vcpu) -> bool;

    /// A vCPU that slept, or was off, waits for a CPU from `now` on. Called under the lock of the queue that it is put
    /// into, and so after what was accounted of it under that lock when it went to sleep there.
    fn is_ready(&self, _vcpu: Self::Vcpu, _now: u64) {}

    /// Makes a CPU look at its queue.
    fn look(&self, cpu: usize);
}

/// Puts a vCPU that the caller has just made ready into a queue.
#[inline]
pub fn enqueue<C: Cpus>(cpus: &C, vcpu: C::Vcpu) {
    let home = cpus.home(vcpu);
    // What is loaded cannot leave, though it may not run there any more: it goes when another is loaded.
    let stays = cpus.is_loaded(vcpu) || cpus.affinity(vcpu) & bit(home) != 0;
    // Mostly all CPUs are busy.
    if stays && cpus.load().idle.bits() == 0 {
        let must_look = cpus.change(home, |queue| {
            cpus.slot(vcpu, home).is_some_and(|slot| {
                let now = cpus.now();
                cpus.is_ready(vcpu, now);
                queue.wake(slot, now)
            })
        });
        if must_look.unwrap_or(false) {
            cpus.look(home);
        }
        // It waits, if no CPU has gone idle since.
        fence(Ordering::SeqCst);
        find_room(cpus, vcpu, home);
    } else {
        enqueue_anywhere(cpus, vcpu, home, stays);
    }
}

/// The same if there may be a better CPU than its home, in whose queue it may wait if it `stays`.
#[cold]
#[inline(never)]
fn enqueue_anywhere<C: Cpus>(cpus: &C, vcpu: C::Vcpu, home: usize, stays: bool) {
    let affinity = cpus.affinity(vcpu);
    let idle = &cpus.load().idle;
    let mut found = (stays && idle.remove(home)).then_some(home);
    if found.is_none() && !cpus.is_loaded(vcpu) {
        found = idle.take(affinity);
    }
    let cpu = match found {
        Some(cpu) => cpu,
        None if stays => home,
        None => any_of(cpus, affinity).unwrap_or(home),
    };
    let time = (cpu != home).then(|| time_of(cpus, vcpu, home));
    if time.is_some() {
        cpus.set_home(vcpu, cpu);
    }
    let must_look = insert(cpus, vcpu, cpu, |queue, slot| {
        let now = cpus.now();
        cpus.is_ready(vcpu, now);
        match time {
            Some(time) => queue.receive(slot, time, now),
            None => queue.wake(slot, now),
        }
    });
    if must_look || found.is_some() {
        cpus.look(cpu);
    }
    if found.is_none() {
        // As above.
        fence(Ordering::SeqCst);
        find_room(cpus, vcpu, cpu);
    }
}

/// How much a vCPU has had that is in no queue, and belongs to a CPU.
fn time_of<C: Cpus>(cpus: &C, vcpu: C::Vcpu, home: usize) -> VirtualTime {
    let time = cpus.queue(home, |queue| {
        cpus.slot(vcpu, home).map(|slot| queue.time_of(slot))
    });
    time.flatten().unwrap_or_default()
}

/// The first CPU of a set that there is.
fn any_of<C: Cpus>(cpus: &C, set: u64) -> Option<usize> {
    (0..cpus.count()).find(|&cpu| set & bit(cpu) != 0 && cpus.wanted(cpu).is_some())
}

/// A vCPU waits on a CPU: one that idles is to take it, or else those are to notice that they do whose only vCPU may
/// be asleep.
#[inline]
fn find_room<C: Cpus>(cpus: &C, vcpu: C::Vcpu, on: usize) {
    let elsewhere = cpus.affinity(vcpu) & !bit(on);
    let Load { idle, lone } = cpus.load();
    if (idle.bits() | lone.bits()) & elsewhere != 0 {
        send_for_room(cpus, elsewhere);
    }
}

#[cold]
#[inline(never)]
fn send_for_room<C: Cpus>(cpus: &C, elsewhere: u64) {
    let Load { idle, lone } = cpus.load();
    if let Some(other) = idle.take(elsewhere) {
        cpus.look(other);
        return;
    }
    while let Some(other) = lone.take(elsewhere) {
        cpus.look(other);
    }
}

/// Into the queue of a CPU, as `arrive` does it under the lock; whether that CPU has to look.
fn insert<C: Cpus>(
    cpus: &C,
    vcpu: C::Vcpu,
    cpu: usize,
    arrive: impl FnOnce(&mut RunQueue<C::Vcpu>, Slot) -> bool,
) -> bool {
    let must_look = cpus.change(cpu, |queue| {
        cpus.slot(vcpu, cpu).is_some_and(|slot| arrive(queue, slot))
    });
    must_look.unwrap_or(false)
}

/// Says, under the lock of a CPU's queue, for whom those who wait in it might be. To be called when the queue was
/// changed.
pub fn settle<C: Cpus>(cpus: &C, cpu: usize, queue: &RunQueue<C::Vcpu>) {
    if let Some(wanted) = cpus.wanted(cpu) {
        settle_in(wanted, queue);
    }
}

/// The same for who has the word at hand.
#[inline]
pub fn settle_in<T: Copy>(wanted: &AtomicU64, queue: &RunQueue<T>) {
    wanted.store(queue.wanted(), Ordering::Relaxed);
}

/// A CPU has nothing to do: it says so, and takes somebody who waits elsewhere into its queue. `false`, and it is
/// known to idle, if there is nobody.
pub fn steal<C: Cpus>(cpus: &C, cpu: usize) -> bool {
    cpus.load().idle.insert(cpu);
    fence(Ordering::SeqCst);
    for other in (0..cpus.count()).filter(|&other| other != cpu) {
        if !is_wanted(cpus, other, cpu) {
            continue;
        }
        let taken = cpus.queue(other, |queue| {
            let (slot, vcpu) = queue.first_for(bit(cpu), |vcpu| !cpus.is_loaded(vcpu))?;
            let time = queue.take(slot, cpus.now())?;
            settle(cpus, other, queue);
            Some((vcpu, time))
        });
        if let Some((vcpu, time)) = taken.flatten() {
            cpus.load().idle.remove(cpu);
            bring(cpus, vcpu, cpu, time);
            return true;
        }
    }
    false
}

/// Puts a vCPU, which the caller has taken out of another CPU's queue, into this one's.
#[inline(never)]
fn bring<C: Cpus>(cpus: &C, vcpu: C::Vcpu, cpu: usize, time: VirtualTime) -> bool {
    cpus.set_home(vcpu, cpu);
    insert(cpus, vcpu, cpu, |queue, slot| {
        queue.receive(slot, time, cpus.now())
    })
}

/// Some have waited on a CPU for a slice or longer: who has had least of them goes where those who run have had more,
/// by a slice at least. So all that may run on the same CPUs get their shares of them together, not each of one CPU. To be
/// called when [`Pick::crowded`](crate::sched::Pick::crowded) says so.
pub fn balance<C: Cpus>(cpus: &C, cpu: usize) {
    if cpus.count() < 2 {
        return;
    }
    let is_free = |vcpu| !cpus.is_loaded(vcpu);
    let found = cpus.queue(cpu, |queue| {
        let stranger = queue.stranger(is_free);
        let (slot, vcpu) = stranger.or_else(|| queue.first_for(!bit(cpu), is_free))?;
        let (time, slice) = (queue.time_of(slot), queue.slice());
        Some((slot, vcpu, time, stranger.is_none().then_some(slice)))
    });
    let Some((slot, vcpu, time, least_gain)) = found.flatten() else {
        return;
    };
    let now = cpus.now();
    let elsewhere = cpus.affinity(vcpu) & !bit(cpu);
    let mut best: Option<(usize, VirtualTime)> = None;
    for other in (0..cpus.count()).filter(|&other| elsewhere & bit(other) != 0) {
        let least = cpus.queue(other, |queue| {
            queue.catch_up(time);
            queue.least_time(now)
        });
        if let Some(least) = least.flatten()
            && best.is_none_or(|(_, most)| most.is_behind(least, 1))
        {
            best = Some((other, least));
        }
    }
    let to = match (best, least_gain) {
        (Some((other, least)), Some(gain)) => time.is_behind(least, gain).then_some(other),
        // It may not stay.
        (Some((other, _)), None) => Some(other),
        (None, None) => any_of(cpus, elsewhere),
        // Nobody shares there: that CPU is busy with who comes first, or takes it by itself.
        (None, Some(_)) => None,
    };
    let Some(to) = to else { return };
    let taken = cpus.queue(cpu, |queue| {
        if cpus.is_loaded(vcpu) {
            return None;
        }
        let time = queue.take(slot, now)?;
        settle(cpus, cpu, queue);
        Some(time)
    });
    if let Some(time) = taken.flatten() {
        bring(cpus, vcpu, to, time);
        cpus.load().idle.remove(to);
        cpus.look(to);
    }
}

/// A CPU has chosen whom it runs, and stored the state of whom it ran: whoever waits in its queue may go elsewhere.
/// If it `idled` somebody may have counted on it who waits in another queue still.
#[inline]
pub fn offer<C: Cpus>(cpus: &C, cpu: usize, idled: bool) {
    if idled {
        return offer_all(cpus, cpu);
    }
    fence(Ordering::SeqCst);
    let Load { idle, lone } = cpus.load();
    // Mostly all CPUs are busy.
    if (idle.bits() | lone.bits()) & !bit(cpu) != 0 {
        offer_from(cpus, cpu);
    }
}

#[cold]
#[inline(never)]
fn offer_all<C: Cpus>(cpus: &C, cpu: usize) {
    cpus.load().idle.remove(cpu);
    fence(Ordering::SeqCst);
    (0..cpus.count()).for_each(|other| offer_from(cpus, other));
}

#[inline(never)]
fn offer_from<C: Cpus>(cpus: &C, cpu: usize) {
    let Load { idle, lone } = cpus.load();
    let wanted = cpus
        .wanted(cpu)
        .map_or(0, |wanted| wanted.load(Ordering::Relaxed));
    if (idle.bits() | lone.bits()) & wanted & !bit(cpu) == 0 {
        return;
    }
    let waiting = cpus.queue(cpu, |queue| (queue.wanted() & !bit(cpu), queue.waiting()));
    let Some((wanted, mut waiting)) = waiting else {
        return;
    };
    // No more CPUs than wait. If one of them is of no use to whom another would have been, those who take somebody
    // offer again what is left.
    while waiting > 0
        && let Some(other) = idle.take(wanted)
    {
        cpus.look(other);
        waiting = waiting.saturating_sub(1);
    }
    if waiting == 0 {
        return;
    }
    while let Some(other) = lone.take(wanted) {
        cpus.look(other);
    }
}

/// Whether a CPU, in whose queue nobody waits if `alone`, need not notice when the vCPU that it runs sleeps: nobody
/// waits elsewhere who could take its place. When that changes the CPU is told.
pub fn is_alone<C: Cpus>(cpus: &C, cpu: usize, alone: bool) -> bool {
    let lone = &cpus.load().lone;
    if alone {
        if lone.bits() & bit(cpu) == 0 {
            lone.insert(cpu);
        }
        fence(Ordering::SeqCst);
        let mut others = (0..cpus.count()).filter(|&other| other != cpu);
        if !others.any(|other| is_wanted(cpus, other, cpu)) {
            return true;
        }
    }
    lone.remove(cpu);
    false
}

/// Whether somebody may wait in the queue of `other` who could run on `cpu`.
fn is_wanted<C: Cpus>(cpus: &C, other: usize, cpu: usize) -> bool {
    cpus.wanted(other)
        .is_some_and(|wanted| wanted.load(Ordering::Relaxed) & bit(cpu) != 0)
}

/// The bit of a CPU.
#[must_use]
pub const fn bit(cpu: usize) -> u64 {
    1_u64.wrapping_shl(cpu as u32)
}

#[cfg(all(test, not(loom)))]
#[path = "migration_tests.rs"]
mod tests;
