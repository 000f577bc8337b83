//! The multiplexer: composes what the screen is to show, in the order in which it was written, and
//! knows what will be on the screen's last line when all of it is out.

use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::Deref;

use arrayvec::{ArrayString, ArrayVec};

use crate::Error;
use crate::conswitch::{Pressed, Presses, Switch};
use crate::queue::{HEADER, Queue};
use crate::source::{Account, Assembled, MAX_NAME, Skip, Source, SourceId};

/// The least share of the queue: more than twice what one line can take, with the unfinished line of
/// another drawn again after it.
const MIN_SHARE: usize = 4096;

/// Columns that every terminal has. An unfinished line that may be longer cannot be taken off the
/// screen, since it may stand on two rows.
const COLUMNS: usize = 80;

const NEW_LINE: &[u8] = b"\r\n";
/// Back to the start of the line, and erase it (ECMA-48 8.3.41, EL).
const ERASE: &[u8] = b"\r\x1b[K";
/// Colours and the like back to normal (8.3.117, SGR).
const PLAIN: &[u8] = b"\x1b[0m";

/// What will be on the last line of the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Screen {
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
enum Part<'a> {
    Bytes(&'a [u8]),
    Prefix(SourceId),
    Line(SourceId),
}

/// Bytes from the keyboard for a source: what was pressed, after presses of the switch key that turned
/// out not to switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys(ArrayVec<u8, 3>);

impl Deref for Keys {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// What became of a byte from the keyboard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Nothing yet: it may be part of a switch.
    None,
    /// It is for this source, with what had been kept back.
    To(SourceId, Keys),
    /// It moved the input to this source.
    Switched(SourceId),
}

/// The console.
pub struct Console {
    queue: Queue,
    sources: Vec<Source>,
    accounts: Vec<Account>,
    focus: SourceId,
    screen: Screen,
    switch: Switch,
    presses: Presses,
}

impl Console {
    /// A console with one source, the hypervisor, which also has the input. Its lines stand under `name`
    /// (under none if that is empty), and may take `share` bytes of the queue.
    ///
    /// # Errors
    ///
    /// [`Error::NoMemory`].
    pub fn new(name: &str, share: usize, switch: Switch) -> Result<Self, Error> {
        let mut console = Self {
            queue: Queue::default(),
            sources: Vec::new(),
            accounts: Vec::new(),
            focus: SourceId::HYPERVISOR,
            screen: Screen::Clean,
            switch,
            presses: Presses::default(),
        };
        console.add(name, share)?;
        Ok(console)
    }

    /// Adds a source, whose output that the UART has not taken yet may be `share` bytes long (4 KiB at
    /// least). This is where memory is taken; nothing later does.
    ///
    /// # Errors
    ///
    /// [`Error`]; the console is as before.
    pub fn add(&mut self, name: &str, share: usize) -> Result<SourceId, Error> {
        let share = share.max(MIN_SHARE);
        let source = Source::new(name)?;
        let mut slots = self.sources.iter_mut().zip(&mut self.accounts);
        if let Some(index) = slots.position(|(old, account)| old.removed && account.used == 0) {
            let (Some(slot), Some(account)) =
                (self.sources.get_mut(index), self.accounts.get_mut(index))
            else {
                return Err(Error::TooMany);
            };
            self.queue.grow(share.saturating_sub(account.share))?;
            *account = Account::new(share.max(account.share));
            *slot = source;
            return Ok(SourceId(index as u16));
        }
        let index = u16::try_from(self.sources.len()).map_err(|_| Error::TooMany)?;
        self.sources.try_reserve(1).map_err(|_| Error::NoMemory)?;
        self.accounts.try_reserve(1).map_err(|_| Error::NoMemory)?;
        self.queue.grow(share)?;
        self.sources.push(source);
        self.accounts.push(Account::new(share));
        Ok(SourceId(index))
    }

    /// Takes the memory for what so many sources with such a share write at once: taken one by one, ever
    /// larger pieces would leave ever larger holes.
    ///
    /// # Errors
    ///
    /// [`Error`]; the console is as before.
    pub fn reserve(&mut self, sources: usize, share: usize) -> Result<(), Error> {
        let share = share.max(MIN_SHARE);
        self.queue
            .reserve(share.checked_mul(sources).ok_or(Error::NoMemory)?)
    }

    /// Removes a source other than the hypervisor. What it has written is still shown, an unfinished
    /// line too. If it had the input, the hypervisor gets it.
    pub fn remove(&mut self, id: SourceId) {
        if id == SourceId::HYPERVISOR || !self.is_live(id) {
            return;
        }
        self.finish_line(id);
        if self.focus == id {
            self.give_input(SourceId::HYPERVISOR);
        }
        if let Some(source) = self.sources.get_mut(id.index()) {
            source.removed = true;
        }
    }

    /// Ends a line that a source has not finished.
    pub fn finish_line(&mut self, id: SourceId) {
        if self
            .source(id)
            .is_some_and(|source| !source.line.is_empty() || source.is_skipping())
        {
            self.write(id, b"\n");
        }
    }

    /// Undoes [`remove`](Self::remove), if no other source has been added since.
    pub fn reopen(&mut self, id: SourceId) {
        if let Some(source) = self.sources.get_mut(id.index()) {
            source.removed = false;
        }
    }

    /// Takes what a source writes. Never waits and takes no memory: what finds no room in the source's
    /// share is lost, in whole lines.
    pub fn write(&mut self, id: SourceId, bytes: &[u8]) {
        if !self.is_live(id) {
            return;
        }
        for &byte in bytes {
            let skip = self
                .sources
                .get_mut(id.index())
                .map_or(Skip::No, |source| source.skip(byte));
            match skip {
                Skip::No if id == self.focus => self.show(byte),
                Skip::No => self.assemble(id, byte),
                Skip::Going => {}
                Skip::Over => {
                    if id == self.focus && self.screen != Screen::Clean {
                        self.screen = Screen::Torn;
                    }
                    self.tell_of_loss(id);
                }
            }
        }
    }

    /// Whether a source has much room: at least half of its share. Who can make its writer wait asks
    /// first, and no line is lost.
    #[must_use]
    pub fn has_room(&self, id: SourceId) -> bool {
        self.accounts.get(id.index()).is_some_and(Account::has_room)
    }

    /// The next bytes for the UART; empty if there are none. To be followed by
    /// [`consumed`](Self::consumed).
    pub fn output(&mut self) -> &[u8] {
        let (freed, chunk) = self.queue.chunk();
        if let Some(account) = freed.and_then(|id| self.accounts.get_mut(usize::from(id))) {
            account.used = account.used.saturating_sub(HEADER);
        }
        chunk
    }

    /// The UART has taken so many bytes of the last [`output`](Self::output).
    pub fn consumed(&mut self, count: usize) {
        let Some((id, count)) = self.queue.consume(count) else {
            return;
        };
        let id = SourceId(id);
        if let Some(account) = self.accounts.get_mut(id.index()) {
            account.used = account.used.saturating_sub(count);
        }
        self.tell_of_loss(id);
    }

    /// Takes a byte from the keyboard and says for whom it is.
    pub fn input(&mut self, byte: u8) -> Input {
        match self.presses.take(self.switch, byte) {
            Pressed::Kept => Input::None,
            Pressed::Switch => {
                let next = self.next_stop();
                self.give_input(next);
                Input::Switched(next)
            }
            Pressed::Other(kept) => {
                let mut keys = ArrayVec::new();
                keys.extend(core::iter::repeat_n(
                    self.switch.code(),
                    usize::from(kept.min(2)),
                ));
                keys.push(byte);
                Input::To(self.focus, Keys(keys))
            }
        }
    }

    /// Who has the input.
    #[must_use]
    pub fn focus(&self) -> SourceId {
        self.focus
    }

    /// Gives the input to a source, and says so on the screen. No effect if it was removed.
    pub fn give_input(&mut self, id: SourceId) {
        if !self.is_live(id) {
            return;
        }
        let closing = self.closing();
        let plain = self.plain();
        if let Some(old) = self.sources.get_mut(self.focus.index()) {
            old.filter_line();
        }
        self.focus = id;
        let mut text: ArrayString<{ MAX_NAME + 80 }> = ArrayString::new();
        let name = self.source(id).map_or(&b""[..], Source::name);
        let name = match str::from_utf8(name) {
            Ok(name) if !name.is_empty() => name,
            _ => "the hypervisor",
        };
        // It fits, by the sizes.
        let _ = write!(
            text,
            "*** input goes to {name} (Ctrl-{} three times: to the next)",
            self.switch.letter()
        );
        let hypervisor = SourceId::HYPERVISOR;
        let announced = self.put(
            hypervisor,
            &[
                Part::Bytes(closing),
                Part::Bytes(plain),
                Part::Prefix(hypervisor),
                Part::Bytes(text.as_bytes()),
                Part::Bytes(NEW_LINE),
            ],
        );
        // Without room for the words, what was on the screen's last line still is.
        if !announced && self.screen != Screen::Clean {
            self.screen = Screen::Torn;
            return;
        }
        self.screen = Screen::Clean;
        if self.is_begun(id) && self.put(hypervisor, &[Part::Prefix(id), Part::Line(id)]) {
            self.screen = self.drawn();
        }
    }

    /// The next source in turn that is there; the hypervisor is one of them.
    fn next_stop(&self) -> SourceId {
        let count = self.sources.len();
        let after = (1..=count).map(|step| (self.focus.index() + step) % count.max(1));
        after
            .map(|index| SourceId(index as u16))
            .find(|&id| self.is_live(id))
            .unwrap_or(SourceId::HYPERVISOR)
    }

    fn source(&self, id: SourceId) -> Option<&Source> {
        self.sources.get(id.index())
    }

    fn is_live(&self, id: SourceId) -> bool {
        self.source(id).is_some_and(|source| !source.removed)
    }

    /// Whether a source has an unfinished line.
    fn is_begun(&self, id: SourceId) -> bool {
        self.source(id)
            .is_some_and(|source| !source.line.is_empty())
    }

    /// A byte of the source that has the input: shown at once.
    fn show(&mut self, byte: u8) {
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

    /// A byte of a source that does not have the input: shown when its line is complete.
    fn assemble(&mut self, id: SourceId, byte: u8) {
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
    fn tell_of_loss(&mut self, id: SourceId) {
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
    fn closing(&self) -> &'static [u8] {
        match self.screen {
            Screen::Clean => b"",
            Screen::Open => ERASE,
            Screen::Long | Screen::Torn => NEW_LINE,
        }
    }

    /// What undoes the colours of the unfinished line on the screen.
    fn plain(&self) -> &'static [u8] {
        match self.source(self.focus) {
            Some(source) if self.screen != Screen::Clean && source.line.contains(&0x1b) => PLAIN,
            _ => b"",
        }
    }

    /// The screen when the unfinished line of the source that has the input has been drawn.
    fn drawn(&self) -> Screen {
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
    fn put_line(&mut self, id: SourceId, text: Part<'_>) -> bool {
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
    fn put(&mut self, id: SourceId, parts: &[Part<'_>]) -> bool {
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
