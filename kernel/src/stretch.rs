//! How long each CPU took no interrupts, at most, and what it did meanwhile: for `longest-stretch=on`.
//!
//! EL2 runs with interrupts masked from an exit to the entry that follows, and looks for one between two pieces of its
//! own work and after its sleep ([`breath`]). Exits and entries are told of by the vectors of the trace, which are in force
//! while this is on too; while it is off nothing is in the way of either.

use core::fmt;

use crate::say::info;
use ::domain::exit::{CLASS_DATA_ABORT, CLASS_INSTRUCTION_ABORT, ESR_HYPERCALL, class};
use ::domain::recent::Note;
use arch::context::Arguments;
use arch::{time, vectors};
use core::sync::atomic::{AtomicBool, Ordering};
use sync::SpinLock;

use crate::cpus::{self, Cpu};
use crate::hypercalls::nanoseconds;
use crate::jobs::Job;
use crate::machine::{Domain, Vcpu};
use crate::trace;

/// Kinds of exit, as the vectors tell them.
const SYNCHRONOUS: u64 = 0;
const INTERRUPT: u64 = 1;

static ON: AtomicBool = AtomicBool::new(false);

/// What a CPU does.
#[derive(Clone, Copy)]
enum Doing {
    /// Answers this exit of a guest.
    Exit { domain: u16, note: Note },
    /// Takes an interrupt.
    Interrupt,
    /// Takes a guest's SError.
    SError,
    /// A piece of its own work, or what comes after its sleep.
    Own,
    /// A step of a domain's job.
    Step { domain: u16, job: Job },
}

/// A CPU's part of it.
pub(crate) struct Local(SpinLock<State>);

struct State {
    /// When what it does began, in ticks of the system counter.
    since: Option<u64>,
    doing: Doing,
    longest: u64,
    cause: Doing,
}

impl Local {
    pub(crate) const fn new() -> Self {
        Self(SpinLock::new(State {
            since: None,
            doing: Doing::Own,
            longest: 0,
            cause: Doing::Own,
        }))
    }

    fn begin(&self, doing: Doing) {
        let mut state = self.0.lock();
        state.doing = doing;
        state.since = Some(time::counter());
    }

    fn end(&self) {
        let now = time::counter();
        let mut state = self.0.lock();
        let took = state
            .since
            .take()
            .map_or(0, |since| now.wrapping_sub(since));
        if took > state.longest {
            state.longest = took;
            state.cause = state.doing;
        }
    }
}

/// Whether stretches are measured.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    !cfg!(feature = "untraced") && ON.load(Ordering::Relaxed)
}

/// Measures from now on, if the boot argument says so: before any CPU looks for a guest.
pub(crate) fn start(on: bool) {
    if on {
        ON.store(true, Ordering::Release);
        trace::change_vectors();
    }
}

/// A guest was left, by this `kind` of exit: for the vectors of the trace, which are in force while either is on.
#[inline]
pub(crate) fn exit(cpu: &Cpu, vcpu: &Vcpu, guest: &Arguments, kind: u64, esr: u64) {
    if is_on() {
        return measured_exit(cpu, vcpu, guest, kind, esr);
    }
    trace::points::exit(cpu, vcpu, guest, kind, esr);
}

/// A guest is about to go on; `left` is the one that was left, if it is the same.
#[inline]
pub(crate) fn entry(cpu: &Cpu, left: Option<(&Vcpu, &Arguments)>, kind: u64, esr: u64) {
    if is_on() {
        return measured_entry(cpu, left, kind, esr);
    }
    trace::points::entry(cpu, left, kind, esr);
}

// Functions of their own, so that records alone keep nothing for them.

#[cold]
#[inline(never)]
fn measured_exit(cpu: &Cpu, vcpu: &Vcpu, guest: &Arguments, kind: u64, esr: u64) {
    cpu.stretch.begin(doing(vcpu, guest, kind, esr));
    if trace::is_on() {
        trace::points::exit(cpu, vcpu, guest, kind, esr);
    }
}

#[cold]
#[inline(never)]
fn measured_entry(cpu: &Cpu, left: Option<(&Vcpu, &Arguments)>, kind: u64, esr: u64) {
    if trace::is_on() {
        trace::points::entry(cpu, left, kind, esr);
    }
    cpu.stretch.end();
}

/// The CPU looks for an interrupt in the middle of its own work.
pub(crate) fn breath(cpu: &Cpu) {
    if is_on() {
        cpu.stretch.end();
        cpu.stretch.begin(Doing::Own);
    }
}

/// The CPU is about to sleep, or to run a guest for the first time.
pub(crate) fn pause(cpu: &Cpu) {
    if is_on() {
        cpu.stretch.end();
    }
}

/// The CPU does this step from here on.
pub(crate) fn step(cpu: &Cpu, domain: &Domain, job: Job) {
    if is_on() {
        cpu.stretch.0.lock().doing = Doing::Step {
            domain: domain.id.0,
            job,
        };
    }
}

fn doing(vcpu: &Vcpu, guest: &Arguments, kind: u64, esr: u64) -> Doing {
    let (pc, _) = vectors::return_state();
    let note = match class(esr) {
        _ if kind == INTERRUPT => return Doing::Interrupt,
        _ if kind != SYNCHRONOUS => return Doing::SError,
        _ if esr == ESR_HYPERCALL => Note::call(esr, pc, guest.get::<16>(), guest.get::<0>()),
        CLASS_DATA_ABORT | CLASS_INSTRUCTION_ABORT => {
            let (far, hpfar) = vectors::fault_address();
            Note::abort(esr, pc, far, hpfar)
        }
        _ => Note::call(esr, pc, guest.get::<0>(), guest.get::<1>()),
    };
    Doing::Exit {
        domain: vcpu.domain.id.0,
        note,
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { domain, note } => write!(f, "domain {domain}, {note}"),
            Self::Interrupt => f.write_str("an interrupt"),
            Self::SError => f.write_str("an SError"),
            Self::Own => f.write_str("work of its own"),
            Self::Step { domain, job } => write!(f, "domain {domain}, {job:?}"),
        }
    }
}

/// A line on each CPU.
pub(crate) fn tell() {
    if !is_on() {
        return;
    }
    for cpu in cpus::all() {
        let state = cpu.stretch.0.lock();
        let (longest, cause) = (nanoseconds(state.longest), state.cause);
        drop(state);
        info!(
            "CPU {}: no interrupts for {longest} ns at most: {cause}",
            cpu.index
        );
    }
}
