//! A box that is put in its place once, and read for ever after. As [`Once`](crate::Once), but reading it costs a load
//! and a comparison with null, and what is in it is at one address: for what hot paths look into.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::ptr;

use crate::primitives::{AtomicPtr, Ordering, constructor};

/// A place for a box that is filled at most once.
pub struct OnceBox<T> {
    /// Null, or what `Box::into_raw` gave.
    value: AtomicPtr<T>,
    /// It owns the box, and drops it.
    owns: PhantomData<Box<T>>,
}

// SAFETY: any CPU gets `&T` (`T: Sync`), and the box may be dropped on another CPU than the one that made it (`T: Send`).
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}

impl<T> OnceBox<T> {
    constructor! {
        /// An empty place.
        #[must_use]
        pub fn new() -> Self {
            Self {
                value: AtomicPtr::new(ptr::null_mut()),
                owns: PhantomData,
            }
        }
    }

    /// What is in the box, if it has been set.
    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        // Acquire pairs with the release in `set`: the pointer seen, the value seen.
        let value = self.value.load(Ordering::Acquire);
        // SAFETY: null, or a box that lives as long as `self`, of which nobody makes a unique reference before that.
        unsafe { value.as_ref() }
    }

    /// Fills an empty place.
    ///
    /// # Errors
    /// The box itself, if there is one already.
    pub fn set(&self, value: Box<T>) -> Result<(), Box<T>> {
        let value = Box::into_raw(value);
        match self.value.compare_exchange(
            ptr::null_mut(),
            value,
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            Ok(_) => Ok(()),
            // SAFETY: it was made a pointer above, and no place has it.
            Err(_) => Err(unsafe { Box::from_raw(value) }),
        }
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        // `&mut self`: no other CPU can be at work on the place.
        let value = self.value.load(Ordering::Acquire);
        if !value.is_null() {
            // SAFETY: `set` made it of a box, and nobody has a reference any more.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

impl<T> Default for OnceBox<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(all(loom, feature = "model"))))]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_first_box_stays() {
        let place = OnceBox::default();
        assert_eq!(place.get(), None);
        assert_eq!(place.set(Box::new(1)), Ok(()));
        assert_eq!(place.set(Box::new(2)), Err(Box::new(2)));
        assert_eq!(place.get(), Some(&1));
    }

    #[test]
    fn what_is_in_it_is_dropped_once() {
        let value = Rc::new(());
        let place = OnceBox::new();
        assert!(place.set(Box::new(Rc::clone(&value))).is_ok());
        assert!(place.set(Box::new(Rc::clone(&value))).is_err());
        assert_eq!(Rc::strong_count(&value), 2);
        drop(place);
        assert_eq!(Rc::strong_count(&value), 1);
        drop(OnceBox::<Rc<()>>::new());
    }
}
