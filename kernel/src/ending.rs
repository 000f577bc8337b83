//! The end of a domain, in steps: nobody can reach it any more, and it gives back what it has.
//!
//! Nothing is freed on the way: what the heap gave stays with the domain for another life. Its chunks stay until it is
//! clear that there is none.

use core::sync::atomic::Ordering;

use ::memory::{CHUNK_SIZE, PaRange};
use arch::tlb;
use domain::life::{Next, State};
use xen::Broken;

use crate::building::Build;
use crate::crash::{self, Told};
use crate::hypercalls::Machine;
use crate::jobs::{Job, Progress};
use crate::machine::{self, Domain};
use crate::{assigned, console, frames, lifecycle, memory_map, store, timer};

/// Frames that the domain kept for the hypervisor, released in a step.
const KEPT_STEP: usize = 32;
/// Chunks given back in a step.
const CHUNK_STEP: u16 = 64;

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum End {
    /// No CPU has state of it. What its guest was at is kept, if it did not end by its own will.
    #[default]
    Report,
    /// What would come for it does not.
    Alarms,
    /// Its event channels are taken off those of others.
    Events,
    /// What it has in xenstore is removed, and who watches is told.
    Store,
    /// What another domain has mapped of its frames becomes that domain's empty page, from this handle on.
    Maps { domain: usize, handle: u32 },
    /// What it has mapped of others is given back.
    OwnMaps,
    /// What it wrote last goes to the console.
    Console,
    /// Frames of its RAM that the hypervisor wrote to.
    Kept,
    /// Its second stage is emptied, from this root entry on.
    Tables(usize),
    /// Every CPU is to pass a place where it has nothing of any guest in its hands.
    Grace,
    /// What follows?
    Decide,
    /// It lives again, later.
    Delay,
    /// It does not live again: what it failed with is told.
    Tell,
    /// Its memory goes back to the pool, from this slot on.
    Chunks(u16),
}

fn more(end: End) -> Progress {
    Progress::More(Job::End(end))
}

fn wait(end: End) -> Progress {
    Progress::Wait(Job::End(end))
}

/// A step.
pub(crate) fn step(domain: &'static Domain, end: End) -> Progress {
    match end {
        End::Report => match crash::capture(domain) {
            true => more(End::Alarms),
            false => more(End::Report),
        },
        End::Alarms => {
            domain.vcpus().iter().for_each(timer::forget_all);
            assigned::end(domain);
            more(End::Events)
        }
        End::Events => match domain.xen.disconnect_all(&Machine) {
            true => more(End::Store),
            false => more(End::Events),
        },
        End::Store => {
            if store::remove_some(domain.id) {
                return more(End::Store);
            }
            // From here on nobody finds it, nor begins to use its grants.
            domain.gone.store(true, Ordering::Release);
            domain.xen.close_grants();
            tlb::Stage2::new(domain.vttbr).invalidate_all();
            more(End::Maps {
                domain: 0,
                handle: 0,
            })
        }
        End::Maps {
            domain: number,
            handle,
        } => break_maps(domain, number, handle),
        End::OwnMaps => match domain.xen.release_maps(&Machine) {
            true => more(End::Console),
            false => more(End::OwnMaps),
        },
        End::Console => {
            let left = domain.xen.serve_console(&Machine);
            if domain.xen.console_is_drained() {
                console::finish_line(domain.console);
                more(End::Kept)
            } else if left {
                more(End::Console)
            } else {
                // It comes again when the console has room.
                wait(End::Console)
            }
        }
        End::Kept => match frames::let_go_some(domain, KEPT_STEP) {
            true => more(End::Kept),
            false => more(End::Tables(0)),
        },
        End::Tables(from) => {
            let mut holdings = domain.holdings.lock();
            let held = holdings.as_mut();
            match held.and_then(|held| held.stage2.clear_some(from)) {
                Some(next) => more(End::Tables(next)),
                None => {
                    drop(holdings);
                    domain.frames.lock().end();
                    frames::begin_grace(domain);
                    more(End::Grace)
                }
            }
        }
        End::Grace => match frames::is_grace_over(domain) {
            true => more(End::Decide),
            false => wait(End::Grace),
        },
        End::Decide => decide(domain),
        End::Delay => delay(domain),
        End::Tell => match crash::tell(domain) {
            Told::Line => more(End::Tell),
            Told::NoRoom => {
                console::wait(domain);
                wait(End::Tell)
            }
            Told::All => more(End::Chunks(0)),
        },
        End::Chunks(slot) => give_back(domain, slot),
    }
}

/// A step through what the domain with this place in the list has mapped.
fn break_maps(dying: &'static Domain, number: usize, handle: u32) -> Progress {
    let Some(other) = machine::domains().get(number) else {
        return more(End::OwnMaps);
    };
    let next = End::Maps {
        domain: number + 1,
        handle: 0,
    };
    if core::ptr::eq(*other, dying) || !other.xen.may_reach(dying.id) {
        return more(next);
    }
    match other.xen.break_maps(&Machine, dying.id, handle) {
        Broken::All => more(next),
        Broken::Next(handle) => more(End::Maps {
            domain: number,
            handle,
        }),
    }
}

/// All is done that is done at every end. A domain that stays stopped gives back its memory first, and says so
/// afterwards.
fn decide(domain: &'static Domain) -> Progress {
    let mut life = domain.life.lock();
    // What it would say.
    let mut tried = *life;
    match tried.released(lifecycle::now()) {
        Next::Again { .. } => {
            *life = tried;
            drop(life);
            lifecycle::tell_restart(domain);
            more(End::Delay)
        }
        Next::Stay | Next::GaveUp => more(End::Tell),
    }
}

/// It waits for its time, if nobody has changed his mind.
fn delay(domain: &'static Domain) -> Progress {
    let mut life = domain.life.lock();
    let begins = match life.state() {
        State::Delayed { until } if until > lifecycle::now() => {
            drop(life);
            timer::arm_restart(domain, until);
            return wait(End::Delay);
        }
        State::Delayed { .. } => life.start().is_ok(),
        state => state == State::Building,
    };
    drop(life);
    if begins {
        return Progress::More(Job::Build(Build::default()));
    }
    more(End::Decide)
}

fn give_back(domain: &'static Domain, slot: u16) -> Progress {
    if !domain.recipe.config.static_memory.is_empty() {
        // What was promised to it nobody else gets.
        console::close(domain.console);
        return Progress::Stopped;
    }
    let end = slot.saturating_add(CHUNK_STEP);
    let mut frames = domain.frames.lock();
    for slot in slot..end {
        if let Some(chunk) = frames.leave(slot)
            && let Some(whole) = PaRange::new(chunk, CHUNK_SIZE)
        {
            memory_map::pool().give_back(&[whole]);
        }
    }
    if usize::from(end) < frames.slots() {
        return more(End::Chunks(end));
    }
    drop(frames);
    console::close(domain.console);
    Progress::Stopped
}
