//! Records on their way to the UART that the console does not use, in the format of [`records::stream`].
//!
//! Whoever is on its way to a guest or to sleep writes a burst, if nobody else does; then the UART's interrupt goes on,
//! until nothing is left. That interrupt is not recorded, and neither is the entry after it, or sending would make
//! more to send. A UART that takes less than there is lets the rings overflow, and what is lost is counted and sent.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use devtree::{Assignment, Board};
use platform::uart::Uart;
use records::stream::{Bytes, Packet, WIRE};
use records::{Reader, Taken};
use sync::{Once, SpinLock};

use crate::{console, cpus, interrupts, machine};

/// Bytes given to the UART at once: EL2 works in short pieces.
const BURST: usize = 128;

/// The UART, if the board has one to spare.
static DESCRIBED: Once<devtree::Uart> = Once::new();
static DRAIN: SpinLock<Option<Drain>> = SpinLock::new(None);
static OPEN: AtomicBool = AtomicBool::new(false);
/// It is a guest's.
static GIVEN: AtomicBool = AtomicBool::new(false);
/// Its interrupt will go on with the rest.
static SENDING: AtomicBool = AtomicBool::new(false);
/// Its interrupt.
static INTERRUPT: AtomicU32 = AtomicU32::new(u32::MAX);

struct Drain {
    uart: Uart,
    /// How far each CPU's records are sent; in the order of `cpus::all`.
    readers: [Reader; devtree::board::MAX_CPUS],
    /// Whose turn it is.
    turn: usize,
    begun: bool,
    /// Domains whose names are sent.
    named: usize,
    /// What is being sent, and how much of it is.
    packet: Bytes<WIRE>,
    sent: usize,
    lost: u64,
}

/// Remembers which UART the board has to spare.
pub(super) fn find(board: &Board) {
    if let Some(uart) = board.second_uart {
        DESCRIBED.call_once(|| uart);
    }
}

/// A guest is given devices: if the UART is among them, there is none for the trace. With `trace=on` that is refused.
pub(crate) fn give_up(assignment: &Assignment) {
    if DESCRIBED.get().is_some_and(|uart| assignment.has(uart)) {
        GIVEN.store(true, Ordering::Relaxed);
    }
}

/// Opens the UART, once.
pub(super) fn open() {
    let Some(described) = DESCRIBED.get() else {
        return;
    };
    if GIVEN.load(Ordering::Relaxed) {
        return;
    }
    let mut drain = DRAIN.lock();
    if drain.is_some() {
        return;
    }
    let Some(uart) = console::open(described) else {
        return;
    };
    *drain = Some(Drain {
        uart,
        readers: [const { Reader::new() }; devtree::board::MAX_CPUS],
        turn: 0,
        begun: false,
        named: 0,
        packet: Bytes::default(),
        sent: 0,
        lost: 0,
    });
    drop(drain);
    // Without its interrupt what is on its way to a guest or to sleep sends.
    if let Some(interrupt) = described.interrupt {
        match interrupts::claim_device(interrupt) {
            Ok(()) => INTERRUPT.store(interrupt.intid, Ordering::Relaxed),
            Err(error) => crate::say::warn!("trace: interrupt {}: {error}", interrupt.intid),
        }
    }
    OPEN.store(true, Ordering::Release);
}

pub(super) fn is_open() -> bool {
    OPEN.load(Ordering::Relaxed)
}

/// Whether an interrupt is that of the trace's UART.
#[inline]
pub(crate) fn is_own_interrupt(number: u32) -> bool {
    number == INTERRUPT.load(Ordering::Relaxed)
}

/// Records that were overwritten before they were sent, as far as is known.
pub(super) fn lost() -> u64 {
    DRAIN.lock().as_ref().map_or(0, |drain| drain.lost)
}

/// Sends a burst, unless that is under way already.
pub(super) fn pump() {
    if !OPEN.load(Ordering::Relaxed) || SENDING.load(Ordering::Relaxed) {
        return;
    }
    if let Some(mut drain) = DRAIN.try_lock()
        && let Some(drain) = drain.as_mut()
    {
        drain.step();
    }
}

/// The UART interrupted: it has room.
pub(crate) fn interrupt() {
    if let Some(drain) = DRAIN.lock().as_mut() {
        drain.uart.acknowledge();
        drain.step();
    }
}

/// Sends all that there is now, polled: before the machine ends, or has failed.
pub(crate) fn flush() {
    if !OPEN.load(Ordering::Relaxed) {
        return;
    }
    // After a failure its holder may be the CPU that failed.
    let drain = if crate::failure::has_failed() {
        DRAIN.try_lock()
    } else {
        Some(DRAIN.lock())
    };
    let Some(mut drain) = drain else { return };
    let Some(drain) = drain.as_mut() else { return };
    // Others may go on writing: there is an end all the same.
    let waiting = cpus::all()
        .iter()
        .zip(&drain.readers)
        .filter_map(|(cpu, reader)| Some(reader.waiting(cpu.trace.ring.get()?)));
    let packets = waiting.sum::<u64>().saturating_add(512);
    for _ in 0..packets {
        while let Some(byte) = drain.packet.get(drain.sent) {
            if !drain.uart.write_polled(*byte) {
                return;
            }
            drain.sent += 1;
        }
        if !drain.fetch() {
            break;
        }
    }
    drain.uart.flush();
}

impl Drain {
    /// Writes a burst, and leaves the rest to the interrupt.
    fn step(&mut self) {
        let mut budget = BURST;
        let more = loop {
            let Some(byte) = self.packet.get(self.sent) else {
                if self.fetch() {
                    continue;
                }
                break false;
            };
            if budget == 0 || !self.uart.try_write(*byte) {
                break true;
            }
            self.sent += 1;
            budget -= 1;
        };
        let by_interrupt = more && INTERRUPT.load(Ordering::Relaxed) != u32::MAX;
        SENDING.store(by_interrupt, Ordering::Relaxed);
        self.uart.set_transmit_interrupt(by_interrupt);
    }

    /// Takes the next packet; whether there is one.
    fn fetch(&mut self) -> bool {
        let Some(packet) = self.next() else {
            return false;
        };
        self.packet = packet;
        self.sent = 0;
        true
    }

    fn next(&mut self) -> Option<Bytes<WIRE>> {
        if !self.begun {
            self.begun = true;
            return Some(Packet::Begin(arch::time::frequency()).on_wire());
        }
        if let Some(domain) = machine::domains().get(self.named) {
            self.named += 1;
            return Some(Packet::Domain(domain.id.0, domain.name.as_bytes()).on_wire());
        }
        let cpus = cpus::all();
        for _ in 0..cpus.len() {
            let turn = self.turn;
            self.turn = if turn + 1 < cpus.len() { turn + 1 } else { 0 };
            let taken = cpus.get(turn).and_then(|cpu| {
                let reader = self.readers.get_mut(turn)?;
                let taken = reader.take(cpu.trace.ring.get()?)?;
                Some((cpu.index as u8, taken))
            });
            match taken {
                Some((cpu, Taken::Record(slot))) => {
                    return Some(Packet::Record(cpu, slot.frame()).on_wire());
                }
                Some((cpu, Taken::Lost(count))) => {
                    self.lost = self.lost.saturating_add(count);
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    return Some(Packet::Lost(cpu, count).on_wire());
                }
                None => {}
            }
        }
        None
    }
}
