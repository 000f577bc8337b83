//! The life of each domain: it is paused and resumed, asked to shut down, ended. At its end its vCPUs leave their
//! CPUs, and then its job begins (`jobs`): it gives back what it holds, and perhaps is built again. What may follow what
//! is decided in `domain::life`.

use alloc::string::String;
use core::sync::atomic::Ordering;

use crate::say::{debug, error, info};
use ::memory::CHUNK_SIZE;
use devtree::Action;
use domain::life::{Cause, Life, Next, Refusal, State, Then};
use domain::lifecycle::ShutdownReason;
use domain::presence::is_any_loaded;
use sync::SpinLock;

use crate::building::Build;
use crate::ending::End;
use crate::hypercalls;
use crate::jobs::{self, Job};
use crate::machine::{self, Domain};
use crate::trace::points::Turn;
use crate::{
    assigned, console, cpus, crash, memory_map, power, schedule, statistics, store, stretch, timer,
    trace,
};

/// What the boot argument asks for when the last guest has stopped.
static ON_LAST_STOP: SpinLock<Action> = SpinLock::new(Action::Halt);

/// Remembers what the boot argument asks for.
pub(crate) fn set_action(action: Action) {
    *ON_LAST_STOP.lock() = action;
}

/// Milliseconds since the machine's counter began.
pub(crate) fn now() -> u64 {
    let frequency = u128::from(arch::time::frequency().max(1));
    (u128::from(arch::time::counter()) * 1000 / frequency) as u64
}

fn trace(domain: &Domain, turn: Turn, cause: Option<Cause>) {
    if trace::is_on() {
        trace::points::life(domain, turn, cause);
    }
}

/// A domain that was built runs from now on.
pub(crate) fn begin(domain: &Domain, life: &mut Life) {
    assigned::start(domain);
    life.built(now());
    domain.tell(life);
    trace(domain, Turn::Begun, None);
    let ticks = arch::time::counter().saturating_sub(domain.ended_at.load(Ordering::Relaxed));
    domain.build_ticks.store(ticks, Ordering::Relaxed);
    // Those after it are looked for when the lock of this one's life is free again.
    if !domain.recipe.config.life.says_ready {
        domain.was_up.store(true, Ordering::Release);
    }
}

/// A domain has begun to run, or has said that it is ready: those that start after it may.
fn is_up(domain: &Domain) {
    if !domain.was_up.swap(true, Ordering::AcqRel) {
        start_those_after();
    }
}

/// A domain that says so has written to its xenstore: that it is ready, perhaps.
#[cold]
pub(crate) fn look_whether_ready(domain: &Domain) {
    if domain.recipe.config.life.says_ready
        && !domain.was_up.load(Ordering::Relaxed)
        && store::has(domain.id, "data/ready")
    {
        info!("{}: is ready", domain.name);
        is_up(domain);
    }
}

/// Starts whoever waited for others that have all started, or are over: it is an order, and no condition.
pub(crate) fn start_those_after() {
    for domain in machine::domains() {
        let config = domain.recipe.config;
        let is_past = |name: &String| {
            let other = machine::domains().iter().find(|other| other.name == *name);
            // Who was left out is not waited for.
            other.is_none_or(|other| {
                other.was_up.load(Ordering::Acquire) || other.state() == State::Stopped
            })
        };
        if domain.is_after.load(Ordering::Relaxed)
            && !config.life.manual_start
            && config.after.iter().all(is_past)
            && domain.is_after.swap(false, Ordering::AcqRel)
        {
            // If somebody has started it by hand meanwhile that is as good.
            let _ = start(domain);
        }
    }
}

/// Says that a domain which was started while guests run is running.
pub(crate) fn tell_begin(domain: &Domain) {
    let ticks = domain.build_ticks.load(Ordering::Relaxed);
    let microseconds = hypercalls::nanoseconds(ticks) / 1000;
    let again = match domain.life.lock().restarts() {
        0 => "",
        _ => " again",
    };
    start_those_after();
    info!("{}: runs{again}, {microseconds} us later", domain.name);
}

/// A domain that has ended is to live again.
pub(crate) fn tell_restart(domain: &Domain) {
    let life = *domain.life.lock();
    trace(domain, Turn::Ended, life.cause());
    if let Some(cause) = life.cause() {
        let number = life.restarts().saturating_add(1);
        info!("{}: ended ({cause}); restart {number}", domain.name);
        debug!("the hypervisor uses {} KiB", memory_map::own_usage() >> 10);
    }
}

/// Starts a domain that has not been started, or has ended.
///
/// # Errors
/// It lives, or ends just now.
pub(crate) fn start(domain: &'static Domain) -> Result<(), Refusal> {
    let mut life = domain.life.lock();
    let waits = matches!(life.state(), State::Delayed { .. });
    life.start()?;
    drop(life);
    domain
        .ended_at
        .store(arch::time::counter(), Ordering::Relaxed);
    match waits {
        // The job that waits for its time looks again.
        true => jobs::kick(domain),
        false => jobs::begin(domain, Job::Build(Build::default())),
    }
    Ok(())
}

/// Ends a domain at once, to build it again; one that has ended is just built.
///
/// # Errors
/// It ends or begins just now.
pub(crate) fn restart(domain: &'static Domain) -> Result<(), Refusal> {
    if domain.is_running() {
        begin_end(domain, Cause::Restarted);
        return Ok(());
    }
    start(domain)
}

/// Holds back the vCPUs of a domain.
///
/// # Errors
/// It does not run.
pub(crate) fn pause(domain: &'static Domain) -> Result<(), Refusal> {
    let mut life = domain.life.lock();
    life.pause()?;
    for vcpu in domain.vcpus() {
        schedule::hold(vcpu);
    }
    domain
        .paused_at
        .store(arch::time::counter(), Ordering::Relaxed);
    drop(life);
    trace(domain, Turn::Paused, None);
    info!("{}: paused", domain.name);
    Ok(())
}

/// Lets the vCPUs of a domain go on. Its watchdogs did not run meanwhile.
///
/// # Errors
/// It is not paused.
pub(crate) fn resume(domain: &'static Domain) -> Result<(), Refusal> {
    let mut life = domain.life.lock();
    life.resume()?;
    let paused = domain.paused_at.load(Ordering::Relaxed);
    let ticks = arch::time::counter().saturating_sub(paused);
    domain
        .xen
        .postpone_watchdogs(hypercalls::nanoseconds(ticks));
    for vcpu in domain.vcpus() {
        schedule::let_go(vcpu);
    }
    drop(life);
    timer::arm_watchdog(domain);
    trace(domain, Turn::Resumed, None);
    info!("{}: resumed", domain.name);
    Ok(())
}

/// Asks a guest to shut down, by `control/shutdown` of its xenstore, and destroys it if it has not in so many
/// seconds.
///
/// # Errors
/// It does not run, or has no xenstore.
pub(crate) fn ask_to_shut_down(
    domain: &'static Domain,
    then: Then,
    seconds: u64,
) -> Result<(), Refusal> {
    if domain.xen.store_port().is_none() {
        return Err(Refusal::CannotBeAsked);
    }
    domain.life.lock().ask(then)?;
    store::set(domain.id, "control/shutdown", then.word());
    timer::arm_shutdown(domain, seconds);
    info!(
        "{}: asked to shut down ({}), {seconds} s",
        domain.name,
        then.word()
    );
    Ok(())
}

/// The time for a shutdown that a guest was asked for is over.
pub(crate) fn shutdown_is_late(domain: &'static Domain) {
    if domain.life.lock().asked().is_some() {
        begin_end(domain, Cause::NoAnswer);
    }
}

/// Ends a domain at once; it does not live again.
///
/// # Errors
/// It does not live.
pub(crate) fn destroy(domain: &'static Domain) -> Result<(), Refusal> {
    if domain.is_running() {
        crash::note_end(domain, Cause::Destroyed);
    }
    let mut life = domain.life.lock();
    let waits = matches!(life.state(), State::Delayed { .. });
    let begins = life.destroy()?;
    domain.tell(&life);
    drop(life);
    if begins {
        stop_vcpus(domain);
    } else if waits {
        jobs::kick(domain);
    }
    Ok(())
}

/// The guest asked to end by PSCI, or its watchdog ran out: what it recorded before as its reason counts.
pub(crate) fn end(domain: &'static Domain, reason: ShutdownReason) {
    let recorded = domain.xen.shutdown_reason(reason.number() as u8);
    shut_down(
        domain,
        ShutdownReason::from_number(u32::from(recorded)).unwrap_or(reason),
    );
}

/// The domain is to end by what its guest asked for or did.
pub(crate) fn shut_down(domain: &'static Domain, reason: ShutdownReason) {
    begin_end(domain, Cause::Guest(reason));
}

fn begin_end(domain: &'static Domain, cause: Cause) {
    crash::note_end(domain, cause);
    let mut life = domain.life.lock();
    let begins = life.end(cause);
    domain.tell(&life);
    drop(life);
    if begins {
        stop_vcpus(domain);
    }
}

/// The vCPUs of a domain that ends are never chosen again; each CPU that has one of them loaded unloads it.
fn stop_vcpus(domain: &'static Domain) {
    domain
        .ended_at
        .store(arch::time::counter(), Ordering::Relaxed);
    trace(domain, Turn::Ending, domain.life.lock().cause());
    for vcpu in domain.vcpus() {
        schedule::remove(vcpu);
    }
    finish(domain);
}

/// The guest is to end for what it does to others; the CPUs that run it do that when they look next.
pub(crate) fn condemn(domain: &'static Domain) {
    domain.condemned.store(true, Ordering::Release);
    // All of them: a vCPU may be on its way from one to another.
    for cpu in cpus::all() {
        schedule::look(cpu);
    }
}

/// A CPU has unloaded a vCPU of a domain that is ending.
pub(crate) fn left(domain: &'static Domain) {
    finish(domain);
}

/// Begins what follows the end of the domain, if no CPU has anything of it any more: nobody translates through its
/// second stage then, and nobody copies to or from its memory in a call of its own.
fn finish(domain: &'static Domain) {
    let mut life = domain.life.lock();
    let mut marks = domain.vcpus().iter().map(|vcpu| &vcpu.loaded);
    if is_any_loaded(&mut marks) || !life.unloaded() {
        return;
    }
    drop(life);
    jobs::begin(domain, Job::End(End::default()));
}

/// A domain has ended for good, and has given back its memory.
pub(crate) fn stopped(domain: &'static Domain) {
    let (last, next, cause) = {
        // One domain at a time, so that one of them is the last.
        let _one_at_a_time = ON_LAST_STOP.lock();
        let mut life = domain.life.lock();
        let next = life.released(now());
        let cause = life.cause();
        drop(life);
        start_those_after();
        let has_ended =
            |domain: &&Domain| matches!(domain.state(), State::Stopped | State::Waiting);
        (machine::domains().iter().all(has_ended), next, cause)
    };
    trace(domain, Turn::Ended, cause);
    if let Some(cause) = cause {
        info!("{}: stopped ({cause})", domain.name);
    }
    if next == Next::GaveUp {
        let limit = domain.life.lock().policy().limit;
        error!(
            "{}: ended {limit} times in a row; not started again",
            domain.name
        );
    }
    statistics::tell(domain);
    if last {
        last_stop();
    }
}

/// Says how each guest ended, and does what the boot argument asks for.
pub(crate) fn last_stop() {
    if machine::domains().is_empty() {
        info!("no guest to run");
    } else {
        info!("all guests have stopped:");
        for domain in machine::domains() {
            let cause = domain.life.lock().cause();
            if let Some(cause) = cause {
                info!("  {}: {cause}", domain.name);
            }
        }
        statistics::tell_cpus();
        stretch::tell();
        let pool = memory_map::pool();
        info!(
            "memory: {} of {} KiB free for guests",
            (pool.free() * CHUNK_SIZE) >> 10,
            memory_map::for_guests() >> 10,
        );
    }
    let action = *ON_LAST_STOP.lock();
    match action {
        Action::Halt => {}
        Action::Reboot => power::reboot(),
        Action::PowerOff => power::off(),
        Action::Exit => {
            console::flush();
            trace::flush();
            arch::cpu::semihosting_exit(0)
        }
    }
}
