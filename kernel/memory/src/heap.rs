//! EL2's own heap: a buddy allocator behind our lock.
//!
//! It grows by whole ranges and never shrinks. Freeing walks a list, so nothing that a guest can do leads
//! to a free: what guests use is allocated when their domain is created.
//!
//! The buddy allocator deals in powers of two. Of a block that is much too large the end is given back at once, so that
//! five pages take five, and what is released later is the pieces of the rest.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use buddy_system_allocator::Heap as Buddy;
use sync::SpinLock;

use crate::PaRange;

/// Orders of the buddy allocator: blocks of up to 2^31 bytes.
const ORDERS: usize = 32;

/// Blocks that are smaller are kept whole: what is left of them would be too small to be of use.
const SMALLEST_CUT: usize = 512;

/// What is given back is of this size at least: most of what comes and goes is smaller, and freeing it would walk past
/// such pieces.
const LEAST_PIECE: usize = 128;

/// The block that the buddy allocator has for a layout, and how much of it is kept: in steps of a 32nd. `None` if there
/// is no such block.
fn block_and_kept(layout: Layout) -> Option<(Layout, usize)> {
    let size = layout.size().checked_next_power_of_two()?;
    let size = size.max(layout.align()).max(size_of::<usize>());
    let kept = match size {
        ..SMALLEST_CUT => size,
        _ => layout.size().next_multiple_of(LEAST_PIECE.max(size / 32)),
    };
    Some((Layout::from_size_align(size, size).ok()?, kept))
}

struct Blocks {
    buddy: Buddy<ORDERS>,
    /// Bytes that it was given. Its own count has those in it that were given back.
    total: usize,
    /// Bytes that are in use.
    used: usize,
}

impl Blocks {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let (block, kept) = block_and_kept(layout)?;
        let base = self.buddy.alloc(block).ok()?;
        self.used += kept;
        if kept < block.size() {
            let start = base.as_ptr() as usize;
            // SAFETY: the end of a block that was just taken, which nobody else has, in multiples of `LEAST_PIECE`: it is
            // cut into blocks whose buddies are in use, so that none is to be joined.
            unsafe {
                self.buddy.add_to_heap(start + kept, start + block.size());
            }
        }
        Some(base)
    }

    /// # Safety
    /// [`Self::allocate`] gave it out with this layout, and it is no longer used.
    unsafe fn release(&mut self, base: NonNull<u8>, layout: Layout) {
        let Some((_, kept)) = block_and_kept(layout) else {
            return;
        };
        self.used -= kept;
        let mut offset = 0;
        while offset < kept {
            // The largest first: each is aligned to its size then.
            let size = 1 << (kept - offset).ilog2();
            let Ok(piece) = Layout::from_size_align(size, size) else {
                return;
            };
            // SAFETY: it lies inside what was given out.
            let at = unsafe { base.add(offset) };
            // SAFETY: a block of this size lies there, in use until now, by the caller's promise.
            unsafe { self.buddy.dealloc(at, piece) }
            offset += size;
        }
    }
}

/// The heap; the image makes it its global allocator.
pub struct Heap(SpinLock<Blocks>);

impl Heap {
    /// An empty heap: every allocation fails until [`Self::add`].
    #[must_use]
    pub const fn new() -> Self {
        Self(SpinLock::new(Blocks {
            buddy: Buddy::new(),
            total: 0,
            used: 0,
        }))
    }

    /// Gives `range` to the heap for good.
    ///
    /// # Safety
    /// The range is memory that is mapped one to one as Normal, writable, and used by nothing else.
    pub unsafe fn add(&self, range: PaRange) {
        let (start, end) = (range.start().get() as usize, range.end().get() as usize);
        let mut heap = self.0.lock();
        heap.total += range.size() as usize;
        // SAFETY: the caller vouches for the range.
        unsafe { heap.buddy.add_to_heap(start, end) }
    }

    /// Bytes that the heap was given, and bytes of it in use (with what rounding wastes).
    pub fn usage(&self) -> (usize, usize) {
        let heap = self.0.lock();
        (heap.total, heap.used)
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: the buddy allocator gives out each block once until it is freed, aligned to its size, of which at least what
// was asked for is kept; the lock makes its calls exclusive.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0
            .lock()
            .allocate(layout)
            .map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = NonNull::new(pointer) {
            // SAFETY: the caller promises that `alloc` gave it out with this layout.
            unsafe { self.0.lock().release(pointer, layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pa, Pages};
    use proptest::prelude::*;

    const SIZE: usize = 256 << 10;

    /// A heap of [`SIZE`] bytes, aligned to as many.
    fn heap() -> (Heap, Pages) {
        let pages = Pages::allocate(SIZE / 4096).unwrap();
        let heap = Heap::new();
        let range = PaRange::new(Pa::new(pages.address().get()), SIZE as u64).unwrap();
        // SAFETY: the pages were just taken, and stay so longer than the heap.
        unsafe { heap.add(range) };
        (heap, pages)
    }

    #[test]
    fn what_is_too_much_is_given_back() {
        let (heap, _pages) = heap();
        let used = |size, align| {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the layout is not empty.
            let at = unsafe { heap.alloc(layout) };
            assert!(!at.is_null());
            let used = heap.usage().1;
            // SAFETY: just taken with this layout.
            unsafe { heap.dealloc(at, layout) };
            used
        };
        assert_eq!(used(5 << 12, 1), 5 << 12);
        assert_eq!(used(2100, 8), 2176);
        assert_eq!(used(300, 8), 384);
        assert_eq!(used(100, 8), 128);
        assert_eq!(used(4096, 8192), 4096);
        assert_eq!(heap.usage(), (SIZE, 0));
        // The end of one that is in use is another's.
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the layouts are not empty.
        let three = [160, 64, 32].map(|kib| unsafe { heap.alloc(layout(kib << 10)) });
        assert!(three.iter().all(|at| !at.is_null()));
        assert_eq!(heap.usage(), (SIZE, SIZE));
        // SAFETY: the layout is not empty.
        assert!(unsafe { heap.alloc(layout(1)) }.is_null());
    }

    proptest! {
        /// Whatever comes and goes: nothing overlaps, all is aligned, and at the end it is one piece again.
        #[test]
        fn blocks_come_back_whole(steps in prop::collection::vec((1..9000_usize, 0..13_u32, any::<bool>()), 1..300)) {
            let (heap, _pages) = heap();
            let mut live: Vec<(usize, Layout)> = Vec::new();
            let release = |(at, layout): (usize, Layout)| {
                // SAFETY: it was given out with this layout, and is released once.
                unsafe { heap.dealloc(core::ptr::with_exposed_provenance_mut(at), layout) }
            };
            for (size, align, more) in steps {
                if !more && !live.is_empty() {
                    release(live.swap_remove(size % live.len()));
                    continue;
                }
                let layout = Layout::from_size_align(size, 1 << align).unwrap();
                // SAFETY: the layout is not empty.
                let at = unsafe { heap.alloc(layout) }.expose_provenance();
                if at == 0 {
                    continue;
                }
                prop_assert!(at.is_multiple_of(1 << align));
                for (other, of) in &live {
                    prop_assert!(at + size <= *other || other + of.size() <= at);
                }
                live.push((at, layout));
                let asked: usize = live.iter().map(|(_, layout)| layout.size()).sum();
                prop_assert!(heap.usage().1 >= asked);
            }
            live.into_iter().for_each(release);
            prop_assert_eq!(heap.usage(), (SIZE, 0));
            let all = Layout::from_size_align(SIZE, 8).unwrap();
            // SAFETY: the layout is not empty.
            let at = unsafe { heap.alloc(all) };
            prop_assert!(!at.is_null());
        }
    }
}
