//! What a vCPU is while no CPU runs it, and the switch from one vCPU to another.
//!
//! While a vCPU is loaded, its general registers x0-x18 and x30 are in [`Context`] during an exit and
//! everything else stays in the machine: x19-x29 in the callee-saved registers of the handlers, EL1
//! system registers, FP and the virtual timer where they are. Only [`switch_to`] moves them.

mod leave;
mod snapshot;

pub use leave::{Stored, store, unload};
pub use snapshot::Snapshot;

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    ACTLR_EL1, AMAIR_EL1, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVOFF_EL2, CONTEXTIDR_EL1, ESR_EL1,
    FAR_EL1, HCR_EL2, MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1, VMPIDR_EL2, VTTBR_EL2,
};
use tock_registers::interfaces::{Readable, Writeable};

use crate::cpu::Header;
use crate::float::Float;
use crate::registers::{AFSR0_EL1, AFSR1_EL1, hcr};
use crate::system::{OWN_CONFIGURATION, System};
use crate::{serror, tlb};

/// General registers of a guest. Number 31 is the zero register: it reads 0, and writes go nowhere.
#[repr(C)]
#[derive(Default)]
pub struct Registers {
    /// The last is the zero register, which nobody writes.
    x: [u64; 32],
}

/// General registers of a guest that a handler has at hand.
pub trait General {
    /// Whether register `number` is among them.
    fn holds(&self, number: u8) -> bool;

    /// Register `number`, which it [`holds`](Self::holds); 0 for the zero register.
    fn get(&self, number: u8) -> u64;

    /// Sets register `number`, which it holds.
    fn set(&mut self, number: u8, value: u64);
}

impl General for Registers {
    #[inline(always)]
    fn holds(&self, _number: u8) -> bool {
        true
    }

    #[inline(always)]
    fn get(&self, number: u8) -> u64 {
        Self::get(self, number)
    }

    #[inline(always)]
    fn set(&mut self, number: u8, value: u64) {
        Self::set(self, number, value);
    }
}

impl General for Arguments {
    #[inline(always)]
    fn holds(&self, number: u8) -> bool {
        Self::at_hand(number)
    }

    #[inline(always)]
    fn get(&self, number: u8) -> u64 {
        debug_assert!(self.holds(number), "x{number} is not at hand");
        self.0.get(number)
    }

    #[inline(always)]
    fn set(&mut self, number: u8, value: u64) {
        debug_assert!(self.holds(number), "x{number} is not at hand");
        self.0.set(number, value);
    }
}

impl Registers {
    /// Register `number`; 0 for the zero register.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u8) -> u64 {
        self.x[usize::from(number & 31)]
    }

    /// Sets register `number`.
    #[inline]
    pub fn set(&mut self, number: u8, value: u64) {
        if number < 31 {
            self.x[usize::from(number)] = value;
        }
    }

    /// x0 to x18 alone, for what serves calls.
    pub fn arguments(&mut self) -> &mut Arguments {
        // SAFETY: `Arguments` is a transparent wrapper of `Registers`.
        unsafe { &mut *core::ptr::from_mut(self).cast::<Arguments>() }
    }

    /// All of them, for the report of a guest that failed.
    #[must_use]
    pub fn all(&self) -> &[u64; 31] {
        let [all @ .., _zero] = &self.x;
        all
    }
}

/// The registers that are at hand after every exit: x0 to x18. The others are still where the guest had them.
#[repr(transparent)]
pub struct Arguments(Registers);

/// The last of them.
const LAST_ARGUMENT: u8 = 18;

impl Arguments {
    /// Whether register `number` is one of these, or the zero register.
    #[inline(always)]
    #[must_use]
    pub const fn at_hand(number: u8) -> bool {
        number <= LAST_ARGUMENT || number == 31
    }

    /// Register `x<N>`.
    #[must_use]
    pub fn get<const N: usize>(&self) -> u64 {
        const { assert!(N <= 17) };
        self.0.x[N]
    }

    /// Sets register `x<N>`.
    pub fn set<const N: usize>(&mut self, value: u64) {
        const { assert!(N <= 17) };
        self.0.x[N] = value;
    }
}

/// A vCPU's state. Exactly one party owns it at a time: the CPU that has it loaded, or the holder of an
/// [`Owned`].
#[repr(C, align(16))]
pub struct Context {
    registers: UnsafeCell<Registers>,
    owned: AtomicU32,
    system: UnsafeCell<System>,
    float: UnsafeCell<Float>,
}

// SAFETY: the cells are reached only by the party that took `owned` from 0 to 1.
unsafe impl Sync for Context {}
// SAFETY: plain data.
unsafe impl Send for Context {}

pub(crate) const OWNED_OFFSET: usize = offset_of!(Context, owned);
const _: () = assert!(offset_of!(Context, registers) == 0 && size_of::<Registers>() == 32 * 8);

/// Sole access to a vCPU that is not loaded anywhere.
pub struct Owned<'c>(&'c Context);

/// What a vCPU does not choose itself: its stage 2, its identity, its counter offset.
#[derive(Clone, Copy)]
pub struct World {
    /// `VTTBR_EL2`: VMID in bits 63..48 and the root of stage 2.
    pub vttbr: u64,
    /// `VMPIDR_EL2`: what it reads as `MPIDR_EL1`.
    pub vmpidr: u64,
    /// `CNTVOFF_EL2`: what is taken off the counter.
    pub counter_offset: u64,
    /// Whether another vCPU of the same domain was the last of that domain on this CPU: its stage-1
    /// translations are in the TLB under the same VMID.
    pub stale_translations: bool,
}

/// Proof that [`switch_to`] loaded a vCPU: an exit handler returns it, and the vectors resume there.
#[must_use]
pub struct Switched(pub(crate) NonNull<Context>);

/// SCTLR_EL1 when a vCPU starts: MMU and caches off, RES1 bits, as KVM and Xen have it.
const SCTLR_RESET: u64 = 0x00c5_0078;
/// EL1h with D, A, I and F masked.
const SPSR_RESET: u64 = 0x3c5;

impl Context {
    /// A vCPU that would start at address 0 with everything zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            registers: UnsafeCell::new(Registers { x: [0; 32] }),
            owned: AtomicU32::new(0),
            system: UnsafeCell::new(System::zero()),
            float: UnsafeCell::new(Float::zero()),
        }
    }

    fn take(&self) -> bool {
        self.owned
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether no CPU has it loaded, and nobody has access. Not for long, perhaps.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.owned.load(Ordering::Acquire) == 0
    }

    /// Sole access, unless a CPU has it loaded or somebody else has access.
    pub fn own(&self) -> Option<Owned<'_>> {
        self.take().then_some(Owned(self))
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Owned<'_> {
    /// Reset, as the boot protocol and PSCI have it: starts at `entry` in EL1h, all interrupts masked, MMU
    /// and caches off, `argument` in x0 and all other registers 0.
    pub fn reset(&mut self, entry: u64, argument: u64) {
        let mut registers = Registers { x: [0; 32] };
        registers.set(0, argument);
        let mut system = System::zero();
        system.elr_el2 = entry;
        system.spsr_el2 = SPSR_RESET;
        system.sctlr = SCTLR_RESET;
        system.actlr = ACTLR_EL1.get();
        system.configuration = HCR_EL2.get() & !OWN_CONFIGURATION;
        // SAFETY: `self` is the sole access to the context.
        unsafe { *self.0.registers.get() = registers }
        // SAFETY: as above.
        unsafe { *self.0.system.get() = system }
        // SAFETY: as above.
        unsafe { *self.0.float.get() = Float::zero() }
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        self.0.owned.store(0, Ordering::Release);
    }
}

/// Saves the vCPU that is loaded on this CPU, if one is, and loads `next`. If another CPU has stored that, but for its
/// last registers, it waits for those: a few steps that wait for nobody.
///
/// An SError that the one that leaves has caused is taken before the other comes: `raised` is given its
/// `ESR_EL2`, and whether a virtual one waits already, and says whether the vCPU gets one.
///
/// The order is that of Cortex-A72 erratum 1319367 (speculative translations with half-switched
/// registers): they are stopped before anything changes, and allowed last.
pub fn switch_to(
    header: &Header,
    next: &'static Context,
    world: &World,
    raised: impl FnOnce(u64, bool) -> bool,
) -> Switched {
    while !next.take() {
        core::hint::spin_loop();
    }
    save(header.current());
    stop(header, raised);
    VTTBR_EL2.set(world.vttbr);
    VMPIDR_EL2.set(world.vmpidr);
    CNTVOFF_EL2.set(world.counter_offset);
    // SAFETY: `take` made this CPU the owner of `next`.
    let system = unsafe { &*next.system.get() };
    system.load();
    // SAFETY: as above.
    let float = unsafe { &*next.float.get() };
    float.load();
    barrier::isb(barrier::SY);
    if world.stale_translations {
        tlb::invalidate_local_guest();
    }
    SCTLR_EL1.set(system.sctlr);
    barrier::isb(barrier::SY);
    TCR_EL1.set(system.tcr);
    Switched(NonNull::from(next))
}

/// Stores what the loaded vCPU `current` has in this CPU but its general registers; nothing if it is null.
#[inline(always)]
fn save(current: *const Context) {
    if current.is_null() {
        return;
    }
    // SAFETY: the context is loaded on this CPU, so `owned` is 1 on its behalf, and it is static.
    let current = unsafe { &*current };
    // SAFETY: only the CPU that has the context loaded touches it; no handler holds this cell.
    let system = unsafe { &mut *current.system.get() };
    system.save();
    // SAFETY: as above.
    let float = unsafe { &mut *current.float.get() };
    float.save();
    // It may go on on another CPU, whose barriers do not wait for what it began on this one: stores to
    // devices, cache and TLB maintenance (DDI 0487 B2.3, K13).
    barrier::dsb(barrier::SY);
}

/// The vCPU that was [`save`]d does nothing here any more: no translation, no SError of its own, no timer.
#[inline(always)]
fn stop(header: &Header, raised: impl FnOnce(u64, bool) -> bool) {
    stop_translations();
    // What it stored has been answered, and ISR_EL1 is read behind an ISB.
    if serror::is_pending() {
        leaves_serror(header, raised);
    }
    // Its timer must not fire for the one that comes.
    CNTV_CTL_EL0.set(0);
    barrier::isb(barrier::SY);
}

#[cold]
fn leaves_serror(header: &Header, raised: impl FnOnce(u64, bool) -> bool) {
    let current = header.current();
    if current.is_null() {
        serror::fail();
    } else if let Some(esr) = serror::take(header) {
        // SAFETY: as in `switch_to`: the context is loaded on this CPU, and static.
        let current = unsafe { &*current };
        // SAFETY: as there: this CPU alone touches it.
        let system = unsafe { &mut *current.system.get() };
        if raised(esr, system.configuration & hcr::VSE != 0) {
            system.configuration |= hcr::VSE;
        }
    }
}

/// Makes every translation of EL1's that is not in a TLB fail, once an ISB follows: walks are disabled, and
/// the MMU is on, since without it there is no walk to be disabled and addresses go straight to stage 2.
pub(crate) fn stop_translations() {
    const WALKS_OFF: u64 = 1 << 7 | 1 << 23;
    TCR_EL1.set(WALKS_OFF);
    barrier::isb(barrier::SY);
    SCTLR_EL1.set(SCTLR_RESET | 1);
}

/// The guest's timer as it is now on this CPU: `CNTV_CTL_EL0` and `CNTV_CVAL_EL0`.
#[must_use]
pub fn virtual_timer() -> (u64, u64) {
    (CNTV_CTL_EL0.get(), CNTV_CVAL_EL0.get())
}

/// Traps WFI and WFE of the vCPU that is loaded, or lets them sleep the CPU.
pub fn trap_waiting(trap: bool) {
    let bits = hcr::TWI | hcr::TWE;
    let now = HCR_EL2.get();
    let wanted = if trap { now | bits } else { now & !bits };
    if now != wanted {
        HCR_EL2.set(wanted);
    }
}

/// Traps what the loaded vCPU writes to its registers of stage 1, or lets it write them.
pub fn trap_stage_one(trap: bool) {
    let others = HCR_EL2.get() & !hcr::TVM;
    HCR_EL2.set(if trap { others | hcr::TVM } else { others });
}

/// `SCTLR_EL1` of the vCPU that is loaded.
#[must_use]
pub fn system_control() -> u64 {
    SCTLR_EL1.get()
}

/// Writes a register of stage 1 for the vCPU that is loaded, whose own write trapped: op0 3, op1 0 and these
/// CRn, CRm and op2. In force for it with the return from the exception.
pub fn write_stage_one(crn: u32, crm: u32, op2: u32, value: u64) {
    match (crn, crm, op2) {
        (1, 0, 0) => SCTLR_EL1.set(value),
        (2, 0, 0) => TTBR0_EL1.set(value),
        (2, 0, 1) => TTBR1_EL1.set(value),
        (2, 0, 2) => TCR_EL1.set(value),
        (5, 1, 0) => AFSR0_EL1.set(value),
        (5, 1, 1) => AFSR1_EL1.set(value),
        (5, 2, 0) => ESR_EL1.set(value),
        (6, 0, 0) => FAR_EL1.set(value),
        (10, 2, 0) => MAIR_EL1.set(value),
        (10, 3, 0) => AMAIR_EL1.set(value),
        (13, 0, 1) => CONTEXTIDR_EL1.set(value),
        _ => {}
    }
}
