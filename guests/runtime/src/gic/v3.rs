//! GICv3: distributor, redistributors, system register CPU interface.

use super::{Target, distributor};
use crate::{cpu, mmio::Mmio, sync::Lock, sysreg, tree::Node};

/// Redistributor registers (IHI 0069H 12.10).
pub mod redistributor {
    /// Control.
    pub const CTLR: usize = 0x000;
    /// Who made it.
    pub const IIDR: usize = 0x004;
    /// Affinity, number, whether it is the last.
    pub const TYPER: usize = 0x008;
    /// Sleep and wake.
    pub const WAKER: usize = 0x014;
    /// The frame with the SGIs and PPIs, from the redistributor's base.
    pub const SGI_FRAME: u64 = 0x1_0000;
}

const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
const TYPER_VIRTUAL_LPIS: u64 = 1 << 1;
const TYPER_LAST: u64 = 1 << 4;
const CTLR_ENABLE_GROUP_1: u32 = 1 << 1;
const CTLR_AFFINITY_ROUTING: u32 = 1 << 4;
const CTLR_WRITE_PENDING: u32 = 1 << 31;

/// The driver.
#[derive(Clone, Copy, Debug)]
pub struct V3 {
    /// GICD.
    pub distributor: Mmio,
    /// The first region of redistributors.
    pub redistributors: Mmio,
}

static FRAMES: Lock<[Option<Mmio>; cpu::MAX]> = Lock::new([None; cpu::MAX]);

impl V3 {
    /// The controller of `node`, distributor on.
    pub fn new(node: &Node<'_>) -> Option<Self> {
        let mut reg = node.reg();
        let (base, size) = reg.next()?;
        let distributor = Mmio::new(base, size);
        let (base, size) = reg.next()?;
        let gic = Self {
            distributor,
            redistributors: Mmio::new(base, size),
        };
        let control = CTLR_ENABLE_GROUP_1 | CTLR_AFFINITY_ROUTING;
        gic.distributor.write32(distributor::CTLR, control);
        while gic.distributor.read32(distributor::CTLR) & CTLR_WRITE_PENDING != 0 {}
        let lines = gic.distributor.read32(distributor::TYPER) & 0x1f;
        for word in 1..=lines as usize {
            gic.distributor
                .write32(distributor::IGROUPR + word * 4, u32::MAX);
        }
        Some(gic)
    }

    /// This CPU's redistributor.
    pub fn redistributor(self) -> Option<Mmio> {
        let index = cpu::index();
        if let Some(known) = FRAMES.lock()[index] {
            return Some(known);
        }
        let own = cpu::own_affinity();
        let own = own & 0xff_ffff | own >> 32 << 24;
        let mut offset = 0;
        while offset < self.redistributors.size() {
            let frame = self.redistributors.at(offset);
            let kind = frame.read64(redistributor::TYPER);
            if kind >> 32 == own {
                FRAMES.lock()[index] = Some(frame);
                return Some(frame);
            }
            if kind & TYPER_LAST != 0 {
                break;
            }
            offset += if kind & TYPER_VIRTUAL_LPIS != 0 {
                0x4_0000
            } else {
                0x2_0000
            };
        }
        None
    }

    /// The frame with this CPU's SGIs and PPIs.
    pub fn sgi_frame(self) -> Option<Mmio> {
        self.redistributor()
            .map(|frame| frame.at(redistributor::SGI_FRAME))
    }

    pub(super) fn init_cpu(self) {
        let Some(frame) = self.redistributor() else {
            crate::println!("CPU {}: no redistributor", cpu::index());
            return;
        };
        let waker = frame.read32(redistributor::WAKER);
        frame.write32(redistributor::WAKER, waker & !WAKER_PROCESSOR_SLEEP);
        while frame.read32(redistributor::WAKER) & WAKER_CHILDREN_ASLEEP != 0 {}
        frame
            .at(redistributor::SGI_FRAME)
            .write32(distributor::IGROUPR, u32::MAX);
        if sysreg::icc_sre() & 1 == 0 {
            sysreg::set_icc_sre(7);
        }
        sysreg::set_icc_pmr(0xff);
        sysreg::set_icc_bpr1(0);
        sysreg::set_icc_ctlr(0);
        sysreg::set_icc_igrpen1(1);
    }
}

pub(super) fn send(intid: u32, target: Target) {
    let affinity = match target {
        Target::Cpu(index) => cpu::affinity(index).unwrap_or(0),
        Target::Myself => cpu::own_affinity(),
        Target::Others => {
            barrier();
            sysreg::set_icc_sgi1r(1 << 40 | u64::from(intid & 15) << 24);
            return;
        }
    };
    // Aff3, Aff2, Aff1 by field; Aff0 as one of sixteen bits, its range selected above them.
    let value = (affinity >> 32 & 0xff) << 48
        | (affinity >> 16 & 0xff) << 32
        | (affinity >> 8 & 0xff) << 16
        | ((affinity & 0xff) / 16) << 44
        | u64::from(intid & 15) << 24
        | 1 << (affinity & 15);
    barrier();
    sysreg::set_icc_sgi1r(value);
}

fn barrier() {
    // SAFETY: a barrier, so that the receiver sees what was stored before.
    unsafe { core::arch::asm!("dsb ish", options(nostack, preserves_flags)) };
}

pub(super) fn acknowledge() -> u32 {
    let raw = sysreg::icc_iar1() as u32;
    // SAFETY: a barrier, so that the handler sees what the sender stored before.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
    raw
}
