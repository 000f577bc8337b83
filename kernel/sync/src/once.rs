//! A cell that is written once and read for ever after: what the boot CPU finds out and all CPUs use.
//! Reading costs one load and one branch.

use core::{fmt, mem::MaybeUninit};

use crate::primitives::{AtomicU8, Ordering, UnsafeCell, constructor, spin_loop};

/// Nothing written, nobody writing.
const EMPTY: u8 = 0;
/// A CPU computes the value.
const BUSY: u8 = 1;
/// The value is there and will not change.
const READY: u8 = 2;

/// A value that is set at most once.
pub struct Once<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: after READY the cell gives out `&T` to any CPU (`T: Sync`); the value may have been made on
// one CPU and be dropped on another (`T: Send`). Before READY only the CPU that moved the state from
// EMPTY to BUSY touches the value.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    constructor! {
        /// An empty cell.
        #[must_use]
        pub fn new() -> Self {
            Self {
                state: AtomicU8::new(EMPTY),
                value: UnsafeCell::new(MaybeUninit::uninit()),
            }
        }
    }

    /// The value, if it has been set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire pairs with the release in `call_once`: READY seen, value seen.
        if self.state.load(Ordering::Acquire) == READY {
            Some(self.ready())
        } else {
            None
        }
    }

    /// The value; the first caller makes it by `make`, others meanwhile wait for it. `make` must not
    /// use the same cell, and must not panic: the cell would stay busy (a panic in EL2 ends EL2).
    pub fn call_once(&self, make: impl FnOnce() -> T) -> &T {
        match self
            .state
            .compare_exchange(EMPTY, BUSY, Ordering::Acquire, Ordering::Acquire)
        {
            Ok(_) => {
                let made = make();
                self.value.with_mut(|value| {
                    // SAFETY: we moved EMPTY to BUSY, so no other CPU writes, and none reads before
                    // the READY below; the pointer is that of our own cell.
                    unsafe { &mut *value }.write(made);
                });
                self.state.store(READY, Ordering::Release);
            }
            Err(READY) => {}
            Err(_) => {
                while self.state.load(Ordering::Acquire) != READY {
                    spin_loop();
                }
            }
        }
        self.ready()
    }

    /// Sets the value; gives it back if the cell was set already (waiting if that is under way).
    ///
    /// # Errors
    ///
    /// The value itself, not used.
    pub fn set(&self, value: T) -> Result<&T, T> {
        let mut offered = Some(value);
        let mut ours = false;
        if self
            .state
            .compare_exchange(EMPTY, BUSY, Ordering::Acquire, Ordering::Acquire)
            .is_ok()
            && let Some(made) = offered.take()
        {
            self.value.with_mut(|value| {
                // SAFETY: as in `call_once`: EMPTY to BUSY was ours.
                unsafe { &mut *value }.write(made);
            });
            self.state.store(READY, Ordering::Release);
            ours = true;
        }
        match offered {
            Some(value) if !ours => Err(value),
            _ => Ok(self.ready()),
        }
    }

    /// The value, known to be there.
    #[inline]
    fn ready(&self) -> &T {
        self.value.with(|value| {
            // SAFETY: a valid pointer to our own cell; callers have seen READY (acquire), after which
            // nobody makes a unique reference to it while `self` is borrowed.
            let value = unsafe { &*value };
            // SAFETY: READY is stored only after the value was written.
            unsafe { value.assume_init_ref() }
        })
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        // `&mut self`: no other CPU can be at work on the cell.
        if self.state.load(Ordering::Relaxed) == READY {
            self.value.with_mut(|value| {
                // SAFETY: a valid pointer to our own cell, and `&mut self` makes it unique.
                let value = unsafe { &mut *value };
                // SAFETY: READY says that it was written; the cell is not used after its drop.
                unsafe { value.assume_init_drop() };
            });
        }
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("Once").field(value).finish(),
            None => f.write_str("Once(<empty>)"),
        }
    }
}

#[cfg(all(test, not(all(loom, feature = "model"))))]
mod tests {
    use super::*;
    use std::{rc::Rc, sync::Arc};

    #[test]
    fn the_first_value_stays() {
        let once = Once::new();
        assert_eq!(once.get(), None);
        assert_eq!(*once.call_once(|| 1), 1);
        assert_eq!(*once.call_once(|| 2), 1);
        assert_eq!(once.set(3), Err(3));
        assert_eq!(once.get(), Some(&1));
    }

    #[test]
    fn set_fills_an_empty_cell() {
        let once = Once::new();
        assert_eq!(once.set(5), Ok(&5));
        assert_eq!(format!("{once:?}"), "Once(5)");
    }

    #[test]
    fn the_value_is_dropped_once() {
        let value = Rc::new(());
        let once = Once::new();
        once.call_once(|| Rc::clone(&value));
        assert_eq!(Rc::strong_count(&value), 2);
        drop(once);
        assert_eq!(Rc::strong_count(&value), 1);
        drop(Once::<Rc<()>>::new());
    }

    #[test]
    fn all_threads_see_the_same_value() {
        let once = Arc::new(Once::new());
        let threads: Vec<_> = (0..4)
            .map(|index| {
                let once = Arc::clone(&once);
                std::thread::spawn(move || *once.call_once(|| index))
            })
            .collect();
        let mut values = threads
            .into_iter()
            .map(|thread| thread.join().expect("thread"));
        assert!(values.all(|value| Some(&value) == once.get()));
    }
}
