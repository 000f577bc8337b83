//! What a record says: the first word of its text, and what follows (`docs/tracing.md`).

use std::fmt;

use abi::hypercall;

/// A vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The domain's id.
    pub domain: u16,
    /// The vCPU's number.
    pub vcpu: u8,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}v{}", self.domain, self.vcpu)
    }
}

/// Why a guest was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A hypercall, by number.
    Hypercall(u64),
    /// A call to firmware: PSCI, SMCCC.
    Firmware,
    /// An access to a device, or to where nothing is.
    Abort,
    /// A trapped system register.
    Register,
    /// WFI or WFE.
    Wait,
    /// An interrupt.
    Interrupt,
    /// SError.
    SError,
    /// Anything else.
    Other,
}

impl Reason {
    /// By exception class (DDI 0487, ESR_EL2).
    fn of_trap(esr: u64) -> Self {
        match esr >> 26 & 0x3f {
            0x01 => Self::Wait,
            0x03..=0x08 | 0x18 => Self::Register,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hypercall(number) => match *number {
                hypercall::MEMORY_OP => "memory_op",
                hypercall::MULTICALL => "multicall",
                hypercall::XEN_VERSION => "xen_version",
                hypercall::CONSOLE_IO => "console_io",
                hypercall::GRANT_TABLE_OP => "grant_table_op",
                hypercall::VM_ASSIST => "vm_assist",
                hypercall::VCPU_OP => "vcpu_op",
                hypercall::SCHED_OP => "sched_op",
                hypercall::EVENT_CHANNEL_OP => "event_channel_op",
                hypercall::HVM_OP => "hvm_op",
                number => return f.pad(&format!("hypercall {number}")),
            },
            Self::Firmware => "firmware",
            Self::Abort => "device",
            Self::Register => "register",
            Self::Wait => "wait",
            Self::Interrupt => "interrupt",
            Self::SError => "serror",
            Self::Other => "other",
        })
    }
}

/// What a vCPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is on a CPU.
    Running,
    /// It waits for a CPU.
    Runnable,
    /// It waits for an event.
    Blocked,
    /// It is off or paused.
    Offline,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Blocked => "blocked",
            Self::Offline => "offline",
        })
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A guest was left.
    Exit(Who, Reason),
    /// A guest goes on.
    Enter(Who),
    /// An interrupt was taken: beside a guest, which was left by it, or while the CPU slept.
    Interrupt(Option<Who>, u64),
    /// An interrupt was put into a list register.
    Inject(Who, u64),
    /// A vCPU was loaded, in place of another.
    Switch(Option<Who>, Who),
    /// What a vCPU does from now on.
    State(Who, State),
    /// The CPU sleeps.
    Idle,
    /// An event was sent.
    Send(u16, u64),
    /// A grant was mapped, or unmapped.
    Grant(u16),
    /// A domain's life took a turn.
    Life(u16),
    /// Records are missing.
    Lost(u64),
    /// What this program does not know.
    Unknown,
}

impl Event {
    /// Reads the text of a record.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::known(text).unwrap_or(Self::Unknown)
    }

    fn known(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let kind = words.next()?;
        let rest: Vec<&str> = words.collect();
        let first = rest.first().copied().unwrap_or_default();
        let number = |name: &str| {
            let word = rest.iter().find_map(|word| word.strip_prefix(name))?;
            value(word.strip_prefix('=')?)
        };
        Some(match kind {
            "hypercall" => Self::Exit(who(first)?, Reason::Hypercall(number("number")?)),
            "firmware" => Self::Exit(who(first)?, Reason::Firmware),
            "abort" => Self::Exit(who(first)?, Reason::Abort),
            "trap" => Self::Exit(who(first)?, Reason::of_trap(number("esr")?)),
            "serror" => Self::Exit(who(first)?, Reason::SError),
            "returned" | "answered" | "enter" => Self::Enter(who(first)?),
            "interrupt" => Self::Interrupt(who(first), number("intid")?),
            "inject" => Self::Inject(who(first)?, number("intid")?),
            "switch" => {
                let to = rest.iter().skip_while(|word| **word != "to").nth(1)?;
                Self::Switch(rest.get(1).and_then(|from| who(from)), who(to)?)
            }
            "running" => Self::State(who(first)?, State::Running),
            "runnable" => Self::State(who(first)?, State::Runnable),
            "blocked" => Self::State(who(first)?, State::Blocked),
            "offline" => Self::State(who(first)?, State::Offline),
            "idle" => Self::Idle,
            "send" => Self::Send(domain(first)?, number("port")?),
            "map" | "unmap" => Self::Grant(domain(first)?),
            "begun" | "paused" | "resumed" | "ending" | "ended" => Self::Life(domain(first)?),
            "lost" => Self::Lost(value(first)?),
            _ => return None,
        })
    }
}

fn value(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn domain(text: &str) -> Option<u16> {
    text.strip_prefix('d')?.parse().ok()
}

fn who(text: &str) -> Option<Who> {
    let (domain_part, vcpu) = text.split_once('v')?;
    Some(Who {
        domain: domain(domain_part)?,
        vcpu: vcpu.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Who = Who { domain: 1, vcpu: 0 };
    const B: Who = Who {
        domain: 12,
        vcpu: 3,
    };

    #[test]
    fn records_are_understood() {
        for (text, event) in [
            (
                "hypercall d1v0 number=32 x0=0x4 x1=0x40100000",
                Event::Exit(A, Reason::Hypercall(32)),
            ),
            (
                "trap d12v3 esr=0x7e000000 pc=0x40080000",
                Event::Exit(B, Reason::Other),
            ),
            (
                "trap d12v3 esr=0x62300000 pc=0x40080000",
                Event::Exit(B, Reason::Register),
            ),
            (
                "trap d12v3 esr=0x6000000 pc=0x40080000",
                Event::Exit(B, Reason::Wait),
            ),
            ("interrupt d1v0 intid=27", Event::Interrupt(Some(A), 27)),
            ("interrupt intid=27", Event::Interrupt(None, 27)),
            ("switch first to d1v0", Event::Switch(None, A)),
            ("switch blocked d12v3 to d1v0", Event::Switch(Some(B), A)),
            ("runnable d12v3", Event::State(B, State::Runnable)),
            ("send d1 port=7 to=d2 remote=3", Event::Send(1, 7)),
            ("idle", Event::Idle),
            ("lost 9", Event::Lost(9)),
        ] {
            assert_eq!(Event::parse(text), event, "{text}");
        }
        for text in [
            "",
            "enter",
            "enter d1",
            "hypercall d1v0",
            "switch x y z",
            "what d1v0",
        ] {
            assert_eq!(Event::parse(text), Event::Unknown, "{text}");
        }
    }
}
