//! The binary trace: where records wait, and how they leave the machine.
//!
//! A record is one whole defmt frame, raw encoding, with its length in front: [`record`](Slot) of 32 bytes. Each CPU
//! has a [`Ring`] of them, which it alone writes, without ever waiting; the oldest are overwritten. Whoever reads has
//! a [`Reader`], which counts what was overwritten before it came. What is read leaves as packets ([`stream`]): to
//! a UART, or as lines of hexadecimal digits. The host's tool uses the same code to read them back.
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

extern crate alloc;

mod primitives;
mod ring;
pub mod stream;

pub use ring::{FRAME, Reader, Ring, SLOT, Slot, Taken, WORDS};
