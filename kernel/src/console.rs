//! The console: everybody's lines on one UART, and its input to one guest at a time.
//!
//! Before the UART's interrupt works everything is written polled; afterwards lines go into a bounded
//! ring that the UART drains as it can, so that a guest's output never holds EL2 up.

mod input;
mod own;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use devtree::{Board, UartKind};
use log::LevelFilter;
use platform::uart::{Kind, Uart};
use shell::{Console, LogLine, Output, Switch};
use sync::SpinLock;

use crate::hypercalls::Machine;
use crate::machine::{self, Domain};
use crate::{cpus, crash, interrupts, jobs, operator};

pub(crate) use input::{has_typed, room, take_input, take_typed};
pub(crate) use shell::SourceId as Source;

/// Bytes of output that may wait for the UART, of each source.
const SHARE: usize = 4096;
/// Bytes given to the UART at once: EL2 works in short pieces.
const BURST: usize = 64;
/// Input that waits for a guest at most, in bytes: a pasted line, as an emulated UART takes 32 bytes
/// at a time. What comes on top is lost, as on any UART: the key that switches must get through.
const WAITING: usize = 1024;
/// Keys that wait for the shell at most, beside those that it has taken.
const WAITING_FOR_SHELL: usize = 128;
/// Bytes of its last lines that are kept of each source.
const SCROLLBACK: usize = 16 << 10;

struct State {
    uart: Option<Uart>,
    console: Option<Console>,
    /// Interrupts feed the ring to the UART; before, it is drained by who writes.
    interrupts: bool,
    /// Input of the guest that has it, which found no room yet.
    input: [u8; WAITING],
    waiting: usize,
    owner: Option<Source>,
    /// The shell, once there is one.
    shell: Option<Source>,
    /// Keys for it that it has not taken.
    typed: ArrayVec<u8, WAITING_FOR_SHELL>,
}

static STATE: SpinLock<State> = SpinLock::new(State {
    uart: None,
    console: None,
    interrupts: false,
    input: [0; WAITING],
    waiting: 0,
    owner: None,
    shell: None,
    typed: ArrayVec::new_const(),
});

static INPUT_TO_GUEST: AtomicBool = AtomicBool::new(true);

/// Domains whose PV ring waits for room.
static STALLED: AtomicUsize = AtomicUsize::new(0);

/// The UART's description, for a second driver that the panic path may use past all locks.
static DESCRIBED: sync::Once<devtree::Uart> = sync::Once::new();

#[expect(unsafe_code, reason = "the address comes from the board's tree")]
pub(crate) fn open(described: &devtree::Uart) -> Option<Uart> {
    let kind = match described.kind {
        UartKind::Pl011 => Kind::Pl011,
        UartKind::MiniUart => Kind::MiniUart,
    };
    // SAFETY: the tree says that such a UART is there; it was mapped as Device memory. Those of the console are all
    // in this file; the trace has another UART.
    unsafe { Uart::new(kind, described.registers, described.clock) }
}

/// Opens the console before anything else is up: output is polled.
pub(crate) fn start_early(
    described: Option<devtree::Uart>,
    mapped: impl FnOnce(&devtree::Uart) -> bool,
) {
    let Some(described) = described else { return };
    if !mapped(&described) {
        return;
    }
    STATE.lock().uart = open(&described);
    DESCRIBED.call_once(|| described);
    if log::set_logger(&own::LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Whether there is a console, so far.
pub(crate) fn is_described() -> bool {
    DESCRIBED.get().is_some()
}

/// Gives every guest its lines, once there is a heap. Returns the switch key's letter.
pub(crate) fn start(switch_key: Option<&str>) {
    let parsed = switch_key.map(Switch::parse);
    let switch = match parsed {
        Some(Ok(switch)) => switch,
        _ => Switch::default(),
    };
    INPUT_TO_GUEST.store(switch.to_guest_at_boot, Ordering::Relaxed);
    let made = Console::new("viaduct", SHARE, switch).and_then(|mut console| {
        console.keep(Source::HYPERVISOR, SCROLLBACK)?;
        let shell = console.add_shell(SHARE)?;
        Ok((console, shell))
    });
    match made {
        Ok((console, shell)) => {
            let mut state = STATE.lock();
            state.console = Some(console);
            state.shell = Some(shell);
        }
        Err(error) => crate::say::error!("console: {error}"),
    }
    if let Some(Err(error)) = parsed {
        crate::say::warn!("boot argument conswitch: {error}");
    }
}

/// Whether the input is a guest's from the start (`conswitch=` may say otherwise).
pub(crate) fn input_goes_to_guest() -> bool {
    INPUT_TO_GUEST.load(Ordering::Relaxed)
}

/// From now on the UART's interrupt drains the ring and brings input.
pub(crate) fn start_interrupts(_board: &Board) {
    let mut state = STATE.lock();
    state.interrupts = true;
    if let Some(uart) = &state.uart {
        uart.set_receive_interrupt(true);
    }
    state.drain();
}

/// Bytes that [`reserve`] takes.
pub(crate) fn room_for(guests: usize) -> u64 {
    (guests as u64).saturating_add(1) * SHARE as u64
}

/// Room for so many guests. If there is none, those that do not fit are told of one by one.
pub(crate) fn reserve(guests: usize) {
    if let Some(console) = &mut STATE.lock().console {
        let _ = console.reserve(guests, SHARE);
    }
}

/// A new guest's place on the console, with so many KiB of its last lines (16 if that is not said); `None` if there is no memory for it. Without a console it has the
/// hypervisor's, which nobody sees either.
pub(crate) fn add(name: &str, scroll_back: Option<u32>) -> Option<Source> {
    let kept = scroll_back.map_or(SCROLLBACK, |kibibytes| (kibibytes as usize) << 10);
    match &mut STATE.lock().console {
        Some(console) => {
            let source = console.add(name, SHARE).ok()?;
            if console.keep(source, kept).is_err() {
                console.remove(source);
                return None;
            }
            Some(source)
        }
        None => Some(Source::HYPERVISOR),
    }
}

/// A guest that has ended: what it wrote last is shown, and it gets no more input.
pub(crate) fn close(source: Source) {
    let mut state = STATE.lock();
    if let Some(console) = &mut state.console {
        console.remove(source);
    }
    state.drain();
}

/// A guest that had ended lives again.
pub(crate) fn reopen(source: Source) {
    if let Some(console) = &mut STATE.lock().console {
        console.reopen(source);
    }
}

/// A guest's life has ended, and its next may follow: a line that it has not finished is finished for it.
pub(crate) fn finish_line(source: Source) {
    let mut state = STATE.lock();
    if let Some(console) = &mut state.console {
        console.finish_line(source);
    }
    state.drain();
}

/// Gives the input to a guest.
pub(crate) fn focus(source: Source) {
    let mut state = STATE.lock();
    if let Some(console) = &mut state.console {
        console.give_input(source);
    }
    state.owner = Some(source);
    state.drain();
}

/// Bytes that a guest wrote.
pub(crate) fn write(source: Source, bytes: &[u8]) {
    let mut state = STATE.lock();
    if let Some(console) = &mut state.console {
        console.write(source, bytes);
    }
    state.drain();
}

/// Whether a domain's lines find much room. If not, its ring is served when they do.
pub(crate) fn has_room(domain: &Domain) -> bool {
    let state = STATE.lock();
    let Some(console) = &state.console else {
        return true;
    };
    let room = console.has_room(domain.console);
    if !room {
        wait(domain);
    }
    room
}

/// Serves the rings of the domains that found no room, now that the UART has taken some of what waited.
pub(crate) fn serve_waiting() {
    if STALLED.load(Ordering::Relaxed) == 0 {
        return;
    }
    for domain in machine::domains() {
        if domain.telling.load(Ordering::Relaxed) != 0 {
            crash::tell_later(domain);
        }
        if domain.console_waits.swap(false, Ordering::Relaxed) {
            STALLED.fetch_sub(1, Ordering::Relaxed);
            // One step: what is left waits for another look.
            if !domain.is_running() {
                jobs::kick(domain);
            } else if domain.xen.serve_console(&Machine) {
                serve_later(domain);
            }
        }
    }
    operator::serve();
}

/// Somebody beside the domains' rings waits for room, or does no longer.
pub(crate) fn count_waiting(more: bool) {
    if more {
        STALLED.fetch_add(1, Ordering::Relaxed);
    } else {
        STALLED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// More is left in a domain's ring than one step takes: an interrupt of our own asks for another look.
pub(crate) fn serve_later(domain: &Domain) {
    wait(domain);
    if let Some(cpu) = cpus::this_cpu() {
        interrupts::send_look(cpu);
    }
}

/// A domain waits for room: its ring is served, or its job kicked, when there may be some.
pub(crate) fn wait(domain: &Domain) {
    if !domain.console_waits.swap(true, Ordering::Relaxed) {
        STALLED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes out all that waits, polled: before the machine ends. After a failure only if the lock is free: the
/// CPU that failed may be its holder.
pub(crate) fn flush() {
    let state = if crate::failure::has_failed() {
        STATE.try_lock()
    } else {
        Some(STATE.lock())
    };
    let Some(mut state) = state else { return };
    state.interrupts = false;
    state.drain();
    if let Some(uart) = &state.uart {
        uart.flush();
    }
}

/// The UART interrupted: room for output, or input. The receive FIFO is left empty: where a byte stays
/// behind, QEMU's UART does not interrupt again for those that follow. A wire is slower than this loop.
pub(crate) fn interrupt() {
    loop {
        let mut bytes = [0; BURST];
        let mut count = 0;
        {
            let mut state = STATE.lock();
            if let Some(uart) = &state.uart {
                uart.acknowledge();
                while let Some(slot) = bytes.get_mut(count)
                    && let Some(byte) = uart.try_read()
                {
                    *slot = byte;
                    count += 1;
                }
            }
            state.drain();
        }
        input::take(bytes.get(..count).unwrap_or_default());
        if count < BURST {
            break;
        }
    }
}

impl State {
    /// Gives the UART what it takes. Polled until interrupts work, a burst at a time afterwards.
    fn drain(&mut self) {
        let (Some(uart), Some(console)) = (&self.uart, &mut self.console) else {
            return;
        };
        let mut budget = if self.interrupts { BURST } else { usize::MAX };
        loop {
            let chunk = console.output();
            if chunk.is_empty() {
                break;
            }
            let length = chunk.len().min(budget);
            let sent = chunk
                .iter()
                .take(length)
                .take_while(|&&byte| {
                    if self.interrupts {
                        uart.try_write(byte)
                    } else {
                        uart.write_polled(byte);
                        true
                    }
                })
                .count();
            console.consumed(sent);
            budget -= sent;
            if sent < length || budget == 0 {
                break;
            }
        }
        if self.interrupts {
            uart.set_transmit_interrupt(!console.output().is_empty());
        }
        if STALLED.load(Ordering::Relaxed) != 0
            && let Some(cpu) = cpus::this_cpu()
        {
            cpu.look.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether what the shell writes finds much room.
pub(crate) fn shell_has_room() -> bool {
    let state = STATE.lock();
    match (&state.console, state.shell) {
        (Some(console), Some(shell)) => console.has_room(shell),
        _ => true,
    }
}

/// Whether lines of the hypervisor find much room.
pub(crate) fn hypervisor_has_room() -> bool {
    let state = STATE.lock();
    let console = state.console.as_ref();
    console.is_none_or(|console| console.has_room(Source::HYPERVISOR))
}

/// A line of what a source wrote, and the position of the next.
pub(crate) fn log(source: Source, position: u64) -> Option<(LogLine, u64)> {
    STATE.lock().console.as_ref()?.log(source, position)
}

/// Position behind the last line of it.
pub(crate) fn log_end(source: Source) -> u64 {
    let state = STATE.lock();
    state
        .console
        .as_ref()
        .map_or(0, |console| console.log_end(source))
}

/// The shell's place on the console.
pub(crate) struct ShellOutput;

impl Output for ShellOutput {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        let mut state = STATE.lock();
        if let Some(console) = &mut state.console {
            console.line(line);
        }
        state.drain();
    }

    fn edit(&mut self, line: &[u8]) {
        let mut state = STATE.lock();
        if let Some(console) = &mut state.console {
            Output::edit(console, line);
        }
        state.drain();
    }
}

/// The console past all locks, for a hypervisor that has failed: its own driver of the same UART.
pub(crate) struct RawConsole(Option<Uart>);

impl RawConsole {
    pub(crate) fn new() -> Self {
        let uart = DESCRIBED.get().and_then(open);
        let mut raw = Self(uart);
        let _ = raw.write_str("\n");
        raw
    }

    /// On a UART that nobody has opened: before there is anything else.
    pub(crate) fn on(described: &devtree::Uart) -> Self {
        Self(open(described))
    }
}

impl Write for RawConsole {
    // In one place: each piece of every line would have the UART's driver in it.
    #[inline(never)]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(uart) = &self.0 {
            own::write_polled(uart, text);
            uart.flush();
        }
        Ok(())
    }
}
