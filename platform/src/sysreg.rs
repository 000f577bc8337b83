//! System registers that aarch64-cpu does not have, or has without the fields or the write access that
//! are needed here, with the same interface as its own.
//!
//! GICv3 registers: IHI 0069, chapter 12 (12.2 ICC_*, 12.4 ICH_*). Timer: DDI 0487, CNTHP_CVAL_EL2. The
//! encodings are written out so that the assembler needs no GIC extension.

use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_bitfields;

register_bitfields! {u64,
    /// CPU interface control.
    pub(crate) ICC_CTLR [
        /// EOIR only drops the priority; DIR deactivates.
        EOImode OFFSET(1) NUMBITS(1) [],
    ],
    /// What a write makes a software generated interrupt.
    pub(crate) ICC_SGI1R [
        /// Affinity level 3 of the targets.
        Aff3 OFFSET(48) NUMBITS(8) [],
        /// Which sixteen of the values of affinity level 0 the list is about.
        RS OFFSET(44) NUMBITS(4) [],
        /// Affinity level 2 of the targets.
        Aff2 OFFSET(32) NUMBITS(8) [],
        /// The interrupt, 0 to 15.
        INTID OFFSET(24) NUMBITS(4) [],
        /// Affinity level 1 of the targets.
        Aff1 OFFSET(16) NUMBITS(8) [],
        /// A bit for each value of affinity level 0, counted from `RS * 16`.
        TargetList OFFSET(0) NUMBITS(16) [],
    ],
}

macro_rules! read {
    ($type:ident, $fields:ty, $encoding:literal) => {
        impl Readable for $type {
            type T = u64;
            type R = $fields;

            #[inline(always)]
            fn get(&self) -> u64 {
                #[cfg(target_arch = "aarch64")]
                {
                    let value;
                    // SAFETY: reading it changes no memory. What else a read does (IAR acknowledges) is
                    // what the caller asks for. `volatile`, as `pure` is not given.
                    unsafe {
                        core::arch::asm!(
                            concat!("mrs {}, ", $encoding),
                            out(reg) value,
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                    value
                }
                #[cfg(not(target_arch = "aarch64"))]
                0
            }
        }
    };
}

macro_rules! write {
    ($type:ident, $fields:ty, $encoding:literal) => {
        impl Writeable for $type {
            type T = u64;
            type R = $fields;

            #[inline(always)]
            fn set(&self, value: u64) {
                #[cfg(target_arch = "aarch64")]
                // SAFETY: the register steers the interrupt controller or the timer, not memory. Order
                // with memory accesses is made by the barriers at the call.
                unsafe {
                    core::arch::asm!(
                        concat!("msr ", $encoding, ", {}"),
                        in(reg) value,
                        options(nomem, nostack, preserves_flags),
                    );
                }
                #[cfg(not(target_arch = "aarch64"))]
                let _ = value;
            }
        }
    };
}

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident: $type:ident<$fields:ty> = $encoding:literal, $($access:ident)+;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $type;
            $(#[$doc])*
            pub(crate) const $name: $type = $type;
            $($access!($type, $fields, $encoding);)+
        )*
    };
}

registers! {
    /// Interrupt acknowledge, group 1: a read makes the highest pending interrupt active.
    ICC_IAR1_EL1: IccIar1<()> = "s3_0_c12_c12_0", read;
    /// Highest priority pending interrupt, group 1: a read changes nothing.
    ICC_HPPIR1_EL1: IccHppir1<()> = "s3_0_c12_c12_2", read;
    /// End of interrupt, group 1: with EOImode the priority drop only.
    ICC_EOIR1_EL1: IccEoir1<()> = "s3_0_c12_c12_1", write;
    /// Deactivate interrupt.
    ICC_DIR_EL1: IccDir<()> = "s3_0_c12_c11_1", write;
    /// Priority mask: interrupts of a lower value than this are signalled.
    ICC_PMR_EL1: IccPmr<()> = "s3_0_c4_c6_0", read write;
    /// Binary point, group 1.
    ICC_BPR1_EL1: IccBpr1<()> = "s3_0_c12_c12_3", read write;
    /// CPU interface control.
    ICC_CTLR_EL1: IccCtlr<ICC_CTLR::Register> = "s3_0_c12_c12_4", read write;
    /// System register enable of EL1: 0b111 where the guest has no other interface.
    ICC_SRE_EL1: IccSreEl1<()> = "s3_0_c12_c12_5", read write;
    /// Interrupt group 1 enable.
    ICC_IGRPEN1_EL1: IccIgrpen1<()> = "s3_0_c12_c12_7", read write;
    /// Active priorities of group 1, first word.
    ICC_AP1R0_EL1: IccAp1r0<()> = "s3_0_c12_c9_0", read write;
    /// Makes a software generated interrupt of group 1.
    ICC_SGI1R_EL1: IccSgi1r<ICC_SGI1R::Register> = "s3_0_c12_c11_5", write;
    /// A bit for each list register that holds nothing.
    ICH_ELRSR_EL2: IchElrsr<()> = "s3_4_c12_c11_5", read;
    /// A bit for each list register that asks for an end-of-interrupt maintenance interrupt.
    ICH_EISR_EL2: IchEisr<()> = "s3_4_c12_c11_3", read;
    /// When the EL2 physical timer fires, in counter ticks.
    CNTHP_CVAL_EL2: CnthpCval<()> = "s3_4_c14_c2_2", read write;
}
