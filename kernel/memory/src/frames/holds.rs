//! What is counted of a chunk's frames without a lock: who holds them.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use once_cell::race::OnceBox;

use super::FrameError;
use crate::{CHUNK_SIZE, PAGE_SIZE};

pub(super) const FRAMES: usize = (CHUNK_SIZE / PAGE_SIZE) as usize;
const WORDS: usize = FRAMES / 64;

/// Most holds of a frame: so far below what fits that CPUs that count at the same moment do not pass it. A bit tells.
pub(super) const MOST_HOLDS: u16 = 1 << 15;

/// In [`Holds::held`]: nothing of the chunk is in the map.
pub(super) const EMPTY: u32 = 1 << 31;

/// What is kept of a chunk's frames.
pub(super) struct Detail {
    /// Bit n % 64 of word n / 64: frame n is not in the map. Read and written under the lock.
    pub(super) out: [AtomicU64; WORDS],
    pub(super) holds: [AtomicU16; FRAMES],
}

/// What is held of the chunk in a place.
#[derive(Default)]
pub(super) struct Holds {
    /// Holds of all its frames, and [`EMPTY`].
    pub(super) held: AtomicU32,
    /// `None`: all frames are in the map, and none is held.
    detail: OnceBox<[Detail; 1]>,
}

impl Holds {
    #[inline]
    pub(super) fn known(&self) -> Option<&Detail> {
        self.detail.get().map(|[detail]| detail)
    }

    pub(super) fn detail(&self) -> Result<&Detail, FrameError> {
        if self.known().is_none() {
            self.make_detail()?;
        }
        self.known().ok_or(FrameError::NoMemory)
    }

    #[cold]
    #[inline(never)]
    fn make_detail(&self) -> Result<(), FrameError> {
        // `Box::new` would not come back without memory.
        let mut room = Vec::new();
        room.try_reserve_exact(1)
            .map_err(|_| FrameError::NoMemory)?;
        room.push(Detail {
            out: [const { AtomicU64::new(0) }; WORDS],
            holds: [const { AtomicU16::new(0) }; FRAMES],
        });
        if let Ok(detail) = room.into_boxed_slice().try_into() {
            // If another CPU was here first, that is as good.
            let _ = self.detail.set(detail);
        }
        Ok(())
    }

    /// Counts a hold of a frame.
    #[inline]
    pub(super) fn hold(&self, detail: &Detail, index: usize) -> Result<(), FrameError> {
        let holds = &detail.holds[index];
        if holds.load(Relaxed) >= MOST_HOLDS {
            return Err(FrameError::TooOften);
        }
        holds.fetch_add(1, Relaxed);
        self.held.fetch_add(1, Relaxed);
        Ok(())
    }
}
