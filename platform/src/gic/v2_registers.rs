//! The registers of a GICv2 CPU: its interface (GICC) and the hypervisor's view of its virtual
//! interface (GICH). Both are banked: each CPU sees its own at the same address.

use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! {u32,
    /// CPU interface control (IHI 0048B 4.4.1). Bits are the same in the Non-secure view, where they are
    /// about group 1, and in the view of a GIC with one security state, where they are about group 0.
    pub(super) GICC_CTLR [
        /// EOIR only drops the priority; DIR deactivates.
        EOImode OFFSET(9) NUMBITS(1) [],
        /// Firmware's choice of what happens to the old-style lines when the interface is off.
        Bypass OFFSET(5) NUMBITS(4) [],
        /// Signal interrupts of our group.
        Enable OFFSET(0) NUMBITS(1) [],
    ],
    /// Hypervisor control (IHI 0048B 5.3, as all GICH).
    pub(super) GICH_HCR [
        /// Ends by the guest for which no list register was found.
        EOICount OFFSET(27) NUMBITS(5) [],
        /// Conditions of maintenance interrupts.
        Maintenance OFFSET(1) NUMBITS(7) [],
        /// The virtual CPU interface works.
        En OFFSET(0) NUMBITS(1) [],
    ],
    /// Virtual interface type.
    pub(super) GICH_VTR [
        /// List registers, less one.
        ListRegs OFFSET(0) NUMBITS(6) [],
    ],
}

register_structs! {
    /// GICC (IHI 0048B 4.1.3, 4.4).
    pub(super) CpuInterface {
        (0x0000 => pub(super) ctlr: ReadWrite<u32, GICC_CTLR::Register>),
        /// Priority mask: interrupts of a lower value than this are signalled (4.4.2).
        (0x0004 => pub(super) pmr: ReadWrite<u32>),
        /// Binary point (4.4.3).
        (0x0008 => pub(super) bpr: ReadWrite<u32>),
        /// Interrupt acknowledge (4.4.4): number in bits 9:0, source CPU of an SGI in 12:10.
        (0x000c => pub(super) iar: ReadOnly<u32>),
        /// End of interrupt (4.4.5): takes what IAR gave.
        (0x0010 => pub(super) eoir: WriteOnly<u32>),
        (0x0014 => _reserved_0014),
        /// Highest priority pending interrupt (4.4.6), in IAR's format; a read changes nothing.
        (0x0018 => pub(super) hppir: ReadOnly<u32>),
        (0x001c => _reserved_001c),
        /// Active priorities (4.4.12, 4.4.13).
        (0x00d0 => pub(super) apr: [ReadWrite<u32>; 4]),
        (0x00e0 => _reserved_00e0),
        /// Identification (4.4.14): product and revision, architecture, implementer.
        (0x00fc => pub(super) iidr: ReadOnly<u32>),
        (0x0100 => _reserved_0100),
        /// Deactivate (4.4.15): takes what IAR gave.
        (0x1000 => pub(super) dir: WriteOnly<u32>),
        (0x1004 => @END),
    }
}

register_structs! {
    /// GICH (IHI 0048B 5.3).
    pub(super) HypervisorInterface {
        (0x000 => pub(super) hcr: ReadWrite<u32, GICH_HCR::Register>),
        (0x004 => pub(super) vtr: ReadOnly<u32, GICH_VTR::Register>),
        /// What the guest has written to its CPU interface.
        (0x008 => pub(super) vmcr: ReadWrite<u32>),
        (0x00c => _reserved_00c),
        /// Which maintenance conditions hold.
        (0x010 => pub(super) misr: ReadOnly<u32>),
        (0x014 => _reserved_014),
        /// A bit for each list register that asks for an end-of-interrupt maintenance interrupt.
        (0x020 => pub(super) eisr: [ReadOnly<u32>; 2]),
        (0x028 => _reserved_028),
        /// A bit for each list register that holds nothing.
        (0x030 => pub(super) elrsr: [ReadOnly<u32>; 2]),
        (0x038 => _reserved_038),
        /// Active priorities of the guest.
        (0x0f0 => pub(super) apr: ReadWrite<u32>),
        (0x0f4 => _reserved_0f4),
        /// List registers.
        (0x100 => pub(super) lr: [ReadWrite<u32>; 64]),
        (0x200 => @END),
    }
}
