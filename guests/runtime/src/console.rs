//! The console: the PV ring that HVM parameters 17 and 18 name, else the UART in the tree (SBSA or
//! PL011), else the hypervisor's console by hypercall. The boot argument `console=ring`, `console=uart`
//! or `console=xen` picks one.

mod ring;
mod uart;

use crate::{arguments::arguments, entry, event, hypercall, sync::Lock, timer, xen};
use alloc::{string::String, vec::Vec};
use core::fmt::{self, Write};
use core::time::Duration;
use ring::Ring;
use uart::Uart;

#[derive(Clone, Copy)]
enum Console {
    None,
    Ring(Ring),
    Uart(Uart),
    Xen,
}

static CONSOLE: Lock<Console> = Lock::new(Console::None);

/// Picks the console; before it, output is lost.
pub(crate) fn init() {
    let ring = || {
        if xen::present() {
            Ring::find().map(Console::Ring)
        } else {
            None
        }
    };
    let uart = || {
        entry::tree()
            .and_then(|tree| Uart::find(&tree))
            .map(Console::Uart)
    };
    let hypercalls = || xen::present().then_some(Console::Xen);
    let wanted = match arguments().get("console") {
        Some("ring") => ring(),
        Some("uart") => uart(),
        Some("xen") => hypercalls(),
        _ => None,
    };
    let found = wanted.or_else(ring).or_else(uart).or_else(hypercalls);
    *CONSOLE.lock() = found.unwrap_or(Console::None);
}

/// Lets input events wake this guest.
pub(crate) fn listen() {
    let console = *CONSOLE.lock();
    if let Console::Ring(ring) = console {
        let _ = event::on(ring.port(), |_| {});
    }
}

/// What the console is: `ring`, `uart`, `xen` or `none`.
pub fn kind() -> &'static str {
    match *CONSOLE.lock() {
        Console::None => "none",
        Console::Ring(_) => "ring",
        Console::Uart(_) => "uart",
        Console::Xen => "xen",
    }
}

impl Console {
    fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Ring(ring) => ring.write(bytes),
            Self::Uart(uart) => uart.write(bytes),
            Self::Xen => {
                let _ = hypercall::console_write(bytes);
            }
        }
    }

    fn notify(&mut self) {
        if let Self::Ring(ring) = self {
            ring.notify();
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> usize {
        match self {
            Self::None => 0,
            Self::Ring(ring) => ring.read(bytes),
            Self::Uart(uart) => uart.read(bytes),
            Self::Xen => hypercall::console_read(bytes).unwrap_or(0) as usize,
        }
    }
}

/// Gathers the pieces of one `print!`, so that a hypercall console sees lines and not words.
struct Gather<'a> {
    console: &'a mut Console,
    buffer: [u8; 128],
    used: usize,
}

impl Gather<'_> {
    fn flush(&mut self) {
        self.console.write(&self.buffer[..self.used]);
        self.used = 0;
    }
}

impl Write for Gather<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.used == self.buffer.len() {
                self.flush();
            }
            self.buffer[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

fn print_to(console: &mut Console, arguments: fmt::Arguments<'_>) {
    let mut gather = Gather {
        console,
        buffer: [0; 128],
        used: 0,
    };
    let _ = gather.write_fmt(arguments);
    gather.flush();
    console.notify();
}

/// Behind `print!`.
pub fn print(arguments: fmt::Arguments<'_>) {
    print_to(&mut CONSOLE.lock(), arguments);
}

/// Prints from a panic, whoever holds the console.
pub(crate) fn print_last(arguments: fmt::Arguments<'_>) {
    for _ in 0..1_000_000 {
        if let Some(mut console) = CONSOLE.try_lock() {
            print_to(&mut console, arguments);
            drop(console);
            flush();
            return;
        }
    }
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    let mut console = CONSOLE.lock();
    console.write(bytes);
    console.notify();
}

/// Waits, for a second at most, until the other side of a ring has taken everything.
pub fn flush() {
    let console = CONSOLE.try_lock().map(|console| *console);
    if let Some(Console::Ring(ring)) = console {
        let end = timer::now() + timer::frequency();
        while !ring.is_drained() && timer::now() < end {
            hypercall::yield_now();
        }
    }
}

/// Takes the input that is there and returns how many bytes.
pub fn read(bytes: &mut [u8]) -> usize {
    CONSOLE.lock().read(bytes)
}

/// Reads a line, without its end; `None` if it has not come within `limit`.
pub fn read_line(limit: Duration) -> Option<String> {
    let end = timer::now().saturating_add(timer::ticks(limit));
    let mut line = Vec::new();
    while timer::now() < end {
        let mut byte = [0];
        if read(&mut byte) == 0 {
            // Not every console has an interrupt: look again every millisecond.
            timer::sleep(Duration::from_millis(1));
            continue;
        }
        match byte {
            [b'\r' | b'\n'] => return Some(String::from_utf8_lossy(&line).into_owned()),
            [byte] => line.push(byte),
        }
    }
    None
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => {
        $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($($argument)*)))
    };
}
