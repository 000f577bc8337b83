//! Power State Coordination Interface (Arm DEN 0022): function ids and results.

/// Version that guests are told: 1.1.
pub const VERSION_1_1: u64 = 0x0001_0001;

/// Bit of a function id: the 64-bit calling convention.
pub const SMC64: u32 = 1 << 30;

/// PSCI_VERSION.
pub const PSCI_VERSION: u32 = 0x8400_0000;
/// CPU_SUSPEND, 32-bit.
pub const CPU_SUSPEND_32: u32 = 0x8400_0001;
/// CPU_SUSPEND, 64-bit.
pub const CPU_SUSPEND_64: u32 = 0xC400_0001;
/// CPU_OFF.
pub const CPU_OFF: u32 = 0x8400_0002;
/// CPU_ON, 32-bit: target affinity, entry, context.
pub const CPU_ON_32: u32 = 0x8400_0003;
/// CPU_ON, 64-bit.
pub const CPU_ON_64: u32 = 0xC400_0003;
/// AFFINITY_INFO, 32-bit: target affinity, lowest level.
pub const AFFINITY_INFO_32: u32 = 0x8400_0004;
/// AFFINITY_INFO, 64-bit.
pub const AFFINITY_INFO_64: u32 = 0xC400_0004;
/// MIGRATE, 32-bit.
pub const MIGRATE_32: u32 = 0x8400_0005;
/// MIGRATE, 64-bit.
pub const MIGRATE_64: u32 = 0xC400_0005;
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// MIGRATE_INFO_UP_CPU, 32-bit.
pub const MIGRATE_INFO_UP_CPU_32: u32 = 0x8400_0007;
/// MIGRATE_INFO_UP_CPU, 64-bit.
pub const MIGRATE_INFO_UP_CPU_64: u32 = 0xC400_0007;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// PSCI_FEATURES: function id.
pub const PSCI_FEATURES: u32 = 0x8400_000A;
/// CPU_FREEZE.
pub const CPU_FREEZE: u32 = 0x8400_000B;
/// CPU_DEFAULT_SUSPEND, 32-bit.
pub const CPU_DEFAULT_SUSPEND_32: u32 = 0x8400_000C;
/// CPU_DEFAULT_SUSPEND, 64-bit.
pub const CPU_DEFAULT_SUSPEND_64: u32 = 0xC400_000C;
/// NODE_HW_STATE, 32-bit.
pub const NODE_HW_STATE_32: u32 = 0x8400_000D;
/// NODE_HW_STATE, 64-bit.
pub const NODE_HW_STATE_64: u32 = 0xC400_000D;
/// SYSTEM_SUSPEND, 32-bit.
pub const SYSTEM_SUSPEND_32: u32 = 0x8400_000E;
/// SYSTEM_SUSPEND, 64-bit.
pub const SYSTEM_SUSPEND_64: u32 = 0xC400_000E;
/// PSCI_SET_SUSPEND_MODE.
pub const SET_SUSPEND_MODE: u32 = 0x8400_000F;
/// SYSTEM_RESET2, 32-bit.
pub const SYSTEM_RESET2_32: u32 = 0x8400_0012;
/// SYSTEM_RESET2, 64-bit.
pub const SYSTEM_RESET2_64: u32 = 0xC400_0012;

/// CPU_OFF as the guest's tree names it for PSCI 0.1.
pub const V0_1_CPU_OFF: u32 = 1;
/// CPU_ON as the guest's tree names it for PSCI 0.1.
pub const V0_1_CPU_ON: u32 = 2;

/// Done.
pub const SUCCESS: i64 = 0;
/// No such function.
pub const NOT_SUPPORTED: i64 = -1;
/// Unknown target, bad state.
pub const INVALID_PARAMETERS: i64 = -2;
/// Not permitted.
pub const DENIED: i64 = -3;
/// The CPU is on.
pub const ALREADY_ON: i64 = -4;
/// A CPU_ON is under way.
pub const ON_PENDING: i64 = -5;
/// The CPU could not be started.
pub const INTERNAL_FAILURE: i64 = -6;
/// The CPU is not there.
pub const NOT_PRESENT: i64 = -7;
/// The CPU is disabled.
pub const DISABLED: i64 = -8;
/// The entry point is no good.
pub const INVALID_ADDRESS: i64 = -9;

/// AFFINITY_INFO: on.
pub const AFFINITY_ON: i64 = 0;
/// AFFINITY_INFO: off.
pub const AFFINITY_OFF: i64 = 1;
/// AFFINITY_INFO: being started.
pub const AFFINITY_ON_PENDING: i64 = 2;

/// MIGRATE_INFO_TYPE: there is no trusted OS to migrate.
pub const MIGRATE_NOT_NEEDED: i64 = 2;
