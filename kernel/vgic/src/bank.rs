//! Thirty-two interrupts, one bit each in a few words: what the distributor keeps of them.
//!
//! An interrupt is in one of two places. *Unlisted*, its state is here: `latch`, `level`, `active`.
//! *Listed*, its state is in a list register, and what arrives here in the meantime (a latch, an
//! active bit, or the wish to drop one) waits for the fold that takes the list register's word.
//! State machine: IHI0048B 3.2.4, IHI0069 4.1.2.

use crate::identity::IntId;

/// Priority 0 everywhere: the reset value of the priority registers (IHI0048B 4.3.11).
const RESET_PRIORITY: [u32; 8] = [0; 8];

/// 32 interrupts.
#[derive(Debug)]
pub(crate) struct Bank {
    /// GICD_ISENABLER.
    pub(crate) enabled: u32,
    /// Pending until acknowledged: edges seen, or written by ISPENDR or an SGI.
    pub(crate) latch: u32,
    /// The input line, as far as software drives it.
    pub(crate) level: u32,
    /// Active and not listed (or, when listed, made active by a register write since).
    pub(crate) active: u32,
    /// Configured edge-triggered: `level` does not make it pending by itself.
    pub(crate) edge: u32,
    /// In a list register of the vCPU that is its home.
    pub(crate) listed: u32,
    /// Injected by hardware, which waits for a deactivation.
    pub(crate) hardware: u32,
    /// Of those in `hardware` and `latch`: a register write made it pending too, whatever its line does.
    pub(crate) written: u32,
    /// Listed; the pending state is to be taken off at the next fold.
    pub(crate) drop_pending: u32,
    /// Listed; the active state is to be taken off at the next fold.
    pub(crate) drop_active: u32,
    /// A byte for each, as GICD_IPRIORITYR; only the upper five bits are kept.
    priority: [u32; 8],
    /// The physical interrupt behind each, where `hardware` is set.
    physical: [u16; 32],
}

impl Bank {
    pub(crate) const fn new(enabled: u32, edge: u32) -> Self {
        Self {
            enabled,
            latch: 0,
            level: 0,
            active: 0,
            edge,
            listed: 0,
            hardware: 0,
            written: 0,
            drop_pending: 0,
            drop_active: 0,
            priority: RESET_PRIORITY,
            physical: [0; 32],
        }
    }

    /// Lines that are high and count as pending by themselves.
    pub(crate) const fn high(&self) -> u32 {
        self.level & !self.edge
    }

    /// Pending, as far as it is known here.
    pub(crate) const fn pending(&self) -> u32 {
        self.latch | self.high()
    }

    /// What wants a list register; `forwarding` is whether the distributor is enabled.
    pub(crate) const fn wanting(&self, forwarding: bool) -> u32 {
        (self.active | self.signalled(forwarding)) & !self.listed
    }

    /// Pending, enabled and forwarded, active or not.
    pub(crate) const fn signalled(&self, forwarding: bool) -> u32 {
        if forwarding {
            self.pending() & self.enabled
        } else {
            0
        }
    }

    /// The priority of one.
    pub(crate) fn priority(&self, lane: u32) -> u8 {
        let word = self.priority_word(lane);
        (word.wrapping_shr((lane & 3).wrapping_mul(8)) & 0xff) as u8
    }

    /// The four priorities of the word that holds this lane's.
    pub(crate) fn priority_word(&self, lane: u32) -> u32 {
        self.priority
            .get(lane as usize >> 2)
            .copied()
            .unwrap_or_default()
    }

    /// Replaces that word; returns the lanes whose priority changed.
    pub(crate) fn set_priority_word(&mut self, lane: u32, word: u32) -> u32 {
        let Some(slot) = self.priority.get_mut(lane as usize >> 2) else {
            return 0;
        };
        let word = word & 0xf8f8_f8f8;
        let changed = *slot ^ word;
        *slot = word;
        // A bit for each byte that differs: the five kept bits of a byte are folded onto its bit 3.
        let some = changed | (changed >> 1) | (changed >> 2) | (changed >> 3) | (changed >> 4);
        let four = ((some >> 3) & 1) | ((some >> 10) & 2) | ((some >> 17) & 4) | ((some >> 24) & 8);
        four.wrapping_shl(lane & 0x1c)
    }

    /// The physical interrupt behind one.
    pub(crate) fn physical(&self, lane: u32) -> Option<IntId> {
        self.physical
            .get(lane as usize)
            .and_then(|&number| IntId::new(u32::from(number)))
    }

    pub(crate) fn set_physical(&mut self, lane: u32, physical: IntId) {
        if let Some(slot) = self.physical.get_mut(lane as usize) {
            *slot = (physical.get() & 0x3ff) as u16;
        }
    }
}

/// The GICD_ICFGR word of sixteen interrupts (IHI0048B 4.3.13): bit 2n+1 for each edge-triggered one.
pub(crate) const fn configuration_word(edge: u32, upper: bool) -> u32 {
    let mut word = if upper { edge >> 16 } else { edge & 0xffff };
    word = (word | (word << 8)) & 0x00ff_00ff;
    word = (word | (word << 4)) & 0x0f0f_0f0f;
    word = (word | (word << 2)) & 0x3333_3333;
    word = (word | (word << 1)) & 0x5555_5555;
    word << 1
}

/// The other way: the bit of each edge-triggered interrupt, in its half of the 32.
pub(crate) const fn edge_bits(configuration: u32, upper: bool) -> u32 {
    let mut word = (configuration >> 1) & 0x5555_5555;
    word = (word | (word >> 1)) & 0x3333_3333;
    word = (word | (word >> 2)) & 0x0f0f_0f0f;
    word = (word | (word >> 4)) & 0x00ff_00ff;
    word = (word | (word >> 8)) & 0x0000_ffff;
    if upper { word << 16 } else { word }
}
