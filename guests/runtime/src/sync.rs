//! A lock that masks interrupts while it is held, and a cell that is written once.

use crate::cpu;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A spin lock that interrupt handlers may take too: the holder's interrupts are masked.
pub struct Lock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and there is one guard at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// A lock over `value`.
    pub const fn new(value: T) -> Self {
        Self {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        let interrupts = cpu::mask();
        while self.held.swap(true, Ordering::Acquire) {
            while self.held.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
        Guard {
            lock: self,
            interrupts,
        }
    }

    /// The lock, if nobody holds it.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let interrupts = cpu::mask();
        if self.held.swap(true, Ordering::Acquire) {
            cpu::restore(interrupts);
            return None;
        }
        Some(Guard {
            lock: self,
            interrupts,
        })
    }
}

/// Access to what a [`Lock`] protects.
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
    interrupts: cpu::Mask,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, so nothing else refers to the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock, so nothing else refers to the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
        cpu::restore(self.interrupts);
    }
}

/// A value that is set once, early, and read by anyone afterwards.
pub struct Once<T> {
    claimed: AtomicBool,
    ready: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: written by the one caller that claims it, shared only after `ready` was released.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Once<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        Self {
            claimed: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Stores the value; a second call has no effect.
    pub fn set(&self, value: T) {
        if self.claimed.swap(true, Ordering::Acquire) {
            return;
        }
        // SAFETY: only the first caller comes here, and nobody reads before `ready`.
        unsafe { (*self.value.get()).write(value) };
        self.ready.store(true, Ordering::Release);
    }

    /// The value, once it is there.
    pub fn get(&self) -> Option<&T> {
        if !self.ready.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `ready` says that the one write is over, so the cell is only read from now on.
        let value = unsafe { &*self.value.get() };
        // SAFETY: the one write was of a whole value.
        Some(unsafe { value.assume_init_ref() })
    }
}
