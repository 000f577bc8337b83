//! What a vCPU's context holds, for a report.

use super::Owned;

/// A guest's registers as they were stored. Names as in the manual.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub struct Snapshot {
    pub x: [u64; 31],
    pub elr_el2: u64,
    pub spsr_el2: u64,
    pub sp_el0: u64,
    pub sp_el1: u64,
    pub esr_el1: u64,
    pub far_el1: u64,
    pub elr_el1: u64,
    pub spsr_el1: u64,
    pub sctlr_el1: u64,
    pub tcr_el1: u64,
    pub ttbr0_el1: u64,
    pub ttbr1_el1: u64,
    pub vbar_el1: u64,
}

impl Owned<'_> {
    /// What was stored when it was last switched away from.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        // SAFETY: `self` is the sole access to the context.
        let registers = unsafe { &*self.0.registers.get() };
        // SAFETY: as above.
        let system = unsafe { &*self.0.system.get() };
        Snapshot {
            x: *registers.all(),
            elr_el2: system.elr_el2,
            spsr_el2: system.spsr_el2,
            sp_el0: system.sp_el0,
            sp_el1: system.sp_el1,
            esr_el1: system.esr,
            far_el1: system.far,
            elr_el1: system.elr,
            spsr_el1: system.spsr,
            sctlr_el1: system.sctlr,
            tcr_el1: system.tcr,
            ttbr0_el1: system.ttbr0,
            ttbr1_el1: system.ttbr1,
            vbar_el1: system.vbar,
        }
    }
}
