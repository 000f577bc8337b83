//! A CPU's records, newest kept.
//!
//! Slots have one size, so that the writer overwrites the oldest without looking at it, and both sides only count: the
//! slot of record `n` is `n` modulo the number of slots, and `head` says how many records were ever written. A
//! reader that is overtaken while it copies a slot sees that by `head` afterwards, and counts the record as lost. That
//! is a sequence lock; the fences are those of H.-J. Boehm, "Can seqlocks get along with programming language
//! memory models?" (MSPC 2012).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::primitives::{AtomicU64, Ordering, fence};

/// Bytes of a record with its length.
pub const SLOT: usize = 32;
/// Where the frame begins: its index lies before its time, which is a word, and its arguments, which are two.
const FRAME_AT: usize = 6;
/// Where its length is.
const LENGTH_AT: usize = 5;
/// Bytes of the longest frame.
pub const FRAME: usize = SLOT - FRAME_AT;
/// 64-bit words of a record.
pub const WORDS: usize = SLOT / 8;
/// How often a reader tries again that the writer overtakes.
const TRIES: usize = 4;

/// A record: five bytes that mean nothing, the length of the frame, and the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(align(8))]
pub struct Slot(pub [u8; SLOT]);

impl Slot {
    /// The record of a frame; `None` if that is too long.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let mut slot = Self::default();
        let place = slot.0.get_mut(FRAME_AT..FRAME_AT + frame.len())?;
        place.copy_from_slice(frame);
        *slot.0.get_mut(LENGTH_AT)? = frame.len() as u8;
        Some(slot)
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        let length = self
            .0
            .get(LENGTH_AT)
            .map_or(0, |length| usize::from(*length));
        let frame = self.0.get(FRAME_AT..FRAME_AT + length.min(FRAME));
        frame.unwrap_or(&[])
    }

    /// The same as words, little-endian: length and index in the first, the time in the second, then the arguments.
    #[must_use]
    pub fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(self.0.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    }
}

/// The records of one CPU.
pub struct Ring {
    /// Records that were ever written.
    head: AtomicU64,
    slots: Box<[[AtomicU64; WORDS]]>,
    mask: usize,
}

impl Ring {
    /// An empty ring for the last `2^order` records, one fewer while another is written. `None` without memory.
    #[must_use]
    pub fn new(order: u32) -> Option<Self> {
        let count = 1_usize.checked_shl(order)?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(count).ok()?;
        slots.resize_with(count, || core::array::from_fn(|_| AtomicU64::new(0)));
        Some(Self {
            head: AtomicU64::new(0),
            slots: slots.into_boxed_slice(),
            mask: count - 1,
        })
    }

    /// How many records were ever written.
    #[must_use]
    #[inline]
    pub fn written(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// Writer: adds a record over the oldest one. One CPU alone may call this.
    #[inline]
    pub fn push(&self, record: [u64; WORDS]) {
        let head = self.head.load(Ordering::Relaxed);
        // Who reads any of the words written below sees a head that says so: pairs with the fence in `Reader::next`.
        fence(Ordering::Release);
        if let Some(slot) = self.slots.get(head as usize & self.mask) {
            for (place, word) in slot.iter().zip(record) {
                place.store(word, Ordering::Relaxed);
            }
        }
        // Who sees the new head sees the words.
        self.head.store(head.wrapping_add(1), Ordering::Release);
    }

    /// How many of the last records are there to be read, whatever the writer does meanwhile.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.mask as u64
    }
}

/// What a reader gets next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// A record.
    Record(Slot),
    /// So many records, here, were overwritten before they were read.
    Lost(u64),
}

/// How far somebody has read in a ring. A ring may have several readers; each sees all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reader {
    next: u64,
}

impl Reader {
    /// A reader that begins with the first record that there ever was.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0 }
    }

    /// A reader that begins with the oldest record that is still there, but no further back than the last `count`.
    #[must_use]
    pub fn of_last(ring: &Ring, count: u64) -> Self {
        let head = ring.head.load(Ordering::Acquire);
        Self {
            next: head.saturating_sub(count.min(ring.kept())),
        }
    }

    /// A reader that goes on where another one was.
    #[must_use]
    pub const fn at(position: u64) -> Self {
        Self { next: position }
    }

    /// Where it is: how many records it has passed.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.next
    }

    /// Records that wait, some of them perhaps lost.
    #[must_use]
    #[inline]
    pub fn waiting(&self, ring: &Ring) -> u64 {
        ring.written().wrapping_sub(self.next)
    }

    /// The next record, or how many were lost before it; `None` if there is nothing yet.
    pub fn take(&mut self, ring: &Ring) -> Option<Taken> {
        let first = self.next;
        for _ in 0..TRIES {
            let head = ring.head.load(Ordering::Acquire);
            if head == self.next {
                break;
            }
            if head.wrapping_sub(self.next) > ring.kept() {
                // A quarter more than is gone: the writer goes on meanwhile.
                self.next = head.wrapping_sub(ring.kept() - ring.kept() / 4);
            }
            let slot = ring.slots.get(self.next as usize & ring.mask)?;
            let mut record = Slot::default();
            for (bytes, word) in record.0.as_chunks_mut::<8>().0.iter_mut().zip(slot) {
                *bytes = word.load(Ordering::Relaxed).to_le_bytes();
            }
            // If a word was of a later record, the head read now is one at which that was being written.
            fence(Ordering::Acquire);
            let head = ring.head.load(Ordering::Relaxed);
            if head.wrapping_sub(self.next) > ring.kept() {
                continue;
            }
            if self.next != first {
                // The record itself is for the next time.
                break;
            }
            self.next = self.next.wrapping_add(1);
            return Some(Taken::Record(record));
        }
        let lost = self.next.wrapping_sub(first);
        (lost != 0).then_some(Taken::Lost(lost))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn record(number: u64) -> Slot {
        Slot::of(&number.to_le_bytes()).unwrap()
    }

    fn number(slot: &Slot) -> u64 {
        u64::from_le_bytes(slot.frame().try_into().unwrap())
    }

    #[test]
    fn records_come_out_in_order() {
        let ring = Ring::new(3).unwrap();
        let mut reader = Reader::new();
        assert_eq!(reader.take(&ring), None);
        for turn in 0..100 {
            for index in 0..5 {
                ring.push(record(turn * 5 + index).words());
            }
            for index in 0..5 {
                assert_eq!(
                    reader.take(&ring),
                    Some(Taken::Record(record(turn * 5 + index)))
                );
            }
            assert_eq!(reader.take(&ring), None);
        }
    }

    #[test]
    fn what_was_overwritten_is_counted_and_nothing_else_is_missing() {
        let ring = Ring::new(4).unwrap();
        let mut reader = Reader::new();
        let (mut seen, mut lost) = (0, 0);
        for count in [3, 16, 17, 40, 0, 15, 1000] {
            for _ in 0..count {
                ring.push(record(ring.written()).words());
            }
            while let Some(taken) = reader.take(&ring) {
                match taken {
                    Taken::Record(slot) => {
                        assert_eq!(number(&slot), seen + lost, "after {count}");
                        seen += 1;
                    }
                    Taken::Lost(count) => lost += count,
                }
            }
            assert_eq!(seen + lost, ring.written());
        }
        assert!(lost > 900 && seen > 3 * 11);
    }

    #[test]
    fn a_late_reader_sees_the_tail() {
        let ring = Ring::new(4).unwrap();
        for count in 0..30 {
            ring.push(record(count).words());
        }
        let mut reader = Reader::of_last(&ring, 4);
        assert_eq!(reader.waiting(&ring), 4);
        assert_eq!(reader.take(&ring), Some(Taken::Record(record(26))));
        assert_eq!(reader.position(), 27);
        let mut other = Reader::at(reader.position());
        assert_eq!(other.take(&ring), reader.take(&ring));
        assert_eq!(Reader::of_last(&ring, 99).waiting(&ring), ring.kept());
    }

    #[test]
    fn a_length_that_no_frame_has_is_cut_off() {
        let slot = Slot([0xff; SLOT]);
        assert_eq!(slot.frame().len(), FRAME);
        assert!(Slot::default().frame().is_empty());
        assert_eq!(Slot::of(&[0; FRAME + 1]), None);
        assert_eq!(Slot::of(&[7; FRAME]).unwrap().frame(), [7; FRAME]);
    }

    #[test]
    fn a_reader_that_is_overtaken_all_the_time_never_sees_a_torn_record() {
        let ring = std::sync::Arc::new(Ring::new(2).unwrap());
        let writer = {
            let ring = std::sync::Arc::clone(&ring);
            std::thread::spawn(move || {
                for count in 0..200_000_u64 {
                    let slot = Slot::of(&[count as u8; FRAME]).unwrap();
                    ring.push(slot.words());
                }
            })
        };
        let mut reader = Reader::new();
        let mut total = 0;
        while total < 200_000 {
            match reader.take(&ring) {
                Some(Taken::Record(slot)) => {
                    let frame = slot.frame();
                    assert!(frame.iter().all(|byte| *byte == total as u8), "{frame:?}");
                    total += 1;
                }
                Some(Taken::Lost(count)) => total += count,
                None => std::thread::yield_now(),
            }
        }
        writer.join().unwrap();
    }
}
