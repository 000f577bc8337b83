//! The numbers and structures that a guest and the hypervisor must agree on: the Xen hypercall ABI
//! for AArch64, PSCI, SMCCC, and the guest physical map. Used by both sides; holds no logic.
//!
//! All integers are little-endian; structures have the AAPCS64 natural layout, with padding spelt
//! out so that they can be copied as bytes. Sizes and offsets are asserted at compile time.
//!
//! Naming: commands and flags are constants (a guest may send any number), structures are named
//! after what they carry, fields are marked `in` or `out` where a call gives one of them back.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Asserts at compile time that a structure has the size, and its fields the offsets, of the ABI.
macro_rules! layout {
    ($name:ty, $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$name>() == $size);
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
        };
    };
}

pub mod console;
pub mod control;
pub mod domid;
pub mod errno;
pub mod event_channel;
pub mod grant_table;
pub mod guest_layout;
pub mod hvm;
pub mod hypercall;
pub mod memory_op;
pub mod psci;
pub mod sched;
pub mod shared_info;
pub mod smccc;
pub mod vcpu;
pub mod version;
pub mod xenstore;

pub use domid::{DomainId, DomainSet};
pub use errno::Errno;
pub use event_channel::Port;
pub use grant_table::GrantRef;
pub use vcpu::VcpuId;

/// Bytes in a page: the unit of every frame number in the ABI, whatever granule the guest uses.
pub const PAGE_SIZE: usize = 4096;
