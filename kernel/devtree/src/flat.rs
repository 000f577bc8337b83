//! Writes a flattened tree (Devicetree Specification 0.4, chapter 5), within a bound that is given beforehand.
//!
//! What is wrong is kept until the end: nothing is written after it, and [`Writer::finish`] says what it was.

use alloc::vec::Vec;

use crate::Error;
use crate::check::{BEGIN_NODE, END, END_NODE, HEADER_SIZE, MAGIC, MAX_NAME, PROPERTY};

/// The reservation block: only the entry that ends it.
const RESERVATIONS: usize = 16;
/// All before the structure block.
const HEAD: usize = HEADER_SIZE + RESERVATIONS;
/// Bytes, bytes of names, and names of a guest's tree, mostly.
const USUAL: usize = 1536;
const USUAL_STRINGS: usize = 512;
const USUAL_NAMES: usize = 64;
const TOO_LARGE: &str = "larger than the room for it";

/// A tree being written.
pub(crate) struct Writer {
    /// Header, reservation block, and the structure block so far.
    bytes: Vec<u8>,
    /// The strings block so far.
    strings: Vec<u8>,
    /// Where each name begins in it and how long it is; short ones first, those of a length by their letters.
    names: Vec<(u32, u32)>,
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
        // What a guest's tree usually takes; where there is no memory for it, it is asked for again.
        let _ = writer.bytes.try_reserve(USUAL.min(room));
        let _ = writer.strings.try_reserve(USUAL_STRINGS.min(room));
        let _ = writer.names.try_reserve(USUAL_NAMES.min(room));
        if writer.reserve(HEAD) {
            writer.bytes.extend_from_slice(&[0; HEAD]);
        }
        writer
    }

    /// The tree cannot be written, for this reason.
    pub(crate) fn fail(&mut self, why: &'static str) {
        self.wrong = self.wrong.or(Some(why));
    }

    /// Begins a node; the root has no name.
    #[inline(never)]
    pub(crate) fn begin(&mut self, name: &str) {
        if !is_name(name) || name.contains('/') {
            self.fail("a node's name is not allowed");
        }
        self.open = self.open.saturating_add(1);
        if self.reserve(padded(name.len().saturating_add(1)).saturating_add(4)) {
            self.bytes.extend_from_slice(&BEGIN_NODE.to_be_bytes());
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.push(0);
            self.pad();
        }
    }

    /// Ends the node begun last.
    pub(crate) fn end(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.word(END_NODE);
    }

    /// A property.
    #[inline(never)]
    pub(crate) fn property(&mut self, name: &str, value: &[u8]) {
        if self.head(name, value.len()) {
            self.bytes.extend_from_slice(value);
            self.pad();
        }
    }

    /// A property of 32-bit cells.
    #[inline(never)]
    pub(crate) fn cells(&mut self, name: &str, cells: &[u32]) {
        if self.head(name, cells.len().saturating_mul(4)) {
            for cell in cells {
                self.bytes.extend_from_slice(&cell.to_be_bytes());
            }
        }
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
    #[inline(never)]
    pub(crate) fn texts(&mut self, name: &str, texts: &[&str]) {
        let mut size = 0_usize;
        for text in texts {
            if text.as_bytes().contains(&0) {
                self.fail("a text has a NUL in it");
            }
            size = size.saturating_add(text.len()).saturating_add(1);
        }
        if self.head(name, size) {
            for text in texts {
                self.bytes.extend_from_slice(text.as_bytes());
                self.bytes.push(0);
            }
            self.pad();
        }
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
        let strings = self.bytes.len();
        let total = strings.saturating_add(self.strings.len());
        // Kept as long as there is the guest: no byte more than it takes.
        let mut tree = Vec::new();
        if total > self.room || tree.try_reserve_exact(total).is_err() {
            self.fail(TOO_LARGE);
        }
        if let Some(why) = self.wrong {
            return Err(Error::Writing(why));
        }
        tree.extend_from_slice(&self.bytes);
        tree.extend_from_slice(&self.strings);
        let fields = [
            total,
            HEAD,
            strings,
            HEADER_SIZE,
            // Version 17, which readers of version 16 understand; the boot CPU is number 0.
            17,
            16,
            0,
            self.strings.len(),
            strings.saturating_sub(HEAD),
        ];
        let fields = fields.map(|field| u32::try_from(field).unwrap_or(u32::MAX));
        let header = [MAGIC].into_iter().chain(fields);
        let places = tree.chunks_exact_mut(4);
        for (place, field) in places.zip(header) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        Ok(tree)
    }

    /// All of a property before its value of so many bytes, for which there is room then. Whether nothing is wrong.
    #[inline(never)]
    fn head(&mut self, name: &str, size: usize) -> bool {
        let Some(at) = self.name(name) else {
            return false;
        };
        let Ok(length) = u32::try_from(size) else {
            self.fail(TOO_LARGE);
            return false;
        };
        let is_well = self.reserve(padded(size).saturating_add(12));
        if is_well {
            for word in [PROPERTY, length, at] {
                self.bytes.extend_from_slice(&word.to_be_bytes());
            }
        }
        is_well
    }

    /// Where a name stands in the strings block; it is added if it is new.
    #[inline(never)]
    fn name(&mut self, name: &str) -> Option<u32> {
        let strings = &self.strings;
        let order = |&(at, length): &(u32, u32)| {
            let text = strings.get(at as usize..).unwrap_or_default();
            let text = text.get(..length as usize).unwrap_or_default();
            let by_length = text.len().cmp(&name.len());
            by_length.then_with(|| text.cmp(name.as_bytes()))
        };
        let index = match self.names.binary_search_by(order) {
            Ok(index) => return self.names.get(index).map(|place| place.0),
            Err(index) => index,
        };
        if !is_name(name) || name.is_empty() {
            self.fail("a property's name is not allowed");
            return None;
        }
        let size = name.len() + 1;
        let place = u32::try_from(self.strings.len()).ok();
        let place = place.filter(|_| {
            self.has_room(size)
                && self.strings.try_reserve(size).is_ok()
                && self.names.try_reserve(1).is_ok()
        });
        let Some(at) = place else {
            self.fail(TOO_LARGE);
            return None;
        };
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        self.names.insert(index, (at, name.len() as u32));
        Some(at)
    }

    fn has_room(&self, size: usize) -> bool {
        let used = self.bytes.len().saturating_add(self.strings.len());
        used.saturating_add(size) <= self.room
    }

    fn word(&mut self, word: u32) {
        if self.reserve(4) {
            self.bytes.extend_from_slice(&word.to_be_bytes());
        }
    }

    fn pad(&mut self) {
        let missing = self.bytes.len().wrapping_neg() % 4;
        self.bytes
            .extend_from_slice([0; 3].get(..missing).unwrap_or_default());
    }

    /// Whether nothing is wrong, and there is room for so many bytes more.
    fn reserve(&mut self, size: usize) -> bool {
        if !self.has_room(size) || self.bytes.try_reserve(size).is_err() {
            self.fail(TOO_LARGE);
        }
        self.wrong.is_none()
    }
}

/// Bytes that so many take in the structure block.
fn padded(size: usize) -> usize {
    size.saturating_add(3) & !3
}

/// What our own check of a tree lets pass.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
#[path = "flat_tests.rs"]
mod tests;
