//! PSCI 1.1 (Arm DEN 0022) and SMCCC 1.2 (Arm DEN 0028) as a guest finds them at `hvc #0` and `smc #0`.
//!
//! The results are Xen's (`xen/arch/arm/vpsci.c`, `vsmc.c`): what is not listed there answers -1. The
//! function id is w0: bits 63..32 of x0 do not count, nor do those of the arguments of a 32-bit id.
//!
//! One difference: AFFINITY_INFO tells ON_PENDING, and CPU_ON too, while another CPU_ON is under way.

use abi::{VcpuId, psci, smccc};

use crate::affinity;
use crate::lifecycle::{Power, ShutdownReason};
use crate::speculation::{Flaw, Mitigation};

/// What the calls need of the domain that makes them.
pub trait Machine {
    /// vCPUs of the domain, on or off; their numbers count from 0.
    fn vcpus(&self) -> u32;

    /// The vCPU that calls.
    fn caller(&self) -> VcpuId;

    /// What a vCPU of the domain is doing.
    fn power(&self, vcpu: VcpuId) -> Power;

    /// Starts a vCPU of the domain at `entry` with `context` in x0, all else as at reset.
    ///
    /// # Errors
    ///
    /// It is on, or being started, or there is no memory for it.
    fn cpu_on(&self, vcpu: VcpuId, entry: u64, context: u64) -> Result<(), CpuOnError>;

    /// Whether the domain may suspend itself and be resumed by somebody.
    fn can_suspend(&self) -> bool {
        false
    }

    /// How a flaw of the CPU is dealt with.
    fn mitigation(&self, _flaw: Flaw) -> Mitigation {
        Mitigation::None
    }

    /// Has the firmware do its workaround on this CPU; called only for a flaw that is
    /// [`Mitigation::Available`].
    fn work_around(&self, _flaw: Flaw) {}

    /// Who makes random numbers, as a UUID in the words of the calling convention; `None` if nobody does.
    fn entropy_source(&self) -> Option<[u32; 4]> {
        None
    }

    /// As many random bits, 1 to 192, the lowest word first; `None` if there are not enough just now.
    fn entropy(&self, _bits: u32) -> Option<[u64; 3]> {
        None
    }
}

/// Why [`Machine::cpu_on`] did not start a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuOnError {
    /// It is on.
    AlreadyOn,
    /// It is being started.
    OnPending,
    /// No memory.
    Denied,
    /// Something that should not happen.
    Internal,
}

impl From<crate::lifecycle::ClaimError> for CpuOnError {
    fn from(error: crate::lifecycle::ClaimError) -> Self {
        match error {
            crate::lifecycle::ClaimError::AlreadyOn => Self::AlreadyOn,
            crate::lifecycle::ClaimError::OnPending => Self::OnPending,
        }
    }
}

/// What becomes of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Goes on with this in x0; x1 to x3 as they were.
    Value(u64),
    /// Goes on with these in x0 and x1; x2 and x3 as they were.
    Pair([u64; 2]),
    /// Goes on with these in x0 to x3.
    Values([u64; 4]),
    /// Goes on, no register changed.
    Unchanged,
    /// Waits for an interrupt as by WFI, then goes on with SUCCESS in x0.
    Suspend,
    /// Is switched off.
    CpuOff,
    /// The domain suspends; when resumed, the caller starts at `entry` with `context` in x0.
    SystemSuspend {
        /// Where.
        entry: u64,
        /// What x0 holds then.
        context: u64,
    },
    /// The domain ends.
    Shutdown(ShutdownReason),
}

impl Outcome {
    /// A result code.
    const fn code(code: i64) -> Self {
        Self::Value(code as u64)
    }

    /// Nobody knows the function: -1 in all 64 bits, whatever the width of the id.
    const UNKNOWN: Self = Self::code(psci::NOT_SUPPORTED);
}

/// What goes into x0 after a call of this function, if that is always the same.
#[inline]
#[must_use]
pub const fn at_once(function: u64) -> Option<u64> {
    match function as u32 {
        psci::PSCI_VERSION => Some(psci::VERSION_1_1),
        smccc::SMCCC_VERSION => Some(smccc::VERSION_1_2),
        _ => None,
    }
}

/// Carries out the call with `arguments` x0 to x3.
#[inline]
pub fn call(machine: &impl Machine, arguments: [u64; 4]) -> Outcome {
    match at_once(arguments[0]) {
        Some(value) => Outcome::Value(value),
        None => dispatch(machine, arguments),
    }
}

#[inline(never)]
fn dispatch(machine: &impl Machine, arguments: [u64; 4]) -> Outcome {
    let function = arguments[0] as u32;
    let [_, first, second, third] = if function & psci::SMC64 == 0 {
        arguments.map(|argument| argument & 0xffff_ffff)
    } else {
        arguments
    };
    match function {
        psci::CPU_SUSPEND_32 | psci::CPU_SUSPEND_64 => Outcome::Suspend,
        psci::CPU_OFF | psci::V0_1_CPU_OFF => Outcome::CpuOff,
        psci::CPU_ON_32 | psci::CPU_ON_64 => Outcome::code(cpu_on(machine, first, second, third)),
        // PSCI 0.1 knows no context; its ids have no width, and its errors no distinction.
        psci::V0_1_CPU_ON => {
            let [_, target, entry, _] = arguments;
            Outcome::code(match cpu_on(machine, target, entry, 0) {
                psci::SUCCESS => psci::SUCCESS,
                _ => psci::INVALID_PARAMETERS,
            })
        }
        psci::AFFINITY_INFO_32 | psci::AFFINITY_INFO_64 => {
            Outcome::code(affinity_info(machine, first, second))
        }
        psci::MIGRATE_INFO_TYPE => Outcome::code(psci::MIGRATE_NOT_NEEDED),
        psci::SYSTEM_OFF => Outcome::Shutdown(ShutdownReason::PowerOff),
        psci::SYSTEM_RESET => Outcome::Shutdown(ShutdownReason::Reboot),
        psci::PSCI_FEATURES => Outcome::code(psci_features(machine, first as u32)),
        psci::SYSTEM_SUSPEND_32 | psci::SYSTEM_SUSPEND_64 if machine.can_suspend() => {
            system_suspend(machine, first, second)
        }
        smccc::ARCH_FEATURES => Outcome::code(arch_features(machine, first as u32)),
        smccc::ARCH_WORKAROUND_1 => work_around(machine, Flaw::BranchPredictor),
        smccc::ARCH_WORKAROUND_3 => work_around(machine, Flaw::BranchHistory),
        // Never offered as something to be switched; whoever calls all the same gets its registers back.
        smccc::ARCH_WORKAROUND_2 => Outcome::Unchanged,
        smccc::TRNG_VERSION..=smccc::TRNG_RND_32 | smccc::TRNG_RND_64 => {
            random(machine, function, first as u32)
        }
        smccc::HYPERVISOR_CALL_COUNT => Outcome::Value(smccc::HYPERVISOR_CALLS),
        smccc::HYPERVISOR_UID => Outcome::Values(smccc::XEN_UID.map(u64::from)),
        smccc::HYPERVISOR_REVISION | smccc::STANDARD_REVISION => {
            Outcome::Pair(smccc::SERVICE_REVISION)
        }
        smccc::STANDARD_CALL_COUNT => {
            let suspend = u64::from(machine.can_suspend()).saturating_mul(SUSPEND_CALLS);
            let random = u64::from(machine.entropy_source().is_some()).saturating_mul(RANDOM_CALLS);
            Outcome::Value(
                STANDARD_CALLS
                    .saturating_add(suspend)
                    .saturating_add(random),
            )
        }
        smccc::STANDARD_UID => Outcome::Values(smccc::XEN_STANDARD_UID.map(u64::from)),
        _ => Outcome::UNKNOWN,
    }
}

/// Calls of the standard service: twelve of PSCI, and its own three.
const STANDARD_CALLS: u64 = 15;
/// SYSTEM_SUSPEND, 32-bit and 64-bit.
const SUSPEND_CALLS: u64 = 2;
/// TRNG_VERSION to TRNG_RND.
const RANDOM_CALLS: u64 = 5;

/// ARCH_FEATURES of WORKAROUND_1 and WORKAROUND_3: not affected.
const UNAFFECTED: i64 = 1;

fn cpu_on(machine: &impl Machine, target: u64, entry: u64, context: u64) -> i64 {
    let Some(vcpu) = affinity::vcpu(target).filter(|vcpu| vcpu.0 < machine.vcpus()) else {
        return psci::INVALID_PARAMETERS;
    };
    // Guests run AArch64 at EL1, whose instructions are aligned to four bytes.
    if entry & 3 != 0 {
        return psci::INVALID_ADDRESS;
    }
    match machine.cpu_on(vcpu, entry, context) {
        Ok(()) => psci::SUCCESS,
        Err(CpuOnError::AlreadyOn) => psci::ALREADY_ON,
        Err(CpuOnError::OnPending) => psci::ON_PENDING,
        Err(CpuOnError::Denied) => psci::DENIED,
        Err(CpuOnError::Internal) => psci::INTERNAL_FAILURE,
    }
}

/// State of the node of the affinity tree: on if a vCPU in it is on, else pending if one is being
/// started, else off.
fn affinity_info(machine: &impl Machine, target: u64, level: u64) -> i64 {
    if level > 3 {
        return psci::INVALID_PARAMETERS;
    }
    let mut state = psci::INVALID_PARAMETERS;
    // At most `affinity::MAX_VCPUS` turns.
    for vcpu in (0..machine.vcpus()).map(VcpuId) {
        if !affinity::is_in_node(vcpu, target, level as u32) {
            continue;
        }
        match machine.power(vcpu) {
            Power::Off if state == psci::INVALID_PARAMETERS => state = psci::AFFINITY_OFF,
            Power::Off => {}
            Power::Starting => state = psci::AFFINITY_ON_PENDING,
            Power::Ready | Power::Running | Power::Blocked | Power::Stopping => {
                return psci::AFFINITY_ON;
            }
        }
    }
    state
}

fn system_suspend(machine: &impl Machine, entry: u64, context: u64) -> Outcome {
    if entry & 3 != 0 {
        return Outcome::code(psci::INVALID_ADDRESS);
    }
    let caller = machine.caller();
    let alone = (0..machine.vcpus())
        .map(VcpuId)
        .all(|vcpu| vcpu == caller || machine.power(vcpu) == Power::Off);
    if alone {
        Outcome::SystemSuspend { entry, context }
    } else {
        Outcome::code(psci::DENIED)
    }
}

fn psci_features(machine: &impl Machine, function: u32) -> i64 {
    match function {
        psci::PSCI_VERSION
        | psci::CPU_SUSPEND_32
        | psci::CPU_SUSPEND_64
        | psci::CPU_OFF
        | psci::CPU_ON_32
        | psci::CPU_ON_64
        | psci::AFFINITY_INFO_32
        | psci::AFFINITY_INFO_64
        | psci::MIGRATE_INFO_TYPE
        | psci::SYSTEM_OFF
        | psci::SYSTEM_RESET
        | psci::PSCI_FEATURES
        | smccc::SMCCC_VERSION => psci::SUCCESS,
        psci::SYSTEM_SUSPEND_32 | psci::SYSTEM_SUSPEND_64 if machine.can_suspend() => psci::SUCCESS,
        _ => psci::NOT_SUPPORTED,
    }
}

fn arch_features(machine: &impl Machine, function: u32) -> i64 {
    let flaw = match function {
        smccc::ARCH_WORKAROUND_1 => Flaw::BranchPredictor,
        smccc::ARCH_WORKAROUND_2 => Flaw::StoreBypass,
        smccc::ARCH_WORKAROUND_3 => Flaw::BranchHistory,
        _ => return smccc::NOT_SUPPORTED,
    };
    match (machine.mitigation(flaw), flaw) {
        (Mitigation::Available, _) => smccc::SUCCESS,
        (Mitigation::NotRequired, Flaw::StoreBypass) => smccc::NOT_REQUIRED,
        // DEN 0028, 7.5.2 and 7.7.2: the call may be made, but this CPU does not need it.
        (Mitigation::NotRequired, _) => UNAFFECTED,
        (Mitigation::None, _) => smccc::NOT_SUPPORTED,
    }
}

fn work_around(machine: &impl Machine, flaw: Flaw) -> Outcome {
    if machine.mitigation(flaw) == Mitigation::Available {
        machine.work_around(flaw);
    }
    Outcome::Unchanged
}

/// The random number services (Arm DEN 0098). Without a source there are none.
fn random(machine: &impl Machine, function: u32, argument: u32) -> Outcome {
    let Some(source) = machine.entropy_source() else {
        return Outcome::UNKNOWN;
    };
    let (bits, mask) = match function {
        smccc::TRNG_VERSION => return Outcome::Value(smccc::TRNG_VERSION_1_0),
        smccc::TRNG_FEATURES => {
            return Outcome::code(match argument {
                smccc::TRNG_VERSION..=smccc::TRNG_RND_32 | smccc::TRNG_RND_64 => smccc::SUCCESS,
                _ => smccc::NOT_SUPPORTED,
            });
        }
        smccc::TRNG_GET_UUID => return Outcome::Values(source.map(u64::from)),
        smccc::TRNG_RND_64 => (64, u64::MAX),
        _ => (32, 0xffff_ffff),
    };
    if argument == 0 || argument.div_ceil(bits) > 3 {
        return Outcome::code(smccc::INVALID_PARAMETERS);
    }
    let Some(words) = machine.entropy(argument) else {
        return Outcome::code(smccc::TRNG_NO_ENTROPY);
    };
    // What was not asked for is zero.
    let mut left = argument;
    let [low, middle, high] = words.map(|word| {
        let wanted = left.min(bits);
        left = left.saturating_sub(wanted);
        word & mask & !u64::MAX.checked_shl(wanted).unwrap_or(0)
    });
    Outcome::Values([0, high, middle, low])
}

#[cfg(test)]
#[path = "psci_tests.rs"]
mod tests;
