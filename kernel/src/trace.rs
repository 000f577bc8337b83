//! The binary trace of the hot paths: defmt records in one ring a CPU, the oldest overwritten.
//!
//! What is recorded is in [`points`]; how it leaves the machine, in [`drain`]. Exits and entries have vectors of
//! their own, which are in force while the trace is on, so that they cost nothing while it is off; every other
//! point asks [`is_on`] first, which is three instructions.
//!
//! A record is a raw defmt frame of at most [`records::FRAME`] bytes: the index of its format, the counter, and its
//! arguments packed into one number, so that all but the first of a format are four stores ([`Format`]).

mod drain;
pub(crate) mod points;
mod tail;

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use devtree::Board;
use records::{Ring, Slot};
use sync::Once;

use crate::cpus::{self, Cpu};
use crate::{memory_map, schedule, stretch};

pub(crate) use drain::{flush, give_up, interrupt, is_own_interrupt};
pub(crate) use tail::{tail, tell};

/// Records of a CPU that are kept, as a power of two: 64 KiB.
const ORDER: u32 = 11;
/// Records after which a CPU on its way to a guest has them sent.
const SEND_AFTER: u64 = 16;

static ON: AtomicBool = AtomicBool::new(false);

/// Whether records are kept: what the hot paths ask before they make one.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    !cfg!(feature = "untraced") && ON.load(Ordering::Relaxed)
}

/// Remembers which UART there is for the trace, and switches it on if the boot argument says so.
pub(crate) fn start(board: &Board, on: bool) {
    drain::find(board);
    if on && let Err(error) = set(true) {
        crate::say::warn!("trace: {error}");
    }
}

/// This CPU is about to sleep, or to sleep on.
#[cold]
pub(crate) fn before_sleep(on: bool) {
    if !on {
        points::idle();
    }
    drain::pump();
}

/// Switches the trace on or off, for all CPUs; each changes its vectors when it looks next.
///
/// # Errors
/// There is no memory for the records.
pub(crate) fn set(on: bool) -> Result<(), NoMemory> {
    if on {
        while prepare()? {}
        drain::open();
    }
    ON.store(on, Ordering::Release);
    change_vectors();
    if !on {
        // What waits is sent by the UART's interrupt from here on.
        drain::pump();
    }
    Ok(())
}

/// Each CPU puts the vectors into force that it needs now.
pub(crate) fn change_vectors() {
    for cpu in cpus::all() {
        schedule::look(cpu);
    }
    if let Some(cpu) = cpus::this_cpu() {
        follow(cpu);
    }
}

/// Takes the memory for the records of one more CPU; `false` if all have it.
///
/// # Errors
/// There is none.
pub(crate) fn prepare() -> Result<bool, NoMemory> {
    let missing = |cpu: &&&Cpu| cpu.trace.ring.get().is_none();
    let Some(cpu) = cpus::all().iter().find(missing) else {
        return Ok(false);
    };
    memory_map::grow_heap();
    let ring = Ring::new(ORDER).ok_or(NoMemory)?;
    // Another CPU may have been faster, which is as good.
    let _ = cpu.trace.ring.set(ring);
    Ok(true)
}

/// There is no memory for the records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory for the records")
    }
}

/// Puts the vectors into force on this CPU that the trace, or the measurement of stretches, needs now.
pub(crate) fn follow(cpu: &Cpu) {
    let on = is_on() || stretch::is_on();
    if cpu.trace.vectors.swap(on, Ordering::Relaxed) != on {
        if on {
            arch::vectors::install_traced();
        } else {
            arch::vectors::install();
        }
    }
}

/// How the trace stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    /// Records are kept.
    pub(crate) on: bool,
    /// They are sent to a UART.
    pub(crate) sent: bool,
    /// Records that were ever made.
    pub(crate) written: u64,
    /// Those of them that were overwritten before they were sent; without a UART, before anybody could read them.
    pub(crate) lost: u64,
    /// Records of each CPU that are kept.
    pub(crate) kept: u64,
}

/// How the trace stands.
pub(crate) fn status() -> Status {
    let sent = drain::is_open();
    let rings = || cpus::all().iter().filter_map(|cpu| cpu.trace.ring.get());
    let overwritten = rings().map(|ring| ring.written().saturating_sub(ring.kept()));
    Status {
        on: is_on(),
        sent,
        written: rings().map(Ring::written).fold(0, u64::saturating_add),
        lost: if sent {
            drain::lost()
        } else {
            overwritten.fold(0, u64::saturating_add)
        },
        kept: rings().next().map_or(0, Ring::kept),
    }
}

/// A format, as it has been learned: the first word of its records, which has the frame's length and index. 0 as long as
/// none was made.
pub(crate) struct Format(AtomicU64);

impl Format {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Makes a record with these arguments. The first is made by defmt, `by_defmt`; the others differ from it in time
    /// and arguments alone, so they are written in one go, for a third of the instructions.
    #[inline(always)]
    pub(crate) fn record(&self, arguments: u128, by_defmt: fn(u128)) {
        let Some(cpu) = cpus::this_cpu() else { return };
        let Some(ring) = cpu.trace.ring.get() else {
            return;
        };
        let first = self.0.load(Ordering::Relaxed);
        if first == 0 {
            self.learn(cpu, arguments, by_defmt);
            return;
        }
        ring.push([
            first,
            arch::time::counter(),
            arguments as u64,
            (arguments >> 64) as u64,
        ]);
    }

    /// The first record of this format. Out of the way: in line it would cost every record the registers that it saves.
    #[cold]
    #[inline(never)]
    fn learn(&self, cpu: &Cpu, arguments: u128, by_defmt: fn(u128)) {
        by_defmt(arguments);
        let first = cpu.trace.with(|staged| staged.first_word());
        self.0.store(first, Ordering::Relaxed);
    }
}

/// Makes a record: a format, and one number of which its fields are parts, from bit 0 on.
macro_rules! record {
    ($format:literal) => {{
        static FORMAT: $crate::trace::Format = $crate::trace::Format::new();
        FORMAT.record(0, |_| defmt::trace!($format));
    }};
    ($format:literal, $arguments:expr) => {{
        static FORMAT: $crate::trace::Format = $crate::trace::Format::new();
        FORMAT.record($arguments, |arguments| defmt::trace!($format, arguments));
    }};
}
use record;

/// A frame in the making, by defmt.
struct Staged {
    length: usize,
    frame: [u8; records::FRAME],
}

impl Staged {
    fn add(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(place) = self.frame.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
        }
        self.length = end;
    }

    /// The frame as a record; `None` if it is too long.
    fn slot(&self) -> Option<Slot> {
        Slot::of(self.frame.get(..self.length)?)
    }

    fn first_word(&self) -> u64 {
        let [first, ..] = self.slot().unwrap_or_default().words();
        first
    }
}

/// A CPU's part of the trace.
pub(crate) struct Local {
    /// Only its CPU touches it.
    staged: UnsafeCell<Staged>,
    ring: Once<Ring>,
    /// The vectors that trace are in force.
    vectors: AtomicBool,
    /// A bit for each list register that held something at the last entry, and still did at the last exit.
    listed: AtomicU32,
    /// Records that there were at the last exit by an interrupt.
    at_exit: AtomicU64,
    /// Records that there were when they were last sent.
    at_send: AtomicU64,
}

#[expect(
    unsafe_code,
    reason = "what is staged belongs to one CPU, which has no interrupts"
)]
// SAFETY: `staged` is reached through `this_cpu` alone, and EL2 is not interrupted; the rest is shared by design.
unsafe impl Sync for Local {}

impl Local {
    pub(crate) const fn new() -> Self {
        Self {
            staged: UnsafeCell::new(Staged {
                length: 0,
                frame: [0; records::FRAME],
            }),
            ring: Once::new(),
            vectors: AtomicBool::new(false),
            listed: AtomicU32::new(0),
            at_exit: AtomicU64::new(0),
            at_send: AtomicU64::new(0),
        }
    }

    #[expect(
        unsafe_code,
        reason = "what is staged belongs to one CPU, which has no interrupts"
    )]
    #[inline(always)]
    fn with<R>(&self, use_it: impl FnOnce(&mut Staged) -> R) -> R {
        // SAFETY: only the owning CPU calls this, with interrupts masked, and what is called does not trace; so
        // there is no other reference.
        use_it(unsafe { &mut *self.staged.get() })
    }

    fn written(&self) -> u64 {
        self.ring.get().map_or(0, Ring::written)
    }

    /// At an exit: what the guest has ended is forgotten.
    fn keep_listed(&self, full: u32) {
        let listed = self.listed.load(Ordering::Relaxed) & full;
        self.listed.store(listed, Ordering::Relaxed);
    }

    /// At an entry: list registers that hold something that they did not hold at the exit of the `same` guest.
    fn newly_listed(&self, full: u32, same: bool) -> u32 {
        let before = if same {
            self.listed.load(Ordering::Relaxed)
        } else {
            0
        };
        self.listed.store(full, Ordering::Relaxed);
        full & !before
    }

    /// Remembers that an exit begins of which it is not yet known whether it is worth a record.
    fn mark(&self) {
        self.at_exit.store(self.written(), Ordering::Relaxed);
    }

    /// Whether there are records since the mark.
    fn has_more(&self) -> bool {
        self.at_exit.load(Ordering::Relaxed) != self.written()
    }

    /// Sends what there is, every few records.
    fn send_now_and_then(&self) {
        let written = self.written();
        if written.wrapping_sub(self.at_send.load(Ordering::Relaxed)) >= SEND_AFTER {
            self.at_send.store(written, Ordering::Relaxed);
            drain::pump();
        }
    }
}

#[defmt::global_logger]
struct Logger;

#[expect(unsafe_code, reason = "defmt's trait is unsafe")]
// SAFETY: EL2 runs with interrupts masked and each CPU stages for itself, so a frame that was begun is ended before
// another begins on the same CPU, and CPUs share nothing.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        if let Some(cpu) = cpus::this_cpu() {
            cpu.trace.with(|staged| staged.length = 0);
        }
    }

    unsafe fn flush() {}

    unsafe fn release() {
        let Some(cpu) = cpus::this_cpu() else { return };
        let Some(ring) = cpu.trace.ring.get() else {
            return;
        };
        if let Some(slot) = cpu.trace.with(|staged| staged.slot()) {
            ring.push(slot.words());
        }
    }

    unsafe fn write(bytes: &[u8]) {
        if let Some(cpu) = cpus::this_cpu() {
            cpu.trace.with(|staged| staged.add(bytes));
        }
    }
}

defmt::timestamp!("{=u64}", arch::time::counter());
