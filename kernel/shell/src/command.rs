//! The commands: their table, and what a line means.

use core::fmt;

use arrayvec::ArrayString;

use crate::editor::MAX_COMMAND;
use crate::system::{Action, GuestIndex, Power, Setting, System};

/// A path or a value in the store, as it was typed.
pub(crate) type Word = ArrayString<MAX_COMMAND>;

/// What may stand at a place of a command, for completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The name of a command.
    Command,
    /// A guest's name.
    Guest,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// A command.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) help: &'static str,
    pub(crate) arguments: &'static [Kind],
    parse: fn(Words<'_>, &dyn System) -> Result<Command, Bad>,
}

/// What is to be done.
#[expect(
    clippy::large_enum_variant,
    reason = "one is alive at a time, and a box takes memory"
)]
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Help(Option<&'static Entry>),
    List,
    Top(u32),
    Info(GuestIndex),
    Vcpus(Option<GuestIndex>),
    Irqs(GuestIndex),
    Events(GuestIndex),
    Grants(GuestIndex),
    Store(StoreVerb, Word, Word),
    Mem,
    Act(GuestIndex, Action),
    Set(GuestIndex, Order),
    Console(GuestIndex),
    Log(Option<GuestIndex>),
    Trace(TraceVerb),
    Power(Power),
}

/// What to do with the trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TraceVerb {
    /// Tell how it stands.
    Tell,
    /// Switch it on or off.
    Set(bool),
    /// Show the last records, so many of each CPU.
    Tail(u32),
}

/// Records of each CPU that `trace tail` shows without a number.
const TAIL: u32 = 16;

/// What `set` is to do with a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    /// The change; to show what there is without one.
    pub(crate) setting: Option<Setting>,
    /// Of this vCPU; of all without it.
    pub(crate) vcpu: Option<u32>,
}

/// What to do in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StoreVerb {
    List,
    Read,
    Write,
    Remove,
}

/// Rounds of `top` without a number: until a key is pressed.
pub(crate) const FOR_EVER: u32 = u32::MAX;

/// Seconds that a guest has to shut down.
const PATIENCE: u32 = 30;

/// What is wrong with the arguments of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bad {
    /// Too few, too many, or not what the usage says.
    Usage,
    /// The word at this place names no guest.
    Guest(usize),
    /// The word at this place is not this.
    Word(usize, &'static str),
}

/// What is wrong with a line.
#[derive(Debug)]
pub(crate) enum Wrong<'l> {
    /// Nothing is in it.
    Empty,
    NoCommand(&'l str),
    Usage(&'static Entry),
    NoGuest(&'l str),
    /// A word, and what was expected.
    Word(&'l str, &'static str),
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::NoCommand(name) => write!(f, "no such command: {name} (help lists them)"),
            Self::Usage(entry) => write!(f, "usage: {}", entry.usage),
            Self::NoGuest(name) => write!(f, "no such guest: {name} (list shows them)"),
            Self::Word(word, expected) => write!(f, "{word}: expected {expected}"),
        }
    }
}

/// The words behind a command's name.
#[derive(Clone, Copy)]
pub(crate) struct Words<'l> {
    text: &'l str,
}

impl<'l> Words<'l> {
    // In one place: there are many commands.
    #[inline(never)]
    fn get(self, number: usize) -> Option<&'l str> {
        self.text.split_ascii_whitespace().nth(number)
    }

    /// Exactly so many.
    fn only(self, count: usize) -> Result<Self, Bad> {
        match self.get(count) {
            None => Ok(self),
            Some(_) => Err(Bad::Usage),
        }
    }

    fn guest(self, number: usize, system: &dyn System) -> Result<GuestIndex, Bad> {
        let word = self.get(number).ok_or(Bad::Usage)?;
        find_guest(word, system).ok_or(Bad::Guest(number))
    }

    fn maybe_guest(self, number: usize, system: &dyn System) -> Result<Option<GuestIndex>, Bad> {
        self.get(number)
            .map(|_| self.guest(number, system))
            .transpose()
    }

    /// All behind so many words, as it was typed.
    fn rest(self, skip: usize) -> &'l str {
        let mut text = self.text.trim_ascii_start();
        for _ in 0..skip {
            text = text
                .split_once(' ')
                .map_or("", |(_, rest)| rest.trim_ascii_start());
        }
        text.trim_ascii_end()
    }
}

/// The guest with this name, or with this number.
fn find_guest(word: &str, system: &dyn System) -> Option<GuestIndex> {
    let is = |index: &usize, wanted: &dyn Fn(u16, &str) -> bool| {
        system
            .name(*index)
            .is_some_and(|(id, name)| wanted(id, name))
    };
    (0..system.guests())
        .find(|index| is(index, &|_, name| name == word))
        .or_else(|| {
            let number: u16 = word.parse().ok()?;
            (0..system.guests()).find(|index| is(index, &|id, _| id == number))
        })
}

const GUEST: &[Kind] = &[Kind::Guest];

/// All commands, as `help` lists them.
pub(crate) static COMMANDS: [Entry; 24] = [
    Entry {
        name: "list",
        usage: "list",
        help: "the guests: state, vCPUs, use of CPUs since the start, memory, last stop",
        arguments: &[],
        parse: |words, _| words.only(0).map(|_| Command::List),
    },
    Entry {
        name: "info",
        usage: "info GUEST",
        help: "one guest in more detail",
        arguments: GUEST,
        parse: |words, system| Ok(Command::Info(words.only(1)?.guest(0, system)?)),
    },
    Entry {
        name: "vcpus",
        usage: "vcpus [GUEST]",
        help: "vCPUs: state, CPU, affinity, time",
        arguments: GUEST,
        parse: |words, system| Ok(Command::Vcpus(words.only(1)?.maybe_guest(0, system)?)),
    },
    Entry {
        name: "top",
        usage: "top [ROUNDS]",
        help: "use of the CPUs, every second; any key ends it",
        arguments: &[],
        parse: |words, _| match words.only(1)?.get(0).map(str::parse) {
            None => Ok(Command::Top(FOR_EVER)),
            Some(Ok(rounds @ 1..)) => Ok(Command::Top(rounds)),
            Some(_) => Err(Bad::Usage),
        },
    },
    Entry {
        name: "mem",
        usage: "mem",
        help: "the machine's memory, and who has it",
        arguments: &[],
        parse: |words, _| words.only(0).map(|_| Command::Mem),
    },
    Entry {
        name: "irqs",
        usage: "irqs GUEST",
        help: "interrupts that are enabled, pending or active",
        arguments: GUEST,
        parse: |words, system| Ok(Command::Irqs(words.only(1)?.guest(0, system)?)),
    },
    Entry {
        name: "events",
        usage: "events GUEST",
        help: "event channels in use",
        arguments: GUEST,
        parse: |words, system| Ok(Command::Events(words.only(1)?.guest(0, system)?)),
    },
    Entry {
        name: "grants",
        usage: "grants GUEST",
        help: "grants of a guest that somebody has mapped or copies",
        arguments: GUEST,
        parse: |words, system| Ok(Command::Grants(words.only(1)?.guest(0, system)?)),
    },
    Entry {
        name: "store",
        usage: "store ls PATH | read PATH | write PATH VALUE | rm PATH",
        help: "the store, with the hypervisor's rights",
        arguments: &[Kind::OneOf(&["ls", "read", "write", "rm"])],
        parse: store,
    },
    Entry {
        name: "pause",
        usage: "pause GUEST",
        help: "holds a guest's vCPUs back",
        arguments: GUEST,
        parse: |words, system| act(words, system, Action::Pause),
    },
    Entry {
        name: "resume",
        usage: "resume GUEST",
        help: "lets a paused guest go on",
        arguments: GUEST,
        parse: |words, system| act(words, system, Action::Resume),
    },
    Entry {
        name: "shutdown",
        usage: "shutdown GUEST [SECONDS]",
        help: "asks a guest to shut down, and destroys it if it has not in 30 s, or so many",
        arguments: GUEST,
        parse: |words, system| {
            let guest = words.only(2)?.guest(0, system)?;
            let seconds = words.get(1).map_or(Ok(PATIENCE), str::parse);
            let seconds = seconds.map_err(|_| Bad::Usage)?;
            Ok(Command::Act(guest, Action::Shutdown(seconds)))
        },
    },
    Entry {
        name: "destroy",
        usage: "destroy GUEST",
        help: "ends a guest at once",
        arguments: GUEST,
        parse: |words, system| act(words, system, Action::Destroy),
    },
    Entry {
        name: "restart",
        usage: "restart GUEST",
        help: "ends a guest at once, and starts it again",
        arguments: GUEST,
        parse: |words, system| act(words, system, Action::Restart),
    },
    Entry {
        name: "create",
        usage: "create GUEST",
        help: "starts a guest that was not started, or is over",
        arguments: GUEST,
        parse: |words, system| act(words, system, Action::Create),
    },
    Entry {
        name: "set",
        usage: "set GUEST [weight N | affinity CPUS | budget US PERIOD-US | budget none] [VCPU]",
        help: "how a guest's vCPUs share the CPUs: shows it, or changes it for all or one",
        arguments: &[Kind::Guest, Kind::OneOf(&["weight", "affinity", "budget"])],
        parse: set,
    },
    Entry {
        name: "virq",
        usage: "virq GUEST",
        help: "raises VIRQ_DEBUG on each vCPU: a guest that has bound it tells of itself",
        arguments: GUEST,
        parse: |words, system| act(words, system, Action::Debug),
    },
    Entry {
        name: "console",
        usage: "console GUEST",
        help: "gives the input to a guest; the switch key three times goes on to the next",
        arguments: GUEST,
        parse: |words, system| Ok(Command::Console(words.only(1)?.guest(0, system)?)),
    },
    Entry {
        name: "log",
        usage: "log [GUEST]",
        help: "the last lines of a guest, or of the hypervisor",
        arguments: GUEST,
        parse: |words, system| Ok(Command::Log(words.only(1)?.maybe_guest(0, system)?)),
    },
    Entry {
        name: "trace",
        usage: "trace [on | off | tail [COUNT]]",
        help: "the binary trace: how it stands; its last records, for `just trace file=LOG`",
        arguments: &[Kind::OneOf(&["on", "off", "tail"])],
        parse: trace,
    },
    Entry {
        name: "reboot",
        usage: "reboot",
        help: "starts the board again, at once",
        arguments: &[],
        parse: |words, _| words.only(0).map(|_| Command::Power(Power::Reboot)),
    },
    Entry {
        name: "poweroff",
        usage: "poweroff",
        help: "switches the board off, at once",
        arguments: &[],
        parse: |words, _| words.only(0).map(|_| Command::Power(Power::Off)),
    },
    Entry {
        name: "help",
        usage: "help [COMMAND]",
        help: "the commands, or one of them",
        arguments: &[Kind::Command],
        parse: help,
    },
    Entry {
        name: "?",
        usage: "? [COMMAND]",
        help: "the same",
        arguments: &[Kind::Command],
        parse: help,
    },
];

fn act(words: Words<'_>, system: &dyn System, action: Action) -> Result<Command, Bad> {
    Ok(Command::Act(words.only(1)?.guest(0, system)?, action))
}

fn help(words: Words<'_>, _: &dyn System) -> Result<Command, Bad> {
    let Some(name) = words.only(1)?.get(0) else {
        return Ok(Command::Help(None));
    };
    entry(name)
        .map(|entry| Command::Help(Some(entry)))
        .ok_or(Bad::Usage)
}

fn store(words: Words<'_>, _: &dyn System) -> Result<Command, Bad> {
    let verb = match words.get(0) {
        Some("ls") => StoreVerb::List,
        Some("read") => StoreVerb::Read,
        Some("write") => StoreVerb::Write,
        Some("rm") => StoreVerb::Remove,
        _ => return Err(Bad::Usage),
    };
    let path = match (words.get(1), verb) {
        (Some(path), _) => path,
        (None, StoreVerb::List) => "/",
        (None, _) => return Err(Bad::Usage),
    };
    let value = if verb == StoreVerb::Write {
        // An empty value is a value.
        words.rest(2)
    } else {
        words.only(2)?;
        ""
    };
    let word = |text| Word::from(text).map_err(|_| Bad::Usage);
    Ok(Command::Store(verb, word(path)?, word(value)?))
}

fn trace(words: Words<'_>, _: &dyn System) -> Result<Command, Bad> {
    let verb = match words.get(0) {
        None => TraceVerb::Tell,
        Some("tail") => match words.only(2)?.get(1).map_or(Ok(TAIL), str::parse) {
            Ok(count @ 1..) => TraceVerb::Tail(count),
            _ => return Err(Bad::Usage),
        },
        Some(how) => match (words.only(1)?, how) {
            (_, "on") => TraceVerb::Set(true),
            (_, "off") => TraceVerb::Set(false),
            _ => return Err(Bad::Usage),
        },
    };
    Ok(Command::Trace(verb))
}

fn set(words: Words<'_>, system: &dyn System) -> Result<Command, Bad> {
    const NUMBER: &str = "a number";
    let guest = words.guest(0, system)?;
    let number = |at: usize| {
        let word = words.get(at).ok_or(Bad::Usage)?;
        word.parse::<u64>().map_err(|_| Bad::Word(at, NUMBER))
    };
    let (setting, used) = match words.get(1) {
        None => (None, 1),
        Some("weight") => (Some(Setting::Weight(number(2)?)), 3),
        Some("affinity") => {
            let cpus = words.get(2).ok_or(Bad::Usage)?;
            let expected = "CPUs like 0-1,3, or all";
            let mask = mask_of(cpus).ok_or(Bad::Word(2, expected))?;
            (Some(Setting::Affinity(mask)), 3)
        }
        Some("budget") if words.get(2) == Some("none") => (Some(Setting::NoBudget), 3),
        Some("budget") => (Some(Setting::Budget(number(2)?, number(3)?)), 4),
        // What there is, of one vCPU.
        Some(_) => (None, 1),
    };
    let vcpu = words.only(used + 1)?.get(used).map(|word| {
        let expected = "the number of a vCPU, or weight, affinity, budget";
        word.parse().map_err(|_| Bad::Word(used, expected))
    });
    let vcpu = vcpu.transpose()?;
    Ok(Command::Set(guest, Order { setting, vcpu }))
}

/// The CPUs of a list of numbers and ranges below 64; all ones for `all`.
fn mask_of(list: &str) -> Option<u64> {
    if list == "all" {
        return Some(u64::MAX);
    }
    let mut mask = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= u64::BITS {
            return None;
        }
        let length = last - first + 1;
        mask |= u64::MAX >> (u64::BITS - length) << first;
    }
    Some(mask)
}

/// The command with this name.
pub(crate) fn entry(name: &str) -> Option<&'static Entry> {
    COMMANDS.iter().find(|entry| entry.name == name)
}

/// What a line means.
pub(crate) fn parse<'l>(line: &'l str, system: &dyn System) -> Result<Command, Wrong<'l>> {
    let line = line.trim_ascii();
    let (name, text) = line.split_once(' ').unwrap_or((line, ""));
    if name.is_empty() {
        return Err(Wrong::Empty);
    }
    let entry = entry(name).ok_or(Wrong::NoCommand(name))?;
    let words = Words { text };
    (entry.parse)(words, system).map_err(|bad| match bad {
        Bad::Guest(number) => Wrong::NoGuest(words.get(number).unwrap_or("")),
        Bad::Word(number, expected) => Wrong::Word(words.get(number).unwrap_or(""), expected),
        Bad::Usage => Wrong::Usage(entry),
    })
}
