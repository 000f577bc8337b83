//! The vGIC of one domain: what the EL2 image calls.

extern crate alloc;

use crate::primitives::{AtomicU32, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use sync::SpinLock;

use crate::attention::{Attention, DIRTY, linked, only_linked};
use crate::distributor;
use crate::identity::{IntId, Notify, VcpuId, Version};
use crate::list::{Here, Link, ListRegisters};
use crate::quick::{Arrival, Sent};
use crate::state::{Private, Shared, State, Work};

/// Why a vGIC cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No vCPU, or more than the version serves.
    VcpuCount,
    /// More than 988 SPIs.
    SpiCount,
    /// The heap is exhausted.
    NoMemory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VcpuCount => "a GICv2 serves 1 to 8 vCPUs, a GICv3 1 to 128",
            Self::SpiCount => "a GIC has 988 SPIs at most",
            Self::NoMemory => "no memory for the interrupt controller's state",
        })
    }
}

/// What a guest says of a shared interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SharedSettings {
    /// GICD_ISENABLER.
    pub enabled: bool,
    /// GICD_ICFGR: a rising edge makes it pending; else its level.
    pub edge: bool,
    /// The vCPU that gets it, by GICD_ITARGETSR or GICD_IROUTER; `None` if these name none.
    pub target: Option<VcpuId>,
}

/// What [`Vgic::save`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Saved {
    /// As for all calls.
    pub notify: Notify,
    /// A private physical interrupt that was injected is active, or pending and withdrawn, on the vCPU's behalf: the
    /// caller asks the physical distributor which. Without one none is: the guest's end has deactivated what
    /// was injected, or this crate has ([`ListRegisters::deactivate`]).
    pub is_linked: bool,
}

/// The interrupt controller of one domain.
///
/// All calls are safe from any CPU. Those that take a [`Here`] use the list registers of the CPU that
/// executes; it may name a vCPU only between that vCPU's [`restore`](Self::restore) and its
/// [`save`](Self::save) on this CPU. A [`Notify`] names other vCPUs: a running one must be made to
/// pass a guest exit, a waiting one be woken, any other be left alone. It never names the vCPU here:
/// a caller that keeps a vCPU loaded while it waits asks [`has_deliverable`](Self::has_deliverable)
/// for that one itself.
#[derive(Debug)]
pub struct Vgic {
    pub(crate) version: Version,
    vcpus: u32,
    /// GICD_TYPER.
    pub(crate) typer: u32,
    /// By vCPU. Written under the lock, read without.
    pub(crate) attention: Box<[Attention]>,
    pub(crate) state: SpinLock<State>,
}

impl Vgic {
    /// A reset GIC. `spis` is rounded up to a multiple of 32, up to 988 of which can be used.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(version: Version, vcpus: u32, spis: u32) -> Result<Self, Error> {
        if vcpus == 0 || vcpus > version.max_vcpus() {
            return Err(Error::VcpuCount);
        }
        if spis > 988 {
            return Err(Error::SpiCount);
        }
        let banks = spis.div_ceil(32);
        Ok(Self {
            version,
            vcpus,
            typer: distributor::typer(version, vcpus, banks),
            attention: boxed(vcpus, Attention::new)?,
            state: SpinLock::new(State {
                control: 0,
                forwarding: false,
                busy: 0,
                clock: 0,
                private: boxed(vcpus, Private::new)?,
                shared: boxed(banks, || Shared::new(version))?,
            }),
        })
    }

    /// The version that the guest sees.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// How many vCPUs it serves.
    #[must_use]
    pub const fn vcpu_count(&self) -> u32 {
        self.vcpus
    }

    /// Whether [`enter`](Self::enter) must be called before this vCPU runs on. No lock: a load and a
    /// test.
    #[inline]
    #[must_use]
    pub fn is_dirty(&self, vcpu: VcpuId) -> bool {
        self.attention(vcpu) & DIRTY != 0
    }

    /// The same, and also when the line of a hardware interrupt that is pending in a list register
    /// may have dropped: the test after a trap of the guest. After a physical interrupt
    /// [`is_dirty`](Self::is_dirty) is enough.
    #[inline]
    #[must_use]
    pub fn needs_enter(&self, vcpu: VcpuId) -> bool {
        self.attention(vcpu) != 0
    }

    /// The word that [`is_dirty`](Self::is_dirty) (bit 0) and [`needs_enter`](Self::needs_enter)
    /// (not zero) test, for an entry path that keeps a reference to it. Only to be read.
    #[must_use]
    pub fn attention_word(&self, vcpu: VcpuId) -> Option<&AtomicU32> {
        Some(&self.attention.get(vcpu.index())?.flags)
    }

    /// [`is_dirty`](Self::is_dirty), of what was read of that word.
    #[inline]
    #[must_use]
    pub const fn is_dirty_word(attention: u32) -> bool {
        attention & DIRTY != 0
    }

    #[inline]
    fn attention(&self, vcpu: VcpuId) -> u32 {
        self.attention
            .get(vcpu.index())
            .map_or(0, |attention| attention.flags.load(Ordering::Acquire))
    }

    /// The short way for a private interrupt of the vCPU here. `version` is our own, which callers may know. The lock is given back before the long
    /// way takes it again, so that this needs no stack.
    #[inline(always)]
    pub(crate) fn deliver<L: ListRegisters + ?Sized>(
        &self,
        version: Version,
        here: Here<'_, L>,
        intid: IntId,
        link: Link,
    ) -> bool {
        let Some(attention) = self.attention.get(here.vcpu.index()) else {
            return false;
        };
        let mut state = self.state.lock();
        let flags = attention.flags.load(Ordering::Relaxed);
        // Here and not where it is booked: so no register is kept for it.
        attention.engage();
        let arrival = Arrival {
            vcpu: here.vcpu,
            intid,
            link,
            dirty: flags & DIRTY != 0,
        };
        let delivered = state.deliver(version, arrival, here.lists);
        if let (true, Link::Hardware(physical)) = (delivered, link) {
            let flags = linked(flags, physical);
            attention.flags.store(flags, Ordering::Relaxed);
        }
        delivered
    }

    /// SGI `sgi` of a vCPU to one other, which is then dirty.
    #[inline(always)]
    pub(crate) fn post(&self, sender: VcpuId, target: VcpuId, sgi: u32) -> Sent {
        if sender == target {
            return Sent::NotDone;
        }
        let mut state = self.state.lock();
        let kick = state.post(target, sgi, self.version.sgi_source(sender));
        if kick != Some(true) {
            return Sent::Done;
        }
        if let Some(attention) = self.attention.get(target.index()) {
            attention.soil();
        }
        Sent::Kick(target)
    }

    /// Performs one operation under the lock.
    #[inline]
    pub(crate) fn work<R>(
        &self,
        here: Option<VcpuId>,
        operation: impl FnOnce(&mut Work<'_>) -> R,
    ) -> (R, Notify) {
        let mut state = self.state.lock();
        let mut work = Work {
            state: &mut state,
            attention: &self.attention,
            version: self.version,
            here,
            notify: Notify::NONE,
            holding: Notify::NONE,
        };
        let result = operation(&mut work);
        (result, work.notify)
    }

    /// What the guest says of a shared interrupt; `None` if it has no such. For one that is linked to a physical
    /// interrupt, which is to be told the same.
    #[must_use]
    pub fn shared_settings(&self, intid: IntId) -> Option<SharedSettings> {
        if intid.is_private() {
            return None;
        }
        let (settings, _) = self.work(None, |work| {
            let shared = work.state.shared.get(intid.shared_bank())?;
            Some(SharedSettings {
                enabled: shared.bank.enabled & intid.mask() != 0,
                edge: shared.bank.edge & intid.mask() != 0,
                target: shared.target(intid.lane()),
            })
        });
        settings
    }

    /// Brings the list registers up to date before the vCPU runs on: what ended is taken out, what
    /// was withdrawn or changed too, the most urgent goes in. Also what a maintenance interrupt asks
    /// for.
    pub fn enter<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Notify {
        let Here { vcpu, lists } = here;
        self.work(Some(vcpu), |work| {
            work.answer(vcpu);
            if work.is_quiet(vcpu) {
                return;
            }
            let used = work.private(vcpu).map_or(0, |private| private.used);
            work.fold_all(vcpu, lists);
            work.fill(vcpu, used, lists);
        })
        .1
    }

    /// [`enter`](Self::enter) if [`needs_enter`](Self::needs_enter): what ends every trap. A timer
    /// interrupt that is in its list register with its line still high costs a look at the line and
    /// no lock.
    #[inline]
    pub fn enter_if_needed<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Notify {
        let attention = self.attention(here.vcpu);
        if attention == 0 {
            return Notify::NONE;
        }
        if let Some(physical) = only_linked(attention)
            && here.lists.is_asserted(physical)
        {
            return Notify::NONE;
        }
        self.enter(here)
    }

    /// Interrupts that became pending for a vCPU so far.
    #[must_use]
    pub fn arrivals(&self, vcpu: VcpuId) -> u64 {
        let state = self.state.lock();
        let private = state.private.get(vcpu.index());
        private.map_or(0, |private| private.arrivals)
    }

    /// An edge on an interrupt: it stays pending until the guest acknowledges it, even if the guest
    /// calls it level-sensitive. `vcpu` is whose PPI it is; for an SPI it is not looked at.
    pub fn pulse<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuId,
        intid: IntId,
        here: Option<Here<'_, L>>,
    ) -> Notify {
        if let Some(here) = here
            && here.vcpu == vcpu
            && intid.is_private()
            && !intid.is_sgi()
            && self.deliver(self.version, here, intid, Link::VIRTUAL)
        {
            return Notify::NONE;
        }
        self.pulse_slowly(vcpu, intid, here)
    }

    #[cold]
    #[inline(never)]
    fn pulse_slowly<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuId,
        intid: IntId,
        here: Option<Here<'_, L>>,
    ) -> Notify {
        let current = here.map(|here| here.vcpu);
        self.work(current, |work| work.pulse(vcpu, intid, here)).1
    }

    /// The line of a virtual interrupt is now high or low. While it is high the interrupt is pending
    /// (level-sensitive, as PPIs are and SPIs from reset) or became pending once (edge-triggered).
    pub fn set_level<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuId,
        intid: IntId,
        high: bool,
        here: Option<Here<'_, L>>,
    ) -> Notify {
        let current = here.map(|here| here.vcpu);
        self.work(current, |work| work.set_level(vcpu, intid, high, here))
            .1
    }

    /// A physical interrupt, private to a CPU, that was acknowledged and priority-dropped at EL2, and is active
    /// still, is the guest's: its end by the guest deactivates it. `vcpu` must be the one here, or one whose
    /// physical active state the caller keeps.
    #[inline(always)]
    pub fn inject_hardware<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuId,
        intid: IntId,
        physical: IntId,
        here: Option<Here<'_, L>>,
    ) -> Notify {
        let link = Link::Hardware(physical);
        if let Some(here) = here
            && here.vcpu == vcpu
            && intid.is_private()
            && self.deliver(self.version, here, intid, link)
        {
            return Notify::NONE;
        }
        self.inject_shared_hardware(vcpu, intid, physical, here)
    }

    /// The same of any interrupt, by the general way: a shared one goes to whom the guest has routed it, `vcpu` or
    /// another.
    #[cold]
    #[inline(never)]
    pub fn inject_shared_hardware<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuId,
        intid: IntId,
        physical: IntId,
        here: Option<Here<'_, L>>,
    ) -> Notify {
        let current = here.map(|here| here.vcpu);
        self.work(current, |work| {
            work.hardware(vcpu, intid, physical, here);
        })
        .1
    }

    /// CPU_ON, or the end of a vCPU: its SGIs, PPIs and redistributor are reset. It must be saved,
    /// and the caller forgets the physical active state that it kept for it. SPIs are left as they
    /// are.
    pub fn reset_vcpu(&self, vcpu: VcpuId) {
        let ((), _) = self.work(None, |work| work.reset_vcpu(vcpu));
    }

    /// Reset of the domain: all as after [`new`](Self::new). All vCPUs must be saved.
    pub fn reset(&self) {
        let ((), _) = self.work(None, |work| work.reset());
    }
}

/// `count` values on the heap, or an error if it is exhausted.
fn boxed<T>(count: u32, mut make: impl FnMut() -> T) -> Result<Box<[T]>, Error> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(count as usize)
        .map_err(|_| Error::NoMemory)?;
    values.extend((0..count).map(|_| make()));
    Ok(values.into_boxed_slice())
}
