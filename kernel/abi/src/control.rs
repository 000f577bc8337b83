//! `platform_op`, `sysctl` and `domctl`, hypercalls 7, 35 and 36 (`xen/include/public/platform.h`, `sysctl.h`,
//! `domctl.h`): what a guest without privileges can learn of them, which is that it may not make them.

use crate::DomainId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the arguments of all three begin with.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Head {
    /// in: which operation.
    pub command: u32,
    /// in: version of the interface.
    pub version: u32,
    /// in: which domain; of [`DOMCTL_VERSION`]'s interface alone.
    pub domain: DomainId,
    /// Padding.
    pub reserved: [u16; 3],
}
layout!(Head, 16, command @ 0, version @ 4, domain @ 8);

/// Version of `platform_op`.
pub const PLATFORM_VERSION: u32 = 0x0300_0001;
/// Bytes of its argument.
pub const PLATFORM_SIZE: usize = 136;
/// Version of `sysctl`.
pub const SYSCTL_VERSION: u32 = 0x16;
/// Bytes of its argument.
pub const SYSCTL_SIZE: usize = 136;
/// Version of `domctl`.
pub const DOMCTL_VERSION: u32 = 0x18;
/// Bytes of its argument.
pub const DOMCTL_SIZE: usize = 144;
/// Operations of `domctl` that are about no domain that is there: createdomain, gdbsx_guestmemio.
pub const DOMCTL_WITHOUT_DOMAIN: [u32; 2] = [1, 1000];
