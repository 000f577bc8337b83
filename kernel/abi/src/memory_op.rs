//! `memory_op`, hypercall 12 (`xen/include/public/memory.h`).

use crate::DomainId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of the command that name the operation; those above carry where a call goes on.
pub const COMMAND_MASK: u64 = 0x3f;

/// [`Reservation`]; the result is the number of extents done.
pub const INCREASE_RESERVATION: u64 = 0;
/// [`Reservation`]; the result is the number of extents released.
pub const DECREASE_RESERVATION: u64 = 1;
/// No argument; the greatest frame number of the machine.
pub const MAXIMUM_RAM_PAGE: u64 = 2;
/// Pointer to a [`DomainId`]; pages owned.
pub const CURRENT_RESERVATION: u64 = 3;
/// Pointer to a [`DomainId`]; most pages it may own.
pub const MAXIMUM_RESERVATION: u64 = 4;
/// [`Reservation`]; the result is the number of extents filled.
pub const POPULATE_PHYSMAP: u64 = 6;
/// [`AddToPhysmap`].
pub const ADD_TO_PHYSMAP: u64 = 7;
/// Not on Arm.
pub const MEMORY_MAP: u64 = 9;
/// Not for a domU.
pub const EXCHANGE: u64 = 11;
/// Pointer to a [`DomainId`]; its greatest guest frame number.
pub const MAXIMUM_GPFN: u64 = 14;
/// [`RemoveFromPhysmap`].
pub const REMOVE_FROM_PHYSMAP: u64 = 15;
/// No argument; shared frees.
pub const GET_SHARING_FREED_PAGES: u64 = 18;
/// No argument; shared pages.
pub const GET_SHARING_SHARED_PAGES: u64 = 19;
/// [`AddToPhysmapBatch`].
pub const ADD_TO_PHYSMAP_BATCH: u64 = 23;
/// [`Reservation`], for a control domain.
pub const CLAIM_PAGES: u64 = 24;
/// [`VnumaTopology`].
pub const GET_VNUMA_INFO: u64 = 26;
/// [`AcquireResource`], for tools.
pub const ACQUIRE_RESOURCE: u64 = 28;

/// A list of extents of memory.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Reservation {
    /// in: pointer to one `u64` guest frame number an extent.
    pub extent_start: u64,
    /// in: extents.
    pub nr_extents: u64,
    /// in: log2 of the pages of an extent.
    pub extent_order: u32,
    /// in: constraints on the memory.
    pub mem_flags: u32,
    /// in: whose memory.
    pub domid: DomainId,
    /// Padding.
    pub reserved: [u16; 3],
}
layout!(Reservation, 32, extent_start @ 0, nr_extents @ 8, extent_order @ 16, mem_flags @ 20, domid @ 24);

/// [`AddToPhysmap::space`]: the shared_info page, index 0.
pub const SPACE_SHARED_INFO: u32 = 0;
/// [`AddToPhysmap::space`]: frame `index` of the grant table.
pub const SPACE_GRANT_TABLE: u32 = 1;
/// [`AddToPhysmap::space`]: a frame of the caller (x86).
pub const SPACE_GMFN: u32 = 2;
/// [`AddToPhysmap::space`]: frames of the caller (x86).
pub const SPACE_GMFN_RANGE: u32 = 3;
/// [`AddToPhysmap::space`]: a frame of another domain (batch only).
pub const SPACE_GMFN_FOREIGN: u32 = 4;
/// [`AddToPhysmap::space`]: a device's frame.
pub const SPACE_DEVICE_MMIO: u32 = 5;
/// Bit of [`AddToPhysmap::index`] in the grant table space: a status frame (version 2).
pub const GRANT_TABLE_STATUS_INDEX: u64 = 1 << 31;

/// Puts a page of the hypervisor's at a guest frame number.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AddToPhysmap {
    /// in: whose map.
    pub domid: DomainId,
    /// in: pages, for [`SPACE_GMFN_RANGE`].
    pub size: u16,
    /// in: what `index` counts, a `SPACE_` number.
    pub space: u32,
    /// in: which page of the space.
    pub index: u64,
    /// in: guest frame number.
    pub gpfn: u64,
}
layout!(AddToPhysmap, 24, domid @ 0, size @ 2, space @ 4, index @ 8, gpfn @ 16);

/// Takes away what is mapped at a guest frame number.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// in: whose map.
    pub domid: DomainId,
    /// Padding.
    pub reserved: [u16; 3],
    /// in: guest frame number.
    pub gpfn: u64,
}
layout!(RemoveFromPhysmap, 16, domid @ 0, gpfn @ 8);

/// Many [`AddToPhysmap`] at once.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AddToPhysmapBatch {
    /// in: whose map.
    pub domid: DomainId,
    /// in: space, as in [`AddToPhysmap`].
    pub space: u16,
    /// in: entries of each list.
    pub size: u16,
    /// in: owner of the pages, for [`SPACE_GMFN_FOREIGN`].
    pub foreign_domid: DomainId,
    /// in: pointer to `u64` indexes in the space.
    pub idxs: u64,
    /// in: pointer to `u64` guest frame numbers.
    pub gpfns: u64,
    /// out: pointer to `i32` results.
    pub errs: u64,
}
layout!(AddToPhysmapBatch, 32, domid @ 0, space @ 2, size @ 4, foreign_domid @ 6, idxs @ 8, gpfns @ 16, errs @ 24);

/// Asks for the NUMA nodes of a domain.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VnumaTopology {
    /// in: which domain.
    pub domid: DomainId,
    /// Padding, 0.
    pub reserved: u16,
    /// in: room for nodes; out: how many there are. Likewise the next two.
    pub nr_nodes: u32,
    /// vCPUs.
    pub nr_vcpus: u32,
    /// Ranges of memory.
    pub nr_ranges: u32,
    /// out: pointer to the distances of the nodes.
    pub distances: u64,
    /// out: pointer to the node of each vCPU.
    pub vcpu_nodes: u64,
    /// out: pointer to the ranges.
    pub ranges: u64,
}
layout!(VnumaTopology, 40, domid @ 0, nr_nodes @ 4, nr_vcpus @ 8, nr_ranges @ 12, distances @ 16, vcpu_nodes @ 24, ranges @ 32);

/// Maps what the hypervisor keeps of a domain, for tools.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AcquireResource {
    /// in: whose.
    pub domid: DomainId,
    /// in: what, 1 for grant frames.
    pub kind: u16,
    /// in: which of them.
    pub id: u32,
    /// in: how many frames.
    pub nr_frames: u32,
    /// Padding, 0.
    pub reserved: u32,
    /// in: first frame.
    pub frame: u64,
    /// in: pointer to guest frame numbers.
    pub frame_list: u64,
}
layout!(AcquireResource, 32, domid @ 0, kind @ 2, id @ 4, nr_frames @ 8, frame @ 16, frame_list @ 24);
