//! All `unsafe` of this guest: hypercalls as they are, and stores to RAM that no Rust object is in.

use runtime::{exception, hypercall};

/// Any hypercall. Pointers in `arguments` must be to this guest's own statics or locals made for it, to
/// [`runtime::memory::spare`], or to nothing mapped.
pub(crate) fn call(number: u64, arguments: [u64; 5]) -> i64 {
    // SAFETY: the cases pass what is said above.
    unsafe { hypercall::call(number, arguments) }
}

/// A call of the form `number(command, &argument, count)`.
pub(crate) fn with<T>(number: u64, command: u64, argument: &mut T, count: u64) -> i64 {
    call(number, [command, pointer(argument), count, 0, 0])
}

/// The address of `value`, for a hypercall that writes it.
pub(crate) fn pointer<T>(value: &mut T) -> u64 {
    core::ptr::from_mut(value) as u64
}

/// Stores to [`runtime::memory::spare`] or to a place where such a page is mapped; whether something is there.
pub(crate) fn store(address: u64, value: u64) -> bool {
    // SAFETY: as said: no Rust object is there.
    unsafe { exception::store64(address, value) }.is_ok()
}

/// Loads from anywhere; `None` if nothing is there.
pub(crate) fn load(address: u64) -> Option<u64> {
    exception::load64(address).ok()
}

/// Makes a null hypercall with every register filled, and returns a bit for each of x5 to x15, x17 and
/// x20 to x28 that came back changed.
pub(crate) fn changed_registers() -> u64 {
    let changed: u64;
    // SAFETY: xen_version 0 touches no memory; every register used is named or saved on the stack.
    unsafe {
        core::arch::asm!(
            "stp x18, x19, [sp, #-32]!",
            "str x29, [sp, #16]",
            ".irp n, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30",
            "mov x\\n, #(0x5a00 + \\n)",
            "movk x\\n, #0xc3c3, lsl #48",
            ".endr",
            "mov x16, #17",
            "mov x0, #0",
            "mov x1, #0",
            "hvc #0xea1",
            "mov x0, #0",
            ".irp n, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30",
            "mov x1, #(0x5a00 + \\n)",
            "movk x1, #0xc3c3, lsl #48",
            "cmp x1, x\\n",
            "cset x1, ne",
            "orr x0, x0, x1, lsl #\\n",
            ".endr",
            "ldr x29, [sp, #16]",
            "ldp x18, x19, [sp], #32",
            out("x0") changed,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _,
            clobber_abi("C"),
        );
    }
    changed
}
