//! Data cache maintenance by set and way, as a job in steps.
//!
//! `DC ISW`, `CSW` and `CISW` act on one CPU's caches, and a vCPU may be on another before its loop is
//! through (Arm DDI 0487, D7.5.8). So they trap, and all RAM of the guest is cleaned and invalidated by
//! address instead, to the point of coherency.
//!
//! Kernels come here in loops over all sets and ways. The first instruction of a loop does the work, the
//! others nothing: a pass begins when the instruction that did the last work is met again. Since what the
//! guest writes during its loop has to be out before its caches go off, a vCPU that began a pass is watched
//! (`HCR_EL2.TVM`): turning MMU or data cache off, or both on, does the work once more; when they are on it
//! is watched no longer. So a loop costs one turn over the RAM, however many sets and ways it has.
//!
//! A turn goes on each time the guest executes the trapped instruction again, [`STEP`] bytes at a time;
//! between the steps interrupts and other vCPUs have their turn.

use memory::{CHUNK_SIZE, Pa, PaRange};

/// Bytes of a step: at most 4,096 lines of 16 bytes; 1,024 of the usual 64.
pub const STEP: u64 = 64 << 10;

/// MMU and data cache on (`SCTLR_EL1.M` and `C`).
const CACHES: u64 = 1 | 1 << 2;

/// Whether a guest with this `SCTLR_EL1` has its data cache on.
#[must_use]
pub const fn caches_on(sctlr: u64) -> bool {
    sctlr & CACHES == CACHES
}

/// The maintenance of one vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetWay {
    /// Chunk of RAM and offset in it of the next step, while a turn is under way.
    at: Option<(usize, u64)>,
    /// The set, way and level that the last turn was for, while the vCPU is watched.
    first: Option<u64>,
}

impl SetWay {
    /// The guest executes an instruction for this set, way and level: whether there is work, to be done by
    /// [`step`](Self::step) and followed by [`watch`](Self::watch).
    #[must_use]
    pub fn maintenance(&mut self, operand: u64) -> bool {
        if self.at.is_none() && self.first.is_none_or(|first| first == operand) {
            self.at = Some((0, 0));
        }
        self.at.is_some()
    }

    /// The guest writes `SCTLR_EL1`: whether there is work. When caches go off it is to be done after the
    /// write, when they come on before it.
    #[must_use]
    pub fn switch(&mut self, before: u64, after: u64) -> bool {
        if self.at.is_none() && caches_on(before) != caches_on(after) {
            self.at = Some((0, 0));
        }
        self.at.is_some()
    }

    /// What is to be cleaned and invalidated next; `None` when the turn is complete. The RAM lies in chunks of
    /// [`CHUNK_SIZE`], and `chunk_from` finds the first in this slot or a later one.
    pub fn step(
        &mut self,
        chunk_from: impl FnOnce(usize) -> Option<(usize, Pa)>,
    ) -> Option<PaRange> {
        let (slot, offset) = self.at.take()?;
        let (found, start) = chunk_from(slot)?;
        let offset = if found == slot { offset } else { 0 };
        let next = PaRange::new(start.checked_add(offset)?, STEP)?;
        let end = offset.saturating_add(STEP);
        self.at = Some(if end < CHUNK_SIZE {
            (found, end)
        } else {
            (found.saturating_add(1), 0)
        });
        Some(next)
    }

    /// The turn for this set, way and level is complete: writes of `SCTLR_EL1` are to trap.
    pub fn watch(&mut self, operand: u64) {
        self.first = Some(operand);
    }

    /// A trapped write of a register of stage 1 is done, and this is `SCTLR_EL1` now: whether such writes
    /// need not trap any more.
    #[must_use]
    pub fn is_over(&mut self, sctlr: u64) -> bool {
        let over = caches_on(sctlr);
        if over {
            self.first = None;
        }
        over
    }
}

#[cfg(test)]
#[path = "set_way_tests.rs"]
mod tests;
