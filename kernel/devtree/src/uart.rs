//! Which nodes are UARTs that Viaduct can drive.

use memory::PaRange;

use crate::board::Interrupt;
use crate::device::Device;
use crate::walk::{Visit, Walk};

/// Kinds of UART that can be the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UartKind {
    /// Arm's PL011 (DDI 0183), or the part of it that the SBSA asks for.
    Pl011,
    /// The auxiliary "mini UART" of the BCM283x and BCM2711; the range starts at `AUX_MU_IO`.
    MiniUart,
}

/// A UART of the board. Firmware has set its speed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uart {
    /// Which driver it takes.
    pub kind: UartKind,
    /// Its registers, as the CPU sees them.
    pub registers: PaRange,
    /// Its interrupt, if it goes to the GIC; never set by [`early::console`](crate::early::console).
    pub interrupt: Option<Interrupt>,
    /// Its clock in Hz, where the tree tells.
    pub clock: Option<u32>,
}

/// The UART that a node just visited describes, of which [`Visit::device`] has been asked.
pub(crate) fn recognise<'a>(
    walk: &Walk<'a>,
    visit: &Visit<'a>,
    device: Option<Device>,
) -> Option<Uart> {
    let kind = match device? {
        Device::Pl011 => UartKind::Pl011,
        Device::MiniUart => UartKind::MiniUart,
        _ => return None,
    };
    let registers = walk
        .register(visit, 0)
        .filter(|range| visit.enabled && !range.is_empty())?;
    let clock = visit.node.u32("clock-frequency");
    Some(Uart {
        kind,
        registers,
        interrupt: None,
        clock,
    })
}
