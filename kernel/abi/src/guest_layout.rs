//! Guest physical map and interrupt numbers of a guest that is not direct-mapped
//! (`xen/include/public/arch-arm.h`). The guest's tree says the same; some guests hard-code it.

/// GICv2 distributor.
pub const GICV2_DISTRIBUTOR: u64 = 0x0300_1000;
/// Bytes of the GICv2 distributor.
pub const GICV2_DISTRIBUTOR_SIZE: u64 = 0x1000;
/// GICv2 CPU interface.
pub const GICV2_CPU_INTERFACE: u64 = 0x0300_2000;
/// Bytes of the GICv2 CPU interface.
pub const GICV2_CPU_INTERFACE_SIZE: u64 = 0x2000;
/// Most vCPUs with a GICv2.
pub const GICV2_MAX_VCPUS: u32 = 8;

/// GICv3 distributor.
pub const GICV3_DISTRIBUTOR: u64 = 0x0300_1000;
/// Bytes of the GICv3 distributor.
pub const GICV3_DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// GICv3 redistributors, one region.
pub const GICV3_REDISTRIBUTORS: u64 = 0x0302_0000;
/// Bytes of the redistributor region.
pub const GICV3_REDISTRIBUTORS_SIZE: u64 = 0x0100_0000;
/// Bytes of one vCPU's redistributor: two frames of 64 KiB.
pub const GICV3_REDISTRIBUTOR_STRIDE: u64 = 0x2_0000;
/// Most vCPUs with a GICv3.
pub const GICV3_MAX_VCPUS: u32 = 128;

/// SBSA UART.
pub const VPL011: u64 = 0x2200_0000;
/// Bytes of the SBSA UART.
pub const VPL011_SIZE: u64 = 0x1000;

/// Window where a guest may map its grant table: first region of the hypervisor node.
pub const GRANT_TABLE: u64 = 0x3800_0000;
/// Bytes of the grant table window.
pub const GRANT_TABLE_SIZE: u64 = 0x0100_0000;

/// Pages that the hypervisor shares with the guest for console and xenstore.
pub const MAGIC: u64 = 0x3900_0000;
/// Bytes of the magic pages' window.
pub const MAGIC_SIZE: u64 = 0x0100_0000;
/// Guest frame number of the PV console ring.
pub const CONSOLE_GFN: u64 = MAGIC / 4096;
/// Guest frame number of the xenstore ring.
pub const XENSTORE_GFN: u64 = MAGIC / 4096 + 1;

/// Start of the first bank of RAM.
pub const RAM0: u64 = 0x4000_0000;
/// Most bytes of the first bank.
pub const RAM0_MAX: u64 = 0xC000_0000;
/// Start of the second bank of RAM, used when the first is full.
pub const RAM1: u64 = 0x2_0000_0000;
/// Most bytes of the second bank.
pub const RAM1_MAX: u64 = 0xFE_0000_0000;

/// Secure physical timer.
pub const TIMER_SECURE_PHYSICAL_INTID: u32 = 29;
/// Non-secure physical timer.
pub const TIMER_PHYSICAL_INTID: u32 = 30;
/// Virtual timer.
pub const TIMER_VIRTUAL_INTID: u32 = 27;
/// Hypervisor timer, listed because some kernels insist on four; never fires.
pub const TIMER_HYPERVISOR_INTID: u32 = 26;
/// Upcall of the event channels.
pub const EVENT_INTID: u32 = 31;
/// SBSA UART.
pub const VPL011_INTID: u32 = 32;

/// Bit 31 of MPIDR_EL1, which reads as one.
pub const MPIDR_RES1: u64 = 1 << 31;

/// Affinity of a vCPU: Aff1 = vcpu / 16, Aff0 = vcpu % 16.
#[must_use]
pub const fn affinity_of(vcpu: u32) -> u64 {
    ((vcpu as u64 >> 4) << 8) | (vcpu as u64 & 15)
}

/// The vCPU with this affinity; `None` if none can have it. Bits that are not affinity are the
/// caller's to mask.
#[must_use]
pub const fn vcpu_of(affinity: u64) -> Option<u32> {
    let (aff1, aff0) = (affinity >> 8, affinity & 0xff);
    if aff1 > 0xff || aff0 > 15 {
        return None;
    }
    Some(((aff1 << 4) | aff0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_go_both_ways() {
        for vcpu in 0..GICV3_MAX_VCPUS {
            assert_eq!(vcpu_of(affinity_of(vcpu)), Some(vcpu));
        }
        assert_eq!(affinity_of(17), 0x101);
        assert_eq!(vcpu_of(0x10), None);
        assert_eq!(vcpu_of(0x1_0000), None);
    }
}
