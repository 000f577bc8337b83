//! Why a guest's vCPU came to EL2: `ESR_EL2` taken apart (Arm DDI 0487, D24.2.40).
//!
//! Where the guest goes on is not the same for all of them:
//!
//! | exit | `ELR_EL2` points at | to go on after it | to inject UNDEFINED |
//! |---|---|---|---|
//! | HVC | the instruction after | as it is | **4 back** |
//! | SMC (trapped by HCR_EL2.TSC) | the SMC itself | **4 forward** | as it is |
//! | WFI, WFE, system or coprocessor register | the instruction itself | [`instruction_length`] forward | as it is |
//! | data abort that is emulated | the instruction itself | [`instruction_length`] forward | as it is |
//! | fault that was mended (retry) | the instruction itself | as it is | as it is |
//!
//! The hot exits need no decoding: compare the whole of ESR with [`ESR_HYPERCALL`] and
//! [`ESR_HVC_SMCCC`] first.

use memory::Ipa;

use crate::coprocessor::Coprocessor;
use crate::mmio::{Access, Width};
use crate::sysreg::Encoding;

/// `ESR_EL2` of `hvc #0xEA1`, a Xen hypercall.
pub const ESR_HYPERCALL: u64 = 0x5a00_0000 | abi::hypercall::HVC_IMMEDIATE as u64;
/// `ESR_EL2` of `hvc #0`: a call of the SMC calling convention.
pub const ESR_HVC_SMCCC: u64 = 0x5a00_0000;
/// `ESR_EL2` of `smc #0`: the same; `ELR_EL2` must be moved past it.
pub const ESR_SMC_SMCCC: u64 = 0x5e00_0000;

/// Exception class of HVC from AArch64 state.
pub const CLASS_HVC: u64 = 0x16;
/// Exception class of SMC from AArch64 state.
pub const CLASS_SMC: u64 = 0x17;
/// Exception class of a trapped MRS, MSR or SYS.
pub const CLASS_SYSTEM_REGISTER: u64 = 0x18;
/// Exception class of WFI and WFE.
pub const CLASS_WAIT: u64 = 0x01;
/// Exception class of an instruction abort from a lower exception level.
pub const CLASS_INSTRUCTION_ABORT: u64 = 0x20;
/// Exception class of a data abort from a lower exception level.
pub const CLASS_DATA_ABORT: u64 = 0x24;

/// Why the guest exited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// WFI, WFE or one of their forms with a timeout.
    Wait(Wait),
    /// `hvc #immediate`; `ELR_EL2` is past it.
    Hvc {
        /// What the instruction carries.
        immediate: u16,
    },
    /// `smc #immediate`; `ELR_EL2` is **at** it.
    Smc {
        /// What the instruction carries.
        immediate: u16,
    },
    /// A system register or a cache maintenance instruction that traps.
    SystemRegister(SystemRegister),
    /// A register of coprocessor 14 or 15 that traps, from a program in AArch32 state.
    Coprocessor(Coprocessor),
    /// An instruction fetch that stage 2 or the memory system refused.
    InstructionAbort(Abort),
    /// A load, a store or a cache maintenance instruction that stage 2 or the memory system refused.
    DataAbort(Abort),
    /// FP or SIMD while CPTR_EL2 traps it.
    FloatingPoint,
    /// SVE while CPTR_EL2 traps it: UNDEFINED for our guests.
    Sve,
    /// Illegal execution state. Taken to EL1 unless EL2's own return was bad.
    IllegalState,
    /// SError taken to EL2 as an exception of its own.
    SError {
        /// The 25 bits of syndrome, for the report.
        syndrome: u32,
    },
    /// Anything else: UNDEFINED for the guest.
    Other {
        /// Exception class, bits 31..26.
        class: u8,
    },
}

/// Which wait instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// WFI: for an interrupt.
    Interrupt,
    /// WFE: for an event.
    Event,
    /// WFIT: for an interrupt, or until a time.
    InterruptOrTime,
    /// WFET: for an event, or until a time.
    EventOrTime,
}

/// Exception class, bits 31..26 of `ESR_EL2`.
#[inline]
#[must_use]
pub const fn class(esr: u64) -> u64 {
    field(esr, 26, 6)
}

/// Whether a syndrome of [`CLASS_WAIT`] is of WFI or WFIT (TI, bits 1:0).
#[inline]
#[must_use]
pub const fn is_interrupt_wait(esr: u64) -> bool {
    esr & 1 == 0
}

impl Exit {
    /// Takes `ESR_EL2` of an exception from a guest apart. Total: every value has a meaning.
    #[must_use]
    pub const fn decode(esr: u64) -> Self {
        match class(esr) {
            CLASS_WAIT => Self::Wait(match esr & 3 {
                0 => Wait::Interrupt,
                1 => Wait::Event,
                2 => Wait::InterruptOrTime,
                _ => Wait::EventOrTime,
            }),
            0x07 => Self::FloatingPoint,
            0x0e => Self::IllegalState,
            CLASS_HVC => Self::Hvc {
                immediate: esr as u16,
            },
            CLASS_SMC => Self::Smc {
                immediate: esr as u16,
            },
            CLASS_SYSTEM_REGISTER => Self::SystemRegister(SystemRegister(esr as u32)),
            0x19 => Self::Sve,
            CLASS_INSTRUCTION_ABORT => Self::InstructionAbort(Abort(esr as u32)),
            CLASS_DATA_ABORT => Self::DataAbort(Abort(esr as u32)),
            0x2f => Self::SError {
                syndrome: field(esr, 0, 25) as u32,
            },
            class => match Coprocessor::decode(class, esr as u32) {
                Some(access) => Self::Coprocessor(access),
                None => Self::Other { class: class as u8 },
            },
        }
    }
}

/// Bytes of the instruction that trapped: 2 only for a T32 instruction at EL0.
#[must_use]
pub const fn instruction_length(esr: u64) -> u64 {
    if field(esr, 25, 1) == 0 { 2 } else { 4 }
}

/// Address of a stage-2 fault, from `HPFAR_EL2` and `FAR_EL2`. Only where [`Abort::has_ipa`] says so; for
/// a fault of a stage-1 table walk only the page is meaningful.
#[must_use]
pub const fn fault_ipa(hpfar: u64, far: u64) -> Ipa {
    Ipa::new((hpfar & 0xff_ffff_fff0) << 8 | far & 0xfff)
}

/// A trapped MRS, MSR or SYS instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SystemRegister(u32);

impl SystemRegister {
    /// From the syndrome of an exit of [`CLASS_SYSTEM_REGISTER`].
    #[inline]
    #[must_use]
    pub const fn from_syndrome(syndrome: u32) -> Self {
        Self(syndrome)
    }

    /// The syndrome that it is from.
    #[inline]
    #[must_use]
    pub const fn syndrome(self) -> u32 {
        self.0
    }

    /// Which register or instruction.
    #[must_use]
    pub const fn encoding(self) -> Encoding {
        Encoding::from_syndrome(self.0)
    }

    /// Number of the general register that gives or takes the value; 31 is the zero register.
    #[must_use]
    pub const fn register(self) -> u8 {
        field(self.0 as u64, 5, 5) as u8
    }

    /// Whether the guest writes (MSR, SYS) or reads (MRS).
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.0 & 1 == 0
    }
}

impl core::fmt::Debug for SystemRegister {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let verb = if self.is_write() { "write" } else { "read" };
        write!(f, "{verb} {} x{}", self.encoding(), self.register())
    }
}

/// Syndrome of an instruction or data abort.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Abort(u32);

/// What went wrong, and at which level of the tables where that applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The output address is wider than it may be.
    AddressSize(u8),
    /// Nothing is mapped.
    Translation(u8),
    /// Mapped with the access flag clear.
    AccessFlag(u8),
    /// Mapped, but not for this kind of access.
    Permission(u8),
    /// The memory system answered with an error (or with a parity error).
    External,
    /// The same, for a read of a translation table.
    ExternalOnWalk(u8),
    /// An address that is not aligned as it must be.
    Alignment,
    /// Two TLB entries match.
    TlbConflict,
    /// An exclusive or atomic access that this memory does not support.
    UnsupportedExclusive,
    /// Something else; the raw status code.
    Other(u8),
}

impl Abort {
    /// From the syndrome of an abort.
    #[inline]
    #[must_use]
    pub const fn from_syndrome(syndrome: u32) -> Self {
        Self(syndrome)
    }

    /// Data aborts: whether an LDR or STR of a W register (or of the low half of an X register, zeroes above) found
    /// nothing mapped. [`register`](Self::register) and [`is_write`](Self::is_write) say the rest of it.
    #[inline]
    #[must_use]
    pub const fn is_plain_word(self) -> bool {
        /// ISV, SAS, SSE; CM and S1PTW; DFSC without the level.
        const ALL: u32 = 1 << 24 | 3 << 22 | 1 << 21 | 1 << 8 | 1 << 7 | 0x3c;
        /// Described, a word, as it is; a translation fault.
        const PLAIN: u32 = 1 << 24 | 2 << 22 | 0x04;
        self.0 & ALL == PLAIN
    }

    /// Data aborts that are described: the general register that gives or takes the value; 31 is the zero register.
    #[inline]
    #[must_use]
    pub const fn register(self) -> u8 {
        field(self.0 as u64, 16, 5) as u8
    }

    /// What went wrong.
    #[must_use]
    pub const fn fault(self) -> Fault {
        let status = (self.0 & 0x3f) as u8;
        let level = status & 3;
        match status {
            0x00..=0x03 => Fault::AddressSize(level),
            0x04..=0x07 => Fault::Translation(level),
            0x08..=0x0b => Fault::AccessFlag(level),
            0x0c..=0x0f => Fault::Permission(level),
            0x10 | 0x18 => Fault::External,
            0x14..=0x17 | 0x1c..=0x1f => Fault::ExternalOnWalk(level),
            0x21 => Fault::Alignment,
            0x30 => Fault::TlbConflict,
            0x35 => Fault::UnsupportedExclusive,
            _ => Fault::Other(status),
        }
    }

    /// Whether stage 2 refused an access that the guest's own stage-1 table walk made (S1PTW).
    #[must_use]
    pub const fn is_on_table_walk(self) -> bool {
        field(self.0 as u64, 7, 1) != 0
    }

    /// Data aborts: whether it was a store, or a cache maintenance instruction. A table walk that fails is
    /// reported as the access that caused it, but is a read unless it updates flags.
    #[must_use]
    pub const fn is_write(self) -> bool {
        field(self.0 as u64, 6, 1) != 0
    }

    /// Data aborts: whether a cache maintenance instruction (DC by address) or an address translation was
    /// refused. On memory that is not there this is to be skipped, not emulated.
    #[must_use]
    pub const fn is_cache_maintenance(self) -> bool {
        field(self.0 as u64, 8, 1) != 0
    }

    /// Whether `FAR_EL2` holds the address: not for some external aborts (FnV).
    #[must_use]
    pub const fn has_address(self) -> bool {
        field(self.0 as u64, 10, 1) == 0
    }

    /// Whether `HPFAR_EL2` holds the page: not for a permission fault of the access itself, where the
    /// address must be translated again, and not for what is no stage-2 fault at all.
    #[must_use]
    pub const fn has_ipa(self) -> bool {
        match self.fault() {
            Fault::Translation(_) | Fault::AccessFlag(_) | Fault::AddressSize(_) => true,
            Fault::Permission(_) => self.is_on_table_walk(),
            _ => false,
        }
    }

    /// Data aborts: the access to be emulated at `ipa`; `None` if the syndrome does not describe it (pairs,
    /// SIMD, exclusives, addressing with write-back, table walks).
    #[must_use]
    pub const fn access(self, ipa: Ipa) -> Option<Access> {
        let iss = self.0 as u64;
        if field(iss, 24, 1) == 0 || self.is_on_table_walk() || self.is_cache_maintenance() {
            return None;
        }
        Some(Access {
            ipa,
            width: match field(iss, 22, 2) {
                0 => Width::Byte,
                1 => Width::Half,
                2 => Width::Word,
                _ => Width::Double,
            },
            sign_extend: field(iss, 21, 1) != 0,
            register: self.register(),
            sixty_four: field(iss, 15, 1) != 0,
            write: self.is_write(),
        })
    }

    /// The 25 bits of syndrome, for the report or to be passed on to EL1.
    #[must_use]
    pub const fn syndrome(self) -> u32 {
        self.0 & 0x1ff_ffff
    }
}

impl core::fmt::Debug for Abort {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Abort")
            .field("fault", &self.fault())
            .field("write", &self.is_write())
            .field("on_table_walk", &self.is_on_table_walk())
            .field("syndrome", &format_args!("{:#x}", self.syndrome()))
            .finish()
    }
}

/// `width` bits of `value` from bit `offset` on.
const fn field(value: u64, offset: u32, width: u32) -> u64 {
    value.wrapping_shr(offset) & u64::MAX.wrapping_shr(64_u32.wrapping_sub(width))
}

#[cfg(test)]
#[path = "exit_tests.rs"]
mod tests;
