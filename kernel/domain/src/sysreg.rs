//! System registers and instructions of EL1 that trap (`xen/arch/arm/arm64/vsysreg.c`).
//!
//! A guest reads feature registers that name only what it can use here: see [`identity`]. Debug registers
//! and the PMU are read as zero and written without effect; the few instructions that need more than an
//! answer come back as an [`Action`] for the caller; everything else is UNDEFINED.

mod identity;

pub(crate) use identity::BREAKPOINT_IDENTITY;

use core::fmt;

use crate::exit::SystemRegister;
use crate::timer::TimerRegister;

/// A system register or instruction: op0, op1, CRn, CRm and op2 where the syndrome of a trap has them, so
/// that decoding is one AND.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding(u32);

/// The bits of the syndrome that name the register: op0 21..20, op2 19..17, op1 16..14, CRn 13..10,
/// CRm 4..1 (Arm DDI 0487, ISS of exception class 0x18).
const ENCODING: u32 = 0x3f_fc1e;
/// The same without CRm and op2: op0, op1 and CRn.
const FAMILY: u32 = 0x31_fc00;

impl Encoding {
    /// The register with these numbers; bits that do not belong are dropped.
    #[must_use]
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self(
            (op0 & 3) << 20
                | (op2 & 7) << 17
                | (op1 & 7) << 14
                | (crn & 15) << 10
                | (crm & 15) << 1,
        )
    }

    /// From the syndrome of a trap.
    #[must_use]
    pub const fn from_syndrome(syndrome: u32) -> Self {
        Self(syndrome & ENCODING)
    }

    /// op0.
    #[must_use]
    pub const fn op0(self) -> u32 {
        self.0 >> 20
    }

    /// op1.
    #[must_use]
    pub const fn op1(self) -> u32 {
        self.0 >> 14 & 7
    }

    /// CRn.
    #[must_use]
    pub const fn crn(self) -> u32 {
        self.0 >> 10 & 15
    }

    /// CRm.
    #[must_use]
    pub const fn crm(self) -> u32 {
        self.0 >> 1 & 15
    }

    /// op2.
    #[must_use]
    pub const fn op2(self) -> u32 {
        self.0 >> 17 & 7
    }

    /// Whether it has the same op0, op1 and CRn.
    const fn is_in_family(self, other: Self) -> bool {
        (self.0 ^ other.0) & FAMILY == 0
    }
}

impl fmt::Display for Encoding {
    /// As assemblers spell a register without a name: `S3_0_C12_C11_5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op0, op1, crn, crm, op2) =
            (self.op0(), self.op1(), self.crn(), self.crm(), self.op2());
        write!(f, "S{op0}_{op1}_C{crn}_C{crm}_{op2}")
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The CPU that the guest runs on, as EL2 reads it.
pub trait Host {
    /// A feature register: op0 3, op1 0, CRn 0, CRm 1 to 7. Called when a domain is created.
    fn identity(&self, register: Encoding) -> u64;

    /// `ACTLR_EL1`.
    fn auxiliary_control(&self) -> u64;
}

/// How a guest reaches its GIC's CPU interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GicInterface {
    /// In memory: GICv2.
    Memory,
    /// By system registers: GICv3.
    SystemRegisters,
}

/// From where the guest trapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// A program.
    El0,
    /// The guest's kernel.
    El1,
}

impl Level {
    /// From `SPSR_EL2` of the exit; AArch32 can only be EL0.
    #[must_use]
    pub const fn from_spsr(spsr: u64) -> Self {
        if spsr & 0xc == 0 {
            Self::El0
        } else {
            Self::El1
        }
    }
}

/// Which of the GICv3 registers that send an SGI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SgiRegister {
    /// `ICC_SGI1R_EL1`: group 1 of the guest's security state.
    Group1,
    /// `ICC_ASGI1R_EL1`: group 1 of the other one.
    OtherGroup1,
    /// `ICC_SGI0R_EL1`: group 0.
    Group0,
}

/// What is to be done about a trapped access. After every one but `Undefined` the guest goes on after the
/// instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read: this is the value.
    Value(u64),
    /// Write: without effect.
    Ignore,
    /// UNDEFINED is injected, at the instruction.
    Undefined,
    /// Write: an SGI, as the value written says.
    Sgi(SgiRegister),
    /// Write, trapped by ICH_HCR_EL2.TDIR: the interrupt of this number is deactivated, if the guest's EOImode is 1.
    Deactivate,
    /// Read or write of the emulated physical timer.
    PhysicalTimer(TimerRegister),
    /// Write: data cache maintenance by set and way ([`crate::set_way`]).
    SetWay,
    /// Write, trapped by HCR_EL2.TVM: to be carried out on the real register of stage 1.
    StageOne,
}

/// What the trapped registers of a domain's vCPUs hold. It does not change while the domain lives.
#[derive(Clone)]
pub struct SystemRegisters {
    /// By CRm * 8 + op2.
    identity: [u64; 64],
    auxiliary_control: u64,
    gic: GicInterface,
}

/// `SCTLR_EL1`.
pub const SCTLR: Encoding = Encoding::new(3, 0, 1, 0, 0);
/// Any of the feature registers.
const IDENTITY: Encoding = Encoding::new(3, 0, 0, 0, 0);
/// `ICC_SGI1R_EL1`.
const SGI1R: Encoding = Encoding::new(3, 0, 12, 11, 5);
/// `OSLSR_EL1`: the OS lock is there, and open.
const OSLSR: u64 = 1 << 3;

impl SystemRegisters {
    /// For guests of this CPU with this GIC.
    #[must_use]
    pub fn new(host: &impl Host, gic: GicInterface) -> Self {
        Self {
            identity: identity::registers(host, gic),
            auxiliary_control: host.auxiliary_control(),
            gic,
        }
    }

    /// What EL1 reads of a feature register, without further thought: programs read them by way of their kernels,
    /// often. `None` for all other accesses, which [`access`](Self::access) is about.
    #[inline]
    #[must_use]
    pub fn at_once(&self, access: SystemRegister) -> Option<u64> {
        let register = access.encoding();
        if !register.is_in_family(IDENTITY) || access.is_write() {
            return None;
        }
        let index = register.crm() << 3 | register.op2();
        self.identity.get(index as usize).copied()
    }

    /// Whether EL1 sends an SGI of group 1, if there is a GICv3: what its guests do most.
    #[inline]
    #[must_use]
    pub fn is_sgi(access: SystemRegister) -> bool {
        access.encoding() == SGI1R && access.is_write()
    }

    /// What is to be done about a trapped access.
    #[must_use]
    pub fn access(&self, access: SystemRegister, level: Level) -> Action {
        if let Some(value) = self.at_once(access)
            && level == Level::El1
        {
            return Action::Value(value);
        }
        let register = access.encoding();
        let numbers = (register.crn(), register.crm(), register.op2());
        let write = access.is_write();
        match (register.op0(), register.op1(), level) {
            (1, 0, Level::El1) if write => maintenance(numbers),
            (2, 0, Level::El1) => debug(numbers, write),
            (3, 0, Level::El1) => self.kernel(numbers, write),
            // MDCCSR_EL0: no debugger has anything to say.
            (2, 3, _) if numbers == (0, 1, 0) && !write => Action::Value(0),
            (3, 3, _) => unprivileged(numbers, write, level),
            _ => Action::Undefined,
        }
    }

    /// op0 3, op1 0, at EL1.
    fn kernel(&self, numbers: (u32, u32, u32), write: bool) -> Action {
        match numbers {
            (1, 0, 1) if write => Action::Ignore,
            (1, 0, 1) => Action::Value(self.auxiliary_control),
            // PMINTENSET, PMINTENCLR.
            (9, 14, 1 | 2) => zero(write),
            (12, 11, _) if !write || self.gic == GicInterface::Memory => Action::Undefined,
            (12, 11, 1) => Action::Deactivate,
            (12, 11, 5) => Action::Sgi(SgiRegister::Group1),
            (12, 11, 6) => Action::Sgi(SgiRegister::OtherGroup1),
            (12, 11, 7) => Action::Sgi(SgiRegister::Group0),
            // ICC_SRE_EL1 of a GICv2 guest on a GICv3 host.
            (12, 12, 5) => zero(write),
            _ if write && is_stage_one(numbers) => Action::StageOne,
            _ => Action::Undefined,
        }
    }
}

/// Read as zero, write ignored.
const fn zero(write: bool) -> Action {
    if write {
        Action::Ignore
    } else {
        Action::Value(0)
    }
}

/// op0 1, op1 0: DC ISW, CSW, CISW.
const fn maintenance(numbers: (u32, u32, u32)) -> Action {
    match numbers {
        (7, 6 | 10 | 14, 2) => Action::SetWay,
        _ => Action::Undefined,
    }
}

/// op0 2, op1 0, at EL1: debug registers of a CPU that nobody debugs.
const fn debug(numbers: (u32, u32, u32), write: bool) -> Action {
    match numbers {
        // DBGBVR, DBGBCR, DBGWVR, DBGWCR.
        (0, _, 4..=7) => zero(write),
        // OSDTRRX, MDCCINT, MDSCR, OSDTRTX, OSECCR.
        (0, 0, 2) | (0, 2, 0 | 2) | (0, 3, 2) | (0, 6, 2) => zero(write),
        // MDRAR: no ROM table.
        (1, 0, 0) if !write => Action::Value(0),
        // OSLAR is written, OSLSR read.
        (1, 0, 4) if write => Action::Ignore,
        (1, 1, 4) if !write => Action::Value(OSLSR),
        // OSDLR, DBGPRCR, DBGCLAIMSET, DBGCLAIMCLR.
        (1, 3 | 4, 4) | (7, 8 | 9, 6) => zero(write),
        // DBGAUTHSTATUS: nothing is implemented.
        (7, 14, 6) if !write => Action::Value(0),
        _ => Action::Undefined,
    }
}

/// op0 3, op1 3: what programs may reach too. Where their kernel forbids it, the trap goes to EL1 and not
/// here; but the PMU that we show its kernel is one that forbids.
const fn unprivileged(numbers: (u32, u32, u32), write: bool, level: Level) -> Action {
    match (numbers, level) {
        ((14, 2, 0), _) => Action::PhysicalTimer(TimerRegister::Value),
        ((14, 2, 1), _) => Action::PhysicalTimer(TimerRegister::Control),
        ((14, 2, 2), _) => Action::PhysicalTimer(TimerRegister::Compare),
        // PMUSERENR: a program may read it.
        ((9, 14, 0), Level::El0) if !write => Action::Value(0),
        // PMCR to PMCEID1; PMCCNTR, PMXEVTYPER, PMXEVCNTR; PMUSERENR, PMOVSSET; the event counters and
        // their types.
        ((9, 12, 0..=7) | (9, 13, 0..=2) | (9, 14, 0 | 3) | (14, 8..=15, _), Level::El1) => {
            zero(write)
        }
        _ => Action::Undefined,
    }
}

/// op0 3, op1 0: SCTLR, TTBR0, TTBR1, TCR; AFSR0, AFSR1, ESR, FAR; MAIR, AMAIR; CONTEXTIDR.
const fn is_stage_one(numbers: (u32, u32, u32)) -> bool {
    matches!(
        numbers,
        (1, 0, 0)
            | (2, 0, 0..=2)
            | (5, 1, 0 | 1)
            | (5, 2, 0)
            | (6, 0, 0)
            | (10, 2 | 3, 0)
            | (13, 0, 1)
    )
}

#[cfg(test)]
mod tests;
