//! The system counter (Arm DDI 0487, D12.1). EL2's own timer is driven by `platform`.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0};
use tock_registers::interfaces::Readable;

/// Ticks since the counter started. The barrier keeps the read from happening early (D12.1.2).
#[must_use]
pub fn counter() -> u64 {
    barrier::isb(barrier::SY);
    CNTPCT_EL0.get()
}

/// Ticks a second, as firmware set it.
#[must_use]
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}
