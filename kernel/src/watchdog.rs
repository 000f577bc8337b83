//! The board's watchdog: fed while all guests live that the tree calls critical, so that a board without one of them
//! starts again, as one whose hypervisor hangs does.
//!
//! Where the board has none that EL2 drives, EL2 itself starts it again at the same time: that helps when a guest is
//! gone, and not when EL2 is. The first CPU feeds.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::say::{error, info, warn};
use devtree::guest::DomainConfig;
use domain::life::State;

use crate::cpus::{self, Cpu};
use crate::machine::{self, Domain};
use crate::{console, power};

/// Seconds from the last feeding to the reset: less than the 16 that a BCM2711's counts at most.
const PATIENCE: u64 = 10;
/// Seconds between two looks at the guests.
const ROUND: u64 = 2;

const NEVER: u64 = u64::MAX;

/// When the guests are looked at next; ticks of the system counter.
static NEXT: AtomicU64 = AtomicU64::new(NEVER);
/// When the board starts again, if nobody feeds.
static END: AtomicU64 = AtomicU64::new(NEVER);
/// It has been said that it will.
static SAID: AtomicBool = AtomicBool::new(false);

/// Names of guests, with commas between.
struct Names<I>(I);

impl<'a, I: Iterator<Item = &'a str> + Clone> fmt::Display for Names<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.0.clone().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

fn critical() -> impl Iterator<Item = &'static Domain> + Clone {
    let all = machine::domains().iter().copied();
    all.filter(|domain| domain.recipe.config.life.critical)
}

/// Starts it, when all guests are built that are built at boot.
pub(crate) fn start(configs: &[DomainConfig]) {
    let described = configs.iter().filter(|config| config.life.critical);
    let names = described.map(|config| config.name.as_str());
    if names.clone().next().is_none() {
        return;
    }
    let is_built = |name: &&str| critical().any(|domain| domain.name == **name);
    if let Some(missing) = names.clone().find(|name| !is_built(name)) {
        // It would start again for ever, and nobody could read why.
        warn!("watchdog: not started, since {missing} is critical and was left out");
        return;
    }
    let names = Names(names);
    if power::watchdog().is_some() {
        info!("watchdog: the board starts again {PATIENCE} s after the end of any of {names}");
    } else {
        warn!(
            "watchdog: this board has none; the hypervisor starts it again {PATIENCE} s after the end of any of {names}"
        );
    }
    // It is to be read, should the board start again at once.
    console::flush();
    feed(arch::time::counter());
}

/// When this CPU's timer must go off for it; all ones for never.
#[inline]
pub(crate) fn alarm(cpu: &Cpu) -> u64 {
    let next = NEXT.load(Ordering::Relaxed);
    if next == NEVER || is_first(cpu) {
        next
    } else {
        NEVER
    }
}

fn is_first(cpu: &Cpu) -> bool {
    let first = cpus::all().first();
    first.is_some_and(|first| core::ptr::eq(*first, cpu))
}

fn ticks(seconds: u64) -> u64 {
    arch::time::frequency().saturating_mul(seconds)
}

fn feed(now: u64) {
    if let Some(watchdog) = power::watchdog() {
        watchdog.feed(PATIENCE as u32);
    }
    SAID.store(false, Ordering::Relaxed);
    END.store(now.saturating_add(ticks(PATIENCE)), Ordering::Relaxed);
    NEXT.store(now.saturating_add(ticks(ROUND)), Ordering::Relaxed);
}

/// Looks at the guests, if it is time.
#[inline]
pub(crate) fn serve(cpu: &Cpu) {
    if NEXT.load(Ordering::Relaxed) != NEVER {
        look(cpu, arch::time::counter());
    }
}

#[cold]
fn look(cpu: &Cpu, now: u64) {
    if now < NEXT.load(Ordering::Relaxed) || !is_first(cpu) {
        return;
    }
    let gone = |domain: &&Domain| domain.state() == State::Stopped;
    let Some(gone) = critical().find(gone) else {
        if SAID.load(Ordering::Relaxed) {
            info!("watchdog: all critical guests are there again");
        }
        return feed(now);
    };
    let end = END.load(Ordering::Relaxed);
    if now >= end && power::watchdog().is_none() {
        error!("watchdog: the board starts again");
        power::try_reboot();
        error!("watchdog: there is no way to start this board again");
        NEXT.store(NEVER, Ordering::Relaxed);
        return;
    }
    if !SAID.swap(true, Ordering::Relaxed) {
        let left = end.saturating_sub(now) / arch::time::frequency().max(1);
        error!(
            "watchdog: {} is critical and has ended; the board starts again in {left} s, unless it is started",
            gone.name
        );
    }
    NEXT.store(now.saturating_add(ticks(1)), Ordering::Relaxed);
}
