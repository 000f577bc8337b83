//! The frames of one domain: which of them are in its map, and which are held by others.
//!
//! A domain's memory is a number of chunks. A frame that the domain gives up (ballooning) stays in its
//! chunk, and can be taken again by the same domain alone; a chunk goes back to the pool when none of its
//! frames is in the map or held. A grant that is mapped elsewhere holds its frame, also after the domain's
//! end. Nothing is kept of a chunk until its domain gives up or grants a frame of it, and what is kept then is kept
//! for the domain's next life too.
//!
//! Who may still be copying to a chunk that is given back is the caller's to find out: see `sync::Grace`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{CHUNK_SIZE, PAGE_SIZE, Pa};

const FRAMES: usize = (CHUNK_SIZE / PAGE_SIZE) as usize;
const WORDS: usize = FRAMES / 64;

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

/// What is kept of a chunk's frames.
struct Detail {
    /// Bit n % 64 of word n / 64: frame n is not in the map.
    out: [u64; WORDS],
    holds: [u16; FRAMES],
}

/// A chunk, or the place for one.
#[derive(Default)]
struct Chunk {
    start: Option<Pa>,
    /// Frames that are not in the map.
    out: u16,
    /// Frames that are held.
    held: u16,
    /// `None`: all frames are in the map, and none is held.
    detail: Option<Box<[Detail; 1]>>,
}

impl Chunk {
    #[inline]
    fn detail(&mut self) -> Result<&mut Detail, FrameError> {
        if self.detail.is_none() {
            self.make_detail()?;
        }
        self.known().ok_or(FrameError::NoMemory)
    }

    #[cold]
    #[inline(never)]
    fn make_detail(&mut self) -> Result<(), FrameError> {
        // `Box::new` would not come back without memory.
        let mut room = Vec::new();
        room.try_reserve_exact(1)
            .map_err(|_| FrameError::NoMemory)?;
        room.push(Detail {
            out: [0; WORDS],
            holds: [0; FRAMES],
        });
        self.detail = room.into_boxed_slice().try_into().ok();
        Ok(())
    }

    #[inline]
    fn known(&mut self) -> Option<&mut Detail> {
        self.detail.as_deref_mut().map(|[detail]| detail)
    }

    /// The chunk, emptied, if nothing of it is in the map or held.
    fn leave(&mut self) -> Option<Pa> {
        if usize::from(self.out) < FRAMES || self.held != 0 {
            return None;
        }
        self.start.take()
    }
}

/// The frames of a domain.
pub struct Frames {
    /// By slot; as many as the domain's most memory takes.
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

impl Frames {
    /// Places for the memory of a domain that is to have `mapped` frames in its map, and never more: so many
    /// chunks, which are put in by [`Self::place`]. It counts as ended until [`Self::live`]. `None` if there is no
    /// memory.
    #[must_use]
    pub fn vacant(mapped: u64) -> Option<Self> {
        let count = usize::try_from(mapped.div_ceil(FRAMES as u64)).ok()?;
        let mut chunks = Vec::new();
        chunks.try_reserve_exact(count).ok()?;
        chunks.resize_with(count, Chunk::default);
        Some(Self {
            chunks: chunks.into_boxed_slice(),
            mapped: 0,
            most: mapped,
            out: 0,
            hint: 0,
            ended: true,
            fixed: false,
        })
    }

    /// Places for chunks.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.chunks.len()
    }

    /// The chunk in a place.
    #[must_use]
    pub fn chunk_in(&self, slot: u16) -> Option<Pa> {
        self.chunks.get(usize::from(slot))?.start
    }

    /// The first vacant place from `slot` on.
    #[must_use]
    pub fn vacant_from(&self, slot: usize) -> Option<u16> {
        let mut from = self.chunks.iter().enumerate().skip(slot);
        let slot = from.find(|(_, chunk)| chunk.start.is_none())?.0;
        u16::try_from(slot).ok()
    }

    /// Puts a chunk into a vacant place of a domain that does not live; whether it did.
    #[must_use]
    pub fn place(&mut self, slot: u16, start: Pa) -> bool {
        match self.chunks.get_mut(usize::from(slot)) {
            Some(chunk) if chunk.start.is_none() && self.ended => {
                chunk.start = Some(start);
                true
            }
            _ => false,
        }
    }

    /// How many of the frames in this slot are in the map at the beginning.
    fn at_first(&self, slot: u16) -> u64 {
        let before = u64::from(slot) * FRAMES as u64;
        self.most.saturating_sub(before).min(FRAMES as u64)
    }

    /// Prepares a chunk for a new life of the domain, as at the beginning: each place once, and then
    /// [`Self::live`].
    ///
    /// # Errors
    /// [`FrameError::TooOften`] if a frame is held, [`FrameError::NotThere`] if there is no chunk, or the domain
    /// lives; [`FrameError::NoMemory`].
    pub fn renew(&mut self, slot: u16) -> Result<(), FrameError> {
        let first = self.at_first(slot) as usize;
        let ended = self.ended;
        let chunk = self
            .chunks
            .get_mut(usize::from(slot))
            .filter(|chunk| ended && chunk.start.is_some())
            .ok_or(FrameError::NotThere)?;
        if chunk.held != 0 {
            return Err(FrameError::TooOften);
        }
        if first < FRAMES {
            chunk.detail()?;
        }
        if let Some(detail) = chunk.known() {
            for (number, word) in detail.out.iter_mut().enumerate() {
                *word = match first.saturating_sub(number * 64) {
                    inside @ 0..64 => u64::MAX << inside,
                    _ => 0,
                };
            }
        }
        chunk.out = (FRAMES - first) as u16;
        self.out += (FRAMES - first) as u64;
        self.mapped += first as u64;
        Ok(())
    }

    /// All places were renewed, and a new life begins.
    pub fn live(&mut self) {
        self.hint = 0;
        self.ended = false;
    }

    /// The domain's memory has its place: chunks stay until the domain's end, whatever is given up.
    #[must_use]
    pub fn fixed(mut self) -> Self {
        self.fixed = true;
        self
    }

    /// The first chunk in this slot or a later one, with its slot.
    #[must_use]
    pub fn chunk_from(&self, slot: usize) -> Option<(usize, Pa)> {
        let mut from = self.chunks.iter().enumerate().skip(slot);
        from.find_map(|(slot, chunk)| chunk.start.map(|start| (slot, start)))
    }

    /// Frames in the map.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        self.mapped
    }

    /// Frames in the map at most.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.most
    }

    fn index(frame: Pa) -> usize {
        (frame.get() / PAGE_SIZE) as usize % FRAMES
    }

    /// The chunk in `slot`, if `frame` is one of its frames.
    fn chunk(&mut self, slot: u16, frame: Pa) -> Result<&mut Chunk, FrameError> {
        let chunk = self.chunks.get_mut(usize::from(slot));
        chunk
            .filter(|chunk| chunk.start == Some(frame.align_down(CHUNK_SIZE)))
            .ok_or(FrameError::NotThere)
    }

    fn mark_out(&mut self, slot: u16, index: usize) -> Result<(), FrameError> {
        let chunk = self
            .chunks
            .get_mut(usize::from(slot))
            .ok_or(FrameError::NotThere)?;
        let word = chunk.detail()?.out.get_mut(index / 64);
        let word = word.ok_or(FrameError::NotThere)?;
        if *word & 1 << (index % 64) != 0 {
            return Err(FrameError::NotThere);
        }
        *word |= 1 << (index % 64);
        chunk.out += 1;
        self.out += 1;
        self.mapped -= 1;
        self.hint = usize::from(slot);
        Ok(())
    }

    /// Keeps a frame in the domain until [`Self::release`].
    ///
    /// # Errors
    /// [`FrameError`].
    #[inline]
    pub fn hold(&mut self, slot: u16, frame: Pa) -> Result<(), FrameError> {
        let index = Self::index(frame);
        let ended = self.ended;
        let chunk = self.chunk(slot, frame)?;
        let detail = chunk.detail()?;
        if ended || detail.out[index / 64] & 1 << (index % 64) != 0 {
            return Err(FrameError::NotThere);
        }
        let holds = &mut detail.holds[index];
        *holds = holds.checked_add(1).ok_or(FrameError::TooOften)?;
        chunk.held += u16::from(*holds == 1);
        Ok(())
    }

    /// Gives back what [`Self::hold`] took. If the chunk is to leave the domain, this is it.
    #[must_use]
    pub fn release(&mut self, slot: u16, frame: Pa) -> Option<Pa> {
        let stays = self.fixed && !self.ended;
        let chunk = self.chunk(slot, frame).ok()?;
        let detail = chunk.known()?;
        let holds = &mut detail.holds[Self::index(frame)];
        *holds = holds.checked_sub(1)?;
        chunk.held -= u16::from(*holds == 0);
        let left = if stays { None } else { chunk.leave() };
        self.left(left)
    }

    /// Counts a chunk that has left.
    fn left(&mut self, chunk: Option<Pa>) -> Option<Pa> {
        if chunk.is_some() && !self.ended {
            self.out = self.out.saturating_sub(FRAMES as u64);
        }
        chunk
    }

    /// Makes sure that [`Self::remove`] of this frame will not fail.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn prepare(&mut self, slot: u16, frame: Pa) -> Result<(), FrameError> {
        self.chunk(slot, frame)?.detail().map(|_| ())
    }

    /// The frame was taken out of the map. If its chunk is to leave the domain, this is it.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn remove(&mut self, slot: u16, frame: Pa) -> Result<Option<Pa>, FrameError> {
        self.chunk(slot, frame)?;
        self.mark_out(slot, Self::index(frame))?;
        if self.fixed {
            return Ok(None);
        }
        let left = self.chunk(slot, frame)?.leave();
        Ok(self.left(left))
    }

    /// A frame to put into the map: it counts as being there. `None` if the domain has as much as it may,
    /// or none of its chunks has one.
    pub fn take(&mut self) -> Option<Pa> {
        if self.mapped >= self.most || self.out == 0 {
            return None;
        }
        let (before, after) = self.chunks.split_at_mut_checked(self.hint)?;
        for (number, chunk) in after.iter_mut().chain(before).enumerate() {
            if chunk.out == 0 {
                continue;
            }
            let (Some(start), Some([detail])) = (chunk.start, chunk.detail.as_deref_mut()) else {
                continue;
            };
            for (word, bits) in detail.out.iter_mut().enumerate() {
                let mut left = *bits;
                while left != 0 {
                    let bit = left.trailing_zeros() as usize;
                    left &= left - 1;
                    if detail.holds[word * 64 + bit] == 0 {
                        *bits &= !(1 << bit);
                        chunk.out -= 1;
                        self.out -= 1;
                        self.mapped += 1;
                        self.hint = (self.hint + number) % self.chunks.len();
                        return start.checked_add((word * 64 + bit) as u64 * PAGE_SIZE);
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
        let index = Self::index(frame);
        if self.ended || self.mapped >= self.most {
            return Err(FrameError::NotThere);
        }
        let chunk = self.chunk(slot, frame)?;
        let detail = chunk.known().ok_or(FrameError::NotThere)?;
        let word = detail.out.get_mut(index / 64);
        let word = word.ok_or(FrameError::NotThere)?;
        if *word & 1 << (index % 64) == 0 || detail.holds[index] != 0 {
            return Err(FrameError::NotThere);
        }
        *word &= !(1 << (index % 64));
        chunk.out -= 1;
        self.out -= 1;
        self.mapped += 1;
        Ok(())
    }

    /// A place for another chunk; `None` if the domain has as many as it may.
    #[must_use]
    pub fn vacancy(&self) -> Option<u16> {
        if self.ended || self.mapped >= self.most {
            return None;
        }
        let slot = self.chunks.iter().position(|chunk| chunk.start.is_none());
        slot.and_then(|slot| u16::try_from(slot).ok())
    }

    /// Puts a chunk into a vacant place; none of its frames is in the map. `false` if there is no memory, or
    /// no such place.
    #[must_use]
    pub fn add(&mut self, slot: u16, start: Pa) -> bool {
        let Some(chunk) = self.chunks.get_mut(usize::from(slot)) else {
            return false;
        };
        if chunk.start.is_some() {
            return false;
        }
        let Ok(detail) = chunk.detail() else {
            return false;
        };
        detail.out = [u64::MAX; WORDS];
        chunk.out = FRAMES as u16;
        chunk.start = Some(start);
        self.out += FRAMES as u64;
        self.hint = usize::from(slot);
        true
    }

    /// The domain has ended, and nothing is in its map any more. Its chunks stay, for its next life, or until
    /// [`Self::leave`].
    pub fn end(&mut self) {
        self.ended = true;
        self.mapped = 0;
        self.out = 0;
    }

    /// The chunk in a place of a domain that has ended, if it leaves now. One of which something is held leaves
    /// when that is released.
    #[must_use]
    pub fn leave(&mut self, slot: u16) -> Option<Pa> {
        let chunk = self.chunks.get_mut(usize::from(slot))?;
        if !self.ended {
            return None;
        }
        if let Some(detail) = chunk.known() {
            detail.out = [u64::MAX; WORDS];
        }
        chunk.out = FRAMES as u16;
        chunk.leave()
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
