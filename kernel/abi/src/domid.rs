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
