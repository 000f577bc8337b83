//! Addresses are not integers: a physical, an intermediate physical and a virtual address are three
//! types, so that one cannot stand for another. There is no `From<u64>`: a number becomes an
//! address by `new`, where somebody can look for it.

use core::fmt;

/// Bytes in a page: the granule of all our translation tables and of every Xen frame number.
pub const PAGE_SIZE: u64 = 4096;

/// Bytes in a chunk: what the frame pool deals in, and a level-2 block of either stage.
pub const CHUNK_SIZE: u64 = 2 << 20;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this number.
            #[must_use]
            pub const fn new(address: u64) -> Self {
                Self(address)
            }

            /// The first byte of the 4 KiB frame with this number; `None` if it does not fit in 64 bits.
            #[must_use]
            pub const fn from_frame_number(number: u64) -> Option<Self> {
                match number.checked_mul(PAGE_SIZE) {
                    Some(address) => Some(Self(address)),
                    None => None,
                }
            }

            /// The address as a number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The number of the 4 KiB frame that holds it.
            #[must_use]
            pub const fn frame_number(self) -> u64 {
                self.0 / PAGE_SIZE
            }

            /// The address this many bytes further on; `None` past the end of 64 bits.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(address) => Some(Self(address)),
                    None => None,
                }
            }

            /// Bytes since the last multiple of `alignment` (a power of two).
            #[must_use]
            pub const fn offset_in(self, alignment: u64) -> u64 {
                self.0 & (alignment - 1)
            }

            /// Whether it is a multiple of `alignment` (a power of two).
            #[must_use]
            pub const fn is_aligned(self, alignment: u64) -> bool {
                self.offset_in(alignment) == 0
            }

            /// The greatest multiple of `alignment` (a power of two) that is not above it.
            #[must_use]
            pub const fn align_down(self, alignment: u64) -> Self {
                Self(self.0 & !(alignment - 1))
            }

            /// The least multiple of `alignment` (a power of two) that is not below it; `None` past
            /// the end of 64 bits.
            #[must_use]
            pub const fn align_up(self, alignment: u64) -> Option<Self> {
                match self.0.checked_add(alignment - 1) {
                    Some(address) => Some(Self(address & !(alignment - 1))),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// A physical address: what the bus sees.
    Pa
}
address! {
    /// An intermediate physical address: what a guest believes to be physical.
    Ipa
}
address! {
    /// A virtual address of a guest's stage-1 regime, or of EL2's (where it equals the physical one).
    Va
}

/// A half-open range of addresses of one kind. It never wraps: `start + size` fits in 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Range<A> {
    start: A,
    size: u64,
}

/// A range of physical addresses.
pub type PaRange = Range<Pa>;
/// A range of intermediate physical addresses.
pub type IpaRange = Range<Ipa>;

macro_rules! range {
    ($name:ident) => {
        impl Range<$name> {
            /// `size` bytes from `start`; `None` if the end does not fit in 64 bits.
            #[must_use]
            pub const fn new(start: $name, size: u64) -> Option<Self> {
                match start.checked_add(size) {
                    Some(_) => Some(Self { start, size }),
                    None => None,
                }
            }

            /// From `start` up to, not including, `end`; `None` if `end` lies below `start`.
            #[must_use]
            pub const fn between(start: $name, end: $name) -> Option<Self> {
                match end.0.checked_sub(start.0) {
                    Some(size) => Some(Self { start, size }),
                    None => None,
                }
            }

            /// First address.
            #[must_use]
            pub const fn start(self) -> $name {
                self.start
            }

            /// First address after the range.
            #[must_use]
            pub const fn end(self) -> $name {
                $name(self.start.0 + self.size)
            }

            /// Bytes.
            #[must_use]
            pub const fn size(self) -> u64 {
                self.size
            }

            /// Whether it holds no byte.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.size == 0
            }

            /// Whether `address` lies in it.
            #[must_use]
            pub const fn contains(self, address: $name) -> bool {
                address.0 >= self.start.0 && address.0 - self.start.0 < self.size
            }

            /// Whether all of `other` lies in it.
            #[must_use]
            pub const fn contains_range(self, other: Self) -> bool {
                other.start.0 >= self.start.0 && other.end().0 <= self.end().0
            }

            /// Whether the two share a byte.
            #[must_use]
            pub const fn overlaps(self, other: Self) -> bool {
                self.size != 0
                    && other.size != 0
                    && self.start.0 < other.end().0
                    && other.start.0 < self.end().0
            }

            /// The smallest range of whole multiples of `alignment` (a power of two) that holds it;
            /// `None` past the end of 64 bits.
            #[must_use]
            pub const fn align_outward(self, alignment: u64) -> Option<Self> {
                match self.end().align_up(alignment) {
                    Some(end) => Self::between(self.start.align_down(alignment), end),
                    None => None,
                }
            }

            /// The largest range of whole multiples of `alignment` (a power of two) inside it; `None`
            /// if there is none.
            #[must_use]
            pub const fn align_inward(self, alignment: u64) -> Option<Self> {
                match self.start.align_up(alignment) {
                    Some(start) => Self::between(start, self.end().align_down(alignment)),
                    None => None,
                }
            }
        }

        impl fmt::Display for Range<$name> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}..{:#x}", self.start.0, self.end().0)
            }
        }
    };
}

range!(Pa);
range!(Ipa);

/// Sorts ranges, and makes one of what touches or overlaps. So many remain, in front.
pub fn merge(ranges: &mut [PaRange]) -> usize {
    crate::sort_by_key(ranges, |range| range.start());
    let mut remain: usize = 0;
    for number in 0..ranges.len() {
        let Some(&range) = ranges.get(number) else {
            break;
        };
        let last = remain.checked_sub(1).and_then(|last| ranges.get_mut(last));
        match last {
            Some(last) if range.start() <= last.end() => {
                let end = range.end().max(last.end());
                *last = PaRange::between(last.start(), end).unwrap_or(*last);
            }
            _ => {
                if let Some(place) = ranges.get_mut(remain) {
                    *place = range;
                }
                remain += 1;
            }
        }
    }
    remain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_wrap() {
        assert!(PaRange::new(Pa::new(u64::MAX), 2).is_none());
        assert!(PaRange::between(Pa::new(2), Pa::new(1)).is_none());
        let range = PaRange::new(Pa::new(0x1000), 0x2000).unwrap();
        assert!(range.contains(Pa::new(0x2fff)) && !range.contains(Pa::new(0x3000)));
    }

    #[test]
    fn what_touches_is_one() {
        let range = |start, end| PaRange::between(Pa::new(start), Pa::new(end)).unwrap();
        let mut ranges = [
            range(8, 9),
            range(3, 5),
            range(0, 2),
            range(4, 6),
            range(6, 7),
            range(3, 4),
        ];
        let remain = merge(&mut ranges);
        assert_eq!(ranges[..remain], [range(0, 2), range(3, 7), range(8, 9)]);
        assert_eq!(merge(&mut []), 0);
    }

    #[test]
    fn ranges_align_both_ways() {
        let range = PaRange::new(Pa::new(0x1800), 0x1000).unwrap();
        assert_eq!(
            range.align_outward(PAGE_SIZE),
            PaRange::new(Pa::new(0x1000), 0x2000)
        );
        assert_eq!(
            range.align_inward(PAGE_SIZE),
            PaRange::new(Pa::new(0x2000), 0)
        );
        let tiny = PaRange::new(Pa::new(0x1800), 0x100).unwrap();
        assert_eq!(tiny.align_inward(PAGE_SIZE), None);
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        let a = PaRange::new(Pa::new(0), 0x1000).unwrap();
        let b = PaRange::new(Pa::new(0x1000), 0x1000).unwrap();
        assert!(!a.overlaps(b) && a.overlaps(a));
    }
}
