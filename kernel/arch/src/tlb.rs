//! TLB invalidation of both stages (Arm DDI 0487, D8.14; sequences as D8.16 asks for).

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{SCTLR_EL1, TCR_EL1, VTTBR_EL2};
use memory::Invalidate;
use tock_registers::interfaces::{Readable, Writeable};

use crate::context;

/// More 4 KiB steps than this, and the whole VMID is invalidated instead.
const PAGE_STEPS: u64 = 64;

/// EL2's own regime, on all CPUs.
pub struct Stage1;

impl Invalidate for Stage1 {
    fn invalidate(&self, _start: u64, _size: u64) {
        // Boot only: one full invalidation is the short way.
        barrier::dsb(barrier::ISHST);
        // SAFETY: invalidation changes no translation, it only forgets cached ones.
        unsafe { asm!("tlbi alle2is", options(nostack, preserves_flags)) }
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
    }
}

/// A guest's second stage, on all CPUs, whichever guest this CPU has loaded.
#[derive(Clone, Copy)]
pub struct Stage2 {
    vttbr: u64,
}

impl Stage2 {
    /// The stage that this `VTTBR_EL2` value puts into force.
    #[must_use]
    pub const fn new(vttbr: u64) -> Self {
        Self { vttbr }
    }

    /// Forgets everything about this VMID: before its number is used again.
    pub fn invalidate_all(self) {
        self.with_vmid(|| {
            // SAFETY: invalidation only forgets cached translations.
            unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) }
        });
    }

    /// Runs `invalidate` with the VMID in `VTTBR_EL2`: the instructions act on the current one. EL2's own
    /// translation does not use `VTTBR_EL2`, so the change disturbs nothing here. Nothing may be translated
    /// with the stage 1 of one guest and the stage 2 of another (Cortex-A72 erratum 1319367).
    #[inline(always)]
    fn with_vmid(self, invalidate: impl FnOnce()) {
        let before = VTTBR_EL2.get();
        barrier::dsb(barrier::ISHST);
        if before == self.vttbr {
            invalidate();
            barrier::dsb(barrier::ISH);
            barrier::isb(barrier::SY);
            return;
        }
        self.with_other_vmid(before, invalidate);
    }

    #[cold]
    fn with_other_vmid(self, before: u64, invalidate: impl FnOnce()) {
        let (sctlr, tcr) = (SCTLR_EL1.get(), TCR_EL1.get());
        context::stop_translations();
        barrier::isb(barrier::SY);
        VTTBR_EL2.set(self.vttbr);
        barrier::isb(barrier::SY);
        invalidate();
        barrier::dsb(barrier::ISH);
        VTTBR_EL2.set(before);
        barrier::isb(barrier::SY);
        SCTLR_EL1.set(sctlr);
        barrier::isb(barrier::SY);
        TCR_EL1.set(tcr);
        barrier::isb(barrier::SY);
    }
}

/// Forgets combined entries (VA to PA), which are not found by IPA (DDI 0487, D8.14.5), once those by IPA are
/// forgotten. The caller's barrier follows.
#[inline]
fn forget_combined() {
    barrier::dsb(barrier::ISH);
    // SAFETY: invalidation only forgets cached translations.
    unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) }
}

impl Invalidate for Stage2 {
    fn invalidate(&self, start: u64, size: u64) {
        if size / memory::PAGE_SIZE > PAGE_STEPS {
            self.invalidate_all();
            return;
        }
        self.with_vmid(|| {
            // Not `invalidate_page`, which would do the last part for each.
            for page in start / memory::PAGE_SIZE..(start + size).div_ceil(memory::PAGE_SIZE) {
                // SAFETY: invalidation only forgets cached translations.
                unsafe {
                    asm!("tlbi ipas2e1is, {}", in(reg) page, options(nostack, preserves_flags));
                }
            }
            forget_combined();
        });
    }

    #[inline(always)]
    fn invalidate_page(&self, start: u64) {
        self.with_vmid(|| {
            let page = start / memory::PAGE_SIZE;
            // SAFETY: invalidation only forgets cached translations.
            unsafe { asm!("tlbi ipas2e1is, {}", in(reg) page, options(nostack, preserves_flags)) }
            forget_combined();
        });
    }
}

/// Forgets this CPU's stage-1 entries of the loaded VMID: when another vCPU of the same domain ran here
/// last, whose address space identifiers may mean something else. The caller's ISB or ERET follows.
pub fn invalidate_local_guest() {
    // SAFETY: invalidation only forgets cached translations.
    unsafe { asm!("tlbi vmalle1", options(nostack, preserves_flags)) }
    barrier::dsb(barrier::NSH);
}

/// Makes new valid entries visible to the walkers of all CPUs, before what depends on them.
pub fn publish() {
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
}
