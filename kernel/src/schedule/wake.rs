//! Who makes vCPUs run, and CPUs look at their queues: wake-ups, holding back, and what the vGIC says of others.

use core::sync::atomic::Ordering;

use domain::lifecycle::{Hold, Power, Wake};
use domain::migration;
use vgic::{IntId, Notify, VcpuId};

use super::here_of;
use crate::cpus::{self, Cpu};
use crate::interrupts;
use crate::machine::{Domain, Vcpu};
use crate::migration::All;

/// Wakes a vCPU that sleeps, or makes one that runs elsewhere pass an exit. What it is to see must be
/// visible already.
pub(crate) fn kick(vcpu: &'static Vcpu) {
    match vcpu.run.wake() {
        Wake::Enqueue => enqueue(vcpu),
        Wake::Kick => send_look(vcpu.home()),
        Wake::Nothing => {}
    }
}

/// Has the CPU pass an exit on which a vCPU is loaded, running or asleep, without waking it.
pub(crate) fn disturb(vcpu: &'static Vcpu) {
    if vcpu.is_loaded() {
        send_look(vcpu.home());
    }
}

/// Makes another CPU pass an exit and look.
#[inline]
fn send_look(cpu: &Cpu) {
    if !is_here(cpu) {
        interrupts::send_look(cpu);
    }
}

/// As [`kick`], for the vCPU that is loaded here: it sleeps, or it sees for itself.
#[inline]
pub(crate) fn wake_if_blocked(vcpu: &'static Vcpu) {
    if vcpu.run.power() == Power::Blocked {
        kick(vcpu);
    }
}

/// Puts a vCPU that has become ready on the queue of its home, or of a CPU that idles.
pub(crate) fn enqueue(vcpu: &'static Vcpu) {
    migration::enqueue(&All, vcpu);
}

/// The vCPU's domain ends: it is never chosen again.
pub(crate) fn remove(vcpu: &'static Vcpu) {
    vcpu.run.hold();
    unqueue(vcpu);
    look(vcpu.home());
}

/// Holds a vCPU back until [`let_go`]. The caller has the lock of its domain's life.
pub(crate) fn hold(vcpu: &'static Vcpu) {
    match vcpu.run.hold() {
        Hold::Dequeue => unqueue(vcpu),
        // That CPU takes it out of its queue when it finds it held: until then it may be let go again.
        Hold::Kick => look(vcpu.home()),
        Hold::Nothing => {}
    }
}

/// Lets a vCPU run again that [`hold`] held back. The caller has the lock of its domain's life.
pub(crate) fn let_go(vcpu: &'static Vcpu) {
    if vcpu.run.release() {
        enqueue(vcpu);
    }
}

/// Out of its home's queue. If it is on its way to another CPU, that finds it held.
pub(super) fn unqueue(vcpu: &'static Vcpu) {
    let home = vcpu.home();
    if let Some(place) = vcpu.place(home.index) {
        let now = arch::time::counter();
        home.queue.lock().block(place.slot, now);
    }
}

fn is_here(cpu: &Cpu) -> bool {
    cpus::this_cpu().is_some_and(|this| core::ptr::eq(this, cpu))
}

/// Makes a CPU look at its queue.
#[inline]
pub(crate) fn look(cpu: &'static Cpu) {
    cpu.look.store(true, Ordering::Release);
    send_look(cpu);
}

/// Kicks those whom a change of the vGIC concerns.
#[inline]
pub(crate) fn notify_all(domain: &'static Domain, notify: Notify) {
    if !notify.is_empty() {
        notify_each(domain, notify);
    }
}

#[cold]
fn notify_each(domain: &'static Domain, notify: Notify) {
    for id in notify {
        if let Some(vcpu) = domain.vcpu(id) {
            kick(vcpu);
        }
    }
}

/// Kicks one vCPU whom a change of the vGIC concerns.
#[inline]
pub(crate) fn kick_other(domain: &'static Domain, id: VcpuId) {
    if let Some(vcpu) = domain.vcpu(id) {
        kick(vcpu);
    }
}

/// Raises the event interrupt of a vCPU.
pub(crate) fn upcall(vcpu: &'static Vcpu) {
    let domain = vcpu.domain;
    let here = here_of(domain);
    let notify = domain.vgic.pulse(vcpu.id, IntId::EVENT_UPCALL, here);
    notify_all(domain, notify);
    if here.is_some_and(|here| here.vcpu == vcpu.id) {
        wake_if_blocked(vcpu);
    }
}

/// Sets the line of a shared interrupt of a domain.
pub(crate) fn set_line(domain: &'static Domain, intid: IntId, high: bool) {
    let here = here_of(domain);
    let notify = domain.vgic.set_level(VcpuId::BOOT, intid, high, here);
    notify_all(domain, notify);
    // It may have gone straight into a list register of the vCPU that sleeps here.
    if let Some(vcpu) = here
        .and_then(|here| domain.vcpu(here.vcpu))
        .filter(|_| high)
    {
        wake_if_blocked(vcpu);
    }
}
