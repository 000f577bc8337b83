//! What a source has written last: its lines as text, in a ring that was reserved when the source was added.
//!
//! Lines are kept whole, oldest dropped first, and filtered like what is shown of a source that does not have the
//! input: reading them back moves no cursor. What found no room in front of the UART is here all the same.

use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::Error;
use crate::filter::{Filter, Kept};
use crate::source::MAX_LINE;

/// A line that was read back.
pub type LogLine = ArrayVec<u8, MAX_LINE>;

/// The ring. Positions count all bytes that were ever kept.
#[derive(Default)]
pub(crate) struct Scrollback {
    /// As many as have been in use at once; room for all was reserved.
    bytes: Vec<u8>,
    size: usize,
    /// Of the oldest byte that is there, the first of its line.
    begin: u64,
    /// Of the first byte of the line that is being written.
    line: u64,
    /// Of the next byte.
    end: u64,
    filter: Filter,
    /// A carriage return has come, and nothing yet that would overwrite.
    returned: bool,
}

impl Scrollback {
    /// A ring of so many bytes; none is kept if it is 0.
    pub(crate) fn new(size: usize) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Error::NoMemory)?;
        Ok(Self {
            bytes,
            size,
            ..Self::default()
        })
    }

    pub(crate) fn record(&mut self, byte: u8) {
        if self.size <= MAX_LINE {
            return;
        }
        match self.filter.take(byte) {
            Kept::Nothing => {}
            Kept::Return => self.returned = true,
            Kept::TakeBack => self.end = self.end.saturating_sub(1).max(self.line),
            Kept::Further => self.push(byte),
            Kept::First(length) => {
                if core::mem::take(&mut self.returned) {
                    self.end = self.line;
                }
                if self.end - self.line + length as u64 > MAX_LINE as u64 {
                    self.end_line();
                }
                self.push(byte);
            }
            Kept::End => {
                self.returned = false;
                self.end_line();
            }
        }
    }

    /// Records [plain](crate::filter::plain) bytes at once. `false`, and nothing recorded, if they are to be taken one by one.
    pub(crate) fn record_plain(&mut self, run: &[u8]) -> bool {
        if self.size <= MAX_LINE {
            return true;
        }
        let length = run.len() as u64;
        if !self.filter.is_at_rest()
            || self.returned
            || self.end - self.line + length > MAX_LINE as u64
        {
            return false;
        }
        // The line with the run is shorter than the ring: it ends before that line.
        while self.end - self.begin + length > self.size as u64 {
            self.drop_oldest();
        }
        let start = self.slot(self.end);
        let (first, second) = run
            .split_at_checked(self.size - start)
            .unwrap_or((run, &[]));
        self.put(start, first);
        self.put(0, second);
        self.end += length;
        true
    }

    /// Bytes for the places from `at` on, of which those that were never in use come one after the other.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let used = self.bytes.len().saturating_sub(at).min(bytes.len());
        let (again, new) = bytes.split_at_checked(used).unwrap_or_default();
        if let Some(slots) = self.bytes.get_mut(at..at + used) {
            slots.copy_from_slice(again);
        }
        // It fits what was reserved.
        self.bytes.extend_from_slice(new);
    }

    fn end_line(&mut self) {
        self.push(b'\n');
        self.line = self.end;
    }

    fn push(&mut self, byte: u8) {
        if self.end - self.begin >= self.size as u64 {
            self.drop_oldest();
        }
        let at = self.slot(self.end);
        match self.bytes.get_mut(at) {
            Some(slot) => *slot = byte,
            // The first time round. It fits what was reserved: places come one after the other.
            None => self.bytes.push(byte),
        }
        self.end += 1;
    }

    /// Drops a line: a bounded number of bytes, and never the one that is being written, which is shorter than the
    /// ring.
    fn drop_oldest(&mut self) {
        while self.begin < self.line {
            self.begin += 1;
            if self.byte(self.begin - 1) == b'\n' {
                break;
            }
        }
    }

    fn slot(&self, position: u64) -> usize {
        (position % (self.size as u64).max(1)) as usize
    }

    fn byte(&self, position: u64) -> u8 {
        self.bytes
            .get(self.slot(position))
            .copied()
            .unwrap_or(b'\n')
    }

    /// Position behind all that is there now.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The line at a position, or the oldest if that is gone, and the position of the next one. `None` behind the last.
    pub(crate) fn read(&self, position: u64) -> Option<(LogLine, u64)> {
        let mut at = position.max(self.begin);
        if at >= self.end {
            return None;
        }
        let mut line = LogLine::new();
        while at < self.end {
            let byte = self.byte(at);
            at += 1;
            if byte == b'\n' || line.try_push(byte).is_err() {
                break;
            }
        }
        Some((line, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(of: &Scrollback) -> Vec<String> {
        let (mut at, mut lines) = (0, Vec::new());
        while let Some((line, next)) = of.read(at) {
            assert!(next > at);
            lines.push(String::from_utf8_lossy(&line).into_owned());
            at = next;
        }
        lines
    }

    #[test]
    fn it_reads_as_it_looked() {
        let mut kept = Scrollback::new(2048).unwrap();
        for byte in *b"one\r\n\x1b[31mtwo\x1b[0m\r\n10%\r20%\r\nunfin" {
            kept.record(byte);
        }
        assert_eq!(lines(&kept), ["one", "two", "20%", "unfin"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut kept = Scrollback::new(2048).unwrap();
        (0..1000).for_each(|_| kept.record(b'x'));
        let lengths: Vec<usize> = lines(&kept).iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE, 1000 - MAX_LINE]);
    }

    #[test]
    fn nothing_is_kept_without_memory_for_it() {
        let mut kept = Scrollback::new(0).unwrap();
        b"line\n".iter().for_each(|&byte| kept.record(byte));
        assert_eq!(lines(&kept), [""; 0]);
    }

    proptest! {
        /// The ring holds the end of what a list of all lines holds, in whole lines, and most of its size is used.
        #[test]
        fn the_last_lines_are_there(words in prop::collection::vec("[a-z]{0,90}", 0..200)) {
            let mut kept = Scrollback::new(1500).unwrap();
            for word in &words {
                word.bytes().chain([b'\n']).for_each(|byte| kept.record(byte));
            }
            let there = lines(&kept);
            prop_assert!(words.ends_with(&there));
            let size: usize = there.iter().map(|line| line.len() + 1).sum();
            prop_assert!(size <= 1500);
            prop_assert!(there.len() == words.len() || size > 1400);
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let mut kept = Scrollback::new(600).unwrap();
            bytes.iter().for_each(|&byte| kept.record(byte));
            for line in lines(&kept) {
                prop_assert!(!line.contains(|character: char| character.is_control() && character != '\t'));
            }
        }
    }
}
