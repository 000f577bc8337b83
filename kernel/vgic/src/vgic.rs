//! The vGIC of one domain: what the EL2 image calls.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use sync::SpinLock;

use crate::distributor;
use crate::identity::{Bits, IntId, Notify, VcpuId, Version};
use crate::list::{Here, Link, ListRegisters, Maintenance};
use crate::quick::Arrival;
use crate::redistributor;
use crate::registers::{Region, Width};
use crate::state::{DIRTY, Private, Shared, State, Word, Work, linked, only_linked};
use crate::words;

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

/// Why an access to a register cannot be performed: the guest gets a data abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessError {
    /// The register is not accessible with this width.
    Width,
    /// The address is not a multiple of the width.
    Misaligned,
    /// The offset lies outside the frames that the guest has.
    Outside,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Width => "the register cannot be accessed with this width",
            Self::Misaligned => "the access is not aligned to its width",
            Self::Outside => "no register frame here",
        })
    }
}

/// The interrupt controller of one domain.
///
/// All calls are safe from any CPU. Those that take a [`Here`] use the list registers of the CPU that
/// executes; it may name a vCPU only between that vCPU's [`restore`](Self::restore) and its
/// [`save`](Self::save) on this CPU. A [`Notify`] names other vCPUs: a running one must be made to
/// pass a guest exit, a waiting one be woken, any other be left alone.
///
/// The state of interrupts in the list registers of a vCPU that runs on another CPU is known as it
/// was when they were written; register reads by a third vCPU may show it so.
#[derive(Debug)]
pub struct Vgic {
    version: Version,
    vcpus: u32,
    /// GICD_TYPER.
    typer: u32,
    /// By vCPU: dirty and linked (see `state`). Written under the lock, read without.
    attention: Box<[AtomicU32]>,
    state: SpinLock<State>,
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
            attention: boxed(vcpus, || AtomicU32::new(0))?,
            state: SpinLock::new(State {
                control: 0,
                forwarding: false,
                busy: 0,
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

    /// GICD_TYPER.
    pub(crate) const fn typer(&self) -> u32 {
        self.typer
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
        self.attention.get(vcpu.index())
    }

    #[inline]
    fn attention(&self, vcpu: VcpuId) -> u32 {
        self.attention
            .get(vcpu.index())
            .map_or(0, |flags| flags.load(Ordering::Acquire))
    }

    /// The short way for a private interrupt of the vCPU here. The lock is given back before the long
    /// way takes it again, so that this needs no stack.
    #[inline(always)]
    fn deliver<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        intid: IntId,
        link: Link,
    ) -> bool {
        let Some(attention) = self.attention.get(here.vcpu.index()) else {
            return false;
        };
        let mut state = self.state.lock();
        let flags = attention.load(Ordering::Relaxed);
        let arrival = Arrival {
            vcpu: here.vcpu,
            intid,
            link,
            dirty: flags & DIRTY != 0,
        };
        let delivered = state.deliver(self.version, arrival, here.lists);
        if let (true, Link::Hardware(physical)) = (delivered, link) {
            attention.store(linked(flags, physical), Ordering::Relaxed);
        }
        delivered
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
        };
        let result = operation(&mut work);
        (result, work.notify)
    }

    /// Brings the list registers up to date before the vCPU runs on: what ended is taken out, what
    /// was withdrawn or changed too, the most urgent goes in. Also what a maintenance interrupt asks
    /// for.
    pub fn enter<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Notify {
        let Here { vcpu, lists } = here;
        self.work(Some(vcpu), |work| {
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

    /// The vCPU leaves this CPU: all that its list registers hold is taken into memory and they are
    /// emptied. To be called before the active state of physical interrupts is saved and cleared.
    pub fn save<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Notify {
        let Here { vcpu, lists } = here;
        let ((), notify) = self.work(Some(vcpu), |work| {
            let used = work.private(vcpu).map_or(0, |private| private.used);
            work.fold_all(vcpu, lists);
            for slot in Bits(used) {
                lists.write(slot as usize, 0);
            }
            work.set_maintenance(vcpu, Maintenance::NONE, lists);
        });
        notify
    }

    /// The vCPU comes to this CPU, whose list registers are empty: they are filled. To be called
    /// after the vCPU's timer registers and the active state of its physical interrupts are back.
    pub fn restore<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Notify {
        let Here { vcpu, lists } = here;
        let ((), notify) = self.work(Some(vcpu), |work| {
            work.fill(vcpu, 0, lists);
        });
        notify
    }

    /// Whether an interrupt waits that would end a WFI of this vCPU: pending, enabled, forwarded, not
    /// active. The priority mask and PSTATE are not considered (a WFI may always end early). With
    /// `here` the list registers are asked too, without it the vCPU must be saved.
    ///
    /// A scheduler that blocks asks again after it has made itself known as blocked: whoever raises
    /// an interrupt then either is seen here, or sees the block and wakes.
    #[must_use]
    pub fn has_deliverable<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuId,
        here: Option<Here<'_, L>>,
    ) -> bool {
        let lists = here.filter(|here| here.vcpu == vcpu).map(|here| here.lists);
        let (found, _) = self.work(None, |work| {
            work.waits(vcpu) || lists.is_some_and(|lists| work.signals(vcpu, lists))
        });
        found
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
            && self.deliver(here, intid, Link::VIRTUAL)
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

    /// A physical interrupt that was acknowledged and priority-dropped at EL2, and is active still,
    /// is the guest's: its end by the guest deactivates it. For a PPI, `vcpu` must be the one here,
    /// or one whose physical active state the caller keeps.
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
            && self.deliver(here, intid, link)
        {
            return Notify::NONE;
        }
        self.hardware_slowly(vcpu, intid, physical, here)
    }

    #[cold]
    #[inline(never)]
    fn hardware_slowly<L: ListRegisters + ?Sized>(
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

    /// The guest on `here` writes ICC_SGI1R_EL1 (IHI0069 12.2.24). ICC_SGI0R_EL1 and ICC_ASGI1R_EL1
    /// are for groups that no interrupt of ours is in: such writes have no effect.
    pub fn write_sgi1r<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, value: u64) -> Notify {
        let own = redistributor::sgi1r_to_one(here.vcpu, value);
        if let Some(sgi) = own
            && self.version == Version::V3
            && self.deliver(here, sgi, Link::VIRTUAL)
        {
            return Notify::NONE;
        }
        self.sgi1r_slowly(here, value)
    }

    #[cold]
    #[inline(never)]
    fn sgi1r_slowly<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, value: u64) -> Notify {
        self.work(Some(here.vcpu), |work| {
            redistributor::sgi1r(work, here, value);
        })
        .1
    }

    /// A read of the distributor or of the redistributors by the vCPU here; `offset` is from the
    /// start of the region. GICD_SGIR is a write like any other.
    ///
    /// # Errors
    /// [`AccessError`]: the guest gets a data abort.
    pub fn read<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        region: Region,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        let offset = width.check(offset)?;
        if width == Width::Word {
            if region == Region::Distributor && offset == distributor::TYPER {
                return Ok(u64::from(self.typer));
            }
            if let Some((word, _)) = self.enable_word(here.vcpu, region, offset) {
                return Ok(u64::from(self.state.lock().enabled(word)));
            }
        }
        self.read_slowly(here, region, offset, width)
    }

    #[cold]
    #[inline(never)]
    fn read_slowly<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        region: Region,
        offset: u32,
        width: Width,
    ) -> Result<u64, AccessError> {
        match region {
            Region::Distributor => distributor::read(self, here, offset, width),
            Region::Redistributor => redistributor::read(self, here, offset, width),
        }
    }

    /// The 32 interrupts whose enable bits an offset shows, and whether a write there sets them.
    #[inline(always)]
    fn enable_word(&self, vcpu: VcpuId, region: Region, offset: u32) -> Option<(Word, bool)> {
        let own = match region {
            Region::Distributor => 0,
            Region::Redistributor => redistributor::own_frame(vcpu),
        };
        let place = offset ^ own ^ words::SET_ENABLE;
        if place & !0xfc != 0 {
            return None;
        }
        let number = (place >> 2) & 31;
        let word = match (region, self.version, number) {
            (Region::Distributor, Version::V2, 0) | (Region::Redistributor, Version::V3, 0) => {
                Word::Private(vcpu)
            }
            (Region::Distributor, _, 1..) => Word::Shared(number.wrapping_sub(1) as usize),
            _ => return None,
        };
        Some((word, place & 0x80 == 0))
    }

    /// A write, as [`read`](Self::read).
    ///
    /// # Errors
    /// [`AccessError`]: the guest gets a data abort.
    pub fn write<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        region: Region,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Notify, AccessError> {
        let offset = width.check(offset)?;
        if width == Width::Word {
            if let Some((word, enable)) = self.enable_word(here.vcpu, region, offset) {
                let lanes = words::writable_enables(self.version, word) & value as u32;
                if self.state.lock().enable(word, lanes, enable) {
                    return Ok(Notify::NONE);
                }
            } else if offset == distributor::SGIR && region == Region::Distributor {
                return Ok(self.write_sgir(here, value as u32));
            }
        }
        self.write_slowly(here, region, (offset, width), value)
    }

    /// The guest writes GICD_SGIR, or what is reserved there on GICv3.
    #[inline(never)]
    fn write_sgir<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, value: u32) -> Notify {
        if self.version == Version::V3 {
            return Notify::NONE;
        }
        let link = Link::Software {
            source: here.vcpu.get() as u8,
            end_notice: false,
        };
        if let Some(sgi) = distributor::sgir_to_self(here.vcpu, value)
            && self.deliver(here, sgi, link)
        {
            return Notify::NONE;
        }
        self.sgir_slowly(here, value)
    }

    #[cold]
    #[inline(never)]
    fn sgir_slowly<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, value: u32) -> Notify {
        self.work(Some(here.vcpu), |work| distributor::sgir(work, here, value))
            .1
    }

    #[cold]
    #[inline(never)]
    fn write_slowly<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        region: Region,
        (offset, width): (u32, Width),
        value: u64,
    ) -> Result<Notify, AccessError> {
        let (result, notify) = self.work(Some(here.vcpu), |work| match region {
            Region::Distributor => distributor::write(work, here, offset, width, value),
            Region::Redistributor => redistributor::write(work, here, offset, width, value),
        });
        result.map(|()| notify)
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
