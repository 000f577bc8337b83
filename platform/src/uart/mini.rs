//! The "mini UART" of BCM283x and BCM2711 (BCM2711 ARM Peripherals, 2.2), the one that a Pi 4's firmware
//! makes the console when `enable_uart=1` is set. Half a 16550: FIFOs of eight characters, and a speed
//! that follows the VPU's clock (which `enable_uart=1` holds still).

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite};
use tock_registers::{register_bitfields, register_structs};

use super::{BAUD, Cause};
use crate::mmio::Mmio;

register_bitfields! {u32,
    /// Which of the auxiliary devices are on (2.2.1).
    AUX_ENABLES [
        /// The mini UART: its other registers ignore writes while this is 0.
        MINI_UART OFFSET(0) NUMBITS(1) [],
    ],
    /// Interrupt enable (AUX_MU_IER). The first editions of the manual have the two names exchanged.
    IER [
        /// Line status, without which some revisions give no receive interrupts.
        Line OFFSET(2) NUMBITS(1) [],
        /// The transmit FIFO is empty.
        Transmit OFFSET(1) NUMBITS(1) [],
        /// The receive FIFO holds something.
        Receive OFFSET(0) NUMBITS(1) [],
    ],
    /// Interrupt identification (AUX_MU_IIR); a write clears FIFOs.
    IIR [
        /// What a write clears, a bit each.
        ClearFifos OFFSET(1) NUMBITS(2) [
            /// Receive and transmit.
            Both = 3,
        ],
        /// What is pending, when read.
        Pending OFFSET(1) NUMBITS(2) [
            /// Nothing.
            Nothing = 0,
            /// The transmit FIFO is empty.
            Transmit = 1,
            /// The receive FIFO holds something.
            Receive = 2,
        ],
    ],
    /// Line control (AUX_MU_LCR).
    LCR [
        /// Bits in a character. Eight takes both bits, whatever the first editions say.
        Size OFFSET(0) NUMBITS(2) [
            /// Eight.
            Eight = 3,
        ],
    ],
    /// Line status (AUX_MU_LSR).
    LSR [
        /// Nothing waits for the wire and nothing is on it.
        Idle OFFSET(6) NUMBITS(1) [],
        /// The transmit FIFO takes another character.
        TransmitReady OFFSET(5) NUMBITS(1) [],
        /// The receive FIFO holds something.
        DataReady OFFSET(0) NUMBITS(1) [],
    ],
    /// Extra control (AUX_MU_CNTL).
    CNTL [
        /// Transmission on.
        Transmit OFFSET(1) NUMBITS(1) [],
        /// Reception on.
        Receive OFFSET(0) NUMBITS(1) [],
    ],
}

register_structs! {
    /// The registers that the mini UART shares with two SPI controllers, and its own (2.1).
    Registers {
        (0x00 => _irq: ReadOnly<u32>),
        (0x04 => enables: ReadWrite<u32, AUX_ENABLES::Register>),
        (0x08 => _reserved_08),
        /// Data.
        (0x40 => io: ReadWrite<u32>),
        (0x44 => ier: ReadWrite<u32, IER::Register>),
        (0x48 => iir: ReadWrite<u32, IIR::Register>),
        (0x4c => lcr: ReadWrite<u32, LCR::Register>),
        (0x50 => _mcr: ReadWrite<u32>),
        (0x54 => lsr: ReadOnly<u32, LSR::Register>),
        (0x58 => _msr: ReadOnly<u32>),
        (0x5c => _scratch: ReadWrite<u32>),
        (0x60 => cntl: ReadWrite<u32, CNTL::Register>),
        (0x64 => _stat: ReadOnly<u32>),
        /// The VPU's clock divided by eight times the rate, less one.
        (0x68 => baud: ReadWrite<u32>),
        (0x6c => @END),
    }
}

/// Where `AUX_MU_IO` is in the registers: the tree's `reg` starts there.
const IO_OFFSET: usize = core::mem::offset_of!(Registers, io);

/// Bytes from `AUX_MU_IO` that the registers take.
pub(super) const SIZE: u64 = (size_of::<Registers>() - IO_OFFSET) as u64;

/// A mini UART.
pub struct MiniUart(Mmio<Registers>);

impl MiniUart {
    /// The mini UART whose `AUX_MU_IO` is at `base`, its interrupts masked. Speed and format stay as
    /// firmware has set them, if it has turned the UART on; else it gets 115200 8N1 if `clock`, in Hz,
    /// is known.
    ///
    /// # Safety
    ///
    /// `base` is the address of a mini UART's `AUX_MU_IO`, aligned to 4 and 64 bytes into the auxiliary
    /// block, which is mapped as Device memory for as long as the value lives, and nobody else drives it.
    #[must_use]
    pub unsafe fn new(base: usize, clock: Option<u32>) -> Self {
        // SAFETY: by the caller's promise the block of which these registers are a part starts there.
        let registers: Mmio<Registers> = unsafe { Mmio::new(base.wrapping_sub(IO_OFFSET)) };
        if !registers.enables.is_set(AUX_ENABLES::MINI_UART) {
            registers.enables.modify(AUX_ENABLES::MINI_UART::SET);
        }
        registers.ier.set(0);
        if !registers.cntl.is_set(CNTL::Transmit) {
            if let Some(clock) = clock {
                registers.baud.set(divisor(clock));
            }
            registers.lcr.write(LCR::Size::Eight);
            registers.iir.write(IIR::ClearFifos::Both);
            registers
                .cntl
                .write(CNTL::Transmit::SET + CNTL::Receive::SET);
        }
        Self(registers)
    }

    pub(super) fn can_write(&self) -> bool {
        self.0.lsr.is_set(LSR::TransmitReady)
    }

    pub(super) fn write(&self, byte: u8) {
        self.0.io.set(u32::from(byte));
    }

    pub(super) fn try_read(&self) -> Option<u8> {
        if self.0.lsr.is_set(LSR::DataReady) {
            Some(self.0.io.get() as u8)
        } else {
            None
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.lsr.is_set(LSR::Idle)
    }

    pub(super) fn set_transmit_interrupt(&self, on: bool) {
        self.0.ier.modify(IER::Transmit.val(u32::from(on)));
    }

    pub(super) fn set_receive_interrupt(&self, on: bool) {
        let on = u32::from(on);
        self.0.ier.modify(IER::Receive.val(on) + IER::Line.val(on));
    }

    /// There is nothing to clear: a receive interrupt ends when the FIFO has been read, a transmit
    /// interrupt when it has been written or is masked.
    pub(super) fn acknowledge(&self) -> Cause {
        let pending = self.0.iir.read(IIR::Pending);
        Cause {
            receive: pending & 2 != 0,
            transmit: pending & 1 != 0,
        }
    }
}

/// What `AUX_MU_BAUD` needs.
fn divisor(clock: u32) -> u32 {
    (clock / (8 * BAUD)).clamp(1, 0x1_0000) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::tests::Block;

    fn uart(block: &Block) -> MiniUart {
        // SAFETY: the block is ordinary memory of that size, and lives longer than any test's use of it.
        unsafe { MiniUart::new(block.base() + IO_OFFSET, Some(500_000_000)) }
    }

    #[test]
    fn divisor_is_the_manuals() {
        assert_eq!(divisor(500_000_000), 541);
        assert_eq!(divisor(0), 0);
    }

    #[test]
    fn it_is_set_up_only_if_off() {
        let block = Block::new(0x100);
        uart(block);
        assert_eq!(
            (block.get(4), block.get(0x68), block.get(0x60)),
            (1, 541, 3)
        );
        block.set(0x68, 270);
        uart(block);
        assert_eq!(block.get(0x68), 270);
    }

    #[test]
    fn status_steers_reading_and_writing() {
        let block = Block::new(0x100);
        let uart = uart(block);
        block.set(0x40, 0x41);
        assert!(!uart.can_write() && uart.try_read().is_none() && !uart.is_idle());
        block.set(0x54, 1 | 1 << 5 | 1 << 6);
        assert!(uart.can_write() && uart.is_idle());
        assert_eq!(uart.try_read(), Some(0x41));
        uart.write(0x42);
        assert_eq!(block.get(0x40), 0x42);
    }

    #[test]
    fn interrupts_are_enabled_one_by_one() {
        let block = Block::new(0x100);
        let uart = uart(block);
        uart.set_receive_interrupt(true);
        assert_eq!(block.get(0x44), 5);
        uart.set_transmit_interrupt(true);
        uart.set_receive_interrupt(false);
        assert_eq!(block.get(0x44), 2);
        block.set(0x48, 2 << 1);
        assert_eq!(
            uart.acknowledge(),
            Cause {
                receive: true,
                transmit: false
            }
        );
    }
}
