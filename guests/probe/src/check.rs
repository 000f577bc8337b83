//! What a test is, and how it says what went wrong.

use alloc::string::String;
use core::time::Duration;
use runtime::{cpu, timer};

/// What a test needs of the machine.
#[derive(Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) hypervisor: bool,
    pub(crate) cpus: usize,
}

/// Nothing but one CPU.
pub(crate) const BARE: Needs = Needs {
    hypervisor: false,
    cpus: 1,
};
/// A hypervisor node in the tree.
pub(crate) const XEN: Needs = Needs {
    hypervisor: true,
    cpus: 1,
};
/// Two CPUs.
pub(crate) const TWO: Needs = Needs {
    hypervisor: false,
    cpus: 2,
};
/// Both.
pub(crate) const XEN_TWO: Needs = Needs {
    hypervisor: true,
    cpus: 2,
};

/// One subject.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: fn() -> Outcome,
}

impl Test {
    pub(crate) const fn new(name: &'static str, needs: Needs, run: fn() -> Outcome) -> Self {
        Self { name, needs, run }
    }
}

/// Why a test did not pass.
pub(crate) enum Trouble {
    Fail(String),
    Skip(&'static str),
}

pub(crate) type Outcome = Result<(), Trouble>;

/// Ends the test with a failure.
macro_rules! fail {
    ($($argument:tt)*) => {
        return Err($crate::check::Trouble::Fail(alloc::format!($($argument)*)))
    };
}

/// Fails unless the condition holds.
macro_rules! check {
    ($condition:expr, $($argument:tt)*) => {
        if !$condition {
            $crate::check::fail!($($argument)*);
        }
    };
}

/// Fails unless a value is what it should be; says both.
macro_rules! equal {
    ($found:expr, $wanted:expr, $($argument:tt)*) => {
        match ($found, $wanted) {
            (found, wanted) => if found != wanted {
                $crate::check::fail!("{}: {:x?}, not {:x?}", format_args!($($argument)*), found, wanted);
            }
        }
    };
}

pub(crate) use {check, equal, fail};

/// Waits with interrupts on until `done`, for `limit` at most; false if it did not come.
pub(crate) fn within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = timer::now() + timer::ticks(limit);
    while timer::now() < end {
        if done() {
            return true;
        }
        core::hint::spin_loop();
    }
    done()
}

/// As [`within`], with patience: an emulated CPU may stand still for seconds where others want the processor.
pub(crate) fn soon(done: impl FnMut() -> bool) -> bool {
    within(Duration::from_secs(20), done)
}

/// Lets what is pending come: a few exits with interrupts on.
pub(crate) fn settle() {
    timer::spin(Duration::from_millis(2));
}

/// Waits until CPU `index` has switched itself off.
pub(crate) fn is_off_soon(index: usize) -> bool {
    let affinity = cpu::affinity(index).unwrap_or(0);
    within(Duration::from_secs(30), || {
        runtime::psci::affinity_info(affinity, 0) == Ok(1)
    })
}
