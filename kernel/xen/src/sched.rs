//! `sched_op` (`xen/include/public/sched.h`): yield, block, poll, shutdown, watchdogs.

use crate::hypercall::outcome;
use crate::{Caller, Outcome, XenState, host};
use abi::sched as op;
use abi::{DomainId, Errno};
use core::num::NonZeroU64;
use memory::Va;
use sync::SpinLock;

const NANOSECONDS: u64 = 1_000_000_000;

#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, cmd: u32, argument: u64) -> Outcome {
    match u64::from(cmd) {
        op::YIELD => Outcome::Yield,
        op::BLOCK => Outcome::Block,
        _ => other(caller, cmd, argument).unwrap_or_else(|error| outcome(Err(error))),
    }
}

#[inline(never)]
fn other<C: Caller>(caller: &C, cmd: u32, argument: u64) -> Result<Outcome, Errno> {
    match u64::from(cmd) {
        op::SHUTDOWN => {
            let reason = caller.read_u32(Va::new(argument))? as u8;
            let reason = caller.state().shutdown_reason(reason);
            Ok(Outcome::Shutdown(reason))
        }
        op::POLL => poll(caller, argument),
        op::REMOTE_SHUTDOWN => {
            let request: op::RemoteShutdown = host::read(caller, argument)?;
            // SELF is no real number here, and nobody controls anybody.
            match request.domid {
                DomainId::SELF => Err(Errno::NoSuchDomain),
                id => host::own_domain(caller, id).and(Err(Errno::Perm)),
            }
        }
        op::SHUTDOWN_CODE => {
            let reason = caller.read_u32(Va::new(argument))? as u8;
            caller.state().shutdown_reason(reason);
            Ok(Outcome::Return(0))
        }
        op::WATCHDOG => {
            let request: op::Watchdog = host::read(caller, argument)?;
            let id = caller.state().watchdogs.set(request, caller.now())?;
            caller.watchdog_changed();
            Ok(Outcome::Return(id))
        }
        op::PIN_OVERRIDE => Err(Errno::Perm),
        _ => Err(Errno::NoSys),
    }
}

/// Returns at once if one of the ports is pending; masks do not matter. Port 0 is never pending, and alone it
/// stands for any event, as no port does.
fn poll<C: Caller>(caller: &C, argument: u64) -> Result<Outcome, Errno> {
    let request: op::Poll = host::read(caller, argument)?;
    if request.nr_ports > op::POLL_MAX_PORTS {
        return Err(Errno::Invalid);
    }
    let mut ports = [0_u32; op::POLL_MAX_PORTS as usize];
    let ports = ports
        .get_mut(..request.nr_ports as usize)
        .ok_or(Errno::Invalid)?;
    // A guest that only waits for the time passes no list, perhaps a null pointer.
    if !ports.is_empty() {
        caller.read(
            Va::new(request.ports),
            zerocopy::IntoBytes::as_mut_bytes(ports),
        )?;
    }
    let state = caller.state();
    let (id, vcpu) = state.vcpu(caller.vcpu().0)?;
    // First announce, then look: an event in between ends the poll.
    state.start_poll(vcpu, ports);
    for &port in &*ports {
        // One that is pending hides what is wrong with those after it.
        let found = if port >= state.events.ports() {
            Err(Errno::Invalid)
        } else if state.is_pending(port) {
            Ok(Outcome::Return(0))
        } else {
            continue;
        };
        state.end_poll(id);
        return found;
    }
    Ok(Outcome::Poll(NonZeroU64::new(request.timeout)))
}

/// The watchdogs of a domain: system time in nanoseconds at which each runs out.
#[derive(Default)]
pub(crate) struct Watchdogs(SpinLock<[Option<u64>; op::WATCHDOGS]>);

impl Watchdogs {
    /// None runs.
    pub(crate) fn renew(&self) {
        *self.0.lock() = [None; op::WATCHDOGS];
    }

    fn set(&self, request: op::Watchdog, now: u64) -> Result<i64, Errno> {
        let mut timers = self.0.lock();
        let deadline = u64::from(request.timeout)
            .saturating_mul(NANOSECONDS)
            .saturating_add(now);
        if request.id == 0 {
            if request.timeout == 0 {
                return Err(Errno::Invalid);
            }
            let free = timers
                .iter_mut()
                .zip(1..)
                .find(|(timer, _)| timer.is_none());
            let (timer, id) = free.ok_or(Errno::NoSpace)?;
            *timer = Some(deadline);
            return Ok(id);
        }
        let index = (request.id as usize).wrapping_sub(1);
        match timers.get_mut(index) {
            Some(timer @ Some(_)) => {
                *timer = (request.timeout != 0).then_some(deadline);
                Ok(0)
            }
            _ => Err(Errno::Invalid),
        }
    }
}

impl XenState {
    /// System time in nanoseconds at which the first watchdog runs out; `None` if none runs.
    #[must_use]
    pub fn next_watchdog(&self) -> Option<u64> {
        self.watchdogs.0.lock().iter().flatten().min().copied()
    }

    /// The domain did not run for so many nanoseconds: its watchdogs run out that much later.
    pub fn postpone_watchdogs(&self, by: u64) {
        for deadline in self.watchdogs.0.lock().iter_mut().flatten() {
            *deadline = deadline.saturating_add(by);
        }
    }

    /// Whether a watchdog has run out at `now`: the domain is then shut down with
    /// `abi::sched::SHUTDOWN_WATCHDOG`.
    #[must_use]
    pub fn watchdog_expired(&self, now: u64) -> bool {
        self.next_watchdog().is_some_and(|deadline| deadline <= now)
    }
}
