//! What a domain does that is not memory, interrupts or Xen: why its vCPUs exit, how they are switched
//! on and off, who runs next, and what its trapped registers and devices answer.
//!
//! All of it is plain data and functions. Guests are hostile: every function here is total over what a
//! guest can give it, and none allocates on a guest's behalf ([`sched::RunQueue`] and [`mmio::Bus`]
//! take their room when a domain is created).
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;

pub mod affinity;
pub mod clock;
pub mod coprocessor;
pub mod counters;
pub mod exit;
pub mod life;
pub mod lifecycle;
pub mod migration;
pub mod mmio;
pub mod presence;
pub mod psci;
pub mod recent;
pub mod report;
pub mod sched;
pub mod serror;
pub mod set_way;
pub mod speculation;
pub mod sysreg;
pub mod timer;
pub mod timers;
