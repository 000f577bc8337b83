//! FP and SIMD registers of a vCPU. EL2 is built without them, so they hold the loaded vCPU's values until
//! another vCPU is loaded.

use core::arch::asm;

use tock_registers::interfaces::{Readable, Writeable};

use crate::registers::{FPCR, FPSR};

/// FP and SIMD registers.
#[repr(C, align(16))]
pub(crate) struct Float {
    q: [[u64; 2]; 32],
    fpcr: u64,
    fpsr: u64,
}

impl Float {
    /// All zero, as after reset.
    pub(crate) const fn zero() -> Self {
        Self {
            q: [[0; 2]; 32],
            fpcr: 0,
            fpsr: 0,
        }
    }

    /// Takes what the CPU holds.
    pub(crate) fn save(&mut self) {
        self.fpcr = FPCR.get();
        self.fpsr = FPSR.get();
        // SAFETY: `q` has room for 32 registers of 16 bytes.
        unsafe { save_q(self.q.as_mut_ptr()) }
    }

    /// Gives it back to the CPU.
    pub(crate) fn load(&self) {
        FPCR.set(self.fpcr);
        FPSR.set(self.fpsr);
        // SAFETY: `q` holds 32 registers of 16 bytes, which EL2 itself does not use.
        unsafe { load_q(self.q.as_ptr()) }
    }
}

/// # Safety
/// `to` has room for 512 bytes, aligned to 16.
#[inline(always)]
unsafe fn save_q(to: *mut [u64; 2]) {
    // SAFETY: the block writes 512 bytes at `to`, as the caller allows.
    unsafe {
        asm!(
            ".arch_extension fp",
            "stp     q0, q1, [{base}]",
            "stp     q2, q3, [{base}, #32]",
            "stp     q4, q5, [{base}, #64]",
            "stp     q6, q7, [{base}, #96]",
            "stp     q8, q9, [{base}, #128]",
            "stp     q10, q11, [{base}, #160]",
            "stp     q12, q13, [{base}, #192]",
            "stp     q14, q15, [{base}, #224]",
            "stp     q16, q17, [{base}, #256]",
            "stp     q18, q19, [{base}, #288]",
            "stp     q20, q21, [{base}, #320]",
            "stp     q22, q23, [{base}, #352]",
            "stp     q24, q25, [{base}, #384]",
            "stp     q26, q27, [{base}, #416]",
            "stp     q28, q29, [{base}, #448]",
            "stp     q30, q31, [{base}, #480]",
            base = in(reg) to,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// `from` holds 512 bytes, aligned to 16.
#[inline(always)]
unsafe fn load_q(from: *const [u64; 2]) {
    // SAFETY: the block reads 512 bytes at `from`, as the caller allows, into registers that EL2, built without them, does
    // not use.
    unsafe {
        asm!(
            ".arch_extension fp",
            "ldp     q0, q1, [{base}]",
            "ldp     q2, q3, [{base}, #32]",
            "ldp     q4, q5, [{base}, #64]",
            "ldp     q6, q7, [{base}, #96]",
            "ldp     q8, q9, [{base}, #128]",
            "ldp     q10, q11, [{base}, #160]",
            "ldp     q12, q13, [{base}, #192]",
            "ldp     q14, q15, [{base}, #224]",
            "ldp     q16, q17, [{base}, #256]",
            "ldp     q18, q19, [{base}, #288]",
            "ldp     q20, q21, [{base}, #320]",
            "ldp     q22, q23, [{base}, #352]",
            "ldp     q24, q25, [{base}, #384]",
            "ldp     q26, q27, [{base}, #416]",
            "ldp     q28, q29, [{base}, #448]",
            "ldp     q30, q31, [{base}, #480]",
            base = in(reg) from,
            options(nostack, preserves_flags),
        );
    }
}
