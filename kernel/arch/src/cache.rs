//! Cache maintenance by address, and the routines that move guest memory.
//!
//! Guests start with their caches off, and ARMv8.0 has no forced write-back (FWB), so what EL2 writes for
//! a guest must reach the point of coherency before the guest looks. The loops are our own: their
//! instruction counts are part of the budgets.

use core::arch::{asm, naked_asm};

use aarch64_cpu::asm::barrier;
use memory::{Pa, PaRange};

/// Bytes of the smallest data cache line (`CTR_EL0.DminLine`, DDI 0487 D24.2.35).
fn line_size() -> u64 {
    let ctr: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) }
    4 << (ctr >> 16 & 0xf)
}

/// Cleans and invalidates `size` bytes from `start` to the point of coherency, and waits.
pub fn clean_invalidate(start: Pa, size: u64) {
    let line = line_size();
    let end = start.get().saturating_add(size);
    let mut at = start.get() & !(line - 1);
    while at < end {
        // SAFETY: cleaning and invalidating a line changes no value that the program can see.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) }
        at = at.saturating_add(line);
    }
    barrier::dsb(barrier::SY);
}

/// Makes all instruction caches forget everything: before a vCPU runs code that EL2 wrote.
pub fn invalidate_instructions() {
    // SAFETY: has no effect but on the caches.
    unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) }
    barrier::dsb(barrier::ISH);
    barrier::isb(barrier::SY);
}

/// Zeroes `range` and cleans and invalidates it to the point of coherency.
///
/// # Safety
/// The range is memory that EL2 maps as Normal, begins and ends at multiples of 4 KiB, and nobody else
/// uses it: no reference to it exists, and no guest runs with it.
pub unsafe fn scrub(range: PaRange) {
    let dczid: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) dczid, options(nomem, nostack, preserves_flags)) }
    let (start, end) = (range.start().get(), range.end().get());
    // DC ZVA of 64 bytes, lines of 64 bytes: every Cortex-A, so the one loop that is counted.
    if dczid == 4 && line_size() == 64 {
        // SAFETY: the caller owns the range; 4 KiB divides its size.
        unsafe { scrub_64(start, end) }
    } else {
        // SAFETY: as above.
        unsafe { scrub_words(start, end) }
        clean_invalidate(range.start(), range.size());
    }
    barrier::dsb(barrier::SY);
}

/// # Safety
/// As [`scrub`], with `DC ZVA` blocks and cache lines of 64 bytes. A page a turn: most of a guest's start is spent here.
#[unsafe(naked)]
unsafe extern "C" fn scrub_64(start: u64, end: u64) {
    naked_asm!(
        "b       2f",
        "1:",
        ".rept 64",
        "dc      zva, x0",
        "dc      civac, x0",
        "add     x0, x0, #64",
        ".endr",
        "2:",
        "cmp     x0, x1",
        "b.lo    1b",
        "ret",
    )
}

/// # Safety
/// As [`scrub`].
#[unsafe(naked)]
unsafe extern "C" fn scrub_words(start: u64, end: u64) {
    naked_asm!(
        "b       2f",
        "1:",
        ".rept 8",
        "stp     xzr, xzr, [x0], #16",
        ".endr",
        "2:",
        "cmp     x0, x1",
        "b.lo    1b",
        "ret",
    )
}

/// Copies `size` bytes from `from` to `to`, forwards, 256 bytes a turn where there are that many, through eight SIMD
/// registers, which are the loaded vCPU's and are given back to it. Neither end need be aligned: both are Normal
/// memory.
///
/// # Safety
/// Both are mapped as Normal memory for the whole size, `to` writable; only guest memory may overlap, of
/// which anything may become. What a guest may write meanwhile is copied in one pass and never looked at
/// twice.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn copy_bytes(to: u64, from: u64, size: u64) {
    naked_asm!(
        ".arch_extension fp",
        "subs    x2, x2, #128",
        "b.lo    2f",
        "stp     q0, q1, [sp, #-128]!",
        "stp     q2, q3, [sp, #32]",
        "stp     q4, q5, [sp, #64]",
        "stp     q6, q7, [sp, #96]",
        // A page is most of what is copied: 256 bytes a turn, and then half a turn if there is as much.
        "subs    x2, x2, #128",
        "b.lo    7f",
        "1:",
        "ldp     q0, q1, [x1], #256",
        "ldp     q2, q3, [x1, #-224]",
        "ldp     q4, q5, [x1, #-192]",
        "ldp     q6, q7, [x1, #-160]",
        "stp     q0, q1, [x0], #256",
        "stp     q2, q3, [x0, #-224]",
        "stp     q4, q5, [x0, #-192]",
        "stp     q6, q7, [x0, #-160]",
        "ldp     q0, q1, [x1, #-128]",
        "ldp     q2, q3, [x1, #-96]",
        "ldp     q4, q5, [x1, #-64]",
        "ldp     q6, q7, [x1, #-32]",
        "stp     q0, q1, [x0, #-128]",
        "stp     q2, q3, [x0, #-96]",
        "stp     q4, q5, [x0, #-64]",
        "stp     q6, q7, [x0, #-32]",
        "subs    x2, x2, #256",
        "b.hs    1b",
        "7:",
        "adds    x2, x2, #128",
        "b.mi    8f",
        "ldp     q0, q1, [x1], #128",
        "ldp     q2, q3, [x1, #-96]",
        "ldp     q4, q5, [x1, #-64]",
        "ldp     q6, q7, [x1, #-32]",
        "stp     q0, q1, [x0], #128",
        "stp     q2, q3, [x0, #-96]",
        "stp     q4, q5, [x0, #-64]",
        "stp     q6, q7, [x0, #-32]",
        "sub     x2, x2, #128",
        "8:",
        "ldp     q2, q3, [sp, #32]",
        "ldp     q4, q5, [sp, #64]",
        "ldp     q6, q7, [sp, #96]",
        "ldp     q0, q1, [sp], #128",
        "2:",
        "adds    x2, x2, #128",
        "b.eq    5f",
        "subs    x2, x2, #16",
        "b.lo    4f",
        "3:",
        "ldp     x3, x4, [x1], #16",
        "stp     x3, x4, [x0], #16",
        "subs    x2, x2, #16",
        "b.hs    3b",
        "4:",
        "adds    x2, x2, #16",
        "b.eq    5f",
        "tbz     x2, #3, 6f",
        "ldr     x3, [x1], #8",
        "str     x3, [x0], #8",
        "subs    x2, x2, #8",
        "b.eq    5f",
        "6:",
        "ldrb    w3, [x1], #1",
        "strb    w3, [x0], #1",
        "subs    x2, x2, #1",
        "b.ne    6b",
        "5:",
        "ret",
    )
}
