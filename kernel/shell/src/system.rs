//! What the shell asks of the machine: facts as plain values, one at a time, and deeds. The image implements it on
//! the real thing, tests on a small one.

use core::fmt::{self, Write};

use arrayvec::ArrayString;

use crate::scrollback::LogLine;

/// A guest's place in the list of all: 0 and up, the same for as long as the machine runs.
pub type GuestIndex = usize;

/// Some words about something.
pub type Label = ArrayString<32>;

/// A line about a failure.
pub type FailureLine = ArrayString<224>;

/// Something in words, as many of them as there is room for.
pub fn cut<const ROOM: usize>(of: &dyn fmt::Display) -> ArrayString<ROOM> {
    struct Cut<const ROOM: usize>(ArrayString<ROOM>);
    impl<const ROOM: usize> Write for Cut<ROOM> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            text.chars()
                .try_for_each(|character| self.0.try_push(character).map_err(|_| fmt::Error))
        }
    }
    let mut text = Cut(ArrayString::new());
    let _ = write!(text, "{of}");
    text.0
}

/// How a guest does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestState {
    /// Described, and never started.
    NotStarted,
    /// Some vCPU runs, or waits for a CPU.
    Running,
    /// All vCPUs wait for something to happen, or are off.
    Waiting,
    /// Held by the operator.
    Paused,
    /// Being built.
    Starting,
    /// On its way out.
    Stopping,
    /// Over for now: it lives again soon.
    Restarting,
    /// Over.
    Stopped,
}

impl GuestState {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "not started",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Starting => "starting",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// A guest.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Its domain number.
    pub id: u16,
    /// Its name.
    pub name: &'a str,
    /// How it does.
    pub state: GuestState,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Bytes of RAM that it has now.
    pub memory: u64,
    /// Since when it has been there, in nanoseconds up to now; 0 if it is over.
    pub age: u64,
    /// How long its vCPUs have run, all together, in nanoseconds.
    pub ran: u64,
    /// Times that it was started again.
    pub restarts: u32,
    /// Why it stopped last, if it ever did.
    pub last_stop: Option<Label>,
}

/// More about a guest.
#[derive(Clone, Copy, Debug)]
pub struct Details {
    /// Version of its interrupt controller.
    pub gic: u32,
    /// It has an emulated UART.
    pub uart: bool,
    /// It has a PV console.
    pub console_ring: bool,
    /// Blocks that it uses of the store, and may use; `None` if it has no store.
    pub store: Option<(u16, u16)>,
    /// Pages of RAM in its map, and at most.
    pub pages: (u64, u64),
}

/// What a vCPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VcpuState {
    /// On a CPU.
    Running,
    /// Waits for a CPU.
    Ready,
    /// Waits for an event.
    Blocked,
    /// Switched off, or its guest is over.
    Off,
}

impl VcpuState {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Blocked => "blocked",
            Self::Off => "off",
        }
    }
}

/// A vCPU.
#[derive(Clone, Copy, Debug)]
pub struct Vcpu {
    /// What it does.
    pub state: VcpuState,
    /// The CPU that it runs on, or last did.
    pub cpu: usize,
    /// A bit for each CPU that it may run on.
    pub affinity: u64,
    /// Nanoseconds that it ran.
    pub ran: u64,
    /// Nanoseconds that it waited for a CPU.
    pub waited: u64,
    /// Times that it left its guest.
    pub exits: u64,
    /// Interrupts that became pending for it.
    pub interrupts: u64,
    /// Times that it went to another CPU.
    pub moves: u64,
}

/// An interrupt that is enabled, pending or active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// Its number.
    pub intid: u32,
    /// The vCPU whose it is, or that it goes to.
    pub vcpu: Option<u32>,
    /// Its priority, 0 is the greatest.
    pub priority: u8,
    /// Edge-triggered; else level-sensitive.
    pub edge: bool,
    /// Enabled.
    pub enabled: bool,
    /// Pending.
    pub pending: bool,
    /// Active.
    pub active: bool,
    /// In a list register, which has the last word on pending and active.
    pub listed: bool,
}

/// What an event channel is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// A domain that may connect.
    Unbound(u16),
    /// A port of a domain.
    Interdomain(u16, u32),
    /// A virtual interrupt.
    Virq(u32),
    /// The domain's own vCPUs.
    Ipi,
    /// The hypervisor's console.
    Console,
    /// The hypervisor's store.
    Store,
}

/// A port in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port {
    /// Its number.
    pub port: u32,
    /// What it is bound to.
    pub bound: Bound,
    /// The vCPU that is told.
    pub vcpu: u32,
    /// An event is pending; `None` if that is in the guest's own pages alone.
    pub pending: Option<bool>,
    /// It is masked; as above.
    pub masked: Option<bool>,
}

/// A grant that somebody uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Its reference in the granter's table.
    pub reference: u32,
    /// Frame number, of the machine.
    pub frame: u64,
    /// Who uses it.
    pub user: u16,
    /// Uses of it at once, to read only.
    pub readers: u32,
    /// Uses of it at once, to write.
    pub writers: u32,
}

/// The machine's memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// What guests can have in all.
    pub pool: u64,
    /// What is free of that.
    pub free: u64,
    /// The hypervisor's image, with its data and stacks.
    pub image: u64,
    /// The hypervisor's heap, in use.
    pub heap_used: u64,
    /// The hypervisor's heap.
    pub heap: u64,
}

/// Requests to the store, as the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreRequest<'a> {
    /// Names of the children, each ended by a zero byte.
    Directory(&'a str),
    /// A value.
    Read(&'a str),
    /// Sets a value.
    Write(&'a str, &'a str),
    /// Removes a node and all below.
    Remove(&'a str),
}

/// Most bytes that the store answers.
pub const MAX_REPLY: usize = 4096;

/// Whose log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogOf {
    /// The hypervisor's.
    Hypervisor,
    /// A guest's.
    Guest(GuestIndex),
}

/// How the binary trace stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Records are made.
    pub on: bool,
    /// They are sent to a UART of their own.
    pub sent: bool,
    /// Records that were ever made.
    pub written: u64,
    /// Those of them that were overwritten before they were sent, or that nobody can read any more.
    pub lost: u64,
    /// The last records of each CPU that are kept.
    pub kept: u64,
}

/// A record of the trace as text: what the tool on the workstation reads.
pub type TraceLine = ArrayString<80>;

/// How far the last records of the trace have been told; the default is their beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TracePlace {
    /// What is being told: some facts first, then CPU by CPU.
    pub part: usize,
    /// Of a CPU: the number of the next record.
    pub record: u64,
    /// How many of its records are still to be told; 0 before the first.
    pub left: u64,
}

/// What becomes of the whole machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    /// It starts again.
    Reboot,
    /// It is switched off.
    Off,
}

/// What becomes of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Its vCPUs are held back.
    Pause,
    /// They go on.
    Resume,
    /// It is asked to shut down, and destroyed if it has not in so many seconds.
    Shutdown(u32),
    /// It ends at once.
    Destroy,
    /// It ends at once, and lives again.
    Restart,
    /// It lives: one that has not been started, or is over.
    Create,
    /// Its debug interrupt (`VIRQ_DEBUG`) is raised on each vCPU.
    Debug,
}

/// How a vCPU is scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Its share against others that want the CPU.
    pub weight: u16,
    /// A bit for each CPU that it may run on.
    pub affinity: u64,
    /// What it is promised before those that share: so many microseconds of every so many.
    pub budget: Option<(u32, u32)>,
}

/// A change of it, as it was typed: whoever carries it out knows the ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// The weight.
    Weight(u64),
    /// The CPUs, as a mask; all ones for all that there are.
    Affinity(u64),
    /// Microseconds of every so many microseconds.
    Budget(u64, u64),
    /// It is promised nothing.
    NoBudget,
}

/// Why something was not done: some words for the operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused(ArrayString<80>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Refused {
    /// In these words; what is too long is cut.
    #[must_use]
    pub fn because(why: &dyn fmt::Display) -> Self {
        Self(cut(why))
    }

    /// What an error of the store means (the names are those of `xs_wire.h`).
    #[must_use]
    pub fn by_store(name: &[u8]) -> Self {
        Self::because(&match name {
            b"ENOENT" => "there is no such node",
            b"EINVAL" => "that is no path, or no request",
            b"EEXIST" => "it is there already",
            b"EBUSY" | b"EAGAIN" => "the store is busy; try again",
            b"ENOSPC" | b"EDQUOT" | b"E2BIG" => "the store has no room for it",
            b"EACCES" | b"EPERM" => "that is not allowed",
            _ => "the store refuses",
        })
    }
}

/// The machine, as the shell sees it. A question is answered in a bounded number of steps; those that walk through
/// something say where they stopped.
pub trait System {
    /// Nanoseconds since some moment before the boot's end.
    fn now(&self) -> u64;
    /// CPUs that are up.
    fn cpus(&self) -> usize;
    /// A CPU that is up: its number, and the nanoseconds that it had nothing to do.
    fn cpu(&self, index: usize) -> Option<(usize, u64)>;
    /// How many guests there are.
    fn guests(&self) -> usize;
    /// Number and name of one of them.
    fn name(&self, guest: GuestIndex) -> Option<(u16, &str)>;
    /// One of them.
    fn guest(&self, guest: GuestIndex) -> Option<Guest<'_>>;
    /// More about it.
    fn details(&self, guest: GuestIndex) -> Option<Details>;
    /// A line of what is known of its last failure; `None` behind the last, or if it never failed.
    fn failure(&self, guest: GuestIndex, line: u32) -> Option<FailureLine>;
    /// One of its vCPUs.
    fn vcpu(&self, guest: GuestIndex, vcpu: u32) -> Option<Vcpu>;
    /// The first interrupt at or behind a place that is enabled, pending or active, if a few of them were looked
    /// through, and the next place; `None` behind the last. Places number a guest's private interrupts vCPU by vCPU and
    /// then the shared ones.
    fn interrupt(&self, guest: GuestIndex, place: u32) -> Option<(Option<Interrupt>, u32)>;
    /// The same for ports in use.
    fn port(&self, guest: GuestIndex, place: u32) -> Option<(Option<Port>, u32)>;
    /// The same for grants that somebody uses.
    fn grant(&self, guest: GuestIndex, place: u32) -> Option<(Option<Grant>, u32)>;
    /// The machine's memory.
    fn memory(&self) -> Memory;
    /// Asks the store; the reply, as much of it as fits, and its length.
    ///
    /// # Errors
    /// What is wrong.
    fn store(&mut self, request: StoreRequest<'_>, reply: &mut [u8]) -> Result<usize, Refused>;
    /// A line of a log, and the position of the next one.
    fn log(&self, of: LogOf, position: u64) -> Option<(LogLine, u64)>;
    /// Position behind the last line of a log.
    fn log_end(&self, of: LogOf) -> u64;
    /// How the binary trace stands.
    fn trace(&self) -> Trace;
    /// A step of switching the trace on or off; whether it is done.
    ///
    /// # Errors
    /// It cannot be.
    fn set_trace(&mut self, on: bool) -> Result<bool, Refused>;
    /// What stands at a place of the last records, so many of each CPU, if there is something, and where it goes on;
    /// `None` at the end.
    fn trace_line(&self, last: u32, place: TracePlace) -> Option<(Option<TraceLine>, TracePlace)>;
    /// Does something with a guest. What takes time goes on by itself.
    ///
    /// # Errors
    /// It cannot be done now.
    fn act(&mut self, guest: GuestIndex, action: Action) -> Result<(), Refused>;
    /// How one of a guest's vCPUs is scheduled.
    fn settings(&self, guest: GuestIndex, vcpu: u32) -> Option<Settings>;
    /// Changes that, from now on.
    ///
    /// # Errors
    /// What was typed is out of its range, or cannot be had.
    fn set(&mut self, guest: GuestIndex, vcpu: u32, setting: Setting) -> Result<(), Refused>;
    /// Gives the input to a guest.
    ///
    /// # Errors
    /// It is over.
    fn give_input(&mut self, guest: GuestIndex) -> Result<(), Refused>;
    /// Ends or restarts the whole machine; may return if there is no way to.
    fn power(&mut self, power: Power);
}

/// Where the shell writes.
pub trait Output {
    /// A whole line.
    fn line(&mut self, line: core::fmt::Arguments<'_>);
    /// The unfinished line, in place of what it was.
    fn edit(&mut self, line: &[u8]);
}
