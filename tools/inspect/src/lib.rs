//! `just inspect FILE`: what the hypervisor would make of a host tree or a bundle, told on a workstation.
//!
//! Descriptions are read and guests are planned by the very code that runs at EL2 (`devtree::plan`,
//! `devtree::own_memory`), so what is told here is what happens there. What only the board knows, a CPU that
//! does not come up or a heap that grows, is told as such.

#![forbid(unsafe_code)]

mod report;
pub mod settings;
mod text;

pub use report::{Fate, Guest, Inputs, Report, image_size};
