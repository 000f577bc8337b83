//! Alarms of vCPUs that are not in the CPU: their virtual timer, the emulated physical timer, and the end
//! of a poll. One slot a vCPU in its CPU's queue holds the earliest; EL2's own timer is set to the
//! earliest of all and of the end of the time slice.

use core::sync::atomic::{AtomicU64, Ordering};

use domain::life::State;
use domain::lifecycle::ShutdownReason;
use vgic::IntId;

use crate::cpus::{Cpu, Timers};
use crate::machine::{Domain, Vcpu};
use crate::{hypercalls, lifecycle, operator, schedule, watchdog};

/// `CNTx_CTL`: enabled, not masked.
const ENABLE_AND_MASK: u64 = 0b11;
const ENABLED: u64 = 0b01;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// Sets EL2's timer of this CPU for the end of the slice, for the first vCPU that wants to wake, or for a
/// [reminder](interrupts::reminder).
#[inline]
pub(crate) fn program(cpu: &Cpu, reminder: Option<u64>, slice_end: Option<u64>) {
    let deadline = reminder
        .unwrap_or(NEVER)
        .min(slice_end.unwrap_or(NEVER))
        .min(cpu.first_alarm.load(Ordering::Relaxed))
        .min(operator::alarm())
        .min(watchdog::alarm(cpu));
    match deadline {
        NEVER => platform::timer::disarm(),
        deadline => platform::timer::arm(deadline),
    }
}

/// The alarms of a CPU were changed, under their lock.
fn changed(cpu: &Cpu, timers: &Timers) {
    let first = timers.queue.earliest().unwrap_or(NEVER);
    cpu.first_alarm.store(first, Ordering::Relaxed);
}

/// Gives a place in the queue this deadline, or none.
#[inline]
fn set(timers: &mut Timers, place: usize, deadline: u64) {
    if deadline == NEVER {
        timers.queue.clear(place);
    } else {
        timers.queue.set(place, deadline);
    }
}

/// The virtual timer of a vCPU that leaves the CPU, now in EL2's hands. `active`: its interrupt was given
/// to the guest, which has not ended it, so there is nothing to wait for.
pub(crate) fn arm_virtual(vcpu: &Vcpu, active: bool) {
    let (control, compare) = arch::context::virtual_timer();
    let deadline = if control & ENABLE_AND_MASK == ENABLED && !active {
        compare
            .saturating_add(vcpu.domain.counter_offset())
            .min(NEVER - 1)
    } else {
        NEVER
    };
    set_virtual(vcpu, deadline);
}

/// The virtual timer is in the CPU again.
pub(crate) fn disarm_virtual(vcpu: &Vcpu) {
    set_virtual(vcpu, NEVER);
}

/// Sets the alarm for the virtual timer, at each switch: mostly it stays what it was, and the queue with it. Only the
/// CPU that switches the vCPU writes it.
fn set_virtual(vcpu: &Vcpu, deadline: u64) {
    if vcpu.virtual_deadline.load(Ordering::Relaxed) != deadline {
        vcpu.virtual_deadline.store(deadline, Ordering::Relaxed);
        rearm(vcpu);
    }
}

/// Forgets all alarms of a vCPU that is switched off, but for the watchdogs, which are its domain's.
pub(crate) fn forget(vcpu: &Vcpu) {
    vcpu.virtual_deadline.store(NEVER, Ordering::Relaxed);
    vcpu.physical_deadline.store(NEVER, Ordering::Relaxed);
    vcpu.poll_deadline.store(NEVER, Ordering::Relaxed);
    rearm(vcpu);
}

/// Forgets them all: its domain has ended.
pub(crate) fn forget_all(vcpu: &Vcpu) {
    vcpu.watchdog_deadline.store(NEVER, Ordering::Relaxed);
    vcpu.shutdown_deadline.store(NEVER, Ordering::Relaxed);
    forget(vcpu);
}

/// The job of a domain that lives again waits until then: milliseconds of [`lifecycle::now`].
pub(crate) fn arm_restart(domain: &'static Domain, until: u64) {
    let Some(vcpu) = domain.vcpus().first() else {
        return;
    };
    let ticks = u128::from(until) * u128::from(platform::timer::frequency());
    let deadline = u64::try_from(ticks.div_ceil(1000)).unwrap_or(NEVER);
    vcpu.poll_deadline
        .store(deadline.min(NEVER - 1), Ordering::Relaxed);
    rearm(vcpu);
    schedule::look(vcpu.home());
}

/// The vCPU, which is loaded nowhere, belongs to another CPU from now on, and so do its alarms.
pub(crate) fn set_home(vcpu: &Vcpu, to: &'static Cpu) {
    let from = vcpu.home();
    let mut timers = from.timers.lock();
    if let Some(place) = vcpu.place(from.index) {
        timers.queue.clear(place.alarm);
    }
    changed(from, &timers);
    vcpu.set_home(to);
    drop(timers);
    rearm(vcpu);
}

/// Puts the earliest of a vCPU's alarms into its home's queue.
pub(crate) fn rearm(vcpu: &Vcpu) {
    // The lock comes first: a watchdog's alarm is set by any CPU, and the later of two that come here at
    // once has to see what both wrote. The home changes under it.
    let (home, mut timers) = loop {
        let home = vcpu.home();
        let timers = home.timers.lock();
        if core::ptr::eq(home, vcpu.home()) {
            break (home, timers);
        }
    };
    let Some(place) = vcpu.place(home.index) else {
        return;
    };
    let earliest = [
        &vcpu.virtual_deadline,
        &vcpu.physical_deadline,
        &vcpu.poll_deadline,
        &vcpu.watchdog_deadline,
        &vcpu.shutdown_deadline,
    ]
    .into_iter()
    .map(|deadline| deadline.load(Ordering::Relaxed))
    .min()
    .unwrap_or(NEVER);
    set(&mut timers, place.alarm, earliest);
    changed(home, &timers);
}

/// Whether the time has come of some vCPU of this CPU.
#[inline]
pub(crate) fn is_due(cpu: &Cpu, now: u64) -> bool {
    cpu.first_alarm.load(Ordering::Relaxed) <= now
}

/// Wakes the vCPUs of this CPU whose time has come; some are due `now`. The counter when there is none any more.
#[inline(never)]
pub(crate) fn wake_those_due(cpu: &'static Cpu, mut now: u64) -> u64 {
    loop {
        if let Some((vcpu, due)) = take_due(cpu, now) {
            expired(vcpu, &due, now);
        }
        now = platform::timer::now();
        if !is_due(cpu, now) {
            return now;
        }
    }
}

/// Which of its alarms have gone off.
struct Due {
    /// Its virtual timer's, or the end of its poll.
    wakes: bool,
    physical: bool,
    shutdown: bool,
    watchdog: bool,
}

/// Takes the first vCPU out whose time has come, with all of its alarms that are due; the first of the others is in the queue
/// again.
fn take_due(cpu: &'static Cpu, now: u64) -> Option<(&'static Vcpu, Due)> {
    let mut timers = cpu.timers.lock();
    let found = timers.queue.first_expired(now).and_then(|slot| {
        let vcpu = *timers.vcpus.get(slot)?;
        let mut earliest = NEVER;
        let mut take = |alarm: &AtomicU64| {
            let deadline = alarm.load(Ordering::Relaxed);
            if deadline <= now {
                alarm.store(NEVER, Ordering::Relaxed);
                return true;
            }
            earliest = earliest.min(deadline);
            false
        };
        let due = Due {
            wakes: take(&vcpu.virtual_deadline) | take(&vcpu.poll_deadline),
            physical: take(&vcpu.physical_deadline),
            shutdown: take(&vcpu.shutdown_deadline),
            watchdog: take(&vcpu.watchdog_deadline),
        };
        set(&mut timers, slot, earliest);
        Some((vcpu, due))
    });
    changed(cpu, &timers);
    found
}

fn expired(vcpu: &'static Vcpu, due: &Due, now: u64) {
    // The timer itself raises the interrupt, on the CPU that loads the vCPU.
    if due.wakes {
        schedule::kick(vcpu);
    }
    if due.physical {
        update_physical(vcpu);
    }
    if due.shutdown | due.watchdog {
        expired_for_domain(vcpu.domain, due, now);
    }
}

#[cold]
fn expired_for_domain(domain: &'static Domain, due: &Due, now: u64) {
    if due.shutdown {
        lifecycle::shutdown_is_late(domain);
    }
    if due.watchdog && domain.state() != State::Paused {
        let system_time = hypercalls::nanoseconds(now.wrapping_sub(domain.counter_offset()));
        if domain.xen.watchdog_expired(system_time) {
            lifecycle::end(domain, ShutdownReason::Watchdog);
        } else {
            arm_watchdog(domain);
        }
    }
}

/// The domain is to have shut down in so many seconds: vCPU 0 carries the alarm.
pub(crate) fn arm_shutdown(domain: &'static Domain, seconds: u64) {
    let Some(vcpu) = domain.vcpus().first() else {
        return;
    };
    let ticks = seconds.saturating_mul(platform::timer::frequency());
    let deadline = platform::timer::now().saturating_add(ticks).min(NEVER - 1);
    vcpu.shutdown_deadline.store(deadline, Ordering::Relaxed);
    rearm(vcpu);
    schedule::look(vcpu.home());
}

/// The guest set or stopped a watchdog: vCPU 0 carries the alarm for the first.
pub(crate) fn arm_watchdog(domain: &'static Domain) {
    let Some(vcpu) = domain.vcpus().first() else {
        return;
    };
    let deadline = domain.xen.next_watchdog().map_or(NEVER, |time| {
        hypercalls::ticks(time)
            .saturating_add(domain.counter_offset())
            .min(NEVER - 1)
    });
    vcpu.watchdog_deadline.store(deadline, Ordering::Relaxed);
    rearm(vcpu);
    schedule::look(vcpu.home());
}

/// The guest wrote its physical timer, or its deadline passed: sets the interrupt's line and the alarm.
pub(crate) fn update_physical(vcpu: &'static Vcpu) {
    let domain = vcpu.domain;
    let here = schedule::here_of(domain);
    // Under the lock, since the vCPU may run on one CPU while its alarm goes off on another: the line is what the
    // timer said last.
    let timer = vcpu.physical_timer.lock();
    let high = timer.line(platform::timer::now());
    let deadline = match timer.deadline() {
        Some(deadline) if !high => deadline.min(NEVER - 1),
        _ => NEVER,
    };
    vcpu.physical_deadline.store(deadline, Ordering::Relaxed);
    let notify = domain
        .vgic
        .set_level(vcpu.id, IntId::PHYSICAL_TIMER, high, here);
    drop(timer);
    rearm(vcpu);
    schedule::notify_all(domain, notify);
    if high {
        schedule::kick(vcpu);
    }
    // A deadline sooner than the one that EL2's timer is set to must count at once.
    schedule::look(vcpu.home());
}
