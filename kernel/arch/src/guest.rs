//! Guest memory: by physical address for building a guest, and by the guest's own virtual address for
//! hypercalls.
//!
//! Guest memory is copied in one pass by our own assembly and never referenced: the guest may change it
//! at any moment.

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{PAR_EL1, SCTLR_EL1};
use memory::{PAGE_SIZE, Pa, Va};
use tock_registers::interfaces::{Readable, Writeable};

use crate::cache;

/// What a guest wants to do at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intent {
    /// EL2 will read there.
    Read,
    /// EL2 will write there.
    Write,
}

/// Translates a virtual address of the vCPU that is loaded, through both stages and with its EL1 rights
/// (`AT S12E1R/W`, DDI 0487 C5.5.1). `PAR_EL1` is the guest's and is put back. `None` on a fault, or if
/// the guest maps it as anything but Normal memory.
#[must_use]
pub fn translate(va: Va, intent: Intent) -> Option<Pa> {
    const FAULT: u64 = 1;
    let saved = PAR_EL1.get();
    match intent {
        // SAFETY: the instruction only writes PAR_EL1.
        Intent::Read => unsafe {
            asm!("at s12e1r, {}", in(reg) va.get(), options(nostack, preserves_flags));
        },
        // SAFETY: as above.
        Intent::Write => unsafe {
            asm!("at s12e1w, {}", in(reg) va.get(), options(nostack, preserves_flags));
        },
    }
    barrier::isb(barrier::SY);
    let par = PAR_EL1.get();
    PAR_EL1.set(saved);
    if par & FAULT != 0 {
        return None;
    }
    let page = par & 0x0000_ffff_ffff_f000;
    Some(Pa::new(page | va.offset_in(PAGE_SIZE)))
}

/// Whether the vCPU that is loaded runs with MMU and data cache on, so that its view of its memory and
/// ours agree without maintenance.
#[must_use]
pub fn caches_on() -> bool {
    const M_AND_C: u64 = 1 | 1 << 2;
    SCTLR_EL1.get() & M_AND_C == M_AND_C
}

/// Copies from guest memory into `into`.
///
/// # Safety
/// `from` lies in memory that EL2 maps as Normal for the whole length, and stays so during the call.
pub unsafe fn read(from: Pa, into: &mut [u8]) {
    // SAFETY: the caller vouches for the source; the target is a slice of ours, which no guest memory
    // overlaps.
    unsafe {
        cache::copy_bytes(
            into.as_mut_ptr().addr() as u64,
            from.get(),
            into.len() as u64,
        );
    }
}

/// Copies `bytes` into guest memory.
///
/// # Safety
/// `to` lies in memory that belongs to a guest, or to nobody, that EL2 maps as Normal, for the whole
/// length; no reference of ours points there.
pub unsafe fn write(to: Pa, bytes: &[u8]) {
    // SAFETY: the caller vouches for the target; the source is a slice of ours.
    unsafe { cache::copy_bytes(to.get(), bytes.as_ptr().addr() as u64, bytes.len() as u64) }
}

/// [`read`] of a few bytes, inlined: of as many as the compiler knows, word by word if the guest has aligned them.
///
/// # Safety
/// As [`read`].
#[inline]
pub unsafe fn read_item(from: Pa, into: &mut [u8]) {
    let (words, []) = into.as_chunks_mut::<8>() else {
        // SAFETY: the caller vouches for it.
        return unsafe { read(from, into) };
    };
    if !from.is_aligned(8) {
        // SAFETY: the caller vouches for it.
        return unsafe { read(from, into) };
    }
    let from = from.get() as *const u64;
    for (number, word) in words.iter_mut().enumerate() {
        // SAFETY: the caller vouches for the address; volatile, since the guest may write it at any moment.
        *word = unsafe { from.wrapping_add(number).read_volatile() }.to_ne_bytes();
    }
}

/// [`write`] of a few bytes, as [`read_item`].
///
/// # Safety
/// As [`write`].
#[inline]
pub unsafe fn write_item(to: Pa, bytes: &[u8]) {
    let (words, []) = bytes.as_chunks::<8>() else {
        // SAFETY: the caller vouches for it.
        return unsafe { write(to, bytes) };
    };
    if !to.is_aligned(8) {
        // SAFETY: the caller vouches for it.
        return unsafe { write(to, bytes) };
    }
    let to = to.get() as *mut u64;
    for (number, word) in words.iter().enumerate() {
        // SAFETY: the caller vouches for the address; volatile, since the guest may use it at any moment.
        unsafe {
            to.wrapping_add(number)
                .write_volatile(u64::from_ne_bytes(*word));
        }
    }
}

/// Copies from guest memory to guest memory. Where the two overlap, what comes of it is anything.
///
/// # Safety
/// As [`read`] for the source and as [`write`] for the target.
pub unsafe fn copy(from: Pa, to: Pa, size: u64) {
    // SAFETY: the caller vouches for both.
    unsafe { cache::copy_bytes(to.get(), from.get(), size) }
}

/// Reads an aligned 32-bit word of guest memory.
///
/// # Safety
/// As [`read`]; `from` is a multiple of 4.
#[inline]
#[must_use]
pub unsafe fn read_word(from: Pa) -> u32 {
    // SAFETY: the caller vouches for the address; volatile, since the guest may write it at any moment.
    u32::from_le(unsafe { (from.get() as *const u32).read_volatile() })
}
