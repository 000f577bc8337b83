//! The shell: a prompt, the line that is being typed, and the command that is being carried out.
//!
//! Whoever drives it calls [`Shell::step`] again and again, when there is room for some lines of output: each call
//! takes one key or writes a line or two. So no command, however long its output, holds anything up.

use alloc::vec::Vec;
use core::fmt;

use arrayvec::{ArrayString, ArrayVec};

use crate::Error;
use crate::command::{self, Wrong};
use crate::complete::Place;
use crate::editor::{Edited, Editor, Line, MAX_COMMAND, PROMPT};
use crate::jobs::{Job, Progress};
use crate::system::{MAX_REPLY, Output, System};

/// Keys that wait while a command is carried out.
const TYPED_AHEAD: usize = 256;
/// Ctrl-C.
const INTERRUPT: u8 = 3;
/// Columns of a list of candidates.
const COLUMNS: usize = 78;

/// When the next step is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// When a key is pressed.
    Idle,
    /// At once.
    Now,
    /// At this time ([`System::now`]), or when a key is pressed.
    At(u64),
}

/// What jobs may use beside what they remember: memory that is taken once.
pub(crate) struct Scratch {
    /// A reply of the store.
    pub(crate) reply: Vec<u8>,
    /// What `top` measured last of each CPU and each guest: how long it had run, or done nothing, and when that was.
    pub(crate) samples: Vec<(u64, u64)>,
}

/// The shell.
pub struct Shell {
    editor: Editor,
    typed: ArrayVec<u8, TYPED_AHEAD>,
    job: Option<Job>,
    scratch: Scratch,
    /// The prompt has been written.
    greeted: bool,
}

impl Shell {
    /// A shell, with all memory that it will ever take, for so many CPUs and guests together.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new(measured: usize) -> Result<Self, Error> {
        let (mut reply, mut samples) = (Vec::<u8>::new(), Vec::new());
        reply
            .try_reserve_exact(MAX_REPLY)
            .map_err(|_| Error::NoMemory)?;
        samples
            .try_reserve_exact(measured)
            .map_err(|_| Error::NoMemory)?;
        samples.resize(measured, (0, 0));
        Ok(Self {
            editor: Editor::default(),
            typed: ArrayVec::new(),
            job: None,
            scratch: Scratch { reply, samples },
            greeted: false,
        })
    }

    /// A byte from the keyboard: for the line, or for the next one while a command is being carried out. Ctrl-C ends
    /// that, and forgets what was typed before it.
    pub fn key(&mut self, byte: u8) {
        if byte == INTERRUPT {
            self.typed.clear();
        }
        // What comes on top is lost, as on any UART.
        let _ = self.typed.try_push(byte);
    }

    /// Does a piece of what there is to do.
    pub fn step(&mut self, system: &mut dyn System, output: &mut dyn Output) -> Next {
        if let Some(job) = &mut self.job {
            let interrupted = match self.typed.first() {
                Some(&INTERRUPT) => true,
                Some(_) => job.ends_at_any_key(),
                None => false,
            };
            if interrupted {
                self.typed.remove(0);
                self.job = None;
                output.edit(&self.editor.render());
                return self.next();
            }
            return match job.step(&mut self.scratch, system, output) {
                Progress::More => Next::Now,
                Progress::Wait(until) => Next::At(until),
                Progress::Done => {
                    self.job = None;
                    output.edit(&self.editor.render());
                    self.next()
                }
            };
        }
        if !self.greeted {
            self.greeted = true;
            output.edit(&self.editor.render());
        }
        if let Some(byte) = self.typed.pop_at(0) {
            self.take(byte, system, output);
        }
        self.next()
    }

    fn next(&self) -> Next {
        if self.job.is_some() || !self.typed.is_empty() {
            Next::Now
        } else {
            Next::Idle
        }
    }

    fn take(&mut self, byte: u8, system: &dyn System, output: &mut dyn Output) {
        match self.editor.take(byte) {
            Edited::Nothing => {}
            Edited::Changed => output.edit(&self.editor.render()),
            Edited::Cancel => {
                output.line(format_args!("{PROMPT}{}^C", self.editor.line()));
                self.editor.clear();
                output.edit(&self.editor.render());
            }
            Edited::Complete => self.complete(system, output),
            Edited::Enter => {
                let line: Line = self.editor.accept();
                let line = str::from_utf8(&line).unwrap_or("");
                output.line(format_args!("{PROMPT}{line}"));
                match command::parse(line, system) {
                    Ok(command) => self.job = Some(Job::new(command, system)),
                    Err(Wrong::Empty) => output.edit(&self.editor.render()),
                    Err(wrong) => {
                        output.line(format_args!("{wrong}"));
                        output.edit(&self.editor.render());
                    }
                }
            }
        }
    }

    fn complete(&mut self, system: &dyn System, output: &mut dyn Output) {
        let mut line: ArrayString<MAX_COMMAND> = ArrayString::new();
        line.push_str(self.editor.before_cursor());
        let place = Place::at_end(&line);
        match place.common(system) {
            None => return,
            Some((more, only)) => {
                self.editor.insert(more);
                if only {
                    self.editor.insert(" ");
                } else if more.is_empty() {
                    output.line(format_args!("{PROMPT}{}", self.editor.line()));
                    show_candidates(&place, system, output);
                }
            }
        }
        output.edit(&self.editor.render());
    }
}

/// As many candidates as a line holds.
fn show_candidates(place: &Place<'_>, system: &dyn System, output: &mut dyn Output) {
    let mut text: ArrayString<COLUMNS> = ArrayString::new();
    for word in place.candidates(system) {
        let space = if text.is_empty() { "" } else { "  " };
        if text.len() + space.len() + word.len() + 3 > COLUMNS {
            text.push_str("...");
            break;
        }
        text.push_str(space);
        text.push_str(word);
    }
    output.line(format_args!("{text}"));
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell")
            .field("line", &self.editor.line())
            .finish_non_exhaustive()
    }
}

impl Output for crate::Console {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        struct Lines<'c>(&'c mut crate::Console);
        impl fmt::Write for Lines<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                let shell = self.0.home();
                self.0.write(shell, text.as_bytes());
                Ok(())
            }
        }
        self.edit(self.home(), b"");
        let mut lines = Lines(self);
        let _ = fmt::write(&mut lines, format_args!("{line}\n"));
    }

    fn edit(&mut self, line: &[u8]) {
        Self::edit(self, self.home(), line);
    }
}
