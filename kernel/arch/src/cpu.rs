//! The CPU that runs this: its identity, its own data, and waiting.

use core::arch::asm;
use core::cell::Cell;

use aarch64_cpu::registers::{MPIDR_EL1, TPIDR_EL2};
use tock_registers::interfaces::{Readable, Writeable};

use crate::context::Context;

/// The part of a CPU's own data that the vectors use. It must be the first field of the image's per-CPU
/// structure ([`crate::exit_handlers`] checks that), which `TPIDR_EL2` points to.
#[repr(C)]
pub struct Header {
    /// Where the stack is empty: every exit from a guest starts there.
    pub(crate) stack_top: Cell<u64>,
    /// The stack on which a synchronous exception of EL2 itself is reported.
    pub(crate) emergency_top: Cell<u64>,
    /// The context whose state is loaded on this CPU; null before the first vCPU ran.
    pub(crate) current: Cell<*const Context>,
}

impl Header {
    /// A header for stacks that end at these addresses.
    #[must_use]
    pub const fn new(stack_top: usize, emergency_top: usize) -> Self {
        Self {
            stack_top: Cell::new(stack_top as u64),
            emergency_top: Cell::new(emergency_top as u64),
            current: Cell::new(core::ptr::null()),
        }
    }
}

/// Makes `header` this CPU's own.
pub fn adopt(header: &'static Header) {
    TPIDR_EL2.set(core::ptr::from_ref(header).addr() as u64);
}

/// What `TPIDR_EL2` holds: the address of this CPU's header, or 0 if there is none yet.
#[must_use]
pub fn header_address() -> usize {
    TPIDR_EL2.get() as usize
}

/// Affinity of this CPU: Aff3 in bits 39..32, Aff2..Aff0 in bits 23..0, nothing else.
#[must_use]
pub fn affinity() -> u64 {
    MPIDR_EL1.get() & 0xff_00ff_ffff
}

/// Clears what a reset left in `TPIDR_EL2`, so that [`header_address`] says 0 until [`adopt`].
pub fn forget_header() {
    TPIDR_EL2.set(0);
}

/// Sleeps until an interrupt is pending (it stays pending: they are masked).
pub fn wait_for_interrupt() {
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
    aarch64_cpu::asm::wfi();
}

/// Stops this CPU for good.
pub fn park() -> ! {
    loop {
        aarch64_cpu::asm::wfe();
    }
}

/// Semihosting `SYS_EXIT_EXTENDED` (0x20) with ADP_Stopped_ApplicationExit: ends a QEMU that was started with
/// semihosting. Elsewhere the instruction is undefined, so it is only used when the boot argument asks.
pub fn semihosting_exit(code: u64) -> ! {
    let block = [0x2_0026_u64, code];
    // SAFETY: the debugger (QEMU) reads the block of two words and ends the machine.
    unsafe {
        asm!("hlt #0xf000", in("x0") 0x20, in("x1") block.as_ptr(), options(nostack));
    }
    park()
}
