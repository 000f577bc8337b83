//! GICv2, the GIC-400 of the Pi 4 among others (IHI 0048B).
//!
//! * Ending is split in two (`EOImode` 1): the hypervisor drops the priority at once, and an interrupt
//!   that was handed to a guest stays active until the guest's own end of interrupt deactivates it by
//!   way of the hardware-linked list register.
//! * Groups. With one security state (QEMU) all interrupts are put into group 0, the one that
//!   `GICC_IAR` gives without further ado. With two (a real Pi 4) we see the Non-secure side, firmware
//!   has chosen, and writes to the groups are ignored. The control bits are the same in both views.
//! * CPU interfaces are numbered by the wiring, not by `MPIDR`: each CPU reads its own number.

use core::sync::atomic::{AtomicU8, Ordering};

use arrayvec::ArrayVec;
use memory::PaRange;
use sync::SpinLock;
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

use super::bank::{Bank, CTLR, SGIR, TYPER};
use super::v2_registers::{CpuInterface, GICC_CTLR, GICH_HCR, GICH_VTR, HypervisorInterface};
use super::{
    Acknowledged, Error, IntId, MAX_LISTS, MAX_REGIONS, Trigger, VirtualState, address_of,
};
use crate::mmio::Mmio;
use crate::{MAX_CPUS, barrier};

/// `GICC_IIDR` of QEMU's model: no product, no revision, GICv2, Arm.
const QEMU_IIDR: u32 = 0x0002_043b;

/// A GICv2.
pub struct Gic {
    distributor: Mmio<Bank>,
    cpu_interface: Mmio<CpuInterface>,
    hypervisor_interface: Mmio<HypervisorInterface>,
    regions: ArrayVec<PaRange, MAX_REGIONS>,
    lists: u8,
    /// A bit for each.
    all_lists: u32,
    /// See [`Self::forgets_after_virtual_end`].
    forgetful: bool,
    /// The bit of each CPU's interface, by logical CPU number; 0 until the CPU has been here.
    interfaces: [AtomicU8; MAX_CPUS],
    /// Held while a register that several interrupts share is read and written back.
    trigger: SpinLock<()>,
}

impl Gic {
    /// The GICv2 with these frames (of the tree's `reg`: first, second, third).
    ///
    /// # Errors
    ///
    /// [`Error::Region`] if one is too small or misplaced.
    ///
    /// # Safety
    ///
    /// The ranges are those of a GICv2, mapped one to one as Device memory for as long as the value
    /// lives, and nobody else drives it.
    pub unsafe fn new(
        distributor: PaRange,
        cpu_interface: PaRange,
        hypervisor_interface: PaRange,
    ) -> Result<Self, Error> {
        let gicd = address_of::<Bank>(distributor)?;
        let gicc = address_of::<CpuInterface>(cpu_interface)?;
        let gich = address_of::<HypervisorInterface>(hypervisor_interface)?;
        // SAFETY: the distributor, by the caller's promise; size and alignment were checked.
        let distributor_registers = unsafe { Mmio::new(gicd) };
        // SAFETY: the CPU interface, likewise.
        let cpu_registers: Mmio<CpuInterface> = unsafe { Mmio::new(gicc) };
        // SAFETY: the hypervisor interface, likewise.
        let hypervisor_registers: Mmio<HypervisorInterface> = unsafe { Mmio::new(gich) };
        let lists = hypervisor_registers.vtr.read(GICH_VTR::ListRegs) + 1;
        let forgetful = cpu_registers.iidr.get() == QEMU_IIDR;
        Ok(Self {
            distributor: distributor_registers,
            cpu_interface: cpu_registers,
            hypervisor_interface: hypervisor_registers,
            regions: [distributor, cpu_interface, hypervisor_interface]
                .into_iter()
                .collect(),
            lists: lists.min(MAX_LISTS as u32) as u8,
            all_lists: (1 << lists.min(MAX_LISTS as u32)) - 1,
            forgetful,
            interfaces: [const { AtomicU8::new(0) }; MAX_CPUS],
            trigger: SpinLock::new(()),
        })
    }

    /// Whether a private interrupt that became pending again while it was active is not signalled when a
    /// guest's end of it, through a list register, takes the active state off: not before something
    /// else happens to the interrupt controller. QEMU's model is so; hardware is not (IHI 0048B 5.2.1).
    pub(super) fn forgets_after_virtual_end(&self) -> bool {
        self.forgetful
    }

    pub(super) fn regions(&self) -> &[PaRange] {
        &self.regions
    }

    pub(super) fn interrupts(&self) -> u32 {
        self.distributor.interrupts()
    }

    pub(super) fn init_distributor(&self) -> Result<(), Error> {
        let distributor = &self.distributor;
        distributor.ctlr.set(0);
        let words = distributor.interrupts().div_ceil(32) as usize;
        distributor.reset_words(1, words - 1, 0);
        barrier::complete_all();
        distributor.ctlr.write(CTLR::Enable::SET);
        Ok(())
    }

    pub(super) fn init_cpu(&self, cpu: usize, _affinity: u64) -> Result<(), Error> {
        let slot = self.interfaces.get(cpu).ok_or(Error::CpuNumber(cpu))?;
        slot.store(self.own_interface()?, Ordering::Release);

        self.distributor.reset_words(0, 1, 0);
        let interface = &self.cpu_interface;
        let bypass = interface.ctlr.read(GICC_CTLR::Bypass);
        for priorities in &interface.apr {
            priorities.set(0);
        }
        interface.pmr.set(0xff);
        interface.ctlr.write(
            GICC_CTLR::Enable::SET + GICC_CTLR::EOImode::SET + GICC_CTLR::Bypass.val(bypass),
        );

        let virtual_interface = &self.hypervisor_interface;
        virtual_interface.hcr.set(0);
        for list in &virtual_interface.lr[..self.list_count()] {
            list.set(0);
        }
        self.load_virtual(&VirtualState::default());
        barrier::complete_all();
        Ok(())
    }

    /// The bit of this CPU's interface: what the targets of a private interrupt read as (4.3.12). They
    /// may read as 0 where there is one CPU.
    fn own_interface(&self) -> Result<u8, Error> {
        let private = &self.distributor.itargetsr[..32];
        match private.iter().map(Readable::get).find(|&mask| mask != 0) {
            Some(mask) => Ok(mask),
            None if self.distributor.typer.read(TYPER::CPUNumber) == 0 => Ok(1),
            None => Err(Error::NoCpuInterface),
        }
    }

    fn interface(&self, cpu: usize) -> Result<u8, Error> {
        match self
            .interfaces
            .get(cpu)
            .map(|mask| mask.load(Ordering::Relaxed))
        {
            Some(mask) if mask != 0 => Ok(mask),
            _ => Err(Error::CpuNumber(cpu)),
        }
    }

    #[inline]
    pub(super) fn acknowledge(&self) -> Option<Acknowledged> {
        let acknowledged = Acknowledged::new(self.cpu_interface.iar.get())?;
        // What the sender of an SGI wrote before it is read after the acknowledge.
        barrier::order_loads();
        Some(acknowledged)
    }

    pub(super) fn highest_pending(&self) -> Option<Acknowledged> {
        Acknowledged::new(self.cpu_interface.hppir.get())
    }

    #[inline]
    pub(super) fn priority_drop(&self, acknowledged: Acknowledged) {
        self.cpu_interface.eoir.set(acknowledged.raw());
    }

    #[inline]
    pub(super) fn deactivate(&self, acknowledged: Acknowledged) {
        // The write by which a handler lowered its device's line is another peripheral's: without this
        // it could arrive later, and the interrupt would come again (DDI 0487, "Memory barriers").
        barrier::complete_all();
        self.cpu_interface.dir.set(acknowledged.raw());
    }

    pub(super) fn bank(&self, _cpu: usize, _intid: IntId) -> Result<&Bank, Error> {
        Ok(&self.distributor)
    }

    pub(super) fn settle(&self, _cpu: usize, _intid: IntId) -> Result<(), Error> {
        Ok(())
    }

    pub(super) fn set_trigger(
        &self,
        _cpu: usize,
        intid: IntId,
        trigger: Trigger,
    ) -> Result<(), Error> {
        let _serialised = self.trigger.lock();
        self.distributor.set_trigger(intid, trigger);
        Ok(())
    }

    pub(super) fn set_target(&self, intid: IntId, cpu: usize) -> Result<(), Error> {
        self.distributor.itargetsr[intid.get() as usize & 1023].set(self.interface(cpu)?);
        Ok(())
    }

    #[inline]
    pub(super) fn send_sgi(&self, cpu: usize, sgi: u32) -> Result<(), Error> {
        let target = self.interface(cpu)?;
        // The mailbox that the receiver will look into is written before the interrupt is sent.
        barrier::complete_stores();
        self.distributor.sgir.write(
            SGIR::TargetListFilter::List
                + SGIR::CPUTargetList.val(u32::from(target))
                + SGIR::SGIINTID.val(sgi),
        );
        Ok(())
    }

    #[inline]
    pub(super) fn list_count(&self) -> usize {
        usize::from(self.lists)
    }

    #[inline]
    pub(super) fn read_list(&self, index: usize) -> u64 {
        u64::from(self.hypervisor_interface.lr[index & 63].get())
    }

    #[inline]
    pub(super) fn write_list(&self, index: usize, raw: u64) {
        self.hypervisor_interface.lr[index & 63].set(raw as u32);
    }

    #[inline]
    pub(super) fn empty_lists(&self) -> u32 {
        self.hypervisor_interface.elrsr[0].get() & self.all_lists
    }

    pub(super) fn ended_lists(&self) -> u32 {
        self.hypervisor_interface.eisr[0].get()
    }

    pub(super) fn maintenance_status(&self) -> u32 {
        self.hypervisor_interface.misr.get()
    }

    pub(super) fn enable_virtual(&self, on: bool) {
        self.hypervisor_interface
            .hcr
            .modify(GICH_HCR::En.val(u32::from(on)));
    }

    pub(super) fn set_maintenance(&self, conditions: u32) {
        // The count of unlisted ends lives in the same register and is kept.
        self.hypervisor_interface
            .hcr
            .modify(GICH_HCR::Maintenance.val(conditions >> 1));
    }

    pub(super) fn take_end_count(&self) -> u32 {
        let hcr = self.hypervisor_interface.hcr.extract();
        let count = hcr.read(GICH_HCR::EOICount);
        if count != 0 {
            self.hypervisor_interface
                .hcr
                .modify_no_read(hcr, GICH_HCR::EOICount::CLEAR);
        }
        count
    }

    pub(super) fn vmcr(&self) -> u64 {
        u64::from(self.hypervisor_interface.vmcr.get())
    }

    pub(super) fn set_vmcr(&self, raw: u64) {
        self.hypervisor_interface.vmcr.set(raw as u32);
    }

    #[inline]
    pub(super) fn save_virtual(&self, state: &VirtualState) {
        state.vmcr.store(self.vmcr(), Ordering::Relaxed);
        state.active_priorities[0].store(self.hypervisor_interface.apr.get(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn load_virtual(&self, state: &VirtualState) {
        self.set_vmcr(state.vmcr.load(Ordering::Relaxed));
        self.hypervisor_interface
            .apr
            .set(state.active_priorities[0].load(Ordering::Relaxed));
    }
}
