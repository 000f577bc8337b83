//! System registers that aarch64-cpu has no name for, with the same interface as those it has, and the
//! values that EL2 gives to its own configuration registers.

use core::arch::asm;

use tock_registers::interfaces::{Readable, Writeable};

macro_rules! readable_register {
    ($(#[$doc:meta])* $constant:ident, $kind:ident, $name:literal) => {
        $(#[$doc])*
        pub struct $kind;
        $(#[$doc])*
        pub const $constant: $kind = $kind;

        impl Readable for $kind {
            type T = u64;
            type R = ();
            fn get(&self) -> u64 {
                let value;
                // SAFETY: reading this register has no side effect.
                unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) }
                value
            }
        }
    };
}

macro_rules! system_register {
    ($(#[$doc:meta])* $constant:ident, $kind:ident, $name:literal) => {
        readable_register! { $(#[$doc])* $constant, $kind, $name }

        impl Writeable for $kind {
            type T = u64;
            type R = ();
            fn set(&self, value: u64) {
                // SAFETY: the register configures EL1 alone; EL2's own execution does not depend on it.
                unsafe { asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) }
            }
        }
    };
}

system_register! {
    /// What a guest reads as `MIDR_EL1` (DDI 0487 D24.2.190).
    VPIDR_EL2, VirtualProcessorId, "vpidr_el2"
}
system_register! {
    /// Traps of AArch32 coprocessor registers (DDI 0487 D24.2.70).
    HSTR_EL2, HypervisorSystemTrap, "hstr_el2"
}
system_register! {
    /// First auxiliary fault status of EL1.
    AFSR0_EL1, AuxiliaryFault0, "afsr0_el1"
}
system_register! {
    /// Second auxiliary fault status of EL1.
    AFSR1_EL1, AuxiliaryFault1, "afsr1_el1"
}
system_register! {
    /// Floating-point control.
    FPCR, FloatControl, "S3_3_C4_C4_0"
}
system_register! {
    /// Floating-point status.
    FPSR, FloatStatus, "S3_3_C4_C4_1"
}
system_register! {
    /// Performance monitors control; `N` (bits 15..11) is what `MDCR_EL2.HPMN` must hold.
    PMCR_EL0, PerformanceControl, "pmcr_el0"
}
system_register! {
    /// More of what a guest may have, on a CPU with `ID_AA64MMFR1_EL1.HCX` (DDI 0487 D24.2 "HCRX_EL2").
    HCRX_EL2, HypervisorConfigurationExtended, "S3_4_C1_C2_2"
}
system_register! {
    /// Fine-grained traps of reads, on a CPU with `ID_AA64MMFR0_EL1.FGT`.
    HFGRTR_EL2, FineReadTraps, "S3_4_C1_C1_4"
}
system_register! {
    /// Fine-grained traps of writes.
    HFGWTR_EL2, FineWriteTraps, "S3_4_C1_C1_5"
}
system_register! {
    /// Fine-grained traps of instructions.
    HFGITR_EL2, FineInstructionTraps, "S3_4_C1_C1_6"
}
system_register! {
    /// Fine-grained traps of reads of debug registers.
    HDFGRTR_EL2, FineDebugReadTraps, "S3_4_C3_C1_4"
}
system_register! {
    /// Fine-grained traps of writes of debug registers.
    HDFGWTR_EL2, FineDebugWriteTraps, "S3_4_C3_C1_5"
}
system_register! {
    /// What a virtual SError says of itself, on a CPU with RAS.
    VSESR_EL2, VirtualSErrorSyndrome, "S3_4_C5_C2_3"
}
readable_register! {
    /// What is pending, masked or not: at EL2 the physical interrupts and SErrors.
    ISR_EL1, InterruptStatus, "isr_el1"
}
readable_register! {
    /// Debug feature register 0: says whether there are performance monitors.
    ID_AA64DFR0_EL1, DebugFeatures, "id_aa64dfr0_el1"
}

/// `HCR_EL2` while a guest is loaded (DDI 0487 D24.2.68). `TWI` and `TWE` come on top while another vCPU
/// waits for the CPU; `VSE` and `TVM` are the vCPU's own.
pub mod hcr {
    /// Stage 2 on.
    pub const VM: u64 = 1;
    /// Set/way invalidation also cleans.
    pub const SWIO: u64 = 1 << 1;
    /// A stage-1 walk that meets Device memory faults.
    pub const PTW: u64 = 1 << 2;
    /// FIQ, IRQ and SError come to EL2, and their virtual counterparts are on.
    pub const FMO_IMO_AMO: u64 = 0b111 << 3;
    /// A virtual SError is pending.
    pub const VSE: u64 = 1 << 8;
    /// TLB and instruction cache maintenance of EL1 is broadcast.
    pub const FB: u64 = 1 << 9;
    /// Barriers of EL1 reach at least the inner shareable domain.
    pub const BSU_INNER: u64 = 1 << 10;
    /// WFI traps.
    pub const TWI: u64 = 1 << 13;
    /// WFE traps.
    pub const TWE: u64 = 1 << 14;
    /// ID group 3 traps.
    pub const TID3: u64 = 1 << 18;
    /// SMC traps.
    pub const TSC: u64 = 1 << 19;
    /// Implementation-defined registers trap.
    pub const TIDCP: u64 = 1 << 20;
    /// Auxiliary control traps.
    pub const TACR: u64 = 1 << 21;
    /// Data cache maintenance by set and way traps.
    pub const TSW: u64 = 1 << 22;
    /// Writes of EL1's registers of stage 1 trap.
    pub const TVM: u64 = 1 << 26;
    /// Registers of LORegions trap, where the CPU has them.
    pub const TLOR: u64 = 1 << 35;
    /// Registers of error records trap, where the CPU has them.
    pub const TERR: u64 = 1 << 36;
    /// EL1 is AArch64.
    pub const RW: u64 = 1 << 31;

    /// Every guest.
    pub const GUEST: u64 =
        VM | SWIO | PTW | FMO_IMO_AMO | FB | BSU_INNER | TID3 | TSC | TIDCP | TACR | TSW | RW;
}

/// `CPTR_EL2`: FP and SIMD are the guest's; trace, AMU, SVE and the RES1 bits trap (D24.2.34).
pub const CPTR: u64 = 0x4010_33ff;

/// `MDCR_EL2` without `HPMN`: debug registers, OS lock and performance monitors trap (D24.2.105).
pub const MDCR: u64 = 0xe60;

/// `MDCR_EL2` of a CPU with this `ID_AA64DFR0_EL1`: statistical profiling (`TPMS`) and trace filters (`TTRF`)
/// trap where it has them.
#[must_use]
pub const fn monitor_debug(features: u64) -> u64 {
    let profiling = if features >> 32 & 0xf != 0 {
        1 << 14
    } else {
        0
    };
    let filters = if features >> 40 & 0xf != 0 {
        1 << 19
    } else {
        0
    };
    MDCR | profiling | filters
}

/// `HCR_EL2` of every guest, on a CPU with these `ID_AA64PFR0_EL1` and `ID_AA64MMFR1_EL1`.
#[must_use]
pub const fn hypervisor_configuration(pfr0: u64, mmfr1: u64) -> u64 {
    let regions = if mmfr1 >> 16 & 0xf != 0 { hcr::TLOR } else { 0 };
    let errors = if pfr0 >> 28 & 0xf != 0 { hcr::TERR } else { 0 };
    hcr::GUEST | regions | errors
}

/// `HSTR_EL2`: AArch32 coprocessor 15 register 15 traps.
pub const HSTR: u64 = 1 << 15;

/// `CNTHCTL_EL2`: EL1 reads the physical counter; the physical timer traps (D24.10.2, E2H = 0).
pub const CNTHCTL: u64 = 1;

/// `ACTLR_EL1`.
#[must_use]
pub fn auxiliary_control() -> u64 {
    aarch64_cpu::registers::ACTLR_EL1.get()
}

/// `MIDR_EL1`.
#[must_use]
pub fn main_identity() -> u64 {
    aarch64_cpu::registers::MIDR_EL1.get()
}

macro_rules! identity_registers {
    ($crm:ident, $op2:ident: $($number:literal $name:literal),* $(,)?) => {
        match $crm << 3 | $op2 {
            $($number => {
                let value: u64;
                // SAFETY: an identification register (or a reserved one of the same group, which reads
                // as zero): reading has no side effect.
                unsafe {
                    asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags));
                }
                value
            })*
            _ => 0,
        }
    };
}

/// The feature register with op0 3, op1 0, CRn 0 and these CRm (1 to 7) and op2 (0 to 7). Reserved ones
/// read as zero (DDI 0487, D18.1).
#[must_use]
pub fn identity(crm: u32, op2: u32) -> u64 {
    identity_registers! { crm, op2:
        8 "S3_0_C0_C1_0",
        9 "S3_0_C0_C1_1",
        10 "S3_0_C0_C1_2",
        11 "S3_0_C0_C1_3",
        12 "S3_0_C0_C1_4",
        13 "S3_0_C0_C1_5",
        14 "S3_0_C0_C1_6",
        15 "S3_0_C0_C1_7",
        16 "S3_0_C0_C2_0",
        17 "S3_0_C0_C2_1",
        18 "S3_0_C0_C2_2",
        19 "S3_0_C0_C2_3",
        20 "S3_0_C0_C2_4",
        21 "S3_0_C0_C2_5",
        22 "S3_0_C0_C2_6",
        23 "S3_0_C0_C2_7",
        24 "S3_0_C0_C3_0",
        25 "S3_0_C0_C3_1",
        26 "S3_0_C0_C3_2",
        27 "S3_0_C0_C3_3",
        28 "S3_0_C0_C3_4",
        29 "S3_0_C0_C3_5",
        30 "S3_0_C0_C3_6",
        31 "S3_0_C0_C3_7",
        32 "S3_0_C0_C4_0",
        33 "S3_0_C0_C4_1",
        34 "S3_0_C0_C4_2",
        35 "S3_0_C0_C4_3",
        36 "S3_0_C0_C4_4",
        37 "S3_0_C0_C4_5",
        38 "S3_0_C0_C4_6",
        39 "S3_0_C0_C4_7",
        40 "S3_0_C0_C5_0",
        41 "S3_0_C0_C5_1",
        42 "S3_0_C0_C5_2",
        43 "S3_0_C0_C5_3",
        44 "S3_0_C0_C5_4",
        45 "S3_0_C0_C5_5",
        46 "S3_0_C0_C5_6",
        47 "S3_0_C0_C5_7",
        48 "S3_0_C0_C6_0",
        49 "S3_0_C0_C6_1",
        50 "S3_0_C0_C6_2",
        51 "S3_0_C0_C6_3",
        52 "S3_0_C0_C6_4",
        53 "S3_0_C0_C6_5",
        54 "S3_0_C0_C6_6",
        55 "S3_0_C0_C6_7",
        56 "S3_0_C0_C7_0",
        57 "S3_0_C0_C7_1",
        58 "S3_0_C0_C7_2",
        59 "S3_0_C0_C7_3",
        60 "S3_0_C0_C7_4",
        61 "S3_0_C0_C7_5",
        62 "S3_0_C0_C7_6",
        63 "S3_0_C0_C7_7",
    }
}
