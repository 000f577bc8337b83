//! The SBSA generic UART that a guest sees (Arm DEN 0094, "SBSA UART"; registers as in DDI 0183, chapter
//! 3.2; behaviour as in reference section 4, `xen/arch/arm/vpl011.c`).
//!
//! What is sent goes out at once, so that the transmitter is always empty. What is received waits in a
//! FIFO of 32 bytes. The interrupt is the level of `RIS & IMSC`; it is handed to [`Wires::interrupt`]
//! whenever it changes, with the UART's lock held, so that two CPUs cannot report in the wrong order.
//! Registers of a full PL011 that the SBSA UART lacks read as zero and ignore writes, for drivers that
//! set them up anyway.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::SpinLock;

const DR: u64 = 0x00;
const FR: u64 = 0x18;
const IMSC: u64 = 0x38;
const RIS: u64 = 0x3C;
const MIS: u64 = 0x40;
const ICR: u64 = 0x44;

/// FR: receive FIFO empty.
const FR_RXFE: u32 = 1 << 4;
/// FR: receive FIFO full.
const FR_RXFF: u32 = 1 << 6;
/// FR: transmit FIFO empty.
const FR_TXFE: u32 = 1 << 7;

/// RIS: receive FIFO at or above its level.
const RX: u32 = 1 << 4;
/// RIS: transmit FIFO at or below its level.
const TX: u32 = 1 << 5;
/// RIS: something waits in the receive FIFO (receive timeout).
const RT: u32 = 1 << 6;
/// Bits of IMSC that exist.
const INTERRUPTS: u32 = 0x7ff;

/// Bytes of the receive FIFO.
const FIFO: usize = 32;
/// Bytes that must wait for [`RX`].
const FIFO_LEVEL: usize = 16;

/// An access that a UART does not answer: the guest takes a data abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abort;

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no register answers this access")
    }
}

impl core::error::Error for Abort {}

/// What the UART is connected to. Called with the UART's lock held.
pub trait Wires {
    /// A byte goes out.
    fn transmit(&mut self, byte: u8);
    /// The interrupt line has a new level.
    fn interrupt(&mut self, level: bool);
}

struct Uart {
    fifo: [u8; FIFO],
    /// Position of the oldest byte.
    first: usize,
    /// Bytes that wait.
    length: usize,
    imsc: u32,
    ris: u32,
    level: bool,
}

/// An emulated SBSA UART.
pub struct Vpl011 {
    /// Flag register, a copy that is read without the lock: guests poll it.
    flags: AtomicU32,
    uart: SpinLock<Uart>,
}

impl Default for Vpl011 {
    fn default() -> Self {
        Self::new()
    }
}

impl Vpl011 {
    /// A UART after reset.
    #[must_use]
    pub fn new() -> Self {
        Self {
            flags: AtomicU32::new(FR_TXFE | FR_RXFE),
            uart: SpinLock::new(Uart::RESET),
        }
    }

    /// What a guest reads as a word, if that takes no lock and changes nothing: the flag register.
    #[inline]
    #[must_use]
    pub fn read_at_once(&self, offset: u64) -> Option<u32> {
        (offset == FR).then(|| self.flags.load(Ordering::Acquire))
    }

    /// Resets it. Its interrupt's line is low then, and whoever it is wired to does not hear of that.
    pub fn reset(&self) {
        let mut uart = self.uart.lock();
        *uart = Uart::RESET;
        self.flags.store(FR_TXFE | FR_RXFE, Ordering::Release);
    }

    /// A guest reads `size` bytes at `offset` of the UART's page.
    ///
    /// # Errors
    /// [`Abort`] for 8-byte accesses and for ICR, which is write-only.
    #[inline]
    pub fn read(&self, offset: u64, size: u32, wires: &mut impl Wires) -> Result<u64, Abort> {
        let mask = width_mask(size)?;
        if let Some(flags) = self.read_at_once(offset) {
            return Ok(u64::from(flags & mask));
        }
        Ok(u64::from(self.read_slow(offset, wires)? & mask))
    }

    #[inline(never)]
    fn read_slow(&self, offset: u64, wires: &mut impl Wires) -> Result<u32, Abort> {
        let mut uart = self.uart.lock();
        Ok(match offset {
            DR => {
                let byte = uart.pop();
                self.update(&mut uart, wires);
                u32::from(byte)
            }
            IMSC => uart.imsc,
            RIS => uart.ris,
            MIS => uart.ris & uart.imsc,
            ICR => return Err(Abort),
            _ => 0,
        })
    }

    /// A guest writes `size` bytes at `offset` of the UART's page.
    ///
    /// # Errors
    /// [`Abort`] for 8-byte accesses.
    #[inline(never)]
    pub fn write(
        &self,
        offset: u64,
        size: u32,
        value: u64,
        wires: &mut impl Wires,
    ) -> Result<(), Abort> {
        let mask = width_mask(size)?;
        let value = value as u32;
        let mut uart = self.uart.lock();
        match offset {
            DR => {
                wires.transmit(value as u8);
                uart.ris |= TX;
            }
            IMSC => uart.imsc = (uart.imsc & !mask | value & mask) & INTERRUPTS,
            ICR => uart.ris &= !(value & mask),
            _ => return Ok(()),
        }
        self.update(&mut uart, wires);
        Ok(())
    }

    /// Bytes arrive; the result is the number that found room in the FIFO.
    pub fn receive(&self, input: &[u8], wires: &mut impl Wires) -> usize {
        let mut uart = self.uart.lock();
        let taken = input.iter().take_while(|byte| uart.push(**byte)).count();
        if taken != 0 {
            uart.ris |= RT;
            if uart.length >= FIFO_LEVEL {
                uart.ris |= RX;
            }
            self.update(&mut uart, wires);
        }
        taken
    }

    /// Bytes for which the receive FIFO has room.
    #[must_use]
    pub fn room(&self) -> usize {
        FIFO.saturating_sub(self.uart.lock().length)
    }

    /// Brings the flags and the interrupt line up to date.
    fn update(&self, uart: &mut Uart, wires: &mut impl Wires) {
        let flags = match uart.length {
            0 => FR_TXFE | FR_RXFE,
            FIFO => FR_TXFE | FR_RXFF,
            _ => FR_TXFE,
        };
        self.flags.store(flags, Ordering::Release);
        let level = uart.ris & uart.imsc != 0;
        if level != uart.level {
            uart.level = level;
            wires.interrupt(level);
        }
    }
}

impl Uart {
    const RESET: Self = Self {
        fifo: [0; FIFO],
        first: 0,
        length: 0,
        imsc: 0,
        ris: 0,
        level: false,
    };

    fn push(&mut self, byte: u8) -> bool {
        if self.length >= FIFO {
            return false;
        }
        let at = self.first.wrapping_add(self.length) & FIFO.wrapping_sub(1);
        if let Some(slot) = self.fifo.get_mut(at) {
            *slot = byte;
        }
        self.length = self.length.wrapping_add(1);
        true
    }

    /// The oldest byte; 0 if none waits.
    fn pop(&mut self) -> u8 {
        if self.length == 0 {
            return 0;
        }
        let byte = self.fifo.get(self.first).copied().unwrap_or(0);
        self.first = self.first.wrapping_add(1) & FIFO.wrapping_sub(1);
        self.length = self.length.saturating_sub(1);
        if self.length < FIFO_LEVEL {
            self.ris &= !RX;
        }
        if self.length == 0 {
            self.ris &= !RT;
        }
        byte
    }
}

/// The bits that an access of `size` bytes carries.
#[inline]
fn width_mask(size: u32) -> Result<u32, Abort> {
    match size {
        1 => Ok(0xff),
        2 => Ok(0xffff),
        4 => Ok(u32::MAX),
        _ => Err(Abort),
    }
}
