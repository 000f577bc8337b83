//! Programs in AArch32 state: conditional instructions, and registers of coprocessors 14 and 15
//! (Arm DDI 0487, G1 and G8).
//!
//! EL1 is AArch64 for every guest, so such exits come from EL0 alone, and only for what the guest's kernel
//! lets through: its own traps (`CNTKCTL_EL1`, `PMUSERENR_EL0`) come before EL2's and go to EL1.

use crate::sysreg::{Action, BREAKPOINT_IDENTITY};
use crate::timer::TimerRegister;

/// Exception classes below this one are of instructions that AArch32 may execute conditionally, but for
/// class 0 and the illegal state.
const FIRST_UNCONDITIONAL: u64 = 0x10;
/// Exception class of the illegal execution state.
const ILLEGAL_STATE: u64 = 0x0e;

/// Whether the instruction that trapped is one that the program executes: an implementation may trap those
/// too whose condition fails, and they do nothing then. True for everything but conditional AArch32.
///
/// The condition is in the syndrome (CV, COND), or, where that is not so, in the IT bits of `SPSR_EL2`
/// (DDI 0487, D24.2.40 "ISS encoding for an exception from an MCR or MRC access"; G1.12).
#[must_use]
pub const fn condition_passes(esr: u64, spsr: u64) -> bool {
    const AARCH32: u64 = 1 << 4;
    let class = esr >> 26 & 0x3f;
    if spsr & AARCH32 == 0 || class == 0 || class == ILLEGAL_STATE || class >= FIRST_UNCONDITIONAL {
        return true;
    }
    let is_valid = esr & 1 << 24 != 0;
    let condition = if is_valid {
        esr >> 20 & 0xf
    } else {
        let it = spsr >> 8 & 0xfc | spsr >> 25 & 3;
        // Outside an IT block.
        if it == 0 {
            return true;
        }
        it >> 4
    };
    let (n, z) = (spsr & 1 << 31 != 0, spsr & 1 << 30 != 0);
    let (c, v) = (spsr & 1 << 29 != 0, spsr & 1 << 28 != 0);
    let holds = match condition >> 1 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    // Each odd condition is the opposite of the even one before it.
    holds == (condition & 1 == 0)
}

/// A trapped MCR, MRC, MCRR or MRRC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Coprocessor {
    syndrome: u32,
    kind: Kind,
}

/// Which of the four spaces of registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// MCR, MRC with coprocessor 14.
    Debug,
    /// MCRR, MRRC with coprocessor 14.
    DebugPair,
    /// MCR, MRC with coprocessor 15.
    System,
    /// MCRR, MRRC with coprocessor 15.
    SystemPair,
}

/// Where the value of a read goes, or that of a write comes from: general registers as AArch64 numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// 32 bits of this one.
    Register(u8),
    /// The low half in the first, the high half in the second.
    Pair(u8, u8),
    /// Bits 31 to 28 are the condition flags (`APSR_nzcv`; reads only).
    Flags,
}

impl Coprocessor {
    /// From the syndrome of an exit of this class; `None` for another one.
    #[must_use]
    pub(crate) const fn decode(class: u64, syndrome: u32) -> Option<Self> {
        let kind = match class {
            0x03 => Kind::System,
            0x04 => Kind::SystemPair,
            0x05 => Kind::Debug,
            0x0c => Kind::DebugPair,
            _ => return None,
        };
        Some(Self { syndrome, kind })
    }

    /// Whether the program writes (MCR, MCRR) or reads (MRC, MRRC).
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.syndrome & 1 == 0
    }

    /// Where the value is or goes to.
    #[must_use]
    pub const fn operand(self) -> Operand {
        let first = self.field(5, 5) as u8;
        match self.kind {
            Kind::DebugPair | Kind::SystemPair => Operand::Pair(first, self.field(10, 5) as u8),
            // A program has 15 registers. The 16th number is the flags, reported as it is or as 31.
            Kind::Debug | Kind::System if first & 0xf == 0xf && !self.is_write() => Operand::Flags,
            Kind::Debug | Kind::System => Operand::Register(first),
        }
    }

    /// What is to be done: as of an Armv8 machine whose debugger is silent (`MDSCR_EL1` reads 0), without a
    /// PMU and without registers that nobody defined.
    #[must_use]
    pub const fn action(self) -> Action {
        let read = !self.is_write();
        match (self.kind, self.opc1(), self.crn(), self.crm(), self.opc2()) {
            (Kind::System, 0, 14, 2, 0) => Action::PhysicalTimer(TimerRegister::Value),
            (Kind::System, 0, 14, 2, 1) => Action::PhysicalTimer(TimerRegister::Control),
            (Kind::SystemPair, 2, _, 14, _) => Action::PhysicalTimer(TimerRegister::Compare),
            // PMUSERENR, which says that nothing else of the PMU is a program's.
            (Kind::System, 0, 9, 14, 0) if read => Action::Value(0),
            // DBGDIDR.
            (Kind::Debug, 0, 0, 0, 0) if read => Action::Value(BREAKPOINT_IDENTITY),
            // DBGDSCRint; DBGDRAR and DBGDSAR: there is no table of debug components.
            (Kind::Debug, 0, 0, 1, 0) | (Kind::Debug, 0, 1 | 2, 0, 0) if read => Action::Value(0),
            (Kind::DebugPair, 0, _, 1 | 2, _) if read => Action::Value(0),
            // DBGDTRRXint, DBGDTRTXint: nothing comes, and nobody takes.
            (Kind::Debug, 0, 0, 5, 0) if read => Action::Value(0),
            (Kind::Debug, 0, 0, 5, 0) => Action::Ignore,
            _ => Action::Undefined,
        }
    }

    const fn opc1(self) -> u32 {
        match self.kind {
            Kind::Debug | Kind::System => self.field(14, 3),
            Kind::DebugPair | Kind::SystemPair => self.field(16, 4),
        }
    }

    /// 0 for a pair, which has none.
    const fn crn(self) -> u32 {
        match self.kind {
            Kind::Debug | Kind::System => self.field(10, 4),
            Kind::DebugPair | Kind::SystemPair => 0,
        }
    }

    const fn crm(self) -> u32 {
        self.field(1, 4)
    }

    /// 0 for a pair, which has none.
    const fn opc2(self) -> u32 {
        match self.kind {
            Kind::Debug | Kind::System => self.field(17, 3),
            Kind::DebugPair | Kind::SystemPair => 0,
        }
    }

    const fn field(self, offset: u32, width: u32) -> u32 {
        self.syndrome.wrapping_shr(offset) & 1_u32.wrapping_shl(width).wrapping_sub(1)
    }
}

impl core::fmt::Debug for Coprocessor {
    /// As assemblers write the register: `read p15, 0, c14, c2, 1`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let verb = if self.is_write() { "write" } else { "read" };
        let (opc1, crn, crm, opc2) = (self.opc1(), self.crn(), self.crm(), self.opc2());
        match self.kind {
            Kind::Debug => write!(f, "{verb} p14, {opc1}, c{crn}, c{crm}, {opc2}"),
            Kind::System => write!(f, "{verb} p15, {opc1}, c{crn}, c{crm}, {opc2}"),
            Kind::DebugPair => write!(f, "{verb} p14, {opc1}, c{crm}"),
            Kind::SystemPair => write!(f, "{verb} p15, {opc1}, c{crm}"),
        }
    }
}

#[cfg(test)]
#[path = "coprocessor_tests.rs"]
mod tests;
