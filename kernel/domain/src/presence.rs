//! A domain's end and the CPUs that have its vCPUs in their registers: who is last sees the other, without a lock.
//!
//! A CPU marks a vCPU as [`Loaded`] and then asks whether the domain is still [`Alive`]; when it has let go of the vCPU it
//! takes the mark away and asks again. Who ends the domain first says so, and then looks for marks
//! ([`is_any_loaded`]). Each writes before it reads, with a barrier between (DDI 0487, B2.3: a store and a later
//! load of another word are not in order by themselves). So either the CPU is seen, or it sees the end: a vCPU of a
//! domain that has ended is not loaded, and the last CPU to let go of one knows that it is. `tests/loom.rs` tries the
//! orders.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};

macro_rules! flag {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Default)]
        pub struct $name(AtomicBool);

        impl $name {
            /// Whether it is so.
            #[inline]
            #[must_use]
            pub fn get(&self) -> bool {
                self.0.load(Ordering::Acquire)
            }

            /// Says so. What the caller reads from here on is read after this is visible.
            #[inline]
            pub fn set(&self, now: bool) {
                self.0.store(now, Ordering::Release);
                fence(Ordering::SeqCst);
            }
        }
    };
}

flag! {
    /// Whether a domain may run, now or when it is resumed. Written under the lock of its life.
    Alive
}

flag! {
    /// Whether a CPU has a vCPU in its registers, or is about to.
    Loaded
}

/// Whether some CPU has one of these, of a domain of which somebody has said that it is not alive.
pub fn is_any_loaded<'a>(mut vcpus: impl Iterator<Item = &'a Loaded>) -> bool {
    // For one who has the news from another: the lock orders the two, and this its loads behind.
    fence(Ordering::SeqCst);
    vcpus.any(Loaded::get)
}
