//! The CPU that runs this: its identity, its own data, and waiting.

use core::arch::asm;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use aarch64_cpu::registers::{MPIDR_EL1, TPIDR_EL2};
use tock_registers::interfaces::{Readable, Writeable};

use crate::context::Context;

/// The part of a CPU's own data that the vectors use. It must be the first field of the image's per-CPU
/// structure ([`crate::exit_handlers`] checks that), which `TPIDR_EL2` points to.
#[repr(C)]
pub struct Header {
    /// Where the stack is empty: every exit from a guest starts there.
    pub(crate) stack_top: AtomicU64,
    /// The stack on which a synchronous exception of EL2 itself is reported.
    pub(crate) emergency_top: AtomicU64,
    /// The context whose state is loaded on this CPU; null before the first vCPU ran.
    pub(crate) current: AtomicPtr<Context>,
    /// Not 0 while EL2 lets a pending SError come, which is not its own.
    pub(crate) awaits_serror: AtomicU64,
}

impl Header {
    /// A header for stacks whose first free addresses, going down, are these.
    #[must_use]
    pub const fn new(stack_top: usize, emergency_top: usize) -> Self {
        Self {
            stack_top: AtomicU64::new(stack_top as u64),
            emergency_top: AtomicU64::new(emergency_top as u64),
            current: AtomicPtr::new(core::ptr::null_mut()),
            awaits_serror: AtomicU64::new(0),
        }
    }

    /// The context that is loaded on this CPU; null before the first vCPU ran.
    pub(crate) fn current(&self) -> *const Context {
        self.current.load(Ordering::Relaxed)
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

/// Goes on with `run` on another stack, and gives up what is on the present one.
///
/// # Safety
/// `stack_top` is a multiple of 16 and the top of a stack that is mapped, and nobody else's.
pub unsafe fn change_stack(stack_top: usize, run: extern "C" fn() -> !) -> ! {
    // SAFETY: the caller vouches for the stack; the frame record of 0 ends a backtrace. The operands have registers of
    // their own, since x30 is one that the compiler might choose.
    unsafe {
        asm!(
            "mov sp, x0",
            "mov x29, xzr",
            "mov x30, xzr",
            "br x1",
            in("x0") stack_top,
            in("x1") run,
            options(noreturn),
        )
    }
}

/// The frame pointer of the caller: where its (frame pointer, return address) pair lies.
#[inline(always)]
#[must_use]
pub fn frame_pointer() -> usize {
    let frame;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) }
    frame
}

/// The two words at `address` if they lie inside `stack`: a frame of a backtrace.
#[must_use]
pub fn stack_words(stack: memory::PaRange, address: usize) -> Option<(u64, u64)> {
    let frame = memory::PaRange::new(memory::Pa::new(address as u64), 16)?;
    if !stack.contains_range(frame) || !address.is_multiple_of(16) {
        return None;
    }
    let words = address as *const u64;
    // SAFETY: inside a stack of this CPU, which is mapped.
    let first = unsafe { words.read_volatile() };
    // SAFETY: as above.
    let second = unsafe { words.wrapping_add(1).read_volatile() };
    Some((first, second))
}

/// Sleeps until another CPU sends an event (or for no reason at all).
pub fn wait_for_event() {
    aarch64_cpu::asm::wfe();
}

/// Wakes the CPUs that wait for an event, after what was written before.
pub fn send_event() {
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
    aarch64_cpu::asm::sev();
}

/// Whether this CPU makes random numbers (FEAT_RNG, `ID_AA64ISAR0_EL1.RNDR`).
#[must_use]
pub fn has_random() -> bool {
    crate::registers::identity(6, 0) >> 60 != 0
}

/// A random number from a generator that was seeded anew for it (`RNDRRS`, DDI 0487 C5.2.18); `None` if it is
/// not ready after a few tries, or this CPU has none.
#[must_use]
pub fn random() -> Option<u64> {
    const TRIES: u32 = 16;
    if !has_random() {
        return None;
    }
    (0..TRIES).find_map(|_| {
        let (value, ready): (u64, u64);
        // SAFETY: reads a register that is there by the check; Z says that there was no number.
        unsafe {
            asm!("mrs {}, S3_3_C2_C4_1", "cset {}, ne", out(reg) value, out(reg) ready, options(nomem, nostack));
        }
        (ready != 0).then_some(value)
    })
}
