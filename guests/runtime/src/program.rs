//! Programs at EL0: a few instructions that run until their first exception, which is given back.

use crate::{
    cpu,
    exception::Frame,
    memory,
    sync::{Lock, Once},
};
use aarch64_cpu::registers::{CNTKCTL_EL1, Readable, SCTLR_EL1, Writeable};

/// The instruction set of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Set {
    /// AArch64.
    A64,
    /// AArch32, ARM.
    A32,
    /// AArch32, Thumb.
    T32,
}

impl Set {
    /// PSTATE at the start: EL0 or User mode, everything masked, Z clear.
    fn state(self) -> u64 {
        match self {
            Self::A64 => 0x3c0,
            Self::A32 => 0x1d0,
            Self::T32 => 0x1f0,
        }
    }
}

/// Where programs lie for themselves.
pub const AT: u64 = 0xc000_0000;
/// Where their data may lie: the page behind the code.
pub const DATA: u64 = AT + memory::PAGE;

static LAST: Lock<Option<Frame>> = Lock::new(None);

/// An exception came from EL0: the program ends.
pub(crate) fn ended(frame: &mut Frame) {
    unsafe extern "C" {
        fn program_end();
    }
    *LAST.lock() = Some(*frame);
    frame.elr = program_end as *const () as u64;
    frame.spsr = 0x3c5;
}

/// The page where the code lies for us. `None` if there is no spare RAM for it.
fn page() -> Option<u64> {
    static PAGE: Once<Option<u64>> = Once::new();
    if PAGE.get().is_none() {
        PAGE.set(memory::map_program(AT));
    }
    *PAGE.get()?
}

/// Whether this CPU has AArch32 at EL0.
pub fn has_aarch32() -> bool {
    aarch64_cpu::registers::ID_AA64PFR0_EL1.get() & 0xf == 2
}

/// `CNTKCTL_EL1`: every counter and timer, for EL0.
pub const ALL_TIMERS: u64 = 0x303;

/// Runs `code` with these in x0 to x14, and gives back the registers at its first exception. It may use the
/// timers, wait, and do cache maintenance as far as a kernel can permit. `None` if there is no room for it.
pub fn run(set: Set, code: &[u32], registers: &[u64; 15]) -> Option<Frame> {
    run_with_timers(set, code, registers, ALL_TIMERS)
}

/// As [`run`], with those counters and timers that `permitted` names, bits of `CNTKCTL_EL1`.
pub fn run_with_timers(
    set: Set,
    code: &[u32],
    registers: &[u64; 15],
    permitted: u64,
) -> Option<Frame> {
    /// UMA, DZE, UCT, nTWI, nTWE and UCI of SCTLR_EL1.
    const PERMIT: u64 = 1 << 9 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26;
    let page = page()?;
    for (at, word) in (page..page + memory::PAGE).step_by(4).zip(code) {
        // SAFETY: the page belongs to programs alone.
        unsafe { (at as *mut u32).write_volatile(*word) };
        // SAFETY: cache maintenance by address.
        unsafe { core::arch::asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    cpu::masked(|| {
        let (control, timers) = (SCTLR_EL1.get(), CNTKCTL_EL1.get());
        SCTLR_EL1.set(control | PERMIT);
        CNTKCTL_EL1.set(timers & !ALL_TIMERS | permitted);
        // SAFETY: goes to EL0, which reaches its two pages alone, and comes back here by `ended` with the
        // callee-saved registers as they were.
        unsafe {
            core::arch::asm!(
                "dsb ish", "ic iallu", "dsb ish", "isb",
                "bl run_program",
                in("x0") AT, in("x1") set.state(), in("x2") registers.as_ptr(),
                clobber_abi("C"),
            );
        }
        SCTLR_EL1.set(control);
        CNTKCTL_EL1.set(timers);
    });
    LAST.lock().take()
}
