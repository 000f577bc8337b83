//! The shortest ways, for what guests do most: an SGI to oneself, a timer tick, an event upcall, an
//! enable. Each is taken only where nothing else is going on; the general code behind it gives the
//! same result, and the model test does not know which one was taken.

use crate::primitives::Ordering;

use crate::identity::{IntId, VcpuId, Version, bit};
use crate::list::{Link, ListRegister, ListRegisters, Maintenance, Occupancy, with_pending};
use crate::slot::Slot;
use crate::state::{Private, State, Word, Work};

/// A private interrupt that becomes pending for the vCPU that is loaded here.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) vcpu: VcpuId,
    pub(crate) intid: IntId,
    pub(crate) link: Link,
    /// The vCPU's list registers wait for its next entry.
    pub(crate) dirty: bool,
}

impl State {
    /// Puts it into the list register that it had last, or else the first that is empty. `false`,
    /// with nothing booked, if it is pending or active already, disabled, or without room.
    #[inline(always)]
    pub(crate) fn deliver<L: ListRegisters + ?Sized>(
        &mut self,
        version: Version,
        arrival: Arrival,
        lists: &L,
    ) -> bool {
        let Arrival {
            vcpu, intid, link, ..
        } = arrival;
        let Some(private) = self.private.get_mut(vcpu.index()) else {
            return false;
        };
        // More waits than fits: who goes first is for the fill to say.
        if private.maintenance != Maintenance::NONE {
            return false;
        }
        let lane = intid.lane();
        let mask = bit(lane);
        let empty = lists.empty();
        let slot = Slot::new(intid, true, false, matches!(link, Link::Hardware(_)));
        let index = private.place(lane);
        let again = private.bank.listed & mask != 0 && empty & bit(index) != 0;
        // Ended since it was put there. Whatever may have changed meanwhile would have made the vCPU
        // dirty: so it goes there once more, and the books stay as they are.
        let index = if again && !arrival.dirty && private.slot(index) == Some(slot) {
            index
        } else {
            let index = if again {
                index
            } else {
                let unused = empty & !private.used;
                (if unused != 0 { unused } else { empty }).trailing_zeros()
            };
            if !self.forwarding || !private.make_room(index, empty, mask) {
                return false;
            }
            private.bank.listed |= mask;
            private.book(index, slot);
            if let Link::Hardware(physical) = link {
                private.bank.hardware |= mask;
                private.bank.set_physical(lane, physical);
            }
            index
        };
        if let Link::Software { source, .. } = link
            && let Some(current) = private.source.get_mut(lane as usize)
        {
            *current = source;
        }
        let list = ListRegister {
            intid,
            priority: private.bank.priority(lane),
            pending: true,
            active: false,
            link,
        };
        private.arrivals = private.arrivals.wrapping_add(1);
        lists.write(index as usize, list.encode(version));
        true
    }

    /// Sets or clears enable bits, if that changes nothing that is pending or listed.
    #[inline(always)]
    pub(crate) fn enable(&mut self, word: Word, lanes: u32, enable: bool) -> bool {
        let bank = match word {
            Word::Private(vcpu) => self
                .private
                .get_mut(vcpu.index())
                .map(|private| &mut private.bank),
            Word::Shared(index) => self.shared.get_mut(index).map(|shared| &mut shared.bank),
        };
        let Some(bank) = bank else {
            return true;
        };
        let enabled = if enable {
            bank.enabled | lanes
        } else {
            bank.enabled & !lanes
        };
        if (bank.enabled ^ enabled) & (bank.pending() | bank.listed) != 0 {
            return false;
        }
        bank.enabled = enabled;
        true
    }

    /// The enable bits of some 32 interrupts.
    #[inline]
    pub(crate) fn enabled(&self, word: Word) -> u32 {
        match word {
            Word::Private(vcpu) => self.private.get(vcpu.index()).map(|private| &private.bank),
            Word::Shared(index) => self.shared.get(index).map(|shared| &shared.bank),
        }
        .map_or(0, |bank| bank.enabled)
    }
}

impl Private {
    /// Makes a list register that the hardware calls empty free for a private interrupt that can be
    /// signalled at once; what it held has ended without a notice. `false` if either is not so.
    #[inline(always)]
    fn make_room(&mut self, index: u32, empty: u32, mask: u32) -> bool {
        if empty & bit(index) == 0 {
            return false;
        }
        if self.used & bit(index) != 0 {
            let Some(slot) = self.slot(index) else {
                return false;
            };
            let old = slot.intid();
            let bank = &mut self.bank;
            if !old.is_private() || (bank.drop_pending | bank.drop_active) & old.mask() != 0 {
                return false;
            }
            self.used &= !bit(index);
            bank.listed &= !old.mask();
            if slot.hardware() {
                bank.hardware &= !old.mask();
            }
        }
        let bank = &self.bank;
        let involved = bank.listed | bank.latch | bank.high() | bank.active | bank.hardware;
        (involved | !bank.enabled) & mask == 0
    }
}

impl Work<'_> {
    /// Whether the list registers of a vCPU hold nothing, and nothing wants in: there is nothing to
    /// enter, save or restore, and its attention word says so from now on.
    #[inline]
    pub(crate) fn is_quiet(&self, vcpu: VcpuId) -> bool {
        let quiet = self.private(vcpu).is_none_or(|private| {
            let bank = &private.bank;
            let wanting = bank.wanting(self.state.forwarding) | bank.hardware;
            let nothing = private.used | wanting | self.state.busy == 0;
            nothing && private.maintenance == Maintenance::NONE
        });
        if let (true, Some(flags)) = (quiet, self.attention.get(vcpu.index())) {
            flags.store(0, Ordering::Relaxed);
        }
        quiet
    }

    /// Adds the pending state to the list register, of a CPU on which `vcpu` is loaded, that holds the
    /// interrupt already. `false` if that takes a whole fold and fill.
    pub(crate) fn merge<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        lists: &L,
    ) -> bool {
        // An SGI of GICv2 has its source to be compared, a level its end notice: rare enough for the
        // long way.
        if self.version == Version::V2 && intid.is_sgi() {
            return false;
        }
        let version = self.version;
        let mask = intid.mask();
        let forwarding = self.state.forwarding;
        let word = Self::word(vcpu, intid);
        if let Word::Shared(index) = word {
            let shared = self.state.shared.get(index);
            if shared.and_then(|shared| shared.target(intid.lane())) != Some(vcpu) {
                return false;
            }
        }
        let Some(bank) = self.bank(word) else {
            return false;
        };
        let involved = bank.hardware | bank.high() | bank.drop_pending | bank.drop_active;
        let plain = !involved & bank.listed & bank.signalled(forwarding);
        let Some(private) = self.private_mut(vcpu).filter(|_| plain & mask != 0) else {
            return false;
        };
        let Some((index, slot)) = private
            .find(intid)
            .and_then(|index| Some((index, private.slot(index)?)))
        else {
            return false;
        };
        let raw = lists.read(index as usize);
        let occupancy = Occupancy::of(raw, version);
        if slot.hardware() || !occupancy.pending && !occupancy.active {
            return false;
        }
        private.book(index, slot.with_latch());
        lists.write(index as usize, with_pending(raw, version));
        if let Some(bank) = self.bank_mut(word) {
            bank.latch &= !mask;
        }
        true
    }
}
