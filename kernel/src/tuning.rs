//! How vCPUs are scheduled: what the tree says, and what is changed while they run (weight, affinity, budget).

use core::fmt;
use core::sync::atomic::Ordering;

use devtree::guest::{
    CpuSet, DomainConfig, LEAST_BUDGET, PERIODS, Reservation, Scheduling, WEIGHTS,
};
use devtree::seats::MOST_PROMISED;
use domain::migration::{self, bit};
use domain::sched::{self, Class, Parameters};
use sync::SpinLock;

use crate::cpus::{self, Cpu};
use crate::machine::Vcpu;
use crate::migration::All;
use crate::{interrupts, schedule};

/// One change at a time: what is promised of a CPU is looked at and written under this lock. A CPU's queue is taken inside.
static CHANGES: SpinLock<()> = SpinLock::new(());

/// How a vCPU is scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// Its share of what is left to those that share.
    pub(crate) weight: u16,
    /// A bit for each CPU that it may run on, unless its budget binds it to one.
    pub(crate) affinity: u64,
    /// What it is promised before those.
    pub(crate) reservation: Option<Reservation>,
}

/// A change of it, not checked yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// The weight.
    Weight(u64),
    /// A bit for each CPU; all ones for all that there are.
    Affinity(u64),
    /// Microseconds of every so many microseconds.
    Budget(u64, u64),
    /// No budget.
    NoBudget,
}

/// Why a change is not made. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// There is no such weight.
    Weight(u64),
    /// There is no such period.
    Period(u64),
    /// There is no such budget with that period.
    Budget(u64, u64),
    /// This CPU is not up; these are.
    NotUp(usize, u64),
    /// `sched=null`: vCPUs stay where they are, alone.
    Null,
    /// A real-time vCPU stays on its CPU, and its new affinity does not have that.
    Bound {
        /// That CPU.
        cpu: usize,
    },
    /// Its CPU has not so much left.
    NoTime {
        /// That CPU.
        cpu: usize,
        /// What is left, in millionths.
        free: u32,
    },
    /// It is on its way to another CPU: to be tried again.
    Moving,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Weight(found) => {
                let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
                write!(f, "weight {found}: expected {least} to {most}")
            }
            Self::Period(found) => {
                let (least, most) = (PERIODS.start(), PERIODS.end());
                write!(f, "period {found}: expected {least} to {most} us")
            }
            Self::Budget(found, period) => write!(
                f,
                "budget {found}: expected {LEAST_BUDGET} to {period} us, the period"
            ),
            Self::NotUp(cpu, up) => {
                let up = shell::Cpus {
                    mask: up,
                    count: 64,
                };
                write!(f, "CPU {cpu}: expected CPUs of {up}")
            }
            Self::Null => f.write_str("sched=null: every vCPU has a CPU of its own"),
            Self::Bound { cpu } => {
                write!(f, "a real-time vCPU stays on its CPU, which is {cpu}")
            }
            Self::NoTime { cpu, free } => {
                let (percent, tenths) = (free / 10_000, free / 1_000 % 10);
                write!(f, "CPU {cpu} has only {percent}.{tenths} % left")
            }
            Self::Moving => f.write_str("it is just going to another CPU: try again"),
        }
    }
}

impl Change {
    /// What there is with this change.
    fn on(self, before: Settings) -> Result<Settings, Refusal> {
        let mut after = before;
        match self {
            Self::Weight(weight) => {
                after.weight = u16::try_from(weight)
                    .ok()
                    .filter(|weight| WEIGHTS.contains(weight))
                    .ok_or(Refusal::Weight(weight))?;
            }
            Self::Affinity(mask) => {
                let up = cpus::all().iter().fold(0, |set, cpu| set | bit(cpu.index));
                let missing = mask & !up;
                if mask & up == 0 || missing != 0 && mask != u64::MAX {
                    return Err(Refusal::NotUp(missing.trailing_zeros() as usize, up));
                }
                after.affinity = mask;
            }
            Self::Budget(budget, period) => {
                let length = u32::try_from(period)
                    .ok()
                    .filter(|period| PERIODS.contains(period))
                    .ok_or(Refusal::Period(period))?;
                let budget = u32::try_from(budget).map_err(|_| Refusal::Budget(budget, period))?;
                let reservation = Reservation::new(length, budget);
                let refusal = Refusal::Budget(budget.into(), period);
                after.reservation = Some(reservation.ok_or(refusal)?);
            }
            Self::NoBudget => after.reservation = None,
        }
        Ok(after)
    }
}

impl Settings {
    /// What the tree says of a vCPU.
    pub(crate) fn of(config: &DomainConfig, vcpu: usize) -> Self {
        let Scheduling {
            weight,
            reservation,
        } = config.scheduling.get(vcpu).copied().unwrap_or_default();
        let affinity = config.affinity.get(vcpu).copied().unwrap_or(CpuSet::ALL);
        Self {
            weight,
            affinity: affinity.bits(),
            reservation,
        }
    }

    /// Where it may run if its home is CPU `home`: a real-time vCPU and one of the null scheduler stay there.
    pub(crate) fn affinity_on(&self, home: usize) -> u64 {
        if self.reservation.is_some() || interrupts::no_slices() {
            bit(home)
        } else {
            self.affinity
        }
    }

    /// The same for the run queues.
    pub(crate) fn parameters(&self, home: usize) -> Parameters {
        let ticks = |microseconds: u32| {
            let ticks = u128::from(microseconds) * u128::from(arch::time::frequency()) / 1_000_000;
            (ticks as u64).max(1)
        };
        Parameters {
            weight: self.weight,
            affinity: self.affinity_on(home),
            class: self.reservation.map_or(Class::Shared, |reservation| {
                Class::RealTime(sched::Reservation {
                    period: ticks(reservation.period),
                    budget: ticks(reservation.budget),
                })
            }),
        }
    }
}

/// A vCPU that is being made is promised time of a CPU, which has that much left.
pub(crate) fn promise(cpu: &Cpu, reservation: Option<Reservation>) {
    let share = reservation.map_or(0, Reservation::share);
    cpu.promised.fetch_add(share, Ordering::Relaxed);
}

/// How a vCPU is scheduled now.
pub(crate) fn settings(vcpu: &Vcpu) -> Settings {
    *vcpu.settings.lock()
}

/// Schedules a vCPU otherwise from now on. If it may not stay on its CPU, that sends it elsewhere when it looks.
///
/// # Errors
/// It cannot be.
pub(crate) fn set(vcpu: &'static Vcpu, change: Change) -> Result<(), Refusal> {
    let _one_at_a_time = CHANGES.lock();
    let before = *vcpu.settings.lock();
    let settings = change.on(before)?;
    if interrupts::no_slices() {
        return Err(Refusal::Null);
    }
    let home = vcpu.home();
    let Some(reservation) = settings.reservation else {
        apply(vcpu, settings, home.index);
        take_back(home, before.reservation);
        return Ok(());
    };
    if settings.affinity & bit(home.index) == 0 {
        return Err(Refusal::Bound { cpu: home.index });
    }
    let own = before.reservation.map_or(0, Reservation::share);
    let others = home.promised.load(Ordering::Relaxed).saturating_sub(own);
    let free = MOST_PROMISED.saturating_sub(others);
    if reservation.share() > free {
        let cpu = home.index;
        return Err(Refusal::NoTime { cpu, free });
    }
    if before.reservation.is_none() {
        // First it is bound to its CPU; if it was taken away meanwhile, it comes back, and nothing is promised.
        let bound = Settings {
            affinity: bit(home.index),
            ..before
        };
        apply(vcpu, bound, home.index);
        if !core::ptr::eq(vcpu.home(), home) {
            apply(vcpu, before, home.index);
            return Err(Refusal::Moving);
        }
    }
    home.promised
        .store(others + reservation.share(), Ordering::Relaxed);
    apply(vcpu, settings, home.index);
    Ok(())
}

fn take_back(cpu: &Cpu, reservation: Option<Reservation>) {
    let share = reservation.map_or(0, Reservation::share);
    cpu.promised.fetch_sub(share, Ordering::Relaxed);
}

/// Tells all queues.
fn apply(vcpu: &'static Vcpu, settings: Settings, home: usize) {
    *vcpu.settings.lock() = settings;
    let parameters = settings.parameters(home);
    vcpu.affinity.store(parameters.affinity, Ordering::Relaxed);
    for cpu in cpus::all() {
        let Some(place) = vcpu.place(cpu.index) else {
            continue;
        };
        let mut queue = cpu.queue.lock();
        queue.set_parameters(place.slot, parameters, arch::time::counter());
        migration::settle(&All, cpu.index, &queue);
    }
    schedule::look(vcpu.home());
}
