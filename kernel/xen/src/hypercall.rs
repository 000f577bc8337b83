//! Dispatch of `hvc #0xEA1`: number in x16, arguments in x0..x4.
//!
//! The two calls that a benchmark makes, `xen_version(0)` and an unknown number, are decided by
//! comparisons at the front; the rest goes through one jump table to a function of its own each.

use crate::{
    Caller, console_io, control, events, grants, hvm, memory_op, multicall, sched, vcpu, version,
};
use abi::{Errno, hypercall as number};
use core::num::NonZeroU64;

/// What the vCPU does after a hypercall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// Put this in x0 and go on.
    Return(i64),
    /// Put 0 in x0 and let others run.
    Yield,
    /// Put 0 in x0, clear PSTATE.I in the saved state, and sleep until an interrupt can be delivered.
    Block,
    /// Put 0 in x0 and sleep until [`Host::wake`](crate::Host::wake), an interrupt can be delivered, or this
    /// system time in nanoseconds; then call [`XenState::end_poll`](crate::XenState::end_poll).
    Poll(Option<NonZeroU64>),
    /// Put 0 in x0 and shut the domain down for this reason, one of `abi::sched::SHUTDOWN_*` or a number of
    /// the guest's own.
    Shutdown(u8),
    /// Execute the HVC again (ELR - 4) with the arguments as they are now, after pending work.
    Restart,
}

/// Arguments of a hypercall: the guest's x0..x4. Those of a call that is to be restarted are edited.
pub type Arguments = [u64; number::MAX_ARGUMENTS];

/// The result of a call that can be told from its number and its first argument alone.
#[inline]
#[must_use]
pub const fn at_once(nr: u64, x0: u64) -> Option<i64> {
    if nr == number::XEN_VERSION && x0 as u32 == abi::version::VERSION as u32 {
        return Some(version::VERSION);
    }
    if nr > number::HYPFS_OP {
        return Some(Errno::NoSys.as_return());
    }
    None
}

/// Calls that come so often that whoever takes hypercalls does well to look for them first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HotCall {
    /// `SCHEDOP_yield`: [`Outcome::Yield`].
    Yield,
    /// `EVTCHNOP_send`, by [`crate::send_event`] or [`crate::send_event_traced`].
    Send,
}

/// Whether a call is one of those.
#[inline]
#[must_use]
pub const fn hot_call(nr: u64, x0: u64) -> Option<HotCall> {
    let command = x0 as u32 as u64;
    if nr == number::EVENT_CHANNEL_OP && command == abi::event_channel::SEND {
        return Some(HotCall::Send);
    }
    if nr == number::SCHED_OP && command == abi::sched::YIELD {
        return Some(HotCall::Yield);
    }
    None
}

/// Serves a hypercall of `caller`. x0 is not written here: the [`Outcome`] says what goes there.
#[inline]
pub fn hypercall<C: Caller>(caller: &C, nr: u64, arguments: &mut Arguments) -> Outcome {
    match at_once(nr, arguments[0]) {
        Some(value) => Outcome::Return(value),
        None => dispatch(caller, nr, arguments),
    }
}

/// All calls, by number, but those of [`at_once`]. Not inlined, so that what stands before it is.
#[inline(never)]
pub fn dispatch<C: Caller>(caller: &C, nr: u64, arguments: &mut Arguments) -> Outcome {
    let [x0, x1, x2, ..] = *arguments;
    // Commands and counts are 32-bit in Xen's C interface: the upper half of the register is whatever the
    // guest's compiler left there.
    let result = match nr {
        number::EVENT_CHANNEL_OP => events::call(caller, x0 as u32, x1),
        number::SCHED_OP => return sched::call(caller, x0 as u32, x1),
        number::XEN_VERSION => version::call(caller, x0 as u32, x1),
        number::MEMORY_OP => memory_op::call(caller, arguments),
        number::GRANT_TABLE_OP => grants::call(caller, arguments),
        number::CONSOLE_IO => console_io::call(caller, arguments),
        number::HVM_OP => hvm::call(caller, x0, x1),
        number::VCPU_OP => vcpu::call(caller, x0 as u32, x1 as u32, x2),
        number::VM_ASSIST => vcpu::assist(caller, x0 as u32, x1 as u32),
        number::MULTICALL => return multicall::call(caller, arguments),
        number::PLATFORM_OP => control::platform(caller, x0),
        number::SYSCTL => control::sysctl(caller, x0),
        number::DOMCTL => control::domctl(caller, x0),
        number::HYPFS_OP => Err(Errno::Perm),
        _ => Err(Errno::NoSys),
    };
    outcome(result)
}

/// The outcome of a call that only returns.
#[inline]
pub(crate) fn outcome(result: Result<i64, Errno>) -> Outcome {
    match result {
        Ok(value) => Outcome::Return(value),
        Err(Errno::Restart) => Outcome::Restart,
        Err(error) => Outcome::Return(error.as_return()),
    }
}
