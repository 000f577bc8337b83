//! The life of each domain: it is paused and resumed, asked to shut down, ended. At its end its vCPUs leave their
//! CPUs, and then it gives back what it holds. What follows what is decided in `domain::life`.

use core::sync::atomic::Ordering;

use ::memory::CHUNK_SIZE;
use devtree::Action;
use domain::life::{Cause, Refusal, State, Then};
use domain::lifecycle::ShutdownReason;
use log::{error, info};
use sync::SpinLock;

use crate::hypercalls::{self, Machine};
use crate::machine::{self, Domain, Vcpu};
use crate::{console, cpus, frames, memory_map, power, schedule, statistics, store, timer};

/// What the boot argument asks for when the last guest has stopped.
static ON_LAST_STOP: SpinLock<Action> = SpinLock::new(Action::Halt);

/// Remembers what the boot argument asks for.
pub(crate) fn set_action(action: Action) {
    *ON_LAST_STOP.lock() = action;
}

/// Milliseconds since the machine's counter began.
fn now() -> u64 {
    let frequency = u128::from(arch::time::frequency().max(1));
    (u128::from(arch::time::counter()) * 1000 / frequency) as u64
}

/// A domain that was built runs from now on.
pub(crate) fn begin(domain: &Domain) {
    let mut life = domain.life.lock();
    if life.start().is_ok() {
        life.built(now());
    }
}

/// Holds back the vCPUs of a domain.
///
/// # Errors
/// It does not run.
#[expect(dead_code, reason = "commands of the console call it")]
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
    info!("{}: paused", domain.name);
    Ok(())
}

/// Lets the vCPUs of a domain go on. Its watchdogs did not run meanwhile.
///
/// # Errors
/// It is not paused.
#[expect(dead_code, reason = "commands of the console call it")]
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
    info!("{}: resumed", domain.name);
    Ok(())
}

/// Asks a guest to shut down, by `control/shutdown` of its xenstore, and destroys it if it has not in so many
/// seconds.
///
/// # Errors
/// It does not run, or has no xenstore.
#[expect(dead_code, reason = "commands of the console call it")]
pub(crate) fn ask_to_shut_down(
    domain: &'static Domain,
    then: Then,
    seconds: u64,
) -> Result<(), Refusal> {
    if domain.xen.store_port().is_none() {
        return Err(Refusal::CannotBeAsked);
    }
    domain.life.lock().ask(then)?;
    // It may end just now, and then needs no asking.
    let _ = store::set(domain.id, "control/shutdown", then.word());
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
#[expect(dead_code, reason = "commands of the console call it")]
pub(crate) fn destroy(domain: &'static Domain) -> Result<(), Refusal> {
    let begins = domain.life.lock().destroy()?;
    if begins {
        stop_vcpus(domain);
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
    let begins = domain.life.lock().end(cause);
    if begins {
        stop_vcpus(domain);
    }
}

/// The vCPUs of a domain that ends are never chosen again; each CPU that has one of them loaded unloads it.
fn stop_vcpus(domain: &'static Domain) {
    for vcpu in domain.vcpus() {
        schedule::remove(vcpu);
    }
    finish(domain);
}

/// The guest did what no guest can go on after.
pub(crate) fn crash(vcpu: &'static Vcpu, why: &str) {
    let (pc, pstate) = arch::vectors::return_state();
    error!(
        "{}: vCPU {} crashed: {why} (PC {pc:#x}, PSTATE {pstate:#x})",
        vcpu.domain.name, vcpu.id
    );
    shut_down(vcpu.domain, ShutdownReason::Crash);
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

/// Ends the domain if no CPU has anything of it any more.
fn finish(domain: &'static Domain) {
    {
        let mut life = domain.life.lock();
        if domain.vcpus().iter().any(Vcpu::is_loaded) || !life.unloaded() {
            return;
        }
    }
    // From here on nobody translates through its stage 2, and nobody copies to or from its memory: the
    // calls that do run on CPUs that have it loaded.
    while !domain.xen.disconnect_all(&Machine) {}
    store::remove(domain.id);
    domain.gone.store(true, Ordering::Release);
    domain.xen.close_grants();
    arch::tlb::Stage2::new(domain.vttbr).invalidate_all();
    while !domain.xen.release_maps(&Machine) {}
    settle(domain);
}

/// Lets go of all that a domain has, once what it wrote before its end is with the console: comes again when
/// there is room for more of it.
pub(crate) fn settle(domain: &'static Domain) {
    let more = domain.xen.serve_console(&Machine);
    if !domain.xen.console_is_drained() {
        if more {
            console::serve_later(domain);
        }
        return;
    }
    if domain.state() != State::Releasing || domain.closing.swap(true, Ordering::AcqRel) {
        return;
    }
    console::close(domain.console);
    frames::depart(domain);
}

/// A domain has ended, and nothing that it had can be reached any more.
pub(crate) fn stopped(domain: &'static Domain) {
    let cause = domain.life.lock().cause();
    if let Some(cause) = cause {
        info!("{}: stopped ({cause})", domain.name);
    }
    statistics::tell(domain);
    if is_last(domain) {
        last_stop();
    }
}

/// Books the end of a domain; whether it was the last one. One domain at a time, so that one of them is.
fn is_last(domain: &Domain) -> bool {
    let _one_at_a_time = ON_LAST_STOP.lock();
    let _ = domain.life.lock().released(now());
    machine::domains()
        .iter()
        .all(|domain| domain.state() == State::Stopped)
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
        let pool = memory_map::pool();
        info!(
            "memory: {} of {} KiB free for guests",
            (pool.free() * CHUNK_SIZE) >> 10,
            (pool.total() * CHUNK_SIZE) >> 10,
        );
    }
    let action = *ON_LAST_STOP.lock();
    match action {
        Action::Halt => {}
        Action::Reboot => power::reboot(),
        Action::PowerOff => power::off(),
        Action::Exit => {
            console::flush();
            arch::cpu::semihosting_exit(0)
        }
    }
}
