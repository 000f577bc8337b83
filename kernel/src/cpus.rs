//! Physical CPUs: each one's own data, its stacks with their guard pages, and the start of all of them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use ::memory::{PAGE_SIZE, PaRange, Pages};
use arch::cpu::Header;
use arch::entry::{self, STACK_SIZE};
use devtree::Board;
use devtree::board::StartMethod;
use domain::counters::Count;
use domain::sched::{RunQueue, slice_ticks};
use domain::timers::TimerQueue;
use log::{info, warn};
use platform::cpu_start;
use sync::{Once, SpinLock};

use crate::machine::Vcpu;
use crate::{crew, exits, interrupts, memory_map, power, schedule, serrors, smccc, stretch, trace};

/// How long a CPU may take to come up, in milliseconds.
const START_TIMEOUT_MS: u64 = 500;
// What plans count on is what is started.
const _: () = assert!(devtree::board::MAX_CPUS == entry::MAX_CPUS);

/// A physical CPU.
#[repr(C)]
pub(crate) struct Cpu {
    header: Header,
    /// Its number: position in the tree.
    pub(crate) index: usize,
    /// Its stack, and the pages that must never be touched.
    stack: PaRange,
    /// The page under the stack.
    pub(crate) guard: PaRange,
    /// The vCPU that is loaded, for reports and for those who ask whether one is.
    loaded: AtomicPtr<Vcpu>,
    /// Somebody changed the run queue: look at it before the guest goes on.
    pub(crate) look: AtomicBool,
    /// The vCPUs whose home it is and that can run.
    pub(crate) queue: SpinLock<RunQueue<&'static Vcpu>>,
    /// CPUs that those who wait in the queue may run on (`domain::migration`).
    pub(crate) wanted: AtomicU64,
    /// What is promised of it to real-time vCPUs, in millionths. Written by `tuning` alone.
    pub(crate) promised: AtomicU32,
    /// Ticks that it slept because nobody could run.
    pub(crate) idle_ticks: Count,
    /// Interrupts of the hypervisor's own timer: ends of slices, and alarms of vCPUs that are not loaded.
    pub(crate) alarms: Count,
    /// When vCPUs whose home it is want to be woken.
    pub(crate) timers: SpinLock<Timers>,
    /// The first of them, in ticks of the system counter, or all ones. Written under the lock; who makes it sooner from
    /// another CPU has this one look.
    pub(crate) first_alarm: AtomicU64,
    /// Binary trace.
    pub(crate) trace: trace::Local,
    /// How long it took no interrupts.
    pub(crate) stretch: stretch::Local,
    online: AtomicBool,
}

/// Deadlines, and which vCPU each slot is.
pub(crate) struct Timers {
    pub(crate) queue: TimerQueue,
    pub(crate) vcpus: Vec<&'static Vcpu>,
}

static CPUS: Once<Vec<&'static Cpu>> = Once::new();
static ONLINE: AtomicUsize = AtomicUsize::new(0);
/// Set when all guests are described and CPUs may begin to run them.
static READY: AtomicU32 = AtomicU32::new(0);

arch::exit_handlers! {
    cpu: Cpu, header: header, vcpu: Vcpu, context: context,
    call: exits::call, interrupt: exits::interrupt, synchronous: exits::synchronous,
    serror: serrors::taken, idle: schedule::run, fatal: crate::failure::fatal,
    traced_exit: stretch::exit, traced_entry: stretch::entry,
}

impl Cpu {
    fn new(
        index: usize,
        stack_top: usize,
        emergency_top: usize,
        stack: PaRange,
        guard: PaRange,
    ) -> Self {
        Self {
            header: Header::new(stack_top, emergency_top),
            index,
            stack,
            guard,
            loaded: AtomicPtr::new(core::ptr::null_mut()),
            look: AtomicBool::new(false),
            queue: SpinLock::new(RunQueue::new(index, slice_ticks(arch::time::frequency()))),
            wanted: AtomicU64::new(0),
            promised: AtomicU32::new(0),
            idle_ticks: Count::new(),
            alarms: Count::new(),
            timers: SpinLock::new(Timers {
                queue: TimerQueue::new(),
                vcpus: Vec::new(),
            }),
            first_alarm: AtomicU64::new(u64::MAX),
            trace: trace::Local::new(),
            stretch: stretch::Local::new(),
            online: AtomicBool::new(false),
        }
    }

    /// What the switch of contexts needs.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The vCPU whose state is in this CPU's registers, running or not.
    pub(crate) fn loaded(&self) -> Option<&'static Vcpu> {
        let loaded = self.loaded.load(Ordering::Relaxed);
        #[expect(unsafe_code, reason = "a pointer to a static object, or null")]
        // SAFETY: only `set_loaded` writes it, from a static reference.
        unsafe {
            loaded.as_ref()
        }
    }

    /// Remembers which vCPU is loaded.
    pub(crate) fn set_loaded(&self, vcpu: Option<&'static Vcpu>) {
        let pointer = vcpu.map_or(core::ptr::null_mut(), |vcpu| {
            core::ptr::from_ref(vcpu).cast_mut()
        });
        self.loaded.store(pointer, Ordering::Relaxed);
    }
}

/// All CPUs that are up.
pub(crate) fn all() -> &'static [&'static Cpu] {
    CPUS.get().map_or(&[], |cpus| cpus.as_slice())
}

/// The CPU with this number, if it is up.
#[inline]
pub(crate) fn with_index(index: usize) -> Option<&'static Cpu> {
    let all = all();
    match all.get(index) {
        Some(cpu) if cpu.index == index => Some(cpu),
        _ => after_a_gap(all, index),
    }
}

/// Those that did not come leave gaps.
#[cold]
fn after_a_gap(all: &[&'static Cpu], index: usize) -> Option<&'static Cpu> {
    let place = all.binary_search_by_key(&index, |cpu| cpu.index).ok()?;
    all.get(place).copied()
}

/// Two words of this CPU's stacks, for a backtrace.
pub(crate) fn stack_words(address: usize) -> Option<(u64, u64)> {
    let stack = this_cpu().map(|cpu| cpu.stack)?;
    arch::cpu::stack_words(stack, address)
}

/// Bytes of a secondary CPU's stacks: guard, stack, guard, emergency stack, rounded up to a power of two.
const AREA_PAGES: usize = 8;

/// Stacks of one CPU: (stack, its guard, top of the emergency stack).
fn stacks() -> Option<(PaRange, PaRange, usize)> {
    let area = Pages::allocate(AREA_PAGES)?;
    let base = area.address();
    // CPUs are never given up.
    core::mem::forget(area);
    let guard = PaRange::new(base, PAGE_SIZE)?;
    let stack = PaRange::new(guard.end(), STACK_SIZE as u64)?;
    let second_guard = PaRange::new(stack.end(), PAGE_SIZE)?;
    let emergency_top = second_guard.end().checked_add(PAGE_SIZE)?;
    memory_map::make_guard(guard).ok()?;
    memory_map::make_guard(second_guard).ok()?;
    Some((stack, guard, emergency_top.get() as usize))
}

/// Gives the boot CPU its own data. `cpus` is how many there will be at most.
pub(crate) fn adopt_boot_cpu(board: &Board) -> Option<()> {
    let affinity = arch::cpu::affinity();
    let index = board
        .cpus
        .iter()
        .position(|cpu| cpu.mpidr == affinity)
        .unwrap_or(0);
    let guard = entry::boot_stack_guard()?;
    let top = entry::boot_stack_top();
    let stack = PaRange::between(guard.end(), ::memory::Pa::new(top as u64))?;
    let (_, _, emergency_top) = stacks()?;
    let cpu = Box::leak(Box::new(Cpu::new(index, top, emergency_top, stack, guard)));
    arch::cpu::adopt(&cpu.header);
    arch::prepare::prepare_cpu();
    serrors::drop_old(cpu);
    cpu.online.store(true, Ordering::Relaxed);
    Some(())
}

/// Starts the other CPUs and waits for them. Those that do not come are named and done without.
pub(crate) fn start(board: &Board) -> Option<()> {
    let boot = this_cpu()?;
    let root = memory_map::root()?;
    let mut cpus = Vec::new();
    // All are prepared before any is started: firmware may let several wait at one word.
    let mut others = Vec::new();
    for (index, described) in board.cpus.iter().enumerate() {
        if index == boot.index {
            cpus.push(boot);
            continue;
        }
        memory_map::grow_heap();
        let (stack, guard, emergency_top) = stacks()?;
        let top = stack.end().get() as usize;
        let cpu: &'static Cpu =
            Box::leak(Box::new(Cpu::new(index, top, emergency_top, stack, guard)));
        entry::prepare_secondary(
            index,
            described.mpidr,
            top,
            root,
            core::ptr::from_ref(cpu).addr(),
        );
        others.push((cpu, described));
    }
    for (cpu, described) in others {
        let affinity = described.mpidr;
        if let Err(error) = start_one(board, described) {
            warn!(
                "CPU {} (affinity {affinity:#x}) does not start: {error}",
                cpu.index
            );
        } else if wait_for(cpu) {
            cpus.push(cpu);
        } else {
            warn!(
                "CPU {} (affinity {affinity:#x}) was started and did not come",
                cpu.index
            );
        }
    }
    cpus.sort_by_key(|cpu| cpu.index);
    info!(
        "CPUs: {} of {} up",
        cpus.len(),
        board.cpus.len() + board.cpus_left_out
    );
    smccc::report();
    ONLINE.store(cpus.len(), Ordering::Relaxed);
    CPUS.call_once(|| cpus);
    Some(())
}

/// Starts a CPU as the tree says.
#[expect(
    unsafe_code,
    reason = "the way to start CPUs comes from the board's tree"
)]
fn start_one(board: &Board, described: &devtree::board::Cpu) -> Result<(), cpu_start::Error> {
    let entry = entry::secondary_entry();
    match (described.start, power::conduit(board)) {
        (StartMethod::Psci, Some(conduit)) => {
            // SAFETY: the tree says that there is PSCI; the CPU finds its stack and map by
            // `prepare_secondary`, which cleaned them.
            unsafe { cpu_start::psci(conduit, described.mpidr, entry, 0) }
        }
        (StartMethod::SpinTable(word), _) => {
            // SAFETY: the CPU waits at the tree's release word, whose page is reserved and mapped; the
            // rest as above.
            unsafe { cpu_start::spin_table(word, entry, arch::cache::clean_invalidate) }
        }
        (StartMethod::Psci | StartMethod::Unknown, _) => Err(cpu_start::Error::NoConduit),
    }
}

fn wait_for(cpu: &Cpu) -> bool {
    let end = arch::time::counter() + arch::time::frequency() * START_TIMEOUT_MS / 1000;
    while !cpu.online.load(Ordering::Acquire) {
        if arch::time::counter() > end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Where a secondary CPU arrives, on its own stack, with the final map.
pub(crate) fn secondary(argument: usize) {
    #[expect(unsafe_code, reason = "the argument that `start` prepared")]
    // SAFETY: `start` passed the address of a leaked `Cpu` for this CPU alone.
    let cpu: &'static Cpu = unsafe { &*(argument as *const Cpu) };
    arch::cpu::adopt(&cpu.header);
    arch::mmu::forbid_writable_code();
    arch::prepare::prepare_cpu();
    serrors::drop_old(cpu);
    smccc::judge_cpu();
    interrupts::start_cpu();
    cpu.online.store(true, Ordering::Release);
    // Until guests start there are guests to be made.
    while READY.load(Ordering::Acquire) == 0 {
        if !crew::help() {
            arch::cpu::wait_for_event();
        }
    }
    schedule::run(cpu)
}

/// Whether CPUs run guests.
pub(crate) fn are_released() -> bool {
    READY.load(Ordering::Relaxed) != 0
}

/// Lets all CPUs run guests; the caller's CPU begins at once.
pub(crate) fn release() -> ! {
    let frequency = arch::time::frequency().max(1);
    info!(
        "guests start; the counter began {} us ago",
        u128::from(arch::time::counter()) * 1_000_000 / u128::from(frequency)
    );
    READY.store(1, Ordering::Release);
    arch::cpu::send_event();
    match this_cpu() {
        Some(cpu) => schedule::run(cpu),
        None => arch::cpu::park(),
    }
}
