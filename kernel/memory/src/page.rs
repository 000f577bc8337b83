//! Pages that EL2 owns: translation tables, and the pages it shares with guests.
//!
//! EL2 maps all memory one to one, so a page's pointer is its physical address. The heap allocator
//! gives naturally aligned blocks.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::tree::{ENTRIES, TableMemory};
use crate::{PAGE_SIZE, Pa};

/// Zeroed, page-aligned memory from the EL2 heap: `count` pages side by side.
pub struct Pages {
    base: NonNull<u8>,
    count: usize,
}

// SAFETY: the pages are owned like a Box<[AtomicU64]>, and are only reached through atomics.
unsafe impl Send for Pages {}
// SAFETY: as above; every access through a shared reference is atomic.
unsafe impl Sync for Pages {}

impl Pages {
    fn layout(count: usize) -> Option<Layout> {
        let size = count.checked_mul(PAGE_SIZE as usize)?;
        Layout::from_size_align(size, size.checked_next_power_of_two()?).ok()
    }

    /// `count` zeroed pages, aligned to their size rounded up to a power of two (so that two pages can
    /// be concatenated root tables). `None` when there is no memory, or `count` is 0.
    #[must_use]
    pub fn allocate(count: usize) -> Option<Self> {
        let layout = Self::layout(count).filter(|layout| layout.size() != 0)?;
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { base, count })
    }

    /// Physical address of the first page.
    #[must_use]
    pub fn address(&self) -> Pa {
        Pa::new(self.base.as_ptr() as u64)
    }

    /// Pages.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The pages as something whose words can be read and written while a guest does the same.
    #[must_use]
    pub fn words(&self) -> SharedMemory {
        SharedMemory {
            base: self.base,
            size: self.count * PAGE_SIZE as usize,
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.count) {
            // SAFETY: allocated in `allocate` with this very layout, and owned by nobody else.
            unsafe { dealloc(self.base.as_ptr(), layout) }
        }
    }
}

/// One of those pages: a list of many takes half as much.
pub struct Page(NonNull<u8>);

// SAFETY: as for `Pages`.
unsafe impl Send for Page {}
// SAFETY: as for `Pages`.
unsafe impl Sync for Page {}

impl Page {
    /// A zeroed page. `None` when there is no memory.
    #[must_use]
    pub fn allocate() -> Option<Self> {
        // What `Drop` of the pages would do is done by its own.
        Pages::allocate(1).map(|pages| Self(core::mem::ManuallyDrop::new(pages).base))
    }

    /// Its physical address.
    #[must_use]
    pub fn address(&self) -> Pa {
        self.words().address()
    }

    /// The page as [`Pages::words`].
    #[must_use]
    pub fn words(&self) -> SharedMemory {
        SharedMemory {
            base: self.0,
            size: PAGE_SIZE as usize,
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(Pages {
            base: self.0,
            count: 1,
        });
    }
}

/// Memory that a guest may write at any moment: reached through atomics alone, never through `&[u8]`.
#[derive(Clone, Copy)]
pub struct SharedMemory {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: all accesses are atomic.
unsafe impl Send for SharedMemory {}
// SAFETY: all accesses are atomic.
unsafe impl Sync for SharedMemory {}

macro_rules! atomic_at {
    ($name:ident, $atomic:ty, $doc:literal) => {
        #[doc = $doc]
        /// `None` if it does not lie inside, or is not aligned.
        #[must_use]
        pub fn $name(&self, offset: usize) -> Option<&$atomic> {
            let size = size_of::<$atomic>();
            if !offset.is_multiple_of(size) || offset.checked_add(size)? > self.size {
                return None;
            }
            // SAFETY: the offset was just checked to lie inside the memory that `base` points to.
            let at = unsafe { self.base.add(offset) };
            // SAFETY: aligned (the base is, to 8 bytes at least, and the offset was checked), valid for
            // as long as the owner promised in `new`, and never accessed but atomically by EL2.
            Some(unsafe { at.cast::<$atomic>().as_ref() })
        }
    };
}

impl SharedMemory {
    /// The 64-bit words that lie `offset` bytes into each of two arrays, which begin at these places. `None` if either
    /// does not lie inside, or is not aligned.
    #[inline]
    #[must_use]
    pub fn u64_in_each(&self, [one, other]: [usize; 2], offset: usize) -> Option<[&AtomicU64; 2]> {
        const SIZE: usize = size_of::<AtomicU64>();
        let last = one.max(other).checked_add(offset)?;
        if !(one | other | offset).is_multiple_of(SIZE) || last.checked_add(SIZE)? > self.size {
            return None;
        }
        let word = |array: usize| {
            // SAFETY: the offset lies inside, since the larger of the two does.
            let at = unsafe { self.base.add(array + offset) };
            // SAFETY: as in `u64`: aligned, valid, and reached by atomics alone.
            unsafe { at.cast::<AtomicU64>().as_ref() }
        };
        Some([word(one), word(other)])
    }

    /// The two 32-bit words at `offset`, which is a multiple of 8. `None` if they do not lie inside, or it is not.
    #[inline]
    #[must_use]
    pub fn u32_pair(&self, offset: usize) -> Option<[&AtomicU32; 2]> {
        const SIZE: usize = size_of::<AtomicU64>();
        if !offset.is_multiple_of(SIZE) || offset.checked_add(SIZE)? > self.size {
            return None;
        }
        let word = |half: usize| {
            // SAFETY: all 8 bytes were just checked to lie inside.
            let at = unsafe { self.base.add(offset + half) };
            // SAFETY: as in `u32`: aligned, valid, and reached by atomics alone.
            unsafe { at.cast::<AtomicU32>().as_ref() }
        };
        Some([word(0), word(size_of::<AtomicU32>())])
    }

    /// `size` bytes at `base`.
    ///
    /// # Safety
    /// The memory is mapped Normal write-back in EL2, aligned to 8 bytes, stays valid for as long as the
    /// value or a copy of it is used, and EL2 has no other reference to it but atomics.
    #[must_use]
    pub unsafe fn new(base: Pa, size: usize) -> Option<Self> {
        Some(Self {
            base: NonNull::new(base.get() as *mut u8)?,
            size,
        })
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Physical address of the first byte.
    #[must_use]
    pub fn address(&self) -> Pa {
        Pa::new(self.base.as_ptr() as u64)
    }

    /// `size` bytes of it from `offset` on. `None` if they do not lie inside, or the offset is not a multiple of 8.
    #[must_use]
    pub fn part(&self, offset: usize, size: usize) -> Option<Self> {
        if !offset.is_multiple_of(8) || offset.checked_add(size)? > self.size {
            return None;
        }
        // SAFETY: the offset was just checked to lie inside the memory that `base` points to.
        let base = unsafe { self.base.add(offset) };
        Some(Self { base, size })
    }

    /// Zeroes it.
    pub fn clear(&self) {
        for offset in (0..self.size).step_by(8) {
            if let Some(word) = self.u64(offset) {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    atomic_at!(u8, AtomicU8, "The byte at `offset`.");
    atomic_at!(u32, AtomicU32, "The 32-bit word at `offset`.");
    atomic_at!(u64, AtomicU64, "The 64-bit word at `offset`.");

    /// Copies bytes from `offset` on, a word at a time where it can. What lies outside reads as 0.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let (mut at, mut rest) = (offset, into);
        while !rest.is_empty() {
            let size = match (self.u64(at), rest.first_chunk_mut::<8>()) {
                (Some(word), Some(eight)) => {
                    *eight = word.load(Ordering::Relaxed).to_le_bytes();
                    8
                }
                _ => {
                    if let Some(one) = rest.first_mut() {
                        *one = self.u8(at).map_or(0, |byte| byte.load(Ordering::Relaxed));
                    }
                    1
                }
            };
            at = at.saturating_add(size);
            rest = rest.get_mut(size..).unwrap_or_default();
        }
    }

    /// Copies bytes to `offset` and on, likewise. What would lie outside is dropped.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let (mut at, mut rest) = (offset, from);
        while let Some(&first) = rest.first() {
            let size = match (self.u64(at), rest.first_chunk::<8>()) {
                (Some(word), Some(eight)) => {
                    word.store(u64::from_le_bytes(*eight), Ordering::Relaxed);
                    8
                }
                _ => {
                    if let Some(byte) = self.u8(at) {
                        byte.store(first, Ordering::Relaxed);
                    }
                    1
                }
            };
            at = at.saturating_add(size);
            rest = rest.get(size..).unwrap_or_default();
        }
    }
}

/// A place for `SIZE` bytes of [`SharedMemory`], which is set once in each life of its owner, and read without a lock.
pub struct SharedCell<const SIZE: usize>(AtomicPtr<u8>);

impl<const SIZE: usize> SharedCell<SIZE> {
    /// Empty.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// What it was set to.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<SharedMemory> {
        let base = NonNull::new(self.0.load(Ordering::Acquire))?;
        Some(SharedMemory { base, size: SIZE })
    }

    /// Sets it, if it is empty and the memory has the size; whether it did.
    #[must_use]
    pub fn set(&self, memory: SharedMemory) -> bool {
        let exchange = |to| {
            let null = core::ptr::null_mut();
            self.0
                .compare_exchange(null, to, Ordering::AcqRel, Ordering::Relaxed)
        };
        memory.size == SIZE && exchange(memory.base.as_ptr()).is_ok()
    }

    /// Empties it. Who read it before may use the memory still.
    pub fn clear(&self) {
        self.0.store(core::ptr::null_mut(), Ordering::Release);
    }
}

impl<const SIZE: usize> Default for SharedCell<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

/// Tables of the EL2 image: pages of the heap, written through the identity map. What comes back is kept for the
/// same tree, and goes back to the heap with it: a guest that makes tables come and go never frees one.
pub struct HeapTables {
    /// How many more may be taken.
    left: usize,
    /// The first of those that came back; its first entry is the address of the next, 0 for none.
    spare: Option<Pa>,
}

impl Default for HeapTables {
    fn default() -> Self {
        Self {
            left: usize::MAX,
            spare: None,
        }
    }
}

impl Drop for HeapTables {
    fn drop(&mut self) {
        while let Some(table) = self.take_spare() {
            self.free_roots(table, 1);
        }
    }
}

impl HeapTables {
    /// From now on this many may be taken, beside those that come back.
    pub fn limit(&mut self, tables: usize) {
        self.left = tables;
    }

    fn take_spare(&mut self) -> Option<Pa> {
        let table = self.spare?;
        let next = self.get(table, 0);
        self.spare = (next != 0).then_some(Pa::new(next));
        Some(table)
    }

    #[inline(always)]
    fn entry(table: Pa, index: usize) -> Option<&'static AtomicU64> {
        if index >= ENTRIES {
            return None;
        }
        let entry = (table.get() as *const AtomicU64).wrapping_add(index);
        // SAFETY: `TableMemory` promises that `table` came from `allocate` and was not freed, and the
        // index lies inside the page. Hardware walkers read it at the same time, hence the atomic.
        Some(unsafe { &*entry })
    }
}

impl TableMemory for HeapTables {
    fn allocate(&mut self) -> Option<Pa> {
        if self.spare.is_none() || self.left == 0 {
            return self.allocate_roots(1);
        }
        let table = self.take_spare()?;
        self.left -= 1;
        for index in 0..ENTRIES {
            self.set(table, index, 0);
        }
        Some(table)
    }

    fn free(&mut self, table: Pa) {
        let next = self.spare.map_or(0, Pa::get);
        self.set(table, 0, next);
        self.spare = Some(table);
        self.left = self.left.saturating_add(1);
    }

    fn allocate_roots(&mut self, count: usize) -> Option<Pa> {
        let left = self.left.checked_sub(count)?;
        let pages = Pages::allocate(count)?;
        self.left = left;
        let address = pages.address();
        // Ownership goes to the tree, which gives the pages back through `free_roots`.
        core::mem::forget(pages);
        Some(address)
    }

    fn free_roots(&mut self, root: Pa, count: usize) {
        if let Some(base) = NonNull::new(root.get() as *mut u8) {
            drop(Pages { base, count });
            self.left = self.left.saturating_add(count);
        }
    }

    fn get(&self, table: Pa, index: usize) -> u64 {
        Self::entry(table, index).map_or(0, |entry| entry.load(Ordering::Acquire))
    }

    fn set(&mut self, table: Pa, index: usize, value: u64) {
        if let Some(entry) = Self::entry(table, index) {
            entry.store(value, Ordering::Release);
        }
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
