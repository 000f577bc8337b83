//! The console that the hypervisor and all guests share.
//!
//! Pure: bytes come in from sources and from the keyboard, bytes go out for a UART. The EL2 image
//! holds one [`Console`] under a lock, hands its output to the UART whenever that has room, and its
//! input to whom it names.
//!
//! * A line stands under the name of who wrote it, and no other bytes come between: `hello-1| text`.
//! * One source has the input. What it writes appears at once, unfinished lines too, and unchanged but
//!   for the name in front. When another's line comes in between, the unfinished one is taken off the
//!   screen and drawn again below.
//! * The others' lines appear when they are complete, without control characters and escape sequences,
//!   so that a guest can neither clear the screen nor write over another's line.
//! * Memory is bounded, and taken when a source is added. Each has its own share of the queue in front
//!   of the UART; who writes faster than the UART takes loses whole lines of its own, and a line says
//!   how many.
//! * The switch key pressed three times (Xen's `conswitch`) gives the input to the next source.
//! * What each source wrote last is kept, and can be read back ([`Console::log`]).
//!
//! One of the sources is the [`Shell`]: the operator's command line. It sees the machine through [`System`], which it
//! owns and the image implements, and works in steps of a line.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

extern crate alloc;

mod command;
mod complete;
mod console;
mod conswitch;
mod editor;
mod filter;
mod format;
mod jobs;
mod queue;
mod screen;
mod scrollback;
mod shell;
#[cfg(test)]
mod shell_tests;
mod source;
mod system;
#[cfg(test)]
mod tests;

pub use console::{Console, Input, Keys};
pub use conswitch::{BadSwitch, Switch};
pub use format::Cpus;
pub use scrollback::LogLine;
pub use shell::{Next, Shell};
pub use source::{MAX_LINE, MAX_NAME, SourceId};

pub use system::{
    Action, Bound, Details, FailureLine, Grant, Guest, GuestIndex, GuestState, Interrupt, Label,
    LogOf, MAX_REPLY, Memory, Output, Port, Power, Refused, Setting, Settings, StoreRequest,
    System, Trace, TraceLine, TracePlace, Vcpu, VcpuState, cut,
};

use core::fmt;

/// Why a source was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No memory for its share of the queue.
    NoMemory,
    /// 65,535 sources are there already.
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "no memory for a console",
            Self::TooMany => "too many consoles",
        })
    }
}
