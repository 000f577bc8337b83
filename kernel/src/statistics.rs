//! What was counted of vCPUs and CPUs, to be read at any time and from any CPU. Figures of one call belong together to
//! within the few instructions that it takes.

use core::fmt;
use core::sync::atomic::Ordering;

use crate::say::debug;
use abi::vcpu::{RUNSTATE_OFFLINE, RunstateInfo};
use domain::counters::Figures;
use domain::lifecycle::Power;
use domain::report::Exits;

use crate::cpus;
use crate::hypercalls::nanoseconds;
use crate::machine::{Domain, Vcpu};

/// Nanoseconds that a vCPU spent in each state since its domain was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Times {
    /// On a CPU. A WFI that is not trapped counts as this: EL2 does not see it.
    pub(crate) running: u64,
    /// Waiting for a CPU: what is stolen from it.
    pub(crate) runnable: u64,
    /// Waiting for an event.
    pub(crate) blocked: u64,
    /// Off or paused.
    pub(crate) offline: u64,
}

impl core::ops::Add for Times {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            running: self.running.wrapping_add(other.running),
            runnable: self.runnable.wrapping_add(other.runnable),
            blocked: self.blocked.wrapping_add(other.blocked),
            offline: self.offline.wrapping_add(other.offline),
        }
    }
}

/// A vCPU, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VcpuFigures {
    /// Whether it is on, runs, waits or sleeps.
    pub(crate) power: Power,
    /// It must not run: its domain is paused or ends.
    pub(crate) held: bool,
    /// The CPU in whose queue it is, or that ran it last.
    pub(crate) cpu: usize,
    /// A bit for each CPU that it may run on; bits of CPUs that are not up mean nothing.
    pub(crate) affinity: u64,
    /// What it did with its time.
    pub(crate) times: Times,
    /// Exits by reason, switches, moves.
    pub(crate) counted: Figures,
    /// Interrupts that became pending for it.
    pub(crate) injections: u64,
}

/// The figures of a vCPU.
pub(crate) fn of_vcpu(vcpu: &'static Vcpu) -> VcpuFigures {
    VcpuFigures {
        power: vcpu.run.power(),
        held: vcpu.run.is_held(),
        cpu: vcpu.home().index,
        affinity: vcpu.affinity.load(Ordering::Relaxed),
        times: times(vcpu),
        counted: vcpu.counters.read(),
        injections: vcpu.domain.vgic.arrivals(vcpu.id),
    }
}

/// What a vCPU did with its time up to now.
pub(crate) fn times(vcpu: &'static Vcpu) -> Times {
    let id = abi::VcpuId(vcpu.id.get());
    let record: RunstateInfo = vcpu.domain.xen.runstate(id).unwrap_or_default();
    let ticks = arch::time::counter().wrapping_sub(vcpu.domain.counter_offset());
    // What it has been doing since the last change. After its end nothing changes any more.
    let since = nanoseconds(ticks).saturating_sub(record.state_entry_time);
    let state = if vcpu.domain.is_running() {
        record.state
    } else {
        RUNSTATE_OFFLINE
    };
    let mut time = record.time;
    if let Some(time) = time.get_mut(state as usize) {
        *time = time.wrapping_add(since);
    }
    let [running, runnable, blocked, offline] = time;
    Times {
        running,
        runnable,
        blocked,
        offline,
    }
}

/// What a domain's vCPUs did with their time, together: `running` is its CPU time.
pub(crate) fn times_of_domain(domain: &'static Domain) -> Times {
    let each = domain.vcpus().iter().map(times);
    each.fold(Times::default(), |sum, times| sum + times)
}

/// The CPUs that are up, by number, and the nanoseconds that each slept because nobody could run, up to the last time
/// that it woke.
pub(crate) fn idle_times() -> impl Iterator<Item = (usize, u64)> {
    let all = cpus::all().iter();
    all.map(|cpu| (cpu.index, nanoseconds(cpu.idle_ticks.get())))
}

/// Nanoseconds since the system counter began.
pub(crate) fn uptime() -> u64 {
    nanoseconds(arch::time::counter())
}

impl fmt::Display for Times {
    /// In microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ran, waited, slept, off] =
            [self.running, self.runnable, self.blocked, self.offline].map(|time| time / 1000);
        write!(f, "ran {ran} us, waited {waited}, slept {slept}, off {off}")
    }
}

impl fmt::Display for VcpuFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = if self.held { ", held" } else { "" };
        let (power, cpu, affinity, times) = (self.power, self.cpu, self.affinity, self.times);
        write!(f, "{power:?}{held}, CPU {cpu} of {affinity:#x}, {times}")?;
        let Figures {
            switches, moves, ..
        } = self.counted;
        let injections = self.injections;
        write!(
            f,
            "; {switches} switches, {moves} moves, {injections} interrupts;"
        )?;
        write!(f, " {}", Exits(self.counted))
    }
}

/// A domain's last figures, for `loglvl=debug`.
pub(crate) fn tell(domain: &'static Domain) {
    debug!("{}: {}", domain.name, times_of_domain(domain));
    for vcpu in domain.vcpus() {
        debug!("{}: vCPU {}: {}", domain.name, vcpu.id, of_vcpu(vcpu));
    }
}

/// The same of the CPUs.
pub(crate) fn tell_cpus() {
    let up = uptime() / 1000;
    for cpu in cpus::all() {
        let (index, alarms) = (cpu.index, cpu.alarms.get());
        let slept = nanoseconds(cpu.idle_ticks.get()) / 1000;
        debug!("CPU {index}: slept {slept} us of {up}; its timer went off {alarms} times");
    }
}
