//! Exceptions: interrupts are dispatched, guarded accesses are resumed, anything else is a panic with
//! the registers.

use crate::{interrupt, program, sync::Lock};
use core::arch::global_asm;
use core::fmt;

/// The registers at an exception, as `vectors.S` lays them out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Where to resume.
    pub elr: u64,
    /// The state to resume with.
    pub spsr: u64,
    /// The syndrome.
    pub esr: u64,
    /// The faulting address, where there is one.
    pub far: u64,
    reserved: u64,
}

const _: () = assert!(size_of::<Frame>() == 288);

global_asm!(
    include_str!("vectors.S"),
    frame_size = const size_of::<Frame>(),
    handler = sym handle,
);

unsafe extern "C" {
    fn guarded_start();
    fn guarded_end();
    fn guarded_execute();
    fn guarded_instruction();
    fn guarded_load8();
    fn guarded_load16();
    fn guarded_load32();
    fn guarded_load64();
    fn guarded_store8();
    fn guarded_store16();
    fn guarded_store32();
    fn guarded_store64();
}

fn address(function: unsafe extern "C" fn()) -> u64 {
    function as *const () as u64
}

const KIND_SYNCHRONOUS: u64 = 4;
const KIND_IRQ: u64 = 5;
const KIND_LOWER: u64 = 8;
const KIND_LOWER_IRQ: u64 = 9;
const KIND_LOWER_32: u64 = 12;
const KIND_LOWER_32_IRQ: u64 = 13;
const NAMES: [&str; 4] = ["synchronous exception", "IRQ", "FIQ", "SError"];

/// A hook that sees every synchronous exception that nobody expected, and may repair the frame.
pub type Hook = fn(&mut Frame) -> bool;

static HOOK: Lock<Option<Hook>> = Lock::new(None);

/// Installs `hook` for unexpected synchronous exceptions; it returns true if the guest can go on.
pub fn on_unexpected(hook: Option<Hook>) {
    *HOOK.lock() = hook;
}

extern "C" fn handle(frame: &mut Frame, kind: u64) {
    match kind {
        KIND_IRQ | KIND_LOWER_IRQ | KIND_LOWER_32_IRQ => interrupt::dispatch(),
        KIND_LOWER | KIND_LOWER_32 => program::ended(frame),
        KIND_SYNCHRONOUS if (address(guarded_start)..address(guarded_end)).contains(&frame.elr) => {
            frame.elr = frame.x[9];
            frame.x[1] = frame.esr;
            frame.x[2] = frame.far;
        }
        KIND_SYNCHRONOUS => {
            let hook = *HOOK.lock();
            if !hook.is_some_and(|hook| hook(frame)) {
                panic!("synchronous exception, {frame}");
            }
        }
        _ => panic!("{} (vector {kind}), {frame}", NAMES[kind as usize % 4]),
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = Fault {
            esr: self.esr,
            far: self.far,
        };
        writeln!(f, "{class}")?;
        writeln!(
            f,
            "  elr {:#018x} spsr {:#010x} far {:#018x}",
            self.elr, self.spsr, self.far
        )?;
        for (number, value) in self.x.iter().enumerate() {
            let end = if number % 4 == 3 { "\n" } else { "" };
            write!(f, "  x{number:<2} {value:#018x}{end}")?;
        }
        Ok(())
    }
}

/// A synchronous exception that a guarded access ran into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1; meaningless where the class has no address.
    pub far: u64,
}

impl Fault {
    /// The exception class (Arm ARM D24.2.40): 0 undefined, 0x25 data abort of the same level, ...
    pub fn class(self) -> u64 {
        self.esr >> 26 & 0x3f
    }

    /// The fault status code of an abort.
    pub fn status(self) -> u64 {
        self.esr & 0x3f
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.class() {
            0x00 => "undefined instruction",
            0x07 => "FP access",
            0x0e => "illegal state",
            0x15 => "SVC",
            0x18 => "system register",
            0x20 | 0x21 => "instruction abort",
            0x22 => "PC alignment",
            0x24 | 0x25 => "data abort",
            0x26 => "SP alignment",
            0x2f => "SError",
            0x3c => "BRK",
            _ => "exception",
        };
        write!(f, "{name}, esr {:#x}, far {:#x}", self.esr, self.far)
    }
}

/// Calls one of the guarded routines.
fn guarded(routine: unsafe extern "C" fn(), operand: u64, second: u64) -> Result<u64, Fault> {
    let (value, esr, far): (u64, u64, u64);
    // SAFETY: the routines of `vectors.S` follow this convention, use no stack, and resume here
    // whatever they ran into; what they may write is the caller's affair, as said there.
    unsafe {
        core::arch::asm!(
            "blr {routine}",
            routine = in(reg) address(routine),
            inlateout("x0") operand => value,
            inlateout("x1") second => esr,
            lateout("x2") far,
            clobber_abi("C"),
        );
    }
    if esr == 0 {
        Ok(value)
    } else {
        Err(Fault { esr, far })
    }
}

macro_rules! loads {
    ($($name:ident $routine:ident $type:ty;)*) => {$(
        /// Loads from an address that may not be there.
        ///
        /// # Errors
        /// The fault that was taken.
        pub fn $name(address: u64) -> Result<$type, Fault> {
            guarded($routine, address, 0).map(|value| value as $type)
        }
    )*};
}

loads! {
    load8 guarded_load8 u8;
    load16 guarded_load16 u16;
    load32 guarded_load32 u32;
    load64 guarded_load64 u64;
}

macro_rules! stores {
    ($($name:ident $routine:ident $type:ty;)*) => {$(
        /// Stores to an address that may not be there.
        ///
        /// # Errors
        /// The fault that was taken.
        ///
        /// # Safety
        /// If the address is there, it must not hold anything that Rust relies on.
        pub unsafe fn $name(address: u64, value: $type) -> Result<(), Fault> {
            guarded($routine, address, u64::from(value)).map(|_| ())
        }
    )*};
}

stores! {
    store8 guarded_store8 u8;
    store16 guarded_store16 u16;
    store32 guarded_store32 u32;
    store64 guarded_store64 u64;
}

static EXECUTE: Lock<()> = Lock::new(());

/// Executes one instruction with `operand` in x0, and gives x0 back: a system register access, an HVC
/// with any immediate, an undefined word.
///
/// # Errors
/// The exception that was taken.
///
/// # Safety
/// The instruction must not branch away, and may change no register but x0, and no memory or system
/// state that the rest of the guest relies on.
pub unsafe fn execute(instruction: u32, operand: u64) -> Result<u64, Fault> {
    let _one_at_a_time = EXECUTE.lock();
    let place = address(guarded_instruction) as *mut u32;
    // SAFETY: our own code, read while the lock is held.
    if unsafe { place.read_volatile() } == instruction {
        return guarded(guarded_execute, operand, operand);
    }
    // SAFETY: the map lets code be written; no CPU executes the word while the lock is held.
    unsafe { place.write_volatile(instruction) };
    // SAFETY: cache maintenance by address of our own code, so that the word written is the word run.
    unsafe {
        core::arch::asm!(
            "dc cvau, {place}", "dsb ish", "ic ivau, {place}", "dsb ish", "isb",
            place = in(reg) place, options(nostack, preserves_flags),
        );
    }
    guarded(guarded_execute, operand, operand)
}

/// Points the vectors at nothing: the next exception of this CPU goes astray. For tests of what the
/// hypervisor makes of such a guest.
pub fn break_vectors() {
    // SAFETY: this is meant to end the guest; nothing in it is relied on afterwards.
    unsafe {
        core::arch::asm!("msr vbar_el1, {nowhere}", "isb", nowhere = in(reg) 0x0dea_d000u64);
    }
}

/// Jumps to where no memory is, with the vectors there too and the MMU off: each exception is taken where the next one
/// comes, and stage 2 refuses all of them. For tests of what the hypervisor makes of such a guest.
pub fn lose_memory() -> ! {
    // SAFETY: this is meant to end the guest; nothing in it is relied on afterwards. The code around is mapped at its own
    // address.
    unsafe {
        core::arch::asm!(
            "msr vbar_el1, {nowhere}",
            "mrs {control}, sctlr_el1",
            "bic {control}, {control}, #1",
            "msr sctlr_el1, {control}",
            "isb",
            "br {nowhere}",
            nowhere = in(reg) 0x0dea_d000u64,
            control = in(reg) 0u64,
            options(noreturn),
        );
    }
}
