//! What the screen is to show, in the order in which it was written, and what will be on its last line when all
//! of it is out.

use core::fmt::Write;

use arrayvec::{ArrayString, ArrayVec};

use crate::console::Console;
use crate::queue::HEADER;
use crate::source::{Assembled, MAX_LINE, Source, SourceId};

/// Columns that every terminal has. An unfinished line that may be longer cannot be taken off the
/// screen, since it may stand on two rows.
pub(crate) const COLUMNS: usize = 80;

pub(crate) const NEW_LINE: &[u8] = b"\r\n";
/// Back to the start of the line, and erase it (ECMA-48 8.3.41, EL).
const ERASE: &[u8] = b"\r\x1b[K";
/// Colours and the like back to normal (8.3.117, SGR).
const PLAIN: &[u8] = b"\x1b[0m";

/// What will be on the last line of the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Screen {
    /// Nothing.
    Clean,
    /// The unfinished line of the source that has the input.
    Open,
    /// The same, perhaps on more than one row.
    Long,
    /// The beginning of a line whose end was lost.
    Torn,
}

/// A part of what is put into the queue.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    Bytes(&'a [u8]),
    Prefix(SourceId),
    Line(SourceId),
}

impl Console {
    /// Replaces the unfinished line of a source, as it is to be on the screen: what a line editor wants.
    pub fn edit(&mut self, id: SourceId, line: &[u8]) {
        let line = line.get(..MAX_LINE).unwrap_or(line);
        let open = self.focus == id && self.screen == Screen::Open;
        let (closing, plain) = (self.closing(), self.plain());
        let Some(source) = self.sources.get_mut(id.index()).filter(|it| !it.removed) else {
            return;
        };
        if line.is_empty() && source.line.is_empty() {
            return;
        }
        // What was typed at the end needs no more than itself.
        let more = line.strip_prefix(source.line.as_slice()).filter(|_| open);
        source.line.clear();
        source.line.extend(line);
        source.returned = false;
        if self.focus != id {
            return;
        }
        let shown = match more {
            Some([]) => true,
            Some(more) => self.put(id, &[Part::Bytes(more)]),
            None => self.put(
                id,
                &[
                    Part::Bytes(closing),
                    Part::Bytes(plain),
                    Part::Prefix(id),
                    Part::Line(id),
                ],
            ),
        };
        self.screen = match shown {
            true if line.is_empty() => Screen::Clean,
            true => self.drawn(),
            false => Screen::Torn,
        };
    }

    /// A byte of the source that has the input: shown at once.
    pub(crate) fn show(&mut self, byte: u8) {
        let id = self.focus;
        let Some(source) = self.sources.get_mut(id.index()) else {
            return;
        };
        if byte == b'\r' {
            source.returned = true;
            return;
        }
        let none = Part::Bytes(b"");
        let prefix = Part::Prefix(id);
        // Back at the start of the line: what follows overwrites, behind the name.
        let again = core::mem::take(&mut source.returned)
            && byte != b'\n'
            && (self.screen == Screen::Long || !source.line.is_empty());
        let (tear, name, line) = match self.screen {
            Screen::Clean => (none, prefix, Part::Line(id)),
            Screen::Torn => (Part::Bytes(NEW_LINE), prefix, none),
            Screen::Open | Screen::Long => (none, none, none),
        };
        let (back, name_again) = if again {
            (Part::Bytes(b"\r"), prefix)
        } else {
            (none, none)
        };
        let written = [byte];
        let last = Part::Bytes(if byte == b'\n' { NEW_LINE } else { &written });
        let shown = self.put(id, &[tear, name, line, back, name_again, last]);

        let Some(source) = self.sources.get_mut(id.index()) else {
            return;
        };
        match (shown, byte) {
            (true, b'\n') => {
                source.line.clear();
                self.screen = Screen::Clean;
            }
            (true, _) => {
                if !source.note_shown(byte, again) {
                    self.screen = Screen::Long;
                }
                if self.screen != Screen::Long {
                    self.screen = self.drawn();
                }
            }
            (false, b'\n') if self.screen == Screen::Clean => source.lose_line(),
            // All of the line is there but its end, which the next one will make up for.
            (false, b'\n') => {
                source.line.clear();
                self.screen = Screen::Torn;
            }
            (false, _) => source.start_skipping(),
        }
    }

    /// [Plain](crate::filter::plain) bytes of the source that has the input. `false`, and nothing shown, if they are to be
    /// taken one by one.
    pub(crate) fn show_plain(&mut self, run: &[u8]) -> bool {
        let id = self.focus;
        let Some(source) = self.source(id) else {
            return false;
        };
        // Behind an escape character they may be part of a sequence, perhaps of a question.
        let is_simple = !source.returned
            && source.line.len() + run.len() <= MAX_LINE
            && !source.line.contains(&0x1b);
        let (name, line) = match self.screen {
            Screen::Clean => (Part::Prefix(id), Part::Line(id)),
            Screen::Open => (Part::Bytes(b""), Part::Bytes(b"")),
            Screen::Long | Screen::Torn => return false,
        };
        let most = HEADER + source.prefix().len() + source.line.len() + run.len();
        let fits = self
            .accounts
            .get(id.index())
            .is_some_and(|account| account.fits(most));
        if !is_simple || !fits || !self.put(id, &[name, line, Part::Bytes(run)]) {
            return false;
        }
        if let Some(source) = self.sources.get_mut(id.index()) {
            source.line.extend_from_slice(run);
        }
        self.screen = self.drawn();
        true
    }

    /// A byte of a source that does not have the input: shown when its line is complete.
    pub(crate) fn assemble(&mut self, id: SourceId, byte: u8) {
        let Some(source) = self.sources.get_mut(id.index()) else {
            return;
        };
        let next = match source.assemble(byte) {
            Assembled::Going => return,
            Assembled::Complete => None,
            Assembled::Full(byte) => Some(byte),
        };
        let shown = self.put_line(id, Part::Line(id));
        if let Some(source) = self.sources.get_mut(id.index()) {
            if !shown {
                source.lost = source.lost.saturating_add(1);
            }
            source.line.clear();
            source.line.extend(next);
        }
    }

    /// Says how many lines of a source were lost, as soon as there is room.
    pub(crate) fn tell_of_loss(&mut self, id: SourceId) {
        let lost = match self.source(id) {
            Some(source) if !source.is_skipping() => source.lost,
            _ => 0,
        };
        if lost == 0 || !self.has_room(id) {
            return;
        }
        let mut text: ArrayString<40> = ArrayString::new();
        // It fits, by the sizes.
        let _ = write!(
            text,
            "[{lost} line{} lost]",
            if lost == 1 { "" } else { "s" }
        );
        if self.put_line(id, Part::Bytes(text.as_bytes()))
            && let Some(source) = self.sources.get_mut(id.index())
        {
            source.lost = 0;
        }
    }

    /// What makes the last line of the screen empty.
    pub(crate) fn closing(&self) -> &'static [u8] {
        match self.screen {
            Screen::Clean => b"",
            Screen::Open => ERASE,
            Screen::Long | Screen::Torn => NEW_LINE,
        }
    }

    /// What undoes the colours of the unfinished line on the screen.
    pub(crate) fn plain(&self) -> &'static [u8] {
        match self.source(self.focus) {
            Some(source) if self.screen != Screen::Clean && source.line.contains(&0x1b) => PLAIN,
            _ => b"",
        }
    }

    /// The screen when the unfinished line of the source that has the input has been drawn.
    pub(crate) fn drawn(&self) -> Screen {
        let columns = self
            .source(self.focus)
            .map_or(0, |source| source.prefix().len() + source.line.len());
        if columns < COLUMNS {
            Screen::Open
        } else {
            Screen::Long
        }
    }

    /// Puts a whole line of a source into the queue, and the unfinished line of the source that has the
    /// input below it again; all or nothing.
    pub(crate) fn put_line(&mut self, id: SourceId, text: Part<'_>) -> bool {
        let focus = self.focus;
        let mut parts: ArrayVec<Part<'_>, 7> = ArrayVec::new();
        parts.extend([
            Part::Bytes(self.closing()),
            Part::Bytes(self.plain()),
            Part::Prefix(id),
            text,
            Part::Bytes(NEW_LINE),
        ]);
        let redraw = self.is_begun(focus);
        if redraw {
            parts.extend([Part::Prefix(focus), Part::Line(focus)]);
        }
        let shown = self.put(id, &parts);
        if shown {
            self.screen = if redraw { self.drawn() } else { Screen::Clean };
        }
        shown
    }

    /// Puts the parts into the queue if the share of `id` has room for all of them.
    pub(crate) fn put(&mut self, id: SourceId, parts: &[Part<'_>]) -> bool {
        let Self {
            queue,
            sources,
            accounts,
            ..
        } = self;
        let Some(account) = accounts.get_mut(id.index()) else {
            return false;
        };
        let mut slices: ArrayVec<&[u8], 7> = ArrayVec::new();
        for part in parts.iter().take(7) {
            slices.push(match *part {
                Part::Bytes(bytes) => bytes,
                Part::Prefix(of) => sources.get(of.index()).map_or(&[], Source::prefix),
                Part::Line(of) => sources.get(of.index()).map_or(&[], |source| &source.line),
            });
        }
        let length = slices.iter().map(|slice| slice.len()).sum();
        if !account.admits(queue.cost(id.0, length)) {
            return false;
        }
        let cost = queue.push(id.0, &slices);
        account.used += cost;
        cost != 0
    }
}
