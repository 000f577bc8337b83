//! The system registers that `aarch64-cpu` lacks: the GICv3 CPU interface (IHI 0069, 12.2).

macro_rules! registers {
    ($($(#[$doc:meta])* $access:ident $function:ident $name:literal;)*) => {
        $(registers!(@ $access $(#[$doc])* $function $name);)*
    };
    (@ read $(#[$doc:meta])* $function:ident $name:literal) => {
        $(#[$doc])*
        #[inline]
        pub(crate) fn $function() -> u64 {
            let value: u64;
            // SAFETY: a system register of EL1; reading it touches no memory of ours.
            unsafe {
                core::arch::asm!(concat!("mrs {value}, ", $name), value = out(reg) value,
                                 options(nostack, preserves_flags));
            }
            value
        }
    };
    (@ write $(#[$doc:meta])* $function:ident $name:literal) => {
        $(#[$doc])*
        #[inline]
        pub(crate) fn $function(value: u64) {
            // SAFETY: a system register of EL1 that steers interrupts only.
            unsafe {
                core::arch::asm!(concat!("msr ", $name, ", {value}"), "isb", value = in(reg) value,
                                 options(nostack, preserves_flags));
            }
        }
    };
}

registers! {
    /// ICC_IAR1_EL1: acknowledge.
    read icc_iar1 "S3_0_C12_C12_0";
    /// ICC_EOIR1_EL1: end of interrupt.
    write set_icc_eoir1 "S3_0_C12_C12_1";
    /// ICC_PMR_EL1: priority mask.
    read icc_pmr "S3_0_C4_C6_0";
    /// ICC_PMR_EL1: priority mask.
    write set_icc_pmr "S3_0_C4_C6_0";
    /// ICC_RPR_EL1: running priority.
    read icc_rpr "S3_0_C12_C11_3";
    /// ICC_DIR_EL1: deactivate.
    write set_icc_dir "S3_0_C12_C11_1";
    /// ICC_BPR1_EL1: binary point.
    read icc_bpr1 "S3_0_C12_C12_3";
    /// ICC_BPR1_EL1: binary point.
    write set_icc_bpr1 "S3_0_C12_C12_3";
    /// ICC_SRE_EL1: system register enable.
    read icc_sre "S3_0_C12_C12_5";
    /// ICC_SRE_EL1: system register enable.
    write set_icc_sre "S3_0_C12_C12_5";
    /// ICC_IGRPEN1_EL1: group 1 enable.
    write set_icc_igrpen1 "S3_0_C12_C12_7";
    /// ICC_SGI1R_EL1: software generated interrupt.
    write set_icc_sgi1r "S3_0_C12_C11_5";
    /// ICC_CTLR_EL1: EOI mode and others.
    write set_icc_ctlr "S3_0_C12_C12_4";
}
