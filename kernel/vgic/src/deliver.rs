//! The short way: an interrupt for the vCPU that is loaded on the CPU that executes goes straight into
//! a free list register, or into the one that it has. Also what a look at the live list registers says
//! of a vCPU that wants to wait.

use crate::identity::{Bits, IntId, VcpuId, Version, bit};
use crate::list::{ListRegisters, Maintenance, Occupancy, with_pending};
use crate::state::{Word, Work};
use crate::transfer::available;

impl Work<'_> {
    /// Puts an interrupt that became pending straight into a list register of the CPU that executes,
    /// on which its owner `vcpu` is loaded. `false` if that takes a whole fold and fill.
    pub(crate) fn deliver<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        lists: &L,
    ) -> bool {
        let mask = intid.mask();
        let forwarding = self.state.forwarding;
        let word = Self::word(vcpu, intid);
        let Some(private) = self.private(vcpu) else {
            return false;
        };
        // More waits than fits: who goes first is for the fill to say.
        if private.maintenance != Maintenance::NONE {
            return false;
        }
        let Some(bank) = self.bank(word) else {
            return false;
        };
        let mut held = None;
        if bank.listed & mask != 0 {
            let Some(slot) = self.slot_of(vcpu, intid) else {
                return false;
            };
            let raw = lists.read(slot as usize);
            let occupancy = Occupancy::of(raw, self.version);
            if occupancy.pending || occupancy.active {
                return self.merge(vcpu, intid, slot, raw, lists);
            }
            self.fold(vcpu, slot, occupancy, lists);
            held = Some(slot);
        }
        let Some(bank) = self.bank(word) else {
            return false;
        };
        let ready = bank.signalled(forwarding) & mask != 0;
        let active = bank.active & mask != 0;
        let slot = match held {
            // Its last stay is over; it goes into the same place, whose end notice is over with that.
            Some(slot) if ready && !active => slot,
            Some(slot) => {
                lists.write(slot as usize, 0);
                return !ready;
            }
            None if active => return false,
            // Disabled: it waits in the bank, and there is nothing to do until it is enabled.
            None if !ready => return true,
            None => {
                let free = lists.empty() & available(lists);
                if free == 0 {
                    return false;
                }
                let slot = free.trailing_zeros();
                let used = self.private(vcpu).map_or(0, |private| private.used);
                if used & bit(slot) != 0 {
                    self.fold(vcpu, slot, Occupancy::EMPTY, lists);
                }
                slot
            }
        };
        let Some(list) = self.compose(vcpu, intid, slot) else {
            return false;
        };
        lists.write(slot as usize, list.encode(self.version));
        true
    }

    /// Adds the pending state to a list register that holds the interrupt already.
    fn merge<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        slot: u32,
        raw: u64,
        lists: &L,
    ) -> bool {
        // An SGI of GICv2 has its source to be compared, a level its end notice: rare enough for the
        // long way.
        if self.version == Version::V2 && intid.is_sgi() {
            return false;
        }
        let word = Self::word(vcpu, intid);
        if let Word::Shared(index) = word
            && self
                .state
                .shared
                .get(index)
                .and_then(|shared| shared.target(intid.lane()))
                != Some(vcpu)
        {
            return false;
        }
        let mask = intid.mask();
        let forwarding = self.state.forwarding;
        let Some(bank) = self.bank_mut(word) else {
            return false;
        };
        let involved = bank.hardware | bank.listed_hardware | bank.high() | bank.drop_pending;
        if (involved | bank.drop_active) & mask != 0 || bank.signalled(forwarding) & mask == 0 {
            return false;
        }
        bank.latch &= !mask;
        bank.listed_latch |= mask;
        lists.write(slot as usize, with_pending(raw, self.version));
        true
    }

    /// Whether a list register of `vcpu`, loaded here, signals an interrupt, or ended one that is
    /// pending again.
    pub(crate) fn signals<L: ListRegisters + ?Sized>(&self, vcpu: VcpuId, lists: &L) -> bool {
        let Some(private) = self.private(vcpu) else {
            return false;
        };
        Bits(private.used).any(|slot| {
            let occupancy = Occupancy::of(lists.read(slot as usize), self.version);
            if occupancy.active {
                return false;
            }
            let intid = private.slots.get(slot as usize);
            occupancy.pending
                || intid
                    .and_then(|&number| IntId::new(u32::from(number)))
                    .and_then(|intid| Some((intid, self.bank(Self::word(vcpu, intid))?)))
                    .is_some_and(|(intid, bank)| {
                        bank.signalled(self.state.forwarding) & intid.mask() != 0
                    })
        })
    }

    /// The list register that holds an interrupt of `vcpu`.
    fn slot_of(&self, vcpu: VcpuId, intid: IntId) -> Option<u32> {
        let private = self.private(vcpu)?;
        Bits(private.used).find(|&slot| {
            private
                .slots
                .get(slot as usize)
                .map(|&number| u32::from(number))
                == Some(intid.get())
        })
    }
}
