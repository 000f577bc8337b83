//! Physical CPUs: each one's own data, its stacks with their guard pages, and the start of all of them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::say::{info, warn};
use ::memory::{PAGE_SIZE, PaRange, Pages};
use arch::cpu::Header;
use arch::entry::{self, EMERGENCY_SIZE, STACK_SIZE};
use devtree::Board;
use devtree::board::StartMethod;
use domain::counters::Count;
use domain::sched::{RunQueue, slice_ticks};
use domain::timers::TimerQueue;
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
    /// Its stack.
    stack: PaRange,
    /// The page under the stack, which must never be touched.
    guard: PaRange,
    /// It boots the machine, on the boot's larger stack.
    boots: AtomicBool,
    /// The vCPU that is loaded, for reports and for those who ask whether one is.
    loaded: AtomicPtr<Vcpu>,
    /// Somebody changed the run queue: look at it before the guest goes on.
    pub(crate) look: AtomicBool,
    /// It has said that it idles, and has offered nobody since. It alone looks.
    idled: AtomicBool,
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

/// Bits of address of the guests' second stages. Set before [`READY`].
static IPA_BITS: AtomicU32 = AtomicU32::new(::memory::IPA_BITS);

arch::exit_handlers! {
    cpu: Cpu, header: header, vcpu: Vcpu, context: context,
    call: exits::call, interrupt: exits::interrupt,
    register: exits::quick::register, abort: exits::quick::abort, synchronous: exits::synchronous,
    serror: serrors::taken, idle: schedule::run, fatal: crate::failure::fatal,
    traced_exit: stretch::exit, traced_entry: stretch::entry,
}

impl Cpu {
    fn new(index: usize, stacks: Stacks) -> Self {
        Self {
            header: Header::new(stacks.stack.end().get() as usize, stacks.emergency_top),
            index,
            stack: stacks.stack,
            guard: stacks.guard,
            boots: AtomicBool::new(false),
            loaded: AtomicPtr::new(core::ptr::null_mut()),
            look: AtomicBool::new(false),
            idled: AtomicBool::new(false),
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

    /// The stack that it uses.
    fn stack(&self) -> Option<PaRange> {
        if self.boots.load(Ordering::Relaxed) {
            entry::boot_stack()
        } else {
            Some(self.stack)
        }
    }

    /// The page under the stack that it uses.
    pub(crate) fn guard(&self) -> Option<PaRange> {
        if self.boots.load(Ordering::Relaxed) {
            entry::boot_stack_guard()
        } else {
            Some(self.guard)
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

    /// It has nobody to run: others may count on it.
    pub(crate) fn set_idled(&self) {
        self.idled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::set_idled`] was called since [`Self::take_idled`].
    pub(crate) fn has_idled(&self) -> bool {
        self.idled.load(Ordering::Relaxed)
    }

    /// [`Self::has_idled`], the last time.
    pub(crate) fn take_idled(&self) -> bool {
        let idled = self.has_idled();
        if idled {
            self.idled.store(false, Ordering::Relaxed);
        }
        idled
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

/// Two words of this CPU's stacks, for a backtrace: the boot's, as long as the CPU has no data of its own.
pub(crate) fn stack_words(address: usize) -> Option<(u64, u64)> {
    let stack = match this_cpu() {
        Some(cpu) => cpu.stack()?,
        None => arch::entry::boot_stack()?,
    };
    arch::cpu::stack_words(stack, address)
}

/// Pages of a CPU's stacks: guard, stack, guard, emergency stack, rounded up to a power of two.
const AREA_PAGES: usize =
    (2 + (STACK_SIZE + EMERGENCY_SIZE) / PAGE_SIZE as usize).next_power_of_two();

/// Stacks of one CPU.
struct Stacks {
    stack: PaRange,
    /// The page under it.
    guard: PaRange,
    emergency_top: usize,
}

impl Stacks {
    fn allocate() -> Option<Self> {
        let area = Pages::allocate(AREA_PAGES)?;
        let base = area.address();
        // CPUs are never given up.
        core::mem::forget(area);
        let guard = PaRange::new(base, PAGE_SIZE)?;
        let stack = PaRange::new(guard.end(), STACK_SIZE as u64)?;
        let second_guard = PaRange::new(stack.end(), PAGE_SIZE)?;
        let emergency_top = second_guard.end().checked_add(EMERGENCY_SIZE as u64)?.get() as usize;
        memory_map::make_guard(guard).ok()?;
        memory_map::make_guard(second_guard).ok()?;
        Some(Self {
            stack,
            guard,
            emergency_top,
        })
    }
}

/// Gives the boot CPU its own data. It stays on the boot's stack until [`leave_boot`].
pub(crate) fn adopt_boot_cpu(board: &Board) -> Option<()> {
    let affinity = arch::cpu::affinity();
    let index = board
        .cpus
        .iter()
        .position(|cpu| cpu.mpidr == affinity)
        .unwrap_or(0);
    let cpu = Box::leak(Box::new(Cpu::new(index, Stacks::allocate()?)));
    cpu.boots.store(true, Ordering::Relaxed);
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
        let stacks = Stacks::allocate()?;
        let top = stacks.stack.end().get() as usize;
        let cpu: &'static Cpu = Box::leak(Box::new(Cpu::new(index, stacks)));
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
    ::memory::sort_by_key(&mut cpus, |cpu| cpu.index);
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
    arch::prepare::set_ipa_bits(ipa_bits());
    schedule::run(cpu)
}

/// Bits of address of the guests' second stages.
pub(crate) fn ipa_bits() -> u32 {
    IPA_BITS.load(Ordering::Relaxed)
}

/// Says how many they are: before there is one.
pub(crate) fn set_ipa_bits(bits: u32) {
    IPA_BITS.store(bits, Ordering::Relaxed);
}

/// Whether CPUs run guests.
pub(crate) fn are_released() -> bool {
    READY.load(Ordering::Relaxed) != 0
}

/// The end of the boot: what only it needed becomes the heap's, and all CPUs run guests.
pub(crate) fn leave_boot() -> ! {
    let Some(cpu) = this_cpu() else {
        // It went wrong before there was a CPU to leave it with.
        arch::cpu::park()
    };
    let stack_top = cpu.stack.end().get() as usize;
    #[expect(unsafe_code, reason = "the CPU's own stack is there to be used")]
    // SAFETY: whole pages that `Stacks::allocate` took for this CPU alone, which has not used them yet.
    unsafe {
        arch::cpu::change_stack(stack_top, release)
    }
}

/// Lets all CPUs run guests; the caller's CPU begins at once.
extern "C" fn release() -> ! {
    let Some(cpu) = this_cpu() else {
        arch::cpu::park()
    };
    cpu.boots.store(false, Ordering::Relaxed);
    if let Err(error) = memory_map::take_back_boot_memory() {
        warn!("{error}");
    }
    info!("the hypervisor uses {} KiB", memory_map::own_usage() >> 10);
    let frequency = arch::time::frequency().max(1);
    info!(
        "guests start; the counter began {} us ago",
        u128::from(arch::time::counter()) * 1_000_000 / u128::from(frequency)
    );
    READY.store(1, Ordering::Release);
    arch::cpu::send_event();
    arch::prepare::set_ipa_bits(ipa_bits());
    schedule::run(cpu)
}
