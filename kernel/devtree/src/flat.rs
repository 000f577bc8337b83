//! Writes a flattened tree (Devicetree Specification 0.4, chapter 5), within a bound that is given beforehand.
//!
//! What is wrong is kept until the end: nothing is written after it, and [`Writer::finish`] says what it was.

use alloc::vec::Vec;

use crate::Error;
use crate::check::{BEGIN_NODE, END, END_NODE, HEADER_SIZE, MAGIC, MAX_NAME, PROPERTY};

/// The reservation block: only the entry that ends it.
const RESERVATIONS: usize = 16;
const TOO_LARGE: &str = "larger than the room for it";

/// A tree being written.
pub(crate) struct Writer {
    /// Header, reservation block, and the structure block so far.
    bytes: Vec<u8>,
    /// The strings block so far.
    strings: Vec<u8>,
    /// Where each name begins in it, sorted by name.
    names: Vec<usize>,
    room: usize,
    open: usize,
    wrong: Option<&'static str>,
}

impl Writer {
    /// A tree of at most `room` bytes.
    pub(crate) fn new(room: usize) -> Self {
        let mut writer = Self {
            bytes: Vec::new(),
            strings: Vec::new(),
            names: Vec::new(),
            room,
            open: 0,
            wrong: None,
        };
        writer.append(&[0; HEADER_SIZE + RESERVATIONS]);
        writer
    }

    /// The tree cannot be written, for this reason.
    pub(crate) fn fail(&mut self, why: &'static str) {
        self.wrong = self.wrong.or(Some(why));
    }

    /// Begins a node; the root has no name.
    pub(crate) fn begin(&mut self, name: &str) {
        if !is_name(name) || name.contains('/') {
            self.fail("a node's name is not allowed");
        }
        self.open = self.open.saturating_add(1);
        self.word(BEGIN_NODE);
        self.append(name.as_bytes());
        self.append(&[0]);
        self.pad();
    }

    /// Ends the node begun last.
    pub(crate) fn end(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.word(END_NODE);
    }

    /// A property.
    pub(crate) fn property(&mut self, name: &str, value: &[u8]) {
        let Ok(size) = u32::try_from(value.len()) else {
            return self.fail(TOO_LARGE);
        };
        let Some(at) = self.name(name) else { return };
        self.word(PROPERTY);
        self.word(size);
        self.word(at);
        self.append(value);
        self.pad();
    }

    /// A property of 32-bit cells.
    pub(crate) fn cells(&mut self, name: &str, cells: &[u32]) {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.property(name, &bytes);
    }

    /// A property of one 32-bit cell.
    pub(crate) fn cell(&mut self, name: &str, cell: u32) {
        self.property(name, &cell.to_be_bytes());
    }

    /// A property of two cells that make one number.
    pub(crate) fn long(&mut self, name: &str, number: u64) {
        self.property(name, &number.to_be_bytes());
    }

    /// A property of strings.
    pub(crate) fn texts(&mut self, name: &str, texts: &[&str]) {
        let mut bytes = Vec::new();
        for text in texts {
            if text.contains('\0') {
                self.fail("a text has a NUL in it");
            }
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        self.property(name, &bytes);
    }

    /// The tree's bytes.
    ///
    /// # Errors
    /// What went wrong first.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Error> {
        if self.open > 0 {
            self.fail("a node has no end");
        }
        self.word(END);
        let structure = HEADER_SIZE + RESERVATIONS;
        let strings = self.bytes.len();
        let names = core::mem::take(&mut self.strings);
        self.append(&names);
        if let Some(why) = self.wrong {
            return Err(Error::Writing(why));
        }
        let fields = [
            self.bytes.len(),
            structure,
            strings,
            HEADER_SIZE,
            // Version 17, which readers of version 16 understand; the boot CPU is number 0.
            17,
            16,
            0,
            names.len(),
            strings.saturating_sub(structure),
        ];
        let fields = fields.map(|field| u32::try_from(field).unwrap_or(u32::MAX));
        let header = [MAGIC].into_iter().chain(fields);
        let places = self.bytes.chunks_exact_mut(4);
        for (place, field) in places.zip(header) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        Ok(self.bytes)
    }

    /// Where a name stands in the strings block; it is added if it is new.
    fn name(&mut self, name: &str) -> Option<u32> {
        if !is_name(name) || name.is_empty() {
            self.fail("a property's name is not allowed");
            return None;
        }
        let strings = &self.strings;
        let text = |at: usize| {
            let rest = strings.get(at..).unwrap_or_default();
            rest.split(|&byte| byte == 0).next().unwrap_or_default()
        };
        let found = (self.names).binary_search_by(|&at| text(at).cmp(name.as_bytes()));
        let at = match found {
            Ok(index) => self.names.get(index).copied()?,
            Err(index) => {
                let at = self.strings.len();
                let size = name.len() + 1;
                if !self.has_room(size)
                    || self.strings.try_reserve(size).is_err()
                    || self.names.try_reserve(1).is_err()
                {
                    self.fail(TOO_LARGE);
                    return None;
                }
                self.strings.extend_from_slice(name.as_bytes());
                self.strings.push(0);
                self.names.insert(index, at);
                at
            }
        };
        u32::try_from(at).ok()
    }

    fn has_room(&self, size: usize) -> bool {
        let used = self.bytes.len().saturating_add(self.strings.len());
        used.saturating_add(size) <= self.room
    }

    fn word(&mut self, word: u32) {
        self.append(&word.to_be_bytes());
    }

    fn pad(&mut self) {
        let missing = self.bytes.len().wrapping_neg() % 4;
        self.append([0; 3].get(..missing).unwrap_or_default());
    }

    fn append(&mut self, bytes: &[u8]) {
        if !self.has_room(bytes.len()) || self.bytes.try_reserve(bytes.len()).is_err() {
            self.fail(TOO_LARGE);
        }
        if self.wrong.is_none() {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

/// What our own check of a tree lets pass.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
#[path = "flat_tests.rs"]
mod tests;
