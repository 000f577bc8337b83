//! Domain ids (`xen/include/public/xen.h`).

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Names a domain. Ordinary ids are 0..[`DomainId::FIRST_RESERVED`]; those above have meanings of
/// their own and never name a guest.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
)]
#[repr(transparent)]
pub struct DomainId(pub u16);

impl DomainId {
    /// First id that no ordinary domain has.
    pub const FIRST_RESERVED: Self = Self(0x7FF0);
    /// The caller.
    pub const SELF: Self = Self(0x7FF0);
    /// Owner of I/O memory and of shared memory that nobody owns.
    pub const IO: Self = Self(0x7FF1);
    /// The hypervisor.
    pub const XEN: Self = Self(0x7FF2);
    /// Owner of copy-on-write pages.
    pub const COW: Self = Self(0x7FF3);
    /// No domain.
    pub const INVALID: Self = Self(0x7FF4);
    /// Any domain.
    pub const ANY: Self = Self(0x7FF5);
    /// The idle domain.
    pub const IDLE: Self = Self(0x7FFF);

    /// Whether an ordinary domain may have this id.
    #[must_use]
    pub const fn is_ordinary(self) -> bool {
        self.0 < Self::FIRST_RESERVED.0
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

/// Ids that a guest can have, 0 to 255: as many as there are VMIDs.
const WORDS: usize = 4;

/// A set of domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DomainSet([u64; WORDS]);

impl DomainSet {
    /// Nobody.
    pub const NONE: Self = Self([0; WORDS]);
    /// Everybody.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// Whether a domain is in the set.
    #[must_use]
    pub fn contains(&self, id: DomainId) -> bool {
        let word = self.0.get(usize::from(id.0 >> 6));
        word.is_some_and(|word| word & 1_u64.wrapping_shl(u32::from(id.0)) != 0)
    }
}

impl FromIterator<DomainId> for DomainSet {
    /// Ids above 255, which no guest has, are left out.
    fn from_iter<I: IntoIterator<Item = DomainId>>(ids: I) -> Self {
        let mut set = Self::NONE;
        for id in ids {
            if let Some(word) = set.0.get_mut(usize::from(id.0 >> 6)) {
                *word |= 1_u64.wrapping_shl(u32::from(id.0));
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::{DomainId, DomainSet};

    #[test]
    fn a_set_has_what_was_put_in() {
        let ids = [0, 1, 63, 64, 127, 128, 255, 256, 0x7ff0];
        let set: DomainSet = ids.into_iter().map(DomainId).collect();
        for id in 0..0x8000 {
            let expected = id < 256 && ids.contains(&id);
            assert_eq!(set.contains(DomainId(id)), expected, "{id}");
        }
        assert!(!DomainSet::NONE.contains(DomainId(1)) && DomainSet::ALL.contains(DomainId(255)));
    }
}
