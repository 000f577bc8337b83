//! The system registers of a vCPU that is not loaded.

use core::arch::naked_asm;
use core::mem::offset_of;

use aarch64_cpu::registers::HCR_EL2;
use tock_registers::interfaces::{Readable, Writeable};

use crate::registers::hcr;

/// Bits of `HCR_EL2` that belong to the vCPU that is loaded.
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
    /// `HCR_EL2.VSE`, a virtual SError that it has not taken yet, and `HCR_EL2.TVM`.
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

/// The assembly of a function that stores or loads all pairs, each under the name of its first.
macro_rules! at_pairs {
    ($($line:literal,)*) => {
        naked_asm!(
            $($line,)*
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
        self.configuration = HCR_EL2.get() & OWN_CONFIGURATION;
    }

    /// Gives it back to the CPU: everything but `SCTLR_EL1` and `TCR_EL1`, which the caller writes last.
    pub(crate) fn load(&self) {
        // SAFETY: EL2 uses none of these registers but `ELR_EL2` and `SPSR_EL2`, which are those of the return to
        // the guest; the caller has stopped translations of EL1's.
        unsafe { load(self) }
        HCR_EL2.set(HCR_EL2.get() & !OWN_CONFIGURATION | self.configuration);
    }
}

/// # Safety
/// As for a write to `*to`.
#[unsafe(naked)]
unsafe extern "C" fn save(to: *mut System) {
    at_pairs!(
        "mrs     x1, elr_el2",
        "mrs     x2, spsr_el2",
        "stp     x1, x2, [x0, #{elr_el2}]",
        "mrs     x3, sctlr_el1",
        "mrs     x4, actlr_el1",
        "stp     x3, x4, [x0, #{sctlr}]",
        "mrs     x5, cpacr_el1",
        "mrs     x6, ttbr0_el1",
        "stp     x5, x6, [x0, #{cpacr}]",
        "mrs     x7, ttbr1_el1",
        "mrs     x8, tcr_el1",
        "stp     x7, x8, [x0, #{ttbr1}]",
        "mrs     x1, esr_el1",
        "mrs     x2, far_el1",
        "stp     x1, x2, [x0, #{esr}]",
        "mrs     x3, afsr0_el1",
        "mrs     x4, afsr1_el1",
        "stp     x3, x4, [x0, #{afsr0}]",
        "mrs     x5, mair_el1",
        "mrs     x6, amair_el1",
        "stp     x5, x6, [x0, #{mair}]",
        "mrs     x7, contextidr_el1",
        "mrs     x8, vbar_el1",
        "stp     x7, x8, [x0, #{contextidr}]",
        "mrs     x1, par_el1",
        "mrs     x2, sp_el0",
        "stp     x1, x2, [x0, #{par}]",
        "mrs     x3, sp_el1",
        "mrs     x4, elr_el1",
        "stp     x3, x4, [x0, #{sp_el1}]",
        "mrs     x5, spsr_el1",
        "mrs     x6, tpidr_el0",
        "stp     x5, x6, [x0, #{spsr}]",
        "mrs     x7, tpidrro_el0",
        "mrs     x8, tpidr_el1",
        "stp     x7, x8, [x0, #{tpidrro_el0}]",
        "mrs     x1, cntkctl_el1",
        "mrs     x2, csselr_el1",
        "stp     x1, x2, [x0, #{cntkctl}]",
        "mrs     x3, cntv_ctl_el0",
        "mrs     x4, cntv_cval_el0",
        "stp     x3, x4, [x0, #{timer_control}]",
        "ret",
    )
}

/// The compare value of the timer comes before its control, which may let it fire.
///
/// # Safety
/// `from` can be read, and no translation of EL1's is under way.
#[unsafe(naked)]
unsafe extern "C" fn load(from: *const System) {
    at_pairs!(
        "ldp     x1, x2, [x0, #{elr_el2}]",
        "msr     elr_el2, x1",
        "msr     spsr_el2, x2",
        "ldp     x3, x4, [x0, #{sctlr}]",
        "msr     actlr_el1, x4",
        "ldp     x5, x6, [x0, #{cpacr}]",
        "msr     cpacr_el1, x5",
        "msr     ttbr0_el1, x6",
        "ldp     x7, x8, [x0, #{ttbr1}]",
        "msr     ttbr1_el1, x7",
        "ldp     x1, x2, [x0, #{esr}]",
        "msr     esr_el1, x1",
        "msr     far_el1, x2",
        "ldp     x3, x4, [x0, #{afsr0}]",
        "msr     afsr0_el1, x3",
        "msr     afsr1_el1, x4",
        "ldp     x5, x6, [x0, #{mair}]",
        "msr     mair_el1, x5",
        "msr     amair_el1, x6",
        "ldp     x7, x8, [x0, #{contextidr}]",
        "msr     contextidr_el1, x7",
        "msr     vbar_el1, x8",
        "ldp     x1, x2, [x0, #{par}]",
        "msr     par_el1, x1",
        "msr     sp_el0, x2",
        "ldp     x3, x4, [x0, #{sp_el1}]",
        "msr     sp_el1, x3",
        "msr     elr_el1, x4",
        "ldp     x5, x6, [x0, #{spsr}]",
        "msr     spsr_el1, x5",
        "msr     tpidr_el0, x6",
        "ldp     x7, x8, [x0, #{tpidrro_el0}]",
        "msr     tpidrro_el0, x7",
        "msr     tpidr_el1, x8",
        "ldp     x1, x2, [x0, #{cntkctl}]",
        "msr     cntkctl_el1, x1",
        "msr     csselr_el1, x2",
        "ldp     x3, x4, [x0, #{timer_control}]",
        "msr     cntv_cval_el0, x4",
        "msr     cntv_ctl_el0, x3",
        "ret",
    )
}
