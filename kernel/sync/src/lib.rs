//! What CPUs share safely: a spin lock, a cell that is written once, a byte ring, grace periods.
//!
//! EL2 runs with interrupts masked and to completion, so a lock's holder is never interrupted on its
//! own CPU and nothing here masks anything. Nothing here allocates, and nothing sleeps.
//!
//! Compiled with `--cfg loom` and the feature `model`, the same code runs on loom's modelled atomics, and
//! `tests/loom.rs` tries the interleavings:
//! `RUSTFLAGS="--cfg loom" cargo test -p viaduct-sync --features model --release --test loom`.
#![cfg_attr(not(any(test, loom)), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod grace;
mod once;
mod primitives;
mod ring;
mod spin_lock;

pub use grace::Grace;
pub use once::Once;
pub use ring::Ring;
pub use spin_lock::{Guard, SpinLock};
