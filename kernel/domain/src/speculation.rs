//! Flaws of speculation that SMCCC has calls for, and what is true of them on a CPU: what the CPU itself says
//! (`CSV2`, `ECBHB`, `SSBS`), else Arm's list of CPUs that do not have them, else what the firmware says.
//!
//! EL2 can do nothing by itself where these say nothing: neither a Cortex-A72 r0p3 nor any other Armv8.0 CPU has
//! an instruction that empties its branch predictor. A guest is then told so, and does what it can on its own
//! (Linux: a loop at its entries against the branch history).

use abi::smccc;

/// A flaw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Branch predictor (CVE-2017-5715, WORKAROUND_1).
    BranchPredictor,
    /// Speculative store bypass (CVE-2018-3639, WORKAROUND_2).
    StoreBypass,
    /// Branch history (CVE-2022-23960, WORKAROUND_3).
    BranchHistory,
}

/// How a flaw is dealt with; on a machine whose CPUs differ, the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Mitigation {
    /// The CPU does not have it, or is never without its mitigation.
    NotRequired,
    /// By a call of the firmware.
    Available,
    /// By nothing that we could offer.
    None,
}

impl Flaw {
    /// All of them, in the order of their calls.
    pub const ALL: [Self; 3] = [
        Self::BranchPredictor,
        Self::StoreBypass,
        Self::BranchHistory,
    ];

    /// The firmware's call.
    #[must_use]
    pub const fn workaround(self) -> u32 {
        match self {
            Self::BranchPredictor => smccc::ARCH_WORKAROUND_1,
            Self::StoreBypass => smccc::ARCH_WORKAROUND_2,
            Self::BranchHistory => smccc::ARCH_WORKAROUND_3,
        }
    }
}

/// What a CPU says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// `MIDR_EL1`.
    pub midr: u64,
    /// `ID_AA64PFR0_EL1`; `CSV2` in bits 59:56.
    pub pfr0: u64,
    /// `ID_AA64PFR1_EL1`; `SSBS` in bits 7:4.
    pub pfr1: u64,
    /// `ID_AA64MMFR1_EL1`; `ECBHB` in bits 63:60.
    pub mmfr1: u64,
}

/// Cortex-A53, A35 and A55, which run in order and have none of the three (Arm, "Speculative Processor
/// Vulnerability", list of affected CPUs): implementer and part number of `MIDR_EL1`.
const IN_ORDER: [u64; 3] = [0x4100_d030, 0x4100_d040, 0x4100_d050];

impl Cpu {
    /// How `flaw` is dealt with on this CPU. `firmware` is its answer to SMCCC_ARCH_FEATURES for a call, made on
    /// this CPU; -1 where it has no such answers.
    #[must_use]
    pub fn mitigation(&self, flaw: Flaw, firmware: impl FnOnce(u32) -> i64) -> Mitigation {
        let field = |register: u64, lowest: u32| register.wrapping_shr(lowest) & 0xf;
        let unaffected = match flaw {
            Flaw::BranchPredictor => field(self.pfr0, 56) >= 1,
            Flaw::BranchHistory => field(self.pfr0, 56) >= 3 || field(self.mmfr1, 60) != 0,
            Flaw::StoreBypass => false,
        };
        if unaffected || IN_ORDER.contains(&(self.midr & 0xff00_fff0)) {
            return Mitigation::NotRequired;
        }
        // The guest has PSTATE.SSBS for it.
        if flaw == Flaw::StoreBypass && field(self.pfr1, 4) != 0 {
            return Mitigation::None;
        }
        match (flaw, firmware(flaw.workaround())) {
            // Switched on, and never off, if it can be switched at all.
            (Flaw::StoreBypass, smccc::NOT_REQUIRED | smccc::SUCCESS) => Mitigation::NotRequired,
            (_, smccc::SUCCESS) => Mitigation::Available,
            (_, 1) => Mitigation::NotRequired,
            _ => Mitigation::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A72: Cpu = Cpu {
        midr: 0x410f_d083,
        pfr0: 0x2222,
        pfr1: 0,
        mmfr1: 0,
    };

    fn all(cpu: Cpu, answers: [i64; 3]) -> [Mitigation; 3] {
        Flaw::ALL.map(|flaw| {
            cpu.mitigation(flaw, |call| match call {
                0x8000_8000 => answers[0],
                0x8000_7fff => answers[1],
                _ => answers[2],
            })
        })
    }

    #[test]
    fn a_cortex_a72_has_what_its_firmware_has() {
        use Mitigation::{Available, None, NotRequired};
        for (answers, mitigations) in [
            ([-1, -1, -1], [None, None, None]),
            ([0, -1, -1], [Available, None, None]),
            ([0, 0, 0], [Available, NotRequired, Available]),
            ([1, 1, 1], [NotRequired, NotRequired, NotRequired]),
            ([-5, -2, 7], [None, NotRequired, None]),
        ] {
            assert_eq!(all(A72, answers), mitigations, "{answers:?}");
        }
    }

    #[test]
    fn what_the_cpu_says_comes_first() {
        use Mitigation::{None, NotRequired};
        let none = [-1, -1, -1];
        let csv2 = |value: u64| Cpu {
            pfr0: value << 56,
            ..A72
        };
        assert_eq!(all(csv2(1), none), [NotRequired, None, None]);
        assert_eq!(all(csv2(3), none), [NotRequired, None, NotRequired]);
        let ssbs = Cpu { pfr1: 0x20, ..A72 };
        assert_eq!(all(ssbs, [-1, 0, -1]), [None, None, None]);
        let ecbhb = Cpu {
            mmfr1: 1 << 60,
            ..A72
        };
        assert_eq!(all(ecbhb, none), [None, None, NotRequired]);
        let a53 = Cpu {
            midr: 0x410f_d034,
            ..A72
        };
        assert_eq!(all(a53, none), [NotRequired; 3]);
    }

    #[test]
    fn the_worst_cpu_counts() {
        assert!(Mitigation::NotRequired < Mitigation::Available);
        assert!(Mitigation::Available < Mitigation::None);
    }
}
