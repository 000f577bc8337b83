//! The counter, and the EL2 physical timer with which the hypervisor ends time slices.
//!
//! DDI 0487, "The Generic Timer in AArch64 state". Time is in ticks of the
//! counter; [`frequency`] tells how many make a second.

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTPCT_EL0};
use tock_registers::interfaces::{Readable, Writeable};

use crate::barrier;
use crate::sysreg::CNTHP_CVAL_EL2;

/// The counter now. A read may be executed early, by the time of some instructions; nothing here needs
/// it closer.
#[inline(always)]
#[must_use]
pub fn now() -> u64 {
    CNTPCT_EL0.get()
}

/// Ticks in a second, as firmware has written it: 0 if firmware forgot, then the tree has to tell.
#[must_use]
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// Makes this CPU's timer interrupt come when the counter reaches `deadline` ticks; at once if it has.
pub fn arm(deadline: u64) {
    CNTHP_CVAL_EL2.set(deadline);
    CNTHP_CTL_EL2.write(
        aarch64_cpu::registers::CNTHP_CTL_EL2::ENABLE::SET
            + aarch64_cpu::registers::CNTHP_CTL_EL2::IMASK::CLEAR,
    );
    // A write that the CPU still holds back would be lost on a WFI that follows.
    barrier::synchronize();
}

/// Makes this CPU's timer interrupt come at `deadline` ticks, unless it comes before that anyway.
pub fn arm_no_later(deadline: u64) {
    let armed = CNTHP_CTL_EL2.is_set(aarch64_cpu::registers::CNTHP_CTL_EL2::ENABLE);
    if !armed || CNTHP_CVAL_EL2.get() > deadline {
        arm(deadline);
    }
}

/// Turns this CPU's timer off. Its line is low when this returns, so that the interrupt can be ended.
pub fn disarm() {
    CNTHP_CTL_EL2.set(0);
    barrier::synchronize();
}

/// Whether this CPU's timer is armed and its time has come.
#[must_use]
pub fn is_due() -> bool {
    // ISTATUS means nothing while ENABLE is 0 (DDI 0487, CNTHP_CTL_EL2).
    CNTHP_CTL_EL2.matches_all(
        aarch64_cpu::registers::CNTHP_CTL_EL2::ENABLE::SET
            + aarch64_cpu::registers::CNTHP_CTL_EL2::ISTATUS::SET,
    )
}
