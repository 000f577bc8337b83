//! GICv2: distributor and memory-mapped CPU interface.

use super::{Target, distributor};
use crate::{mmio::Mmio, tree::Node};

/// CPU interface registers (IHI 0048B 4.4).
mod interface {
    pub(super) const CTLR: usize = 0x00;
    pub(super) const PMR: usize = 0x04;
    pub(super) const BPR: usize = 0x08;
    pub(super) const IAR: usize = 0x0c;
    pub(super) const EOIR: usize = 0x10;
    pub(super) const RPR: usize = 0x14;
    pub(super) const DIR: usize = 0x1000;
}

/// The driver.
#[derive(Clone, Copy, Debug)]
pub struct V2 {
    /// GICD.
    pub distributor: Mmio,
    /// GICC.
    pub interface: Mmio,
}

impl V2 {
    /// The controller of `node`, distributor on.
    pub fn new(node: &Node<'_>) -> Option<Self> {
        let mut reg = node.reg();
        let (base, size) = reg.next()?;
        let distributor = Mmio::new(base, size);
        let (base, size) = reg.next()?;
        let gic = Self {
            distributor,
            interface: Mmio::new(base, size),
        };
        gic.distributor.write32(distributor::CTLR, 1);
        Some(gic)
    }

    pub(super) fn init_cpu(self) {
        self.interface.write32(interface::PMR, 0xff);
        self.interface.write32(interface::BPR, 0);
        self.interface.write32(interface::CTLR, 1);
    }

    pub(super) fn set_priority_mask(self, priority: u8) {
        self.interface.write32(interface::PMR, u32::from(priority));
    }

    pub(super) fn priority_mask(self) -> u8 {
        self.interface.read32(interface::PMR) as u8
    }

    pub(super) fn running_priority(self) -> u8 {
        self.interface.read32(interface::RPR) as u8
    }

    pub(super) fn set_binary_point(self, point: u8) {
        self.interface.write32(interface::BPR, u32::from(point));
    }

    pub(super) fn binary_point(self) -> u8 {
        self.interface.read32(interface::BPR) as u8
    }

    pub(super) fn split_end(self, split: bool) {
        self.interface
            .write32(interface::CTLR, 1 | u32::from(split) << 9);
    }

    pub(super) fn deactivate(self, raw: u32) {
        self.interface.write32(interface::DIR, raw);
    }

    pub(super) fn send(self, intid: u32, target: Target) {
        let filter = match target {
            Target::Cpu(cpu) => 1 << (16 + (cpu & 7)),
            Target::Others => 1 << 24,
            Target::Myself => 2 << 24,
        };
        // SAFETY: a barrier, so that the receiver sees what was stored before.
        unsafe { core::arch::asm!("dsb ish", options(nostack, preserves_flags)) };
        self.distributor
            .write32(distributor::SGIR, filter | intid & 15);
    }

    #[inline]
    pub(super) fn acknowledge(self) -> u32 {
        self.interface.read32(interface::IAR)
    }

    #[inline]
    pub(super) fn end(self, raw: u32) {
        self.interface.write32(interface::EOIR, raw);
    }
}
