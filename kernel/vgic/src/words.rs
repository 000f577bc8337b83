//! The registers that come once for every 32 interrupts, in GICD and, at the same offsets, in the
//! SGI frame of a redistributor: group, enable, pending, active, priority, configuration.
//!
//! GICD_* of GICv2: IHI0048B 4.3.4 to 4.3.13. Of GICv3: IHI0069 12.9; GICR_*: 12.11.

use crate::access::AccessError;
use crate::bank::{configuration_word, edge_bits};
use crate::identity::{Bits, IntId, VcpuId, Version, bit};
use crate::list::{Here, ListRegisters, Occupancy};
use crate::registers::Width;
use crate::state::{SGIS, Word, Work};

/// Offset of the first ISENABLER; the ICENABLERs follow at once.
pub(crate) const SET_ENABLE: u32 = 0x100;

/// The kind of register at an offset below 0xd00, by bits 11:7. Each kind of one bit an interrupt
/// has 0x80 bytes.
mod kind {
    pub(super) const GROUP: u32 = 0x080 >> 7;
    pub(super) const SET_ENABLE: u32 = super::SET_ENABLE >> 7;
    pub(super) const CLEAR_ENABLE: u32 = 0x180 >> 7;
    pub(super) const SET_PENDING: u32 = 0x200 >> 7;
    pub(super) const CLEAR_PENDING: u32 = 0x280 >> 7;
    pub(super) const SET_ACTIVE: u32 = 0x300 >> 7;
    pub(super) const CLEAR_ACTIVE: u32 = 0x380 >> 7;
    pub(super) const PRIORITY: u32 = 0x400 >> 7;
    pub(super) const PRIORITY_LAST: u32 = 0x7ff >> 7;
    pub(super) const CONFIGURATION: u32 = 0xc00 >> 7;
    pub(super) const CONFIGURATION_LAST: u32 = 0xcff >> 7;
}

/// Which word of 32 interrupts the register at this offset (below 0xd00) is about.
pub(crate) const fn number(offset: u32) -> u32 {
    match offset {
        0..0x400 => (offset & 0x7f) >> 2,
        0x400..0xc00 => (offset & 0x3ff) >> 5,
        _ => (offset & 0xff) >> 3,
    }
}

/// The 32 interrupts that the register at an offset (below 0xd00) of the distributor is about, as seen
/// by a vCPU. On GICv3 SGIs and PPIs are in the redistributors, and their registers here are reserved.
#[inline]
pub(crate) const fn distributor_word(version: Version, vcpu: VcpuId, offset: u32) -> Option<Word> {
    match (number(offset), version) {
        (0, Version::V2) => Some(Word::Private(vcpu)),
        (0, Version::V3) => None,
        (number, _) => Some(Word::Shared(number.wrapping_sub(1) as usize)),
    }
}

/// The enable bits that can be written: on GICv2 SGIs are always enabled (IHI0048B 4.3.5).
#[inline]
pub(crate) const fn writable_enables(version: Version, word: Word) -> u32 {
    match (version, word) {
        (Version::V2, Word::Private(_)) => !SGIS,
        _ => existing(word),
    }
}

/// Interrupts 1020 to 1023 do not exist.
const fn existing(word: Word) -> u32 {
    match word {
        Word::Shared(30) => 0x0fff_ffff,
        _ => u32::MAX,
    }
}

/// Whether the register at this offset shows what list registers hold.
pub(crate) const fn is_state(offset: u32) -> bool {
    matches!(offset >> 7, kind::SET_PENDING..=kind::CLEAR_ACTIVE)
}

/// Reads such a register.
pub(crate) fn read<L: ListRegisters + ?Sized>(
    work: &Work<'_>,
    here: Here<'_, L>,
    word: Word,
    offset: u32,
    width: Width,
) -> Result<u64, AccessError> {
    let kind = offset >> 7;
    let Some(bank) = work.bank(word) else {
        return Ok(0);
    };
    if let kind::PRIORITY..=kind::PRIORITY_LAST = kind {
        if width == Width::Doubleword {
            return Err(AccessError::Width);
        }
        return Ok(width.extract(bank.priority_word(offset & 0x1c), offset));
    }
    if width != Width::Word {
        return Err(AccessError::Width);
    }
    let value = match kind {
        // All of ours are in group 1 on GICv3; a GICv2 without groups reads as zero.
        kind::GROUP if work.version == Version::V3 => existing(word),
        kind::SET_ENABLE | kind::CLEAR_ENABLE => bank.enabled,
        kind::SET_PENDING | kind::CLEAR_PENDING => work.look(here, word).pending,
        kind::SET_ACTIVE | kind::CLEAR_ACTIVE => work.look(here, word).active,
        kind::CONFIGURATION..=kind::CONFIGURATION_LAST => {
            configuration_word(bank.edge, offset & 4 != 0)
        }
        _ => 0,
    };
    Ok(u64::from(value))
}

/// Writes such a register.
pub(crate) fn write<L: ListRegisters + ?Sized>(
    work: &mut Work<'_>,
    here: Here<'_, L>,
    word: Word,
    offset: u32,
    width: Width,
    value: u64,
) -> Result<(), AccessError> {
    let kind = offset >> 7;
    if let kind::PRIORITY..=kind::PRIORITY_LAST = kind {
        return write_priority(work, word, offset, width, value);
    }
    if width != Width::Word {
        return Err(AccessError::Width);
    }
    let version = work.version;
    let value = value as u32;
    let lanes = value & existing(word);
    // On GICv2 SGIs are always enabled and their pending bits are read-only (IHI0048B 4.3.5 to 4.3.8).
    let lanes_but_sgis = match word {
        Word::Private(_) if version == Version::V2 => lanes & !SGIS,
        _ => lanes,
    };
    let Some(bank) = work.bank_mut(word) else {
        return Ok(());
    };
    let concerned = match kind {
        kind::SET_ENABLE => {
            let changed = lanes_but_sgis & !bank.enabled;
            bank.enabled |= changed;
            changed & (bank.pending() | bank.listed)
        }
        kind::CLEAR_ENABLE => {
            let changed = lanes_but_sgis & bank.enabled;
            bank.enabled &= !changed;
            changed & bank.listed
        }
        kind::SET_PENDING => {
            bank.latch |= lanes_but_sgis;
            bank.written |= lanes_but_sgis & bank.hardware;
            lanes_but_sgis & (bank.enabled | bank.listed)
        }
        kind::CLEAR_PENDING => {
            bank.latch &= !lanes_but_sgis;
            bank.written &= !lanes_but_sgis;
            bank.drop_pending |= lanes_but_sgis & bank.listed;
            lanes_but_sgis & (bank.listed | bank.hardware)
        }
        kind::SET_ACTIVE => {
            let fresh = lanes & !bank.active;
            if let Word::Shared(index) = word {
                work.settle_home(index, fresh);
            }
            if let Some(bank) = work.bank_mut(word) {
                bank.active |= fresh;
            }
            fresh
        }
        kind::CLEAR_ACTIVE => {
            let active = lanes & (bank.active | bank.listed);
            bank.active &= !lanes;
            bank.drop_active |= lanes & bank.listed;
            active
        }
        kind::CONFIGURATION..=kind::CONFIGURATION_LAST => match word {
            Word::Private(_) => 0,
            Word::Shared(_) => {
                let upper = offset & 4 != 0;
                let half = if upper { 0xffff_0000 } else { 0x0000_ffff };
                let edge = (bank.edge & !half) | edge_bits(value, upper);
                let changed = (edge ^ bank.edge) & existing(word);
                bank.edge ^= changed;
                changed & bank.level
            }
        },
        _ => 0,
    };
    work.touch(word, concerned);
    if matches!(kind, kind::CLEAR_PENDING | kind::CLEAR_ACTIVE) {
        work.release_shared(word, here.lists);
    }
    if let Word::Shared(index) = word {
        work.refresh(index);
    }
    Ok(())
}

fn write_priority(
    work: &mut Work<'_>,
    word: Word,
    offset: u32,
    width: Width,
    value: u64,
) -> Result<(), AccessError> {
    if width == Width::Doubleword {
        return Err(AccessError::Width);
    }
    let Some(bank) = work.bank_mut(word) else {
        return Ok(());
    };
    let lane = offset & 0x1c;
    let priorities = width.insert(bank.priority_word(lane), offset, value);
    let changed = bank.set_priority_word(lane, priorities);
    let concerned = changed & (bank.pending() & bank.enabled | bank.active | bank.listed);
    work.touch(word, concerned);
    Ok(())
}

/// Pending and active states as a register read shows them.
pub(crate) struct Look {
    pub(crate) pending: u32,
    pub(crate) active: u32,
}

impl Work<'_> {
    /// The states of some 32 interrupts: those in the list registers here are read from there, and
    /// the pending state of a hardware interrupt from its line.
    pub(crate) fn look<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, word: Word) -> Look {
        let Some(bank) = self.bank(word) else {
            return Look {
                pending: 0,
                active: 0,
            };
        };
        // A line that EL2 has no part in speaks for itself.
        let by_line = match word {
            Word::Private(_) => bank.hardware & !bank.written,
            Word::Shared(_) => 0,
        };
        let mut look = Look {
            pending: bank.pending() & !by_line,
            active: bank.active,
        };
        for lane in Bits(bank.listed) {
            let mask = bit(lane);
            let Some((pending, active)) = self.listed_state(here, word, lane) else {
                continue;
            };
            if pending && bank.drop_pending & mask == 0 {
                look.pending |= mask;
            }
            if active && bank.drop_active & mask == 0 {
                look.active |= mask;
            }
        }
        if let Word::Private(vcpu) = word {
            let high = if vcpu == here.vcpu {
                Bits(bank.hardware)
                    .filter(|&lane| {
                        let physical = bank.physical(lane);
                        physical.is_some_and(|physical| here.lists.is_asserted(physical))
                    })
                    .fold(0, |high, lane| high | bit(lane))
            } else {
                self.private(vcpu).map_or(0, |private| private.asserted)
            };
            look.pending |= high & bank.hardware;
        }
        look
    }

    /// Whether an interrupt is pending from a latch, and whether it is active, by its list register:
    /// as that stands, if it is one of the vCPU here; else as it was filled after its vCPU was asked.
    fn listed_state<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        word: Word,
        lane: u32,
    ) -> Option<(bool, bool)> {
        let (home, intid) = match word {
            Word::Private(vcpu) => (vcpu, IntId::from_word(0, lane)),
            Word::Shared(index) => (
                self.state.shared.get(index)?.owner(lane)?,
                IntId::from_word((index as u32).wrapping_add(1), lane),
            ),
        };
        let private = self.private(home)?;
        let index = private.find(intid)?;
        let slot = private.slot(index)?;
        if home == here.vcpu {
            let occupancy = Occupancy::of(here.lists.read(index as usize), self.version);
            Some((occupancy.pending && slot.shows_latch(), occupancy.active))
        } else {
            Some((slot.shows_latch(), slot.active()))
        }
    }

    /// The pending sources of a GICv2 SGI of the vCPU here, with the one that its list register
    /// shows as pending.
    pub(crate) fn pending_sources<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        lane: u32,
    ) -> u8 {
        let Some(private) = self.private(here.vcpu) else {
            return 0;
        };
        let waiting = private.sources.get(lane as usize).copied().unwrap_or(0);
        let listed = private
            .find(IntId::from_word(0, lane))
            .filter(|_| private.bank.drop_pending & bit(lane) == 0)
            .map(|index| Occupancy::of(here.lists.read(index as usize), self.version))
            .filter(|occupancy| occupancy.pending)
            .map_or(0, |occupancy| {
                1_u8.wrapping_shl(u32::from(occupancy.source))
            });
        waiting | listed
    }

    /// SPIs that are about to become active by a register write are so on the vCPU they go to.
    fn settle_home(&mut self, index: usize, lanes: u32) {
        let Some(shared) = self.shared_mut(index) else {
            return;
        };
        for lane in Bits(lanes & !shared.bank.listed) {
            let target = shared.target(lane).unwrap_or(VcpuId::BOOT);
            shared.set_home(lane, target);
        }
    }

    /// Deactivates hardware SPIs that nothing waits for any more. Private ones are for the CPU of
    /// their vCPU to deactivate, at its next entry.
    fn release_shared<L: ListRegisters + ?Sized>(&mut self, word: Word, lists: &L) {
        let Word::Shared(index) = word else {
            return;
        };
        let Some(shared) = self.shared_mut(index) else {
            return;
        };
        let bank = &mut shared.bank;
        for lane in Bits(bank.hardware & !bank.listed & !bank.active & !bank.latch) {
            bank.hardware &= !bit(lane);
            if let Some(physical) = bank.physical(lane) {
                lists.deactivate(physical);
            }
        }
    }
}
