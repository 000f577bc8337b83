//! The machine as `domain::migration` sees it: which CPU a vCPU belongs to, and its places in the CPUs' queues.

use core::sync::atomic::{AtomicU64, Ordering};

use arch::entry::MAX_CPUS;
use domain::migration::{self, Cpus, Load};
use domain::sched::{AddError, Parameters, RunQueue, Slot};
use xen::Runstate;

use crate::cpus::{self, Cpu};
use crate::machine::Vcpu;
use crate::{schedule, timer};

static LOAD: Load = Load::new();

/// A vCPU's places in the run queue and in the alarms of each CPU that is up.
pub(crate) type Places = [Option<Place>; MAX_CPUS];

/// Its places on one CPU.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) slot: Slot,
    /// In the timer queue.
    pub(crate) alarm: usize,
}

/// Gives a vCPU its places. It cannot run until it is woken.
pub(crate) fn add(vcpu: &'static Vcpu, parameters: Parameters) -> Result<Places, AddError> {
    let mut places = [None; MAX_CPUS];
    for cpu in cpus::all() {
        let mut timers = cpu.timers.lock();
        let alarm = timers.queue.add_slot().map_err(|_| AddError::NoMemory)?;
        timers
            .vcpus
            .try_reserve(1)
            .map_err(|_| AddError::NoMemory)?;
        timers.vcpus.push(vcpu);
        drop(timers);
        let slot = cpu.queue.lock().add(vcpu, parameters)?;
        if let Some(place) = places.get_mut(cpu.index) {
            *place = Some(Place { slot, alarm });
        }
    }
    Ok(places)
}

/// All CPUs, by their numbers.
pub(crate) struct All;

/// The CPU with this number, if it is up. Mostly it is this one, which is known without a look at all.
#[inline(always)]
fn cpu_at(index: usize) -> Option<&'static Cpu> {
    cpus::this_cpu()
        .filter(|this| this.index == index)
        .or_else(|| cpus::with_index(index))
}

impl Cpus for All {
    type Vcpu = &'static Vcpu;

    fn count(&self) -> usize {
        cpus::all().last().map_or(0, |last| last.index + 1)
    }

    fn load(&self) -> &Load {
        &LOAD
    }

    fn queue<R>(
        &self,
        cpu: usize,
        operation: impl FnOnce(&mut RunQueue<&'static Vcpu>) -> R,
    ) -> Option<R> {
        let cpu = cpus::with_index(cpu)?;
        Some(operation(&mut cpu.queue.lock()))
    }

    #[inline(always)]
    fn change<R>(
        &self,
        cpu: usize,
        operation: impl FnOnce(&mut RunQueue<&'static Vcpu>) -> R,
    ) -> Option<R> {
        let cpu = cpu_at(cpu)?;
        let mut queue = cpu.queue.lock();
        let result = operation(&mut queue);
        migration::settle_in(&cpu.wanted, &queue);
        Some(result)
    }

    fn wanted(&self, cpu: usize) -> Option<&AtomicU64> {
        cpus::with_index(cpu).map(|cpu| &cpu.wanted)
    }

    fn slot(&self, vcpu: &'static Vcpu, cpu: usize) -> Option<Slot> {
        vcpu.place(cpu).map(|place| place.slot)
    }

    fn affinity(&self, vcpu: &'static Vcpu) -> u64 {
        vcpu.affinity.load(Ordering::Relaxed)
    }

    fn home(&self, vcpu: &'static Vcpu) -> usize {
        vcpu.home().index
    }

    fn set_home(&self, vcpu: &'static Vcpu, cpu: usize) {
        if let Some(cpu) = cpus::with_index(cpu) {
            vcpu.counters.moved();
            timer::set_home(vcpu, cpu);
        }
    }

    fn now(&self) -> u64 {
        arch::time::counter()
    }

    fn is_loaded(&self, vcpu: &'static Vcpu) -> bool {
        vcpu.is_loaded()
    }

    fn is_ready(&self, vcpu: &'static Vcpu, now: u64) {
        schedule::account(vcpu, Runstate::Runnable, now);
    }

    #[inline]
    fn look(&self, cpu: usize) {
        if let Some(cpu) = cpu_at(cpu) {
            schedule::look(cpu);
        }
    }
}
