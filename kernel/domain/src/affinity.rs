//! What a vCPU reads as its `MPIDR_EL1`, and back: Aff0 is the low four bits of its number, Aff1 the
//! rest, as Xen has it (`xen/arch/arm/include/asm/domain.h`), so that a GICv3 SGI's target list of 16
//! reaches every vCPU.

use abi::VcpuId;

/// vCPUs in one group of equal Aff1.
const GROUP: u32 = 16;
/// Most vCPUs of a domain: what the redistributor window has room for.
pub const MAX_VCPUS: u32 = 128;

/// `MPIDR_EL1` bit 31, RES1.
const MPIDR_RES1: u64 = 1 << 31;
/// The bits that identify a CPU: Aff3 in 39..32, Aff2 to Aff0 in 23..0. Callers of PSCI pass the whole
/// of MPIDR at times; the others do not matter.
const AFFINITY_BITS: u64 = 0xff_00ff_ffff;

/// Affinity of a vCPU, as PSCI and the guest's tree name it: Aff1 in bits 15..8, Aff0 in bits 7..0.
#[must_use]
pub const fn of(vcpu: VcpuId) -> u64 {
    let number = vcpu.0 as u64;
    (number & 0xff0) << 4 | number & 0xf
}

/// Value for `VMPIDR_EL2` of a vCPU.
#[must_use]
pub const fn vmpidr(vcpu: VcpuId) -> u64 {
    MPIDR_RES1 | of(vcpu)
}

/// The vCPU that an affinity names, whether or not the domain has one of that number; `None` if none
/// can have it.
#[must_use]
pub const fn vcpu(affinity: u64) -> Option<VcpuId> {
    let affinity = affinity & AFFINITY_BITS;
    let (group, member) = (affinity >> 8, affinity & 0xff);
    if member >= GROUP as u64 || group >= (MAX_VCPUS / GROUP) as u64 {
        return None;
    }
    Some(VcpuId((group << 4 | member) as u32))
}

/// Whether a vCPU lies in the node of the affinity tree that `affinity` names at `level` (0 the CPU
/// itself, 1 all of the same Aff1, and so on up to 3).
#[must_use]
pub const fn is_in_node(candidate: VcpuId, affinity: u64, level: u32) -> bool {
    let ignored = match level {
        0 => 0,
        1 => 0xff,
        2 => 0xffff,
        _ => 0xff_ffff,
    };
    (of(candidate) ^ affinity) & AFFINITY_BITS & !ignored == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vcpu_is_found_by_its_affinity() {
        for number in 0..MAX_VCPUS {
            assert_eq!(vcpu(of(VcpuId(number))), Some(VcpuId(number)));
            assert_eq!(vcpu(vmpidr(VcpuId(number))), Some(VcpuId(number)));
        }
        assert_eq!(vmpidr(VcpuId(17)), 0x8000_0101);
    }

    #[test]
    fn other_affinities_name_nobody() {
        for affinity in [0x10, 0xff, 0x800, 0x1_0000, 1 << 32, u64::MAX] {
            assert_eq!(vcpu(affinity), None, "{affinity:#x}");
        }
    }

    #[test]
    fn nodes_hold_their_vcpus() {
        assert!(is_in_node(VcpuId(17), 0x101, 0) && !is_in_node(VcpuId(17), 0x100, 0));
        assert!(is_in_node(VcpuId(17), 0x10f, 1) && !is_in_node(VcpuId(15), 0x100, 1));
        assert!(is_in_node(VcpuId(17), 0, 2) && !is_in_node(VcpuId(0), 0x1_0000, 2));
        assert!(is_in_node(VcpuId(127), 0, 3) && !is_in_node(VcpuId(0), 1 << 32, 3));
    }
}
