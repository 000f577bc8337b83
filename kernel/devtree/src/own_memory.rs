//! What of the board's memory is the hypervisor's, and what is left for guests: the same on the board and on
//! paper.
//!
//! Taken are the image, the tree, the bundle and what the tree reserves. What lies beside the image in its last
//! 2 MiB block goes to the heap, since the pool deals in whole blocks.

use arrayvec::ArrayVec;
use memory::{CHUNK_SIZE, PAGE_SIZE, PaRange};

use crate::free::Free;
use crate::{Board, Error};

/// Everything that must not be given away, at most: the board's reservations and our own few.
pub const MAX_TAKEN: usize = 128;
/// Less than this beside the image, and the heap gets a block of its own.
const LEAST_HEAP: u64 = 512 * 1024;

/// What no guest's module may overlap, and no guest be given.
pub type Taken = ArrayVec<PaRange, MAX_TAKEN>;

/// Where the heap begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirstHeap {
    /// In what is left of the image's last block.
    Beside(PaRange),
    /// In a block of its own.
    Apart(PaRange),
}

impl FirstHeap {
    /// The range.
    pub fn range(self) -> PaRange {
        match self {
            Self::Beside(range) | Self::Apart(range) => range,
        }
    }
}

/// What is taken before the heap is, with the image and the tree at these places.
pub fn taken(board: &Board, image: PaRange, tree: PaRange) -> Result<Taken, Error> {
    let mut taken = Taken::new();
    let own = [Some(image), Some(tree), board.initrd];
    let reserved = board.reserved.iter().map(|reserved| reserved.range);
    for range in own.into_iter().flatten().chain(reserved) {
        push(&mut taken, range)?;
    }
    Ok(taken)
}

/// Chooses the heap's first range, and adds it to what is taken.
pub fn first_heap(board: &Board, image: PaRange, taken: &mut Taken) -> Result<FirstHeap, Error> {
    let none = Error::Missing("memory for the hypervisor itself");
    let block = image.align_outward(CHUNK_SIZE).ok_or(none)?;
    let beside = Free::new(&board.memory, taken, PAGE_SIZE)
        .ranges
        .iter()
        .filter_map(|range| {
            let start = range.start().max(image.end());
            PaRange::between(start, range.end().min(block.end()))
        })
        .max_by_key(|range| range.size());
    let heap = match beside {
        Some(range) if range.size() >= LEAST_HEAP => FirstHeap::Beside(range),
        _ => {
            let free = Free::new(&board.memory, taken, CHUNK_SIZE);
            let first = free.ranges.iter().find(|range| range.size() >= CHUNK_SIZE);
            let first = first.ok_or(none)?;
            FirstHeap::Apart(PaRange::new(first.start(), CHUNK_SIZE).ok_or(none)?)
        }
    };
    push(taken, heap.range())?;
    Ok(heap)
}

/// What is left for guests: all but what is taken, and the files that guests are built from.
pub fn left(board: &Board, taken: &[PaRange], modules: &[PaRange]) -> Free {
    Free::new(&board.memory, &[taken, modules].concat(), CHUNK_SIZE)
}

fn push(taken: &mut Taken, range: PaRange) -> Result<(), Error> {
    taken
        .try_push(range)
        .map_err(|_| Error::TooMany("reserved ranges"))
}

#[cfg(test)]
#[path = "own_memory_tests.rs"]
mod tests;
