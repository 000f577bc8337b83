//! The frames of one domain: which of them are in its map, and which are held by others.
//!
//! A domain's memory is a number of chunks. A frame that the domain gives up (ballooning) stays in its
//! chunk, and can be taken again by the same domain alone; a chunk goes back to the pool when none of its
//! frames is in the map or held. A grant that is mapped elsewhere holds its frame, also after the domain's
//! end. Nothing is kept of a chunk until its domain gives up or grants a frame of it, and what is kept then is kept
//! for the domain's next life too.
//!
//! Holds are counted by atomics: a grant that is mapped and unmapped again takes no lock here. All else is in a book
//! behind a lock, which also who ends the last hold of a chunk looks into, if nothing of that is in the map.
//!
//! Who may still be copying to a chunk that is given back is the caller's to find out: see `sync::Grace`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use sync::{Guard, SpinLock};

use self::holds::{EMPTY, FRAMES, Holds};
use crate::{CHUNK_SIZE, PAGE_SIZE, Pa};

mod holds;

/// Why a frame could not be held or given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// It is not in the domain's map, or not the domain's.
    NotThere,
    /// It is held too often.
    TooOften,
    /// No memory to note it.
    NoMemory,
}

/// What the book says of a chunk, or of the place for one.
#[derive(Default)]
struct Chunk {
    start: Option<Pa>,
    /// Frames that are not in the map.
    out: u16,
}

/// What is behind the lock.
struct Book {
    chunks: Box<[Chunk]>,
    mapped: u64,
    most: u64,
    /// Frames that are not in the map, in all chunks.
    out: u64,
    /// Where the next frame is looked for first.
    hint: usize,
    /// The domain has ended.
    ended: bool,
    /// No chunk leaves before the domain's end.
    fixed: bool,
}

/// The frames of a domain. By slot; as many as the domain's most memory takes.
pub struct Frames {
    holds: Box<[Holds]>,
    book: SpinLock<Book>,
}

/// The frames of a domain, locked.
pub struct LockedFrames<'a> {
    holds: &'a [Holds],
    book: Guard<'a, Book>,
}

fn vacant<T: Default>(count: usize) -> Option<Box<[T]>> {
    let mut places = Vec::new();
    places.try_reserve_exact(count).ok()?;
    places.resize_with(count, T::default);
    Some(places.into_boxed_slice())
}

#[inline]
fn index(frame: Pa) -> usize {
    (frame.get() / PAGE_SIZE) as usize % FRAMES
}

impl Frames {
    /// Places for the memory of a domain that is to have `mapped` frames in its map, and never more: so many
    /// chunks, which are put in by [`LockedFrames::place`]. It counts as ended until [`LockedFrames::live`]. `None` if
    /// there is no memory.
    #[must_use]
    pub fn vacant(mapped: u64) -> Option<Self> {
        let count = usize::try_from(mapped.div_ceil(FRAMES as u64)).ok()?;
        Some(Self {
            holds: vacant(count)?,
            book: SpinLock::new(Book {
                chunks: vacant(count)?,
                mapped: 0,
                most: mapped,
                out: 0,
                hint: 0,
                ended: true,
                fixed: false,
            }),
        })
    }

    /// The domain's memory has its place: chunks stay until the domain's end, whatever is given up.
    #[must_use]
    pub fn fixed(mut self) -> Self {
        self.book.get_mut().fixed = true;
        self
    }

    /// All but [`Self::hold`] and [`Self::release`].
    pub fn lock(&self) -> LockedFrames<'_> {
        LockedFrames {
            holds: &self.holds,
            book: self.book.lock(),
        }
    }

    /// Keeps a frame in the domain until [`Self::release`]. The caller holds the lock of the domain's map, and has seen
    /// the frame there as the domain's own: it cannot be out of it, and the domain has not ended.
    ///
    /// # Errors
    /// [`FrameError::TooOften`]; [`FrameError::NoMemory`] also if nothing of the chunk was ever held or given up, which
    /// [`LockedFrames::hold`] does something about.
    #[inline(always)]
    pub fn hold(&self, slot: u16, frame: Pa) -> Result<(), FrameError> {
        let holds = self.holds.get(usize::from(slot));
        let holds = holds.ok_or(FrameError::NotThere)?;
        let detail = holds.known().ok_or(FrameError::NoMemory)?;
        holds.hold(detail, index(frame))
    }

    /// Gives back what a hold took. If the chunk is to leave the domain, this is it.
    #[inline(always)]
    #[must_use]
    pub fn release(&self, slot: u16, frame: Pa) -> Option<Pa> {
        let holds = self.holds.get(usize::from(slot))?;
        let count = &holds.known()?.holds[index(frame)];
        if count.load(Relaxed) == 0 {
            return None;
        }
        // Release: whoever finds that it is not held any more finds that it is not used any more either.
        count.fetch_sub(1, AcqRel);
        // Either this sees that the chunk is empty, or who empties it sees that nothing is held.
        if holds.held.fetch_sub(1, AcqRel) == EMPTY | 1 {
            return self.leave_empty(slot, frame);
        }
        None
    }

    /// The last hold of an empty chunk has ended.
    #[cold]
    #[inline(never)]
    fn leave_empty(&self, slot: u16, frame: Pa) -> Option<Pa> {
        let mut locked = self.lock();
        locked.chunk(slot, frame).ok()?;
        locked.leave_now(slot)
    }
}

impl LockedFrames<'_> {
    /// Places for chunks.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.book.chunks.len()
    }

    /// The chunk in a place.
    #[must_use]
    pub fn chunk_in(&self, slot: u16) -> Option<Pa> {
        self.book.chunks.get(usize::from(slot))?.start
    }

    /// The first vacant place from `slot` on.
    #[must_use]
    pub fn vacant_from(&self, slot: usize) -> Option<u16> {
        let mut from = self.book.chunks.iter().enumerate().skip(slot);
        let slot = from.find(|(_, chunk)| chunk.start.is_none())?.0;
        u16::try_from(slot).ok()
    }

    /// Puts a chunk into a vacant place of a domain that does not live; whether it did.
    #[must_use]
    pub fn place(&mut self, slot: u16, start: Pa) -> bool {
        let ended = self.book.ended;
        match self.book.chunks.get_mut(usize::from(slot)) {
            Some(chunk) if chunk.start.is_none() && ended => {
                chunk.start = Some(start);
                true
            }
            _ => false,
        }
    }

    /// Prepares a chunk for a new life of the domain, as at the beginning: each place once, and then
    /// [`Self::live`].
    ///
    /// # Errors
    /// [`FrameError::TooOften`] if a frame is held, [`FrameError::NotThere`] if there is no chunk, or the domain
    /// lives; [`FrameError::NoMemory`].
    pub fn renew(&mut self, slot: u16) -> Result<(), FrameError> {
        // How many of its frames are in the map at the beginning.
        let before = u64::from(slot) * FRAMES as u64;
        let first = self.book.most.saturating_sub(before).min(FRAMES as u64) as usize;
        let book = &mut *self.book;
        let chunk = book.chunks.get_mut(usize::from(slot));
        let chunk = chunk
            .filter(|chunk| book.ended && chunk.start.is_some())
            .ok_or(FrameError::NotThere)?;
        let holds = &self.holds[usize::from(slot)];
        if holds.held.load(Acquire) & !EMPTY != 0 {
            return Err(FrameError::TooOften);
        }
        if first < FRAMES {
            holds.detail()?;
        }
        if let Some(detail) = holds.known() {
            for (number, word) in detail.out.iter().enumerate() {
                let out = match first.saturating_sub(number * 64) {
                    inside @ 0..64 => u64::MAX << inside,
                    _ => 0,
                };
                word.store(out, Relaxed);
            }
        }
        chunk.out = (FRAMES - first) as u16;
        book.out += (FRAMES - first) as u64;
        book.mapped += first as u64;
        // There is one frame at least, or there was no place.
        holds.held.fetch_and(!EMPTY, AcqRel);
        Ok(())
    }

    /// All places were renewed, and a new life begins.
    pub fn live(&mut self) {
        self.book.hint = 0;
        self.book.ended = false;
    }

    /// The first chunk in this slot or a later one, with its slot.
    #[must_use]
    pub fn chunk_from(&self, slot: usize) -> Option<(usize, Pa)> {
        let mut from = self.book.chunks.iter().enumerate().skip(slot);
        from.find_map(|(slot, chunk)| chunk.start.map(|start| (slot, start)))
    }

    /// Frames in the map.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        self.book.mapped
    }

    /// Frames in the map at most.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.book.most
    }

    /// What is known of the chunk in `slot`, if `frame` is one of its frames.
    fn chunk(&mut self, slot: u16, frame: Pa) -> Result<(&mut Chunk, &Holds), FrameError> {
        let chunk = self.book.chunks.get_mut(usize::from(slot));
        let chunk = chunk.filter(|chunk| chunk.start == Some(frame.align_down(CHUNK_SIZE)));
        let holds = self.holds.get(usize::from(slot));
        chunk.zip(holds).ok_or(FrameError::NotThere)
    }

    /// [`Frames::hold`] for who has not seen the frame in the map, or is the first to hold one of its chunk.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn hold(&mut self, slot: u16, frame: Pa) -> Result<(), FrameError> {
        let ended = self.book.ended;
        let (_, holds) = self.chunk(slot, frame)?;
        let detail = holds.detail()?;
        let index = index(frame);
        if ended || detail.out[index / 64].load(Relaxed) & 1 << (index % 64) != 0 {
            return Err(FrameError::NotThere);
        }
        holds.hold(detail, index)
    }

    /// The chunk, taken out of its place, if nothing of it is in the map or held, and it need not stay.
    fn leave_now(&mut self, slot: u16) -> Option<Pa> {
        let book = &mut *self.book;
        let chunk = book.chunks.get_mut(usize::from(slot))?;
        let held = self.holds.get(usize::from(slot))?.held.load(Acquire);
        if usize::from(chunk.out) < FRAMES || held != EMPTY || book.fixed && !book.ended {
            return None;
        }
        let left = chunk.start.take();
        if left.is_some() && !book.ended {
            book.out = book.out.saturating_sub(FRAMES as u64);
        }
        left
    }

    /// Makes sure that [`Self::remove`] of this frame will not fail.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn prepare(&mut self, slot: u16, frame: Pa) -> Result<(), FrameError> {
        self.chunk(slot, frame)?.1.detail().map(|_| ())
    }

    /// The frame was taken out of the map. If its chunk is to leave the domain, this is it.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn remove(&mut self, slot: u16, frame: Pa) -> Result<Option<Pa>, FrameError> {
        let (chunk, holds) = self.chunk(slot, frame)?;
        let index = index(frame);
        let word = &holds.detail()?.out[index / 64];
        let before = word.fetch_or(1 << (index % 64), Relaxed);
        if before & 1 << (index % 64) != 0 {
            return Err(FrameError::NotThere);
        }
        chunk.out += 1;
        if usize::from(chunk.out) == FRAMES {
            holds.held.fetch_or(EMPTY, AcqRel);
        }
        self.book.out += 1;
        self.book.mapped -= 1;
        self.book.hint = usize::from(slot);
        Ok(self.leave_now(slot))
    }

    /// A frame comes into the map that was out of it, and that nobody holds; whether it is such a one.
    fn bring_in(&mut self, slot: usize, index: usize) -> bool {
        let (chunk, holds) = (&mut self.book.chunks[slot], &self.holds[slot]);
        let Some(detail) = holds.known() else {
            return false;
        };
        let (word, bit) = (&detail.out[index / 64], 1 << (index % 64));
        // Acquire: what its last holder did to it is done.
        if word.load(Relaxed) & bit == 0 || detail.holds[index].load(Acquire) != 0 {
            return false;
        }
        word.fetch_and(!bit, Relaxed);
        chunk.out -= 1;
        holds.held.fetch_and(!EMPTY, AcqRel);
        self.book.out -= 1;
        self.book.mapped += 1;
        true
    }

    /// A frame to put into the map: it counts as being there. `None` if the domain has as much as it may,
    /// or none of its chunks has one.
    pub fn take(&mut self) -> Option<Pa> {
        if self.book.mapped >= self.book.most || self.book.out == 0 {
            return None;
        }
        let (slots, hint) = (self.slots(), self.book.hint);
        for slot in (hint..slots).chain(0..hint.min(slots)) {
            let chunk = &self.book.chunks[slot];
            let (Some(start), Some(detail)) = (chunk.start, self.holds[slot].known()) else {
                continue;
            };
            if chunk.out == 0 {
                continue;
            }
            for (word, bits) in detail.out.iter().enumerate() {
                let mut left = bits.load(Relaxed);
                while left != 0 {
                    let index = word * 64 + left.trailing_zeros() as usize;
                    left &= left - 1;
                    if self.bring_in(slot, index) {
                        self.book.hint = slot;
                        return start.checked_add(index as u64 * PAGE_SIZE);
                    }
                }
            }
        }
        None
    }

    /// Puts this very frame into the map, if it is out of it and nobody holds it.
    ///
    /// # Errors
    /// [`FrameError::NotThere`].
    pub fn take_at(&mut self, slot: u16, frame: Pa) -> Result<(), FrameError> {
        if self.book.ended || self.book.mapped >= self.book.most {
            return Err(FrameError::NotThere);
        }
        self.chunk(slot, frame)?;
        match self.bring_in(usize::from(slot), index(frame)) {
            true => Ok(()),
            false => Err(FrameError::NotThere),
        }
    }

    /// A place for another chunk; `None` if the domain has as many as it may.
    #[must_use]
    pub fn vacancy(&self) -> Option<u16> {
        if self.book.ended || self.book.mapped >= self.book.most {
            return None;
        }
        self.vacant_from(0)
    }

    /// Puts a chunk into a vacant place; none of its frames is in the map. `false` if there is no memory, or
    /// no such place.
    #[must_use]
    pub fn add(&mut self, slot: u16, start: Pa) -> bool {
        let book = &mut *self.book;
        let chunk = book.chunks.get_mut(usize::from(slot));
        let (Some(chunk), Some(holds)) = (chunk, self.holds.get(usize::from(slot))) else {
            return false;
        };
        if chunk.start.is_some() || holds.detail().is_err() {
            return false;
        }
        chunk.start = Some(start);
        empty(chunk, holds);
        book.out += FRAMES as u64;
        book.hint = usize::from(slot);
        true
    }

    /// The domain has ended, and nothing is in its map any more. Its chunks stay, for its next life, or until
    /// [`Self::leave`].
    pub fn end(&mut self) {
        self.book.ended = true;
        self.book.mapped = 0;
        self.book.out = 0;
    }

    /// The chunk in a place of a domain that has ended, if it leaves now. One of which something is held leaves
    /// when that is released.
    #[must_use]
    pub fn leave(&mut self, slot: u16) -> Option<Pa> {
        if !self.book.ended {
            return None;
        }
        let chunk = self.book.chunks.get_mut(usize::from(slot))?;
        empty(chunk, self.holds.get(usize::from(slot))?);
        self.leave_now(slot)
    }
}

/// Nothing of the chunk is in the map.
fn empty(chunk: &mut Chunk, holds: &Holds) {
    if let Some(detail) = holds.known() {
        for word in &detail.out {
            word.store(u64::MAX, Relaxed);
        }
    }
    chunk.out = FRAMES as u16;
    holds.held.fetch_or(EMPTY, AcqRel);
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
