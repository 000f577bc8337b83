//! The registers of a GICv3 that a GICv2 does not have: the routing frame of the distributor and the
//! redistributors (IHI 0069, 12.8 to 12.11).

use tock_registers::registers::{ReadOnly, ReadWrite};
use tock_registers::{register_bitfields, register_structs};

use super::bank::Bank;

register_bitfields! {u32,
    /// Redistributor control.
    pub(super) GICR_CTLR [
        /// A write to a register that this one covers has not taken effect everywhere yet.
        RWP OFFSET(3) NUMBITS(1) [],
    ],
    /// Redistributor wake.
    pub(super) GICR_WAKER [
        /// The CPU interface is quiet.
        ChildrenAsleep OFFSET(2) NUMBITS(1) [],
        /// The redistributor shall be quiet.
        ProcessorSleep OFFSET(1) NUMBITS(1) [],
    ],
}

register_bitfields! {u64,
    /// Redistributor type.
    pub(super) GICR_TYPER [
        /// Whose it is: affinity levels 3 to 0.
        Affinity OFFSET(32) NUMBITS(32) [],
        /// The last of its region.
        Last OFFSET(4) NUMBITS(1) [],
        /// It has virtual LPIs (GICv4), and so two more frames.
        VLPIS OFFSET(1) NUMBITS(1) [],
    ],
}

register_structs! {
    /// A GICv3 distributor.
    pub(super) Distributor {
        (0x0000 => pub(super) bank: Bank),
        (0x1000 => _reserved_1000),
        /// Affinity of the CPU to which each shared interrupt goes. The first 32 do not exist.
        (0x6000 => pub(super) irouter: [ReadWrite<u64>; 1024]),
        (0x8000 => _reserved_8000),
        (0x10000 => @END),
    }
}

register_structs! {
    /// Two frames of a redistributor: its control, and the bank of its CPU's private interrupts.
    pub(super) Redistributor {
        (0x00000 => pub(super) ctlr: ReadOnly<u32, GICR_CTLR::Register>),
        (0x00004 => _iidr: ReadOnly<u32>),
        (0x00008 => pub(super) typer: ReadOnly<u64, GICR_TYPER::Register>),
        (0x00010 => _reserved_00010),
        (0x00014 => pub(super) waker: ReadWrite<u32, GICR_WAKER::Register>),
        (0x00018 => _reserved_00018),
        (0x10000 => pub(super) bank: Bank),
        (0x11000 => _reserved_11000),
        (0x20000 => @END),
    }
}

/// A system register's number is in the instruction.
macro_rules! indexed {
    ($index:expr, $($number:literal $name:ident)* => |$register:ident| $access:expr, else $other:expr) => {
        match $index {
            $($number => { let $register = cpu_registers::$name; $access })*
            _ => $other,
        }
    };
}

macro_rules! list {
    ($index:expr => $($access:tt)*) => {
        indexed!(
            $index,
            0 ICH_LR0_EL2 1 ICH_LR1_EL2 2 ICH_LR2_EL2 3 ICH_LR3_EL2
            4 ICH_LR4_EL2 5 ICH_LR5_EL2 6 ICH_LR6_EL2 7 ICH_LR7_EL2
            8 ICH_LR8_EL2 9 ICH_LR9_EL2 10 ICH_LR10_EL2 11 ICH_LR11_EL2
            12 ICH_LR12_EL2 13 ICH_LR13_EL2 14 ICH_LR14_EL2 15 ICH_LR15_EL2
            => $($access)*
        )
    };
}

/// Writes list register `index`; none if there is none of this number.
#[inline]
pub(super) fn write_list(index: usize, raw: u64) {
    #[cfg(target_arch = "aarch64")]
    if index < super::MAX_LISTS {
        // SAFETY: the jump goes to one of the sixteen pairs of instructions below, by the check. They write
        // `ICH_LR<n>_EL2`, which steers the interrupt controller, and go on behind the last.
        unsafe {
            core::arch::asm!(
                "adr {to}, 2f",
                "add {to}, {to}, {index}, lsl #3",
                "br {to}",
                "2:",
                "msr s3_4_c12_c12_0, {raw}", "b 3f",
                "msr s3_4_c12_c12_1, {raw}", "b 3f",
                "msr s3_4_c12_c12_2, {raw}", "b 3f",
                "msr s3_4_c12_c12_3, {raw}", "b 3f",
                "msr s3_4_c12_c12_4, {raw}", "b 3f",
                "msr s3_4_c12_c12_5, {raw}", "b 3f",
                "msr s3_4_c12_c12_6, {raw}", "b 3f",
                "msr s3_4_c12_c12_7, {raw}", "b 3f",
                "msr s3_4_c12_c13_0, {raw}", "b 3f",
                "msr s3_4_c12_c13_1, {raw}", "b 3f",
                "msr s3_4_c12_c13_2, {raw}", "b 3f",
                "msr s3_4_c12_c13_3, {raw}", "b 3f",
                "msr s3_4_c12_c13_4, {raw}", "b 3f",
                "msr s3_4_c12_c13_5, {raw}", "b 3f",
                "msr s3_4_c12_c13_6, {raw}", "b 3f",
                "msr s3_4_c12_c13_7, {raw}",
                "3:",
                to = out(reg) _,
                index = in(reg) index,
                raw = in(reg) raw,
                options(nomem, nostack, preserves_flags),
            );
        }
    }
    #[cfg(not(target_arch = "aarch64"))]
    let _ = (index, raw);
}

macro_rules! active_priorities {
    ($index:expr => $($access:tt)*) => {
        indexed!(
            $index,
            1 ICH_AP0R1_EL2 2 ICH_AP0R2_EL2 3 ICH_AP0R3_EL2
            5 ICH_AP1R1_EL2 6 ICH_AP1R2_EL2 7 ICH_AP1R3_EL2
            => $($access)*
        )
    };
}

pub(super) use {active_priorities, indexed, list};
