//! All that the lock of a domain's vGIC guards, and the bookkeeping that every operation shares: who
//! owns an interrupt, whom a change concerns.

extern crate alloc;

use crate::primitives::Ordering;
use alloc::boxed::Box;

use crate::attention::{Attention, DIRTY};
use crate::bank::Bank;
use crate::identity::{Bits, IntId, Notify, VcpuId, Version, bit};
use crate::list::{MAX_LISTS, Maintenance};
use crate::slot::Slot;

/// SGIs are edge-triggered, PPIs level-sensitive; neither can be changed (IHI0048B 4.3.13).
pub(crate) const PRIVATE_EDGES: u32 = 0x0000_ffff;
/// SGIs are enabled from the start; on GICv2 for good (IHI0048B 4.3.5, an implementation choice).
pub(crate) const SGIS: u32 = 0x0000_ffff;

/// What one vCPU has for itself.
#[derive(Debug)]
pub(crate) struct Private {
    /// Its SGIs and PPIs.
    pub(crate) bank: Bank,
    /// Pending sources of each SGI, a bit a vCPU. GICv2 only.
    pub(crate) sources: [u8; 16],
    /// The source of the SGI that is listed or active. GICv2 only.
    pub(crate) source: [u8; 16],
    /// The list registers that were filled and not yet folded.
    pub(crate) used: u32,
    /// What each of them was filled with.
    slots: [Slot; MAX_LISTS],
    /// The other way for its SGIs and PPIs: the list register of each one that is listed.
    places: [u8; 32],
    /// What the list registers left out; nothing is put straight in then.
    pub(crate) maintenance: Maintenance,
    /// GICR_WAKER.ProcessorSleep, as written.
    pub(crate) asleep: bool,
    /// It is on a CPU, between restore and save. Kept up while it is engaged ([`Attention`]): else it has nothing
    /// that a CPU would have to be asked about.
    pub(crate) loaded: bool,
    /// [`State::clock`] when its list registers were last looked at.
    pub(crate) folded: u64,
    /// Hardware interrupts whose line was high then.
    pub(crate) asserted: u32,
    /// Interrupts that became pending for it so far.
    pub(crate) arrivals: u64,
}

impl Private {
    pub(crate) const fn new() -> Self {
        Self {
            bank: Bank::new(SGIS, PRIVATE_EDGES),
            sources: [0; 16],
            source: [0; 16],
            used: 0,
            slots: [Slot::NOTHING; MAX_LISTS],
            places: [0; 32],
            maintenance: Maintenance::NONE,
            asleep: false,
            loaded: false,
            folded: 0,
            asserted: 0,
            arrivals: 0,
        }
    }

    /// Whether nothing of it is pending, active or left out, but for what is in list registers; `busy` is
    /// [`State::busy`]. More than [`Work::is_quiet`] asks: what is disabled counts.
    #[inline]
    pub(crate) fn is_empty(&self, busy: u32) -> bool {
        let bank = &self.bank;
        let own = bank.latch | bank.level | bank.active | bank.hardware;
        own | busy == 0 && self.maintenance == Maintenance::NONE
    }

    /// Whether all that was listed has ended, and nothing else is to be said of it: `empty` has a bit for each list
    /// register that holds nothing. They are free then, as a fold leaves them.
    #[inline(never)]
    pub(crate) fn forget_ended(&mut self, version: Version, empty: u32) -> bool {
        let bank = &mut self.bank;
        let pending_change = bank.drop_pending | bank.drop_active | bank.hardware;
        if self.used & !empty != 0 || pending_change != 0 {
            return false;
        }
        let mut listed = 0;
        for index in Bits(self.used) {
            let Some(slot) = self.slots.get(index as usize) else {
                return false;
            };
            let intid = slot.intid();
            let waits = version == Version::V2
                && intid.is_sgi()
                && self.sources.get(intid.lane() as usize) != Some(&0);
            if !intid.is_private() || waits {
                return false;
            }
            listed |= intid.mask();
        }
        bank.listed &= !listed;
        self.used = 0;
        true
    }

    /// What a list register was filled with.
    #[inline]
    pub(crate) fn slot(&self, index: u32) -> Option<Slot> {
        self.slots.get(index as usize).copied()
    }

    /// The list register of a private interrupt that is listed.
    #[inline]
    pub(crate) fn place(&self, lane: u32) -> u32 {
        self.places
            .get(lane as usize)
            .map_or(0, |&index| u32::from(index))
    }

    /// The list register that holds an interrupt of this vCPU.
    pub(crate) fn find(&self, intid: IntId) -> Option<u32> {
        Bits(self.used).find(|&index| self.slot(index).map(Slot::intid) == Some(intid))
    }

    /// A list register now holds this.
    #[inline]
    pub(crate) fn book(&mut self, index: u32, slot: Slot) {
        self.used |= bit(index);
        // Only the CPU that has it loaded fills its list registers.
        self.loaded = true;
        if let Some(holder) = self.slots.get_mut(index as usize) {
            *holder = slot;
        }
        let intid = slot.intid();
        if intid.is_private()
            && let Some(place) = self.places.get_mut(intid.lane() as usize)
        {
            *place = (index & 0xf) as u8;
        }
    }
}

/// Thirty-two SPIs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bank: Bank,
    /// The vCPU that gets each; [`NOBODY`] if its routing names none.
    pub(crate) target: [u8; 32],
    /// The vCPU in whose list register it is, or on which it is active.
    pub(crate) home: [u8; 32],
    /// As the guest wrote it: GICD_ITARGETSR's byte, or Aff3.2.1.0 of GICD_IROUTER.
    pub(crate) route: [u32; 32],
}

/// No vCPU.
pub(crate) const NOBODY: u8 = 0xff;

impl Shared {
    pub(crate) const fn new(version: Version) -> Self {
        // The boot vCPU, so that a guest that never routes hears its devices: a target list with
        // bit 0 on GICv2, affinity 0.0.0.0 on GICv3.
        let route = match version {
            Version::V2 => 1,
            Version::V3 => 0,
        };
        Self {
            bank: Bank::new(0, 0),
            target: [0; 32],
            home: [0; 32],
            route: [route; 32],
        }
    }

    /// Whom a change of this interrupt concerns.
    pub(crate) fn owner(&self, lane: u32) -> Option<VcpuId> {
        let mask = bit(lane);
        let owner = if (self.bank.listed | self.bank.active) & mask != 0 {
            self.home.get(lane as usize)
        } else {
            self.target.get(lane as usize)
        };
        owner.and_then(|&number| VcpuId::new(u32::from(number)))
    }

    /// The vCPU it is routed to.
    pub(crate) fn target(&self, lane: u32) -> Option<VcpuId> {
        self.target
            .get(lane as usize)
            .and_then(|&number| VcpuId::new(u32::from(number)))
    }

    pub(crate) fn set_home(&mut self, lane: u32, vcpu: VcpuId) {
        if let Some(home) = self.home.get_mut(lane as usize) {
            *home = vcpu.get() as u8;
        }
    }
}

/// Which 32 interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// The SGIs and PPIs of one vCPU.
    Private(VcpuId),
    /// SPIs, numbered from 0 for 32..64.
    Shared(usize),
}

/// State of a domain's vGIC.
#[derive(Debug)]
pub(crate) struct State {
    /// The enable bits of GICD_CTLR, as written.
    pub(crate) control: u32,
    /// Whether they forward our interrupts' group.
    pub(crate) forwarding: bool,
    /// Shared banks that hold something pending or active beside what the list registers hold.
    pub(crate) busy: u32,
    /// How many questions have been asked (see `remote`).
    pub(crate) clock: u64,
    pub(crate) private: Box<[Private]>,
    pub(crate) shared: Box<[Shared]>,
}

/// One operation under the lock.
pub(crate) struct Work<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) attention: &'a [Attention],
    pub(crate) version: Version,
    /// The vCPU loaded on the CPU that executes.
    pub(crate) here: Option<VcpuId>,
    /// Whom the caller must kick or wake.
    pub(crate) notify: Notify,
    /// Whose list registers, on other CPUs, hold what a register write changed.
    pub(crate) holding: Notify,
}

impl Work<'_> {
    pub(crate) fn private(&self, vcpu: VcpuId) -> Option<&Private> {
        self.state.private.get(vcpu.index())
    }

    pub(crate) fn private_mut(&mut self, vcpu: VcpuId) -> Option<&mut Private> {
        self.state.private.get_mut(vcpu.index())
    }

    pub(crate) fn shared_mut(&mut self, index: usize) -> Option<&mut Shared> {
        self.state.shared.get_mut(index)
    }

    /// The bank of some 32 interrupts.
    pub(crate) fn bank(&self, word: Word) -> Option<&Bank> {
        match word {
            Word::Private(vcpu) => self.private(vcpu).map(|private| &private.bank),
            Word::Shared(index) => self.state.shared.get(index).map(|shared| &shared.bank),
        }
    }

    /// The same, to be changed.
    pub(crate) fn bank_mut(&mut self, word: Word) -> Option<&mut Bank> {
        match word {
            Word::Private(vcpu) => self.private_mut(vcpu).map(|private| &mut private.bank),
            Word::Shared(index) => self.shared_mut(index).map(|shared| &mut shared.bank),
        }
    }

    /// Where an interrupt is, `vcpu` being whose if it is private.
    pub(crate) const fn word(vcpu: VcpuId, intid: IntId) -> Word {
        if intid.is_private() {
            Word::Private(vcpu)
        } else {
            Word::Shared(intid.shared_bank())
        }
    }

    /// The vCPU that an interrupt is for: `vcpu` itself if it is private, else its home or target.
    pub(crate) fn owner(&self, vcpu: VcpuId, intid: IntId) -> Option<VcpuId> {
        if intid.is_private() {
            Some(vcpu)
        } else {
            self.state
                .shared
                .get(intid.shared_bank())?
                .owner(intid.lane())
        }
    }

    /// The list registers of this vCPU must be looked at before it runs on; it is kicked or woken if
    /// it is not the one here.
    pub(crate) fn mark(&mut self, vcpu: VcpuId) {
        self.mark_quietly(vcpu);
        if self.here != Some(vcpu) {
            self.notify.insert(vcpu);
        }
    }

    /// The same without a kick: the next entry is soon enough.
    pub(crate) fn mark_quietly(&self, vcpu: VcpuId) {
        if let Some(attention) = self.attention.get(vcpu.index()) {
            attention.soil();
        }
    }

    /// A register write changed these interrupts in a way that may change what is listed.
    pub(crate) fn touch(&mut self, word: Word, lanes: u32) {
        self.holding = self.holding.union(self.holders(word, lanes));
        match word {
            Word::Private(vcpu) => {
                if lanes != 0 {
                    self.mark(vcpu);
                }
            }
            Word::Shared(index) => {
                for lane in Bits(lanes) {
                    let owner = self
                        .state
                        .shared
                        .get(index)
                        .and_then(|shared| shared.owner(lane));
                    if let Some(owner) = owner {
                        self.mark(owner);
                    }
                }
                self.refresh(index);
            }
        }
    }

    /// Brings the summary of the shared banks up to date with one of them.
    pub(crate) fn refresh(&mut self, index: usize) {
        let Some(shared) = self.state.shared.get(index) else {
            return;
        };
        let bank = &shared.bank;
        let mask = bit((index & 31) as u32);
        if (bank.pending() | bank.active) & !bank.listed | bank.latch & bank.listed != 0 {
            self.state.busy |= mask;
        } else {
            self.state.busy &= !mask;
        }
    }
    /// Whether an interrupt waits for `vcpu` in the banks that would be signalled: not one that is
    /// active. What waits behind a list register counts only until the next entry has tried to merge
    /// the two.
    pub(crate) fn waits(&self, vcpu: VcpuId) -> bool {
        let forwarding = self.state.forwarding;
        let attention = self.attention.get(vcpu.index());
        let dirty =
            attention.is_some_and(|attention| attention.flags.load(Ordering::Relaxed) & DIRTY != 0);
        let ready = |bank: &Bank| {
            let merging = if dirty { bank.latch } else { 0 };
            bank.signalled(forwarding) & !bank.active & (!bank.listed | merging)
        };
        if self
            .private(vcpu)
            .is_some_and(|private| ready(&private.bank) != 0)
        {
            return true;
        }
        Bits(self.state.busy).any(|index| {
            self.state.shared.get(index as usize).is_some_and(|shared| {
                Bits(ready(&shared.bank)).any(|lane| shared.owner(lane) == Some(vcpu))
            })
        })
    }

    /// The enable bits of GICD_CTLR are now these.
    pub(crate) fn set_control(&mut self, control: u32) {
        let forwarding = match self.version {
            // GICD_CTLR.Enable (IHI0048B 4.3.1).
            Version::V2 => control & 1 != 0,
            // GICD_CTLR.EnableGrp1 where GICD_CTLR.DS is 1 (IHI0069 12.9.4).
            Version::V3 => control & 2 != 0,
        };
        self.state.control = control;
        if self.state.forwarding == forwarding {
            return;
        }
        self.state.forwarding = forwarding;
        for vcpu in (0..self.state.private.len() as u32).filter_map(VcpuId::new) {
            let concerned = self
                .private(vcpu)
                .is_some_and(|private| private.used != 0 || private.bank.signalled(true) != 0);
            if concerned {
                self.mark(vcpu);
                let holds = |private: &Private| private.loaded && private.used != 0;
                if self.here != Some(vcpu) && self.private(vcpu).is_some_and(holds) {
                    self.holding.insert(vcpu);
                }
            }
        }
        for index in Bits(self.state.busy) {
            let index = index as usize;
            let signalled = self
                .state
                .shared
                .get(index)
                .map_or(0, |shared| shared.bank.signalled(true));
            self.touch(Word::Shared(index), signalled);
        }
    }

    /// Reset of what one vCPU has for itself.
    pub(crate) fn reset_vcpu(&mut self, vcpu: VcpuId) {
        if let Some(private) = self.private_mut(vcpu) {
            *private = Private {
                arrivals: private.arrivals,
                ..Private::new()
            };
        }
        if let Some(attention) = self.attention.get(vcpu.index()) {
            attention.flags.store(DIRTY, Ordering::Release);
        }
    }

    /// Reset of everything.
    pub(crate) fn reset(&mut self) {
        self.state.control = 0;
        self.state.forwarding = false;
        self.state.busy = 0;
        for vcpu in (0..self.state.private.len() as u32).filter_map(VcpuId::new) {
            self.reset_vcpu(vcpu);
        }
        for shared in &mut self.state.shared {
            *shared = Shared::new(self.version);
        }
    }
}
