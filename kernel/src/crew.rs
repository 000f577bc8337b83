//! The first lives of all guests, made by all CPUs: the boot CPU plans one guest after the other and takes for it what
//! memory it needs, and whoever is free zeroes and fills that. The other CPUs have nothing else to do before guests
//! start.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arch::entry::MAX_CPUS;
use arrayvec::ArrayVec;
use sync::SpinLock;

use crate::building::{self, Build, Error};
use crate::cpus;
use crate::machine::Domain;

/// Domains under way at most: one in the hands of each CPU, and one that is offered.
const UNDER_WAY: usize = MAX_CPUS + 1;

/// What came of a domain.
pub(crate) type Built = (&'static Domain, Result<(), Error>);

struct Crew {
    waiting: ArrayVec<(&'static Domain, Build), UNDER_WAY>,
    working: usize,
    built: ArrayVec<Built, UNDER_WAY>,
}

impl Crew {
    /// Tells how many there are, after a change.
    fn count(&self) {
        WAITING.store(self.waiting.len(), Ordering::Release);
        DONE.store(self.built.len(), Ordering::Release);
    }

    /// Whether something is being built, or was and is not taken.
    fn is_under_way(&self) -> bool {
        self.working != 0 || !self.built.is_empty()
    }
}

static CREW: SpinLock<Crew> = SpinLock::new(Crew {
    waiting: ArrayVec::new_const(),
    working: 0,
    built: ArrayVec::new_const(),
});

/// How many wait, and how many are built: looked at without the lock by those that come back again and again, or they
/// would have the lock among themselves. Written under it.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

/// A bit for each CPU that has built a domain.
static BUILDERS: AtomicU32 = AtomicU32::new(0);

/// Whether another domain may be offered before this CPU has built one. Never if it is alone.
pub(crate) fn has_room() -> bool {
    let most = match cpus::all().len() {
        ..2 => 0,
        cpus => cpus.min(MAX_CPUS),
    };
    let crew = CREW.lock();
    crew.waiting.len() + crew.working + crew.built.len() < most
}

/// Gives a domain to whoever is free; it has come so far. No more than one is offered while there is no room.
pub(crate) fn offer(domain: &'static Domain, build: Build) {
    let mut crew = CREW.lock();
    if crew.waiting.try_push((domain, build)).is_err() {
        let _ = crew.built.try_push((domain, Err(Error::NoMemory)));
    }
    crew.count();
    drop(crew);
    arch::cpu::send_event();
}

/// Builds the domain that waits longest; `false` if none does.
pub(crate) fn help() -> bool {
    if WAITING.load(Ordering::Acquire) == 0 {
        return false;
    }
    let mut crew = CREW.lock();
    let Some((domain, build)) = crew.waiting.pop_at(0) else {
        return false;
    };
    crew.working += 1;
    crew.count();
    drop(crew);
    let result = building::complete(domain, build);
    if let Some(cpu) = cpus::this_cpu() {
        BUILDERS.fetch_or(1_u32.wrapping_shl(cpu.index as u32), Ordering::Relaxed);
    }
    let mut crew = CREW.lock();
    crew.working -= 1;
    let _ = crew.built.try_push((domain, result));
    crew.count();
    drop(crew);
    arch::cpu::send_event();
    true
}

/// A domain that was built, or could not be.
fn take() -> Option<Built> {
    let mut crew = CREW.lock();
    let built = crew.built.pop();
    crew.count();
    built
}

/// The next that is built, by this CPU if nobody else is at it; `None` when none is under way.
pub(crate) fn next() -> Option<Built> {
    loop {
        if let Some(built) = take() {
            return Some(built);
        }
        if help() {
            continue;
        }
        if !CREW.lock().is_under_way() {
            return None;
        }
        while DONE.load(Ordering::Acquire) == 0 {
            arch::cpu::wait_for_event();
        }
    }
}

/// CPUs, a bit each; as text their numbers.
pub(crate) struct Builders(u32);

impl fmt::Display for Builders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = (0..MAX_CPUS).filter(|index| self.0 >> index & 1 != 0);
        for (place, number) in numbers.enumerate() {
            let between = if place > 0 { " " } else { "" };
            write!(f, "{between}{number}")?;
        }
        Ok(())
    }
}

/// The CPUs that have built domains.
pub(crate) fn builders() -> Builders {
    Builders(BUILDERS.load(Ordering::Relaxed))
}
