//! Physical SErrors that come while EL2 has them masked, taken one at a time where somebody waits for it.
//!
//! EL2 runs with PSTATE.A set, so they pend until the next guest runs. With `HCR_EL2.AMO` set, `ISR_EL1` read at
//! EL2 shows the physical ones (Arm DDI 0487 D24.2 "ISR_EL1"). A Cortex-A72 has no RAS extension, so no ESB that
//! would note them: unmasking them for an instant is the only way to get rid of one, as D1.3.4.5 has it.

use core::arch::asm;
use core::sync::atomic::Ordering;

use aarch64_cpu::registers::{ELR_EL2, SPSR_EL2};
use tock_registers::interfaces::{Readable, Writeable};

use crate::cpu::Header;
use crate::registers::ISR_EL1;

/// Whether one is pending. It may be read early: what is to be seen needs a DSB and an ISB before.
#[inline]
pub(crate) fn is_pending() -> bool {
    const A: u64 = 1 << 8;
    ISR_EL1.get() & A != 0
}

/// Takes the SError that is pending on this CPU, if one is, and gives its `ESR_EL2`.
pub fn take_pending(header: &Header) -> Option<u64> {
    if is_pending() { take(header) } else { None }
}

/// Takes one that is pending: `ESR_EL2`, or `None` if it went away. `ELR_EL2` and `SPSR_EL2`, which may be a
/// guest's, are put back; `ESR_EL2` is lost.
#[cold]
pub(crate) fn take(header: &Header) -> Option<u64> {
    let (address, state) = (ELR_EL2.get(), SPSR_EL2.get());
    header.awaits_serror.store(1, Ordering::Relaxed);
    let esr: u64;
    // SAFETY: the vector of EL2's SErrors, told by `awaits_serror`, changes nothing but x18, and comes back here
    // with A masked.
    unsafe {
        asm!(
            "mov x18, xzr",
            "msr daifclr, #4",
            // A context synchronization event: it is taken here, if at all (DDI 0487 D1.3.4.5).
            "isb",
            "msr daifset, #4",
            out("x18") esr,
        );
    }
    header.awaits_serror.store(0, Ordering::Relaxed);
    ELR_EL2.set(address);
    SPSR_EL2.set(state);
    (esr != 0).then_some(esr)
}

/// Nothing is loaded on this CPU: one that is pending is EL2's own, and is taken and reported as such.
pub fn fail_if_pending() {
    if is_pending() {
        fail();
    }
}

#[cold]
pub(crate) fn fail() {
    // SAFETY: the vector of EL2's SErrors does not come back; if none is taken, nothing changes.
    unsafe { asm!("msr daifclr, #4", "isb", "msr daifset, #4") }
}
