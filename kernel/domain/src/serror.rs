//! SErrors: whose they are and what is done about them (Arm DDI 0487, D1.3 and the ISS of class 0x2f).
//!
//! They are asynchronous: what a guest stored raises one later, in the guest, in EL2 behind its exit, or, were it
//! not for the DSB and the look at `ISR_EL1` of a vCPU switch, in the next guest. EL2 works with them masked, so:
//!
//! | found | whose | where |
//! |---|---|---|
//! | while a guest runs | its | the vector |
//! | pending after the DSB of a switch, or before EL2 sleeps | the vCPU's that is still loaded | `arch::context` |
//! | pending with no vCPU loaded | EL2's own | `arch::context` |
//!
//! EL2 itself stores to its own memory and to the devices of its map. While a vCPU is loaded, an error of those
//! cannot be told from one of the guest's without a DSB at every exit, and counts as the guest's.

use core::fmt;

/// SErrors that a vCPU may cause while a virtual one waits for it, which it keeps masked. A source that does not
/// go away would keep the vCPU, and so the CPU, at taking exceptions for ever.
pub const MOST_UNTAKEN: u32 = 16;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing was lost: it is told, and the guest goes on.
    GoOn,
    /// The guest gets a virtual SError (`HCR_EL2.VSE`).
    Give,
    /// The guest is ended.
    End,
}

/// The syndrome of an SError: `ESR_EL2`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Syndrome(u64);

/// How bad it is, where the CPU says so (RAS extension, field AET).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The CPU does not say: no RAS extension, or a syndrome of its maker's.
    Unknown,
    /// It may have spread.
    Uncontainable,
    /// The guest cannot go on where it was.
    Unrecoverable,
    /// The guest can go on; nothing has used what is wrong.
    Restartable,
    /// The guest could go on once the cause is away.
    Recoverable,
    /// The hardware has put it right.
    Corrected,
}

impl Syndrome {
    /// From `ESR_EL2`.
    #[must_use]
    pub const fn new(esr: u64) -> Self {
        Self(esr)
    }

    /// How bad it is. A Cortex-A72 has no RAS extension and says nothing that is architected.
    #[must_use]
    pub const fn severity(self) -> Severity {
        const IMPLEMENTATION_DEFINED: u64 = 1 << 24;
        /// DFSC of an SError that AET describes.
        const ASYNCHRONOUS: u64 = 0x11;
        if self.0 & IMPLEMENTATION_DEFINED != 0 || self.0 & 0x3f != ASYNCHRONOUS {
            return Severity::Unknown;
        }
        match self.0 >> 10 & 7 {
            0 => Severity::Uncontainable,
            1 => Severity::Unrecoverable,
            2 => Severity::Restartable,
            3 => Severity::Recoverable,
            6 => Severity::Corrected,
            _ => Severity::Unknown,
        }
    }

    /// What is to be done about one of a guest. `untaken`: those that its vCPU caused before, one after the other,
    /// while the virtual one that the first of them brought has waited for it.
    #[must_use]
    pub const fn verdict(self, untaken: u32) -> Verdict {
        if matches!(self.severity(), Severity::Restartable | Severity::Corrected) {
            Verdict::GoOn
        } else if untaken < MOST_UNTAKEN {
            Verdict::Give
        } else {
            Verdict::End
        }
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ESR {:#x}", self.0)?;
        match self.severity() {
            Severity::Unknown => Ok(()),
            severity => write!(f, " ({severity:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLASS: u64 = 0x2f << 26 | 1 << 25;

    #[test]
    fn severity_is_architected_with_ras_alone() {
        // A Cortex-A72: nothing, or its own syndrome, whose low bits could look like another's.
        for esr in [CLASS, CLASS | 1 << 24 | 2, CLASS | 1 << 24 | 6 << 10 | 0x11] {
            assert_eq!(Syndrome::new(esr).severity(), Severity::Unknown, "{esr:#x}");
            assert_eq!(Syndrome::new(esr).verdict(0), Verdict::Give, "{esr:#x}");
        }
        for (aet, severity, verdict) in [
            (0, Severity::Uncontainable, Verdict::Give),
            (1, Severity::Unrecoverable, Verdict::Give),
            (2, Severity::Restartable, Verdict::GoOn),
            (3, Severity::Recoverable, Verdict::Give),
            (4, Severity::Unknown, Verdict::Give),
            (6, Severity::Corrected, Verdict::GoOn),
        ] {
            let syndrome = Syndrome::new(CLASS | aet << 10 | 0x11);
            assert_eq!(syndrome.severity(), severity, "{aet}");
            assert_eq!(syndrome.verdict(MOST_UNTAKEN - 1), verdict, "{aet}");
        }
        assert_eq!(
            Syndrome::new(CLASS | 0x11).to_string(),
            "ESR 0xbe000011 (Uncontainable)"
        );
        assert_eq!(Syndrome::new(CLASS).to_string(), "ESR 0xbe000000");
    }

    #[test]
    fn who_takes_none_is_ended() {
        let syndrome = Syndrome::new(CLASS);
        assert_eq!(syndrome.verdict(MOST_UNTAKEN - 1), Verdict::Give);
        assert_eq!(syndrome.verdict(MOST_UNTAKEN), Verdict::End);
    }

    proptest! {
        /// Whatever the CPU says, an SError that goes on coming ends the guest, or does nothing to it.
        #[test]
        fn none_is_for_ever(esr in any::<u64>(), untaken in MOST_UNTAKEN..) {
            prop_assert_ne!(Syndrome::new(esr).verdict(untaken), Verdict::Give);
        }
    }
}
