//! The last exits of a vCPU that took the long way: what its guest asked or did, and where. Always on; for the report of
//! a guest that failed.
//!
//! Exits that are answered at once (calls of a few instructions, identification registers, events sent, turns given up),
//! emulated devices, SGIs and interrupts are counted alone ([`crate::counters`]): a note takes some ten instructions, a
//! tenth of such an exit. The exit that ended the guest is in its report anyway.
//!
//! One CPU at a time writes: the one that has the vCPU loaded. It is read when none has.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::exit::{Abort, Exit, SystemRegister, Wait, fault_ipa};

/// Exits that are kept.
pub const KEPT: usize = 8;

/// An exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Note {
    /// `ESR_EL2` in bits 31..0; what an HVC or SMC asked for in bits 63..32 ([`Note::call`]).
    what: u64,
    /// `ELR_EL2`.
    link: u64,
    /// Aborts: where, as the second stage sees it. Calls: the second argument.
    detail: u64,
}

impl Note {
    /// A hypercall or a call of the firmware: its number, its first argument (or 0), its second.
    #[inline]
    #[must_use]
    pub const fn call(esr: u64, link: u64, number: u64, argument: u64) -> Self {
        Self {
            what: esr & 0xffff_ffff | number << 32,
            link,
            detail: argument,
        }
    }

    /// Any other exit.
    #[inline]
    #[must_use]
    pub const fn other(esr: u64, link: u64) -> Self {
        Self {
            what: esr & 0xffff_ffff,
            link,
            detail: 0,
        }
    }

    /// An abort, with `FAR_EL2` and `HPFAR_EL2`.
    #[inline]
    #[must_use]
    pub const fn abort(esr: u64, link: u64, far: u64, hpfar: u64) -> Self {
        Self {
            what: esr & 0xffff_ffff,
            link,
            detail: fault_ipa(hpfar, far).get(),
        }
    }

    /// Where the instruction is that caused it: an HVC's return address is the one behind.
    #[must_use]
    pub const fn pc(self) -> u64 {
        match Exit::decode(self.what & 0xffff_ffff) {
            Exit::Hvc { .. } => self.link.wrapping_sub(4),
            _ => self.link,
        }
    }
}

/// What kind of exit a syndrome is, in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(pub u64);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = |f: &mut fmt::Formatter<'_>, what: &str, abort: Abort| {
            let walk = if abort.is_on_table_walk() {
                " on a table walk"
            } else {
                ""
            };
            write!(f, "{what}{walk} ({:?})", abort.fault())
        };
        match Exit::decode(self.0) {
            Exit::Wait(Wait::Interrupt | Wait::InterruptOrTime) => f.write_str("WFI"),
            Exit::Wait(Wait::Event | Wait::EventOrTime) => f.write_str("WFE"),
            Exit::Hvc { immediate } => write!(f, "HVC {immediate:#x}"),
            Exit::Smc { immediate } => write!(f, "SMC {immediate:#x}"),
            Exit::SystemRegister(register) => register_name(f, register),
            Exit::Coprocessor(_) => f.write_str("coprocessor register"),
            Exit::InstructionAbort(abort) => access(f, "instruction fetch", abort),
            Exit::DataAbort(abort) if abort.is_cache_maintenance() => {
                access(f, "cache maintenance", abort)
            }
            Exit::DataAbort(abort) if abort.is_write() => access(f, "store", abort),
            Exit::DataAbort(abort) => access(f, "load", abort),
            Exit::FloatingPoint => f.write_str("floating point"),
            Exit::Sve => f.write_str("SVE"),
            Exit::IllegalState => f.write_str("illegal execution state"),
            Exit::SError { syndrome } => write!(f, "SError {syndrome:#x}"),
            Exit::Other { class } => write!(f, "exception class {class:#x}"),
        }
    }
}

fn register_name(f: &mut fmt::Formatter<'_>, register: SystemRegister) -> fmt::Result {
    write!(f, "register {register:?}")
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (esr, number) = (self.what & 0xffff_ffff, self.what >> 32);
        let pc = self.pc();
        match Exit::decode(esr) {
            Exit::Hvc { immediate } if immediate == abi::hypercall::HVC_IMMEDIATE => {
                write!(
                    f,
                    "{pc:#x}: hypercall {number}, argument {:#x}",
                    self.detail
                )
            }
            Exit::Hvc { .. } | Exit::Smc { .. } => write!(
                f,
                "{pc:#x}: {}, function {number:#x}, argument {:#x}",
                Kind(esr),
                self.detail
            ),
            Exit::DataAbort(_) | Exit::InstructionAbort(_) => {
                write!(f, "{pc:#x}: {} at IPA {:#x}", Kind(esr), self.detail)
            }
            _ => write!(f, "{pc:#x}: {}", Kind(esr)),
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    what: AtomicU64,
    link: AtomicU64,
    detail: AtomicU64,
}

/// The last exits of a vCPU.
#[derive(Debug, Default)]
pub struct Recent {
    slots: [Slot; KEPT],
    /// How many there were, from 0 again after the greatest.
    count: AtomicU32,
}

impl Recent {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: [const {
                Slot {
                    what: AtomicU64::new(0),
                    link: AtomicU64::new(0),
                    detail: AtomicU64::new(0),
                }
            }; KEPT],
            count: AtomicU32::new(0),
        }
    }

    /// Keeps an exit, in place of the oldest.
    #[inline]
    pub fn note(&self, note: Note) {
        let count = self.count.load(Ordering::Relaxed);
        if let Some(slot) = self.slots.get(count as usize % KEPT) {
            slot.what.store(note.what, Ordering::Relaxed);
            slot.link.store(note.link, Ordering::Relaxed);
            slot.detail.store(note.detail, Ordering::Relaxed);
        }
        self.count.store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// Forgets all: another life begins.
    pub fn clear(&self) {
        for _ in 0..KEPT {
            self.note(Note::default());
        }
    }

    /// Those that are kept, oldest first; places that were never used are [`Note::default`].
    #[must_use]
    pub fn read(&self) -> [Note; KEPT] {
        let first = self.count.load(Ordering::Relaxed) as usize;
        let mut notes = [Note::default(); KEPT];
        for (age, note) in notes.iter_mut().enumerate() {
            if let Some(slot) = self.slots.get(first.wrapping_add(age) % KEPT) {
                *note = Note {
                    what: slot.what.load(Ordering::Relaxed),
                    link: slot.link.load(Ordering::Relaxed),
                    detail: slot.detail.load(Ordering::Relaxed),
                };
            }
        }
        notes
    }
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
