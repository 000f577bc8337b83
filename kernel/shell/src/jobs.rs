//! What commands do, a step at a time: each step writes a line or two, or none.

mod settings;
mod trace;
mod walks;

use crate::command::{COMMANDS, Command, FOR_EVER};
use crate::format::{Cpus, Percent, Seconds, Size};
use crate::shell::Scratch;
use crate::system::{Guest, GuestIndex, GuestState, LogOf, Output, Power, System, TracePlace};

/// Between two rounds of `top`, in nanoseconds.
const ROUND: u64 = 1_000_000_000;
/// How a job goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// There is more to do.
    More,
    /// There is more to do at that time.
    Wait(u64),
    /// That was all.
    Done,
}

/// A command that is being carried out, and how far it has come.
pub(crate) struct Job {
    command: Command,
    /// Whether its head has been written.
    begun: bool,
    guest: GuestIndex,
    item: u32,
    /// Where in a log it is, and where that ends; or when the next round begins.
    position: u64,
    end: u64,
    traced: TracePlace,
}

impl Job {
    pub(crate) fn new(command: Command, system: &dyn System) -> Self {
        let end = match command {
            Command::Log(of) => system.log_end(log_of(of)),
            _ => 0,
        };
        let guest = match command {
            Command::Vcpus(Some(guest)) => guest,
            _ => 0,
        };
        Self {
            command,
            begun: false,
            guest,
            item: 0,
            position: 0,
            end,
            traced: TracePlace::default(),
        }
    }

    /// Whether any key ends it, and not only Ctrl-C.
    pub(crate) fn ends_at_any_key(&self) -> bool {
        matches!(self.command, Command::Top(FOR_EVER))
    }

    /// Does a piece.
    pub(crate) fn step(
        &mut self,
        scratch: &mut Scratch,
        system: &mut dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        match &self.command {
            Command::Help(Some(entry)) => {
                output.line(format_args!("usage: {}", entry.usage));
                output.line(format_args!("{}", entry.help));
                Progress::Done
            }
            Command::Help(None) => self.help(output),
            Command::List => self.list(system, output),
            Command::Top(rounds) => {
                let rounds = *rounds;
                self.top(rounds, scratch, system, output)
            }
            Command::Info(guest) => {
                let guest = *guest;
                self.info(guest, system, output)
            }
            Command::Vcpus(only) => {
                let only = only.is_some();
                self.vcpus(only, system, output)
            }
            Command::Mem => self.memory(system, output),
            Command::Irqs(guest) => {
                let guest = *guest;
                self.interrupts(guest, system, output)
            }
            Command::Events(guest) => {
                let guest = *guest;
                self.events(guest, system, output)
            }
            Command::Grants(guest) => {
                let guest = *guest;
                self.grants(guest, system, output)
            }
            Command::Store(verb, path, value) => {
                let (verb, path, value) = (*verb, *path, *value);
                self.store(verb, &path, &value, scratch, system, output)
            }
            Command::Console(guest) => {
                if let Err(refused) = system.give_input(*guest) {
                    output.line(format_args!("{refused}"));
                }
                Progress::Done
            }
            Command::Act(guest, action) => {
                if let Err(refused) = system.act(*guest, *action) {
                    output.line(format_args!("{refused}"));
                }
                Progress::Done
            }
            Command::Set(guest, order) => {
                let (guest, order) = (*guest, *order);
                self.set(guest, order, system, output)
            }
            Command::Log(of) => {
                let of = log_of(*of);
                self.log(of, system, output)
            }
            Command::Trace(verb) => {
                let verb = *verb;
                self.trace(verb, system, output)
            }
            Command::Power(power) => {
                system.power(*power);
                let what = match power {
                    Power::Reboot => "start this board again",
                    Power::Off => "switch this board off",
                };
                output.line(format_args!("there is no way to {what}"));
                Progress::Done
            }
        }
    }

    /// Writes the head of a table the first time; whether it did.
    fn head(&mut self, output: &mut dyn Output, head: &str) -> bool {
        if self.begun {
            return false;
        }
        self.begun = true;
        output.line(format_args!("{head}"));
        true
    }

    fn help(&mut self, output: &mut dyn Output) -> Progress {
        let Some(entry) = COMMANDS.get(self.item as usize) else {
            return Progress::Done;
        };
        output.line(format_args!("{:<9} {}", entry.name, entry.help));
        self.item += 1;
        Progress::More
    }

    fn list(&mut self, system: &dyn System, output: &mut dyn Output) -> Progress {
        let head = " ID NAME                 STATE       VCPUS  CPU %    MEMORY RESTARTS LAST STOP";
        if self.head(output, head) {
            return Progress::More;
        }
        if self.guest >= system.guests() {
            return Progress::Done;
        }
        if let Some(guest) = system.guest(self.guest) {
            output.line(format_args!(
                "{:>3} {:<20} {:<11} {:>5} {:>6} {:>9} {:>8} {}",
                guest.id,
                guest.name,
                guest.state.name(),
                guest.vcpus,
                Share(&guest),
                Size(guest.memory),
                guest.restarts,
                guest.last_stop.as_deref().unwrap_or("-"),
            ));
        }
        self.guest += 1;
        Progress::More
    }

    /// A round: all CPUs and guests are measured, and what each did since the round before is shown, but for the first.
    fn top(
        &mut self,
        rounds: u32,
        scratch: &mut Scratch,
        system: &dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        let now = system.now();
        if now < self.position {
            return Progress::Wait(self.position);
        }
        let first = self.item == 0;
        let cpus = system.cpus();
        if self.guest == 0 && !first {
            let how = if rounds == FOR_EVER {
                " (any key ends this)"
            } else {
                ""
            };
            output.line(format_args!("NAME              STATE        CPU %{how}"));
        }
        let Some(sample) = scratch.samples.get_mut(self.guest) else {
            return Progress::Done;
        };
        let mut difference = |time: u64| {
            let (before, at) = core::mem::replace(sample, (time, now));
            Percent {
                part: time.saturating_sub(before),
                whole: now.saturating_sub(at),
            }
        };
        if let Some((number, idle)) = system.cpu(self.guest) {
            let idle = difference(idle);
            if !first {
                output.line(format_args!("CPU {number:<13} idle        {idle:>6}"));
            }
        } else if let Some(guest) = system.guest(self.guest.saturating_sub(cpus)) {
            let ran = difference(guest.ran);
            if !first && guest.state != GuestState::Stopped {
                let state = guest.state.name();
                output.line(format_args!("{:<17} {state:<11} {ran:>6}", guest.name));
            }
        }
        self.guest += 1;
        if self.guest < cpus.saturating_add(system.guests()) {
            return Progress::More;
        }
        self.guest = 0;
        if self.item == rounds {
            return Progress::Done;
        }
        self.item = self.item.saturating_add(1).min(FOR_EVER - 1);
        self.position = now.saturating_add(ROUND);
        Progress::Wait(self.position)
    }

    fn info(
        &mut self,
        guest: GuestIndex,
        system: &dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        let (Some(it), Some(details)) = (system.guest(guest), system.details(guest)) else {
            output.line(format_args!("it is gone"));
            return Progress::Done;
        };
        let yes = |there| if there { "yes" } else { "no" };
        match self.item {
            0 => output.line(format_args!("name      {} (domain {})", it.name, it.id)),
            1 => {
                let stop = it.last_stop.as_deref().unwrap_or("-");
                let (state, restarts) = (it.state.name(), it.restarts);
                let since = Seconds(it.age);
                match it.age {
                    0 => output.line(format_args!(
                        "state     {state}; restarts: {restarts}, last stop: {stop}"
                    )),
                    _ => output.line(format_args!(
                        "state     {state}, started {since} ago; restarts: {restarts}, last stop: {stop}"
                    )),
                }
            }
            // EL2 does not see a vCPU wait that is alone on its CPU.
            2 => output.line(format_args!(
                "vCPUs     {}, ran for {} (with waiting alone on a CPU)",
                it.vcpus,
                Seconds(it.ran),
            )),
            3 => output.line(format_args!(
                "memory    {}; {} of {} pages in its map",
                Size(it.memory),
                details.pages.0,
                details.pages.1
            )),
            4 => output.line(format_args!(
                "devices   GICv{}; UART: {}; PV console: {}",
                details.gic,
                yes(details.uart),
                yes(details.console_ring),
            )),
            5 => match details.store {
                Some((used, most)) => output.line(format_args!(
                    "store     /local/domain/{}; {used} of {most} blocks in use",
                    it.id
                )),
                None => output.line(format_args!("store     none")),
            },
            // What its last failure left, if it had one.
            item => match system.failure(guest, item.saturating_sub(6)) {
                Some(line) if item == 6 => output.line(format_args!("failure   {line}")),
                Some(line) => output.line(format_args!("          {line}")),
                None => return Progress::Done,
            },
        }
        self.item += 1;
        Progress::More
    }

    fn vcpus(&mut self, only: bool, system: &dyn System, output: &mut dyn Output) -> Progress {
        let head = "NAME         VCPU STATE   CPU AFFINITY      RAN   WAITED    EXITS  INTRS MOVES";
        if self.head(output, head) {
            return Progress::More;
        }
        let Some((_, name)) = system.name(self.guest) else {
            return Progress::Done;
        };
        if let Some(vcpu) = system.vcpu(self.guest, self.item) {
            output.line(format_args!(
                "{:<12} {:>4} {:<7} {:>3} {:<8} {:>8} {:>8} {:>8} {:>6} {:>5}",
                name,
                self.item,
                vcpu.state.name(),
                vcpu.cpu,
                Cpus {
                    mask: vcpu.affinity,
                    count: system.cpus()
                },
                Seconds(vcpu.ran),
                Seconds(vcpu.waited),
                vcpu.exits,
                vcpu.interrupts,
                vcpu.moves,
            ));
            self.item += 1;
            return Progress::More;
        }
        (self.guest, self.item) = (self.guest + 1, 0);
        if only { Progress::Done } else { Progress::More }
    }

    fn memory(&mut self, system: &dyn System, output: &mut dyn Output) -> Progress {
        let memory = system.memory();
        match self.item {
            0 => output.line(format_args!(
                "for guests   {:>12}, {} free",
                Size(memory.pool),
                Size(memory.free)
            )),
            1 => output.line(format_args!(
                "hypervisor   {:>12} image, {} heap, {} of that in use",
                Size(memory.image),
                Size(memory.heap),
                Size(memory.heap_used)
            )),
            _ => {
                let Some(guest) = system.guest(self.guest) else {
                    return Progress::Done;
                };
                self.guest += 1;
                if guest.memory != 0 {
                    output.line(format_args!(
                        "{:<12} {:>12}",
                        guest.name,
                        Size(guest.memory)
                    ));
                }
            }
        }
        self.item += 1;
        Progress::More
    }
}

fn log_of(of: Option<GuestIndex>) -> LogOf {
    of.map_or(LogOf::Hypervisor, LogOf::Guest)
}

/// What a guest has had of the CPUs since it was started; nothing if it is over.
struct Share<'g>(&'g Guest<'g>);

impl core::fmt::Display for Share<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0.age {
            0 => f.pad("-"),
            whole => {
                let part = self.0.ran;
                Percent { part, whole }.fmt(f)
            }
        }
    }
}
