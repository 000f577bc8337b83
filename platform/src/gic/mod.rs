//! The physical interrupt controller: GICv2 or GICv3 behind one enum.
//!
//! What the EL2 image does with it, in this order: `unsafe` [`Gic::v2`] or [`Gic::v3`] once the
//! [regions](Gic::regions) are mapped; [`init_distributor`](Gic::init_distributor) once;
//! [`init_cpu`](Gic::init_cpu) on every CPU; [`claim`](Gic::claim) and [`enable`](Gic::enable) for
//! each interrupt wanted. On an interrupt: [`acknowledge`](Gic::acknowledge),
//! [`priority_drop`](Gic::priority_drop), then [`deactivate`](Gic::deactivate), unless it was handed to
//! a guest with a hardware-linked list register; then the guest's own end deactivates it.
//!
//! CPUs are named by their logical number, below [`MAX_CPUS`](crate::MAX_CPUS). Interrupts below 32
//! belong to a CPU: operations on them act on the CPU that executes, and the `cpu` given must be its
//! number. All operations may run on all CPUs at the same time.

use core::fmt;

use arrayvec::ArrayVec;
use memory::PaRange;

mod bank;
#[cfg(test)]
mod tests;
pub mod v2;
mod v2_registers;
pub mod v3;
mod v3_registers;
mod virtual_state;

pub use virtual_state::VirtualState;

/// Regions a GIC may have: a distributor, and up to eight redistributor regions.
pub const MAX_REGIONS: usize = 9;

/// List registers that are used: all that a GICv3 can have; a GICv2 could have more, none does.
pub const MAX_LISTS: usize = 16;

/// The number of an interrupt: 0 to 15 software generated, 16 to 31 private to each CPU, 32 to 1019
/// shared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IntId(u32);

impl IntId {
    /// The interrupt with this number; `None` for numbers that are none (1020 to 1023 have a meaning of
    /// their own, LPIs are not used).
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number < 1020 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether each CPU has its own (SGI or PPI).
    #[inline(always)]
    #[must_use]
    pub const fn is_private(self) -> bool {
        self.0 < 32
    }
}

impl fmt::Display for IntId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..16 => write!(f, "{} (SGI {})", self.0, self.0),
            16..32 => write!(f, "{} (PPI {})", self.0, self.0 - 16),
            _ => write!(f, "{} (SPI {})", self.0, self.0 - 32),
        }
    }
}

/// What [`Gic::acknowledge`] gave: an interrupt that is active now and has to be ended. For a GICv2 SGI
/// it also holds the sender, without which the SGI cannot be ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledged(u32);

impl Acknowledged {
    /// From what the acknowledge register gave; `None` if there was nothing (1020 to 1023; IHI 0048B
    /// 3.2.5, IHI 0069 2.2.1).
    #[inline(always)]
    fn new(raw: u32) -> Option<Self> {
        if raw & 0x3ff < 1020 {
            Some(Self(raw))
        } else {
            None
        }
    }

    fn raw(self) -> u32 {
        self.0
    }

    /// Which interrupt it is.
    #[inline(always)]
    #[must_use]
    pub const fn intid(self) -> IntId {
        IntId(self.0 & 0x3ff)
    }
}

/// What makes an interrupt pending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// A high line, for as long as it is high.
    Level,
    /// A rising edge.
    Edge,
}

/// Why the interrupt controller cannot be used, or one interrupt of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A region is too small for its registers, or not aligned.
    Region(PaRange),
    /// More redistributor regions than there is room for.
    TooManyRegions,
    /// No such logical CPU, or it has not called `init_cpu`.
    CpuNumber(usize),
    /// GICv2: this CPU's interface has no number.
    NoCpuInterface,
    /// GICv3: no redistributor for a CPU of this affinity.
    NoRedistributor(u64),
    /// GICv3: firmware keeps the system registers from us (`ICC_SRE_EL2.SRE` stays 0).
    NoSystemRegisters,
    /// The hardware did not answer in time; the register that was waited for.
    NoAnswer(&'static str),
    /// Firmware keeps this interrupt for itself, or it does not exist: it ignores what is written.
    Kept(IntId),
    /// Only shared interrupts have a target.
    NotShared(IntId),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(range) => write!(f, "the region {range} is too small or not aligned"),
            Self::TooManyRegions => f.write_str("too many redistributor regions"),
            Self::CpuNumber(cpu) => write!(f, "CPU {cpu} is not known to the interrupt controller"),
            Self::NoCpuInterface => f.write_str("this CPU has no CPU interface"),
            Self::NoRedistributor(affinity) => {
                write!(f, "no redistributor for the CPU of affinity {affinity:#x}")
            }
            Self::NoSystemRegisters => {
                f.write_str("firmware withholds the interrupt controller's system registers")
            }
            Self::NoAnswer(register) => write!(f, "no answer from {register}"),
            Self::Kept(intid) => {
                write!(f, "interrupt {intid} does not exist or is kept by firmware")
            }
            Self::NotShared(intid) => write!(f, "interrupt {intid} is private, it has no target"),
        }
    }
}

/// The address of a region that has to hold a `T`.
fn address_of<T>(region: PaRange) -> Result<usize, Error> {
    let address = region.start().get();
    if address == 0
        || !address.is_multiple_of(align_of::<T>() as u64)
        || region.size() < size_of::<T>() as u64
    {
        return Err(Error::Region(region));
    }
    usize::try_from(address).map_err(|_| Error::Region(region))
}

/// The interrupt controller.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, and it does not move"
)]
pub enum Gic {
    /// GICv2.
    V2(v2::Gic),
    /// GICv3, or a GICv4 used as one.
    V3(v3::Gic),
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Self::V2(gic) => gic.$method($($argument),*),
            Self::V3(gic) => gic.$method($($argument),*),
        }
    };
}

impl Gic {
    /// A GICv2: distributor, CPU interface and hypervisor interface.
    ///
    /// # Errors
    ///
    /// [`Error::Region`] if one is too small or misplaced.
    ///
    /// # Safety
    ///
    /// The ranges are those of a GICv2, mapped one to one as Device memory for as long as the value
    /// lives, and nobody else drives it.
    pub unsafe fn v2(
        distributor: PaRange,
        cpu_interface: PaRange,
        hypervisor_interface: PaRange,
    ) -> Result<Self, Error> {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { v2::Gic::new(distributor, cpu_interface, hypervisor_interface) }.map(Self::V2)
    }

    /// A GICv3: distributor and redistributor regions.
    ///
    /// # Errors
    ///
    /// [`Error::Region`] if one is too small or misplaced, [`Error::TooManyRegions`].
    ///
    /// # Safety
    ///
    /// The ranges are those of a GICv3, mapped one to one as Device memory for as long as the value
    /// lives, and nobody else drives it. The CPUs that use it execute at EL2.
    pub unsafe fn v3(distributor: PaRange, redistributors: &[PaRange]) -> Result<Self, Error> {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { v3::Gic::new(distributor, redistributors) }.map(Self::V3)
    }

    /// The regions that have to stay mapped. GICV, which guests use, is not among them.
    #[must_use]
    pub fn regions(&self) -> ArrayVec<PaRange, MAX_REGIONS> {
        either!(self.regions()).iter().copied().collect()
    }

    /// Interrupts that the distributor has room for: numbers below this.
    #[must_use]
    pub fn interrupts(&self) -> u32 {
        either!(self.interrupts())
    }

    /// Puts every shared interrupt into the state to start from (disabled, neither pending nor active,
    /// one priority, our group where the GIC lets us, level) and turns forwarding on. To be called once,
    /// before any `init_cpu`.
    ///
    /// # Errors
    ///
    /// [`Error::NoAnswer`].
    pub fn init_distributor(&self) -> Result<(), Error> {
        either!(self.init_distributor())
    }

    /// Makes the CPU that executes, with the logical number `cpu` and these `MPIDR_EL1` affinity fields,
    /// take interrupts: its private interrupts disabled and idle, its interface on with split ends, its
    /// virtual interface empty and off.
    ///
    /// # Errors
    ///
    /// What is missing: see [`Error`].
    pub fn init_cpu(&self, cpu: usize, mpidr: u64) -> Result<(), Error> {
        either!(self.init_cpu(cpu, mpidr))
    }

    /// Acknowledges the highest pending interrupt, which is active from then on. `None` if there is
    /// none, or no longer.
    #[inline]
    #[must_use]
    pub fn acknowledge(&self) -> Option<Acknowledged> {
        either!(self.acknowledge())
    }

    /// The number of the interrupt that [`Self::acknowledge`] would give now.
    #[must_use]
    pub fn highest_pending(&self) -> Option<IntId> {
        either!(self.highest_pending()).map(Acknowledged::intid)
    }

    /// First half of the end: other interrupts of the same priority may come. Once for every
    /// `acknowledge`, in reverse order.
    #[inline]
    pub fn priority_drop(&self, acknowledged: Acknowledged) {
        either!(self.priority_drop(acknowledged));
    }

    /// Second half of the end: the same interrupt may come again. The device's line must be low by then,
    /// or it comes at once.
    #[inline]
    pub fn deactivate(&self, acknowledged: Acknowledged) {
        either!(self.deactivate(acknowledged));
    }

    /// Makes sure that the interrupt is ours: writes an enable and a priority and reads them back. It is
    /// left disabled.
    ///
    /// # Errors
    ///
    /// [`Error::Kept`] if it ignores them; [`Error::CpuNumber`].
    pub fn claim(&self, cpu: usize, intid: IntId) -> Result<(), Error> {
        if intid.get() < self.interrupts() && either!(self.bank(cpu, intid))?.accepts(intid) {
            Ok(())
        } else {
            Err(Error::Kept(intid))
        }
    }

    /// Lets the interrupt through.
    ///
    /// # Errors
    ///
    /// [`Error::CpuNumber`].
    pub fn enable(&self, cpu: usize, intid: IntId) -> Result<(), Error> {
        either!(self.bank(cpu, intid))?.enable(intid);
        Ok(())
    }

    /// Holds the interrupt back. When this returns, no CPU takes it any more.
    ///
    /// # Errors
    ///
    /// [`Error::CpuNumber`], [`Error::NoAnswer`].
    pub fn disable(&self, cpu: usize, intid: IntId) -> Result<(), Error> {
        either!(self.bank(cpu, intid))?.disable(intid);
        either!(self.settle(cpu, intid))
    }

    /// Sets what makes the interrupt pending. It must be disabled (IHI 0048B 4.3.13, IHI 0069 12.9).
    /// For private interrupts the hardware may have its own mind.
    ///
    /// # Errors
    ///
    /// [`Error::CpuNumber`].
    pub fn set_trigger(&self, cpu: usize, intid: IntId, trigger: Trigger) -> Result<(), Error> {
        either!(self.set_trigger(cpu, intid, trigger))
    }

    /// Directs a shared interrupt to a CPU that has called `init_cpu`.
    ///
    /// # Errors
    ///
    /// [`Error::NotShared`], [`Error::CpuNumber`].
    pub fn set_target(&self, intid: IntId, cpu: usize) -> Result<(), Error> {
        if intid.is_private() {
            return Err(Error::NotShared(intid));
        }
        either!(self.set_target(intid, cpu))
    }

    /// Takes the pending state off an interrupt (that of a level comes back while its line is high).
    ///
    /// # Errors
    ///
    /// [`Error::CpuNumber`].
    pub fn clear_pending(&self, cpu: usize, intid: IntId) -> Result<(), Error> {
        either!(self.bank(cpu, intid))?.clear_pending(intid);
        Ok(())
    }

    /// Whether the interrupt is active: acknowledged and not yet deactivated.
    ///
    /// # Errors
    ///
    /// [`Error::CpuNumber`].
    #[inline]
    pub fn is_active(&self, cpu: usize, intid: IntId) -> Result<bool, Error> {
        Ok(either!(self.bank(cpu, intid))?.is_active(intid))
    }

    /// Makes the interrupt active or takes the active state off it: when a vCPU that has it in a
    /// hardware-linked list register is switched in or out, or will never end it. It has arrived when
    /// this returns.
    ///
    /// # Errors
    ///
    /// [`Error::CpuNumber`].
    #[inline]
    pub fn set_active(&self, cpu: usize, intid: IntId, active: bool) -> Result<(), Error> {
        let bank = either!(self.bank(cpu, intid))?;
        if active {
            bank.set_active(intid);
        } else {
            bank.clear_active(intid);
        }
        Ok(())
    }

    /// Sends software generated interrupt `sgi` (0 to 15) to a CPU that has called `init_cpu`, itself
    /// included. All that this CPU has stored before is visible to the receiver.
    ///
    /// # Errors
    ///
    /// [`Error::CpuNumber`].
    #[inline]
    pub fn send_sgi(&self, cpu: usize, sgi: u32) -> Result<(), Error> {
        either!(self.send_sgi(cpu, sgi & 15))
    }

    /// Whether an interrupt that a guest ends through a list register, and that is pending again by then,
    /// may not be signalled before something else happens to the interrupt controller: a fault of an
    /// emulator, which whoever relies on such interrupts must make up for.
    #[inline]
    #[must_use]
    pub fn forgets_after_virtual_end(&self) -> bool {
        match self {
            Self::V2(gic) => gic.forgets_after_virtual_end(),
            Self::V3(_) => false,
        }
    }

    /// List registers of each CPU, at most [`MAX_LISTS`].
    #[inline]
    #[must_use]
    pub fn list_count(&self) -> usize {
        either!(self.list_count())
    }

    /// The raw value of a list register of this CPU: `GICH_LR` or `ICH_LR_EL2`. `index` is below
    /// [`list_count`](Self::list_count).
    #[inline]
    #[must_use]
    pub fn read_list(&self, index: usize) -> u64 {
        either!(self.read_list(index))
    }

    /// Writes a list register of this CPU.
    #[inline]
    pub fn write_list(&self, index: usize, raw: u64) {
        either!(self.write_list(index, raw));
    }

    /// A bit for each list register of this CPU that exists and holds nothing (`ELRSR`), with all that this CPU
    /// wrote before taken into account.
    #[inline]
    #[must_use]
    pub fn empty_lists(&self) -> u32 {
        either!(self.empty_lists())
    }

    /// A bit for each list register of this CPU whose interrupt has ended and that asked to be told
    /// (`EISR`).
    #[must_use]
    pub fn ended_lists(&self) -> u32 {
        either!(self.ended_lists())
    }

    /// Which maintenance conditions hold (`MISR`).
    #[must_use]
    pub fn maintenance_status(&self) -> u32 {
        either!(self.maintenance_status())
    }

    /// Turns this CPU's virtual interface on or off (`HCR.En`). Off, nothing reaches the guest.
    #[inline]
    pub fn enable_virtual(&self, on: bool) {
        either!(self.enable_virtual(on));
    }

    /// Sets the conditions on which this CPU gets the maintenance interrupt: exactly these bits 7:1 of
    /// `GICH_HCR` or `ICH_HCR_EL2`. Enable and end count stay. With bit 2 (ends without a list register) a GICv3 that
    /// can makes the guest's writes of DIR trap (TDIR).
    #[inline]
    pub fn set_maintenance(&self, conditions: u32) {
        either!(self.set_maintenance(conditions));
    }

    /// Takes the count of ends for which no list register was found (`HCR.EOICount`) and makes it 0.
    #[inline]
    pub fn take_end_count(&self) -> u32 {
        either!(self.take_end_count())
    }

    /// What the guest has written to its CPU interface, in the hardware's format (`VMCR`).
    #[must_use]
    pub fn vmcr(&self) -> u64 {
        either!(self.vmcr())
    }

    /// Sets what the guest has written to its CPU interface.
    pub fn set_vmcr(&self, raw: u64) {
        either!(self.set_vmcr(raw));
    }

    /// Reads the state of the vCPU that is switched out, but for its list registers.
    #[inline]
    pub fn save_virtual(&self, state: &VirtualState) {
        either!(self.save_virtual(state));
    }

    /// Writes the state of the vCPU that is switched in, but for its list registers.
    #[inline]
    pub fn load_virtual(&self, state: &VirtualState) {
        either!(self.load_virtual(state));
    }
}
