//! A bounded byte ring between one producer and one consumer, without a lock.
//!
//! Positions are counted up for ever and wrap as numbers do; the slot is the position modulo the size,
//! which is a power of two so that this survives the wrap. Two producers at once (or two consumers)
//! may lose or repeat bytes, never more than that: every slot is an atomic byte.

use crate::primitives::{AtomicU8, AtomicUsize, Ordering, constructor};

/// A ring of `SIZE` bytes; `SIZE` is a power of two, checked when the program is compiled.
pub struct Ring<const SIZE: usize> {
    /// Position of the next byte to write; only the producer stores it.
    head: AtomicUsize,
    /// Position of the next byte to read; only the consumer stores it.
    tail: AtomicUsize,
    bytes: [AtomicU8; SIZE],
}

impl<const SIZE: usize> Ring<SIZE> {
    const MASK: usize = {
        assert!(
            SIZE.is_power_of_two(),
            "the size of a ring is a power of two"
        );
        SIZE - 1
    };

    constructor! {
        /// An empty ring.
        #[must_use]
        pub fn new() -> Self {
            Self {
                head: AtomicUsize::new(0),
                tail: AtomicUsize::new(0),
                bytes: Self::zeroes(),
            }
        }
    }

    #[cfg(not(all(loom, feature = "model")))]
    const fn zeroes() -> [AtomicU8; SIZE] {
        [const { AtomicU8::new(0) }; SIZE]
    }

    #[cfg(all(loom, feature = "model"))]
    fn zeroes() -> [AtomicU8; SIZE] {
        core::array::from_fn(|_| AtomicU8::new(0))
    }

    /// Bytes it can hold.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        SIZE
    }

    /// Bytes waiting to be read. The other side may change it at any time.
    pub fn len(&self) -> usize {
        // Tail first: the head read later can only be further on, so the difference is never negative;
        // it can exceed the size if both sides moved in between.
        let tail = self.tail.load(Ordering::Acquire);
        let head = self.head.load(Ordering::Acquire);
        head.wrapping_sub(tail).min(SIZE)
    }

    /// Whether nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing more can be written.
    pub fn is_full(&self) -> bool {
        self.len() == SIZE
    }

    /// Producer: bytes that can be written now; the consumer can only make it more.
    pub fn free(&self) -> usize {
        SIZE.saturating_sub(self.len())
    }

    /// Producer: writes one byte; `false` if the ring is full.
    #[inline]
    pub fn push(&self, byte: u8) -> bool {
        self.write(&[byte]) == 1
    }

    /// Producer: writes as many of `bytes`, from the first on, as fit; returns how many.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let head = self.head.load(Ordering::Relaxed);
        // Acquire pairs with the release in `consume`: the slots it freed have been read.
        let tail = self.tail.load(Ordering::Acquire);
        let free = SIZE.saturating_sub(head.wrapping_sub(tail));
        let count = free.min(bytes.len());
        for (index, byte) in bytes.iter().take(count).enumerate() {
            if let Some(slot) = self.bytes.get(head.wrapping_add(index) & Self::MASK) {
                slot.store(*byte, Ordering::Relaxed);
            }
        }
        // Release: who sees the new head sees the bytes.
        self.head.store(head.wrapping_add(count), Ordering::Release);
        count
    }

    /// Producer: writes all of `bytes` or nothing; whether it did.
    pub fn write_all(&self, bytes: &[u8]) -> bool {
        self.free() >= bytes.len() && self.write(bytes) == bytes.len()
    }

    /// Consumer: takes one byte.
    #[inline]
    pub fn pop(&self) -> Option<u8> {
        let mut byte = 0;
        (self.consume(1, |taken| byte = taken) == 1).then_some(byte)
    }

    /// Consumer: takes as many bytes as wait and fit into `buffer`; returns how many.
    pub fn read(&self, buffer: &mut [u8]) -> usize {
        let limit = buffer.len();
        let mut places = buffer.iter_mut();
        self.consume(limit, |byte| {
            if let Some(place) = places.next() {
                *place = byte;
            }
        })
    }

    /// Consumer: the next byte, left where it is.
    pub fn peek(&self) -> Option<u8> {
        let tail = self.tail.load(Ordering::Relaxed);
        if self.head.load(Ordering::Acquire) == tail {
            return None;
        }
        self.bytes
            .get(tail & Self::MASK)
            .map(|slot| slot.load(Ordering::Relaxed))
    }

    /// Consumer: drops all that waits.
    pub fn clear(&self) {
        let head = self.head.load(Ordering::Acquire);
        self.tail.store(head, Ordering::Release);
    }

    fn consume(&self, limit: usize, mut take: impl FnMut(u8)) -> usize {
        let tail = self.tail.load(Ordering::Relaxed);
        // Acquire pairs with the release in `write`.
        let head = self.head.load(Ordering::Acquire);
        let count = head.wrapping_sub(tail).min(SIZE).min(limit);
        for index in 0..count {
            if let Some(slot) = self.bytes.get(tail.wrapping_add(index) & Self::MASK) {
                take(slot.load(Ordering::Relaxed));
            }
        }
        // Release: the producer that sees the new tail may overwrite what we have read.
        self.tail.store(tail.wrapping_add(count), Ordering::Release);
        count
    }
}

impl<const SIZE: usize> Default for Ring<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(all(loom, feature = "model"))))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn bytes_come_out_in_order() {
        let ring = Ring::<4>::new();
        assert_eq!(ring.pop(), None);
        assert_eq!(ring.write(b"abcdef"), 4);
        assert!(ring.is_full() && !ring.push(b'x'));
        let mut buffer = [0; 3];
        assert_eq!(ring.read(&mut buffer), 3);
        assert_eq!(&buffer, b"abc");
        assert!(!ring.write_all(b"wxyz") && ring.write_all(b"xyz"));
        assert_eq!(ring.peek(), Some(b'd'));
        let mut buffer = [0; 8];
        assert_eq!(ring.read(&mut buffer), 4);
        assert_eq!(&buffer[..4], b"dxyz");
        assert!(ring.is_empty());
        assert!(ring.push(1));
        ring.clear();
        assert_eq!(ring.pop(), None);
    }

    #[test]
    fn positions_wrap() {
        let ring = Ring::<8>::new();
        ring.head.store(usize::MAX - 2, Ordering::Relaxed);
        ring.tail.store(usize::MAX - 2, Ordering::Relaxed);
        assert_eq!(ring.write(b"12345678"), 8);
        assert_eq!((ring.len(), ring.free()), (8, 0));
        let mut buffer = [0; 8];
        assert_eq!(ring.read(&mut buffer), 8);
        assert_eq!(&buffer, b"12345678");
    }

    #[test]
    fn it_behaves_as_a_bounded_queue() {
        // A linear congruential generator: the same run every time, no dependency.
        let mut random = 12_345_u32;
        let mut next = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % below
        };
        let ring = Ring::<16>::new();
        let mut model = VecDeque::new();
        for _ in 0..20_000 {
            let count = next(20) as usize;
            if next(2) == 0 {
                let bytes: Vec<u8> = (0..count).map(|_| next(256) as u8).collect();
                let fit = count.min(16 - model.len());
                model.extend(&bytes[..fit]);
                assert_eq!(ring.write(&bytes), fit);
            } else {
                let mut buffer = vec![0; count];
                let got = ring.read(&mut buffer);
                assert_eq!(got, count.min(model.len()));
                assert!(buffer[..got].iter().copied().eq(model.drain(..got)));
            }
            assert_eq!(ring.len(), model.len());
            assert_eq!(ring.peek(), model.front().copied());
        }
    }

    #[test]
    fn one_thread_writes_while_another_reads() {
        static RING: Ring<32> = Ring::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for value in 0..5_000_u32 {
                    while !RING.push(value as u8) {
                        std::thread::yield_now();
                    }
                }
            });
            for value in 0..5_000_u32 {
                let byte = loop {
                    match RING.pop() {
                        Some(byte) => break byte,
                        None => std::thread::yield_now(),
                    }
                };
                assert_eq!(byte, value as u8);
            }
        });
    }
}
