//! Exceptions taken to EL2: `vectors.S`, and the handlers that the image names with
//! [`crate::exit_handlers`].

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::num::NonZero;
use core::ptr::NonNull;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    ELR_EL1, ELR_EL2, ESR_EL1, ESR_EL2, FAR_EL1, FAR_EL2, HPFAR_EL2, SPSR_EL1, SPSR_EL2, VBAR_EL1,
    VBAR_EL2,
};
use tock_registers::interfaces::{Readable, Writeable};

use crate::context::{self, Context, Stored, Switched};
use crate::cpu::Header;
use crate::entry::EMERGENCY_SIZE;

/// Used for a fault before this CPU has an emergency stack of its own.
#[repr(C, align(16))]
struct EarlyEmergency(UnsafeCell<[u8; EARLY_EMERGENCY_SIZE]>);

const EARLY_EMERGENCY_SIZE: usize = EMERGENCY_SIZE / 2;

// SAFETY: only assembly uses it, and only on a path that never returns.
unsafe impl Sync for EarlyEmergency {}

static EARLY_EMERGENCY: EarlyEmergency = EarlyEmergency(UnsafeCell::new([0; EARLY_EMERGENCY_SIZE]));

unsafe extern "C" {
    static viaduct_vectors: u8;
    static viaduct_traced_vectors: u8;
    fn viaduct_resume_other(context: *const Context) -> !;
}

global_asm!(
    include_str!("vectors.S"),
    include_str!("traced_vectors.S"),
    stack_top = const offset_of!(Header, stack_top),
    emergency_top = const offset_of!(Header, emergency_top),
    current = const offset_of!(Header, current),
    awaits_serror = const offset_of!(Header, awaits_serror),
    owned = const context::OWNED_OFFSET,
    early_emergency = sym EARLY_EMERGENCY,
    early_emergency_size = const EARLY_EMERGENCY_SIZE,
);

/// What a handler decided: go on with the guest that exited, or with the one that was loaded instead.
#[must_use]
pub enum Resume {
    /// The guest that exited.
    Same,
    /// The guest that [`context::switch_to`] loaded.
    Other(Switched),
}

impl Resume {
    /// No guest: [`context::store`] stored the one that exited. The CPU begins anew, as the image's `idle` does.
    ///
    /// It is a mark where else a context is, and no variant: with a third one the whole would not fit in a register, and
    /// every exit would pay for that.
    pub const fn nobody(_stored: Stored) -> Self {
        // Contexts are aligned to 16 bytes: `vectors.S` looks at bit 0.
        Self::Other(Switched(NonNull::without_provenance(NonZero::<usize>::MIN)))
    }

    /// As the vectors take it.
    #[doc(hidden)]
    #[must_use]
    pub fn into_raw(self) -> *const Context {
        match self {
            Self::Same => core::ptr::null(),
            Self::Other(Switched(context)) => context.as_ptr(),
        }
    }
}

/// What the quick handler has done. In one register, as the vectors take it.
#[repr(transparent)]
pub struct Served(*const Context);

impl Served {
    /// Nothing: the exit is for the other handlers.
    // No context, which are aligned to 16 bytes, nor the mark for none: `vectors.S` compares.
    pub const NOT_DONE: Self = Self(core::ptr::without_provenance(2));

    /// What to resume, if the exit was served.
    #[must_use]
    pub fn resume(self) -> Option<Resume> {
        if self.0 == Self::NOT_DONE.0 {
            return None;
        }
        let other = NonNull::new(self.0.cast_mut());
        Some(other.map_or(Resume::Same, |context| Resume::Other(Switched(context))))
    }

    /// As the vectors take it.
    #[doc(hidden)]
    #[must_use]
    pub fn into_raw(self) -> *const Context {
        self.0
    }
}

impl From<Resume> for Served {
    #[inline(always)]
    fn from(resume: Resume) -> Self {
        Self(resume.into_raw())
    }
}

/// Registers of EL2 at the time of a fault of its own.
#[repr(C)]
pub struct FatalFrame {
    /// x0 to x30; x18 is lost.
    pub x: [u64; 31],
    /// The stack pointer.
    pub sp: u64,
}

/// What the fault was, from the system registers.
#[derive(Clone, Copy)]
pub struct FatalCause {
    /// Entry of the vector table: 4 to 7 are synchronous, IRQ, FIQ and SError of EL2 itself.
    pub vector: u64,
    /// `ESR_EL2`.
    pub esr: u64,
    /// `ELR_EL2`.
    pub elr: u64,
    /// `FAR_EL2`.
    pub far: u64,
    /// `SPSR_EL2`.
    pub spsr: u64,
}

impl FatalCause {
    #[doc(hidden)]
    #[must_use]
    pub fn now(vector: u64) -> Self {
        Self {
            vector,
            esr: ESR_EL2.get(),
            elr: ELR_EL2.get(),
            far: FAR_EL2.get(),
            spsr: SPSR_EL2.get(),
        }
    }
}

/// A handler of an exit as `vectors.S` calls it, with what of the guest's registers it has stored by then.
#[doc(hidden)]
#[macro_export]
macro_rules! exit_entry {
    ($name:ident, $cpu:ty, $vcpu:ty, $registers:ty, $handler:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name(
            context: *mut $crate::context::Context,
            cpu: &'static $cpu,
            esr: u64,
        ) -> *const $crate::context::Context {
            // SAFETY: the loaded context is the first field of a static `Vcpu`.
            let vcpu: &'static $vcpu = unsafe { &*context.cast::<$vcpu>() };
            // SAFETY: the guest's registers lie at the start of the context that this CPU has loaded;
            // nobody else reaches them until the guest is resumed.
            let registers = unsafe { &mut *context.cast::<$registers>() };
            $handler(cpu, vcpu, registers, esr).into_raw()
        }
    };
}

/// Names the image's per-CPU structure, its vCPU structure, and its exit handlers.
///
/// `Cpu` starts with a [`Header`], `Vcpu` with a [`Context`]. Handlers run with interrupts masked on the
/// CPU's own stack:
/// * `call(cpu, vcpu, &mut Arguments, esr) -> Resume`: HVC and SMC from AArch64
/// * `interrupt(cpu, vcpu, &mut Arguments) -> Resume`: IRQ or FIQ
/// * `register`, `abort(cpu, vcpu, &mut Arguments, esr) -> Served`: trapped registers, and data aborts, that are soon
///   served; [`Served::NOT_DONE`] hands them on to `synchronous`
/// * `synchronous(cpu, vcpu, &mut Registers, esr) -> Resume`: everything else
/// * `serror(cpu, vcpu, &mut Registers, esr) -> Resume`
/// * `idle(cpu) -> !`: nobody is loaded, and the stack is empty
/// * `fatal(FatalCause, &FatalFrame) -> !`: EL2 itself faulted
///
/// While [`install_traced`] is in force, also:
/// * `traced_exit(cpu, vcpu, &Arguments, kind, esr)` before the handler; `kind` is 0 for a synchronous exit, 1 for an
///   interrupt, 2 for SError
/// * `traced_entry(cpu, Option<(vcpu, &Arguments)>, kind, esr)` after it: the same guest goes on, or another one
///
/// It also defines `this_cpu() -> Option<&'static Cpu>`.
#[macro_export]
macro_rules! exit_handlers {
    (
        cpu: $cpu:ty, header: $header:ident, vcpu: $vcpu:ty, context: $context:ident,
        call: $call:path, interrupt: $interrupt:path,
        register: $register:path, abort: $abort:path, synchronous: $synchronous:path,
        serror: $serror:path, idle: $idle:path, fatal: $fatal:path,
        traced_exit: $traced_exit:path, traced_entry: $traced_entry:path $(,)?
    ) => {
        const _: () = assert!(core::mem::offset_of!($cpu, $header) == 0);
        const _: () = assert!(core::mem::offset_of!($vcpu, $context) == 0);

        /// The data of the CPU that runs this; `None` before it has any.
        pub(crate) fn this_cpu() -> Option<&'static $cpu> {
            let address = $crate::cpu::header_address() as *const $cpu;
            // SAFETY: `adopt` was given the first field of a static `Cpu`, or TPIDR_EL2 is 0.
            unsafe { address.as_ref() }
        }

        $crate::exit_entry!(
            viaduct_exit_call,
            $cpu,
            $vcpu,
            $crate::context::Arguments,
            $call
        );
        $crate::exit_entry!(
            viaduct_exit_register,
            $cpu,
            $vcpu,
            $crate::context::Arguments,
            $register
        );
        $crate::exit_entry!(
            viaduct_exit_abort,
            $cpu,
            $vcpu,
            $crate::context::Arguments,
            $abort
        );
        $crate::exit_entry!(
            viaduct_exit_synchronous,
            $cpu,
            $vcpu,
            $crate::context::Registers,
            $synchronous
        );
        $crate::exit_entry!(
            viaduct_exit_serror,
            $cpu,
            $vcpu,
            $crate::context::Registers,
            $serror
        );

        #[unsafe(no_mangle)]
        extern "C" fn viaduct_exit_interrupt(
            context: *mut $crate::context::Context,
            cpu: &'static $cpu,
        ) -> *const $crate::context::Context {
            // SAFETY: as for a call.
            let vcpu: &'static $vcpu = unsafe { &*context.cast::<$vcpu>() };
            $interrupt(cpu, vcpu).into_raw()
        }

        #[unsafe(no_mangle)]
        extern "C" fn viaduct_idle(cpu: &'static $cpu) -> ! {
            $idle(cpu)
        }

        #[unsafe(no_mangle)]
        extern "C" fn viaduct_traced_exit(
            context: *const $crate::context::Context,
            cpu: &'static $cpu,
            kind: u64,
            esr: u64,
        ) {
            // SAFETY: as for a call.
            let vcpu: &'static $vcpu = unsafe { &*context.cast::<$vcpu>() };
            // SAFETY: as for a call; they are only read.
            let arguments = unsafe { &*context.cast::<$crate::context::Arguments>() };
            $traced_exit(cpu, vcpu, arguments, kind, esr);
        }

        #[unsafe(no_mangle)]
        extern "C" fn viaduct_traced_entry(
            context: *const $crate::context::Context,
            cpu: &'static $cpu,
            kind: u64,
            esr: u64,
            other: *const $crate::context::Context,
        ) {
            if !other.is_null() {
                return $traced_entry(cpu, None, kind, esr);
            }
            // SAFETY: as for a call: the guest that was left goes on.
            let vcpu: &'static $vcpu = unsafe { &*context.cast::<$vcpu>() };
            // SAFETY: as for a call; they are only read.
            let arguments = unsafe { &*context.cast::<$crate::context::Arguments>() };
            $traced_entry(cpu, Some((vcpu, arguments)), kind, esr);
        }

        #[unsafe(no_mangle)]
        extern "C" fn viaduct_fatal(vector: u64, frame: &$crate::vectors::FatalFrame) -> ! {
            $fatal($crate::vectors::FatalCause::now(vector), frame)
        }
    };
}

/// Puts the vectors into force on this CPU.
pub fn install() {
    VBAR_EL2.set((&raw const viaduct_vectors).addr() as u64);
    barrier::isb(barrier::SY);
}

/// Puts the vectors into force on this CPU that tell of each exit and entry as well.
pub fn install_traced() {
    VBAR_EL2.set((&raw const viaduct_traced_vectors).addr() as u64);
    barrier::isb(barrier::SY);
}

/// Runs the vCPU that was loaded; the stack of the caller is forgotten.
pub fn run(first: Switched) -> ! {
    // SAFETY: `Switched` proves that the context is loaded on this CPU; exits start at the top of the
    // CPU's stack, and nothing below is needed again.
    unsafe { viaduct_resume_other(first.0.as_ptr()) }
}

/// `SPSR_EL2.M`: the guest is in AArch32 state.
const AARCH32: u64 = 1 << 4;

/// Whether what trapped is an instruction of AArch64.
#[inline]
#[must_use]
pub fn is_aarch64() -> bool {
    SPSR_EL2.get() & AARCH32 == 0
}

/// Steps over the instruction that trapped: for everything but HVC, whose return address is the next
/// instruction already.
pub fn skip_instruction() {
    let state = SPSR_EL2.get();
    if state & AARCH32 != 0 {
        skip_instruction_32(state);
        return;
    }
    ELR_EL2.set(ELR_EL2.get().wrapping_add(4));
}

/// The same for an instruction that is known to be one of AArch64: SMC, MRS, MSR, or by [`is_aarch64`].
#[inline]
pub fn skip_long_instruction() {
    ELR_EL2.set(ELR_EL2.get().wrapping_add(4));
}

/// The same in a 32-bit program of a guest: a T32 instruction may have two bytes, and may stand in an IT
/// block, which goes on (Arm DDI 0487, `ITAdvance`).
#[cold]
fn skip_instruction_32(state: u64) {
    const LONG: u64 = 1 << 25;
    const T32: u64 = 1 << 5;
    /// IT\[1:0\] in bits 26:25, IT\[7:2\] in bits 15:10.
    const IT: u64 = 3 << 25 | 0x3f << 10;
    let length = if ESR_EL2.get() & LONG != 0 { 4 } else { 2 };
    ELR_EL2.set(ELR_EL2.get().wrapping_add(length));
    if state & T32 != 0 && state & IT != 0 {
        let it = state >> 25 & 3 | state >> 8 & 0xfc;
        let next = if it & 7 == 0 {
            0
        } else {
            it & 0xe0 | it << 1 & 0x1f
        };
        SPSR_EL2.set(state & !IT | (next & 3) << 25 | (next & 0xfc) << 8);
    }
}

/// Steps back to the HVC that trapped, so that the guest executes it again.
pub fn repeat_hvc() {
    ELR_EL2.set(ELR_EL2.get().wrapping_sub(4));
}

/// A loop on purpose, deep enough to leave any stack: for the test of the guard pages.
#[inline(never)]
#[expect(unconditional_recursion, reason = "overflowing the stack is the point")]
pub fn overflow_stack(depth: u64) -> u64 {
    let block = [depth; 64];
    // SAFETY: an empty block; it keeps the array on the stack.
    unsafe { asm!("/* {} */", in(reg) block.as_ptr(), options(nostack, preserves_flags)) }
    overflow_stack(depth.wrapping_add(1)).wrapping_add(block[(depth % 64) as usize])
}

/// Where the guest that is loaded goes on, and its PSTATE.
#[must_use]
pub fn return_state() -> (u64, u64) {
    (ELR_EL2.get(), SPSR_EL2.get())
}

/// `ESR_EL2` of the synchronous exit that is being served.
#[must_use]
pub fn syndrome() -> u64 {
    ESR_EL2.get()
}

/// `FAR_EL2` and `HPFAR_EL2` of the abort that was taken from the guest.
#[must_use]
pub fn fault_address() -> (u64, u64) {
    (FAR_EL2.get(), HPFAR_EL2.get())
}

/// Whether the loaded guest was at EL1, and not in a program.
#[inline]
#[must_use]
pub fn is_kernel() -> bool {
    const EL: u64 = 0b1100;
    SPSR_EL2.get() & EL != 0
}

/// Where the loaded guest has its exception vectors.
#[must_use]
pub fn vectors_at() -> u64 {
    VBAR_EL1.get()
}

/// What the loaded guest's EL1 noted of the last exception that it took (DDI 0487, D1.3.1).
#[derive(Clone, Copy, Debug)]
pub struct LastException {
    /// `ESR_EL1`.
    pub syndrome: u64,
    /// `FAR_EL1`.
    pub address: u64,
    /// `ELR_EL1`.
    pub link: u64,
    /// `SPSR_EL1`.
    pub state: u64,
}

/// The last exception that the loaded guest took at EL1.
#[must_use]
pub fn last_exception() -> LastException {
    LastException {
        syndrome: ESR_EL1.get(),
        address: FAR_EL1.get(),
        link: ELR_EL1.get(),
        state: SPSR_EL1.get(),
    }
}

/// Unmasks IRQs for the loaded guest (PSTATE.I).
pub fn unmask_interrupts() {
    const I: u64 = 1 << 7;
    SPSR_EL2.set(SPSR_EL2.get() & !I);
}

/// Gives the loaded guest these condition flags (PSTATE.NZCV), bits 31 to 28 of `value`.
pub fn set_condition_flags(value: u64) {
    const NZCV: u64 = 0xf << 28;
    SPSR_EL2.set(SPSR_EL2.get() & !NZCV | value & NZCV);
}

/// Ways for EL2 to fail on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A load from where nothing is mapped.
    Data,
    /// A store to code.
    WriteCode,
    /// A jump to data.
    ExecuteData,
}

/// Fails: for the test of the failure path.
pub fn fault_on(fault: Fault) {
    static WORD: [u32; 1] = [0xd65f_03c0];
    match fault {
        Fault::Data => {
            let nowhere = 0x7f_ffff_f000_usize as *const u64;
            // SAFETY: it is meant to fault; nothing lives there that could be disturbed.
            unsafe { nowhere.read_volatile() };
        }
        Fault::WriteCode => {
            let code = fault_on as *mut u32;
            // SAFETY: code is mapped read-only, so the store faults and changes nothing.
            unsafe { code.write_volatile(0) };
        }
        Fault::ExecuteData => {
            let target = WORD.as_ptr();
            // SAFETY: constants are not executable, so the branch faults; were they, the word is a return.
            unsafe { asm!("blr {}", in(reg) target, clobber_abi("C")) };
        }
    }
}
