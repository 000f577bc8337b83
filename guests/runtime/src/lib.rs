//! The unikernel SDK: everything between the hypervisor's first instruction and the `main` of a guest.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! runtime::entry!(main);
//! fn main() {
//!     runtime::println!("hello");
//! }
//! ```
//!
//! A guest is one static program for EL1 with an identity map. It runs under Viaduct and under Xen as a
//! domU, and, for what needs no hypervisor, on a bare `virt` machine of QEMU. `main` runs on CPU 0 with
//! interrupts on; when it returns the guest powers off.
//!
//! | module | what |
//! |---|---|
//! | [`arguments`] | the boot arguments, `key=value` by `key=value` |
//! | [`console`] | `print!`, `println!`, input: PV ring, else UART, else hypercall |
//! | [`cpu`] | numbers, further CPUs with a stack each, masking, waiting |
//! | [`event`], [`grant`], [`hypercall`], [`xen`] | the Xen ABI |
//! | [`exception`] | accesses that may fault |
//! | [`gic`], [`interrupt`] | interrupt controller (v2, v3) and handlers |
//! | [`memory`] | map, heap, spare RAM |
//! | [`psci`] | power, SMCCC |
//! | [`timer`] | time, sleep, deadlines (virtual timer) |
//! | [`tree`] | the device tree |
//! | [`xenstore`] | a client of xenstore |

#![no_std]

extern crate alloc;

pub mod arguments;
pub mod console;
pub mod cpu;
pub mod entry;
pub mod event;
pub mod exception;
pub mod gic;
pub mod grant;
pub mod hypercall;
pub mod interrupt;
pub mod memory;
pub mod mmio;
pub mod program;
pub mod psci;
pub mod sync;
mod sysreg;
pub mod timer;
pub mod tree;
pub mod xen;
pub mod xenstore;

mod panic;

pub use abi;

/// Names the function that the guest consists of: `fn()`, run on CPU 0.
///
/// `entry!(main, heap = BYTES)` limits the heap; the RAM left over is [`memory::spare`]. Without it the
/// heap is all free RAM.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!($main, heap = usize::MAX);
    };
    ($main:path, heap = $heap:expr) => {
        // SAFETY: the names are the runtime's own, and a guest has one `entry!`: a second is refused by
        // the linker.
        #[unsafe(no_mangle)]
        extern "Rust" fn __guest_main() {
            let main: fn() = $main;
            main();
        }

        // SAFETY: as above.
        #[unsafe(no_mangle)]
        static __GUEST_HEAP_LIMIT: usize = $heap;
    };
}
