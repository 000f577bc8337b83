//! How the other CPUs are woken: by PSCI, or from a spin table, as the tree says for each.
//!
//! PSCI: DEN 0022, 5.1.4 (`CPU_ON`). Spin table: devicetree specification 3.8.1, with the one meaning
//! that Linux's arm64 boot protocol gives it: a CPU waits by `WFE` for a word to become other than 0,
//! then branches there, caches and MMU off, at our exception level.

use core::fmt;
use core::ptr::with_exposed_provenance_mut;

use memory::Pa;

use crate::barrier;

/// The instruction by which PSCI is called (`method` in the tree).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `SMC`: the firmware is at EL3.
    Smc,
    /// `HVC`: a hypervisor is below us.
    Hvc,
}

/// Why a CPU could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The firmware's answer.
    Psci(smccc::psci::Error),
    /// The word of the spin table is not aligned to 8, or at 0.
    ReleaseAddress(Pa),
    /// This build has no such instruction.
    NoConduit,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psci(error) => write!(f, "PSCI CPU_ON: {error}"),
            Self::ReleaseAddress(address) => {
                write!(f, "cpu-release-addr {address} is 0 or not aligned to 8")
            }
            Self::NoConduit => f.write_str("no way to call PSCI"),
        }
    }
}

/// The affinity fields of `MPIDR_EL1` (DDI 0487). `CPU_ON` refuses the others, bit 31 among
/// them, which reads as 1.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// The affinity fields of an `MPIDR_EL1` value, all other bits 0.
#[must_use]
pub const fn affinity(mpidr: u64) -> u64 {
    mpidr & AFFINITY
}

/// Starts the CPU with this affinity by PSCI: it begins at `entry`, at our exception level, with MMU
/// and caches off and `context` in x0.
///
/// # Errors
///
/// What the firmware answers.
///
/// # Safety
///
/// The firmware has PSCI with this conduit (without any, the instruction is UNDEFINED or worse). At
/// `entry`, clean to the point of coherency, is code that is ready for another CPU.
pub unsafe fn psci(conduit: Conduit, mpidr: u64, entry: Pa, context: u64) -> Result<(), Error> {
    // What the new CPU reads with its MMU off was cleaned by the caller; this completes it.
    barrier::complete_all();
    #[cfg(target_arch = "aarch64")]
    {
        use smccc::{Hvc, Smc, psci::cpu_on};
        match conduit {
            Conduit::Smc => cpu_on::<Smc>(affinity(mpidr), entry.get(), context),
            Conduit::Hvc => cpu_on::<Hvc>(affinity(mpidr), entry.get(), context),
        }
        .map_err(Error::Psci)
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        let _ = (conduit, affinity(mpidr), entry, context);
        Err(Error::NoConduit)
    }
}

/// Starts the CPU that waits at this word of the spin table: it begins at `entry` with MMU and caches
/// off and nothing useful in its registers, so the code there finds out by `MPIDR_EL1` which CPU it is.
/// Some firmware lets several CPUs wait at one word; all of them come.
///
/// `clean` cleans the 8 bytes at an address to the point of coherency: the CPU that waits reads past
/// the caches.
///
/// # Errors
///
/// [`Error::ReleaseAddress`].
///
/// # Safety
///
/// `release` is the tree's `cpu-release-addr` of a CPU that still waits there, mapped one to one and
/// writable, and nothing of ours. At `entry`, clean to the point of coherency, is code that is ready for
/// another CPU.
pub unsafe fn spin_table(release: Pa, entry: Pa, clean: impl FnOnce(Pa, u64)) -> Result<(), Error> {
    let word = usize::try_from(release.get())
        .ok()
        .filter(|&word| word != 0 && word.is_multiple_of(8))
        .ok_or(Error::ReleaseAddress(release))?;
    let word = with_exposed_provenance_mut::<u64>(word);
    // SAFETY: mapped, writable and the firmware's by the caller's promise; aligned and not 0 by the
    // check. Volatile, since nothing here ever reads it.
    unsafe { word.write_volatile(entry.get().to_le()) };
    clean(release, 8);
    // The word has to be in memory before the event says to look at it.
    barrier::complete_all();
    barrier::send_event();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::tests::Block;

    #[test]
    fn affinity_loses_the_bits_that_psci_refuses() {
        assert_eq!(affinity(0x0000_0001_c100_0203), 0x0000_0001_0000_0203);
    }

    #[test]
    fn the_word_is_written_whole_and_cleaned_after() {
        let block = Block::new(4096);
        let release = Pa::new(block.base() as u64 + 0xe0);
        let clean = |address, size| {
            assert_eq!((address, size), (release, 8));
            assert_eq!(
                (block.get(0xe0), block.get(0xe4)),
                (0x9abc_def0, 0x1234_5678)
            );
        };
        // SAFETY: ordinary memory; no CPU waits there.
        unsafe { spin_table(release, Pa::new(0x1234_5678_9abc_def0), clean) }.unwrap();
    }

    #[test]
    fn a_misaligned_word_is_refused() {
        let release = Pa::new(0xdc);
        // SAFETY: nothing is accessed.
        let result = unsafe { spin_table(release, Pa::new(0), |_, _| unreachable!()) };
        assert_eq!(result, Err(Error::ReleaseAddress(release)));
    }
}
