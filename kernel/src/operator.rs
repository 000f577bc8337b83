//! The operator's shell: the machine as the shell sees it ([`shell::System`]), and who drives it.
//!
//! The shell works in steps between guests, on the CPU that took the key or the one that served it last, when its part
//! of the console's queue has room. Its lock is taken before all others, and never waited for: who has it looks again
//! when it has given it back.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use ::memory::{CHUNK_SIZE, PAGE_SIZE};
use abi::event_channel::VIRQ_DEBUG;
use domain::life::{State, Then};
use domain::lifecycle::Power as Activity;
use shell::{
    Action, Bound, Details, FailureLine, Grant, Guest, GuestIndex, GuestState, Interrupt, LogLine,
    LogOf, Memory, Next, Port, Power, Refused, Setting, Settings, Shell, StoreRequest, System,
    Trace, TraceLine, TracePlace, Vcpu, VcpuState, cut,
};
use sync::SpinLock;
use vgic::VcpuId;
use xen::{PortBinding, Service};

use crate::console::{self, Source};
use crate::hypercalls::Machine;
use crate::machine::{self, Domain};
use crate::{
    cpus, crash, hypercalls, interrupts, lifecycle, memory_map, power, statistics, store, trace,
    tuning,
};

static SHELL: SpinLock<Option<Shell>> = SpinLock::new(None);

/// The shell has something to do: counted among those who wait for room on the console.
static BUSY: AtomicBool = AtomicBool::new(false);

/// When its next step is due; ticks of the system counter, all ones for never.
static ALARM: AtomicU64 = AtomicU64::new(NEVER);

const NEVER: u64 = u64::MAX;

/// Bytes of input taken at once.
const INPUT: usize = 32;

/// Makes the shell, when all guests are known. Its prompt comes when this CPU looks at its queue.
pub(crate) fn start() {
    match Shell::new(cpus::all().len() + machine::domains().len()) {
        Ok(shell) => *SHELL.lock() = Some(shell),
        Err(error) => crate::say::error!("shell: {error}"),
    }
    wake();
}

/// When EL2's timer must go off for the shell; all ones for never.
#[inline]
pub(crate) fn alarm() -> u64 {
    ALARM.load(Ordering::Relaxed)
}

/// A key was pressed: this CPU looks before its guest goes on.
pub(crate) fn wake() {
    if !BUSY.swap(true, Ordering::AcqRel) {
        console::count_waiting(true);
    }
    if let Some(cpu) = cpus::this_cpu() {
        cpu.look.store(true, Ordering::Relaxed);
    }
}

/// A step of the shell, if one is due. Between guests.
pub(crate) fn serve() {
    if !BUSY.load(Ordering::Acquire) {
        return;
    }
    let Some(mut guard) = SHELL.try_lock() else {
        return;
    };
    let next = match guard.as_mut() {
        Some(shell) => step(shell),
        None => Next::Idle,
    };
    drop(guard);
    // Whoever pressed a key meanwhile, or made room, has found the lock taken.
    fence(Ordering::SeqCst);
    let alarm = match next {
        Next::At(time) => hypercalls::ticks(time),
        Next::Now | Next::Idle => NEVER,
    };
    ALARM.store(alarm, Ordering::Relaxed);
    let typed = console::has_typed();
    if next == Next::Idle && !typed {
        if BUSY.swap(false, Ordering::AcqRel) {
            console::count_waiting(false);
        }
        if !console::has_typed() {
            return;
        }
        wake();
    }
    if (next == Next::Now || typed)
        && console::shell_has_room()
        && let Some(cpu) = cpus::this_cpu()
    {
        interrupts::send_look(cpu);
    }
}

fn step(shell: &mut Shell) -> Next {
    let mut bytes = [0; INPUT];
    let count = console::take_typed(&mut bytes);
    for byte in bytes.iter().take(count) {
        shell.key(*byte);
    }
    if !console::shell_has_room() {
        return Next::Now;
    }
    shell.step(&mut Board, &mut console::ShellOutput)
}

/// The machine, as the shell sees it.
struct Board;

fn domain(guest: GuestIndex) -> Option<&'static Domain> {
    machine::domains().get(guest).copied()
}

fn state(domain: &Domain) -> GuestState {
    match domain.state() {
        State::Waiting => GuestState::NotStarted,
        State::Building => GuestState::Starting,
        State::Running => {
            let works = |vcpu: &machine::Vcpu| {
                !matches!(vcpu.run.power(), Activity::Blocked | Activity::Off)
            };
            if domain.vcpus().iter().any(works) {
                GuestState::Running
            } else {
                GuestState::Waiting
            }
        }
        State::Paused => GuestState::Paused,
        State::Stopping | State::Releasing => GuestState::Stopping,
        State::Delayed { .. } => GuestState::Restarting,
        State::Stopped => GuestState::Stopped,
    }
}

impl System for Board {
    fn now(&self) -> u64 {
        statistics::uptime()
    }

    fn cpus(&self) -> usize {
        cpus::all().len()
    }

    fn cpu(&self, index: usize) -> Option<(usize, u64)> {
        statistics::idle_times().nth(index)
    }

    fn guests(&self) -> usize {
        machine::domains().len()
    }

    fn name(&self, guest: GuestIndex) -> Option<(u16, &str)> {
        domain(guest).map(|domain| (domain.id.0, domain.name.as_str()))
    }

    fn guest(&self, guest: GuestIndex) -> Option<Guest<'_>> {
        let domain = domain(guest)?;
        let state = state(domain);
        let (restarts, cause) = {
            let life = domain.life.lock();
            (life.restarts(), life.cause())
        };
        let is_there = !matches!(
            state,
            GuestState::Stopped | GuestState::NotStarted | GuestState::Restarting
        );
        let age =
            hypercalls::nanoseconds(arch::time::counter().saturating_sub(domain.counter_offset()));
        Some(Guest {
            id: domain.id.0,
            name: &domain.name,
            state,
            vcpus: domain.vcpus().len() as u32,
            memory: if is_there {
                domain.frames.lock().mapped() * PAGE_SIZE
            } else {
                0
            },
            age: if is_there { age } else { 0 },
            ran: statistics::times_of_domain(domain).running,
            restarts,
            last_stop: cause.map(|cause| cut(&cause)),
        })
    }

    fn details(&self, guest: GuestIndex) -> Option<Details> {
        let domain = domain(guest)?;
        let pages = {
            let frames = domain.frames.lock();
            (frames.mapped(), frames.most())
        };
        Some(Details {
            gic: match domain.vgic.version() {
                vgic::Version::V2 => 2,
                vgic::Version::V3 => 3,
            },
            uart: domain.uart.is_some(),
            console_ring: domain.xen.console_ring().is_some(),
            store: store::usage(domain.id),
            pages,
        })
    }

    fn failure(&self, guest: GuestIndex, line: u32) -> Option<FailureLine> {
        crash::line(domain(guest)?, line as usize)
    }

    fn vcpu(&self, guest: GuestIndex, vcpu: u32) -> Option<Vcpu> {
        let vcpu = domain(guest)?.vcpu(VcpuId::new(vcpu)?)?;
        let figures = statistics::of_vcpu(vcpu);
        Some(Vcpu {
            state: match figures.power {
                _ if figures.held => VcpuState::Off,
                Activity::Running => VcpuState::Running,
                Activity::Ready | Activity::Starting => VcpuState::Ready,
                Activity::Blocked => VcpuState::Blocked,
                Activity::Off | Activity::Stopping => VcpuState::Off,
            },
            cpu: figures.cpu,
            affinity: figures.affinity,
            ran: figures.times.running,
            waited: figures.times.runnable,
            exits: figures.counted.all_exits(),
            interrupts: figures.injections,
            moves: figures.counted.moves,
        })
    }

    fn interrupt(&self, guest: GuestIndex, place: u32) -> Option<(Option<Interrupt>, u32)> {
        let (found, next) = domain(guest)?.vgic.inspect(place)?;
        let found = found.map(|it| Interrupt {
            intid: it.intid.get(),
            vcpu: it.vcpu.map(VcpuId::get),
            priority: it.priority,
            edge: it.edge,
            enabled: it.enabled,
            pending: it.pending,
            active: it.active,
            listed: it.listed,
        });
        Some((found, next))
    }

    fn port(&self, guest: GuestIndex, place: u32) -> Option<(Option<Port>, u32)> {
        let domain = domain(guest)?;
        // Its pages stay at least until this CPU passes between guests the next time.
        if domain.gone.load(Ordering::Acquire) {
            return None;
        }
        let (found, next) = domain.xen.inspect_port(place)?;
        let found = found.map(|it| Port {
            port: it.port,
            bound: match it.binding {
                PortBinding::Unbound(domain) => Bound::Unbound(domain.0),
                PortBinding::Interdomain(domain, port) => Bound::Interdomain(domain.0, port),
                PortBinding::Virq(number) => Bound::Virq(number),
                PortBinding::Ipi => Bound::Ipi,
                PortBinding::Service(Service::Console) => Bound::Console,
                PortBinding::Service(Service::Store) => Bound::Store,
            },
            vcpu: it.vcpu,
            pending: Some(it.pending),
            masked: it.masked,
        });
        Some((found, next))
    }

    fn grant(&self, guest: GuestIndex, place: u32) -> Option<(Option<Grant>, u32)> {
        let (found, next) = domain(guest)?.xen.inspect_grant(place)?;
        let found = found.map(|it| Grant {
            reference: it.reference,
            frame: it.frame,
            user: it.user.0,
            readers: it.readers,
            writers: it.writers,
        });
        Some((found, next))
    }

    fn memory(&self) -> Memory {
        let pool = memory_map::pool();
        let (heap, heap_used) = memory_map::heap_usage();
        Memory {
            pool: pool.total() * CHUNK_SIZE,
            free: pool.free() * CHUNK_SIZE,
            image: memory_map::own_usage().saturating_sub(heap_used),
            heap_used,
            heap,
        }
    }

    fn store(&mut self, request: StoreRequest<'_>, reply: &mut [u8]) -> Result<usize, Refused> {
        store::query(request, reply)
    }

    fn log(&self, of: LogOf, position: u64) -> Option<(LogLine, u64)> {
        console::log(source(of)?, position)
    }

    fn log_end(&self, of: LogOf) -> u64 {
        source(of).map_or(0, console::log_end)
    }

    fn trace(&self) -> Trace {
        let status = trace::status();
        Trace {
            on: status.on,
            sent: status.sent,
            written: status.written,
            lost: status.lost,
            kept: status.kept,
        }
    }

    fn set_trace(&mut self, on: bool) -> Result<bool, Refused> {
        let because = |error| Refused::because(&error);
        // The memory of one CPU a step.
        if on && trace::prepare().map_err(because)? {
            return Ok(false);
        }
        trace::set(on).map_err(because)?;
        Ok(true)
    }

    fn trace_line(&self, last: u32, place: TracePlace) -> Option<(Option<TraceLine>, TracePlace)> {
        let mut text = None;
        let next = trace::tell(last, place, |line| text = Some(cut(&line)))?;
        Some((text, next))
    }

    fn act(&mut self, guest: GuestIndex, action: Action) -> Result<(), Refused> {
        let domain = domain(guest).ok_or_else(|| Refused::because(&"it is gone"))?;
        let done = match action {
            Action::Pause => lifecycle::pause(domain),
            Action::Resume => lifecycle::resume(domain),
            Action::Shutdown(seconds) => {
                lifecycle::ask_to_shut_down(domain, Then::Stay, u64::from(seconds))
            }
            Action::Destroy => lifecycle::destroy(domain),
            Action::Restart => lifecycle::restart(domain),
            Action::Create => lifecycle::start(domain),
            Action::Debug => return debug(domain),
        };
        done.map_err(|refusal| Refused::because(&refusal))
    }

    fn settings(&self, guest: GuestIndex, vcpu: u32) -> Option<Settings> {
        let vcpu = domain(guest)?.vcpu(VcpuId::new(vcpu)?)?;
        let settings = tuning::settings(vcpu);
        let budget = settings.reservation;
        Some(Settings {
            weight: settings.weight,
            affinity: settings.affinity_on(vcpu.home().index),
            budget: budget.map(|reservation| (reservation.budget, reservation.period)),
        })
    }

    fn set(&mut self, guest: GuestIndex, vcpu: u32, setting: Setting) -> Result<(), Refused> {
        let vcpu = domain(guest)
            .zip(VcpuId::new(vcpu))
            .and_then(|(domain, id)| domain.vcpu(id));
        let vcpu = vcpu.ok_or_else(|| Refused::because(&"it is gone"))?;
        let change = match setting {
            Setting::Weight(weight) => tuning::Change::Weight(weight),
            Setting::Affinity(mask) => tuning::Change::Affinity(mask),
            Setting::Budget(budget, period) => tuning::Change::Budget(budget, period),
            Setting::NoBudget => tuning::Change::NoBudget,
        };
        tuning::set(vcpu, change).map_err(|refusal| Refused::because(&refusal))
    }

    fn give_input(&mut self, guest: GuestIndex) -> Result<(), Refused> {
        let domain = domain(guest).filter(|domain| domain.is_running());
        let domain = domain.ok_or_else(|| Refused::because(&"it does not run"))?;
        console::focus(domain.console);
        Ok(())
    }

    fn power(&mut self, what: Power) {
        match what {
            Power::Reboot => power::try_reboot(),
            Power::Off => power::try_off(),
        }
    }
}

/// As Xen's debug key `q` does it for each vCPU.
fn debug(domain: &'static Domain) -> Result<(), Refused> {
    if !domain.is_running() {
        return Err(Refused::because(&"it does not run"));
    }
    for vcpu in domain.vcpus() {
        let id = abi::VcpuId(vcpu.id.get());
        domain.xen.raise_virq(&Machine, id, VIRQ_DEBUG);
    }
    Ok(())
}

fn source(of: LogOf) -> Option<Source> {
    match of {
        LogOf::Hypervisor => Some(Source::HYPERVISOR),
        LogOf::Guest(guest) => domain(guest).map(|domain| domain.console),
    }
}
