//! The list registers, as the vGIC asks for them.

use platform::gic::{Gic, IntId};
use vgic::{ListRegisters, Maintenance};

use crate::cpus;

/// The board's interrupt controller, as the list registers of the CPU that executes.
#[repr(transparent)]
pub(crate) struct Lists(Gic);

impl Lists {
    pub(super) fn new(gic: Gic) -> Self {
        Self(gic)
    }

    /// The controller that they belong to.
    #[inline(always)]
    pub(crate) fn gic(&self) -> &Gic {
        &self.0
    }
}

impl ListRegisters for Lists {
    #[inline]
    fn count(&self) -> usize {
        self.0.list_count()
    }

    #[inline]
    fn read(&self, index: usize) -> u64 {
        self.0.read_list(index)
    }

    #[inline]
    fn write(&self, index: usize, raw: u64) {
        self.0.write_list(index, raw);
    }

    #[inline]
    fn empty(&self) -> u32 {
        self.0.empty_lists()
    }

    fn set_maintenance(&self, wanted: Maintenance) {
        self.0.set_maintenance(wanted.bits());
    }

    fn take_end_count(&self) -> u32 {
        self.0.take_end_count()
    }

    fn deactivate(&self, physical: vgic::IntId) {
        if let (Some(cpu), Some(intid)) = (cpus::this_cpu(), IntId::new(physical.get())) {
            let _ = self.0.set_active(cpu.index, intid, false);
        }
    }

    #[inline]
    fn is_asserted(&self, physical: vgic::IntId) -> bool {
        !super::is_virtual_timer(physical.get()) || super::is_timer_high()
    }
}
