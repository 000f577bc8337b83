//! The pool of physical memory that is free for guests, in chunks of 2 MiB.
//!
//! Sizes are split into chunks and never rounded up to a power of two: a guest of 384 MiB gets 256 and
//! 128. The buddy allocator keeps its nodes on the heap, so the pool is used when domains are created
//! and destroyed and never on a path that a guest can take.

use alloc::vec::Vec;

use buddy_system_allocator::FrameAllocator;

use crate::{CHUNK_SIZE, Pa, PaRange};

/// Orders of the buddy allocator: blocks of up to 2 MiB << 16 = 128 GiB.
const ORDERS: usize = 17;

/// The largest piece asked for at once, in chunks: 1 GiB, the largest block of a translation table.
const LARGEST_PIECE: u64 = (1 << 30) / CHUNK_SIZE;

/// Free physical memory.
pub struct ChunkPool {
    frames: FrameAllocator<ORDERS>,
    total: u64,
    free: u64,
}

impl ChunkPool {
    /// An empty pool.
    pub const fn new() -> Self {
        Self {
            frames: FrameAllocator::new(),
            total: 0,
            free: 0,
        }
    }

    /// Adds the whole chunks of `range`; what is left over at either end is not used.
    pub fn add(&mut self, range: PaRange) {
        let Some(range) = range.align_inward(CHUNK_SIZE) else {
            return;
        };
        let first = range.start().get() / CHUNK_SIZE;
        let count = range.size() / CHUNK_SIZE;
        self.frames.insert(first as usize..(first + count) as usize);
        self.total += count;
        self.free += count;
    }

    /// Chunks that the pool was given.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Chunks that are free now.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Takes `chunks` chunks, in pieces as large as there are (each a power of two, naturally aligned).
    /// `None`, and nothing taken, if there are not enough.
    pub fn allocate(&mut self, chunks: u64) -> Option<Vec<PaRange>> {
        if chunks > self.free {
            return None;
        }
        let mut pieces = Vec::new();
        let mut left = chunks;
        let mut limit = LARGEST_PIECE;
        while left > 0 {
            let piece = limit.min(prev_power_of_two(left));
            match self.frames.alloc(piece as usize) {
                Some(first) => {
                    self.free -= piece;
                    left -= piece;
                    pieces.extend(PaRange::new(
                        Pa::new(first as u64 * CHUNK_SIZE),
                        piece * CHUNK_SIZE,
                    ));
                }
                None if piece > 1 => limit = piece / 2,
                None => {
                    // The count said that there was enough.
                    debug_assert!(false, "free chunks miscounted");
                    self.give_back(&pieces);
                    return None;
                }
            }
        }
        Some(pieces)
    }

    /// Gives back pieces that [`Self::allocate`] gave out.
    pub fn give_back(&mut self, pieces: &[PaRange]) {
        for piece in pieces {
            let count = piece.size() / CHUNK_SIZE;
            self.frames
                .dealloc((piece.start().get() / CHUNK_SIZE) as usize, count as usize);
            self.free += count;
        }
    }
}

impl Default for ChunkPool {
    fn default() -> Self {
        Self::new()
    }
}

fn prev_power_of_two(number: u64) -> u64 {
    1 << (63 - number.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(start_chunk: u64, chunks: u64) -> ChunkPool {
        let mut pool = ChunkPool::new();
        pool.add(PaRange::new(Pa::new(start_chunk * CHUNK_SIZE), chunks * CHUNK_SIZE).unwrap());
        pool
    }

    #[test]
    fn sizes_are_split_and_not_rounded_up() {
        let mut pool = pool(512, 200);
        let pieces = pool.allocate(192).unwrap();
        assert_eq!(
            pieces
                .iter()
                .map(|piece| piece.size() / CHUNK_SIZE)
                .sum::<u64>(),
            192
        );
        assert_eq!(pool.free(), 8);
        assert!(pool.allocate(9).is_none());
        assert_eq!(pool.free(), 8);
    }

    #[test]
    fn ends_that_are_no_whole_chunk_are_left() {
        let mut pool = ChunkPool::new();
        pool.add(PaRange::new(Pa::new(0x1000), 2 * CHUNK_SIZE).unwrap());
        assert_eq!(pool.total(), 1);
    }

    proptest! {
        #[test]
        fn pieces_never_overlap_and_all_come_back(
            start in 0_u64..1000,
            size in 1_u64..3000,
            requests in prop::collection::vec(1_u64..700, 1..20)
        ) {
            let mut pool = pool(start, size);
            let mut held: Vec<Vec<PaRange>> = Vec::new();
            for request in requests {
                match pool.allocate(request) {
                    Some(pieces) => held.push(pieces),
                    None => {
                        prop_assert!(pool.free() < request);
                        if !held.is_empty() {
                            pool.give_back(&held.swap_remove(0));
                        }
                    }
                }
                let all: Vec<_> = held.iter().flatten().collect();
                for (number, one) in all.iter().enumerate() {
                    prop_assert!(all.iter().skip(number + 1).all(|other| !one.overlaps(**other)));
                }
            }
            for pieces in held {
                pool.give_back(&pieces);
            }
            prop_assert_eq!(pool.free(), pool.total());
        }
    }
}
