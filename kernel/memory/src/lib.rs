//! Memory as the hypervisor sees it: typed addresses, the pool of physical chunks, stage-1 and
//! stage-2 translation tables.
//!
//! Nothing here executes a system instruction. Tables are written through [`TableMemory`], a trait
//! that the EL2 image implements on physical memory and the tests on a vector; what the hardware
//! must be told afterwards (TLB maintenance, barriers) is returned to the caller.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod address;
mod frames;
mod heap;
mod page;
mod pool;
mod sort;
mod stage;
mod tree;

pub use address::{CHUNK_SIZE, Ipa, IpaRange, PAGE_SIZE, Pa, PaRange, Range, Va, merge};
pub use frames::{FrameError, Frames, LockedFrames};
pub use heap::Heap;
pub use page::{HeapTables, Page, Pages, SharedCell, SharedMemory};
pub use pool::{ChunkPool, Owner};
pub use sort::sort_by_key;
pub use stage::{IPA_BITS, IPA_BITS_OF_A_ROOT, MAIR, Stage1, Stage1Kind, Stage2, Stage2Kind};
pub use tree::{ENTRIES, Invalidate, Leaf, MapError, TableMemory, Tree};
