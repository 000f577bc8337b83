//! The interrupt controller at its fixed addresses, for one interrupt: PPI 31, the events' one. It is never taken: ISR_EL1
//! says that it waits, and the acknowledge register which one.

use crate::machine::{find, read32, write32};

/// Both versions have it at the same place.
const DISTRIBUTOR: u64 = abi::guest_layout::GICV2_DISTRIBUTOR;
const GICV2_INTERFACE: u64 = abi::guest_layout::GICV2_CPU_INTERFACE;
/// The second frame of CPU 0's redistributor has SGIs and PPIs.
const REDISTRIBUTOR: u64 = abi::guest_layout::GICV3_REDISTRIBUTORS;
const PRIVATE: u64 = REDISTRIBUTOR + 0x1_0000;

const UPCALL: u32 = 31;
const CTLR: u64 = 0;
const WAKER: u64 = 0x14;
const IGROUPR: u64 = 0x80;
const ISENABLER: u64 = 0x100;
const IPRIORITYR: u64 = 0x400;
const ICFGR1: u64 = 0xc04;

#[derive(Clone, Copy)]
pub(crate) struct Controller {
    version_3: bool,
}

impl Controller {
    /// Enables the upcall, as edge or as level.
    pub(crate) fn new(tree: &'static [u8], edge: bool) -> Self {
        let version_3 = find(tree, "arm,gic-v3").is_some();
        let private = if version_3 { PRIVATE } else { DISTRIBUTOR };
        if version_3 {
            write32(DISTRIBUTOR + CTLR, 0b10 | 1 << 4);
            write32(REDISTRIBUTOR + WAKER, 0);
            while read32(REDISTRIBUTOR + WAKER) & 0b100 != 0 {}
            write32(PRIVATE + IGROUPR, u32::MAX);
            // SAFETY: the CPU interface of this guest: system registers on, every priority, group 1.
            unsafe {
                core::arch::asm!(
                    "msr S3_0_C12_C12_5, {one}", // ICC_SRE_EL1
                    "isb",
                    "msr S3_0_C4_C6_0, {all}",   // ICC_PMR_EL1
                    "msr S3_0_C12_C12_7, {one}", // ICC_IGRPEN1_EL1
                    "isb",
                    one = in(reg) 1_u64, all = in(reg) 0xff_u64,
                );
            }
        } else {
            write32(DISTRIBUTOR + CTLR, 1);
            write32(GICV2_INTERFACE + 4, 0xff);
            write32(GICV2_INTERFACE, 1);
        }
        // Two bits an interrupt, the upper one says edge.
        let shift = (UPCALL - 16) * 2;
        let others = read32(private + ICFGR1) & !(0b11 << shift);
        write32(private + ICFGR1, others | u32::from(edge) << (shift + 1));
        write32(private + IPRIORITYR + 28, 0xa0a0_a0a0);
        write32(private + ISENABLER, 1 << UPCALL);
        Self { version_3 }
    }

    /// Whether an interrupt waits.
    pub(crate) fn is_pending() -> bool {
        let status: u64;
        // SAFETY: a read of ISR_EL1.
        unsafe { core::arch::asm!("isb", "mrs {}, isr_el1", out(reg) status) };
        status & 1 << 7 != 0
    }

    /// Waits for an interrupt by WFI, and ends it; its number.
    pub(crate) fn take(self) -> u32 {
        while !Self::is_pending() {
            // SAFETY: an interrupt that waits ends it, masked or not.
            unsafe { core::arch::asm!("wfi") };
        }
        let number = self.acknowledge();
        self.end(number);
        number
    }

    fn acknowledge(self) -> u32 {
        if !self.version_3 {
            return read32(GICV2_INTERFACE + 0xc);
        }
        let number: u64;
        // SAFETY: ICC_IAR1_EL1 of this guest.
        unsafe { core::arch::asm!("mrs {}, S3_0_C12_C12_0", "dsb sy", out(reg) number) };
        number as u32
    }

    fn end(self, number: u32) {
        if !self.version_3 {
            return write32(GICV2_INTERFACE + 0x10, number);
        }
        // SAFETY: ICC_EOIR1_EL1 of this guest.
        unsafe { core::arch::asm!("msr S3_0_C12_C12_1, {}", "isb", in(reg) u64::from(number)) };
    }
}
