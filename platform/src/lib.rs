//! Drivers for the few devices that the hypervisor itself uses: interrupt controller, UART, generic
//! timer, the ways to start a CPU and to switch the board off.
//!
//! A driver turns register layouts into operations with names, and no more: which interrupt means what,
//! who prints, and which CPU runs what is decided by the EL2 image. Drivers know no board; addresses
//! come from the device tree. None of them allocates, and none waits without a bound, except where the
//! function never returns.
//!
//! Registers are declared with tock-registers, one file a device; the memory-mapped ones are reached
//! through `Mmio`, whose constructor is where a caller promises that the address is right.
//!
//! Everything compiles for the workstation too, where barriers do nothing, and the tests run the
//! drivers over blocks of ordinary memory.
#![cfg_attr(not(test), no_std)]

mod barrier;
pub mod cpu_start;
pub mod firmware;
pub mod gic;
pub mod led;
mod mmio;
pub mod power;
mod sysreg;
pub mod timer;
pub mod uart;

/// CPUs that the drivers keep books for; logical CPU numbers are below it.
pub const MAX_CPUS: usize = 16;
