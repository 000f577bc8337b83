//! Exceptions that EL2 gives to a guest's EL1, as the hardware would take them
//! (Arm DDI 0487, D1.3.1 and `AArch64.TakeException`).

use aarch64_cpu::registers::{
    ELR_EL1, ELR_EL2, ESR_EL1, FAR_EL1, HCR_EL2, SPSR_EL1, SPSR_EL2, VBAR_EL1,
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
    SPSR_EL2.set(EL1H_MASKED);
}

/// Makes a virtual SError pending for the guest that is loaded; it is taken when the guest unmasks it,
/// and the hardware clears it then.
pub fn inject_serror() {
    HCR_EL2.set(HCR_EL2.get() | hcr::VSE);
}
