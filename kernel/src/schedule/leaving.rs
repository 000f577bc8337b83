//! A CPU is left with no vCPU loaded: what it had is stored or forgotten.

use arch::context;
use domain::lifecycle::Preempted;
use xen::Runstate;

use super::turn::save;
use super::{account, enqueue, here, notify_all, release_loaded};
use crate::cpus::Cpu;
use crate::machine::Vcpu;
use crate::{interrupts, serrors, timer};

/// Stores the vCPU that is loaded here, and may not run here any more, and sends it to another CPU if it can run.
#[cold]
pub(super) fn evict(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Option<context::Stored> {
    // As in `choose`, its state and the queue change together. While it is loaded nobody else takes it out.
    let (ran, ready) = {
        let mut queue = cpu.queue.lock();
        let slot = vcpu.place(cpu.index)?.slot;
        let (ran, ready) = match vcpu.run.set_aside() {
            Preempted::Nothing => (false, queue.waits(slot)),
            Preempted::Ready => (true, true),
            Preempted::Held => (true, false),
        };
        if ran || ready {
            queue.block(slot, arch::time::counter());
        }
        (ran, ready)
    };
    let active = save(vcpu.lists.gic(), vcpu, ran, arch::time::counter());
    let stored = context::store(cpu.header(), |esr, waits| {
        serrors::at_switch(vcpu, esr, waits)
    })?;
    // After the timer is off, or its interrupt would be pending at once.
    if active {
        interrupts::set_timer_active(false);
    }
    cpu.set_loaded(None);
    release_loaded(vcpu);
    if ready {
        enqueue(vcpu);
    }
    Some(stored)
}

/// Leaves no vCPU loaded: its domain ends, and what the guest had in its registers is stored, to be told of.
pub(super) fn keep(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Option<context::Stored> {
    account(vcpu, Runstate::Offline, arch::time::counter());
    let notify = vcpu.domain.vgic.save(here(vcpu)).notify;
    vcpu.interface.reset();
    let stored = context::store(cpu.header(), |esr, _| {
        serrors::at_end(vcpu, esr);
        false
    })?;
    // As in `unload`.
    if interrupts::is_timer_active() {
        interrupts::set_timer_active(false);
    }
    cpu.set_loaded(None);
    timer::forget(vcpu);
    notify_all(vcpu.domain, notify);
    release_loaded(vcpu);
    Some(stored)
}

/// Leaves no vCPU loaded: its domain ends, or it starts afresh.
pub(super) fn unload(cpu: &'static Cpu, vcpu: &'static Vcpu) {
    account(vcpu, Runstate::Offline, arch::time::counter());
    let notify = vcpu.domain.vgic.save(here(vcpu)).notify;
    vcpu.interface.reset();
    if let Some(esr) = context::unload(cpu.header()) {
        serrors::at_end(vcpu, esr);
    }
    // After the timer is off, or its interrupt would be pending at once.
    if interrupts::is_timer_active() {
        interrupts::set_timer_active(false);
    }
    vcpu.loaded.set(false);
    cpu.set_loaded(None);
    timer::forget(vcpu);
    notify_all(vcpu.domain, notify);
}
