//! CPUs: which one this is, how many there are, starting further ones, masking, waiting.

use crate::{
    entry, gic, memory, psci,
    sync::{Lock, Once},
    timer, xen,
};
use aarch64_cpu::registers::{DAIF, MPIDR_EL1, Readable, TPIDR_EL1, Writeable};
use alloc::{boxed::Box, vec, vec::Vec};

/// How many CPUs a guest may use.
pub const MAX: usize = 32;

/// The stack of a CPU in bytes.
pub const STACK_SIZE: usize = 32 * 1024;

/// The number of this CPU, 0 for the one that booted.
#[inline]
pub fn index() -> usize {
    TPIDR_EL1.get() as usize
}

/// The affinity fields of this CPU's MPIDR, as PSCI takes them.
pub fn own_affinity() -> u64 {
    MPIDR_EL1.get() & 0xff_00ff_ffff
}

/// The affinities in tree order, and how many there are.
struct Affinities {
    known: [u64; MAX],
    count: usize,
}

static AFFINITIES: Once<Affinities> = Once::new();

/// Reads the CPU nodes once; sending an interrupt should not walk the tree.
pub(crate) fn init() {
    let tree = entry::tree();
    let cpus = tree.into_iter().flat_map(|tree| tree.nodes());
    let mut found = Affinities {
        known: [0; MAX],
        count: 0,
    };
    for node in cpus
        .filter(|node| node.text("device_type") == Some("cpu"))
        .take(MAX)
    {
        if let Some((address, _)) = node.reg().next() {
            found.known[found.count] = address;
            found.count += 1;
        }
    }
    AFFINITIES.set(found);
}

/// How many CPUs the tree names.
pub fn count() -> usize {
    AFFINITIES.get().map_or(1, |found| found.count.max(1))
}

/// The affinity of CPU `index`, from the tree.
pub fn affinity(index: usize) -> Option<u64> {
    let found = AFFINITIES.get()?;
    found.known[..found.count].get(index).copied()
}

/// What [`mask`] found.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Mask(u64);

/// Masks interrupts on this CPU.
#[inline]
pub fn mask() -> Mask {
    let before = DAIF.get();
    // SAFETY: masking interrupts breaks no promise; the barrier effect on memory is wanted.
    unsafe { core::arch::asm!("msr daifset, #2", options(nostack, preserves_flags)) };
    Mask(before)
}

/// Puts the masks back.
#[inline]
pub fn restore(mask: Mask) {
    DAIF.set(mask.0);
}

/// Lets interrupts in on this CPU.
#[inline]
pub fn unmask() {
    // SAFETY: handlers are in place from before the first unmask (`entry::start`).
    unsafe { core::arch::asm!("msr daifclr, #2", options(nostack, preserves_flags)) };
}

/// Runs `body` with interrupts masked.
pub fn masked<R>(body: impl FnOnce() -> R) -> R {
    let before = mask();
    let result = body();
    restore(before);
    result
}

/// Waits for an interrupt (WFI), also a masked one.
#[inline]
pub fn wait_for_interrupt() {
    // SAFETY: WFI changes no state; what handlers wrote is seen, as this is a memory clobber.
    unsafe { core::arch::asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Waits until `done` says so, asleep between interrupts.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    loop {
        let before = mask();
        if done() {
            restore(before);
            return;
        }
        wait_for_interrupt();
        restore(before);
    }
}

/// What a starting CPU finds at the address in x0; `entry.S` reads the first two words.
#[repr(C)]
pub(crate) struct Context {
    stack_top: u64,
    index: u64,
    main: Lock<Option<Box<dyn FnOnce() + Send>>>,
}

/// Stacks outlive the CPU that ran on them, as a CPU cannot free its own: kept for the next start.
static STACKS: Lock<Vec<(usize, u64)>> = Lock::new(Vec::new());

fn stack_of(index: usize) -> u64 {
    let mut stacks = STACKS.lock();
    if let Some((_, top)) = stacks.iter().find(|(owner, _)| *owner == index) {
        return *top;
    }
    let stack: &'static mut [u128] = Box::leak(vec![0u128; STACK_SIZE / 16].into_boxed_slice());
    let top = stack.as_ptr_range().end as u64;
    stacks.push((index, top));
    top
}

/// Starts CPU `index` (numbered in tree order) with its own stack, interrupts on, in `main`. When `main`
/// returns the CPU switches itself off and can be started again.
///
/// # Errors
/// What PSCI CPU_ON answered.
pub fn start(index: usize, main: impl FnOnce() + Send + 'static) -> Result<(), psci::Error> {
    let target = affinity(index).ok_or(psci::Error::InvalidParameters)?;
    let context = Box::new(Context {
        stack_top: stack_of(index),
        index: index as u64,
        main: Lock::new(Some(Box::new(main))),
    });
    let context = Box::into_raw(context);
    let result = psci::cpu_on(target, secondary_address(), context as u64);
    if result.is_err() {
        // SAFETY: it came from `into_raw` above, and no CPU was started with it.
        drop(unsafe { Box::from_raw(context) });
    }
    result
}

fn secondary_address() -> u64 {
    unsafe extern "C" {
        fn secondary_entry();
    }
    secondary_entry as *const () as u64
}

/// The first Rust of a further CPU: stack and boot map are in use.
pub(crate) extern "C" fn secondary_start(context: *mut Context) -> ! {
    memory::use_final_map();
    gic::init_cpu();
    timer::init_cpu();
    xen::init_cpu();
    {
        // SAFETY: `start` leaked it for this CPU alone.
        let context = unsafe { Box::from_raw(context) };
        let main = context.main.lock().take();
        unmask();
        if let Some(main) = main {
            main();
        }
    }
    let _ = mask();
    psci::cpu_off()
}
