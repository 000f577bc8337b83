//! A running QEMU and its console. The process ends with this value; whatever a test waits for has
//! a deadline, and a failure shows the last lines.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lines;
use crate::paths::scratch;
use crate::slots::Slot;
use crate::transcript::Transcript;

const LINES_SHOWN: usize = 60;

/// Seconds, for deadlines. `VIADUCT_TIMEOUT_SCALE` multiplies them, for slow machines.
#[must_use]
pub fn seconds(count: u64) -> Duration {
    let scale = std::env::var("VIADUCT_TIMEOUT_SCALE")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(count.saturating_mul(scale.unwrap_or(1)))
}

#[derive(Debug, Default)]
struct Received {
    transcript: Transcript,
    ended: bool,
    /// The hypervisor has failed, as lines below the number beside it say.
    failed: (bool, usize),
}

impl Received {
    /// Whether the hypervisor has failed.
    fn has_failed(&mut self) -> bool {
        let (failed, from) = self.failed;
        let says_so = |line: &str| lines::FAILURES.iter().any(|start| line.starts_with(start));
        let failed = failed || self.transcript.since(from).any(|(_, line)| says_so(&line));
        self.failed = (failed, self.transcript.finished());
        failed
    }
}

/// What the reader threads and the test share.
#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Received>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A running QEMU, seen through its console.
#[derive(Debug)]
pub struct Console {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    shared: Arc<Shared>,
    errors: Arc<Mutex<String>>,
    /// Lines below this number have been matched.
    cursor: usize,
    failure_expected: bool,
    /// Commands typed: each has marks of its own, since a line may be drawn again after it was matched.
    commands: u32,
    started: Instant,
    _slots: Vec<Slot>,
}

impl Console {
    pub(crate) fn start(name: &str, mut command: Command, slots: Vec<Slot>) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot run {command:?}: {error} (./setup installs QEMU)"),
        };
        let shared = Arc::new(Shared::default());
        let errors = Arc::new(Mutex::new(format!("{command:?}\n")));
        if let Some(mut output) = child.stdout.take() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = output.read(&mut buffer) {
                    shared
                        .lock()
                        .transcript
                        .push(buffer.get(..count).unwrap_or_default());
                    shared.more.notify_all();
                }
                shared.lock().ended = true;
                shared.more.notify_all();
            });
        }
        if let Some(mut output) = child.stderr.take() {
            let errors = Arc::clone(&errors);
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = output.read_to_string(&mut text);
                errors
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .push_str(&text);
            });
        }
        Self {
            name: name.to_owned(),
            input: child.stdin.take(),
            child,
            shared,
            errors,
            cursor: 0,
            failure_expected: false,
            commands: 0,
            started: Instant::now(),
            _slots: slots,
        }
    }

    /// Says that this test makes the hypervisor fail; else its report ends any wait.
    pub fn failure_is_expected(&mut self) {
        self.failure_expected = true;
    }

    /// Waits for a line that contains `pattern`, after all that was matched before, and returns it.
    /// The line may still grow: what is wanted of its end belongs in the pattern.
    ///
    /// # Panics
    /// When the time is over, QEMU has ended, or the hypervisor has failed.
    #[track_caller]
    pub fn expect(&mut self, pattern: &str, within: Duration) -> String {
        self.expect_that(&format!("{pattern:?}"), within, |line| {
            line.contains(pattern)
        })
    }

    /// The same of all lines since the start: for what may come before the prompt that [`Self::operate`] waits for.
    #[track_caller]
    pub fn expect_ever(&mut self, pattern: &str, within: Duration) -> String {
        let reached = std::mem::take(&mut self.cursor);
        let line = self.expect(pattern, within);
        self.cursor = self.cursor.max(reached);
        line
    }

    /// Waits for one line for each pattern, in any order.
    #[track_caller]
    pub fn expect_each<P: AsRef<str>>(&mut self, patterns: &[P], within: Duration) {
        let start = self.cursor;
        let deadline = Instant::now() + within;
        let mut furthest = start;
        for pattern in patterns {
            self.cursor = start;
            let left = deadline.saturating_duration_since(Instant::now());
            self.expect(pattern.as_ref(), left);
            furthest = furthest.max(self.cursor);
        }
        self.cursor = furthest;
    }

    /// Waits for a line that `good` accepts; `what` names it in a failure.
    #[track_caller]
    pub fn expect_that(
        &mut self,
        what: &str,
        within: Duration,
        good: impl Fn(&str) -> bool,
    ) -> String {
        self.wait_for(what, within, false, good)
    }

    /// As [`Self::expect_that`]; if `finished`, a line that may still grow, or be drawn over, is not good yet.
    #[track_caller]
    fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        finished: bool,
        good: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + within;
        let shared = Arc::clone(&self.shared);
        let mut received = shared.lock();
        let mut from = self.cursor;
        loop {
            let found = received
                .transcript
                .since(from)
                .find(|(at, line)| good(line) && !(finished && received.transcript.grows(*at)));
            if let Some((at, line)) = found {
                self.cursor = at + 1;
                return line;
            }
            from = from.max(received.transcript.finished());
            let why = if !self.failure_expected && received.has_failed() {
                // The rest of its report is worth having.
                drop(received);
                std::thread::sleep(Duration::from_secs(1));
                "the hypervisor failed"
            } else if received.ended {
                drop(received);
                "QEMU ended"
            } else if Instant::now() >= deadline {
                drop(received);
                "the time is over"
            } else {
                let left = deadline.saturating_duration_since(Instant::now());
                received = shared
                    .more
                    .wait_timeout(received, left.min(Duration::from_millis(200)))
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
                continue;
            };
            self.fail(&format!("{why} while waiting for {what}"));
        }
    }

    /// Waits until no line with `pattern` comes for `time`: what was on its way may still arrive.
    ///
    /// # Panics
    /// Ten times in a row one does.
    #[track_caller]
    pub fn expect_silence(&mut self, pattern: &str, time: Duration) {
        for _ in 0..10 {
            let before = self.lines_with(pattern).len();
            self.run_for(time);
            if self.lines_with(pattern).len() == before {
                return;
            }
        }
        self.fail(&format!("{pattern:?} goes on"));
    }

    /// Lets the machine run.
    pub fn run_for(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Types `text` on the console.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        let written = self.input.as_mut().map(|input| {
            input
                .write_all(text.as_bytes())
                .and_then(|()| input.flush())
        });
        if !matches!(written, Some(Ok(()))) {
            self.fail(&format!("could not type {text:?}"));
        }
    }

    /// Types a command into a shell, waits for its end, and returns the lines it printed. The
    /// lines are those of `guest`, without its prefix (`""`: the console has no prefixes).
    #[track_caller]
    pub fn command(&mut self, guest: &str, command: &str, within: Duration) -> Vec<String> {
        let prefix = if guest.is_empty() {
            String::new()
        } else {
            lines::of(guest)
        };
        let from = self.cursor;
        self.commands += 1;
        let start_mark = format!("start-of-command-{}", self.commands);
        let end_mark = format!("end-of-command-{}-", self.commands);
        // The quotes keep the echo of the command from looking like its marks.
        self.send(&format!(
            "echo start''-of-command-{0}; {command}; echo end''-of-command-{0}-$?.\n",
            self.commands
        ));
        let end = self.wait_for(&format!("the end of {command:?}"), within, true, |line| {
            line.strip_prefix(&prefix)
                .and_then(|line| line.strip_prefix(&end_mark))
                .is_some_and(is_code)
        });
        let printed = {
            let received = self.shared.lock();
            let own = received.transcript.since(from);
            own.filter_map(|(_, line)| line.strip_prefix(&prefix).map(str::to_owned))
                .skip_while(|line| *line != start_mark)
                .skip(1)
                .take_while(|line| !line.starts_with(&end_mark))
                .collect()
        };
        if !end.ends_with("-0.") {
            self.fail(&format!("{command:?} failed: {end}"));
        }
        printed
    }

    /// Types a command at the hypervisor's prompt, which must have the input, waits for the next prompt, and returns the
    /// lines between: not those of guests, which come at any time.
    #[track_caller]
    pub fn operate(&mut self, command: &str, within: Duration) -> Vec<String> {
        self.send(&format!("{command}\r"));
        self.operated(command, within)
    }

    /// The same when the keys have been typed that make this command.
    #[track_caller]
    pub fn operated(&mut self, command: &str, within: Duration) -> Vec<String> {
        let echo = format!("{}{command}", lines::PROMPT);
        self.wait_for(&format!("{echo:?}"), within, true, |line| line == echo);
        let from = self.cursor;
        self.wait_for("the next prompt", within, false, |line| {
            line.starts_with(lines::PROMPT)
        });
        // Where the prompt is the next command will be.
        self.cursor -= 1;
        let received = self.shared.lock();
        let between = received.transcript.since(from);
        between
            .take_while(|(at, _)| *at < self.cursor)
            .map(|(_, line)| line)
            .filter(|line| !lines::is_under_a_name(line))
            .collect()
    }

    /// Waits for QEMU to end by itself, and returns its exit code.
    #[track_caller]
    pub fn expect_exit(&mut self, within: Duration) -> i32 {
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    // The reader has everything once it has seen the end.
                    while !self.shared.lock().ended {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    return status.code().unwrap_or(-1);
                }
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(None) => self.fail("QEMU did not end in time"),
                Err(error) => self.fail(&format!("cannot wait for QEMU: {error}")),
            }
        }
    }

    /// Whether QEMU still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.shared.lock().transcript.lines()
    }

    /// Every line so far that contains `pattern`.
    #[must_use]
    pub fn lines_with(&self, pattern: &str) -> Vec<String> {
        self.lines()
            .into_iter()
            .filter(|line| line.contains(pattern))
            .collect()
    }

    /// Fails if a line so far contains one of the patterns.
    #[track_caller]
    pub fn expect_never<P: AsRef<str>>(&self, patterns: &[P]) {
        for pattern in patterns {
            if let Some(line) = self.lines_with(pattern.as_ref()).first() {
                self.fail(&format!("{:?} was seen: {line:?}", pattern.as_ref()));
            }
        }
    }

    /// Time since QEMU was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the test with `why` and the last lines of the console.
    #[track_caller]
    pub fn fail(&self, why: &str) -> ! {
        let received = self.shared.lock();
        let all = received.transcript.lines();
        let shown = all
            .get(all.len().saturating_sub(LINES_SHOWN)..)
            .unwrap_or_default()
            .join("\n    ");
        drop(received);
        let errors = self
            .errors
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone();
        panic!(
            "{}: {why}\n  {} lines after {:.1} s, the last ones:\n    {shown}\n  QEMU: {errors}\n  whole console: {}",
            self.name,
            all.len(),
            self.age().as_secs_f64(),
            self.log_path().display(),
        );
    }

    fn log_path(&self) -> PathBuf {
        scratch().join(format!("{}.log", self.name))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let received = self.shared.lock();
        if let Ok(mut file) = File::create(self.log_path()) {
            let _ = file.write_all(received.transcript.raw());
        }
    }
}

/// What follows a command's end mark, alone: what is typed ahead may be echoed behind it.
fn is_code(text: &str) -> bool {
    text.strip_suffix('.')
        .is_some_and(|code| !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit()))
}
