//! What of a vCPU the virtual interface of a CPU holds, beside the list registers.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The part of a vCPU's interrupt state, beside the list registers, that lives in the hardware while
/// the vCPU is switched in. All 0 for a vCPU that has not run.
///
/// One CPU at a time has the vCPU, and what it wrote here is in order with what the next one reads by how that comes to
/// have it: so there is no lock, and the words are atomic only to be shared.
#[derive(Debug, Default)]
pub struct VirtualState {
    /// `GICH_VMCR` or `ICH_VMCR_EL2`: what the guest wrote to its CPU interface.
    pub vmcr: AtomicU64,
    /// The guest's active priorities: `GICH_APR` in the first; or `ICH_AP0R0` to `AP0R3` in the first
    /// four, `ICH_AP1R0` to `AP1R3` in the rest.
    pub active_priorities: [AtomicU32; 8],
}

impl VirtualState {
    /// As for a vCPU that has not run.
    pub fn reset(&self) {
        self.vmcr.store(0, Ordering::Relaxed);
        for word in &self.active_priorities {
            word.store(0, Ordering::Relaxed);
        }
    }
}
