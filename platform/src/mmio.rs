//! Where an address becomes a register block.
//!
//! Every block is made of tock-registers' cells, which are read and written by single volatile accesses
//! of the register's own width. References to a block are only ever shared ones.

use core::ops::Deref;
use core::ptr::with_exposed_provenance;

/// A block of memory-mapped registers of type `T`.
#[derive(Clone, Copy)]
pub(crate) struct Mmio<T: 'static>(&'static T);

impl<T> Mmio<T> {
    /// The block at `base`.
    ///
    /// # Safety
    ///
    /// For as long as the value or a copy of it lives:
    /// 1. `base` is aligned for `T`, not 0, and `size_of::<T>()` bytes from it are mapped for reading and
    ///    writing, as Device memory (in tests: ordinary memory that nothing else borrows mutably);
    /// 2. the device there is the one that `T` describes;
    /// 3. nothing writes its registers but through this type, unless the device allows it.
    pub(crate) unsafe fn new(base: usize) -> Self {
        // SAFETY: aligned, not null and mapped for ever by the first promise. The bytes are those of
        // integer cells, for which every value is valid.
        Self(unsafe { &*with_exposed_provenance::<T>(base) })
    }
}

impl<T> Deref for Mmio<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0
    }
}

// SAFETY: an access is one load or store of a device register, which the bus serialises. Sequences that
// must not mix (read, then write back) are the drivers' business: they lock, or the register is one
// CPU's own.
unsafe impl<T> Sync for Mmio<T> {}
// SAFETY: as for Sync; the block belongs to no CPU.
unsafe impl<T> Send for Mmio<T> {}

#[cfg(test)]
pub(crate) mod tests {
    use core::cell::UnsafeCell;

    /// Ordinary memory to run a driver on, aligned like a page. Nothing acts in it: a write stays what
    /// it is, so a "set" register reads back the bits that were last set.
    pub(crate) struct Block(Vec<UnsafeCell<Page>>);

    #[repr(align(4096))]
    struct Page(#[expect(dead_code, reason = "reached by address alone")] [u32; 1024]);

    impl Block {
        /// So many bytes, all 0. Never freed, since drivers hold what they believe to be devices.
        pub(crate) fn new(bytes: usize) -> &'static Self {
            let pages = (0..bytes.div_ceil(4096))
                .map(|_| UnsafeCell::new(Page([0; 1024])))
                .collect();
            Box::leak(Box::new(Self(pages)))
        }

        pub(crate) fn base(&self) -> usize {
            self.0.as_ptr().expose_provenance()
        }

        fn word(&self, offset: usize) -> *mut u32 {
            assert!(offset.is_multiple_of(4) && offset < self.0.len() * 4096);
            core::ptr::with_exposed_provenance_mut(self.base() + offset)
        }

        pub(crate) fn get(&self, offset: usize) -> u32 {
            // SAFETY: inside the block, aligned, and in a cell.
            unsafe { self.word(offset).read_volatile() }
        }

        pub(crate) fn set(&self, offset: usize, value: u32) {
            // SAFETY: inside the block, aligned, and in a cell.
            unsafe { self.word(offset).write_volatile(value) }
        }
    }
}
