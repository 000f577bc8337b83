//! The shortest ways, for what guests do most: an SGI to oneself, a timer tick, an event upcall, an
//! enable. Each is taken only where nothing else is going on; the general code behind it gives the
//! same result, and the model test does not know which one was taken.

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

/// What became of an SGI to one other vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Sent {
    /// It was another request, or to the sender: nothing was done.
    NotDone,
    /// It is pending there, and nobody is to be told.
    Done,
    /// This vCPU is to be kicked, as those of a [`Notify`](crate::Notify).
    Kick(VcpuId),
}

impl State {
    /// An SGI becomes pending for a vCPU that is not the one here, whose next entry or restore lists it. Whether it
    /// is to be kicked for that; `None` if there is no such vCPU. `sources` are the GICv2 bits of who sends it.
    #[inline(always)]
    pub(crate) fn post(&mut self, target: VcpuId, lane: u32, sources: u8) -> Option<bool> {
        let forwarding = self.forwarding;
        let private = self.private.get_mut(target.index())?;
        let bank = &mut private.bank;
        bank.latch |= bit(lane);
        if sources != 0
            && let Some(pending) = private.sources.get_mut(lane as usize)
        {
            *pending |= sources;
        }
        private.arrivals = private.arrivals.wrapping_add(1);
        Some((bank.listed | bank.signalled(forwarding)) & bit(lane) != 0)
    }

    /// Fills the empty list registers of a vCPU that comes here with the one private interrupt that wants in, if there
    /// is one, and nothing else of it is pending, active or linked. `false`, and nothing done, otherwise.
    #[inline(always)]
    pub(crate) fn list_only<L: ListRegisters + ?Sized>(
        &mut self,
        version: Version,
        vcpu: VcpuId,
        lists: &L,
    ) -> bool {
        let (busy, forwarding) = (self.busy, self.forwarding);
        let Some(private) = self.private.get_mut(vcpu.index()) else {
            return false;
        };
        let bank = &mut private.bank;
        let others = bank.level | bank.active | bank.hardware | bank.listed | private.used | busy;
        let mask = bank.signalled(forwarding);
        if others != 0 || !mask.is_power_of_two() || private.maintenance != Maintenance::NONE {
            return false;
        }
        let intid = IntId::from_word(0, mask.trailing_zeros());
        let lane = intid.lane() as usize;
        let mut source = 0;
        if version == Version::V2 && intid.is_sgi() {
            let (Some(pending), Some(current)) =
                (private.sources.get_mut(lane), private.source.get_mut(lane))
            else {
                return false;
            };
            // One list register shows one source.
            if !pending.is_power_of_two() {
                return false;
            }
            source = pending.trailing_zeros() as u8;
            *pending = 0;
            *current = source;
        }
        bank.latch &= !mask;
        bank.listed |= mask;
        let list = ListRegister {
            intid,
            priority: bank.priority(intid.lane()),
            pending: true,
            active: false,
            link: Link::Software {
                source,
                end_notice: false,
            },
        };
        private.book(0, Slot::new(intid, true, false, false));
        lists.write(0, list.encode(version));
        true
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
        if let (true, Some(attention)) = (quiet, self.attention.get(vcpu.index())) {
            attention.rest();
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
