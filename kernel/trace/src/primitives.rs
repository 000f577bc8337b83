//! The atomics: the real ones, or loom's models.

#[cfg(not(all(loom, feature = "model")))]
pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(all(loom, feature = "model"))]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
