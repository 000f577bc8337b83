//! Atomic changes of words that a guest can write at the same time, in a bounded number of tries.
//!
//! Without the large system extensions (a Cortex-A72 has none) an atomic operation is a loop of load and
//! store exclusive, and a guest that writes the same line from another CPU without pause can make the store
//! fail for ever (Xen's advisory XSA-295). What well-behaved guests do takes a few tries at most.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Tries: some ten thousand instructions at most.
pub(crate) const TRIES: u32 = 1024;

/// The guest did not leave the word alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contended;

macro_rules! change {
    ($name:ident, $atomic:ty, $value:ty, $doc:literal, |$old:ident, $operand:ident| $new:expr) => {
        #[doc = $doc]
        /// Returns what it held before.
        #[inline]
        pub(crate) fn $name(word: &$atomic, $operand: $value) -> Result<$value, Contended> {
            let mut $old = word.load(Relaxed);
            for _ in 0..TRIES {
                // The weak exchange is one pair of instructions; it may fail for no reason.
                match word.compare_exchange_weak($old, $new, SeqCst, Relaxed) {
                    Ok(before) => return Ok(before),
                    Err(seen) => $old = seen,
                }
            }
            Err(Contended)
        }
    };
}

change!(or, AtomicU64, u64, "Sets bits.", |old, bits| old | bits);
change!(
    and,
    AtomicU64,
    u64,
    "Keeps only these bits.",
    |old, bits| old & bits
);
change!(or_u32, AtomicU32, u32, "Sets bits.", |old, bits| old | bits);
change!(
    and_u32,
    AtomicU32,
    u32,
    "Keeps only these bits.",
    |old, bits| old & bits
);
change!(swap, AtomicU8, u8, "Replaces the value.", |_old, value| {
    value
});

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn the_changes_are_what_they_say() {
        let word = AtomicU64::new(0b0110);
        assert_eq!(or(&word, 0b0011), Ok(0b0110));
        assert_eq!(and(&word, 0b0101), Ok(0b0111));
        assert_eq!(word.into_inner(), 0b0101);
        let flag = AtomicU8::new(0);
        assert_eq!(swap(&flag, 1), Ok(0));
        assert_eq!(swap(&flag, 1), Ok(1));
    }

    #[test]
    fn no_bit_is_lost_to_another_writer_and_every_call_ends() {
        let (word, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    word.fetch_add(1 << 32, Relaxed);
                }
            });
            for turn in 0..10_000_u64 {
                let bit = 1 << (turn % 32);
                if let Ok(before) = or(&word, bit) {
                    assert_eq!(before & bit, 0);
                    while and(&word, !bit).is_err() {}
                }
            }
            stop.store(true, Relaxed);
        });
        assert_eq!(word.into_inner() & 0xffff_ffff, 0);
    }
}
