//! Who runs on a CPU: one queue a CPU, under a spin lock of the caller's.
//!
//! vCPUs **share** a CPU by weight. Each has a virtual time, which passes while it runs, the slower the greater its
//! weight; who has the least runs next, for a slice of [`SLICE_MILLISECONDS`]. Who wakes is put a little before those that
//! run, but no more however long it slept, and gets the CPU at once if it is enough behind. Virtual time is the same on
//! all CPUs, so that `migration` can compare who has had less.
//!
//! **Real-time** vCPUs come before all that share: the one with the earliest deadline, as long as its budget lasts
//! (`sched/server.rs`). Who has used it up shares with the others until its next period.
//!
//! While nobody waits there is no end of slice or budget, and so no timer to set: a vCPU alone on its CPU is never
//! disturbed. Its time is counted all the same.
//!
//! Times are in ticks of the system counter. Operations cost O(log n), and only [`RunQueue::add`] allocates.

mod choice;
mod entry;
mod ordered;
mod queue;
mod quick;
mod server;

use core::fmt;

pub use queue::RunQueue;
pub use server::Reservation;

/// Length of a slice.
pub const SLICE_MILLISECONDS: u64 = 10;
/// Weight of a vCPU that nobody gave another, as in Xen.
pub const DEFAULT_WEIGHT: u16 = 256;

/// Ticks of a slice at this frequency of the counter, in Hz.
#[must_use]
pub const fn slice_ticks(frequency: u64) -> u64 {
    frequency.saturating_mul(SLICE_MILLISECONDS) / 1000
}

/// How a vCPU is to be scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Share of the CPU against the other vCPUs that want it; 0 counts as 1.
    pub weight: u16,
    /// A bit for each CPU that it may run on.
    pub affinity: u64,
    /// How it is chosen.
    pub class: Class,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            weight: DEFAULT_WEIGHT,
            affinity: u64::MAX,
            class: Class::Shared,
        }
    }
}

/// How a vCPU is chosen among those that could run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Class {
    /// By its weight.
    #[default]
    Shared,
    /// Before all that share, as long as its budget lasts. It must stay on one CPU.
    RealTime(Reservation),
}

/// A vCPU's place in one run queue; good until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u16);

/// How much a vCPU has had, to be taken to another CPU's queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VirtualTime(u64);

impl VirtualTime {
    /// Whether this is so many ticks or more before `other`.
    #[must_use]
    pub const fn is_behind(self, other: Self, ticks: u64) -> bool {
        !ordered::is_before(other.0, self.0.wrapping_add(ticks))
    }
}

/// A vCPU could not be given a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddError {
    /// No memory.
    NoMemory,
    /// 65,535 are there.
    Full,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "no memory for the run queue",
            Self::Full => "the run queue is full",
        })
    }
}

/// Who is to run, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick<T> {
    /// The vCPU; `None`: nobody, the CPU idles.
    pub next: Option<T>,
    /// Counter value at which to pick again; `None`: nobody waits, no timer is needed.
    pub slice_end: Option<u64>,
    /// As [`RunQueue::is_alone`] has it.
    pub alone: bool,
    /// Some have waited for a slice or more: time to see whether they would run sooner on another CPU.
    pub crowded: bool,
}

#[cfg(all(test, not(loom)))]
#[path = "sched_tests.rs"]
mod tests;
