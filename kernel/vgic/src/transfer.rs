//! Between the banks and the list registers: fold (list register to bank), compose (bank to list
//! register), and what a vCPU's entry, save and restore are made of.
//!
//! Only the CPU on which a vCPU is loaded folds and composes for it.

use crate::primitives::Ordering;

use crate::attention::linked;
use crate::fill::{Candidate, Choice};
use crate::identity::{Bits, IntId, VcpuId, Version, bit};
use crate::list::{Link, ListRegister, ListRegisters, MAX_LISTS, Maintenance, Occupancy};
use crate::slot::Slot;
use crate::state::{Word, Work};

impl Work<'_> {
    /// Takes all list registers of `vcpu` into the banks. They are not emptied.
    pub(crate) fn fold_all<L: ListRegisters + ?Sized>(&mut self, vcpu: VcpuId, lists: &L) {
        let Some(private) = self.private_mut(vcpu) else {
            return;
        };
        let used = private.used;
        if private.maintenance.contains(Maintenance::UNLISTED_END) {
            for _ in 0..(lists.take_end_count() & 31) {
                self.end_unlisted(vcpu, lists);
            }
        }
        for slot in Bits(used) {
            let occupancy = Occupancy::of(lists.read(slot as usize), self.version);
            self.fold(vcpu, slot, occupancy, lists);
        }
        if let Some(private) = self.private_mut(vcpu) {
            private.asserted = 0;
            for lane in Bits(private.bank.hardware) {
                let line = private.bank.physical(lane);
                if line.is_some_and(|physical| lists.is_asserted(physical)) {
                    private.asserted |= bit(lane);
                }
            }
        }
    }

    /// Takes one list register's word for its interrupt.
    pub(crate) fn fold<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        index: u32,
        occupancy: Occupancy,
        lists: &L,
    ) {
        let version = self.version;
        let forwarding = self.state.forwarding;
        let Some(private) = self.private_mut(vcpu) else {
            return;
        };
        private.used &= !bit(index);
        let Some(slot) = private.slot(index) else {
            return;
        };
        let intid = slot.intid();
        let (lane, mask) = (intid.lane(), intid.mask());
        let word = Self::word(vcpu, intid);
        let Some(bank) = self.bank_mut(word) else {
            return;
        };
        let pending = occupancy.pending && bank.drop_pending & mask == 0;
        let active = occupancy.active && bank.drop_active & mask == 0;
        if pending && slot.latch() {
            bank.latch |= mask;
            // Hardware came since this became pending by itself, or the two were together.
            if bank.hardware & mask != 0 && (slot.written() || !slot.hardware()) {
                bank.written |= mask;
            }
        }
        if active {
            bank.active |= mask;
        }
        if bank.hardware & mask != 0
            && !pending
            && !active
            && (slot.hardware() || bank.latch & mask == 0)
        {
            // Ended by the guest, which deactivated the physical one too; or dropped by a register
            // write, or not linked, then it is for us to do.
            bank.hardware &= !mask;
            bank.written &= !mask;
            if (occupancy.pending || occupancy.active || !slot.hardware())
                && let Some(physical) = bank.physical(lane)
            {
                lists.deactivate(physical);
            }
        }
        let keep = !mask;
        bank.listed &= keep;
        bank.drop_pending &= keep;
        bank.drop_active &= keep;
        if let Word::Shared(index) = word {
            // What was routed elsewhere in the meantime is now the other's to take.
            let elsewhere = self
                .state
                .shared
                .get(index)
                .filter(|shared| shared.bank.wanting(forwarding) & mask != 0)
                .and_then(|shared| shared.owner(lane))
                .filter(|&owner| owner != vcpu);
            if let Some(owner) = elsewhere {
                self.mark(owner);
            }
            self.refresh(index);
        } else if version == Version::V2 && intid.is_sgi() {
            self.fold_source(vcpu, lane, occupancy, pending);
        }
    }

    /// The source of a GICv2 SGI that leaves its list register pending.
    fn fold_source(&mut self, vcpu: VcpuId, lane: u32, occupancy: Occupancy, pending: bool) {
        let Some(private) = self.private_mut(vcpu) else {
            return;
        };
        if let Some(sources) = private.sources.get_mut(lane as usize) {
            if pending {
                *sources |= source_bit(occupancy.source);
            }
            if *sources != 0 {
                private.bank.latch |= bit(lane);
            }
        }
        if let Some(source) = private.source.get_mut(lane as usize) {
            *source = occupancy.source;
        }
    }

    /// The guest ended an interrupt that had no list register: the most urgent active one that was
    /// left out, as interrupts end in the order of their nesting. With EOImode 1 they need not: a GICv3
    /// says by a trap which one it is ([`deactivate`](crate::Vgic::deactivate)), a GICv2 cannot.
    fn end_unlisted<L: ListRegisters + ?Sized>(&mut self, vcpu: VcpuId, lists: &L) {
        let mut ended: Option<(Candidate, IntId)> = None;
        self.each_wanting(vcpu, false, |intid, priority, _| {
            let candidate = Candidate::new(intid, priority, true);
            if ended.is_none_or(|(best, _)| candidate < best) {
                ended = Some((candidate, intid));
            }
        });
        if let Some((_, intid)) = ended {
            self.end(vcpu, intid, lists);
        }
    }

    /// The guest ended an interrupt that is in no list register. One that is not active on `vcpu` stays as it is.
    pub(crate) fn end<L: ListRegisters + ?Sized>(&mut self, vcpu: VcpuId, intid: IntId, lists: &L) {
        let word = Self::word(vcpu, intid);
        let is_own = self.owner(vcpu, intid) == Some(vcpu);
        let Some(bank) = self.bank_mut(word) else {
            return;
        };
        if !is_own || bank.active & !bank.listed & intid.mask() == 0 {
            return;
        }
        bank.active &= !intid.mask();
        // What the line has brought since waits its turn, with the hardware that waits for its end.
        let is_next = bank.latch & !bank.written & intid.mask() != 0;
        if bank.hardware & intid.mask() != 0 && !is_next {
            bank.hardware &= !intid.mask();
            bank.written &= !intid.mask();
            if let Some(physical) = bank.physical(intid.lane()) {
                lists.deactivate(physical);
            }
        }
        if let Word::Shared(index) = word {
            self.refresh(index);
        }
    }

    /// Calls `each` with the interrupts that want a list register of `vcpu`: number, priority, and
    /// whether it is active. Without `forwarding` these are only active ones.
    fn each_wanting(&self, vcpu: VcpuId, forwarding: bool, mut each: impl FnMut(IntId, u8, bool)) {
        let Some(private) = self.private(vcpu) else {
            return;
        };
        let bank = &private.bank;
        for lane in Bits(bank.wanting(forwarding)) {
            let active = bank.active & bit(lane) != 0;
            each(IntId::from_word(0, lane), bank.priority(lane), active);
        }
        for index in Bits(self.state.busy) {
            let Some(shared) = self.state.shared.get(index as usize) else {
                continue;
            };
            let bank = &shared.bank;
            for lane in Bits(bank.wanting(forwarding)) {
                if shared.owner(lane) == Some(vcpu) {
                    let active = bank.active & bit(lane) != 0;
                    let intid = IntId::from_word(index.wrapping_add(1), lane);
                    each(intid, bank.priority(lane), active);
                }
            }
        }
    }

    /// Hardware interrupts of the vCPU that wait outside the list registers: one whose line dropped
    /// is withdrawn, but for what a register write made of it; one that nothing waits for any more is
    /// deactivated, so that it can come again.
    fn settle_hardware<L: ListRegisters + ?Sized>(&mut self, vcpu: VcpuId, lists: &L) {
        let Some(private) = self.private_mut(vcpu) else {
            return;
        };
        let bank = &mut private.bank;
        for lane in Bits(bank.hardware & !bank.listed & !bank.active) {
            let mask = bit(lane);
            let Some(physical) = bank.physical(lane) else {
                continue;
            };
            if bank.latch & mask != 0 && lists.is_asserted(physical) {
                continue;
            }
            bank.latch &= !mask | bank.written;
            bank.written &= !mask;
            bank.hardware &= !mask;
            lists.deactivate(physical);
        }
    }

    /// Fills the list registers of `vcpu`, all of whose interrupts are in the banks. `stale` are
    /// those that may hold something from before.
    pub(crate) fn fill<L: ListRegisters + ?Sized>(&mut self, vcpu: VcpuId, stale: u32, lists: &L) {
        self.settle_hardware(vcpu, lists);
        let forwarding = self.state.forwarding;
        let own = self
            .private(vcpu)
            .map_or(0, |private| private.bank.wanting(forwarding));
        let mut filling = Filling::default();
        let mut wanted = Maintenance::NONE;
        if self.state.busy == 0 && own.count_ones() as usize <= lists.count().min(MAX_LISTS) {
            // All fits: their order does not matter.
            for lane in Bits(own) {
                self.put(vcpu, IntId::from_word(0, lane), &mut filling, lists);
            }
        } else {
            let mut choice = Choice::new(lists.count());
            self.each_wanting(vcpu, forwarding, |intid, priority, active| {
                choice.offer(Candidate::new(intid, priority, active));
            });
            choice.close();
            for intid in choice.chosen().iter().filter_map(|one| one.intid()) {
                self.put(vcpu, intid, &mut filling, lists);
            }
            wanted = choice.maintenance();
        }
        for index in Bits(stale & !bit(filling.next).wrapping_sub(1)) {
            lists.write(index as usize, 0);
        }
        if let Some(attention) = self.attention.get(vcpu.index()) {
            attention.flags.store(filling.attention, Ordering::Relaxed);
        }
        self.set_maintenance(vcpu, wanted, lists);
    }

    /// Composes one more list register and writes it.
    fn put<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        filling: &mut Filling,
        lists: &L,
    ) {
        let Some(list) = self.compose(vcpu, intid, filling.next) else {
            return;
        };
        if let (true, Link::Hardware(physical)) = (list.pending, list.link) {
            filling.attention = linked(filling.attention, physical);
        }
        lists.write(filling.next as usize, list.encode(self.version));
        filling.next = filling.next.wrapping_add(1);
    }

    pub(crate) fn set_maintenance<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuId,
        wanted: Maintenance,
        lists: &L,
    ) {
        if let Some(private) = self.private_mut(vcpu)
            && private.maintenance != wanted
        {
            let unlisted = Maintenance::UNLISTED_END;
            if wanted.contains(unlisted) && !private.maintenance.contains(unlisted) {
                // Ends of what was not active counted until now: nobody's.
                lists.take_end_count();
            }
            private.maintenance = wanted;
            lists.set_maintenance(wanted);
        }
    }

    /// Makes the list register of an interrupt that wants one, and books it at `index`.
    pub(crate) fn compose(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        index: u32,
    ) -> Option<ListRegister> {
        let (lane, mask) = (intid.lane(), intid.mask());
        let forwarding = self.state.forwarding;
        let word = Self::word(vcpu, intid);
        let sourced = if self.version == Version::V2 && intid.is_sgi() {
            Some(self.take_source(vcpu, lane)?)
        } else {
            None
        };
        // Active here, but routed elsewhere by now: what comes next is the other's.
        let routed = match word {
            Word::Private(_) => true,
            Word::Shared(index) => self.state.shared.get(index)?.target(lane) == Some(vcpu),
        };
        let bank = self.bank_mut(word)?;
        let active = bank.active & mask != 0;
        let signalled = bank.signalled(forwarding) & mask != 0;
        let latched = bank.latch & mask != 0;
        let hardware = bank.hardware & mask != 0;
        let written = hardware && bank.written & mask != 0;
        let (pending, link) = if let Some(sgi) = sourced {
            if !sgi.more {
                bank.latch &= !mask;
            }
            let link = Link::Software {
                source: sgi.source,
                end_notice: sgi.more,
            };
            (sgi.taken, link)
        } else if hardware && !(active && written) {
            // A hardware-linked list register is never pending and active (IHI0048B 5.3.9): while it
            // is active the physical line keeps what comes. What is written it does not keep: that takes a list
            // register without a link, after whose end the physical interrupt is deactivated.
            bank.latch &= !mask;
            bank.written &= !mask;
            (!active, Link::Hardware(bank.physical(lane)?))
        } else {
            // A line that is still high while the interrupt is active makes it pending again only
            // after its end: hence the notice, as for whatever else stays behind in the bank.
            let pending = routed && signalled && (latched || !active);
            if pending {
                bank.latch &= !mask;
                bank.written &= !mask;
            }
            let link = Link::Software {
                source: 0,
                end_notice: (bank.pending() | bank.hardware) & mask != 0,
            };
            (pending, link)
        };
        bank.listed |= mask;
        bank.active &= !mask;
        let priority = bank.priority(lane);
        if let Word::Shared(index) = word {
            if let Some(shared) = self.shared_mut(index) {
                shared.set_home(lane, vcpu);
            }
            self.refresh(index);
        }
        let linked = matches!(link, Link::Hardware(_));
        let mut slot = Slot::new(intid, pending && latched, active, linked);
        if written && linked {
            slot = slot.with_written();
        }
        self.private_mut(vcpu)?.book(index, slot);
        self.attention.get(vcpu.index())?.engage();
        Some(ListRegister {
            intid,
            priority,
            pending,
            active,
            link,
        })
    }

    /// Chooses the source of the GICv2 SGI to be listed and takes it from those that are pending. One
    /// list register shows one source: the others wait for its end.
    fn take_source(&mut self, vcpu: VcpuId, lane: u32) -> Option<Sgi> {
        let forwarding = self.state.forwarding;
        let private = self.private_mut(vcpu)?;
        let mask = bit(lane);
        let signalled = private.bank.signalled(forwarding) & mask != 0;
        let sources = private.sources.get_mut(lane as usize)?;
        let current = private.source.get_mut(lane as usize)?;
        if private.bank.active & mask == 0 {
            *current = (sources.trailing_zeros() & 7) as u8;
        }
        let chosen = source_bit(*current);
        let taken = signalled && *sources & chosen != 0;
        if taken {
            *sources &= !chosen;
        }
        Some(Sgi {
            source: *current,
            taken,
            more: *sources != 0,
        })
    }

    /// Whether a list register of `vcpu`, loaded here, signals an interrupt, or ended one that is
    /// pending again.
    pub(crate) fn signals<L: ListRegisters + ?Sized>(&self, vcpu: VcpuId, lists: &L) -> bool {
        let Some(private) = self.private(vcpu) else {
            return false;
        };
        let forwarding = self.state.forwarding;
        Bits(private.used).any(|index| {
            let occupancy = Occupancy::of(lists.read(index as usize), self.version);
            let pending_again = || {
                let intid = private.slot(index).map(Slot::intid)?;
                let bank = self.bank(Self::word(vcpu, intid))?;
                Some(bank.signalled(forwarding) & intid.mask() != 0)
            };
            !occupancy.active && (occupancy.pending || pending_again() == Some(true))
        })
    }
}

/// A fill under way.
#[derive(Default)]
struct Filling {
    /// The next list register to be written.
    next: u32,
    attention: u32,
}

/// A GICv2 SGI on its way into a list register.
struct Sgi {
    source: u8,
    taken: bool,
    more: bool,
}

/// The bit of a GICv2 source.
const fn source_bit(source: u8) -> u8 {
    1_u8.wrapping_shl(source as u32 & 7)
}
