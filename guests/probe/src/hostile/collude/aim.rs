//! Where a colluder says that the structure of a call lies: mostly where it does; at times in every kind of place
//! from which nothing may be taken, and to which nothing may be written.

use super::Colluder;
use crate::raw::pointer;
use runtime::{abi::guest_layout, memory};

impl Colluder {
    /// The address for a call.
    pub(super) fn aim<T>(&mut self, value: &mut T) -> u64 {
        match self.random.below(12) {
            0 => self.nowhere(),
            _ => pointer(value),
        }
    }

    /// A bad address, whole or in part. Not one of the window in which grants are mapped: QEMU 10.0 fails an assertion
    /// of its own if a call is to write where stage 2 lets read alone.
    fn nowhere(&mut self) -> u64 {
        let offset = self.random.below(memory::PAGE);
        match self.random.below(10) {
            // Edges of the number range, unaligned ones too.
            0 => self.random.argument(),
            1 => u64::MAX - self.random.below(64),
            // No virtual address at all; one of the half that is switched off.
            2 => 1 << 52 | self.random.next() & 0xffff_ffff,
            3 => 0xffff << 48 | self.random.next() & 0xffff_ffff,
            // Devices that are emulated, and that one that is not.
            4 => guest_layout::GICV3_DISTRIBUTOR + offset,
            5 => guest_layout::GICV3_REDISTRIBUTORS + offset,
            6 => guest_layout::VPL011 + offset,
            // A page of the hypervisor's.
            7 => self.console + offset,
            // From a page into the next, which may be the other guest's, or given up.
            8 => self.page() + memory::PAGE - self.random.below(32),
            // A page that may be so.
            _ => self.page() + offset,
        }
    }
}
