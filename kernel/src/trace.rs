//! The binary trace of the hot paths: defmt records in one ring a CPU, oldest dropped and counted.
//!
//! A record is staged whole and then copied into the ring as a length-prefixed slot, so that a reader
//! never meets half of one. Records are raw defmt frames: `defmt-print -e ELF` with raw encoding decodes
//! them. The panic path prints the tail as hexadecimal lines.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpus;

/// Bytes of a CPU's ring.
const RING: usize = 4096;
/// Bytes of the longest record; a longer one is dropped and counted.
const RECORD: usize = 120;

static ON: AtomicBool = AtomicBool::new(false);

/// Switches the trace on or off, for all CPUs.
pub(crate) fn set(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Whether records are kept: what the hot paths ask before they build one.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Writes a record, if the trace is on.
macro_rules! record {
    ($($argument:tt)*) => {
        if $crate::trace::is_on() {
            defmt::trace!($($argument)*);
        }
    };
}
pub(crate) use record;

struct State {
    staged: [u8; RECORD],
    length: usize,
    bytes: [u8; RING],
    /// Free-running positions of the next byte to write and of the oldest slot.
    head: usize,
    tail: usize,
    dropped: u64,
}

/// One CPU's ring. Only that CPU writes it; the panic path reads it when that CPU has stopped.
pub(crate) struct Ring(UnsafeCell<State>);

#[expect(
    unsafe_code,
    reason = "the ring belongs to one CPU, which has no interrupts"
)]
// SAFETY: reached through `this_cpu` alone, and EL2 is not interrupted.
unsafe impl Sync for Ring {}

impl Ring {
    /// An empty ring.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(State {
            staged: [0; RECORD],
            length: 0,
            bytes: [0; RING],
            head: 0,
            tail: 0,
            dropped: 0,
        }))
    }

    #[expect(
        unsafe_code,
        reason = "the ring belongs to one CPU, which has no interrupts"
    )]
    fn with<R>(&self, use_it: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: only the owning CPU calls this, with interrupts masked, and the closures below do not
        // trace; so there is no other reference.
        use_it(unsafe { &mut *self.0.get() })
    }

    /// Calls `visit` with each record from the oldest on, and returns how many were dropped before.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&[u8])) -> u64 {
        self.with(|state| {
            let mut at = state.tail;
            let mut record = [0; RECORD];
            while at < state.head {
                let length = usize::from(state.byte(at)).min(RECORD);
                for (offset, byte) in record.iter_mut().enumerate().take(length) {
                    *byte = state.byte(at + 1 + offset);
                }
                visit(record.get(..length).unwrap_or(&[]));
                at += 1 + length;
            }
            state.dropped
        })
    }
}

impl State {
    fn byte(&self, position: usize) -> u8 {
        self.bytes.get(position % RING).copied().unwrap_or(0)
    }

    fn stage(&mut self, bytes: &[u8]) {
        match self.staged.get_mut(self.length..self.length + bytes.len()) {
            Some(space) => space.copy_from_slice(bytes),
            // Too long: `commit` sees a length that no record can have.
            None => self.staged[0] = 0,
        }
        self.length += bytes.len();
    }

    fn commit(&mut self) {
        if self.length > RECORD {
            self.dropped += 1;
            return;
        }
        while self.head - self.tail + self.length + 1 > RING {
            self.tail += 1 + usize::from(self.byte(self.tail));
            self.dropped += 1;
        }
        let length = self.length;
        self.put(length as u8);
        for index in 0..length {
            let byte = self.staged.get(index).copied().unwrap_or(0);
            self.put(byte);
        }
    }

    fn put(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.head % RING) {
            *slot = byte;
        }
        self.head += 1;
    }
}

#[defmt::global_logger]
struct Logger;

#[expect(unsafe_code, reason = "defmt's trait is unsafe")]
// SAFETY: EL2 runs with interrupts masked and each CPU has its own ring, so a frame that was begun is
// ended before another begins on the same CPU, and CPUs share nothing.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        if let Some(cpu) = cpus::this_cpu() {
            cpu.trace.with(|state| state.length = 0);
        }
    }

    unsafe fn flush() {}

    unsafe fn release() {
        if let Some(cpu) = cpus::this_cpu() {
            cpu.trace.with(State::commit);
        }
    }

    unsafe fn write(bytes: &[u8]) {
        if let Some(cpu) = cpus::this_cpu() {
            cpu.trace.with(|state| state.stage(bytes));
        }
    }
}

defmt::timestamp!("{=u64}", arch::time::counter());
