//! Everything that is read from, or written to, a device tree, and what a boot module may be.
//!
//! * [`Board`]: the host's tree as one flat value; [`early::console`]: just the console, first thing.
//! * [`guest`]: descriptions of guests, from the host's `/chosen` or from a bundle, after Xen's dom0less
//!   binding; what is wrong in one is told as a [`Problem`] and leaves out that guest alone.
//! * [`fit`]: the bundle, a FIT image; [`kernel`]: what a guest's kernel file is, [`gzip`] when it is packed.
//! * [`placement`] and [`guest_tree`]: where things go in guest RAM, and the tree that the guest gets.
//! * [`plan`]: all that together, for each guest: what the image carries out and the checker prints.
//! * [`seats`]: which CPU each vCPU begins on, and what of the CPUs is promised to real-time vCPUs.
//! * [`free`] and [`own_memory`]: the physical memory that nobody has taken yet, and what the hypervisor takes.
//!
//! Trees and bundles come from outside: whatever bytes they hold, nothing here panics, runs for longer
//! than their size allows, or recurses. [`Board`] and [`early`] need no heap.
#![cfg_attr(not(any(test, fuzzing)), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(test, fuzzing)),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

extern crate alloc;

mod assign;
pub mod board;
mod check;
mod device;
#[cfg(test)]
mod dts;
pub mod early;
mod error;
#[cfg(any(test, fuzzing))]
pub mod exercise;
pub mod fit;
mod flat;
pub mod free;
pub mod guest;
mod guest_machine;
pub mod guest_tree;
pub mod gzip;
pub(crate) mod hardware;
mod host;
pub mod kernel;
mod led;
#[cfg(test)]
mod mutation_tests;
pub mod options;
pub mod own_memory;
pub mod placement;
pub mod plan;
mod problem;
mod properties;
#[cfg(test)]
mod random;
pub mod seats;
pub mod tree;
mod uart;
mod walk;

pub use assign::Assignment;
pub use board::Board;
pub use error::Error;
pub use led::{Led, led};
pub use options::{Action, Options};
pub use problem::{Problem, Severity};
pub use tree::Tree;
pub use uart::{Uart, UartKind};
