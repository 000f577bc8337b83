//! Physical memory for guests in chunks of 2 MiB, and who has each.
//!
//! One word a chunk, made at boot: nothing is allocated or freed when chunks change hands, which guests
//! cause. Sizes are split into chunks and never rounded up to a power of two: a guest of 384 MiB gets 256
//! and 128. Who owns an address is read without a lock.
//!
//! Beside what it deals out there may be *fixed* memory, which each has been promised to one guest: it is taken by its
//! place alone, and never counted as free.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use once_cell::race::OnceBox;
use sync::SpinLock;

use crate::{CHUNK_SIZE, Pa, PaRange};

/// The largest piece asked for at once, in chunks: 1 GiB, the largest block of a translation table.
const LARGEST_PIECE: u64 = (1 << 30) / CHUNK_SIZE;

/// Most chunks of one owner: their numbers have 16 bits.
const MOST_CHUNKS: u64 = 1 << 16;

/// A chunk's word: nobody's.
const FREE: u32 = 0;
/// A chunk's word: on its way out; the other bits are the ticket of the grace period.
const LEAVING: u32 = 1 << 31;

/// Who has a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Number of a domain, at least 1 and below 0x8000.
    pub domain: u16,
    /// Which of its chunks it is.
    pub slot: u16,
}

impl Owner {
    /// The hypervisor itself.
    pub const HYPERVISOR: u16 = 0x7fff;

    const fn word(self) -> u32 {
        (self.domain as u32) << 16 | self.slot as u32
    }
}

/// Neither a free nor a leaving chunk's word has a domain's number in its upper half.
#[inline(always)]
fn is_of(word: &AtomicU32, domain: u16) -> bool {
    word.load(Ordering::Acquire) >> 16 == u32::from(domain)
}

/// A range of memory: the number of its first chunk, and a word for each.
struct Region {
    first: u64,
    words: Box<[AtomicU32]>,
    /// Given out by its place alone.
    fixed: bool,
}

impl Region {
    #[inline]
    fn word(&self, chunk: u64) -> Option<&AtomicU32> {
        // What lies before the first is far behind the last.
        self.words.get(chunk.wrapping_sub(self.first) as usize)
    }

    /// The first `count` free chunks that begin at a multiple of `count`.
    fn find(&self, count: u64) -> Option<u64> {
        let end = self.first + self.words.len() as u64;
        let mut at = self.first.next_multiple_of(count);
        while at + count <= end {
            let used = (at..at + count).rev().find(|chunk| {
                self.word(*chunk)
                    .is_none_or(|word| word.load(Ordering::Relaxed) != FREE)
            });
            if used.is_none() {
                return Some(at);
            }
            at += count;
        }
        None
    }
}

/// All ranges. Hypercalls ask whose an address is: most are in the largest, which is at hand for that.
struct Regions {
    largest: Region,
    others: Vec<Region>,
}

/// Physical memory for guests.
pub struct ChunkPool {
    regions: OnceBox<Regions>,
    /// Chunks that are free; the lock is for whoever takes some.
    free: SpinLock<u64>,
    /// Chunks that are on their way out.
    leaving: AtomicU64,
}

impl ChunkPool {
    /// An empty pool.
    pub const fn new() -> Self {
        Self {
            regions: OnceBox::new(),
            free: SpinLock::new(0),
            leaving: AtomicU64::new(0),
        }
    }

    /// Gives it the whole chunks of `ranges`, once; what is left over at either end is not used.
    /// `fixed` is what is only given out by its place, apart from `ranges`.
    pub fn fill(&self, ranges: &[PaRange], fixed: &[PaRange]) {
        let all = ranges.iter().map(|range| (range, false));
        let all = all.chain(fixed.iter().map(|range| (range, true)));
        let mut regions: Vec<Region> = all
            .filter_map(|(range, fixed)| Some((range.align_inward(CHUNK_SIZE)?, fixed)))
            .filter(|(range, _)| !range.is_empty())
            .map(|(range, fixed)| Region {
                first: range.start().get() / CHUNK_SIZE,
                words: (0..range.size() / CHUNK_SIZE)
                    .map(|_| AtomicU32::new(FREE))
                    .collect(),
                fixed,
            })
            .collect();
        // Hypercalls ask whose an address is: most are in the largest.
        crate::sort_by_key(&mut regions, |region| Reverse(region.words.len()));
        let mut regions = regions.into_iter();
        let Some(largest) = regions.next() else {
            return;
        };
        let mut free = self.free.lock();
        let regions = Box::new(Regions {
            largest,
            others: regions.collect(),
        });
        // Once: who comes later changes nothing.
        if self.regions.set(regions).is_ok() {
            *free = self.total();
        }
    }

    #[inline]
    fn regions(&self) -> impl Iterator<Item = &Region> {
        let regions = self.regions.get();
        regions
            .into_iter()
            .flat_map(|regions| core::iter::once(&regions.largest).chain(&regions.others))
    }

    #[inline(always)]
    fn word(&self, chunk: u64) -> Option<&AtomicU32> {
        let regions = self.regions.get()?;
        match regions.largest.word(chunk) {
            Some(word) => Some(word),
            None => Self::word_of(&regions.others, chunk),
        }
    }

    #[cold]
    #[inline(never)]
    fn word_of(regions: &[Region], chunk: u64) -> Option<&AtomicU32> {
        regions.iter().find_map(|region| region.word(chunk))
    }

    /// The regions that chunks are dealt out from.
    fn dealt(&self) -> impl Iterator<Item = &Region> {
        self.regions().filter(|region| !region.fixed)
    }

    /// Chunks that the pool was given to deal out.
    pub fn total(&self) -> u64 {
        self.dealt().map(|region| region.words.len() as u64).sum()
    }

    /// Chunks that are free now.
    pub fn free(&self) -> u64 {
        *self.free.lock()
    }

    /// Who has the chunk that holds this address.
    #[inline]
    pub fn owner_of(&self, address: Pa) -> Option<Owner> {
        let word = self
            .word(address.get() / CHUNK_SIZE)?
            .load(Ordering::Acquire);
        (word != FREE && word & LEAVING == 0).then_some(Owner {
            domain: (word >> 16) as u16,
            slot: word as u16,
        })
    }

    /// The slot of the chunk that holds this address, if it is this domain's.
    #[inline(always)]
    pub fn slot_of(&self, address: Pa, domain: u16) -> Option<u16> {
        let word = self
            .word(address.get() / CHUNK_SIZE)?
            .load(Ordering::Acquire);
        // As in `is_of`.
        (word >> 16 == u32::from(domain)).then_some(word as u16)
    }

    /// Whether the chunk that holds this address is a domain's: the short way, for every pointer of a call.
    #[inline]
    pub fn belongs(&self, address: Pa, domain: u16) -> bool {
        self.word(address.get() / CHUNK_SIZE)
            .is_some_and(|word| is_of(word, domain))
    }

    /// The same of a chunk of the largest range of memory, in which most are, without a call; `false` of all others.
    #[inline(always)]
    pub fn belongs_at_once(&self, address: Pa, domain: u16) -> bool {
        let regions = self.regions.get();
        regions
            .and_then(|regions| regions.largest.word(address.get() / CHUNK_SIZE))
            .is_some_and(|word| is_of(word, domain))
    }

    /// Takes `chunks` chunks for a domain, in pieces as large as there are (each a power of two, naturally
    /// aligned), numbered in the order of the pieces. `None`, and nothing taken, if there are not enough.
    pub fn allocate(&self, chunks: u64, domain: u16) -> Option<Vec<PaRange>> {
        let mut free = self.free.lock();
        if chunks > *free || chunks > MOST_CHUNKS {
            return None;
        }
        let mut pieces = Vec::new();
        let mut left = chunks;
        let mut limit = LARGEST_PIECE;
        while left > 0 {
            let piece = limit.min(prev_power_of_two(left));
            match self.dealt().find_map(|region| region.find(piece)) {
                Some(first) => {
                    for number in 0..piece {
                        let owner = Owner {
                            domain,
                            slot: (chunks - left + number) as u16,
                        };
                        self.set(first + number, owner.word());
                    }
                    left -= piece;
                    pieces.extend(PaRange::new(
                        Pa::new(first * CHUNK_SIZE),
                        piece * CHUNK_SIZE,
                    ));
                }
                // There are enough, so single ones are found.
                None => limit = piece / 2,
            }
        }
        *free -= chunks;
        Some(pieces)
    }

    /// Takes fixed memory for a domain, whole chunks, numbered in the order of `ranges`. `false`, and nothing taken, if
    /// a chunk is not fixed or not free.
    pub fn take(&self, ranges: &[PaRange], domain: u16) -> bool {
        let _one_at_a_time = self.free.lock();
        let chunks = || {
            ranges.iter().flat_map(|range| {
                let first = range.start().get() / CHUNK_SIZE;
                first..first.saturating_add(range.size() / CHUNK_SIZE)
            })
        };
        let is_free = |chunk: u64| {
            let mut fixed = self.regions().filter(|region| region.fixed);
            let word = fixed.find_map(|region| region.word(chunk));
            word.is_some_and(|word| word.load(Ordering::Relaxed) == FREE)
        };
        if chunks().count() as u64 > MOST_CHUNKS || !chunks().all(is_free) {
            return false;
        }
        for (chunk, slot) in chunks().zip(0..=u16::MAX) {
            self.set(chunk, Owner { domain, slot }.word());
        }
        true
    }

    /// Takes one chunk.
    pub fn allocate_one(&self, owner: Owner) -> Option<Pa> {
        let mut free = self.free.lock();
        let chunk = self.dealt().find_map(|region| region.find(1))?;
        self.set(chunk, owner.word());
        *free = free.saturating_sub(1);
        Some(Pa::new(chunk * CHUNK_SIZE))
    }

    fn set(&self, chunk: u64, word: u32) {
        if let Some(slot) = self.word(chunk) {
            slot.store(word, Ordering::Release);
        }
    }

    /// Gives back pieces that [`Self::allocate`] gave out and that nobody has used.
    pub fn give_back(&self, pieces: &[PaRange]) {
        let mut free = self.free.lock();
        for piece in pieces {
            let first = piece.start().get() / CHUNK_SIZE;
            let count = piece.size() / CHUNK_SIZE;
            for chunk in first..first + count {
                self.set(chunk, FREE);
            }
            if self.dealt().any(|region| region.word(first).is_some()) {
                *free += count;
            }
        }
    }

    /// Its owner gives up a chunk, which is free when the grace period with this ticket is over.
    pub fn leave(&self, chunk: Pa, ticket: u32) {
        self.set(chunk.get() / CHUNK_SIZE, LEAVING | ticket);
        self.leaving.fetch_add(1, Ordering::Release);
    }

    /// Frees the chunks that left with a ticket that is over. Bit 31 of a ticket is not kept: `is_over` is
    /// asked with that of `now`, the last ticket.
    pub fn collect(&self, now: u32, is_over: impl Fn(u32) -> bool) {
        if self.leaving.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut free = self.free.lock();
        let all = self.regions();
        let all = all.flat_map(|region| region.words.iter().map(|word| (word, region.fixed)));
        for (word, fixed) in all {
            let value = word.load(Ordering::Relaxed);
            let ticket = now.wrapping_sub(now.wrapping_sub(value) & !LEAVING);
            if value & LEAVING != 0 && is_over(ticket) {
                word.store(FREE, Ordering::Release);
                *free += u64::from(!fixed);
                self.leaving.fetch_sub(1, Ordering::Relaxed);
            }
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
        let pool = ChunkPool::new();
        pool.fill(
            &[PaRange::new(Pa::new(start_chunk * CHUNK_SIZE), chunks * CHUNK_SIZE).unwrap()],
            &[],
        );
        pool
    }

    #[test]
    fn sizes_are_split_and_not_rounded_up() {
        let pool = pool(512, 200);
        let pieces = pool.allocate(192, 1).unwrap();
        let sizes: Vec<u64> = pieces
            .iter()
            .map(|piece| piece.size() / CHUNK_SIZE)
            .collect();
        assert_eq!(sizes, [128, 64]);
        assert_eq!(pool.free(), 8);
        assert!(pool.allocate(9, 2).is_none());
        assert_eq!(pool.free(), 8);
    }

    #[test]
    fn ends_that_are_no_whole_chunk_are_left() {
        let pool = ChunkPool::new();
        let range = |start, size| PaRange::new(Pa::new(start), size).unwrap();
        pool.fill(&[range(0x1000, 2 * CHUNK_SIZE), range(1 << 40, 4096)], &[]);
        assert_eq!((pool.total(), pool.free()), (1, 1));
    }

    #[test]
    fn owners_are_known_by_any_address() {
        let pool = pool(512, 8);
        let piece = pool.allocate(4, 7).unwrap()[0];
        let last = Pa::new(piece.end().get() - 1);
        let owner = |domain, slot| Some(Owner { domain, slot });
        assert_eq!(pool.owner_of(piece.start()), owner(7, 0));
        assert!(pool.belongs(last, 7) && !pool.belongs(last, 8));
        assert!(!pool.belongs(piece.end(), 7) && !pool.belongs(Pa::new(0), 7));
        assert_eq!(pool.owner_of(last), owner(7, 3));
        assert_eq!(pool.owner_of(piece.end()), None);
        assert_eq!(pool.owner_of(Pa::new(0)), None);
        assert_eq!(pool.owner_of(Pa::new(u64::MAX)), None);
        let one = pool.allocate_one(Owner { domain: 9, slot: 5 }).unwrap();
        assert_eq!(pool.owner_of(one), owner(9, 5));
    }

    #[test]
    fn a_chunk_that_leaves_is_nobodys_until_its_ticket_is_over() {
        let pool = pool(512, 2);
        let piece = pool.allocate(2, 1).unwrap()[0];
        let second = piece.start().checked_add(CHUNK_SIZE).unwrap();
        // Tickets on both sides of where bit 31 changes.
        let (first_ticket, second_ticket) = (0x7fff_ffff, 0x8000_0000);
        pool.leave(piece.start(), first_ticket);
        pool.leave(second, second_ticket);
        assert_eq!((pool.owner_of(second), pool.free()), (None, 0));
        assert!(!pool.belongs(second, 1));
        assert!(pool.allocate(1, 2).is_none());
        pool.collect(second_ticket, |ticket| ticket == first_ticket);
        assert_eq!(pool.free(), 1);
        pool.collect(second_ticket + 9, |ticket| ticket == second_ticket);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn fixed_memory_is_taken_by_its_place_alone() {
        let pool = ChunkPool::new();
        let range =
            |chunk, count| PaRange::new(Pa::new(chunk * CHUNK_SIZE), count * CHUNK_SIZE).unwrap();
        pool.fill(&[range(512, 4)], &[range(516, 3), range(600, 1)]);
        assert_eq!((pool.total(), pool.free()), (4, 4));
        assert!(pool.allocate(5, 1).is_none());
        assert!(!pool.take(&[range(515, 2)], 3), "partly not fixed");
        assert!(pool.take(&[range(517, 2), range(600, 1)], 3));
        assert!(!pool.take(&[range(516, 2)], 4), "partly taken");
        assert_eq!(pool.owner_of(Pa::new(516 * CHUNK_SIZE)), None);
        let owner = pool.owner_of(Pa::new(600 * CHUNK_SIZE));
        assert_eq!(owner, Some(Owner { domain: 3, slot: 2 }));
        let slot_of = |domain| pool.slot_of(Pa::new(600 * CHUNK_SIZE), domain);
        assert_eq!((slot_of(3), slot_of(2)), (Some(2), None));
        assert_eq!(pool.free(), 4);
        // What leaves can be taken again, and is not dealt out.
        pool.leave(Pa::new(517 * CHUNK_SIZE), 1);
        pool.collect(1, |_| true);
        pool.give_back(&[range(518, 1)]);
        assert_eq!(pool.free(), 4);
        assert!(pool.take(&[range(516, 3)], 4) && pool.allocate(5, 1).is_none());
    }

    proptest! {
        #[test]
        fn pieces_never_overlap_and_all_come_back(
            start in 0_u64..1000,
            size in 1_u64..3000,
            requests in prop::collection::vec(1_u64..700, 1..20)
        ) {
            let pool = pool(start, size);
            let mut held: Vec<Vec<PaRange>> = Vec::new();
            for request in requests {
                match pool.allocate(request, 1) {
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
                    prop_assert!(one.start().is_aligned(one.size()));
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
