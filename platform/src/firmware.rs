//! The firmware's other services by the SMC calling convention (DEN 0028): workarounds and random numbers
//! (DEN 0098).

use crate::cpu_start::Conduit;

/// SMCCC_VERSION, also as the argument of PSCI_FEATURES.
const SMCCC_VERSION: u32 = 0x8000_0000;
/// SMCCC_ARCH_FEATURES.
const ARCH_FEATURES: u32 = 0x8000_0001;
/// PSCI_VERSION.
const PSCI_VERSION: u32 = 0x8400_0000;
/// PSCI_FEATURES.
const PSCI_FEATURES: u32 = 0x8400_000a;

/// How a call is made: function and three arguments, x0 to x3 of the answer.
type Call = fn(u32, [u64; 3]) -> [u64; 4];

/// Firmware that has SMCCC 1.1 or later.
#[derive(Clone, Copy)]
pub struct Firmware(Call);

impl Firmware {
    /// Asks as DEN 0028 (appendix "Discovery") has it: PSCI 1.0 has a call that says whether there is
    /// SMCCC_VERSION, and that says whether the other calls may be made at all. `None` where one of them says no.
    ///
    /// # Safety
    ///
    /// The firmware has PSCI 0.2 or later with this conduit: without any, the instruction is UNDEFINED or worse.
    #[must_use]
    pub unsafe fn find(conduit: Conduit) -> Option<Self> {
        Self::ask(match conduit {
            Conduit::Smc => smc,
            Conduit::Hvc => hvc,
        })
    }

    fn ask(call: Call) -> Option<Self> {
        let answer = |function, argument| i64::from(call(function, [argument, 0, 0])[0] as i32);
        (answer(PSCI_VERSION, 0) >= 0x1_0000
            && answer(PSCI_FEATURES, u64::from(SMCCC_VERSION)) >= 0
            && answer(SMCCC_VERSION, 0) >= 0x1_0001)
            .then_some(Self(call))
    }

    /// What it says of a call of the Arm Architecture Service, for the CPU that asks.
    #[must_use]
    pub fn features(&self, function: u32) -> i64 {
        // 32 bits wide (DEN 0028, 7.3).
        i64::from(self.call(ARCH_FEATURES, [u64::from(function), 0, 0])[0] as i32)
    }

    /// Makes a call of a service that it has.
    pub fn call(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        self.0(function, arguments)
    }
}

#[cfg(target_arch = "aarch64")]
fn by<C: smccc::Call>(function: u32, [first, second, third]: [u64; 3]) -> [u64; 4] {
    let mut arguments = [0; 17];
    arguments[..3].copy_from_slice(&[first, second, third]);
    let [x0, x1, x2, x3, ..] = C::call64(function, arguments);
    [x0, x1, x2, x3]
}

#[cfg(target_arch = "aarch64")]
fn smc(function: u32, arguments: [u64; 3]) -> [u64; 4] {
    by::<smccc::Smc>(function, arguments)
}

#[cfg(target_arch = "aarch64")]
fn hvc(function: u32, arguments: [u64; 3]) -> [u64; 4] {
    by::<smccc::Hvc>(function, arguments)
}

/// This build has no such instruction.
#[cfg(not(target_arch = "aarch64"))]
fn smc(_function: u32, _arguments: [u64; 3]) -> [u64; 4] {
    [u64::MAX, 0, 0, 0]
}

#[cfg(not(target_arch = "aarch64"))]
use smc as hvc;

#[cfg(test)]
mod tests {
    use super::*;

    /// Firmware with these answers, in the order in which they are asked for; a panic where nothing may be asked.
    fn with(answers: &'static [i32; 3]) -> Option<Firmware> {
        use core::cell::Cell;
        std::thread_local!(static ANSWERS: Cell<&'static [i32; 3]> = const { Cell::new(&[0; 3]) });
        ANSWERS.set(answers);
        Firmware::ask(|function, [argument, ..]| {
            let [psci, features, version] = *ANSWERS.get();
            let answer = match (function, argument) {
                (PSCI_VERSION, _) => psci,
                (PSCI_FEATURES, 0x8000_0000) if psci >= 0x1_0000 => features,
                (SMCCC_VERSION, _) if features >= 0 => version,
                _ => panic!("{function:#x} may not be asked for"),
            };
            // 32 bits; some firmware does not extend the sign.
            [u64::from(answer as u32), 1, 2, 3]
        })
    }

    #[test]
    fn only_firmware_that_says_so_is_asked_further() {
        assert!(with(&[0x2, 0, 0x1_0001]).is_none());
        assert!(with(&[-1, 0, 0x1_0001]).is_none());
        assert!(with(&[0x1_0000, -1, 0x1_0001]).is_none());
        assert!(with(&[0x1_0001, 0, 0x1_0000]).is_none());
        assert!(with(&[0x1_0001, 0, -1]).is_none());
        assert!(with(&[0x1_0001, 0, 0x1_0001]).is_some());
        assert!(with(&[0x1_0001, 0, 0x1_0005]).is_some());
    }
}
