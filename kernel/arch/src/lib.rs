//! AArch64 at EL2: the part of the hypervisor that executes system instructions.
//!
//! * [`entry`]: from the Image header to Rust with the MMU on; secondary CPUs.
//! * [`vectors`]: exceptions, and the one way back into a guest.
//! * [`context`]: what a vCPU is while it does not run, and the switch of it.
//! * [`mmu`], [`tlb`], [`cache`]: the memory system, with the barriers that Arm DDI 0487 asks for.
//! * `bytes.S`: `memcpy`, `memmove` and `memset`, as the compiler calls them.
//! * [`guest`]: guest memory, by physical address and by the guest's own virtual address.
//! * [`inject`]: exceptions given to a guest.
//! * [`prepare`]: what is the same for every guest on a CPU.
//! * [`serror`]: SErrors that come while EL2 has them masked.
//! * [`registers`]: system registers that aarch64-cpu has no name for.
//! * [`time`]: the system counter.
//!
//! EL2 runs with all interrupts masked, not in VHE mode (`HCR_EL2.E2H` = 0), one to one mapped.
#![no_std]

pub mod cache;
pub mod context;
pub mod cpu;
pub mod entry;
mod float;
pub mod guest;
pub mod inject;
pub mod mmu;
pub mod prepare;
pub mod registers;
pub mod serror;
mod system;
pub mod time;
pub mod tlb;
pub mod vectors;

core::arch::global_asm!(include_str!("bytes.S"));
