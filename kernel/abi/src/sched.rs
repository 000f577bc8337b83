//! `sched_op`, hypercall 29 (`xen/include/public/sched.h`).

use crate::DomainId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Lets others run.
pub const YIELD: u64 = 0;
/// Unmasks interrupts and waits for one.
pub const BLOCK: u64 = 1;
/// [`Shutdown`].
pub const SHUTDOWN: u64 = 2;
/// [`Poll`].
pub const POLL: u64 = 3;
/// [`RemoteShutdown`].
pub const REMOTE_SHUTDOWN: u64 = 4;
/// [`Shutdown`]; records the reason and goes on.
pub const SHUTDOWN_CODE: u64 = 5;
/// [`Watchdog`].
pub const WATCHDOG: u64 = 6;
/// Hardware domain only.
pub const PIN_OVERRIDE: u64 = 7;

/// Reason: switched off.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Reason: wants to be started again.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// Reason: suspended.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// Reason: crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// Reason: a watchdog ran out.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Reason: wants to be started again without losing its memory.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;
/// Greatest reason.
pub const SHUTDOWN_MAX: u32 = 5;

/// Why the domain stops.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Shutdown {
    /// in: a `SHUTDOWN_` number.
    pub reason: u32,
}
layout!(Shutdown, 4, reason @ 0);

/// Most ports of a [`Poll`].
pub const POLL_MAX_PORTS: u32 = 128;

/// Waits for an event on one of some ports.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Poll {
    /// in: pointer to `u32` ports.
    pub ports: u64,
    /// in: how many.
    pub nr_ports: u32,
    /// Padding.
    pub reserved: u32,
    /// in: system time in nanoseconds at which to give up; 0 never.
    pub timeout: u64,
}
layout!(Poll, 24, ports @ 0, nr_ports @ 8, timeout @ 16);

/// Stops another domain.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RemoteShutdown {
    /// in: which.
    pub domid: DomainId,
    /// Padding.
    pub reserved: u16,
    /// in: a `SHUTDOWN_` number.
    pub reason: u32,
}
layout!(RemoteShutdown, 8, domid @ 0, reason @ 4);

/// Watchdogs of a domain.
pub const WATCHDOGS: usize = 2;

/// Starts, feeds or stops a watchdog.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Watchdog {
    /// in: 0 for a new one, else its id.
    pub id: u32,
    /// in: seconds from now; 0 stops it.
    pub timeout: u32,
}
layout!(Watchdog, 8, id @ 0, timeout @ 4);
