//! Calling convention and hypercall numbers (`xen/include/public/xen.h`, `arch-arm.h`).
//!
//! `hvc #0xEA1`, number in x16, arguments in x0..x4, result in x0 (negative: `-errno`). Pointer
//! arguments are virtual addresses of the caller's EL1 stage-1 regime.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Immediate of the HVC instruction that makes it a hypercall; 0 is SMCCC/PSCI.
pub const HVC_IMMEDIATE: u16 = 0xEA1;

/// Most arguments that a hypercall takes in registers.
pub const MAX_ARGUMENTS: usize = 5;

/// Old `sched_op`, always -ENOSYS.
pub const SCHED_OP_COMPAT: u64 = 6;
/// See [`crate::control`].
pub const PLATFORM_OP: u64 = 7;
/// See [`crate::memory_op`].
pub const MEMORY_OP: u64 = 12;
/// Array of [`MulticallEntry`], count.
pub const MULTICALL: u64 = 13;
/// Old `event_channel_op`, always -ENOSYS.
pub const EVENT_CHANNEL_OP_COMPAT: u64 = 16;
/// See [`crate::version`].
pub const XEN_VERSION: u64 = 17;
/// See [`crate::console`].
pub const CONSOLE_IO: u64 = 18;
/// Old `physdev_op`, always -ENOSYS.
pub const PHYSDEV_OP_COMPAT: u64 = 19;
/// See [`crate::grant_table`].
pub const GRANT_TABLE_OP: u64 = 20;
/// See [`crate::vcpu`].
pub const VM_ASSIST: u64 = 21;
/// See [`crate::vcpu`].
pub const VCPU_OP: u64 = 24;
/// Security module; -ENOSYS.
pub const XSM_OP: u64 = 27;
/// See [`crate::sched`].
pub const SCHED_OP: u64 = 29;
/// See [`crate::event_channel`].
pub const EVENT_CHANNEL_OP: u64 = 32;
/// Physical devices; -ENOSYS.
pub const PHYSDEV_OP: u64 = 33;
/// See [`crate::hvm`].
pub const HVM_OP: u64 = 34;
/// Host control for toolstacks; see [`crate::control`].
pub const SYSCTL: u64 = 35;
/// Domain control for toolstacks; see [`crate::control`].
pub const DOMCTL: u64 = 36;
/// Argo; -ENOSYS.
pub const ARGO_OP: u64 = 39;
/// Device models; -ENOSYS.
pub const DM_OP: u64 = 41;
/// Hypervisor file system; -EPERM for a domU.
pub const HYPFS_OP: u64 = 42;

/// One call of a multicall list. The result is written in place.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MulticallEntry {
    /// in: hypercall number.
    pub op: u64,
    /// out: its result.
    pub result: i64,
    /// in: its arguments; the sixth is not used.
    pub args: [u64; 6],
}
layout!(MulticallEntry, 64, op @ 0, result @ 8, args @ 16);
