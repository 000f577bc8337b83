//! QEMU's monitor: what a machine's registers hold, seen from outside.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::console::seconds;
use crate::paths::scratch;

/// A connection to the monitor of a machine that was started [`monitored`](crate::Machine::monitored).
#[derive(Debug)]
pub struct Monitor {
    lines: BufReader<UnixStream>,
}

/// Where the monitor of the machine that runs as `name` listens.
pub(crate) fn socket(name: &str) -> PathBuf {
    scratch().join(format!("{name}.monitor"))
}

impl Monitor {
    /// Connects to the machine that runs as `name`.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let path = socket(name);
        let deadline = Instant::now() + seconds(60);
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => {
                    let _ = stream.set_read_timeout(Some(seconds(60)));
                    return Self {
                        lines: BufReader::new(stream),
                    };
                }
                Err(error) if Instant::now() > deadline => panic!("{}: {error}", path.display()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The word of 32 bits at a physical address.
    ///
    /// # Panics
    /// If QEMU says nothing of the kind.
    pub fn word(&mut self, address: u64) -> u32 {
        let asked = writeln!(self.lines.get_mut(), "xp /1wx {address:#x}");
        asked.expect("the monitor listens");
        let wanted = format!("{address:016x}: 0x");
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line);
            assert!(read.is_ok_and(|bytes| bytes > 0), "the monitor is gone");
            if let Some((_, value)) = line.trim_end().split_once(&wanted) {
                return u32::from_str_radix(value, 16).expect("a number");
            }
        }
    }
}
