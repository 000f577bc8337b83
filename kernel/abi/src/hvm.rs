//! `hvm_op`, hypercall 34, and its parameters (`xen/include/public/hvm/hvm_op.h`, `params.h`).

use crate::DomainId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Param`].
pub const SET_PARAM: u64 = 0;
/// [`Param`].
pub const GET_PARAM: u64 = 1;
/// Raises a monitor event.
pub const GUEST_REQUEST_VM_EVENT: u64 = 24;

/// How the guest is notified of events; 0 if the device tree says.
pub const PARAM_CALLBACK_IRQ: u32 = 0;
/// Guest frame number of the xenstore page; 0 none, all-ones later.
pub const PARAM_STORE_PFN: u32 = 1;
/// Port of the xenstore.
pub const PARAM_STORE_EVTCHN: u32 = 2;
/// Guest frame number of the console page.
pub const PARAM_CONSOLE_PFN: u32 = 17;
/// Port of the console.
pub const PARAM_CONSOLE_EVTCHN: u32 = 18;
/// Ring of a monitor.
pub const PARAM_MONITOR_RING_PFN: u32 = 28;

/// A parameter of a domain.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Param {
    /// in: whose.
    pub domid: DomainId,
    /// Padding.
    pub reserved: u16,
    /// in: a `PARAM_` number.
    pub index: u32,
    /// in for set, out for get.
    pub value: u64,
}
layout!(Param, 16, domid @ 0, index @ 4, value @ 8);
