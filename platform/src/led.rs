//! A light on a pin of the BCM2711's GPIO block (BCM2711 ARM Peripherals, chapter 5).

use memory::PaRange;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadWrite, WriteOnly};

use crate::barrier;
use crate::mmio::Mmio;

register_structs! {
    /// The part of the GPIO block that makes a pin an output and drives it.
    Registers {
        /// GPFSEL: what a pin does, three bits each, ten pins a register.
        (0x00 => select: [ReadWrite<u32>; 6]),
        (0x18 => _reserved_18),
        /// GPSET: a one drives the pin high. Zeroes do nothing, so other pins are not disturbed.
        (0x1c => set: [WriteOnly<u32>; 2]),
        (0x24 => _reserved_24),
        /// GPCLR: a one drives the pin low.
        (0x28 => clear: [WriteOnly<u32>; 2]),
        (0x30 => @END),
    }
}

/// GPFSEL: the pin is an output.
const OUTPUT: u32 = 0b001;
const FUNCTION: u32 = 0b111;
const PINS: u32 = 58;

/// A light.
pub struct Led {
    block: Mmio<Registers>,
    pin: u32,
    is_active_low: bool,
}

impl Led {
    /// The light at this pin. `None` if there is no such pin, or the range is too small or misaligned. Nothing is
    /// written before [`light`](Self::light).
    ///
    /// # Safety
    ///
    /// There is such a block, mapped one to one as Device memory for as long as the value lives. Whoever else drives
    /// it, a guest perhaps, has lost its say on the pin when the light is used.
    #[must_use]
    pub unsafe fn new(registers: PaRange, pin: u32, is_active_low: bool) -> Option<Self> {
        let base = usize::try_from(registers.start().get()).ok()?;
        let fits = registers.size() >= size_of::<Registers>() as u64;
        if base == 0 || !base.is_multiple_of(4) || !fits || pin >= PINS {
            return None;
        }
        // SAFETY: the caller's promise; alignment and size were checked.
        let block = unsafe { Mmio::new(base) };
        Some(Self {
            block,
            pin,
            is_active_low,
        })
    }

    /// Makes the pin an output, and the light on or off.
    pub fn light(&self, on: bool) {
        let (word, bit) = ((self.pin / 32) as usize, 1 << (self.pin % 32));
        let (register, shift) = ((self.pin / 10) as usize, self.pin % 10 * 3);
        // The level comes first: the pin is not to flash when it becomes an output.
        let levels = if on == self.is_active_low {
            &self.block.clear
        } else {
            &self.block.set
        };
        if let Some(level) = levels.get(word) {
            level.set(bit);
        }
        if let Some(select) = self.block.select.get(register) {
            let others = select.get() & !(FUNCTION << shift);
            select.set(others | OUTPUT << shift);
        }
        barrier::complete_all();
    }
}

#[cfg(test)]
mod tests {
    use memory::Pa;

    use super::*;
    use crate::mmio::tests::Block;

    fn range(block: &Block, size: u64) -> PaRange {
        PaRange::new(Pa::new(block.base() as u64), size).unwrap()
    }

    #[test]
    fn the_pin_alone_is_changed() {
        let block = Block::new(4096);
        block.set(0x10, 0o7777_7777);
        // SAFETY: ordinary memory.
        let led = unsafe { Led::new(range(block, 0xb4), 42, false) }.unwrap();
        led.light(true);
        assert_eq!((block.get(0x20), block.get(0x2c)), (1 << 10, 0));
        assert_eq!(block.get(0x10), 0o7777_7177);
        led.light(false);
        assert_eq!(block.get(0x2c), 1 << 10);
    }

    #[test]
    fn active_low_is_the_other_way_round() {
        let block = Block::new(4096);
        // SAFETY: ordinary memory.
        let led = unsafe { Led::new(range(block, 0xb4), 9, true) }.unwrap();
        led.light(true);
        assert_eq!((block.get(0x1c), block.get(0x28)), (0, 1 << 9));
        assert_eq!(block.get(0), 1 << 27);
    }

    #[test]
    fn what_is_no_light_is_refused() {
        let block = Block::new(4096);
        for (size, pin) in [(0xb4, 58), (0x2c, 42)] {
            // SAFETY: nothing is accessed.
            assert!(unsafe { Led::new(range(block, size), pin, false) }.is_none());
        }
    }
}
