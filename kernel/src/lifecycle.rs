//! The end of a domain: its vCPUs leave their CPUs, and then it gives back what it holds.

use core::sync::atomic::Ordering;

use ::memory::CHUNK_SIZE;
use devtree::Action;
use domain::lifecycle::ShutdownReason;
use log::{error, info};
use sync::SpinLock;

use crate::hypercalls::Machine;
use crate::machine::{self, Domain, Phase, Vcpu};
use crate::{console, cpus, frames, memory_map, power, schedule, statistics, store};

/// What the boot argument asks for when the last guest has stopped.
static ON_LAST_STOP: SpinLock<Action> = SpinLock::new(Action::Halt);

/// Remembers what the boot argument asks for.
pub(crate) fn set_action(action: Action) {
    *ON_LAST_STOP.lock() = action;
}

/// The guest asked to end by PSCI, or its watchdog ran out: what it recorded before as its reason counts.
pub(crate) fn end(domain: &'static Domain, reason: ShutdownReason) {
    let recorded = domain.xen.shutdown_reason(reason.number() as u8);
    shut_down(
        domain,
        ShutdownReason::from_number(u32::from(recorded)).unwrap_or(reason),
    );
}

/// The domain is to end. Its vCPUs are never chosen again; each CPU that has one of them loaded unloads it.
pub(crate) fn shut_down(domain: &'static Domain, reason: ShutdownReason) {
    {
        let mut phase = domain.phase.lock();
        if *phase != Phase::Running {
            return;
        }
        *phase = Phase::Stopping(reason);
    }
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
        let mut phase = domain.phase.lock();
        let Phase::Stopping(reason) = *phase else {
            return;
        };
        if domain.vcpus().iter().any(Vcpu::is_loaded) {
            return;
        }
        *phase = Phase::Releasing(reason);
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
    let reason = {
        let mut phase = domain.phase.lock();
        let Phase::Releasing(reason) = *phase else {
            return;
        };
        *phase = Phase::Closing(reason);
        reason
    };
    console::close(domain.console);
    frames::depart(domain, reason);
}

/// A domain has ended, and nothing that it had can be reached any more.
pub(crate) fn stopped(domain: &'static Domain, reason: ShutdownReason) {
    info!("{}: stopped ({reason})", domain.name);
    statistics::tell(domain);
    if is_last(domain, reason) {
        last_stop();
    }
}

/// Books the end of a domain; whether it was the last one. One domain at a time, so that one of them is.
fn is_last(domain: &Domain, reason: ShutdownReason) -> bool {
    let _one_at_a_time = ON_LAST_STOP.lock();
    *domain.phase.lock() = Phase::Stopped(reason);
    machine::domains()
        .iter()
        .all(|domain| matches!(*domain.phase.lock(), Phase::Stopped(_)))
}

/// Says how each guest ended, and does what the boot argument asks for.
pub(crate) fn last_stop() {
    if machine::domains().is_empty() {
        info!("no guest to run");
    } else {
        info!("all guests have stopped:");
        for domain in machine::domains() {
            let phase = *domain.phase.lock();
            if let Phase::Stopped(reason) = phase {
                info!("  {}: {reason}", domain.name);
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
