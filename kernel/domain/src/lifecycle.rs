//! Power and run state of a vCPU, and why a domain stops.
//!
//! A vCPU's state is one atomic word; every change is a single read-modify-write of it, so two CPUs that
//! disagree about a vCPU are put in order by that word and by nothing else:
//!
//! ```text
//!        claim            complete           start
//!  Off --------> Starting ---------> Ready <-------> Running ----> Stopping ----> Off
//!   ^-------------- fail                ^    preempt    |     stop         stopped
//!                                       |               v block
//!                                       +--- wake --- Blocked
//! ```
//!
//! * `Starting`: one CPU_ON has won and sets the vCPU up; others are told ON_PENDING.
//! * `Stopping`: the vCPU called CPU_OFF but its registers are still in the machine. CPU_ON is told
//!   ALREADY_ON and AFFINITY_INFO on, until [`RunState::stopped`] says that the context is free to be reset.
//! * A wake-up that meets a running vCPU leaves a token, and the next [`RunState::block`] takes the token
//!   instead of blocking: an event between "nothing to do" and "blocked" is not lost.
//! * `held` (the domain is paused, or has shut down) is a flag beside the state: a held vCPU is not started.
//!
//! With run queues: [`RunState::block`] and the queue's `block` are called together under the queue's lock,
//! and so are [`RunState::start`], [`RunState::preempt`] and the queue's `pick`. [`RunState::wake`] is called
//! without it; only if it answers [`Wake::Enqueue`] the lock is taken and the queue told. Holding and
//! releasing the vCPUs of a domain is for one CPU at a time.

use core::fmt;

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

/// What a vCPU is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Power {
    /// Switched off; CPU_ON starts it.
    Off = 0,
    /// A CPU_ON is under way.
    Starting = 1,
    /// Could run; is in a run queue, or held.
    Ready = 2,
    /// Is loaded on a CPU and runs there.
    Running = 3,
    /// Waits for an interrupt or an event.
    Blocked = 4,
    /// Has called CPU_OFF and is not unloaded yet.
    Stopping = 5,
}

/// For whom a vCPU was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum For {
    /// The guest runs.
    Guest,
    /// Its domain does not live, and the hypervisor has work to do for it.
    Hypervisor,
}

/// Why a vCPU could not be claimed for a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimError {
    /// It is on (or not yet all off).
    AlreadyOn,
    /// Somebody else is starting it.
    OnPending,
}

/// What the caller of [`RunState::wake`] has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// Nothing: it is off, is ready already, or is held.
    Nothing,
    /// It was blocked: put it in its run queue.
    Enqueue,
    /// It runs: if that is on another CPU, and what woke it must be seen at once, interrupt that CPU.
    Kick,
}

/// What the caller of [`RunState::hold`] has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Nothing: it is in no queue and on no CPU.
    Nothing,
    /// It may be in a run queue: take it out.
    Dequeue,
    /// It runs: interrupt its CPU, which then sees [`RunState::is_held`].
    Kick,
}

/// What became of a try to block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// It is blocked: take it out of the queue.
    Blocked,
    /// Something woke it in the meantime: look again for what it waits for, and if there is still nothing
    /// try again. The token is gone, so that this ends.
    Woken,
}

/// What became of a vCPU that its CPU has set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preempted {
    /// Nothing: it was not running.
    Nothing,
    /// It is ready, and stays in its run queue.
    Ready,
    /// The same, but it is held: take it out of the queue.
    Held,
}

const STATE: u32 = 0x7;
/// What `Running` has that `Ready` has not.
const NOT_READY: u32 = Power::Running as u32 ^ Power::Ready as u32;
/// A wake-up came while it was running.
const TOKEN: u32 = 1 << 3;
/// It must not be started.
const HELD: u32 = 1 << 4;
/// Who runs it does the hypervisor's work for its domain, and not the guest's.
const WORK: u32 = 1 << 5;

/// The state of one vCPU. Starts switched off.
pub struct RunState(AtomicU32);

impl RunState {
    /// Switched off.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(Power::Off as u32))
    }

    /// Switched off.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(Power::Off as u32))
    }

    /// What it was doing at some moment of the call.
    #[must_use]
    pub fn power(&self) -> Power {
        power(self.0.load(Ordering::Acquire))
    }

    /// Whether it must not run.
    #[inline]
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed) & HELD != 0
    }

    /// CPU_ON, first half: `Off` to `Starting`. Who gets `Ok` alone may reset the vCPU, and must call
    /// [`complete`](Self::complete) or [`fail`](Self::fail).
    ///
    /// # Errors
    ///
    /// It is on, or somebody else has claimed it.
    pub fn claim(&self) -> Result<(), ClaimError> {
        self.update(|word| {
            matches!(power(word), Power::Off).then_some(with(word & !TOKEN, Power::Starting))
        })
        .map(|_| ())
        .map_err(|word| match power(word) {
            Power::Starting => ClaimError::OnPending,
            _ => ClaimError::AlreadyOn,
        })
    }

    /// CPU_ON, second half: `Starting` to `Ready`, with everything written to the vCPU before. Whether it is
    /// to be put in its run queue (not if it is held).
    pub fn complete(&self) -> bool {
        self.step(Power::Starting, Power::Ready)
            .is_some_and(|word| word & HELD == 0)
    }

    /// CPU_ON that could not be carried out: `Starting` back to `Off`.
    pub fn fail(&self) {
        self.step(Power::Starting, Power::Off);
    }

    /// `Ready` to `Running`, on the CPU that picked it; `false` if it is held (or not ready): pick another.
    #[must_use]
    pub fn start(&self) -> bool {
        self.start_for().is_some()
    }

    /// [`start`](Self::start), and for whom. This alone is sure to know: a CPU that is about to run the guest may
    /// meet with the end of its domain, after which another does the hypervisor's work.
    #[must_use]
    pub fn start_for(&self) -> Option<For> {
        let before = self.update(|word| {
            (matches!(power(word), Power::Ready) && word & HELD == 0)
                .then_some(with(word, Power::Running))
        });
        let word = before.ok()?;
        Some(match word & WORK {
            0 => For::Guest,
            _ => For::Hypervisor,
        })
    }

    /// `Running` to `Ready`: another gets the CPU. Whether it stays in its run queue; if not, it is held, and
    /// is to be taken out.
    #[must_use]
    pub fn preempt(&self) -> bool {
        self.set_aside() == Preempted::Ready
    }

    /// [`preempt`](Self::preempt) of one that may be asleep. Only the CPU that has the vCPU loaded may call it.
    #[must_use]
    pub fn set_aside(&self) -> Preempted {
        // Nobody else takes a vCPU out of `Running`, or puts one there: what others write meanwhile are the flags.
        const { assert!(Power::Running as u32 & !NOT_READY == Power::Ready as u32) }
        if power(self.0.load(Ordering::Relaxed)) != Power::Running {
            return Preempted::Nothing;
        }
        match self.0.fetch_and(!NOT_READY, Ordering::AcqRel) & HELD {
            0 => Preempted::Ready,
            _ => Preempted::Held,
        }
    }

    /// `Running` to `Blocked`, unless a wake-up has come since it was started or last tried to block.
    pub fn block(&self) -> Block {
        let blocked = self.update(|word| {
            (matches!(power(word), Power::Running) && word & TOKEN == 0)
                .then_some(with(word, Power::Blocked))
        });
        if blocked.is_ok() {
            return Block::Blocked;
        }
        // Acquire: what was written before the wake-up is seen by who looks again now.
        self.0.fetch_and(!TOKEN, Ordering::Acquire);
        Block::Woken
    }

    /// Something happened that a blocked vCPU waits for. What happened must have been written before.
    #[must_use]
    pub fn wake(&self) -> Wake {
        let before = self.update(|word| match power(word) {
            Power::Blocked => Some(with(word, Power::Ready)),
            Power::Running => Some(word | TOKEN),
            // Written though it stays the same: `start` reads this write or a later one, and with it sees
            // what this caller wrote before; the vCPU looks for that before it blocks.
            Power::Ready => Some(word),
            Power::Off | Power::Starting | Power::Stopping => None,
        });
        match before {
            Ok(word) => match power(word) {
                Power::Blocked if word & HELD == 0 => Wake::Enqueue,
                Power::Running => Wake::Kick,
                _ => Wake::Nothing,
            },
            Err(_) => Wake::Nothing,
        }
    }

    /// CPU_OFF, first half: `Running` to `Stopping`. Its CPU then switches away from it.
    pub fn stop(&self) {
        self.step(Power::Running, Power::Stopping);
    }

    /// CPU_OFF, second half: `Stopping` to `Off`, once its context is no longer loaded anywhere.
    pub fn stopped(&self) {
        self.step(Power::Stopping, Power::Off);
    }

    /// Lets it run no more until [`release`](Self::release).
    pub fn hold(&self) -> Hold {
        match power(self.0.fetch_or(HELD, Ordering::AcqRel)) {
            Power::Ready => Hold::Dequeue,
            Power::Running => Hold::Kick,
            Power::Off | Power::Starting | Power::Blocked | Power::Stopping => Hold::Nothing,
        }
    }

    /// Lets it run again; whether it is to be put in its run queue.
    #[must_use]
    pub fn release(&self) -> bool {
        let before = self.0.fetch_and(!HELD, Ordering::AcqRel);
        before & HELD != 0 && matches!(power(before), Power::Ready)
    }

    /// Its domain has ended, and it is in no CPU's registers: it is `Ready` from now on, whatever it was, for the
    /// hypervisor's own work on its domain, which is charged to it. It may be in a queue still, or on its way
    /// into one.
    pub fn revive(&self) {
        self.0.store(Power::Ready as u32 | WORK, Ordering::Release);
    }

    /// The hypervisor's work is done: `Running` to `Ready`, for the guest from now on. Whether it stays in its
    /// run queue.
    #[must_use]
    pub fn end_work(&self) -> bool {
        self.update(|word| {
            (power(word) == Power::Running).then_some(with(word & !(WORK | TOKEN), Power::Ready))
        })
        .is_ok_and(|word| word & HELD == 0)
    }

    /// Its domain begins anew: it is switched off, whatever it was, and not held. It is in no CPU's registers.
    pub fn reset(&self) {
        self.0.store(Power::Off as u32, Ordering::Release);
    }

    /// One transition; the word before it, or `None` if the vCPU was not in state `from`.
    fn step(&self, from: Power, to: Power) -> Option<u32> {
        self.update(|word| (power(word) == from).then_some(with(word, to)))
            .ok()
    }

    #[inline(always)]
    fn update(&self, change: impl Fn(u32) -> Option<u32>) -> Result<u32, u32> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let new = change(word).ok_or(word)?;
            // The strong one: where it is a loop of its own, a store that failed needs no other decision.
            match self
                .0
                .compare_exchange(word, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(before) => return Ok(before),
                Err(now) => word = now,
            }
        }
    }
}

impl Default for RunState {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = if self.is_held() { ", held" } else { "" };
        write!(f, "RunState({:?}{held})", self.power())
    }
}

const fn power(word: u32) -> Power {
    match word & STATE {
        0 => Power::Off,
        1 => Power::Starting,
        2 => Power::Ready,
        3 => Power::Running,
        4 => Power::Blocked,
        _ => Power::Stopping,
    }
}

const fn with(word: u32, power: Power) -> u32 {
    word & !STATE | power as u32
}

/// Why a domain stopped (`xen/include/public/sched.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ShutdownReason {
    /// Switched itself off.
    PowerOff = abi::sched::SHUTDOWN_POWEROFF,
    /// Wants to be started again.
    Reboot = abi::sched::SHUTDOWN_REBOOT,
    /// Suspended itself.
    Suspend = abi::sched::SHUTDOWN_SUSPEND,
    /// Crashed, or did what ends a guest.
    Crash = abi::sched::SHUTDOWN_CRASH,
    /// Its watchdog ran out.
    Watchdog = abi::sched::SHUTDOWN_WATCHDOG,
    /// Wants to be started again without losing its memory.
    SoftReset = abi::sched::SHUTDOWN_SOFT_RESET,
}

impl ShutdownReason {
    /// The reason with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            abi::sched::SHUTDOWN_POWEROFF => Self::PowerOff,
            abi::sched::SHUTDOWN_REBOOT => Self::Reboot,
            abi::sched::SHUTDOWN_SUSPEND => Self::Suspend,
            abi::sched::SHUTDOWN_CRASH => Self::Crash,
            abi::sched::SHUTDOWN_WATCHDOG => Self::Watchdog,
            abi::sched::SHUTDOWN_SOFT_RESET => Self::SoftReset,
            _ => return None,
        })
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "poweroff",
            Self::Reboot => "reboot",
            Self::Suspend => "suspend",
            Self::Crash => "crash",
            Self::Watchdog => "watchdog",
            Self::SoftReset => "soft reset",
        })
    }
}

/// Whether a domain has shut down, and why. The first reason counts.
#[derive(Debug)]
pub struct Shutdown(AtomicU32);

/// [`Shutdown`]: still up.
const UP: u32 = u32::MAX;

impl Shutdown {
    /// Still up.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(UP))
    }

    /// Still up.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(UP))
    }

    /// Shuts down for `reason`; `false` if it had shut down before. Who gets `true` alone does the rest: holds
    /// the vCPUs, says so, restarts.
    #[must_use]
    pub fn begin(&self, reason: ShutdownReason) -> bool {
        self.0
            .compare_exchange(UP, reason.number(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Why it shut down; `None` while it is up.
    #[must_use]
    pub fn reason(&self) -> Option<ShutdownReason> {
        ShutdownReason::from_number(self.0.load(Ordering::Acquire))
    }

    /// Up again, after a restart or a resume.
    pub fn clear(&self) {
        self.0.store(UP, Ordering::Release);
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
#[path = "lifecycle_tests.rs"]
mod tests;
