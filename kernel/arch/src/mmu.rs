//! EL2's own translation: what the registers hold, and how a map is put into force.
//!
//! Arm DDI 0487: `TCR_EL2` D24.2.180, `SCTLR_EL2` D24.2.175, enabling and disabling D8.2.12.

use core::arch::naked_asm;

use memory::MAIR;

/// 39 bits of address (T0SZ 25, start at level 1), 4 KiB granule, walks inner shareable write-back,
/// RES1 bits 31 and 23. PS is added at run time from `ID_AA64MMFR0_EL1.PARange`.
const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 31 | 1 << 23;

/// M, C, I on; write implies execute-never (WXN) is off, as the boot map has writable code; SA checks
/// the stack pointer's alignment. The rest are RES1 bits of Armv8.0.
const SCTLR: u64 = 0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12;

/// As above, MMU and data cache off, instruction cache on.
const SCTLR_OFF: u64 = 0x30c5_0830 | 1 << 12;

/// `SCTLR_EL2.WXN`: nothing writable is ever executed. Set with the final map.
const WXN: u64 = 1 << 19;

/// Turns the MMU on with the map at `root` (x0), one to one. Called with the MMU off.
///
/// # Safety
/// The map holds this code and the stack one to one, and is clean to the point of coherency.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn enable(root: u64) {
    naked_asm!(
        "mov     x2, #0",                // HCR_EL2: no E2H, no TGE, before TCR_EL2 means anything
        "movk    x2, #0x8000, lsl #16",  // RW: EL1 is AArch64
        "msr     hcr_el2, x2",
        "isb",
        "mov     x2, #{mair}",
        "msr     mair_el2, x2",
        "ldr     x2, ={tcr}",
        "mrs     x3, id_aa64mmfr0_el1",
        "and     x3, x3, #0xf",
        "mov     x4, #5",                // PS above 48 bits means other page table formats
        "cmp     x3, x4",
        "csel    x3, x4, x3, hi",
        "bfi     x2, x3, #16, #3",
        "msr     tcr_el2, x2",
        "msr     ttbr0_el2, x0",
        "isb",
        "tlbi    alle2",
        "ic      iallu",
        "dsb     nsh",
        "isb",
        "ldr     x2, ={sctlr}",
        "msr     sctlr_el2, x2",
        "isb",
        "ret",
        mair = const MAIR,
        tcr = const TCR,
        sctlr = const SCTLR,
    )
}

/// Replaces the boot map by the one at `root` and turns on WXN. The two hold the same addresses in
/// blocks of different sizes, which must not meet in a TLB, so the MMU is off in between; no data is
/// touched meanwhile.
///
/// # Safety
/// The map at `root` holds this code, the stack and all data in use one to one.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(root: u64) {
    naked_asm!(
        "ldr     x2, ={sctlr_off}",
        "ldr     x3, ={sctlr}",
        "dsb     sy",
        "msr     sctlr_el2, x2",
        "isb",
        "msr     ttbr0_el2, x0",
        "isb",
        "tlbi    alle2",
        "dsb     nsh",
        "isb",
        "msr     sctlr_el2, x3",
        "isb",
        "ret",
        sctlr_off = const SCTLR_OFF,
        sctlr = const SCTLR | WXN,
    )
}

/// Sets WXN on a CPU that started with the final map.
pub fn forbid_writable_code() {
    use aarch64_cpu::asm::barrier;
    use aarch64_cpu::registers::SCTLR_EL2;
    use tock_registers::interfaces::{Readable, Writeable};
    SCTLR_EL2.set(SCTLR_EL2.get() | WXN);
    barrier::isb(barrier::SY);
}
