//! The hypervisor's own lines: the logger.

use core::fmt::{self, Write};

use arrayvec::ArrayString;
use log::{Log, Metadata, Record};
use platform::uart::Uart;

use super::{STATE, Source, State};

/// Bytes of a line that are put together.
const STAGED: usize = 128;

pub(super) struct Logger;

pub(super) static LOGGER: Logger = Logger;

impl Log for Logger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut state = STATE.lock();
        let level = match record.level() {
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            _ => "",
        };
        let mut out = HypervisorLine {
            state: &mut state,
            staged: ArrayString::new_const(),
        };
        let _ = writeln!(out, "{level}{}", record.args());
        out.flush();
        state.drain();
    }

    fn flush(&self) {}
}

/// The hypervisor's own lines: past the multiplexer before there is one. What formatting gives in small pieces goes
/// there in larger ones.
struct HypervisorLine<'s> {
    state: &'s mut State,
    staged: ArrayString<STAGED>,
}

impl HypervisorLine<'_> {
    fn flush(&mut self) {
        if let Some(console) = &mut self.state.console {
            console.write(Source::HYPERVISOR, self.staged.as_bytes());
        } else if let Some(uart) = &self.state.uart {
            write_polled(uart, &self.staged);
        }
        self.staged.clear();
    }
}

impl Write for HypervisorLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while !rest.is_empty() {
            let room = rest.floor_char_boundary(self.staged.remaining_capacity());
            let (piece, after) = rest.split_at_checked(room).unwrap_or((rest, ""));
            if self.staged.try_push_str(piece).is_err() || !after.is_empty() {
                self.flush();
            }
            rest = after;
        }
        Ok(())
    }
}

pub(super) fn write_polled(uart: &Uart, text: &str) {
    for byte in text.bytes() {
        if byte == b'\n' {
            uart.write_polled(b'\r');
        }
        uart.write_polled(byte);
    }
}
