//! What makes a guest believe that it runs on Xen: hypercalls, event channels, grants, the
//! PV console, the SBSA UART.
//!
//! One [`XenState`] a domain holds all of it. The EL2 image calls [`hypercall()`] for `hvc #0xEA1` and
//! does what the [`Outcome`] says; what this crate needs of the machine it asks of three traits that
//! the image implements, [`GuestMemory`], [`Host`] and [`Caller`]. Everything in memory that a guest
//! can write at the same time is reached through atomics ([`SharedPage`]).
//!
//! No call panics, allocates more than a domain's bounds let it have (frames of its grant table, and places for what it
//! maps: [`Caller::make_room`] comes first), or runs longer than a bounded step: long ones end in [`Outcome::Restart`] and
//! go on when the trapped HVC is executed again.
//!
//! **Locks**, in the order in which they may be held together:
//! 1. what a domain has mapped of others; the placement of its own pages; the active grants of a domain; or a
//!    watchdog, or a runstate: never with another lock of this crate;
//! 2. the event table of the domain with the lower id, then that of the one with the higher id;
//! 3. the FIFO queues of a domain;
//! 4. a console ring; a UART;
//! 5. what the image takes inside the traits' methods (stage-2 table, vGIC, run queue, console).
//!
//! Sending, raising and unmasking an event takes no lock at all by the 2-level ABI, and that of the receiver's
//! queues by the FIFO ABI.
#![cfg_attr(not(any(test, fuzzing)), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(test, fuzzing)),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;

mod console_io;
mod contended;
mod control;
mod events;
#[cfg(any(test, fuzzing))]
pub mod exercise;
mod grants;
mod host;
mod hvm;
mod hypercall;
mod inspect;
mod memory_op;
mod multicall;
mod pages;
mod policy;
mod ring;
mod sched;
mod state;
#[cfg(any(test, fuzzing))]
#[path = "tests/support.rs"]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_macros,
        unused_imports,
        reason = "fuzzing uses less of it than the tests"
    )
)]
mod support;
#[cfg(test)]
mod tests;
mod vcpu;
mod version;
mod vpl011;

pub use events::{
    Announcement, Begun, FIFO_PAGES, Service, StaticChannel, announce, begin_send, send_event,
    send_event_traced, send_port,
};
pub use grants::{Broken, OneGrant};
pub use host::{Caller, GuestMemory, Host, MemoryFigures, Replaced, Traced};
pub use hvm::Parameters;
pub use hypercall::{Arguments, HotCall, Outcome, at_once, dispatch, hot_call, hypercall};
pub use inspect::{InspectedGrant, InspectedPort, PortBinding};
pub use ring::{ConsoleRing, Drained};
pub use state::{Config, ConsoleConfig, NewError, StoreConfig, XenState};
pub use vcpu::{Runstate, VcpuState};
pub use vpl011::{Abort, Vpl011, Wires};

/// A page of the hypervisor's or of a guest's that the guest can write at any moment.
pub type SharedPage = memory::SharedMemory;
