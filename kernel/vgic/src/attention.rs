//! What is known of a vCPU without the lock: whether its list registers have to be looked at, and whether there is anything
//! about it to be saved or restored.

use crate::identity::IntId;
use crate::primitives::{AtomicU32, Ordering};

/// Attention flag: the vCPU's list registers must be brought up to date before it runs on.
pub(crate) const DIRTY: u32 = 1;
/// Attention flag: a hardware-linked interrupt is pending in a list register, and its line may drop.
/// The number of the physical interrupt is in bits 25:16.
pub(crate) const LINKED: u32 = 2;

/// The attention word for a linked interrupt in a list register beside those that `before` has.
pub(crate) const fn linked(before: u32, physical: IntId) -> u32 {
    // Two of them: a look at this one is not enough, so the number stands for none.
    let number = if before & LINKED == 0 || before >> 16 == physical.get() {
        physical.get()
    } else {
        0x3ff
    };
    (before & DIRTY) | LINKED | (number << 16)
}

/// The physical interrupt whose line alone decides whether there is anything to do.
pub(crate) const fn only_linked(attention: u32) -> Option<IntId> {
    if attention & (DIRTY | LINKED) == LINKED {
        IntId::new(attention >> 16)
    } else {
        None
    }
}

/// What of a vCPU is read without the lock, and written under it.
#[derive(Debug)]
pub(crate) struct Attention {
    /// Dirty and linked.
    pub(crate) flags: AtomicU32,
    /// 0 if its list registers may hold something, or a hardware interrupt waits for its end: it is engaged. Only the CPU
    /// that has it loaded writes it.
    pub(crate) rests: AtomicU32,
}

impl Attention {
    pub(crate) fn new() -> Self {
        Self {
            flags: AtomicU32::new(0),
            rests: AtomicU32::new(0),
        }
    }

    /// Whether nothing is listed and nothing wants in: neither a save nor a restore has anything to do. Whoever changes
    /// that while the vCPU is not loaded writes the flags, and then looks whether it runs (`remote`, and the image's
    /// `RunState`); its CPU says that it runs, and then looks here.
    #[inline(always)]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.flags.load(Ordering::Acquire) == 0 && self.rests.load(Ordering::Relaxed) != 0
    }

    /// It is dirty from now on. Every writer holds the lock, so a load and a store do.
    #[inline]
    pub(crate) fn soil(&self) {
        let flags = self.flags.load(Ordering::Relaxed) | DIRTY;
        self.flags.store(flags, Ordering::Release);
    }

    /// Something is about to be in a list register, or hardware waits.
    #[inline(always)]
    pub(crate) fn engage(&self) {
        self.rests.store(0, Ordering::Relaxed);
    }

    /// No list register holds anything any more, and no hardware waits.
    #[inline]
    pub(crate) fn disengage(&self) {
        self.rests.store(1, Ordering::Relaxed);
    }

    /// The same, and nothing wants in.
    #[inline]
    pub(crate) fn rest(&self) {
        self.flags.store(0, Ordering::Relaxed);
        self.disengage();
    }
}
