//! Exceptions that EL2 gives to a guest's EL1, as the hardware would take them
//! (Arm DDI 0487, D1.3.1 and `AArch64.TakeException`).

use aarch64_cpu::registers::{
    ELR_EL1, ELR_EL2, ESR_EL1, FAR_EL1, HCR_EL2, SCTLR_EL1, SPSR_EL1, SPSR_EL2, VBAR_EL1,
};
use tock_registers::interfaces::{Readable, Writeable};

use crate::registers::hcr;

/// A synchronous exception for EL1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exception {
    /// The instruction does not exist.
    Undefined,
    /// An external abort on a data access to this virtual address.
    DataAbort {
        /// Virtual address, for `FAR_EL1`.
        address: u64,
        /// The access was a write (`ESR_EL1.WnR`).
        write: bool,
    },
    /// An external abort on an instruction fetch from this virtual address.
    InstructionAbort {
        /// Virtual address, for `FAR_EL1`.
        address: u64,
    },
}

const CLASS_UNKNOWN: u64 = 0;
const CLASS_INSTRUCTION_ABORT_LOWER: u64 = 0x20;
const CLASS_DATA_ABORT_LOWER: u64 = 0x24;
const INSTRUCTION_LENGTH_32: u64 = 1 << 25;
/// Synchronous external abort, not on a table walk.
const EXTERNAL_ABORT: u64 = 0x10;
const MODE_MASK: u64 = 0x1f;
const AARCH32: u64 = 1 << 4;
const EL1H_MASKED: u64 = 0x3c5;
const PAN: u64 = 1 << 22;
const DIT: u64 = 1 << 24;
const DIT_32: u64 = 1 << 21;
const NZCV: u64 = 0xf << 28;
/// `PSTATE.SSBS` of AArch64.
const SSBS: u64 = 1 << 12;
/// `SCTLR_EL1`: an exception leaves PAN alone. RES1 before Armv8.1.
const SPAN: u64 = 1 << 23;
/// `SCTLR_EL1`: PSTATE.SSBS after an exception. RES0 without it.
const DSSBS: u64 = 1 << 44;

/// Makes the guest that is loaded take `exception` when it is resumed. The return address is
/// `ELR_EL2` as it is now.
pub fn inject(exception: Exception) {
    let state = SPSR_EL2.get();
    let from_el1 = state & MODE_MASK & 0b1100 == 0b0100 && state & AARCH32 == 0;
    let offset = if state & AARCH32 != 0 {
        0x600
    } else if !from_el1 {
        0x400
    } else if state & 1 == 0 {
        0x000
    } else {
        0x200
    };
    // The class of an abort says whether it came from the same level: bit 0 of the class.
    let same = u64::from(from_el1);
    let syndrome = match exception {
        Exception::Undefined => CLASS_UNKNOWN << 26,
        Exception::DataAbort { address, write } => {
            FAR_EL1.set(address);
            (CLASS_DATA_ABORT_LOWER + same) << 26 | EXTERNAL_ABORT | u64::from(write) << 6
        }
        Exception::InstructionAbort { address } => {
            FAR_EL1.set(address);
            (CLASS_INSTRUCTION_ABORT_LOWER + same) << 26 | EXTERNAL_ABORT
        }
    };
    ESR_EL1.set(syndrome | INSTRUCTION_LENGTH_32);
    ELR_EL1.set(ELR_EL2.get());
    SPSR_EL1.set(state);
    ELR_EL2.set(VBAR_EL1.get().wrapping_add(offset));
    SPSR_EL2.set(state_at_entry(state, SCTLR_EL1.get()));
}

/// PSTATE with which EL1 takes an exception that interrupted `state`: the condition flags, PAN and DIT stay, PAN is
/// set unless the guest said otherwise, SSBS is as it said; everything else is cleared.
const fn state_at_entry(state: u64, sctlr: u64) -> u64 {
    let pan = if sctlr & SPAN == 0 { PAN } else { 0 };
    let ssbs = if sctlr & DSSBS != 0 { SSBS } else { 0 };
    // DIT has another place in AArch32, where bit 24 is J, always 0.
    let dit = if state & AARCH32 != 0 {
        (state & DIT_32) << 3
    } else {
        state & DIT
    };
    EL1H_MASKED | state & (NZCV | PAN) | dit | pan | ssbs
}

/// Makes a virtual SError pending for the guest that is loaded; it is taken when the guest unmasks it,
/// and the hardware clears it then.
pub fn inject_serror() {
    HCR_EL2.set(HCR_EL2.get() | hcr::VSE);
}

/// Whether one is pending, which the guest that is loaded has not taken.
#[must_use]
pub fn waits_serror() -> bool {
    HCR_EL2.get() & hcr::VSE != 0
}
