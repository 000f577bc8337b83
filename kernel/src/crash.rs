//! What is told of a guest that fails: at its end its vCPUs' registers are kept, and the first step of its job makes a
//! report of them (`domain::report`). That is told line by line as the console has room: before the domain is said to have
//! stopped, or between guests if it lives again, which does not wait for it. It stays for the shell's `info`.

use core::sync::atomic::Ordering;

use crate::say::error;
use arch::context::Snapshot;
use arch::vectors;
use arrayvec::{ArrayString, ArrayVec};
use domain::life::{Cause, State};
use domain::lifecycle::{Power, ShutdownReason};
use domain::report::{Registers, Report, Syndrome};
use shell::cut;
use vgic::VcpuId;

use crate::cpus;
use crate::machine::{Culprit, Domain, Vcpu};
use crate::{console, interrupts, lifecycle};

/// Failures in a row that are reported in full: a guest that fails at once, each time, has nothing new to tell, and the
/// console is others' as well.
const IN_FULL: u32 = 3;

/// The guest that is loaded did, by the exit that is being served, what no guest can go on after.
#[cold]
pub(crate) fn crash(vcpu: &'static Vcpu, reason: &'static str, esr: u64) {
    let (far, hpfar) = vectors::fault_address();
    let syndrome = Syndrome { esr, far, hpfar };
    fail(vcpu, reason, Some(syndrome));
}

/// The guest is to end for something else than the exit that is being served.
#[cold]
pub(crate) fn fail(vcpu: &'static Vcpu, reason: &'static str, syndrome: Option<Syndrome>) {
    let mut culprit = vcpu.domain.culprit.lock();
    if culprit.is_none() {
        *culprit = Some(Culprit {
            vcpu: vcpu.id,
            reason,
            syndrome,
        });
    }
    drop(culprit);
    error!("{}: vCPU {} crashed: {reason}", vcpu.domain.name, vcpu.id);
    lifecycle::shut_down(vcpu.domain, ShutdownReason::Crash);
}

/// The domain is about to be ended from outside: the first vCPU that runs is what it is reported with.
pub(crate) fn note_end(domain: &'static Domain, cause: Cause) {
    if !cause.keeps_registers() {
        return;
    }
    let reason = match cause {
        Cause::Guest(ShutdownReason::Watchdog) => "its watchdog ran out",
        Cause::Guest(_) => "it recorded a crash",
        Cause::NoAnswer => "it was asked to shut down, and did not",
        _ => "ended by the operator",
    };
    let mut culprit = domain.culprit.lock();
    if culprit.is_none() {
        let runs = |vcpu: &&Vcpu| vcpu.run.power() == Power::Running;
        let all = domain.vcpus();
        *culprit = all.iter().find(runs).or(all.first()).map(|vcpu| Culprit {
            vcpu: vcpu.id,
            reason,
            syndrome: None,
        });
    }
}

/// Whether what a vCPU has in this CPU's registers is to be stored before it is forgotten: its domain has ended.
pub(crate) fn is_to_be_kept(vcpu: &'static Vcpu) -> bool {
    let cause = vcpu.domain.life.lock().cause();
    cause.is_some_and(Cause::keeps_registers)
}

/// A step of the end: the report is put together, from what the vCPUs' contexts have. `false` if some CPU has a few
/// steps to do before that is possible.
pub(crate) fn capture(domain: &'static Domain) -> bool {
    let (cause, row) = {
        let life = domain.life.lock();
        (life.cause(), life.row())
    };
    let keeps = cause.is_some_and(Cause::keeps_registers);
    let Some(culprit) = domain.culprit.lock().filter(|_| keeps) else {
        return true;
    };
    let Some(vcpu) = domain.vcpu(culprit.vcpu) else {
        return true;
    };
    let mut report = match stored(vcpu) {
        Ok(registers) => Report {
            vcpu: vcpu.id.get(),
            reason: culprit.reason,
            registers,
            syndrome: culprit.syndrome,
            figures: vcpu.counters.read(),
            recent: vcpu.recent.read(),
            others: ArrayVec::new(),
        },
        Err(Missing::NotYet) => return false,
        Err(Missing::Off) => return true,
    };
    for other in domain.vcpus() {
        if other.id == culprit.vcpu || report.others.is_full() {
            continue;
        }
        match stored(other) {
            Ok(registers) => {
                let _ = report.others.try_push((other.id.get(), registers.place()));
            }
            Err(Missing::NotYet) => return false,
            Err(Missing::Off) => {}
        }
    }
    let mut kept = domain.report.lock();
    *kept = Some(report);
    if cause.is_some_and(Cause::is_failure) && row < IN_FULL {
        // What was not told of the failure before is told no more.
        if domain.telling.swap(1, Ordering::Relaxed) == 0 {
            console::count_waiting(true);
        }
    }
    true
}

/// What a step of telling came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A line; there may be more.
    Line,
    /// Nothing: the console has no room.
    NoRoom,
    /// All is told.
    All,
}

/// Tells a line of the report, if there is one and the console has room.
pub(crate) fn tell(domain: &'static Domain) -> Told {
    let report = domain.report.lock();
    let line = domain.telling.load(Ordering::Relaxed);
    let Some(number) = line.checked_sub(1) else {
        return Told::All;
    };
    if !console::hypervisor_has_room() {
        return Told::NoRoom;
    }
    let Some(report) = report.as_ref() else {
        return Told::All;
    };
    match report.line(number as usize) {
        Some(text) => {
            error!("{}: vCPU {}: {text}", domain.name, report.vcpu);
            domain
                .telling
                .store(line.saturating_add(1), Ordering::Relaxed);
            Told::Line
        }
        None => {
            domain.telling.store(0, Ordering::Relaxed);
            console::count_waiting(false);
            Told::All
        }
    }
}

/// The same between guests, about a guest that lives again: that does not wait for the console.
pub(crate) fn tell_later(domain: &'static Domain) {
    let is_waited_for = match domain.state() {
        State::Stopping | State::Releasing | State::Building => true,
        State::Delayed { until } => until <= lifecycle::now(),
        State::Waiting | State::Running | State::Paused | State::Stopped => false,
    };
    if !is_waited_for
        && tell(domain) == Told::Line
        && let Some(cpu) = cpus::this_cpu()
    {
        interrupts::send_look(cpu);
    }
}

/// A line of what is known of a guest's last failure, for the operator; `None` behind the last.
pub(crate) fn line<const ROOM: usize>(domain: &Domain, number: usize) -> Option<ArrayString<ROOM>> {
    let report = domain.report.lock();
    let report = report.as_ref()?;
    let line = report.line(number)?;
    Some(cut(&format_args!("vCPU {}: {line}", report.vcpu)))
}

/// Why there are no registers of a vCPU.
enum Missing {
    /// The CPU that it leaves has a few steps to do.
    NotYet,
    /// It was off.
    Off,
}

/// The registers of a vCPU whose domain has ended.
fn stored(vcpu: &'static Vcpu) -> Result<Registers, Missing> {
    // vCPU 0 works for the hypervisor by now, whatever it was.
    let is_off = vcpu.id != VcpuId::BOOT && vcpu.run.power() == Power::Off;
    if is_off || vcpu.start.is_set() {
        return Err(Missing::Off);
    }
    match vcpu.context.own() {
        Some(owned) => Ok(registers(&owned.snapshot())),
        None => Err(Missing::NotYet),
    }
}

fn registers(stored: &Snapshot) -> Registers {
    Registers {
        x: stored.x,
        pc: stored.elr_el2,
        pstate: stored.spsr_el2,
        sp_el0: stored.sp_el0,
        sp_el1: stored.sp_el1,
        esr: stored.esr_el1,
        far: stored.far_el1,
        elr: stored.elr_el1,
        spsr: stored.spsr_el1,
        sctlr: stored.sctlr_el1,
        tcr: stored.tcr_el1,
        ttbr0: stored.ttbr0_el1,
        ttbr1: stored.ttbr1_el1,
        vbar: stored.vbar_el1,
    }
}
