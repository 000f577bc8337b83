//! The UARTs on which a console can be: a closed set, so an enum.
//!
//! Nothing here blocks but [`Uart::write_polled`] and [`Uart::flush`], which the panic path uses, and
//! these wait with a bound: a UART that takes no more loses the rest and stops nothing.
//!
//! Sending by interrupt: write while [`can_write`](Uart::can_write); if something is left, turn the
//! transmit interrupt on *after* that (a PL011 signals the draining of its FIFO, so it has to be
//! filled first), and off when nothing is left.

use memory::PaRange;

mod mini;
mod pl011;

pub use mini::MiniUart;
pub use pl011::Pl011;

/// The speed of a UART that firmware has not set up.
const BAUD: u32 = 115_200;

/// Times the status is read before a character is given up: more than a character takes at 9600 baud.
const PATIENCE: u32 = 1 << 20;

/// Kinds of UART.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Arm's PL011, or the part of it that the SBSA asks for.
    Pl011,
    /// The mini UART of the BCM283x and BCM2711.
    MiniUart,
}

/// Why a UART interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cause {
    /// Characters have come.
    pub receive: bool,
    /// There is room for characters to send.
    pub transmit: bool,
}

/// A UART. Its user serialises the calls.
pub enum Uart {
    /// PL011.
    Pl011(Pl011),
    /// Mini UART.
    MiniUart(MiniUart),
}

macro_rules! either {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Self::Pl011(uart) => uart.$method($($argument),*),
            Self::MiniUart(uart) => uart.$method($($argument),*),
        }
    };
}

impl Uart {
    /// The UART of this kind at these registers (the tree's `reg`), with its interrupts masked. Speed
    /// and format stay as firmware has set them, if it has turned the UART on; else it gets 115200 8N1
    /// if `clock`, in Hz, is known. `None` if the range is too small or misaligned.
    ///
    /// # Safety
    ///
    /// There is a UART of this kind; its registers, and all of the 4 KiB page of the first of them, are
    /// mapped one to one as Device memory for as long as the value lives; nobody else drives it.
    #[must_use]
    pub unsafe fn new(kind: Kind, registers: PaRange, clock: Option<u32>) -> Option<Self> {
        let size = match kind {
            Kind::Pl011 => pl011::SIZE,
            // The tree gives 0x40 bytes, which ends after AUX_MU_BAUD.
            Kind::MiniUart => mini::SIZE,
        };
        let base = usize::try_from(registers.start().get()).ok()?;
        if registers.size() < size || base == 0 || !base.is_multiple_of(4) {
            return None;
        }
        match kind {
            Kind::Pl011 => {
                // SAFETY: the caller's promise; the range was checked.
                let uart = unsafe { Pl011::new(base, clock) };
                Some(Self::Pl011(uart))
            }
            // AUX_MU_IO is 64 bytes into its block, which starts with a page.
            Kind::MiniUart if base & 0xfff == 0x40 => {
                // SAFETY: the caller's promise, with the page that holds the block's start.
                let uart = unsafe { MiniUart::new(base, clock) };
                Some(Self::MiniUart(uart))
            }
            Kind::MiniUart => None,
        }
    }

    /// Whether a character can be written without losing it.
    #[must_use]
    pub fn can_write(&self) -> bool {
        either!(self.can_write())
    }

    /// Writes a character if there is room; tells whether there was.
    pub fn try_write(&self, byte: u8) -> bool {
        let room = self.can_write();
        if room {
            either!(self.write(byte));
        }
        room
    }

    /// Reads a character if there is one.
    #[must_use]
    pub fn try_read(&self) -> Option<u8> {
        either!(self.try_read())
    }

    /// Lets the transmit interrupt out, or not. To be turned on after the FIFO has been filled.
    pub fn set_transmit_interrupt(&self, on: bool) {
        either!(self.set_transmit_interrupt(on));
    }

    /// Lets the receive interrupt out, or not.
    pub fn set_receive_interrupt(&self, on: bool) {
        either!(self.set_receive_interrupt(on));
    }

    /// Tells why the UART interrupted and clears that. All characters have to be read after: no
    /// interrupt comes for those that were there.
    pub fn acknowledge(&self) -> Cause {
        either!(self.acknowledge())
    }

    /// Writes a character, waiting for room; for the panic path. Tells whether it went out.
    pub fn write_polled(&self, byte: u8) -> bool {
        wait(|| self.can_write()) && self.try_write(byte)
    }

    /// Waits until everything written is on the wire. Tells whether it is.
    pub fn flush(&self) -> bool {
        wait(|| either!(self.is_idle()))
    }
}

fn wait(done: impl Fn() -> bool) -> bool {
    (0..PATIENCE).any(|_| {
        core::hint::spin_loop();
        done()
    })
}
