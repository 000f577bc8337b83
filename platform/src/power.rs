//! Ways to switch the board off or to reset it, and where there is none, to stop.
//!
//! PSCI: DEN 0022, 5.9 and 5.10. BCM2711: its power management block has a watchdog that resets the
//! chip; the Pi's firmware then reads from RSTS which partition to boot, and halts for number 63. The
//! block is in no public manual; registers and values are those of Linux's bcm2835 watchdog driver.

use memory::PaRange;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::registers::ReadWrite;
use tock_registers::{register_bitfields, register_structs};

use crate::barrier;
use crate::cpu_start::Conduit;
use crate::mmio::Mmio;

register_bitfields! {u32,
    /// Reset control.
    RSTC [
        /// Has to be there for a write to be taken.
        Password OFFSET(24) NUMBITS(8) [
            /// The one.
            Right = 0x5a,
        ],
        /// What the watchdog does when it runs out.
        Configuration OFFSET(4) NUMBITS(2) [
            /// Resets the chip.
            FullReset = 2,
        ],
    ],
    /// Reset status: bits that outlive the reset. Bits 0, 2, 4, 6, 8 and 10 are the number of the
    /// partition to boot.
    RSTS [
        /// Has to be there for a write to be taken.
        Password OFFSET(24) NUMBITS(8) [
            /// The one.
            Right = 0x5a,
        ],
    ],
    /// Watchdog.
    WDOG [
        /// Has to be there for a write to be taken.
        Password OFFSET(24) NUMBITS(8) [
            /// The one.
            Right = 0x5a,
        ],
        /// Time left, in 1/65536 of a second.
        Time OFFSET(0) NUMBITS(20) [],
    ],
}

register_structs! {
    /// The part of the power management block that resets.
    Registers {
        (0x00 => _reserved_00),
        (0x1c => rstc: ReadWrite<u32, RSTC::Register>),
        (0x20 => rsts: ReadWrite<u32, RSTS::Register>),
        (0x24 => wdog: ReadWrite<u32, WDOG::Register>),
        (0x28 => @END),
    }
}

/// The bits of RSTS that number a partition, all set: partition 63, which firmware takes for "halt".
const PARTITION: u32 = 0x555;

/// The watchdog counts so often a second.
const TICKS_A_SECOND: u32 = 65_536;
/// It has 20 bits for its time: not quite 16 seconds.
const MOST_SECONDS: u32 = 15;

/// The watchdog of a BCM2711's power management block.
pub struct Watchdog(Mmio<Registers>);

impl Watchdog {
    /// The watchdog in this block (first `reg` of `brcm,bcm2835-pm` or `brcm,bcm2711-pm`). `None` if the
    /// range is too small or misaligned.
    ///
    /// # Safety
    ///
    /// There is such a block, mapped one to one as Device memory for as long as the value lives, and
    /// nobody else drives it.
    #[must_use]
    pub unsafe fn new(registers: PaRange) -> Option<Self> {
        let base = usize::try_from(registers.start().get()).ok()?;
        if base == 0 || !base.is_multiple_of(4) || registers.size() < size_of::<Registers>() as u64
        {
            return None;
        }
        // SAFETY: the caller's promise; alignment and size were checked.
        Some(Self(unsafe { Mmio::new(base) }))
    }

    /// Lets the watchdog run out in so many seconds from now, 15 at most, unless this is called again: then it resets the
    /// chip, and firmware boots as ever.
    pub fn feed(&self, seconds: u32) {
        self.start(seconds.min(MOST_SECONDS).saturating_mul(TICKS_A_SECOND));
    }

    /// Starts it with so much time left.
    fn start(&self, time: u32) {
        self.0
            .wdog
            .write(WDOG::Password::Right + WDOG::Time.val(time));
        let kept = self.0.rstc.get() & !(RSTC::Password::SET + RSTC::Configuration::SET).value;
        self.0
            .rstc
            .set((RSTC::Password::Right + RSTC::Configuration::FullReset).value | kept);
        barrier::complete_all();
    }

    /// Lets the watchdog run out in some 150 µs, with this partition in RSTS.
    fn bite(&self, partition: u32) {
        let others = self.0.rsts.get() & !PARTITION & 0x00ff_ffff;
        self.0
            .rsts
            .set(RSTS::Password::Right.value | others | partition);
        self.start(10);
    }
}

/// How this board is switched off and reset.
pub enum Power {
    /// By the firmware. The board may have the watchdog all the same.
    Psci(Conduit, Option<Watchdog>),
    /// By the watchdog of a BCM2711. Off is "halted until the plug is pulled".
    Watchdog(Watchdog),
    /// Not at all.
    None,
}

impl Power {
    /// The board's watchdog, if it has one that is known here.
    #[must_use]
    pub const fn watchdog(&self) -> Option<&Watchdog> {
        match self {
            Self::Psci(_, watchdog) => watchdog.as_ref(),
            Self::Watchdog(watchdog) => Some(watchdog),
            Self::None => None,
        }
    }

    /// Switches the board off. Where that is not possible, or has no effect, this CPU stops for good:
    /// interrupts are to be masked, the console flushed.
    pub fn off(&self) -> ! {
        match self {
            Self::Psci(conduit, _) => psci_off(*conduit),
            Self::Watchdog(watchdog) => watchdog.bite(PARTITION),
            Self::None => {}
        }
        park()
    }

    /// Resets the board. Where that is not possible, or has no effect, this CPU stops for good.
    pub fn reset(&self) -> ! {
        match self {
            Self::Psci(conduit, _) => psci_reset(*conduit),
            Self::Watchdog(watchdog) => watchdog.bite(0),
            Self::None => {}
        }
        park()
    }
}

#[cfg(target_arch = "aarch64")]
fn psci_off(conduit: Conduit) {
    use smccc::{Hvc, Smc, psci::system_off};
    // It returns only if it failed, and then there is nothing better than to park.
    let _ = match conduit {
        Conduit::Smc => system_off::<Smc>(),
        Conduit::Hvc => system_off::<Hvc>(),
    };
}

#[cfg(target_arch = "aarch64")]
fn psci_reset(conduit: Conduit) {
    use smccc::{Hvc, Smc, psci::system_reset};
    // As for off.
    let _ = match conduit {
        Conduit::Smc => system_reset::<Smc>(),
        Conduit::Hvc => system_reset::<Hvc>(),
    };
}

#[cfg(not(target_arch = "aarch64"))]
fn psci_off(_conduit: Conduit) {}

#[cfg(not(target_arch = "aarch64"))]
fn psci_reset(_conduit: Conduit) {}

/// Stops this CPU. With interrupts masked it uses no power to speak of and does nothing any more.
fn park() -> ! {
    loop {
        barrier::wait_for_event();
    }
}

#[cfg(test)]
mod tests {
    use memory::Pa;

    use super::*;
    use crate::mmio::tests::Block;

    fn after(partition: u32) -> [u32; 3] {
        let block = Block::new(4096);
        block.set(0x1c, 0x0000_0102);
        block.set(0x20, 0x0000_1155);
        let range = PaRange::new(Pa::new(block.base() as u64), 0x114).unwrap();
        // SAFETY: ordinary memory that is never freed.
        unsafe { Watchdog::new(range) }.unwrap().bite(partition);
        [block.get(0x1c), block.get(0x20), block.get(0x24)]
    }

    #[test]
    fn reset_clears_the_partition_and_keeps_the_rest() {
        assert_eq!(after(0), [0x5a00_0122, 0x5a00_1000, 0x5a00_000a]);
    }

    #[test]
    fn off_asks_for_partition_63() {
        assert_eq!(after(PARTITION), [0x5a00_0122, 0x5a00_1555, 0x5a00_000a]);
    }

    #[test]
    fn feeding_sets_the_time_and_leaves_the_partition() {
        let block = Block::new(4096);
        block.set(0x1c, 0x0000_0102);
        block.set(0x20, 0x0000_1155);
        let range = PaRange::new(Pa::new(block.base() as u64), 0x114).unwrap();
        // SAFETY: ordinary memory that is never freed.
        let watchdog = unsafe { Watchdog::new(range) }.unwrap();
        for (seconds, time) in [(10, 0x5a0a_0000), (15, 0x5a0f_0000), (99, 0x5a0f_0000)] {
            watchdog.feed(seconds);
            let found = [block.get(0x1c), block.get(0x20), block.get(0x24)];
            assert_eq!(found, [0x5a00_0122, 0x0000_1155, time]);
            // The password is never read.
            block.set(0x1c, 0x0000_0122);
        }
    }

    #[test]
    fn a_range_too_small_is_refused() {
        let range = PaRange::new(Pa::new(0x1000), 0x24).unwrap();
        // SAFETY: nothing is accessed.
        assert!(unsafe { Watchdog::new(range) }.is_none());
    }
}
