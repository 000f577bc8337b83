//! The instructions that the tests are about and that no safe interface should offer. All `unsafe` of
//! this guest is here. The functions are safe to call in the sense that the guest survives them or that
//! its end is the test; what each may not be used for is said with it.

use core::sync::atomic::{AtomicU64, Ordering};
use runtime::{
    exception::{self, Fault},
    hypercall,
};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often [`hypercall`] was used, on all CPUs.
pub(crate) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Any hypercall. Pointers in `arguments` must be to this guest's own statics or locals made for it, or
/// to nothing mapped.
pub(crate) fn hypercall(number: u64, arguments: [u64; 5]) -> i64 {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the tests pass what is said above.
    unsafe { hypercall::call(number, arguments) }
}

/// The address of `value`, for a hypercall that writes it.
pub(crate) fn pointer<T>(value: &mut T) -> u64 {
    core::ptr::from_mut(value) as u64
}

/// Encodes MRS of a system register to x0.
pub(crate) const fn mrs(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    0xd520_0000 | system(op0, op1, crn, crm, op2)
}

/// Encodes MSR of x0 to a system register.
pub(crate) const fn msr(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    0xd500_0000 | system(op0, op1, crn, crm, op2)
}

const fn system(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// Encodes `HVC #immediate`.
pub(crate) const fn hvc(immediate: u16) -> u32 {
    0xd400_0002 | (immediate as u32) << 5
}

/// Encodes `SMC #immediate`.
pub(crate) const fn smc(immediate: u16) -> u32 {
    0xd400_0003 | (immediate as u32) << 5
}

/// Executes one instruction, x0 in and out. It must not be one that takes away what the guest stands
/// on: no write to SCTLR, TTBR, TCR, VBAR, SP, ELR or SPSR.
pub(crate) fn execute(instruction: u32, operand: u64) -> Result<u64, Fault> {
    // SAFETY: the tests pass what is said above.
    unsafe { exception::execute(instruction, operand) }
}

/// Stores 32 bits at an address that is no Rust memory.
pub(crate) fn store32(address: u64, value: u32) -> Result<(), Fault> {
    // SAFETY: as said: a device, or nothing.
    unsafe { exception::store32(address, value) }
}

/// Stores 8 bits at an address that is no Rust memory.
pub(crate) fn store8(address: u64, value: u8) -> Result<(), Fault> {
    // SAFETY: as said: a device, or nothing.
    unsafe { exception::store8(address, value) }
}

/// Stores 16 bits at an address that is no Rust memory.
pub(crate) fn store16(address: u64, value: u16) -> Result<(), Fault> {
    // SAFETY: as said: a device, or nothing.
    unsafe { exception::store16(address, value) }
}

/// Stores 64 bits at an address that is no Rust memory: a device, nothing, or [`runtime::memory::spare`].
pub(crate) fn store64(address: u64, value: u64) -> Result<(), Fault> {
    // SAFETY: as said.
    unsafe { exception::store64(address, value) }
}

/// The FP registers: v0 to v31, then FPCR and FPSR.
#[repr(C, align(16))]
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FloatingPoint {
    pub(crate) v: [u128; 32],
    pub(crate) control: u64,
    pub(crate) status: u64,
}

/// Loads the FP registers. The rest of the guest is compiled without FP, so they stay until the next
/// load, whatever this guest runs.
pub(crate) fn load_floating_point(from: &FloatingPoint) {
    // SAFETY: FP is on from entry; no compiled code uses these registers.
    unsafe {
        core::arch::asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            "ldp q0, q1, [{from}]", "ldp q2, q3, [{from}, #32]",
            "ldp q4, q5, [{from}, #64]", "ldp q6, q7, [{from}, #96]",
            "ldp q8, q9, [{from}, #128]", "ldp q10, q11, [{from}, #160]",
            "ldp q12, q13, [{from}, #192]", "ldp q14, q15, [{from}, #224]",
            "ldp q16, q17, [{from}, #256]", "ldp q18, q19, [{from}, #288]",
            "ldp q20, q21, [{from}, #320]", "ldp q22, q23, [{from}, #352]",
            "ldp q24, q25, [{from}, #384]", "ldp q26, q27, [{from}, #416]",
            "ldp q28, q29, [{from}, #448]", "ldp q30, q31, [{from}, #480]",
            "ldr {control}, [{from}, #512]",
            "ldr {status}, [{from}, #520]",
            "msr fpcr, {control}",
            "msr fpsr, {status}",
            from = in(reg) from,
            control = out(reg) _,
            status = out(reg) _,
            options(nostack),
        );
    }
}

/// Stores the FP registers.
pub(crate) fn store_floating_point(to: &mut FloatingPoint) {
    // SAFETY: FP is on from entry; `to` is exclusively borrowed and large enough.
    unsafe {
        core::arch::asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            "stp q0, q1, [{to}]", "stp q2, q3, [{to}, #32]",
            "stp q4, q5, [{to}, #64]", "stp q6, q7, [{to}, #96]",
            "stp q8, q9, [{to}, #128]", "stp q10, q11, [{to}, #160]",
            "stp q12, q13, [{to}, #192]", "stp q14, q15, [{to}, #224]",
            "stp q16, q17, [{to}, #256]", "stp q18, q19, [{to}, #288]",
            "stp q20, q21, [{to}, #320]", "stp q22, q23, [{to}, #352]",
            "stp q24, q25, [{to}, #384]", "stp q26, q27, [{to}, #416]",
            "stp q28, q29, [{to}, #448]", "stp q30, q31, [{to}, #480]",
            "mrs {control}, fpcr",
            "mrs {status}, fpsr",
            "str {control}, [{to}, #512]",
            "str {status}, [{to}, #520]",
            to = in(reg) to,
            control = out(reg) _,
            status = out(reg) _,
            options(nostack),
        );
    }
}

/// Reads one feature register into each of x20 to x28, and returns a bit for each that holds something
/// else afterwards than x0, which was read the same way.
pub(crate) fn lost_by_traps() -> u64 {
    let lost: u64;
    // SAFETY: a register that EL1 may read; every register used is named.
    unsafe {
        core::arch::asm!(
            "mrs x0, id_aa64isar0_el1",
            "mov x1, #0",
            ".irp n, 20, 21, 22, 23, 24, 25, 26, 27, 28",
            "mov x\\n, #-1",
            "mrs x\\n, id_aa64isar0_el1",
            ".endr",
            ".irp n, 20, 21, 22, 23, 24, 25, 26, 27, 28",
            "cmp x\\n, x0",
            "cset x2, ne",
            "orr x1, x1, x2, lsl #\\n",
            ".endr",
            out("x0") _, out("x1") lost, out("x2") _,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _,
            options(nomem, nostack),
        );
    }
    lost
}

/// Reads the counter that a hypervisor does not offset: CNTPCT_EL0.
pub(crate) fn physical_counter() -> u64 {
    execute(mrs(3, 3, 14, 0, 1), 0).unwrap_or(0)
}

/// Jumps to `address` and does not come back by itself.
pub(crate) fn jump(address: u64) {
    // SAFETY: this is meant to end the guest.
    unsafe { core::arch::asm!("blr {address}", address = in(reg) address, clobber_abi("C")) };
}

/// A register of one of the two timers of a guest.
#[derive(Clone, Copy)]
pub(crate) enum TimerRegister {
    VirtualValue,
    VirtualControl,
    VirtualCompare,
    PhysicalValue,
    PhysicalControl,
    PhysicalCompare,
}

macro_rules! timer_registers {
    ($($which:ident $name:literal),*) => {
        /// Reads it.
        pub(crate) fn timer_register(which: TimerRegister) -> u64 {
            let value: u64;
            match which {
                // SAFETY: a timer of this guest; the barrier keeps the read after what was written before.
                $(TimerRegister::$which => unsafe {
                    core::arch::asm!("isb", concat!("mrs {}, ", $name), out(reg) value);
                },)*
            }
            value
        }

        /// Writes it.
        pub(crate) fn set_timer_register(which: TimerRegister, value: u64) {
            match which {
                // SAFETY: a timer of this guest; the barrier says that it has changed when this returns.
                $(TimerRegister::$which => unsafe {
                    core::arch::asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value);
                },)*
            }
        }
    };
}

timer_registers! {
    VirtualValue "cntv_tval_el0", VirtualControl "cntv_ctl_el0", VirtualCompare "cntv_cval_el0",
    PhysicalValue "cntp_tval_el0", PhysicalControl "cntp_ctl_el0", PhysicalCompare "cntp_cval_el0"
}
