//! Data cache maintenance by set and way, as a job in steps.
//!
//! `DC ISW`, `CSW` and `CISW` act on one CPU's caches, and a vCPU may be on another before its loop is
//! through (Arm DDI 0487, D7.5.8). So they trap, and all RAM of the guest is cleaned and invalidated by
//! address instead, to the point of coherency.
//!
//! Kernels come here in loops over all sets and ways. The first instruction of a loop does the work, the
//! others nothing. A loop goes through levels, ways and sets in some order, up or down, each in its turn ([`Orders`]):
//! an instruction that does not go on in any of them begins another loop. Since what the
//! guest writes during its loop has to be out before its caches go off, a vCPU that began a pass is watched
//! (`HCR_EL2.TVM`): turning MMU or data cache off, or both on, does the work once more; when they are on it
//! is watched no longer. So a loop costs one turn over the RAM, however many sets and ways it has.
//!
//! A turn goes on each time the guest executes the trapped instruction again, [`STEP`] bytes at a time;
//! between the steps interrupts and other vCPUs have their turn.

use core::cmp::Ordering;

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
    /// The set, way and level of the last instruction, and the orders that the loop since the last turn may have, while
    /// the vCPU is watched.
    last: Option<(u64, Orders)>,
}

/// The orders that a loop over levels, ways and sets may have: a bit for each. The level is outermost, as caches are
/// cleaned one after the other; ways are outside sets or the other way round; each goes up or down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Orders(u16);

impl Orders {
    const ALL: Self = Self(u16::MAX);

    /// Those in which `next` comes behind `last`; operands as DC CISW has them (Arm DDI 0487, C5.3: way in the upper
    /// bits, set in the middle, level in bits 3 to 1). How many bits a way has depends on the cache; what is told apart
    /// by bits 31 to 24 is ways of any cache with up to 256 of them, and of up to 262,144 sets with lines of 64 bytes.
    fn between(last: u64, next: u64) -> Self {
        const LEVEL: u64 = 0xe;
        let parts = |operand: u64| {
            let (way, set) = (operand >> 24 & 0xff, operand >> 4 & 0xf_ffff);
            (operand & LEVEL, way, set)
        };
        let ((level, way, set), (next_level, next_way, next_set)) = (parts(last), parts(next));
        let levels = next_level.cmp(&level);
        let ways = next_way.cmp(&way);
        let sets = next_set.cmp(&set);
        let mut orders = 0;
        for order in 0..16_u16 {
            let turned = |part: Ordering, bit: u16| {
                if order & bit == 0 {
                    part
                } else {
                    part.reverse()
                }
            };
            let (outer, inner) = if order & 8 == 0 {
                (turned(ways, 2), turned(sets, 4))
            } else {
                (turned(sets, 4), turned(ways, 2))
            };
            if turned(levels, 1).then(outer).then(inner) == Ordering::Greater {
                orders |= 1_u16.wrapping_shl(u32::from(order));
            }
        }
        Self(orders)
    }
}

impl SetWay {
    /// The guest executes an instruction for this set, way and level: whether there is work, to be done by
    /// [`step`](Self::step) and followed by [`watch`](Self::watch).
    #[must_use]
    pub fn maintenance(&mut self, operand: u64) -> bool {
        if self.at.is_some() {
            return true;
        }
        let goes_on = self.last.is_some_and(|(last, orders)| {
            let orders = Orders(orders.0 & Orders::between(last, operand).0);
            self.last = Some((operand, orders));
            orders.0 != 0
        });
        if !goes_on {
            self.at = Some((0, 0));
        }
        !goes_on
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
        self.last = Some((operand, Orders::ALL));
    }

    /// A trapped write of a register of stage 1 is done, and this is `SCTLR_EL1` now: whether such writes
    /// need not trap any more.
    #[must_use]
    pub fn is_over(&mut self, sctlr: u64) -> bool {
        let over = caches_on(sctlr);
        if over {
            self.last = None;
        }
        over
    }
}

#[cfg(test)]
#[path = "set_way_tests.rs"]
mod tests;
