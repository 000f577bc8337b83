//! What well-known guests ask of Xen at their start, in their order and their state: MMU and caches off from the first
//! instruction to the last, no xenstore needed, shared_info over a page of their own RAM. `early=zephyr`, `uboot`,
//! `unikraft` or `minios` in the boot arguments. Prints `PASS NAME: step` or `FAIL NAME: step: found, not wanted` by
//! `console_io`, then `DONE`, and powers off the way that guest does. A failure that would stop the real guest stops this one.
//!
//! Nothing of the SDK is in here, whose first act is to switch the MMU on.

#![no_std]
#![no_main]

mod calls;
mod guests;
mod interrupt;
mod machine;

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::panic::PanicInfo;

global_asm!(
    include_str!("entry.S"),
    stack = sym STACK,
    stack_size = const size_of::<Stack>(),
    start = sym start,
    exception = sym exception,
);

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; 32 * 1024]>);

// SAFETY: only the stack pointer of the one CPU ever points into it.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; 32 * 1024]));

extern "C" fn start(tree: u64) -> ! {
    let tree = machine::tree(tree);
    guests::run(tree)
}

extern "C" fn exception(syndrome: u64, at: u64, address: u64) -> ! {
    machine::print(format_args!(
        "FAIL exception {syndrome:#x} at {at:#x}, address {address:#x}"
    ));
    calls::shutdown(abi::sched::SHUTDOWN_CRASH)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    machine::print(format_args!("FAIL {info}"));
    calls::shutdown(abi::sched::SHUTDOWN_CRASH)
}
