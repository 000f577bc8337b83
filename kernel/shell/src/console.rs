//! The multiplexer: who writes, who has the input, and what goes to the UART next. What the screen is to show is
//! composed in `screen`.

use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::Deref;

use arrayvec::{ArrayString, ArrayVec};

use crate::Error;
use crate::conswitch::{Pressed, Presses, Switch};
use crate::filter::plain;
use crate::queue::{HEADER, Queue};
use crate::screen::{NEW_LINE, Part, Screen};
use crate::scrollback::{LogLine, Scrollback};
use crate::source::{Account, MAX_NAME, Skip, Source, SourceId};

/// The least share of the queue: more than twice what one line can take, with the unfinished line of
/// another drawn again after it.
const MIN_SHARE: usize = 4096;

/// Plain bytes that are worth taking at once.
const RUN: usize = 4;

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
    pub(crate) queue: Queue,
    pub(crate) sources: Vec<Source>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) focus: SourceId,
    pub(crate) screen: Screen,
    /// Who has the input when nobody else has: the shell, or the hypervisor if there is none.
    home: SourceId,
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
            home: SourceId::HYPERVISOR,
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

    /// Adds the shell: a source whose lines stand under no name, which no guest's do. From now on it has the input
    /// where the hypervisor had it.
    ///
    /// # Errors
    ///
    /// [`Error`]; the console is as before.
    pub fn add_shell(&mut self, share: usize) -> Result<SourceId, Error> {
        let shell = self.add("", share)?;
        if self.focus == self.home {
            self.focus = shell;
        }
        self.home = shell;
        Ok(shell)
    }

    /// The shell, or the hypervisor if there is none.
    #[must_use]
    pub fn home(&self) -> SourceId {
        self.home
    }

    /// Reserves memory for what a source writes from now on to be read back by [`log`](Self::log): its last lines, so
    /// many bytes of them. What was kept before is gone.
    ///
    /// # Errors
    ///
    /// [`Error::NoMemory`].
    pub fn keep(&mut self, id: SourceId, bytes: usize) -> Result<(), Error> {
        if let Some(source) = self.sources.get_mut(id.index()) {
            source.kept = Scrollback::new(bytes)?;
        }
        Ok(())
    }

    /// The line of a source's log at a position (0: the oldest), and the position of the next line; `None` behind the
    /// last. A line that is gone is passed over. Also of a source that was removed, until its place is another's.
    #[must_use]
    pub fn log(&self, id: SourceId, position: u64) -> Option<(LogLine, u64)> {
        self.source(id)?.kept.read(position)
    }

    /// Position behind the last line of a source's log.
    #[must_use]
    pub fn log_end(&self, id: SourceId) -> u64 {
        self.source(id).map_or(0, |source| source.kept.end())
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
        if id == SourceId::HYPERVISOR || id == self.home || !self.is_live(id) {
            return;
        }
        self.finish_line(id);
        if self.focus == id {
            self.give_input(self.home);
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
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            let run = plain(rest);
            rest = if run.len() >= RUN && self.write_plain(id, run) {
                rest.get(run.len()..).unwrap_or_default()
            } else {
                self.write_byte(id, byte);
                after
            };
        }
    }

    /// Takes plain bytes at once; most of what is written is such. `false`, and nothing taken, if they are to be taken one
    /// by one: it comes to the same.
    fn write_plain(&mut self, id: SourceId, run: &[u8]) -> bool {
        let Some(source) = self.sources.get_mut(id.index()) else {
            return false;
        };
        if source.is_skipping() || !source.kept.record_plain(run) {
            return false;
        }
        let shown = if id == self.focus {
            self.show_plain(run)
        } else {
            source.assemble_plain(run)
        };
        if !shown {
            for &byte in run {
                self.write_recorded(id, byte);
            }
        }
        true
    }

    fn write_byte(&mut self, id: SourceId, byte: u8) {
        if let Some(source) = self.sources.get_mut(id.index()) {
            source.kept.record(byte);
        }
        self.write_recorded(id, byte);
    }

    fn write_recorded(&mut self, id: SourceId, byte: u8) {
        let Some(source) = self.sources.get_mut(id.index()) else {
            return;
        };
        match source.skip(byte) {
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
            _ if id != SourceId::HYPERVISOR && id == self.home => "the shell",
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

    /// The next source in turn that is there; the shell is one of them, or the hypervisor if there is none.
    fn next_stop(&self) -> SourceId {
        let count = self.sources.len();
        let after = (1..=count).map(|step| (self.focus.index() + step) % count.max(1));
        after
            .map(|index| SourceId(index as u16))
            .find(|&id| self.is_live(id) && (id != SourceId::HYPERVISOR || id == self.home))
            .unwrap_or(self.home)
    }

    pub(crate) fn source(&self, id: SourceId) -> Option<&Source> {
        self.sources.get(id.index())
    }

    pub(crate) fn is_live(&self, id: SourceId) -> bool {
        self.source(id).is_some_and(|source| !source.removed)
    }

    /// Whether a source has an unfinished line.
    pub(crate) fn is_begun(&self, id: SourceId) -> bool {
        self.source(id)
            .is_some_and(|source| !source.line.is_empty())
    }
}
