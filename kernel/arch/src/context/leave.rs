//! A CPU that is left with nothing loaded: the vCPU's state is forgotten, or stored to go on elsewhere.

use core::sync::atomic::Ordering;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTV_CTL_EL0, HCR_EL2, VTTBR_EL2};
use tock_registers::interfaces::{Readable, Writeable};

use super::{OWN_CONFIGURATION, save, stop, stop_translations};
use crate::cpu::Header;
use crate::serror;

/// Proof that [`store`] left nothing to run on this CPU but the general registers of who was loaded.
#[must_use]
pub struct Stored(());

/// Leaves nothing loaded on this CPU: the vCPU's state is forgotten, and no walk can go through its
/// tables any more. Its context is free afterwards, to be reset or never used again. `ESR_EL2` of an SError that
/// it has caused, which goes with it.
pub fn unload(header: &Header) -> Option<u64> {
    let current = header.current();
    if current.is_null() {
        return None;
    }
    barrier::dsb(barrier::SY);
    stop_translations();
    let serror = serror::take_pending(header);
    CNTV_CTL_EL0.set(0);
    barrier::isb(barrier::SY);
    forget_guest();
    header
        .current
        .store(core::ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: the context was loaded on this CPU, and is static.
    let current = unsafe { &*current };
    current.owned.store(0, Ordering::Release);
    serror
}

/// Stores the vCPU that is loaded on this CPU, if one is, and leaves nothing loaded, as [`unload`]: but for its general
/// registers, which follow when the handler gives back the proof. Its context is free from then on. `raised` as
/// for [`switch_to`].
pub fn store(header: &Header, raised: impl FnOnce(u64, bool) -> bool) -> Option<Stored> {
    let current = header.current();
    if current.is_null() {
        return None;
    }
    save(current);
    stop(header, raised);
    forget_guest();
    Some(Stored(()))
}

/// No guest is in force.
fn forget_guest() {
    // VMID 0 belongs to no guest, and its root is no table: but nothing runs with it.
    VTTBR_EL2.set(0);
    HCR_EL2.set(HCR_EL2.get() & !OWN_CONFIGURATION);
    barrier::isb(barrier::SY);
}
