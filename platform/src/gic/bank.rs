//! The registers in which each interrupt has its bit, its byte or its two bits.
//!
//! They stand at the same offsets in three places, so they are declared once: the distributor of GICv2
//! (IHI 0048B, 4.1.2 and 4.3), the distributor of GICv3 (IHI 0069, 12.9), and the second frame of a
//! GICv3 redistributor for the 32 private interrupts (12.11). What one of them lacks is never accessed
//! there.

use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

use super::{IntId, Trigger};
use crate::barrier;

register_bitfields! {u32,
    /// Distributor control. The bits that mean the same, or can be written alike, in every view.
    pub(super) CTLR [
        /// GICv3: a write to a register that this one covers has not taken effect everywhere yet.
        RWP OFFSET(31) NUMBITS(1) [],
        /// GICv3: affinity routing for what we can see.
        ARE OFFSET(4) NUMBITS(1) [],
        /// GICv3: forward group 1 (the Non-secure view calls it EnableGrp1A).
        EnableGroup1 OFFSET(1) NUMBITS(1) [],
        /// GICv2: forward the group that we can see: group 1 in the Non-secure view of a GIC with two
        /// security states, group 0 where there is one state.
        Enable OFFSET(0) NUMBITS(1) [],
    ],
    /// Distributor type.
    pub(super) TYPER [
        /// The distributor has two security states.
        SecurityExtn OFFSET(10) NUMBITS(1) [],
        /// GICv2: CPU interfaces, less one.
        CPUNumber OFFSET(5) NUMBITS(3) [],
        /// Interrupts are numbered up to `32 * (this + 1)`.
        ITLinesNumber OFFSET(0) NUMBITS(5) [],
    ],
    /// GICv2: a write makes a software generated interrupt.
    pub(super) SGIR [
        /// To whom it goes.
        TargetListFilter OFFSET(24) NUMBITS(2) [
            /// To the CPU interfaces in the list.
            List = 0,
        ],
        /// A bit for each CPU interface.
        CPUTargetList OFFSET(16) NUMBITS(8) [],
        /// The interrupt, 0 to 15.
        SGIINTID OFFSET(0) NUMBITS(4) [],
    ],
}

register_structs! {
    /// A bank. `GICD_` in front gives the manual's names.
    pub(super) Bank {
        (0x000 => pub(super) ctlr: ReadWrite<u32, CTLR::Register>),
        (0x004 => pub(super) typer: ReadOnly<u32, TYPER::Register>),
        (0x008 => _iidr: ReadOnly<u32>),
        (0x00c => _reserved_00c),
        /// Group of each interrupt.
        (0x080 => pub(super) igroupr: [ReadWrite<u32>; 32]),
        /// Set-enable.
        (0x100 => pub(super) isenabler: [ReadWrite<u32>; 32]),
        /// Clear-enable.
        (0x180 => pub(super) icenabler: [ReadWrite<u32>; 32]),
        /// Set-pending.
        (0x200 => pub(super) ispendr: [ReadWrite<u32>; 32]),
        /// Clear-pending.
        (0x280 => pub(super) icpendr: [ReadWrite<u32>; 32]),
        /// Set-active.
        (0x300 => pub(super) isactiver: [ReadWrite<u32>; 32]),
        /// Clear-active.
        (0x380 => pub(super) icactiver: [ReadWrite<u32>; 32]),
        /// Priority, a byte each; the last four bytes are reserved.
        (0x400 => pub(super) ipriorityr: [ReadWrite<u8>; 1024]),
        /// GICv2: target CPU interfaces, a byte each; the last four bytes are reserved.
        (0x800 => pub(super) itargetsr: [ReadWrite<u8>; 1024]),
        /// Edge or level, two bits each.
        (0xc00 => pub(super) icfgr: [ReadWrite<u32>; 64]),
        /// GICv3: group modifier.
        (0xd00 => pub(super) igrpmodr: [ReadWrite<u32>; 32]),
        (0xd80 => _reserved_d80),
        /// GICv2: makes a software generated interrupt.
        (0xf00 => pub(super) sgir: WriteOnly<u32, SGIR::Register>),
        (0xf04 => _reserved_f04),
        (0x1000 => @END),
    }
}

/// The priority of every physical interrupt: one for all, in the middle, since EL2 runs masked and no
/// interrupt preempts another. Its low four bits are 0, so every GIC implements it exactly.
pub(super) const PRIORITY: u8 = 0xa0;

/// Which word of 32 bits, and which bit in it.
fn word(intid: IntId) -> (usize, u32) {
    // The mask says to the compiler what IntId promises.
    ((intid.get() as usize / 32) & 31, 1 << (intid.get() % 32))
}

impl Bank {
    /// Interrupts that the distributor has room for: a multiple of 32, at most 1020.
    pub(super) fn interrupts(&self) -> u32 {
        ((self.typer.read(TYPER::ITLinesNumber) + 1) * 32).min(1020)
    }

    /// Puts interrupts `32 * first..32 * (first + count)` into the state to start from: in `group` where
    /// we may say so, disabled, neither pending nor active, of the usual priority.
    pub(super) fn reset_words(&self, first: usize, count: usize, group: u32) {
        let words = first..(first + count).min(32);
        for index in words.clone() {
            self.icenabler[index].set(!0);
            self.igroupr[index].set(group);
        }
        // IHI 0048B 4.3.8, IHI 0069 12.9: pending and active state of an interrupt that can still be
        // forwarded may come back; so after disabling.
        barrier::complete_all();
        for index in words.clone() {
            self.icpendr[index].set(!0);
            self.icactiver[index].set(!0);
        }
        for priority in &self.ipriorityr[words.start * 32..words.end * 32] {
            priority.set(PRIORITY);
        }
    }

    pub(super) fn enable(&self, intid: IntId) {
        let (index, bit) = word(intid);
        // What the handler will find in memory has to be there before the interrupt can come.
        barrier::complete_stores();
        self.isenabler[index].set(bit);
    }

    pub(super) fn disable(&self, intid: IntId) {
        let (index, bit) = word(intid);
        self.icenabler[index].set(bit);
        barrier::complete_all();
    }

    /// Whether enable and priority of an interrupt hold what is written to them. It is disabled after.
    /// In the Non-secure view an interrupt that firmware keeps for itself reads as 0 and ignores writes
    /// (RAZ/WI: IHI 0048B 4.1.5, IHI 0069 chapter 12, at each register).
    pub(super) fn accepts(&self, intid: IntId) -> bool {
        let (index, bit) = word(intid);
        let priority = &self.ipriorityr[intid.get() as usize & 1023];
        priority.set(PRIORITY);
        self.isenabler[index].set(bit);
        let enabled = self.isenabler[index].get() & bit != 0;
        self.disable(intid);
        enabled && priority.get() == PRIORITY
    }

    /// The caller serialises calls: neighbours share the word.
    pub(super) fn set_trigger(&self, intid: IntId, trigger: Trigger) {
        let register = &self.icfgr[(intid.get() as usize / 16) & 63];
        // The upper of the two bits; the lower is reserved (IHI 0048B 4.3.13).
        let edge = 2 << (intid.get() % 16 * 2);
        let others = register.get() & !edge;
        register.set(match trigger {
            Trigger::Level => others,
            Trigger::Edge => others | edge,
        });
    }

    pub(super) fn clear_pending(&self, intid: IntId) {
        let (index, bit) = word(intid);
        self.icpendr[index].set(bit);
    }

    pub(super) fn is_active(&self, intid: IntId) -> bool {
        let (index, bit) = word(intid);
        self.isactiver[index].get() & bit != 0
    }

    /// The read makes sure that the write has arrived before the guest can end the interrupt.
    pub(super) fn set_active(&self, intid: IntId) {
        let (index, bit) = word(intid);
        self.isactiver[index].set(bit);
        let _ = self.isactiver[index].get();
    }

    pub(super) fn clear_active(&self, intid: IntId) {
        let (index, bit) = word(intid);
        self.icactiver[index].set(bit);
        let _ = self.icactiver[index].get();
    }
}
