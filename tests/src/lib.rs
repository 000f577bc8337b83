//! System tests: builds the images, describes guests and machines, owns the QEMU processes, and
//! waits for lines on their consoles.
//!
//! A test says what it needs and what it expects:
//!
//! ```no_run
//! use viaduct_tests::{Bundle, Gic, Guest, Machine, seconds};
//!
//! let bundle = Bundle::new("one-hello").guest(Guest::hello("hello-1")).write();
//! let mut console = Machine::virt(Gic::V3).cpus(2).bundle(&bundle).start("doc");
//! console.expect("hello-1| ", seconds(30));
//! ```
//!
//! At most two QEMUs run at once, however many tests and test binaries there are. A QEMU ends with
//! the value that owns it. The whole console of every test is kept in `target/tests/`.

#![forbid(unsafe_code)]

mod bundle;
mod console;
pub mod cost;
pub mod demo;
pub mod family;
pub mod gdb;
mod guest;
mod host_tree;
mod images;
pub mod lines;
pub mod linux;
mod machine;
mod monitor;
mod paths;
pub mod sdcard;
pub mod settings;
mod skip;
mod slots;
mod spread;
pub mod steady;
mod transcript;

pub use bundle::Bundle;
pub use console::{Console, seconds};
pub use guest::{CLOCK, Guest};
pub use images::{
    Image, XEN, debian_kernel, exchange_initramfs, guest_elf, guest_image, linux_initramfs,
    linux_initramfs_with_disks, linux_kernel, pi4_tree, pi4_trees, u_boot,
};
pub use machine::{Board, Gic, Machine};
pub use monitor::Monitor;
pub use paths::{root, scratch, target};
pub use skip::skip;
pub use spread::Spread;
