//! `shared_info` and `vcpu_info` (`xen/include/public/xen.h`, `arch-arm.h`), as AArch64 has them.
//!
//! Both sides change these words at the same time: reach them through atomics at the offsets given
//! here, never through a reference to the structures. The structures are there for their layout.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of `vcpu_info`.
pub const VCPU_INFO_SIZE: usize = 48;
/// In `vcpu_info`: `u8`, set by the hypervisor with the upcall, cleared by the guest.
pub const VCPU_INFO_UPCALL_PENDING: usize = 0;
/// In `vcpu_info`: `u64`, one bit a word of the pending bits.
pub const VCPU_INFO_PENDING_SEL: usize = 8;
/// In `vcpu_info`: clock data, never filled on Arm.
pub const VCPU_INFO_TIME: usize = 16;

/// Words of pending and of mask bits.
pub const EVTCHN_WORDS: usize = 64;
/// In `shared_info`: `vcpu_info` of vCPU 0.
pub const SHARED_INFO_VCPU_INFO: usize = 0;
/// In `shared_info`: 64 `u64` words of pending bits, port n at bit n % 64 of word n / 64.
pub const SHARED_INFO_EVTCHN_PENDING: usize = 48;
/// In `shared_info`: 64 `u64` words of mask bits.
pub const SHARED_INFO_EVTCHN_MASK: usize = 560;
/// In `shared_info`: `u32`, odd while the wall clock is being written.
pub const SHARED_INFO_WC_VERSION: usize = 1072;
/// In `shared_info`: `u32`, low half of the Unix time in seconds at system time 0.
pub const SHARED_INFO_WC_SEC: usize = 1076;
/// In `shared_info`: `u32`, nanoseconds of it.
pub const SHARED_INFO_WC_NSEC: usize = 1080;
/// In `shared_info`: `u32`, high half of the seconds.
pub const SHARED_INFO_WC_SEC_HI: usize = 1084;
/// Bytes of `shared_info`.
pub const SHARED_INFO_SIZE: usize = 1088;

/// Clock data of a vCPU; zero on Arm.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while being written.
    pub version: u32,
    /// Padding.
    pub reserved: u32,
    /// Counter at `system_time`.
    pub tsc_timestamp: u64,
    /// Nanoseconds.
    pub system_time: u64,
    /// Counter to nanoseconds, factor.
    pub mul: u32,
    /// Counter to nanoseconds, shift.
    pub shift: i8,
    /// Flags.
    pub flags: u8,
    /// Padding.
    pub reserved2: [u8; 2],
}
layout!(VcpuTimeInfo, 32, version @ 0, tsc_timestamp @ 8, system_time @ 16, mul @ 24, shift @ 28, flags @ 29);

/// Event state of a vCPU.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuInfo {
    /// An upcall was raised.
    pub evtchn_upcall_pending: u8,
    /// Padding.
    pub reserved: [u8; 7],
    /// Words of pending bits to look at.
    pub evtchn_pending_sel: u64,
    /// Clock.
    pub time: VcpuTimeInfo,
}
layout!(
    VcpuInfo,
    VCPU_INFO_SIZE,
    evtchn_upcall_pending @ VCPU_INFO_UPCALL_PENDING,
    evtchn_pending_sel @ VCPU_INFO_PENDING_SEL,
    time @ VCPU_INFO_TIME,
);

/// The page that every domain shares with the hypervisor.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SharedInfo {
    /// Of vCPU 0.
    pub vcpu_info: VcpuInfo,
    /// Events that wait.
    pub evtchn_pending: [u64; EVTCHN_WORDS],
    /// Events not wanted.
    pub evtchn_mask: [u64; EVTCHN_WORDS],
    /// Wall clock: odd while being written.
    pub wc_version: u32,
    /// Wall clock: seconds.
    pub wc_sec: u32,
    /// Wall clock: nanoseconds.
    pub wc_nsec: u32,
    /// Wall clock: seconds, high half.
    pub wc_sec_hi: u32,
}
layout!(
    SharedInfo,
    SHARED_INFO_SIZE,
    vcpu_info @ SHARED_INFO_VCPU_INFO,
    evtchn_pending @ SHARED_INFO_EVTCHN_PENDING,
    evtchn_mask @ SHARED_INFO_EVTCHN_MASK,
    wc_version @ SHARED_INFO_WC_VERSION,
    wc_sec @ SHARED_INFO_WC_SEC,
    wc_nsec @ SHARED_INFO_WC_NSEC,
    wc_sec_hi @ SHARED_INFO_WC_SEC_HI,
);
