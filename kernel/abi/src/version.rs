//! `xen_version`, hypercall 17 (`xen/include/public/version.h`, `features.h`): commands, buffer
//! sizes, feature bits.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Returns major << 16 | minor; the buffer is ignored.
pub const VERSION: u64 = 0;
/// `char[16]`.
pub const EXTRAVERSION: u64 = 1;
/// [`CompileInfo`].
pub const COMPILE_INFO: u64 = 2;
/// `char[1024]`, written in full.
pub const CAPABILITIES: u64 = 3;
/// `char[64]`.
pub const CHANGESET: u64 = 4;
/// `u64`, start of the hypervisor's part of the address space; 0 on Arm.
pub const PLATFORM_PARAMETERS: u64 = 5;
/// [`FeatureInfo`].
pub const GET_FEATURES: u64 = 6;
/// Returns 4096; the buffer must be null.
pub const PAGESIZE: u64 = 7;
/// UUID, 16 bytes.
pub const GUEST_HANDLE: u64 = 8;
/// `char[1024]`.
pub const COMMANDLINE: u64 = 9;
/// [`VarBufferHeader`] and bytes.
pub const BUILD_ID: u64 = 10;
/// As [`EXTRAVERSION`] in a [`VarBufferHeader`] buffer.
pub const EXTRAVERSION2: u64 = 11;
/// As [`CAPABILITIES`] in a [`VarBufferHeader`] buffer.
pub const CAPABILITIES2: u64 = 12;
/// As [`CHANGESET`] in a [`VarBufferHeader`] buffer.
pub const CHANGESET2: u64 = 13;
/// As [`COMMANDLINE`] in a [`VarBufferHeader`] buffer.
pub const COMMANDLINE2: u64 = 14;

/// Bytes of the extraversion string.
pub const EXTRAVERSION_LENGTH: usize = 16;
/// Bytes of the capabilities string.
pub const CAPABILITIES_LENGTH: usize = 1024;
/// Bytes of the changeset string.
pub const CHANGESET_LENGTH: usize = 64;
/// Bytes of the command line.
pub const COMMANDLINE_LENGTH: usize = 1024;
/// Bytes of a domain's UUID.
pub const GUEST_HANDLE_LENGTH: usize = 16;

/// Who built the hypervisor.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CompileInfo {
    /// Compiler and its version.
    pub compiler: [u8; 64],
    /// User.
    pub by: [u8; 16],
    /// Network domain.
    pub domain: [u8; 32],
    /// Date.
    pub date: [u8; 32],
}
layout!(CompileInfo, 144, compiler @ 0, by @ 64, domain @ 80, date @ 112);

/// One word of feature bits.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FeatureInfo {
    /// in: which word; only 0 exists.
    pub index: u32,
    /// out: its bits.
    pub bits: u32,
}
layout!(FeatureInfo, 8, index @ 0, bits @ 4);

/// Head of a buffer for the commands from [`BUILD_ID`] on; the bytes follow.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VarBufferHeader {
    /// in: bytes that follow.
    pub length: u32,
}
layout!(VarBufferHeader, 4, length @ 0);

/// The guest may write its own page tables.
pub const FEATURE_WRITABLE_PAGE_TABLES: u32 = 1 << 0;
/// Frame numbers of the guest are translated by stage 2.
pub const FEATURE_AUTO_TRANSLATED_PHYSMAP: u32 = 1 << 2;
/// The guest is the initial domain.
pub const FEATURE_DOM0: u32 = 1 << 11;
/// Memory operations take NUMA nodes of the guest.
pub const FEATURE_MEMORY_OP_VNODE: u32 = 1 << 13;
/// SMCCC 1.1 and later by `hvc #0`.
pub const FEATURE_ARM_SMCCC: u32 = 1 << 14;
/// Guest frame numbers are not machine frame numbers.
pub const FEATURE_NOT_DIRECT_MAPPED: u32 = 1 << 16;
/// Guest frame numbers are machine frame numbers.
pub const FEATURE_DIRECT_MAPPED: u32 = 1 << 17;
/// Runstate areas may be registered by physical address.
pub const FEATURE_RUNSTATE_PHYS_AREA: u32 = 1 << 18;
