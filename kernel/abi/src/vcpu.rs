//! `vcpu_op`, hypercall 24, and `vm_assist`, hypercall 21 (`xen/include/public/vcpu.h`, `xen.h`).

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of a vCPU within its domain, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct VcpuId(pub u32);

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Not on Arm: PSCI starts vCPUs.
pub const INITIALISE: u64 = 0;
/// Not on Arm.
pub const UP: u64 = 1;
/// Not on Arm.
pub const DOWN: u64 = 2;
/// Not on Arm.
pub const IS_UP: u64 = 3;
/// Not on Arm.
pub const GET_RUNSTATE_INFO: u64 = 4;
/// [`RegisterRunstateArea`].
pub const REGISTER_RUNSTATE_MEMORY_AREA: u64 = 5;
/// [`RegisterVcpuInfo`].
pub const REGISTER_VCPU_INFO: u64 = 10;

/// Moves a vCPU's `vcpu_info` into memory of the guest.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// in: guest frame number.
    pub gfn: u64,
    /// in: offset in the frame.
    pub offset: u32,
    /// Padding.
    pub reserved: u32,
}
layout!(RegisterVcpuInfo, 16, gfn @ 0, offset @ 8);

/// Says where a vCPU's [`RunstateInfo`] is to be written.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegisterRunstateArea {
    /// in: virtual address in the guest.
    pub address: u64,
}
layout!(RegisterRunstateArea, 8, address @ 0);

/// Runs on a CPU.
pub const RUNSTATE_RUNNING: u32 = 0;
/// Could run, waits for a CPU.
pub const RUNSTATE_RUNNABLE: u32 = 1;
/// Waits for an event.
pub const RUNSTATE_BLOCKED: u32 = 2;
/// Off or paused.
pub const RUNSTATE_OFFLINE: u32 = 3;

/// Bit of [`RunstateInfo::state_entry_time`]: an update is under way. Used after
/// [`VMASST_RUNSTATE_UPDATE_FLAG`] only.
pub const RUNSTATE_UPDATE: u64 = 1 << 63;

/// How long a vCPU was in which state.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct RunstateInfo {
    /// A `RUNSTATE_` number.
    pub state: u32,
    /// Padding.
    pub reserved: u32,
    /// System time of the last change, in nanoseconds.
    pub state_entry_time: u64,
    /// Nanoseconds spent in each state.
    pub time: [u64; 4],
}
layout!(RunstateInfo, 48, state @ 0, state_entry_time @ 8, time @ 16);

/// `vm_assist` command.
pub const VMASST_CMD_ENABLE: u64 = 0;
/// `vm_assist` command.
pub const VMASST_CMD_DISABLE: u64 = 1;
/// `vm_assist` type: mark runstate updates with [`RUNSTATE_UPDATE`].
pub const VMASST_RUNSTATE_UPDATE_FLAG: u64 = 5;
