//! Which vCPU a CPU runs: choosing, switching, sleeping and waking.
//!
//! A vCPU's state stays in its CPU's registers until another one is loaded, also while the CPU idles:
//! what wakes it then finds everything in place. Once it is stored the vCPU may go to another CPU
//! (`domain::migration`). Wake-ups cannot be lost: that is the promise of
//! `domain::lifecycle::RunState`, as long as whoever raises something makes it visible before it calls
//! [`kick`].

mod account;
mod leaving;
mod turn;
mod wake;

pub(crate) use account::account;
use leaving::unload;
pub(crate) use turn::next;
use turn::next_after_yield;
use wake::unqueue;
pub(crate) use wake::{
    disturb, enqueue, hold, kick, kick_other, let_go, look, notify_all, remove, set_line, upcall,
    wake_if_blocked,
};

use core::sync::atomic::Ordering;

use arch::vectors::{self, Resume};
use domain::lifecycle::Block;
use domain::migration;
use vgic::{Here, Vgic};
use xen::Runstate;

use crate::cpus::{self, Cpu};
use crate::interrupts::Lists;
use crate::machine::{Domain, Vcpu};
use crate::{lifecycle, stretch, timer, trace};

/// A CPU begins, with nothing loaded: waits for its first vCPU and runs guests for ever.
pub(crate) fn run(cpu: &'static Cpu) -> ! {
    match next(cpu) {
        Resume::Other(first) => {
            if trace::is_on()
                && let Some(vcpu) = cpu.loaded()
            {
                trace::points::enter(vcpu);
            }
            stretch::pause(cpu);
            vectors::run(first)
        }
        // Nothing is loaded, so there is no same guest to go on with, nor one to be stored.
        Resume::Same => arch::cpu::park(),
    }
}

/// The end of every exit: goes on with the guest, unless somebody asked for a look at the queue.
#[inline(always)]
pub(crate) fn leave(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    // Whatever follows from either word is read under locks.
    if cpu.look.load(Ordering::Relaxed) {
        return next(cpu);
    }
    if vcpu.attention.load(Ordering::Relaxed) != 0 {
        return leave_refreshed(vcpu);
    }
    Resume::Same
}

/// The end of an exit by an interrupt: what is pending with its line high is still so, since the guest did not run.
#[inline]
pub(crate) fn leave_after_interrupt(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    if cpu.look.load(Ordering::Relaxed) {
        return next(cpu);
    }
    if Vgic::is_dirty_word(vcpu.attention.load(Ordering::Relaxed)) {
        return leave_refreshed(vcpu);
    }
    Resume::Same
}

// The last thing that is called on its way: who comes from there needs no place on the stack.
#[cold]
#[inline(never)]
fn leave_refreshed(vcpu: &'static Vcpu) -> Resume {
    refresh(vcpu);
    // Hidden, or the optimizer has callers give the same themselves, and so come back to them.
    core::hint::black_box(Resume::Same)
}

/// Brings the list registers of the loaded vCPU up to date.
#[cold]
fn refresh(vcpu: &'static Vcpu) {
    let notify = vcpu.domain.vgic.enter_if_needed(here(vcpu));
    notify_all(vcpu.domain, notify);
}

/// The vCPU that is loaded, with this CPU's list registers.
pub(crate) fn here(vcpu: &'static Vcpu) -> Here<'static, Lists> {
    Here {
        vcpu: vcpu.id,
        lists: vcpu.lists,
    }
}

/// The same for calls about any vCPU of `domain`: `None` if none of it is loaded here.
pub(crate) fn here_of(domain: &Domain) -> Option<Here<'static, Lists>> {
    let vcpu = cpus::this_cpu()?.loaded()?;
    core::ptr::eq(vcpu.domain, domain).then(|| here(vcpu))
}

/// Whether a vCPU may run on this CPU.
fn may_stay(cpu: &Cpu, vcpu: &Vcpu) -> bool {
    vcpu.affinity.load(Ordering::Relaxed) & migration::bit(cpu.index) != 0
}

/// Says that this CPU is about to load a vCPU. `false`, and nothing said, if its domain ends.
fn claim_loaded(vcpu: &'static Vcpu) -> bool {
    // Who ends the domain sees the vCPU loaded, or is seen here.
    vcpu.loaded.set(true);
    let claimed = vcpu.domain.is_running();
    if !claimed {
        release_loaded(vcpu);
    }
    claimed
}

/// Says that nothing of a vCPU is on this CPU any more, also to its domain's end if that waits for it.
fn release_loaded(vcpu: &'static Vcpu) {
    vcpu.loaded.set(false);
    if !vcpu.domain.is_running() {
        lifecycle::left(vcpu.domain);
    }
}

/// The guest has nothing to do: another vCPU runs, or the CPU idles, until something waits for this one.
pub(crate) fn block(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    if !sleep(cpu, vcpu) {
        return leave(cpu, vcpu);
    }
    next(cpu)
}

/// Takes a vCPU off its queue, unless something came for it meanwhile.
fn sleep(cpu: &'static Cpu, vcpu: &'static Vcpu) -> bool {
    if vcpu.domain.vgic.has_deliverable(vcpu.id, Some(here(vcpu))) {
        return false;
    }
    // The lock is held over both: who finds the vCPU blocked puts it on the queue under this lock.
    let mut queue = cpu.queue.lock();
    match vcpu.run.block() {
        Block::Blocked => {
            let now = arch::time::counter();
            account(vcpu, Runstate::Blocked, now);
            if let Some(place) = vcpu.place(cpu.index) {
                queue.block(place.slot, now);
            }
            true
        }
        Block::Woken => false,
    }
}

/// The guest lets others run.
pub(crate) fn yield_now(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    // Somebody who comes at this moment gets the CPU by the rules for those that come. Who has budget gives up nothing.
    if cpu.wanted.load(Ordering::Relaxed) == 0 {
        return leave(cpu, vcpu);
    }
    next_after_yield(cpu)
}

/// The guest switches this vCPU off (PSCI CPU_OFF).
pub(crate) fn power_off(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    vcpu.run.stop();
    unqueue(vcpu);
    unload(cpu, vcpu);
    if !vcpu.domain.is_running() {
        lifecycle::left(vcpu.domain);
    }
    // From here on another vCPU may switch it on again, and finds it unloaded.
    vcpu.run.stopped();
    next(cpu)
}

/// Sleeps until an event that the guest polls for, an interrupt, or the deadline that was set.
pub(crate) fn poll(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    let id = abi::VcpuId(vcpu.id.get());
    vcpu.polling.store(true, Ordering::Relaxed);
    // A wake-up that came while the vCPU ran has left a token, which ends the first attempt: it may have been
    // about anything, and long ago. What ends a poll is seen without it.
    for _ in 0..2 {
        if vcpu.domain.xen.is_polling(id) && sleep(cpu, vcpu) {
            return next(cpu);
        }
    }
    end_poll(vcpu);
    leave(cpu, vcpu)
}

/// A vCPU that runs again polls no more.
fn end_poll(vcpu: &'static Vcpu) {
    vcpu.polling.store(false, Ordering::Relaxed);
    vcpu.domain.xen.end_poll(abi::VcpuId(vcpu.id.get()));
    vcpu.poll_deadline.store(u64::MAX, Ordering::Relaxed);
    timer::rearm(vcpu);
}
