//! The life of a domain: what it is doing, what may be asked of it, and whether it lives again after its end.
//!
//! ```text
//!  Waiting --start--> Building --built--> Running <--pause, resume--> Paused
//!                      ^   |                 |                          |
//!                      |   failed            +----------- end ----------+
//!                      |   v                 v
//!      start, due      |  Stopped <---+  Stopping    CPUs still have state of it
//!           +----------+              |      | unloaded
//!           |                         |      v
//!        Delayed <------- again ------+-- Releasing  what it holds is being given back
//! ```
//!
//! This is plain data: whoever has it holds its lock. Times are milliseconds of a clock that never goes back.

use core::fmt;

use crate::lifecycle::ShutdownReason;

/// What a domain is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It was described, and has not been started yet.
    Waiting,
    /// Its memory is being filled.
    Building,
    /// Its vCPUs may run.
    Running,
    /// Its vCPUs are held back.
    Paused,
    /// It is to end; some CPU still has state of it.
    Stopping,
    /// No CPU has state of it any more, and what it holds is being given back.
    Releasing,
    /// It lives again at this time.
    Delayed {
        /// The time.
        until: u64,
    },
    /// It has ended.
    Stopped,
}

impl State {
    /// Whether its vCPUs may run, now or when it is resumed.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Waiting => "not started",
            Self::Building => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping | Self::Releasing => "stopping",
            Self::Delayed { .. } => "restarting",
            Self::Stopped => "stopped",
        })
    }
}

/// Why a domain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The guest itself, what it did, or its watchdog.
    Guest(ShutdownReason),
    /// Somebody destroyed it.
    Destroyed,
    /// Somebody wanted it to begin again.
    Restarted,
    /// It was asked to shut down, and did not in time.
    NoAnswer,
    /// It could not be built again.
    NotBuilt,
}

impl Cause {
    /// Whether the guest failed, and did not just end.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Guest(ShutdownReason::Crash | ShutdownReason::Watchdog) | Self::NoAnswer
        )
    }

    /// Whether somebody may want to know what it was at: it did not end by its own will.
    #[must_use]
    pub const fn keeps_registers(self) -> bool {
        self.is_failure() || matches!(self, Self::Destroyed | Self::Restarted)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Guest(reason) => return reason.fmt(f),
            Self::Destroyed => "destroyed",
            Self::Restarted => "restart",
            Self::NoAnswer => "did not shut down in time",
            Self::NotBuilt => "could not be built",
        })
    }
}

/// When a domain that has ended lives again without being told to (`viaduct,restart`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Restart {
    /// Never.
    #[default]
    Never,
    /// After a crash, its watchdog, or when it asks for it (reboot).
    OnCrash,
    /// After every end of its own.
    Always,
}

/// What is done after the end of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// When it lives again.
    pub restart: Restart,
    /// Restarts in a row at most; 0 for no limit. A life of [`STEADY`] ends the row.
    pub limit: u32,
    /// Milliseconds before the first restart of a row; twice as many before each further one, up to
    /// [`LONGEST_DELAY`].
    pub back_off: u32,
}

/// A domain that has lived so long, in milliseconds, is counted afresh.
pub const STEADY: u64 = 60_000;
/// No restart waits longer, in milliseconds.
pub const LONGEST_DELAY: u64 = 60_000;

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart: Restart::Never,
            limit: 5,
            back_off: 100,
        }
    }
}

impl Policy {
    /// Whether a domain lives again after this end.
    #[must_use]
    pub const fn wants(self, cause: Cause) -> bool {
        match (self.restart, cause) {
            (_, Cause::Restarted) => true,
            (Restart::Never, _) | (_, Cause::Destroyed | Cause::NoAnswer | Cause::NotBuilt) => {
                false
            }
            (Restart::OnCrash, Cause::Guest(reason)) => {
                !matches!(reason, ShutdownReason::PowerOff | ShutdownReason::Suspend)
            }
            (Restart::Always, Cause::Guest(_)) => true,
        }
    }

    /// Milliseconds before restart number `number` of a row, from 1.
    #[must_use]
    pub fn delay(self, number: u32) -> u64 {
        let doublings = number.saturating_sub(1).min(16);
        u64::from(self.back_off)
            .wrapping_shl(doublings)
            .min(LONGEST_DELAY)
    }
}

/// What somebody who asks a domain to shut down wants afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// It stays stopped, whatever its policy says.
    Stay,
    /// It lives again.
    Again,
}

impl Then {
    /// The word that a guest finds in `control/shutdown` (Xen's docs/misc/xenstore-paths.pandoc).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stay => "poweroff",
            Self::Again => "reboot",
        }
    }
}

/// Why what was asked for is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is doing this, and what was asked for makes no sense then.
    Is(State),
    /// It has no xenstore, so it cannot be asked.
    CannotBeAsked,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(state) => write!(f, "it is {state}"),
            Self::CannotBeAsked => f.write_str("it has no xenstore, so it cannot be asked"),
        }
    }
}

/// What follows when all that a domain held has been given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It stays stopped.
    Stay,
    /// It is to be built again at this time.
    Again {
        /// The time.
        at: u64,
    },
    /// It would live again, but has done so too often.
    GaveUp,
}

/// The life of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    state: State,
    policy: Policy,
    cause: Option<Cause>,
    /// What somebody who asked it to shut down, or ended it, wants afterwards.
    then: Option<Then>,
    /// When it began to run.
    since: u64,
    row: u32,
    restarts: u32,
}

impl Life {
    /// A domain that has not been started.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            state: State::Waiting,
            policy,
            cause: None,
            then: None,
            since: 0,
            row: 0,
            restarts: 0,
        }
    }

    /// What it is doing.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why it ended last, or is ending.
    #[must_use]
    pub const fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// How often it has been built again.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Restarts in a row.
    #[must_use]
    pub const fn row(&self) -> u32 {
        self.row
    }

    /// Its policy.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// What is wanted after a shutdown that it was asked for and has not carried out; `None` if it was not asked.
    #[must_use]
    pub const fn asked(&self) -> Option<Then> {
        if self.state.is_alive() {
            self.then
        } else {
            None
        }
    }

    /// It is to be built now.
    ///
    /// # Errors
    /// It lives, or is on its way from one life to the next.
    pub fn start(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Waiting | State::Stopped | State::Delayed { .. } => {
                self.restarts = self
                    .restarts
                    .saturating_add(u32::from(self.cause.is_some()));
                self.state = State::Building;
                Ok(())
            }
            state => Err(Refusal::Is(state)),
        }
    }

    /// It has been built, and runs from now on.
    pub fn built(&mut self, now: u64) {
        if self.state == State::Building {
            self.state = State::Running;
            self.since = now;
            self.then = None;
        }
    }

    /// It could not be built: what it holds is to be given back.
    pub fn failed(&mut self) {
        if self.state == State::Building {
            self.state = State::Releasing;
            self.cause = Some(Cause::NotBuilt);
            self.then = Some(Then::Stay);
        }
    }

    /// Its vCPUs are held back from now on.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Running => {
                self.state = State::Paused;
                Ok(())
            }
            state => Err(Refusal::Is(state)),
        }
    }

    /// Its vCPUs run again.
    ///
    /// # Errors
    /// It is not paused.
    pub fn resume(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Paused => {
                self.state = State::Running;
                Ok(())
            }
            state => Err(Refusal::Is(state)),
        }
    }

    /// It was asked to shut down. Asked again, the last one counts.
    ///
    /// # Errors
    /// It does not run: while it is paused it would not hear.
    pub fn ask(&mut self, then: Then) -> Result<(), Refusal> {
        match self.state {
            State::Running => {
                self.then = Some(then);
                Ok(())
            }
            state => Err(Refusal::Is(state)),
        }
    }

    /// It is to end for this cause. `true` for who is first, and does the rest.
    #[must_use]
    pub fn end(&mut self, cause: Cause) -> bool {
        let begins = self.state.is_alive();
        if begins {
            self.state = State::Stopping;
            self.cause = Some(cause);
            // A reboot that was asked for may come as any end; what the operator wants counts.
            self.then = match cause {
                Cause::Destroyed => Some(Then::Stay),
                Cause::Restarted => Some(Then::Again),
                Cause::Guest(_) | Cause::NoAnswer | Cause::NotBuilt => self.then,
            };
        }
        begins
    }

    /// It is not to live on, nor again. `true` if its end begins with this.
    ///
    /// # Errors
    /// It does not live.
    pub fn destroy(&mut self) -> Result<bool, Refusal> {
        match self.state {
            State::Running | State::Paused => Ok(self.end(Cause::Destroyed)),
            State::Stopping | State::Releasing => {
                self.then = Some(Then::Stay);
                Ok(false)
            }
            State::Delayed { .. } => {
                self.state = State::Releasing;
                self.then = Some(Then::Stay);
                Ok(false)
            }
            State::Waiting | State::Building | State::Stopped => Err(Refusal::Is(self.state)),
        }
    }

    /// No CPU has state of it any more. `true` for who is first, and does the rest.
    #[must_use]
    pub fn unloaded(&mut self) -> bool {
        let begins = self.state == State::Stopping;
        if begins {
            self.state = State::Releasing;
        }
        begins
    }

    /// Nothing of its last life can be reached any more: what follows.
    #[must_use]
    pub fn released(&mut self, now: u64) -> Next {
        if self.state != State::Releasing {
            return Next::Stay;
        }
        let cause = self.cause.unwrap_or(Cause::Destroyed);
        let next = match self.then {
            Some(Then::Stay) => Next::Stay,
            Some(Then::Again) => Next::Again { at: now },
            None => self.by_policy(cause, now),
        };
        self.then = None;
        self.state = match next {
            Next::Again { at } => State::Delayed { until: at },
            Next::Stay | Next::GaveUp => State::Stopped,
        };
        next
    }

    fn by_policy(&mut self, cause: Cause, now: u64) -> Next {
        if !self.policy.wants(cause) {
            return Next::Stay;
        }
        if now.saturating_sub(self.since) >= STEADY {
            self.row = 0;
        }
        if self.policy.limit != 0 && self.row >= self.policy.limit {
            return Next::GaveUp;
        }
        self.row = self.row.saturating_add(1);
        Next::Again {
            at: now.saturating_add(self.policy.delay(self.row)),
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "life_tests.rs"]
mod tests;
