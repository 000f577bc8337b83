//! The system registers of a vCPU that is not loaded.

use core::arch::asm;
use core::mem::offset_of;

use aarch64_cpu::registers::HCR_EL2;
use tock_registers::interfaces::{Readable, Writeable};

use crate::registers::hcr;

/// Bits of `HCR_EL2` that belong to the vCPU that is loaded: a virtual SError that it has not taken yet, and whether what it
/// writes to its registers of stage 1 traps. The others are the same for all, but for [`hcr::TWI`] and [`hcr::TWE`], which
/// [`trap_waiting`](crate::context::trap_waiting) sets whenever a vCPU goes on.
pub(crate) const OWN_CONFIGURATION: u64 = hcr::VSE | hcr::TVM;

/// EL1 system registers, the virtual timer, and where the guest goes on.
#[repr(C)]
pub(crate) struct System {
    pub(crate) elr_el2: u64,
    pub(crate) spsr_el2: u64,
    pub(crate) sctlr: u64,
    pub(crate) actlr: u64,
    pub(crate) cpacr: u64,
    pub(crate) ttbr0: u64,
    pub(crate) ttbr1: u64,
    pub(crate) tcr: u64,
    pub(crate) esr: u64,
    pub(crate) far: u64,
    pub(crate) afsr0: u64,
    pub(crate) afsr1: u64,
    pub(crate) mair: u64,
    pub(crate) amair: u64,
    pub(crate) contextidr: u64,
    pub(crate) vbar: u64,
    pub(crate) par: u64,
    pub(crate) sp_el0: u64,
    pub(crate) sp_el1: u64,
    pub(crate) elr: u64,
    pub(crate) spsr: u64,
    pub(crate) tpidr_el0: u64,
    pub(crate) tpidrro_el0: u64,
    pub(crate) tpidr_el1: u64,
    pub(crate) cntkctl: u64,
    pub(crate) csselr: u64,
    pub(crate) timer_control: u64,
    pub(crate) timer_compare: u64,
    /// `HCR_EL2`: [`OWN_CONFIGURATION`], and what else was in force with it.
    pub(crate) configuration: u64,
}

/// They are stored and loaded in pairs.
macro_rules! neighbours {
    ($($first:ident $second:ident,)*) => {
        $(const _: () = assert!(offset_of!(System, $first) + 8 == offset_of!(System, $second));)*
    };
}

neighbours! {
    elr_el2 spsr_el2,
    sctlr actlr,
    cpacr ttbr0,
    ttbr1 tcr,
    esr far,
    afsr0 afsr1,
    mair amair,
    contextidr vbar,
    par sp_el0,
    sp_el1 elr,
    spsr tpidr_el0,
    tpidrro_el0 tpidr_el1,
    cntkctl csselr,
    timer_control timer_compare,
}

/// Assembly that stores or loads all pairs at `base`, each under the name of its first.
macro_rules! at_pairs {
    ($base:expr, $($line:literal,)*) => {
        asm!(
            $($line,)*
            base = in(reg) $base,
            out("x1") _, out("x2") _, out("x3") _, out("x4") _,
            out("x5") _, out("x6") _, out("x7") _, out("x8") _,
            elr_el2 = const offset_of!(System, elr_el2),
            sctlr = const offset_of!(System, sctlr),
            cpacr = const offset_of!(System, cpacr),
            ttbr1 = const offset_of!(System, ttbr1),
            esr = const offset_of!(System, esr),
            afsr0 = const offset_of!(System, afsr0),
            mair = const offset_of!(System, mair),
            contextidr = const offset_of!(System, contextidr),
            par = const offset_of!(System, par),
            sp_el1 = const offset_of!(System, sp_el1),
            spsr = const offset_of!(System, spsr),
            tpidrro_el0 = const offset_of!(System, tpidrro_el0),
            cntkctl = const offset_of!(System, cntkctl),
            timer_control = const offset_of!(System, timer_control),
            options(nostack, preserves_flags),
        )
    };
}

impl System {
    /// All zero.
    pub(crate) const fn zero() -> Self {
        Self {
            elr_el2: 0,
            spsr_el2: 0,
            sctlr: 0,
            actlr: 0,
            cpacr: 0,
            ttbr0: 0,
            ttbr1: 0,
            tcr: 0,
            esr: 0,
            far: 0,
            afsr0: 0,
            afsr1: 0,
            mair: 0,
            amair: 0,
            contextidr: 0,
            vbar: 0,
            par: 0,
            sp_el0: 0,
            sp_el1: 0,
            elr: 0,
            spsr: 0,
            tpidr_el0: 0,
            tpidrro_el0: 0,
            tpidr_el1: 0,
            cntkctl: 0,
            csselr: 0,
            timer_control: 0,
            timer_compare: 0,
            configuration: 0,
        }
    }

    /// Takes what the CPU holds.
    pub(crate) fn save(&mut self) {
        // SAFETY: the function reads system registers and writes the structure.
        unsafe { save(self) }
        self.configuration = HCR_EL2.get();
    }

    /// Gives it back to the CPU: everything but `SCTLR_EL1` and `TCR_EL1`, which the caller writes last.
    pub(crate) fn load(&self) {
        // SAFETY: EL2 uses none of these registers but `ELR_EL2` and `SPSR_EL2`, which are those of the return to
        // the guest; the caller has stopped translations of EL1's.
        unsafe { load(self) }
        HCR_EL2.set(self.configuration);
    }
}

/// # Safety
/// As for a write to `*to`.
#[inline(always)]
unsafe fn save(to: *mut System) {
    // SAFETY: the block reads system registers, and writes the structure at `to`, as the caller allows.
    unsafe {
        at_pairs!(
            to,
            "mrs     x1, elr_el2",
            "mrs     x2, spsr_el2",
            "stp     x1, x2, [{base}, #{elr_el2}]",
            "mrs     x3, sctlr_el1",
            "mrs     x4, actlr_el1",
            "stp     x3, x4, [{base}, #{sctlr}]",
            "mrs     x5, cpacr_el1",
            "mrs     x6, ttbr0_el1",
            "stp     x5, x6, [{base}, #{cpacr}]",
            "mrs     x7, ttbr1_el1",
            "mrs     x8, tcr_el1",
            "stp     x7, x8, [{base}, #{ttbr1}]",
            "mrs     x1, esr_el1",
            "mrs     x2, far_el1",
            "stp     x1, x2, [{base}, #{esr}]",
            "mrs     x3, afsr0_el1",
            "mrs     x4, afsr1_el1",
            "stp     x3, x4, [{base}, #{afsr0}]",
            "mrs     x5, mair_el1",
            "mrs     x6, amair_el1",
            "stp     x5, x6, [{base}, #{mair}]",
            "mrs     x7, contextidr_el1",
            "mrs     x8, vbar_el1",
            "stp     x7, x8, [{base}, #{contextidr}]",
            "mrs     x1, par_el1",
            "mrs     x2, sp_el0",
            "stp     x1, x2, [{base}, #{par}]",
            "mrs     x3, sp_el1",
            "mrs     x4, elr_el1",
            "stp     x3, x4, [{base}, #{sp_el1}]",
            "mrs     x5, spsr_el1",
            "mrs     x6, tpidr_el0",
            "stp     x5, x6, [{base}, #{spsr}]",
            "mrs     x7, tpidrro_el0",
            "mrs     x8, tpidr_el1",
            "stp     x7, x8, [{base}, #{tpidrro_el0}]",
            "mrs     x1, cntkctl_el1",
            "mrs     x2, csselr_el1",
            "stp     x1, x2, [{base}, #{cntkctl}]",
            "mrs     x3, cntv_ctl_el0",
            "mrs     x4, cntv_cval_el0",
            "stp     x3, x4, [{base}, #{timer_control}]",
        );
    }
}

/// The compare value of the timer comes before its control, which may let it fire.
///
/// # Safety
/// `from` can be read, and no translation of EL1's is under way.
#[inline(always)]
unsafe fn load(from: *const System) {
    // SAFETY: the block reads the structure at `from`, as the caller allows, and writes registers that EL2 does not use.
    unsafe {
        at_pairs!(
            from,
            "ldp     x1, x2, [{base}, #{elr_el2}]",
            "msr     elr_el2, x1",
            "msr     spsr_el2, x2",
            "ldp     x3, x4, [{base}, #{sctlr}]",
            "msr     actlr_el1, x4",
            "ldp     x5, x6, [{base}, #{cpacr}]",
            "msr     cpacr_el1, x5",
            "msr     ttbr0_el1, x6",
            "ldp     x7, x8, [{base}, #{ttbr1}]",
            "msr     ttbr1_el1, x7",
            "ldp     x1, x2, [{base}, #{esr}]",
            "msr     esr_el1, x1",
            "msr     far_el1, x2",
            "ldp     x3, x4, [{base}, #{afsr0}]",
            "msr     afsr0_el1, x3",
            "msr     afsr1_el1, x4",
            "ldp     x5, x6, [{base}, #{mair}]",
            "msr     mair_el1, x5",
            "msr     amair_el1, x6",
            "ldp     x7, x8, [{base}, #{contextidr}]",
            "msr     contextidr_el1, x7",
            "msr     vbar_el1, x8",
            "ldp     x1, x2, [{base}, #{par}]",
            "msr     par_el1, x1",
            "msr     sp_el0, x2",
            "ldp     x3, x4, [{base}, #{sp_el1}]",
            "msr     sp_el1, x3",
            "msr     elr_el1, x4",
            "ldp     x5, x6, [{base}, #{spsr}]",
            "msr     spsr_el1, x5",
            "msr     tpidr_el0, x6",
            "ldp     x7, x8, [{base}, #{tpidrro_el0}]",
            "msr     tpidrro_el0, x7",
            "msr     tpidr_el1, x8",
            "ldp     x1, x2, [{base}, #{cntkctl}]",
            "msr     cntkctl_el1, x1",
            "msr     csselr_el1, x2",
            "ldp     x3, x4, [{base}, #{timer_control}]",
            "msr     cntv_cval_el0, x4",
            "msr     cntv_ctl_el0, x3",
        );
    }
}
