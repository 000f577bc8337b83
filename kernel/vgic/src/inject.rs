//! Interrupts arrive: pulses, lines, hardware, SGIs.
//!
//! This is the general way: what arrives is booked and its vCPU marked, whose next entry lists it. What
//! is for the vCPU that is loaded here mostly takes the short way in `quick`.

use crate::identity::{Bits, IntId, VcpuId, Version, bit};
use crate::list::{Here, ListRegisters};
use crate::state::{Word, Work};

impl Work<'_> {
    /// The interrupt became pending: into the list register that it has here, or a mark for its
    /// owner.
    fn arrived<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        here: Option<Here<'_, L>>,
    ) {
        let word = Self::word(vcpu, intid);
        if let Word::Shared(index) = word {
            self.refresh(index);
        }
        let Some(owner) = self.owner(vcpu, intid) else {
            return;
        };
        if let Some(private) = self.private_mut(owner) {
            private.arrivals = private.arrivals.wrapping_add(1);
        }
        if let Some(here) = here
            && here.vcpu == owner
            && self.merge(owner, intid, here.lists)
        {
            return;
        }
        let forwarding = self.state.forwarding;
        let concerned = self
            .bank(word)
            .map_or(0, |bank| bank.listed | bank.signalled(forwarding));
        if concerned & intid.mask() != 0 {
            self.mark(owner);
        }
    }

    /// An edge: pending until acknowledged, however the guest configured it.
    pub(crate) fn pulse<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        here: Option<Here<'_, L>>,
    ) {
        let Some(bank) = self.bank_mut(Self::word(vcpu, intid)) else {
            return;
        };
        bank.latch |= intid.mask();
        self.arrived(vcpu, intid, here);
    }

    /// The line of a virtual interrupt is now high or low.
    pub(crate) fn set_level<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        high: bool,
        here: Option<Here<'_, L>>,
    ) {
        let word = Self::word(vcpu, intid);
        let mask = intid.mask();
        let Some(bank) = self.bank_mut(word) else {
            return;
        };
        if (bank.level & mask != 0) == high {
            return;
        }
        bank.level ^= mask;
        if high {
            if bank.edge & mask != 0 {
                bank.latch |= mask;
            }
            self.arrived(vcpu, intid, here);
            return;
        }
        let listed = bank.listed & mask != 0;
        if let Word::Shared(index) = word {
            self.refresh(index);
        }
        if listed && let Some(owner) = self.owner(vcpu, intid) {
            // A pending list register is withdrawn at the next entry: no kick for that, since the
            // guest may see one spurious interrupt on hardware just as well.
            self.mark_quietly(owner);
        }
    }

    /// A physical interrupt, priority-dropped and still active, for `vcpu`.
    pub(crate) fn hardware<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        physical: IntId,
        here: Option<Here<'_, L>>,
    ) {
        let word = Self::word(vcpu, intid);
        let Some(bank) = self.bank_mut(word) else {
            return;
        };
        let mask = intid.mask();
        bank.written |= bank.latch & !bank.hardware & mask;
        bank.latch |= mask;
        bank.hardware |= mask;
        bank.set_physical(intid.lane(), physical);
        if bank.listed & mask != 0 {
            // That it came again says that the guest ended the last one, whose list register may not
            // be folded yet: that fold is not the end of this one.
            self.unlink(vcpu, intid);
        }
        if intid.is_private() {
            if here.is_some_and(|here| here.vcpu == vcpu) {
                // Its CPU alone knows how the line is.
                self.set_loaded(vcpu, true);
            }
            if let Some(attention) = self.attention.get(vcpu.index()) {
                attention.engage();
            }
        }
        self.arrived(vcpu, intid, here);
    }

    /// The hardware interrupt that a list register is linked to has ended.
    fn unlink(&mut self, vcpu: VcpuId, intid: IntId) {
        let Some(private) = self
            .owner(vcpu, intid)
            .and_then(|owner| self.private_mut(owner))
        else {
            return;
        };
        if let Some(index) = private.find(intid)
            && let Some(slot) = private.slot(index)
        {
            private.book(index, slot.without_hardware());
        }
    }

    /// SGI `number` from `sender` to one vCPU.
    pub(crate) fn sgi<L: ListRegisters + ?Sized>(
        &mut self,
        sender: VcpuId,
        target: VcpuId,
        number: u32,
        here: Here<'_, L>,
    ) {
        let lane = number & 0xf;
        let sources = self.version.sgi_source(sender);
        if here.vcpu != target {
            if self.state.post(target, lane, sources) == Some(true) {
                self.mark(target);
            }
            return;
        }
        let Some(private) = self.private_mut(target) else {
            return;
        };
        private.bank.latch |= bit(lane);
        if let Some(pending) = private.sources.get_mut(lane as usize) {
            *pending |= sources;
        }
        self.arrived(target, IntId::from_word(0, lane), Some(here));
    }

    /// SGI `number` to a list of vCPUs: bit n of `list` is vCPU `first` + n.
    pub(crate) fn sgi_list<L: ListRegisters + ?Sized>(
        &mut self,
        sender: VcpuId,
        first: u32,
        list: u32,
        number: u32,
        here: Here<'_, L>,
    ) {
        for place in Bits(list) {
            if let Some(target) = VcpuId::new(first.wrapping_add(place)) {
                self.sgi(sender, target, number, here);
            }
        }
    }

    /// SGI `number` to every vCPU but the sender.
    pub(crate) fn sgi_others<L: ListRegisters + ?Sized>(
        &mut self,
        sender: VcpuId,
        number: u32,
        here: Here<'_, L>,
    ) {
        let count = self.state.private.len() as u32;
        for target in (0..count).filter_map(VcpuId::new) {
            if target != sender {
                self.sgi(sender, target, number, here);
            }
        }
    }

    /// The SGI source bits of a vCPU were changed by GICD_SPENDSGIR or GICD_CPENDSGIR.
    pub(crate) fn sources_changed(&mut self, vcpu: VcpuId, lane: u32, cleared: u8) {
        let Some(private) = self.private_mut(vcpu) else {
            return;
        };
        let mask = bit(lane);
        let Some(&sources) = private.sources.get(lane as usize) else {
            return;
        };
        let current = private.source.get(lane as usize).copied().unwrap_or(0);
        let bank = &mut private.bank;
        if sources == 0 {
            bank.latch &= !mask;
        } else {
            bank.latch |= mask;
        }
        if bank.listed & mask != 0 && cleared & 1_u8.wrapping_shl(u32::from(current) & 7) != 0 {
            bank.drop_pending |= mask;
        }
        self.touch(Word::Private(vcpu), mask);
    }
}

impl Version {
    /// What is kept of who sends an SGI: a bit on GICv2, nothing on GICv3.
    pub(crate) const fn sgi_source(self, sender: VcpuId) -> u8 {
        match self {
            Self::V2 => source_of(sender),
            Self::V3 => 0,
        }
    }
}

/// The bit of a GICv2 sender.
pub(crate) const fn source_of(vcpu: VcpuId) -> u8 {
    1_u8.wrapping_shl(vcpu.get() & 7)
}
