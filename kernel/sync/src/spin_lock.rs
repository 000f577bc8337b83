//! A ticket lock: CPUs get it in the order in which they asked, so none can be starved by another
//! that takes it again and again. Taking a free lock is one atomic add and one load; releasing it is
//! one store.
//!
//! The holder must not take the same lock again (it would wait for itself) and must not wait for
//! another CPU that may want it. EL2 keeps interrupts masked, so there is no interrupt handler to
//! guard against.

use core::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use crate::primitives::{AtomicU32, Ordering, UnsafeCell, constructor, spin_loop};

/// A value that one CPU at a time may touch.
pub struct SpinLock<T> {
    /// The ticket that the next CPU to ask will draw.
    next: AtomicU32,
    /// The ticket that may go in. Both wrap; at most one lock's worth of CPUs lies between them.
    serving: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: `&SpinLock<T>` gives out `T` to one holder at a time, on whichever CPU that is. That is
// moving a `T` between CPUs, which `T: Send` permits; `T: Sync` is not needed, as there are never two
// references at once.
unsafe impl<T: Send> Sync for SpinLock<T> {}

/// Proof that the lock is held, and the way to the value; dropping it releases the lock.
pub struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
    /// The ticket we were served with: releasing is then a store, without a load.
    ticket: u32,
    /// A guard gives `&mut T` and `&T`: it may be shared with another CPU only if `T` may.
    value: PhantomData<&'a mut T>,
}

impl<T> SpinLock<T> {
    constructor! {
        /// A free lock around `value`.
        #[must_use]
        pub fn new(value: T) -> Self {
            Self {
                next: AtomicU32::new(0),
                serving: AtomicU32::new(0),
                value: UnsafeCell::new(value),
            }
        }
    }

    /// Waits for its turn and takes the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        // Acquire pairs with the release in `Guard::drop`: what the last holder wrote is seen here.
        while self.serving.load(Ordering::Acquire) != ticket {
            spin_loop();
        }
        self.guard(ticket)
    }

    /// Takes the lock if it is free; never waits.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        // `serving` never passes `next`; if `next` still equals what we read, nobody holds a ticket
        // that was not served, so drawing that one is to be served at once.
        let ticket = self.serving.load(Ordering::Acquire);
        self.next
            .compare_exchange(
                ticket,
                ticket.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .ok()
            .map(|ticket| self.guard(ticket))
    }

    /// Whether somebody held it at some moment of the call. For diagnostics: it may have changed since.
    pub fn is_locked(&self) -> bool {
        self.serving.load(Ordering::Relaxed) != self.next.load(Ordering::Relaxed)
    }

    /// The value, for the only owner of the lock; no locking is needed.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` says that nobody else has the lock or a guard of it.
        self.value.with_mut(|value| unsafe { &mut *value })
    }

    /// The value, out of its lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    #[inline]
    fn guard(&self, ticket: u32) -> Guard<'_, T> {
        Guard {
            lock: self,
            ticket,
            value: PhantomData,
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists, so its ticket is the one served, and every other CPU waits until
        // it is dropped; the reference cannot outlive the guard's borrow.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; and `&mut self` says that this holder has no other reference.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the acquire in `lock` and `try_lock`.
        self.lock
            .serving
            .store(self.ticket.wrapping_add(1), Ordering::Release);
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A debug print (from a panic, say) must not wait for a lock.
        match self.try_lock() {
            Some(guard) => f.debug_tuple("SpinLock").field(&*guard).finish(),
            None => f.write_str("SpinLock(<locked>)"),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(all(loom, feature = "model"))))]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_refuses_a_second_holder() {
        let lock = SpinLock::new(1);
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        assert!(lock.is_locked());
        drop(guard);
        *lock.try_lock().expect("free") += 1;
        assert!(!lock.is_locked());
        assert_eq!(lock.into_inner(), 2);
    }

    #[test]
    fn tickets_wrap() {
        let lock = SpinLock::new(0_u32);
        lock.next.store(u32::MAX, Ordering::Relaxed);
        lock.serving.store(u32::MAX, Ordering::Relaxed);
        for _ in 0..4 {
            *lock.lock() += 1;
            *lock.try_lock().expect("free") += 1;
        }
        assert_eq!(*lock.lock(), 8);
    }

    #[test]
    fn threads_take_turns() {
        static LOCK: SpinLock<(u64, u64)> = SpinLock::new((0, 0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut guard = LOCK.lock();
                        guard.0 += 1;
                        guard.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*LOCK.lock(), (20_000, 20_000));
    }

    #[test]
    fn debug_output_does_not_wait() {
        let lock = SpinLock::new(7);
        assert_eq!(format!("{lock:?}"), "SpinLock(7)");
        let _guard = lock.lock();
        assert_eq!(format!("{lock:?}"), "SpinLock(<locked>)");
    }
}
