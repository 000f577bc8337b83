//! A CPU's turn from one vCPU to the next: a look at its queue, and the switch that follows from it.
//!
//! A switch where nothing else is to be done is one way down [`turn`], whose order is that of
//! docs/internals/vcpu-switch.md. What is seldom to be done is in functions of its own, which that way passes by one
//! look each.

use core::sync::atomic::Ordering;

use arch::context;
use arch::vectors::Resume;
use domain::lifecycle::{For, Preempted};
use domain::migration;
use domain::set_way::SetWay;
use domain::timer::PhysicalTimer;
use platform::gic::Gic;
use xen::Runstate;

use super::account::{account_here, publish};
use super::leaving::{evict, keep, unload};
use super::{claim_loaded, end_poll, here, may_stay, notify_all, refresh, release_loaded};
use crate::cpus::Cpu;
use crate::interrupts;
use crate::machine::{Start, Vcpu};
use crate::migration::All;
use crate::{console, crash, frames, jobs, lifecycle, serrors, smccc, timer, trace, watchdog};

/// Chooses and loads the next vCPU; idles until there is one.
pub(crate) fn next(cpu: &'static Cpu) -> Resume {
    take_turns(cpu, false)
}

/// The same when the loaded vCPU yields.
pub(super) fn next_after_yield(cpu: &'static Cpu) -> Resume {
    take_turns(cpu, true)
}

/// Looks at the queue until there is a guest to go on with. It is a call, and the last one: the exits that come here have no
/// place on the stack for it. All of a turn is in it, so that there is one such place.
#[cold]
#[inline(never)]
fn take_turns(cpu: &'static Cpu, mut yields: bool) -> Resume {
    loop {
        if let Some(resume) = turn(cpu, yields) {
            return resume;
        }
        yields = false;
    }
}

/// One look at the queue, before which the loaded vCPU yields or not. `None`: it has led to something else than a guest to
/// go on with, which is done, and it is time for another look.
#[inline(always)]
fn turn(cpu: &'static Cpu, yields: bool) -> Option<Resume> {
    // First: who wakes, or ends, is seen by the same look.
    let mut now = arch::time::counter();
    if timer::is_due(cpu, now) {
        now = timer::wake_those_due(cpu, now);
    }
    cpu.look.store(false, Ordering::Relaxed);
    if let Some(loaded) = cpu.loaded()
        && !wants_only_to_run(cpu, loaded)
        && let Some(stored) = attend(cpu, loaded)
    {
        return Some(Resume::nobody(stored));
    }
    frames::pass(cpu);
    watchdog::serve(cpu);
    console::serve_waiting();
    let choice = choose(cpu, yields, now);
    match choice.vcpu {
        Some(vcpu) if choice.run_for == For::Guest => {
            let resume = load(cpu, vcpu, &choice)?;
            // After the switch, which leaves an alarm for the vCPU that went, and those that wait free to go.
            settle(cpu, vcpu, &choice);
            Some(resume)
        }
        Some(vcpu) => {
            work(cpu, vcpu);
            None
        }
        None => {
            rest(cpu);
            None
        }
    }
}

/// Whether a vCPU that is loaded here may go on or be stored as it is: its domain lives, it may run on this CPU, and its
/// list registers are as they should be.
#[inline]
fn wants_only_to_run(cpu: &Cpu, loaded: &Vcpu) -> bool {
    // Whatever follows is read again, in order, by who acts on it.
    loaded.domain.is_running()
        && !loaded.domain.condemned.load(Ordering::Relaxed)
        && loaded.attention.load(Ordering::Relaxed) == 0
        && may_stay(cpu, loaded)
}

/// Does what a vCPU that is loaded here asks for besides the CPU. If it was stored, and nothing is loaded any more, the
/// proof of that.
#[cold]
#[inline(never)]
fn attend(cpu: &'static Cpu, loaded: &'static Vcpu) -> Option<context::Stored> {
    if loaded.domain.condemned.load(Ordering::Acquire) && loaded.domain.is_running() {
        crash::fail(loaded, "it keeps a word that others must change", None);
    }
    if !loaded.domain.is_running() {
        if crash::is_to_be_kept(loaded)
            && let Some(stored) = keep(cpu, loaded)
        {
            return Some(stored);
        }
        unload(cpu, loaded);
        lifecycle::left(loaded.domain);
        return None;
    }
    if !may_stay(cpu, loaded)
        && let Some(stored) = evict(cpu, loaded)
    {
        return Some(stored);
    }
    // Somebody may wait for what its list registers hold, also while it sleeps here.
    if loaded.domain.vgic.needs_enter(loaded.id) {
        refresh(loaded);
    }
    None
}

/// A step of the hypervisor's own work for a domain, in the time of its vCPU.
#[cold]
#[inline(never)]
fn work(cpu: &'static Cpu, vcpu: &'static Vcpu) {
    migration::offer(&All, cpu.index, cpu.take_idled());
    jobs::run(cpu, vcpu);
    interrupts::serve(cpu);
}

/// Nobody can run here: takes somebody who waits elsewhere, or sleeps.
#[cold]
#[inline(never)]
fn rest(cpu: &'static Cpu) {
    if cpu.look.load(Ordering::Acquire) {
        // What expired here may have asked this CPU for another look, and nobody interrupts it for that.
        return interrupts::serve(cpu);
    }
    if migration::steal(&All, cpu.index) {
        return cpu.set_idled();
    }
    if serrors::before_sleep(cpu) {
        return;
    }
    if trace::is_on() {
        trace::before_sleep(cpu.has_idled());
    }
    cpu.set_idled();
    timer::program(cpu, interrupts::reminder(), None);
    let asleep = arch::time::counter();
    interrupts::idle(cpu);
    cpu.idle_ticks
        .add(arch::time::counter().wrapping_sub(asleep));
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
    /// What became of the vCPU that was loaded.
    loaded: Preempted,
}

/// Picks from the queue. The states of the vCPU that ran and of the one that will are changed under the same
/// lock as the queue.
#[inline]
fn choose(cpu: &'static Cpu, yields: bool, now: u64) -> Choice {
    let mut queue = cpu.queue.lock();
    if yields {
        queue.yield_now();
    }
    let before = cpu.loaded();
    let loaded = before.map_or(Preempted::Nothing, |loaded| loaded.run.set_aside());
    if loaded == Preempted::Held
        && let Some(place) = before.and_then(|loaded| loaded.place(cpu.index))
    {
        // It was held back while it ran.
        queue.block(place.slot, now);
    }
    let (pick, run_for) = loop {
        let pick = queue.pick(now);
        let Some(vcpu) = pick.next else {
            break (pick, For::Guest);
        };
        if let Some(run_for) = vcpu.run.start_for() {
            break (pick, run_for);
        }
        // Held back, and not yet taken out by who did it.
        if let Some(place) = vcpu.place(cpu.index) {
            queue.block(place.slot, now);
        }
    };
    migration::settle_in(&cpu.wanted, &queue);
    Choice {
        now,
        vcpu: pick.next,
        run_for,
        slice_end: pick.slice_end,
        alone: pick.alone,
        crowded: pick.crowded,
        loaded,
    }
}

/// Makes `vcpu` the loaded one, fresh from its start if it was just switched on. `None` if its domain ends.
#[inline]
fn load(cpu: &'static Cpu, vcpu: &'static Vcpu, choice: &Choice) -> Option<Resume> {
    let start = vcpu.start.take();
    if vcpu.polling.load(Ordering::Relaxed) {
        end_poll(vcpu);
    }
    let before = cpu.loaded();
    let same = before.is_some_and(|before| core::ptr::eq(before, vcpu));
    if same && start.is_none() {
        go_on(vcpu, choice);
        return Some(Resume::Same);
    }
    // From here on the end of its domain waits for this CPU; an end that has begun may not, and then its
    // stage 2 must not be put into force.
    if !same && !claim_loaded(vcpu) {
        return None;
    }
    let gic = vcpu.lists.gic();
    // Whether the timer's interrupt is active here for the one that leaves.
    let mut active = false;
    if let Some(before) = before {
        if same {
            unload(cpu, before);
        } else {
            active = save(gic, before, choice.loaded != Preempted::Nothing, choice.now);
        }
    }
    if let Some(start) = start {
        begin_anew(vcpu, start)?;
    }
    if before.is_none_or(|before| !core::ptr::eq(before.domain, vcpu.domain)) {
        smccc::between_guests();
    }
    let switched = context::switch_to(
        cpu.header(),
        &vcpu.context,
        &vcpu.world(cpu),
        |esr, waits| before.is_some_and(|before| serrors::at_switch(before, esr, waits)),
    );
    if same {
        // It was unloaded just now.
        vcpu.loaded.set(true);
    }
    cpu.set_loaded(Some(vcpu));
    timer::disarm_virtual(vcpu);
    interrupts::load_interface(gic, &vcpu.interface);
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
    if let Some(before) = before
        && !same
    {
        release_loaded(before);
    }
    Some(Resume::Other(switched))
}

/// The vCPU that is loaded runs on, or again.
#[inline(never)]
fn go_on(vcpu: &'static Vcpu, choice: &Choice) {
    // If it has not slept since it ran, nothing changes for it.
    if choice.loaded != Preempted::Ready {
        account_here(vcpu, Runstate::Running, choice.now);
        if trace::is_on() {
            trace::points::state(vcpu, Runstate::Running);
        }
    }
    if vcpu.domain.vgic.needs_enter(vcpu.id) {
        refresh(vcpu);
    }
}

/// A vCPU that was switched on, and is loaded nowhere, begins: from nothing but its start.
#[cold]
#[inline(never)]
fn begin_anew(vcpu: &'static Vcpu, start: Start) -> Option<()> {
    // The CPU that it comes from has yet to store its last registers: a few steps that wait for nobody.
    while !vcpu.context.is_free() {
        core::hint::spin_loop();
    }
    vcpu.context.own()?.reset(start.entry, start.argument);
    *vcpu.physical_timer.lock() = PhysicalTimer::default();
    *vcpu.set_way.lock() = SetWay::default();
    vcpu.timer_active.store(false, Ordering::Relaxed);
    vcpu.interface.reset();
    Some(())
}

/// What is to be settled when a vCPU has been chosen and loaded: the end of its slice, whether its sleep is seen, and
/// those that wait here.
#[inline]
fn settle(cpu: &'static Cpu, vcpu: &'static Vcpu, choice: &Choice) {
    let reminder = interrupts::reminder_of(vcpu.lists.gic());
    let slice_end = choice.slice_end.filter(|_| !interrupts::no_slices());
    timer::program(cpu, reminder, slice_end);
    let native = interrupts::native_wait();
    let alone = migration::is_alone(&All, cpu.index, choice.alone && !native);
    context::trap_waiting(!alone && !native);
    migration::offer(&All, cpu.index, cpu.take_idled());
    if choice.crowded {
        migration::balance(&All, cpu.index);
    }
    if choice.alone && !may_stay(cpu, vcpu) {
        // It woke here while its affinity changed: at the next look it goes.
        cpu.look.store(true, Ordering::Relaxed);
        interrupts::send_look(cpu);
    }
}

/// Takes the interrupt state of the loaded vCPU out of the CPU, and sets the alarm that its own timer
/// cannot set while it is away; `waits` for the CPU from now on, or sleeps. Whether the timer's interrupt is active, which
/// it stays until the CPU's timer is another's: its line may be high.
#[inline(always)]
pub(super) fn save(gic: &Gic, vcpu: &'static Vcpu, waits: bool, now: u64) -> bool {
    if waits {
        account_here(vcpu, Runstate::Runnable, now);
    } else {
        publish(vcpu);
    }
    let saved = vcpu.domain.vgic.save(here(vcpu));
    interrupts::save_interface(gic, &vcpu.interface);
    // The distributor, a device, is asked only if there is something to ask about.
    let active = saved.is_linked && interrupts::is_timer_active();
    vcpu.timer_active.store(active, Ordering::Relaxed);
    timer::arm_virtual(vcpu, active);
    notify_all(vcpu.domain, saved.notify);
    active
}
