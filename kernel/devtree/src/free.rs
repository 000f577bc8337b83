//! The physical memory that nobody has taken: RAM without what is reserved, the image, the tree, the bundle
//! and guests' modules.

use arrayvec::ArrayVec;
use memory::{Pa, PaRange};

/// Free ranges that are kept.
pub const MAX_FREE: usize = 64;

/// Free memory.
#[derive(Clone, Debug, Default)]
pub struct Free {
    /// The ranges: sorted, apart from each other, whole multiples of the alignment asked for.
    pub ranges: ArrayVec<PaRange, MAX_FREE>,
    /// Bytes in ranges for which there was no room, the smallest ones. They are not used.
    pub lost: u64,
}

impl Free {
    /// All of `memory` (apart from each other) that no range of `taken` touches, aligned inward to
    /// `alignment`, a power of two. `taken` may be in any order and overlap. Time is proportional to the
    /// product of the two lengths.
    pub fn new(memory: &[PaRange], taken: &[PaRange], alignment: u64) -> Self {
        let mut free = Self::default();
        for range in memory {
            let (mut at, end) = (range.start(), range.end());
            while at < end {
                // What is taken at `at` reaches up to here.
                let covering = taken.iter().filter(|taken| taken.contains(at));
                if let Some(covered) = covering.map(|taken| taken.end()).max() {
                    at = covered;
                    continue;
                }
                let ahead = taken
                    .iter()
                    .filter(|taken| !taken.is_empty() && taken.start() > at);
                let next = ahead
                    .map(|taken| taken.start())
                    .min()
                    .map_or(end, |next| next.min(end));
                free.add(at, next, alignment);
                at = next;
            }
        }
        memory::sort_by_key(&mut free.ranges, |range| range.start());
        free
    }

    /// Bytes in all ranges.
    pub fn total(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.size())
            .fold(0, u64::saturating_add)
    }

    fn add(&mut self, start: Pa, end: Pa, alignment: u64) {
        let range = PaRange::between(start, end).and_then(|range| range.align_inward(alignment));
        let Some(range) = range.filter(|range| !range.is_empty()) else {
            return;
        };
        let Err(full) = self.ranges.try_push(range) else {
            return;
        };
        let mut rejected = full.element();
        if let Some(smallest) = self.ranges.iter_mut().min_by_key(|range| range.size())
            && smallest.size() < rejected.size()
        {
            core::mem::swap(smallest, &mut rejected);
        }
        self.lost = self.lost.saturating_add(rejected.size());
    }
}

#[cfg(test)]
#[path = "free_tests.rs"]
mod tests;
