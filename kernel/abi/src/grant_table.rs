//! `grant_table_op`, hypercall 20, version 1 (`xen/include/public/grant_table.h`).

use crate::DomainId;
use bitflags::bitflags;
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Index of an entry in its owner's grant table.
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
pub struct GrantRef(pub u32);

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant {}", self.0)
    }
}

/// Entries in a frame of the table.
pub const ENTRIES_PER_FRAME: usize = 512;
/// Frames of a table at start.
pub const INITIAL_FRAMES: u32 = 1;
/// Most frames of a table, if the domain's description says nothing else.
pub const DEFAULT_MAX_FRAMES: u32 = 64;
/// Most frames of a domain's table of maps, if its description says nothing else.
pub const DEFAULT_MAX_MAPTRACK_FRAMES: u32 = 1024;
/// Entry kept for the console page.
pub const RESERVED_CONSOLE: GrantRef = GrantRef(0);
/// Entry kept for the xenstore page.
pub const RESERVED_XENSTORE: GrantRef = GrantRef(1);
/// First entry that a guest may hand out.
pub const FIRST_FREE: GrantRef = GrantRef(8);

/// An entry of the table. The guest writes frame and domid, a barrier, then flags.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EntryV1 {
    /// [`EntryFlags`].
    pub flags: u16,
    /// Who may use it.
    pub domid: DomainId,
    /// Guest frame number.
    pub frame: u32,
}
layout!(EntryV1, 8, flags @ 0, domid @ 2, frame @ 4);

bitflags! {
    /// Flags of a table entry. Bits 0 and 1 are the type: 0 invalid, 1 permit access, 2 accept
    /// transfer, 3 transitive.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct EntryFlags: u16 {
        /// Type 1: `domid` may map or copy the frame.
        const PERMIT_ACCESS = 1 << 0;
        /// Type 2: `domid` may give a frame.
        const ACCEPT_TRANSFER = 1 << 1;
        /// Read-only.
        const READ_ONLY = 1 << 2;
        /// In use for reading (set by the hypervisor).
        const READING = 1 << 3;
        /// In use for writing (set by the hypervisor).
        const WRITING = 1 << 4;
        /// Part of a page (version 2).
        const SUB_PAGE = 1 << 8;
    }

    /// Flags of [`MapGrantRef`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MapFlags: u32 {
        /// For device access.
        const DEVICE_MAP = 1 << 0;
        /// For access by the caller's CPUs.
        const HOST_MAP = 1 << 1;
        /// Read-only.
        const READ_ONLY = 1 << 2;
        /// For an application of the caller.
        const APPLICATION_MAP = 1 << 3;
        /// `host_addr` is a page table entry (x86).
        const CONTAINS_PTE = 1 << 4;
    }

    /// Flags of [`GrantCopy`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct CopyFlags: u16 {
        /// The source is a grant.
        const SOURCE_GREF = 1 << 0;
        /// The destination is a grant.
        const DEST_GREF = 1 << 1;
    }
}

/// [`MapGrantRef`].
pub const MAP_GRANT_REF: u64 = 0;
/// [`UnmapGrantRef`].
pub const UNMAP_GRANT_REF: u64 = 1;
/// [`SetupTable`].
pub const SETUP_TABLE: u64 = 2;
/// [`DumpTable`].
pub const DUMP_TABLE: u64 = 3;
/// [`Transfer`]; not for translated guests.
pub const TRANSFER: u64 = 4;
/// [`GrantCopy`].
pub const COPY: u64 = 5;
/// [`QuerySize`].
pub const QUERY_SIZE: u64 = 6;
/// [`UnmapAndReplace`].
pub const UNMAP_AND_REPLACE: u64 = 7;
/// [`SetVersion`].
pub const SET_VERSION: u64 = 8;
/// [`GetStatusFrames`]; version 2 only.
pub const GET_STATUS_FRAMES: u64 = 9;
/// [`GetVersion`].
pub const GET_VERSION: u64 = 10;
/// [`SwapGrantRef`].
pub const SWAP_GRANT_REF: u64 = 11;
/// [`CacheFlush`].
pub const CACHE_FLUSH: u64 = 12;

/// Result of one item: done.
pub const STATUS_OKAY: i16 = 0;
/// Undefined error.
pub const STATUS_GENERAL_ERROR: i16 = -1;
/// Unknown domain.
pub const STATUS_BAD_DOMAIN: i16 = -2;
/// Reference out of range.
pub const STATUS_BAD_GRANT_REF: i16 = -3;
/// Unknown handle.
pub const STATUS_BAD_HANDLE: i16 = -4;
/// Bad virtual address.
pub const STATUS_BAD_VIRTUAL_ADDRESS: i16 = -5;
/// Bad device address.
pub const STATUS_BAD_DEVICE_ADDRESS: i16 = -6;
/// No room in the I/O MMU.
pub const STATUS_NO_DEVICE_SPACE: i16 = -7;
/// Not permitted.
pub const STATUS_PERMISSION_DENIED: i16 = -8;
/// Not a page that can be granted.
pub const STATUS_BAD_PAGE: i16 = -9;
/// Arguments of a copy cross a page.
pub const STATUS_BAD_COPY_ARGUMENT: i16 = -10;
/// Address too big.
pub const STATUS_ADDRESS_TOO_BIG: i16 = -11;
/// Try again.
pub const STATUS_AGAIN: i16 = -12;
/// Out of handles.
pub const STATUS_NO_SPACE: i16 = -13;

/// Maps a granted frame.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MapGrantRef {
    /// in: guest physical address at which it is to appear.
    pub host_addr: u64,
    /// in: [`MapFlags`].
    pub flags: u32,
    /// in: reference.
    pub gref: GrantRef,
    /// in: owner, by its number.
    pub dom: DomainId,
    /// out: status.
    pub status: i16,
    /// out: handle for unmapping.
    pub handle: u32,
    /// out: machine address.
    pub dev_bus_addr: u64,
}
layout!(MapGrantRef, 32, host_addr @ 0, flags @ 8, gref @ 12, dom @ 16, status @ 18, handle @ 20, dev_bus_addr @ 24);

/// Unmaps a granted frame.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// in: guest physical address where it was mapped; 0 leaves that part out.
    pub host_addr: u64,
    /// in: machine address.
    pub dev_bus_addr: u64,
    /// in: handle.
    pub handle: u32,
    /// out: status.
    pub status: i16,
    /// Padding.
    pub reserved: u16,
}
layout!(UnmapGrantRef, 24, host_addr @ 0, dev_bus_addr @ 8, handle @ 16, status @ 20);

/// Grows the table and tells where its frames are mapped.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetupTable {
    /// in: whose table.
    pub dom: DomainId,
    /// Padding.
    pub reserved: u16,
    /// in: frames wanted.
    pub nr_frames: u32,
    /// out: status.
    pub status: i16,
    /// Padding.
    pub reserved2: [u16; 3],
    /// in: pointer to `nr_frames` words; out: guest frame numbers, all-ones where not mapped.
    pub frame_list: u64,
}
layout!(SetupTable, 24, dom @ 0, nr_frames @ 4, status @ 8, frame_list @ 16);

/// Prints a table on the hypervisor's console.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DumpTable {
    /// in: whose table.
    pub dom: DomainId,
    /// out: status.
    pub status: i16,
}
layout!(DumpTable, 4, dom @ 0, status @ 2);

/// One side of a [`GrantCopy`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CopyPointer {
    /// in: grant reference (low 32 bits) or guest frame number.
    pub frame_or_ref: u64,
    /// in: owner.
    pub domid: DomainId,
    /// in: offset in the page.
    pub offset: u16,
    /// Padding.
    pub reserved: u32,
}
layout!(CopyPointer, 16, frame_or_ref @ 0, domid @ 8, offset @ 10);

/// Copies within one page, from or to a granted frame.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GrantCopy {
    /// in: from.
    pub source: CopyPointer,
    /// in: to.
    pub dest: CopyPointer,
    /// in: bytes.
    pub len: u16,
    /// in: [`CopyFlags`].
    pub flags: u16,
    /// out: status.
    pub status: i16,
    /// Padding.
    pub reserved: u16,
}
layout!(GrantCopy, 40, source @ 0, dest @ 16, len @ 32, flags @ 34, status @ 36);

/// Asks for the size of a table.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QuerySize {
    /// in: whose table.
    pub dom: DomainId,
    /// Padding.
    pub reserved: u16,
    /// out: frames now.
    pub nr_frames: u32,
    /// out: most frames.
    pub max_nr_frames: u32,
    /// out: status.
    pub status: i16,
    /// Padding.
    pub reserved2: u16,
}
layout!(QuerySize, 16, dom @ 0, nr_frames @ 4, max_nr_frames @ 8, status @ 12);

/// Unmaps a granted frame and puts another page in its place.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// in: where it was mapped.
    pub host_addr: u64,
    /// in: what is to replace it; must be 0 on Arm.
    pub new_addr: u64,
    /// in: handle.
    pub handle: u32,
    /// out: status.
    pub status: i16,
    /// Padding.
    pub reserved: u16,
}
layout!(UnmapAndReplace, 24, host_addr @ 0, new_addr @ 8, handle @ 16, status @ 20);

/// Chooses the version of the caller's table.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetVersion {
    /// in: version wanted; out: version in force.
    pub version: u32,
}
layout!(SetVersion, 4, version @ 0);

/// Asks for the version of a table.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetVersion {
    /// in: whose table.
    pub dom: DomainId,
    /// Padding.
    pub reserved: u16,
    /// out: version.
    pub version: u32,
}
layout!(GetVersion, 8, dom @ 0, version @ 4);

/// Gives a frame away.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Transfer {
    /// in: guest frame number.
    pub frame: u64,
    /// in: to whom.
    pub domid: DomainId,
    /// Padding.
    pub reserved: u16,
    /// in: its reference.
    pub gref: GrantRef,
    /// out: status.
    pub status: i16,
    /// Padding.
    pub reserved2: [u16; 3],
}
layout!(Transfer, 24, frame @ 0, domid @ 8, gref @ 12, status @ 16);

/// Asks where the status frames of a table of version 2 are.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetStatusFrames {
    /// in: frames wanted.
    pub nr_frames: u32,
    /// in: whose table.
    pub dom: DomainId,
    /// out: status.
    pub status: i16,
    /// in: pointer to `nr_frames` words.
    pub frame_list: u64,
}
layout!(GetStatusFrames, 16, nr_frames @ 0, dom @ 4, status @ 6, frame_list @ 8);

/// Exchanges two entries of the caller's table.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SwapGrantRef {
    /// in: one.
    pub ref_a: GrantRef,
    /// in: the other.
    pub ref_b: GrantRef,
    /// out: status.
    pub status: i16,
    /// Padding.
    pub reserved: u16,
}
layout!(SwapGrantRef, 12, ref_a @ 0, ref_b @ 4, status @ 8);

/// Cache maintenance on a page, for DMA.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CacheFlush {
    /// in: machine address or reference.
    pub dev_bus_addr: u64,
    /// in: offset in the page.
    pub offset: u16,
    /// in: bytes.
    pub length: u16,
    /// in: 1 clean, 2 invalidate.
    pub op: u32,
}
layout!(CacheFlush, 16, dev_bus_addr @ 0, offset @ 8, length @ 10, op @ 12);
