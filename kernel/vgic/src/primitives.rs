//! The atomics: the real ones, or loom's models.

#[cfg(not(all(loom, feature = "model")))]
pub(crate) use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(all(loom, feature = "model"))]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};
