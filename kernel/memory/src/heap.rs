//! EL2's own heap: a buddy allocator behind our lock.
//!
//! It grows by whole ranges and never shrinks. Freeing walks a list, so nothing that a guest can do leads
//! to a free: what guests use is allocated when their domain is created.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use buddy_system_allocator::Heap as Buddy;
use sync::SpinLock;

use crate::PaRange;

/// Orders of the buddy allocator: blocks of up to 2^31 bytes.
const ORDERS: usize = 32;

/// The heap; the image makes it its global allocator.
pub struct Heap(SpinLock<Buddy<ORDERS>>);

impl Heap {
    /// An empty heap: every allocation fails until [`Self::add`].
    #[must_use]
    pub const fn new() -> Self {
        Self(SpinLock::new(Buddy::new()))
    }

    /// Gives `range` to the heap for good.
    ///
    /// # Safety
    /// The range is memory that is mapped one to one as Normal, writable, and used by nothing else.
    pub unsafe fn add(&self, range: PaRange) {
        let (start, end) = (range.start().get() as usize, range.end().get() as usize);
        // SAFETY: the caller vouches for the range.
        unsafe { self.0.lock().add_to_heap(start, end) }
    }

    /// Bytes that the heap was given, and bytes of it in use (with what rounding wastes).
    pub fn usage(&self) -> (usize, usize) {
        let heap = self.0.lock();
        (heap.stats_total_bytes(), heap.stats_alloc_actual())
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: the buddy allocator gives out each block once until it is freed, aligned to its size; the lock
// makes its calls exclusive.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0
            .lock()
            .alloc(layout)
            .map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = NonNull::new(pointer) {
            // SAFETY: the caller promises that `alloc` gave it out with this layout.
            unsafe { self.0.lock().dealloc(pointer, layout) }
        }
    }
}
