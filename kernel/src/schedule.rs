//! Which vCPU a CPU runs: choosing, switching, sleeping and waking.
//!
//! A vCPU's state stays in its CPU's registers until another one is loaded, also while the CPU idles:
//! what wakes it then finds everything in place. Once it is stored the vCPU may go to another CPU
//! (`domain::migration`). Wake-ups cannot be lost: that is the promise of
//! `domain::lifecycle::RunState`, as long as whoever raises something makes it visible before it calls
//! [`kick`].

mod account;
mod leaving;
mod wake;

pub(crate) use account::account;
use account::{account_here, publish};
use leaving::{evict, keep, unload};
use wake::unqueue;
pub(crate) use wake::{
    disturb, enqueue, hold, kick, let_go, look, notify_all, remove, set_line, upcall,
    wake_if_blocked,
};

use core::sync::atomic::Ordering;

use arch::context;
use arch::vectors::{self, Resume};
use domain::lifecycle::{Block, For, Power};
use domain::migration;
use domain::set_way::SetWay;
use domain::timer::PhysicalTimer;
use vgic::{Here, Vgic};
use xen::Runstate;

use crate::cpus::{self, Cpu};
use crate::interrupts::{self, Lists};
use crate::machine::{Domain, Vcpu};
use crate::migration::All;
use crate::{
    console, crash, frames, jobs, lifecycle, serrors, smccc, stretch, timer, trace, watchdog,
};

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
    Resume::Same
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

/// Chooses and loads the next vCPU; idles until there is one.
#[cold]
pub(crate) fn next(cpu: &'static Cpu) -> Resume {
    let mut idled = false;
    loop {
        cpu.look.store(false, Ordering::Relaxed);
        if let Some(loaded) = cpu.loaded()
            && loaded.domain.condemned.load(Ordering::Acquire)
            && loaded.domain.is_running()
        {
            crash::fail(loaded, "it keeps a word that others must change", None);
        }
        if let Some(loaded) = cpu.loaded()
            && !loaded.domain.is_running()
        {
            if crash::is_to_be_kept(loaded)
                && let Some(stored) = keep(cpu, loaded)
            {
                return Resume::nobody(stored);
            }
            unload(cpu, loaded);
            lifecycle::left(loaded.domain);
        }
        if let Some(loaded) = cpu.loaded()
            && !may_stay(cpu, loaded)
            && let Some(stored) = evict(cpu, loaded)
        {
            return Resume::nobody(stored);
        }
        // Somebody may wait for what its list registers hold, also while it sleeps here.
        if let Some(loaded) = cpu.loaded()
            && loaded.domain.vgic.needs_enter(loaded.id)
        {
            refresh(loaded);
        }
        frames::pass(cpu);
        timer::wake_expired(cpu);
        watchdog::serve(cpu);
        console::serve_waiting();
        let choice = choose(cpu);
        match choice.vcpu {
            Some(vcpu) if choice.run_for == For::Hypervisor => {
                migration::offer(&All, cpu.index, idled);
                idled = false;
                jobs::run(cpu, vcpu);
                interrupts::serve(cpu);
            }
            Some(vcpu) => {
                if let Some(resume) = load(cpu, vcpu, &choice) {
                    // After the switch, which leaves an alarm for the vCPU that went.
                    timer::program(cpu, choice.slice_end.filter(|_| !interrupts::no_slices()));
                    let native = interrupts::native_wait();
                    let alone = migration::is_alone(&All, cpu.index, choice.alone && !native);
                    context::trap_waiting(!alone && !native);
                    migration::offer(&All, cpu.index, idled);
                    if choice.crowded {
                        migration::balance(&All, cpu.index);
                    }
                    if choice.alone && !may_stay(cpu, vcpu) {
                        // It woke here while its affinity changed: at the next look it goes.
                        cpu.look.store(true, Ordering::Relaxed);
                        interrupts::send_look(cpu);
                    }
                    return resume;
                }
            }
            // What expired here may have asked this CPU for another look, and nobody interrupts it for that.
            None if cpu.look.load(Ordering::Acquire) => interrupts::serve(cpu),
            None if migration::steal(&All, cpu.index) => idled = true,
            None if serrors::before_sleep(cpu) => {}
            None => {
                if trace::is_on() {
                    trace::before_sleep(idled);
                }
                idled = true;
                timer::program(cpu, None);
                let asleep = arch::time::counter();
                interrupts::idle(cpu);
                cpu.idle_ticks
                    .add(arch::time::counter().wrapping_sub(asleep));
            }
        }
    }
}

/// What a look at the queue came to.
struct Choice {
    /// The system counter at the choice: what is accounted of it is so from then on.
    now: u64,
    vcpu: Option<&'static Vcpu>,
    /// What it is to do.
    run_for: For,
    /// When the next look is due, if others wait.
    slice_end: Option<u64>,
    alone: bool,
    /// Some might run sooner elsewhere.
    crowded: bool,
    /// It ran already, and has not slept since.
    went_on: bool,
}

/// Picks from the queue. The states of the vCPU that ran and of the one that will are changed under the same
/// lock as the queue.
fn choose(cpu: &'static Cpu) -> Choice {
    let now = arch::time::counter();
    let mut queue = cpu.queue.lock();
    let running = cpu
        .loaded()
        .filter(|loaded| loaded.run.power() == Power::Running);
    if let Some(loaded) = running
        && !loaded.run.preempt()
        && let Some(place) = loaded.place(cpu.index)
    {
        // It was held back while it ran.
        queue.block(place.slot, now);
    }
    loop {
        let pick = queue.pick(now);
        let started = pick.next.map(|vcpu| (vcpu, vcpu.run.start_for()));
        match started {
            Some((vcpu, None)) => {
                // Held back, and not yet taken out by who did it.
                if let Some(place) = vcpu.place(cpu.index) {
                    queue.block(place.slot, now);
                }
            }
            started => {
                let next = pick.next;
                migration::settle(&All, cpu.index, &queue);
                return Choice {
                    now,
                    went_on: match (running, next) {
                        (Some(before), Some(next)) => core::ptr::eq(before, next),
                        _ => false,
                    },
                    vcpu: next,
                    run_for: started
                        .and_then(|(_, run_for)| run_for)
                        .unwrap_or(For::Guest),
                    slice_end: pick.slice_end,
                    alone: pick.alone,
                    crowded: pick.crowded,
                };
            }
        }
    }
}

/// Makes `vcpu` the loaded one, fresh from its start if it was just switched on.
fn load(cpu: &'static Cpu, vcpu: &'static Vcpu, choice: &Choice) -> Option<Resume> {
    let start = vcpu.start.take();
    if vcpu.polling.load(Ordering::Relaxed) {
        end_poll(vcpu);
    }
    let before = cpu.loaded();
    let same = before.is_some_and(|before| core::ptr::eq(before, vcpu));
    // From here on the end of its domain waits for this CPU; an end that has begun may not, and then its
    // stage 2 must not be put into force.
    if !same && !claim_loaded(vcpu) {
        return None;
    }
    if same && start.is_none() {
        if !choice.went_on {
            account_here(vcpu, Runstate::Running, choice.now);
            if trace::is_on() {
                trace::points::state(vcpu, Runstate::Running);
            }
        }
        if vcpu.domain.vgic.needs_enter(vcpu.id) {
            refresh(vcpu);
        }
        return Some(Resume::Same);
    }
    // Whether the timer's interrupt is active here for the one that leaves.
    let mut active = false;
    if let Some(before) = before {
        if same {
            unload(cpu, before);
        } else {
            active = save(before, choice.now);
        }
    }
    // The CPU that it comes from has yet to store its last registers: a few steps that wait for nobody.
    while !vcpu.context.is_free() {
        core::hint::spin_loop();
    }
    if let Some(start) = start {
        vcpu.context.own()?.reset(start.entry, start.argument);
        *vcpu.physical_timer.lock() = PhysicalTimer::default();
        *vcpu.set_way.lock() = SetWay::default();
        vcpu.timer_active.store(false, Ordering::Relaxed);
        vcpu.interface.reset();
    }
    if before.is_none_or(|before| !core::ptr::eq(before.domain, vcpu.domain)) {
        smccc::between_guests();
    }
    let switched = context::switch_to(
        cpu.header(),
        &vcpu.context,
        &vcpu.world(cpu),
        |esr, waits| before.is_some_and(|before| serrors::at_switch(before, esr, waits)),
    )?;
    if same {
        // It was unloaded just now.
        vcpu.loaded.set(true);
    }
    cpu.set_loaded(Some(vcpu));
    timer::disarm_virtual(vcpu);
    interrupts::load_interface(&vcpu.interface);
    let wanted = vcpu.timer_active.load(Ordering::Relaxed);
    if active != wanted {
        interrupts::set_timer_active(wanted);
    }
    let notify = vcpu.domain.vgic.restore(here(vcpu));
    notify_all(vcpu.domain, notify);
    if !wanted {
        interrupts::give_timer(vcpu);
    }
    account_here(vcpu, Runstate::Running, choice.now);
    vcpu.counters.switched_in();
    if trace::is_on() {
        trace::points::switch(before, vcpu);
    }
    if let Some(before) = before.filter(|_| !same) {
        release_loaded(before);
    }
    Some(Resume::Other(switched))
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

/// Takes the interrupt state of the loaded vCPU out of the CPU, and sets the alarm that its own timer
/// cannot set while it is away. Whether the timer's interrupt is active, which it stays until the CPU's timer is
/// another's: its line may be high.
fn save(vcpu: &'static Vcpu, now: u64) -> bool {
    if vcpu.run.power() == Power::Ready {
        account_here(vcpu, Runstate::Runnable, now);
    } else {
        publish(vcpu);
    }
    let saved = vcpu.domain.vgic.save(here(vcpu));
    interrupts::save_interface(&vcpu.interface);
    // The distributor, a device, is asked only if there is something to ask about.
    let active = saved.is_linked && interrupts::is_timer_active();
    vcpu.timer_active.store(active, Ordering::Relaxed);
    timer::arm_virtual(vcpu, active);
    notify_all(vcpu.domain, saved.notify);
    active
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
            account(vcpu, Runstate::Blocked);
            if let Some(place) = vcpu.place(cpu.index) {
                queue.block(place.slot, arch::time::counter());
            }
            true
        }
        Block::Woken => false,
    }
}

/// The guest lets others run.
pub(crate) fn yield_now(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    let mut queue = cpu.queue.lock();
    if queue.nobody_waits() {
        drop(queue);
        return leave(cpu, vcpu);
    }
    queue.yield_now();
    drop(queue);
    next(cpu)
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
