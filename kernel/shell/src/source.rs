//! One who writes: the hypervisor or a guest. Its name, its share of the queue, and the line that it
//! has not finished.

use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::Error;
use crate::filter::{Filter, Kept};
use crate::scrollback::Scrollback;

/// Bytes of a line, without name and end. A longer one is cut and goes on as another line.
pub const MAX_LINE: usize = 512;

/// Bytes of a name. A longer one is cut.
pub const MAX_NAME: usize = 32;

/// Which source. Never given to another until the source was removed and all of its output is out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(pub(crate) u16);

impl SourceId {
    /// The hypervisor itself.
    pub const HYPERVISOR: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A source.
pub(crate) struct Source {
    /// `name| `, in front of each line; empty if it has no name.
    prefix: ArrayVec<u8, { MAX_NAME + 2 }>,
    /// The line that is not finished. Filtered; or, if the source has the input, as it is on the screen
    /// (then the name stands after each carriage return too).
    pub(crate) line: Vec<u8>,
    filter: Filter,
    /// A carriage return has come, and nothing yet that would overwrite.
    pub(crate) returned: bool,
    /// Bytes of the current line that were left out for want of room; 0 if none was.
    skipped: usize,
    /// Lines lost that no line has told of yet.
    pub(crate) lost: u32,
    /// What it wrote last, to be read back.
    pub(crate) kept: Scrollback,
    /// It has been removed: nothing more comes from it.
    pub(crate) removed: bool,
}

/// What a source has of the queue.
pub(crate) struct Account {
    /// Bytes that it may take.
    pub(crate) share: usize,
    /// Bytes that it takes.
    pub(crate) used: usize,
    /// It has overrun its share, and loses lines until half of that is free.
    overrun: bool,
}

impl Account {
    pub(crate) fn new(share: usize) -> Self {
        Self {
            share,
            used: 0,
            overrun: false,
        }
    }

    /// Whether so many bytes more may go into the queue. If not, nothing may until half of the share is
    /// free again: then a flood shows as stretches with gaps, not as every other line.
    pub(crate) fn admits(&mut self, cost: usize) -> bool {
        if self.overrun && !self.has_room() {
            return false;
        }
        self.overrun = self.used + cost > self.share;
        !self.overrun
    }

    /// Whether so many bytes more may go into the queue, if that is only asked.
    pub(crate) fn fits(&self, cost: usize) -> bool {
        !self.overrun && self.used + cost <= self.share
    }

    /// Whether half of the share is free.
    pub(crate) fn has_room(&self) -> bool {
        self.used <= self.share / 2
    }
}

/// What [`Source::skip`] says of a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// Nothing is being left out.
    No,
    /// It is left out.
    Going,
    /// It is left out, and was the last of its line.
    Over,
}

impl Source {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let mut line = Vec::new();
        line.try_reserve_exact(MAX_LINE)
            .map_err(|_| Error::NoMemory)?;
        let mut prefix: ArrayVec<u8, { MAX_NAME + 2 }> = ArrayVec::new();
        let mut filter = Filter::default();
        for character in name.chars().filter(|character| !character.is_control()) {
            let mut buffer = [0; 4];
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            if prefix.len() + bytes.len() > MAX_NAME {
                break;
            }
            // A name is a word of the tree's writer; still, nothing in it moves the cursor.
            for &byte in bytes {
                if matches!(filter.take(byte), Kept::First(_) | Kept::Further) {
                    prefix.push(byte);
                }
            }
        }
        if !prefix.is_empty() {
            prefix.extend(*b"| ");
        }
        Ok(Self {
            prefix,
            line,
            filter: Filter::default(),
            returned: false,
            skipped: 0,
            lost: 0,
            kept: Scrollback::default(),
            removed: false,
        })
    }

    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The name, without what stands between it and the line.
    pub(crate) fn name(&self) -> &[u8] {
        self.prefix.strip_suffix(b"| ").unwrap_or_default()
    }

    /// Adds to the unfinished line what was just shown of it: a byte, and if it was the first after a
    /// carriage return, that and the name. `false` if the line was too long to be kept: then its
    /// beginning is forgotten.
    pub(crate) fn note_shown(&mut self, byte: u8, again: bool) -> bool {
        let length = if again { 2 + self.prefix.len() } else { 1 };
        let kept = self.line.len() + length <= MAX_LINE;
        if !kept {
            self.line.clear();
        }
        if again {
            self.line.push(b'\r');
            self.line.extend(&self.prefix);
        }
        self.line.push(byte);
        self.forget_question();
        kept
    }

    /// Drops a question to the terminal (device status or attributes, ECMA-48 8.3.35 and 8.3.24) from
    /// the end of the unfinished line: it has been asked, and drawn again it would be asked again.
    fn forget_question(&mut self) {
        let Some((b'n' | b'c', before)) = self.line.split_last() else {
            return;
        };
        let parameters = before
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, 0x20..=0x3f))
            .count();
        let introducer = before.len().saturating_sub(parameters);
        if let Some(start) = before
            .get(..introducer)
            .and_then(|before| before.strip_suffix(b"\x1b["))
        {
            self.line.truncate(start.len());
        }
    }

    /// Leaves the rest of the line out, since there was no room.
    pub(crate) fn start_skipping(&mut self) {
        self.skipped = 1;
    }

    pub(crate) fn is_skipping(&self) -> bool {
        self.skipped != 0
    }

    /// Whether the byte is part of a line that is being left out. What has no ends of line counts as a
    /// line every [`MAX_LINE`] bytes.
    pub(crate) fn skip(&mut self, byte: u8) -> Skip {
        if self.skipped == 0 {
            return Skip::No;
        }
        self.skipped += 1;
        if byte != b'\n' && self.skipped < MAX_LINE {
            return Skip::Going;
        }
        self.skipped = 0;
        self.lose_line();
        Skip::Over
    }

    /// The line that is being assembled will not be shown.
    pub(crate) fn lose_line(&mut self) {
        self.lost = self.lost.saturating_add(1);
        self.line.clear();
        self.returned = false;
        self.filter = Filter::default();
    }

    /// Adds a byte of a source that does not have the input to its line; whether the line is complete,
    /// and if so, whether the byte still has to be added to the next.
    pub(crate) fn assemble(&mut self, byte: u8) -> Assembled {
        match self.filter.take(byte) {
            Kept::Nothing => Assembled::Going,
            Kept::Return => {
                self.returned = true;
                Assembled::Going
            }
            Kept::End => {
                self.returned = false;
                Assembled::Complete
            }
            Kept::TakeBack => {
                self.line.pop();
                Assembled::Going
            }
            Kept::First(length) => {
                // What follows a carriage return overwrites the line, on a terminal.
                if core::mem::take(&mut self.returned) {
                    self.line.clear();
                }
                if self.line.len() + length > MAX_LINE {
                    return Assembled::Full(byte);
                }
                self.line.push(byte);
                Assembled::Going
            }
            Kept::Further => {
                self.line.push(byte);
                Assembled::Going
            }
        }
    }

    /// Adds [plain](crate::filter::plain) bytes of a source that does not have the input to its line. `false`, and nothing
    /// added, if they are to be taken one by one.
    pub(crate) fn assemble_plain(&mut self, run: &[u8]) -> bool {
        if !self.filter.is_at_rest() || self.returned || self.line.len() + run.len() > MAX_LINE {
            return false;
        }
        self.line.extend_from_slice(run);
        true
    }

    /// Turns an unfinished line as it is on the screen into a filtered one.
    pub(crate) fn filter_line(&mut self) {
        let raw: ArrayVec<u8, MAX_LINE> = self.line.iter().copied().take(MAX_LINE).collect();
        let returned = core::mem::take(&mut self.returned);
        self.line.clear();
        self.filter = Filter::default();
        let mut bytes = raw.iter();
        while let Some(&byte) = bytes.next() {
            // Filtering only shortens, so it never gets full; and there is no end of line in a line.
            let _ = self.assemble(byte);
            if byte == b'\r' && !self.prefix.is_empty() {
                let _ = bytes.nth(self.prefix.len() - 1);
            }
        }
        self.returned |= returned;
    }
}

/// What [`Source::assemble`] made of a byte.
pub(crate) enum Assembled {
    /// The line goes on.
    Going,
    /// The line is complete.
    Complete,
    /// The line is full, and this byte begins the next.
    Full(u8),
}
