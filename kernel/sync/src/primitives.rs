//! The atomics and the cell that the rest of the crate is made of: the real ones, or loom's models.
//!
//! loom's constructors are not `const`, so the types built on them have a `const fn new` only in the
//! real build; `constructor!` writes both from one body.

#[cfg(not(all(loom, feature = "model")))]
pub(crate) use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering, fence},
};
#[cfg(all(loom, feature = "model"))]
pub(crate) use loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering, fence},
};

/// `core::cell::UnsafeCell` behind loom's interface: the pointer is handed to a closure, so that loom
/// can see how long it is used.
#[cfg(not(all(loom, feature = "model")))]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T: ?Sized>(core::cell::UnsafeCell<T>);

#[cfg(not(all(loom, feature = "model")))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }

    #[inline(always)]
    pub(crate) fn with<R>(&self, access: impl FnOnce(*const T) -> R) -> R {
        access(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}

/// Declares a constructor that is `const` in the real build.
macro_rules! constructor {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block) => {
        $(#[$attribute])*
        #[cfg(not(all(loom, feature = "model")))]
        $visibility const fn $name($($argument: $type),*) -> $result $body

        $(#[$attribute])*
        #[cfg(all(loom, feature = "model"))]
        $visibility fn $name($($argument: $type),*) -> $result $body
    };
}
pub(crate) use constructor;
