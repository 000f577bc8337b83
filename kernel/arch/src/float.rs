//! FP and SIMD registers of a vCPU. EL2 is built without them, so they hold the loaded vCPU's values until
//! another vCPU is loaded.

use core::arch::naked_asm;

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
#[unsafe(naked)]
unsafe extern "C" fn save_q(to: *mut [u64; 2]) {
    naked_asm!(
        ".arch_extension fp",
        "stp     q0, q1, [x0]",
        "stp     q2, q3, [x0, #32]",
        "stp     q4, q5, [x0, #64]",
        "stp     q6, q7, [x0, #96]",
        "stp     q8, q9, [x0, #128]",
        "stp     q10, q11, [x0, #160]",
        "stp     q12, q13, [x0, #192]",
        "stp     q14, q15, [x0, #224]",
        "stp     q16, q17, [x0, #256]",
        "stp     q18, q19, [x0, #288]",
        "stp     q20, q21, [x0, #320]",
        "stp     q22, q23, [x0, #352]",
        "stp     q24, q25, [x0, #384]",
        "stp     q26, q27, [x0, #416]",
        "stp     q28, q29, [x0, #448]",
        "stp     q30, q31, [x0, #480]",
        "ret",
    )
}

/// # Safety
/// `from` holds 512 bytes, aligned to 16.
#[unsafe(naked)]
unsafe extern "C" fn load_q(from: *const [u64; 2]) {
    naked_asm!(
        ".arch_extension fp",
        "ldp     q0, q1, [x0]",
        "ldp     q2, q3, [x0, #32]",
        "ldp     q4, q5, [x0, #64]",
        "ldp     q6, q7, [x0, #96]",
        "ldp     q8, q9, [x0, #128]",
        "ldp     q10, q11, [x0, #160]",
        "ldp     q12, q13, [x0, #192]",
        "ldp     q14, q15, [x0, #224]",
        "ldp     q16, q17, [x0, #256]",
        "ldp     q18, q19, [x0, #288]",
        "ldp     q20, q21, [x0, #320]",
        "ldp     q22, q23, [x0, #352]",
        "ldp     q24, q25, [x0, #384]",
        "ldp     q26, q27, [x0, #416]",
        "ldp     q28, q29, [x0, #448]",
        "ldp     q30, q31, [x0, #480]",
        "ret",
    )
}
