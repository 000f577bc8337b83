//! Hypercalls (xen-arm-hypercalls: `hvc #0xEA1`, number in x16, arguments in x0 to x4, result in x0).

use abi::{DomainId, Errno, hvm, hypercall, memory_op, sched};

/// Calls `number` with `arguments`.
///
/// # Safety
/// Arguments that are addresses must be of memory that the call may write as its definition says; a
/// call that remaps guest memory must not take away what Rust relies on.
#[inline]
pub unsafe fn call(number: u64, arguments: [u64; 5]) -> i64 {
    let result: i64;
    // SAFETY: the convention above; everything else is preserved. The caller answers for what the
    // call does to memory.
    unsafe {
        core::arch::asm!(
            "hvc #{immediate}",
            immediate = const hypercall::HVC_IMMEDIATE,
            inlateout("x16") number => _,
            inlateout("x0") arguments[0] => result,
            inlateout("x1") arguments[1] => _,
            inlateout("x2") arguments[2] => _,
            inlateout("x3") arguments[3] => _,
            inlateout("x4") arguments[4] => _,
            options(nostack),
        );
    }
    result
}

/// An error as the ABI numbers it, or a number that the ABI does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error(pub i64);

impl Error {
    /// The name, if it has one.
    pub fn errno(self) -> Option<Errno> {
        Errno::from_return(self.0)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.errno() {
            Some(errno) => write!(f, "-{errno}"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Turns a return value into a result.
///
/// # Errors
/// Any negative value.
pub fn check(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error(value))
}

/// Calls an operation that takes a pointer to a structure of the ABI.
///
/// # Errors
/// What the hypervisor answered.
///
/// # Safety
/// `T` must be the structure that the operation is defined with, and addresses inside it must be good
/// for what the operation does to them.
pub unsafe fn with<T>(number: u64, command: u64, argument: &mut T) -> Result<u64, Error> {
    let pointer = core::ptr::from_mut(argument) as u64;
    // SAFETY: the pointer is to a live, exclusively borrowed structure of the right type; the caller
    // answers for the rest.
    check(unsafe { call(number, [command, pointer, 0, 0, 0]) })
}

/// Reads an HVM parameter of this domain.
///
/// # Errors
/// What the hypervisor answered.
pub fn parameter(index: u32) -> Result<u64, Error> {
    let mut argument = hvm::Param {
        domid: DomainId::SELF,
        reserved: 0,
        index,
        value: 0,
    };
    // SAFETY: the structure of hvm_op get_param, which writes nothing else.
    unsafe { with(hypercall::HVM_OP, hvm::GET_PARAM, &mut argument) }?;
    Ok(argument.value)
}

/// Lets another vCPU run.
pub fn yield_now() {
    // SAFETY: takes no pointer.
    unsafe { call(hypercall::SCHED_OP, [sched::YIELD, 0, 0, 0, 0]) };
}

/// Ends or suspends this domain for `reason` (`abi::sched::SHUTDOWN_*`).
///
/// # Errors
/// What the hypervisor answered, if it answers at all.
pub fn shutdown(reason: u32) -> Result<u64, Error> {
    let mut argument = sched::Shutdown { reason };
    // SAFETY: the structure of sched_op shutdown, which is only read.
    unsafe { with(hypercall::SCHED_OP, sched::SHUTDOWN, &mut argument) }
}

/// Puts a page that the hypervisor owns at `gpfn`.
///
/// # Errors
/// What the hypervisor answered.
///
/// # Safety
/// Nothing that Rust relies on may lie at `gpfn`.
pub unsafe fn add_to_physmap(space: u32, index: u64, gpfn: u64) -> Result<u64, Error> {
    let mut argument = memory_op::AddToPhysmap {
        domid: DomainId::SELF,
        size: 0,
        space,
        index,
        gpfn,
    };
    // SAFETY: the structure of XENMEM_add_to_physmap; the caller answers for what lies at `gpfn`.
    unsafe {
        with(
            hypercall::MEMORY_OP,
            memory_op::ADD_TO_PHYSMAP,
            &mut argument,
        )
    }
}

/// Writes to the hypervisor's console.
///
/// # Errors
/// What the hypervisor answered.
pub fn console_write(bytes: &[u8]) -> Result<u64, Error> {
    let arguments = [
        abi::console::WRITE,
        bytes.len() as u64,
        bytes.as_ptr() as u64,
        0,
        0,
    ];
    // SAFETY: the buffer is live and only read.
    check(unsafe { call(hypercall::CONSOLE_IO, arguments) })
}

/// Reads from the hypervisor's console and returns how many bytes came.
///
/// # Errors
/// What the hypervisor answered.
pub fn console_read(bytes: &mut [u8]) -> Result<u64, Error> {
    let arguments = [
        abi::console::READ,
        bytes.len() as u64,
        bytes.as_mut_ptr() as u64,
        0,
        0,
    ];
    // SAFETY: the buffer is live, ours alone, and written within its length.
    check(unsafe { call(hypercall::CONSOLE_IO, arguments) })
}
