//! Arm's PL011 UART (DDI 0183G), and its SBSA subset (Arm BSA, "generic UART"), which has neither
//! baud rate nor control registers and ignores what is written there.

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

use super::{BAUD, Cause};
use crate::mmio::Mmio;

register_bitfields! {u32,
    /// Flags (DDI 0183G 3.3.3).
    FR [
        /// The transmit FIFO is full.
        TXFF OFFSET(5) NUMBITS(1) [],
        /// The receive FIFO is empty.
        RXFE OFFSET(4) NUMBITS(1) [],
        /// A character is on the wire or waits for it.
        BUSY OFFSET(3) NUMBITS(1) [],
    ],
    /// Line control (3.3.7).
    LCR_H [
        /// Bits in a character, less five.
        WLEN OFFSET(5) NUMBITS(2) [
            /// Eight.
            Eight = 3,
        ],
        /// FIFOs on.
        FEN OFFSET(4) NUMBITS(1) [],
    ],
    /// Control (3.3.8).
    CR [
        /// Reception on.
        RXE OFFSET(9) NUMBITS(1) [],
        /// Transmission on.
        TXE OFFSET(8) NUMBITS(1) [],
        /// The UART works.
        UARTEN OFFSET(0) NUMBITS(1) [],
    ],
    /// Interrupts: mask, state and clearing share the layout (3.3.10 to 3.3.13).
    INTERRUPT [
        /// Characters wait and no more have come for a while.
        RT OFFSET(6) NUMBITS(1) [],
        /// The transmit FIFO has drained to its mark.
        TX OFFSET(5) NUMBITS(1) [],
        /// The receive FIFO has filled to its mark.
        RX OFFSET(4) NUMBITS(1) [],
    ],
}

register_structs! {
    /// The registers (3.2).
    Registers {
        /// Data: a character in bits 7:0, what went wrong with it in 11:8.
        (0x000 => dr: ReadWrite<u32>),
        (0x004 => _reserved_004),
        (0x018 => fr: ReadOnly<u32, FR::Register>),
        (0x01c => _reserved_01c),
        /// Baud rate divisor, whole part.
        (0x024 => ibrd: ReadWrite<u32>),
        /// Baud rate divisor, 64ths.
        (0x028 => fbrd: ReadWrite<u32>),
        (0x02c => lcr_h: ReadWrite<u32, LCR_H::Register>),
        (0x030 => cr: ReadWrite<u32, CR::Register>),
        /// FIFO marks.
        (0x034 => _ifls: ReadWrite<u32>),
        /// Mask: a set bit lets the interrupt out.
        (0x038 => imsc: ReadWrite<u32, INTERRUPT::Register>),
        (0x03c => _ris: ReadOnly<u32>),
        /// State, masked.
        (0x040 => mis: ReadOnly<u32, INTERRUPT::Register>),
        /// Clear.
        (0x044 => icr: WriteOnly<u32, INTERRUPT::Register>),
        (0x048 => @END),
    }
}

/// Bytes that the registers take.
pub(super) const SIZE: u64 = size_of::<Registers>() as u64;

/// A PL011.
pub struct Pl011(Mmio<Registers>);

impl Pl011 {
    /// The PL011 at `base`, its interrupts masked. Speed and format stay as firmware has set them, if it
    /// has turned the UART on; else it gets 115200 8N1 if `clock`, in Hz, is known.
    ///
    /// # Safety
    ///
    /// `base` is the address of a PL011 or an SBSA UART, aligned to 4, mapped as Device memory for as
    /// long as the value lives, and nobody else drives it.
    #[must_use]
    pub unsafe fn new(base: usize, clock: Option<u32>) -> Self {
        // SAFETY: the caller's promise is the one that is asked for.
        let registers: Mmio<Registers> = unsafe { Mmio::new(base) };
        registers.imsc.set(0);
        if !registers.cr.is_set(CR::UARTEN) {
            if let Some(clock) = clock {
                let divisor = divisor(clock);
                registers.ibrd.set(divisor >> 6);
                registers.fbrd.set(divisor & 63);
            }
            // Written after the divisor, which it latches (3.3.6).
            registers.lcr_h.write(LCR_H::WLEN::Eight + LCR_H::FEN::SET);
            registers
                .cr
                .write(CR::UARTEN::SET + CR::TXE::SET + CR::RXE::SET);
        }
        Self(registers)
    }

    pub(super) fn can_write(&self) -> bool {
        !self.0.fr.is_set(FR::TXFF)
    }

    pub(super) fn write(&self, byte: u8) {
        self.0.dr.set(u32::from(byte));
    }

    pub(super) fn try_read(&self) -> Option<u8> {
        if self.0.fr.is_set(FR::RXFE) {
            None
        } else {
            Some(self.0.dr.get() as u8)
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.0.fr.is_set(FR::BUSY)
    }

    pub(super) fn set_transmit_interrupt(&self, on: bool) {
        self.0.imsc.modify(INTERRUPT::TX.val(u32::from(on)));
    }

    pub(super) fn set_receive_interrupt(&self, on: bool) {
        let on = u32::from(on);
        self.0
            .imsc
            .modify(INTERRUPT::RX.val(on) + INTERRUPT::RT.val(on));
    }

    pub(super) fn acknowledge(&self) -> Cause {
        let state = self.0.mis.extract();
        self.0.icr.set(state.get());
        Cause {
            receive: state.any_matching_bits_set(INTERRUPT::RX::SET + INTERRUPT::RT::SET),
            transmit: state.is_set(INTERRUPT::TX),
        }
    }
}

/// The clock divided by sixteen times the rate, in 64ths (3.3.6), to the nearest.
fn divisor(clock: u32) -> u32 {
    let rate = u64::from(BAUD);
    ((u64::from(clock) * 4 + rate / 2) / rate).clamp(64, 0x3f_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::tests::Block;

    #[test]
    fn divisor_is_the_manuals() {
        // 24 MHz (QEMU virt): 13 + 1/64 * 1.3; 48 MHz (Pi 4): 26 + 2.67/64.
        assert_eq!(divisor(24_000_000), 13 << 6 | 1);
        assert_eq!(divisor(48_000_000), 26 << 6 | 3);
        assert_eq!(divisor(0), 64);
    }

    #[test]
    fn a_uart_that_is_on_keeps_its_speed() {
        let block = Block::new(SIZE as usize);
        block.set(0x24, 77);
        block.set(0x30, 0x301);
        block.set(0x38, 0x70);
        // SAFETY: the block is ordinary memory of that size, and lives longer.
        let _uart = unsafe { Pl011::new(block.base(), Some(24_000_000)) };
        assert_eq!(
            (block.get(0x24), block.get(0x30), block.get(0x38)),
            (77, 0x301, 0)
        );
    }

    #[test]
    fn a_uart_that_is_off_is_set_up() {
        let block = Block::new(SIZE as usize);
        // SAFETY: as above.
        let _uart = unsafe { Pl011::new(block.base(), Some(24_000_000)) };
        assert_eq!((block.get(0x24), block.get(0x28)), (13, 1));
        assert_eq!((block.get(0x2c), block.get(0x30)), (0x70, 0x301));
    }

    #[test]
    fn flags_steer_reading_and_writing() {
        let block = Block::new(SIZE as usize);
        // SAFETY: as above.
        let uart = unsafe { Pl011::new(block.base(), None) };
        block.set(0x18, 1 << 5 | 1 << 4 | 1 << 3);
        assert!(!uart.can_write() && uart.try_read().is_none() && !uart.is_idle());
        block.set(0x18, 0);
        block.set(0, 0xf41);
        assert_eq!(uart.try_read(), Some(0x41));
        assert!(uart.can_write() && uart.is_idle());
    }

    #[test]
    fn interrupts_are_masked_one_by_one() {
        let block = Block::new(SIZE as usize);
        // SAFETY: as above.
        let uart = unsafe { Pl011::new(block.base(), None) };
        uart.set_receive_interrupt(true);
        assert_eq!(block.get(0x38), 0x50);
        uart.set_transmit_interrupt(true);
        uart.set_receive_interrupt(false);
        assert_eq!(block.get(0x38), 0x20);
        block.set(0x40, 0x60);
        assert_eq!(
            uart.acknowledge(),
            Cause {
                receive: true,
                transmit: true
            }
        );
        assert_eq!(block.get(0x44), 0x60);
    }
}
