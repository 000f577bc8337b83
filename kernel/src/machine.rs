//! Domains and vCPUs as objects: what each consists of, and who may touch what.
//!
//! Both are made when a guest is described and never freed: references to them are `&'static`, and a
//! hypercall needs no reference count. A domain that lives again is the same object. Its memory goes back to the pool
//! when it ends for good; tables and pages of the heap it keeps for another life.

mod list;

pub(crate) use list::{domains, find, publish};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use ::memory::{Frames, Ipa, Pa, PaRange, Page, Stage2, Stage2Kind};
use abi::DomainId;
use arch::context::{Context, World};
use arch::entry::MAX_CPUS;
use devtree::guest::DomainConfig;
use devtree::plan::Plan;
use domain::counters::Counters;
use domain::life::{Life, Policy, State};
use domain::lifecycle::RunState;
use domain::mmio::Bus;
use domain::presence::{Alive, Loaded};
use domain::recent::Recent;
use domain::report::{Report, Syndrome};
use domain::set_way::SetWay;
use domain::sysreg::SystemRegisters;
use domain::timer::PhysicalTimer;
use platform::gic::VirtualState;
use sync::{Once, SpinLock};
use vgic::{VcpuId, Vgic};
use xen::{StaticChannel, VcpuState, XenState};

use crate::assigned::Lines;
use crate::console::Source;
use crate::cpus::Cpu;
use crate::devices::Uart;
use crate::interrupts::Lists;
use crate::jobs::Job;
use crate::memory_map;
use crate::migration::{Place, Places};
use crate::tuning::Settings;

/// Where a vCPU starts, and what its x0 is then.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) entry: u64,
    pub(crate) argument: u64,
}

/// A start that PSCI or the domain's job has set, and that the CPU consumes which loads the vCPU next. Who sets it makes
/// the vCPU ready after that (`domain::lifecycle`), and alone may do so.
pub(crate) struct NextStart {
    is_set: AtomicBool,
    entry: AtomicU64,
    argument: AtomicU64,
}

impl NextStart {
    const fn new() -> Self {
        Self {
            is_set: AtomicBool::new(false),
            entry: AtomicU64::new(0),
            argument: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, start: Start) {
        self.entry.store(start.entry, Ordering::Relaxed);
        self.argument.store(start.argument, Ordering::Relaxed);
        self.is_set.store(true, Ordering::Release);
    }

    /// Forgets one that nobody has taken.
    pub(crate) fn clear(&self) {
        self.is_set.store(false, Ordering::Relaxed);
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Start> {
        if !self.is_set() {
            return None;
        }
        let start = Start {
            entry: self.entry.load(Ordering::Relaxed),
            argument: self.argument.load(Ordering::Relaxed),
        };
        self.clear();
        Some(start)
    }
}

/// A virtual CPU.
#[repr(C)]
pub(crate) struct Vcpu {
    pub(crate) context: Context,
    pub(crate) domain: &'static Domain,
    pub(crate) id: VcpuId,
    /// Not 0 if its list registers are to be brought up to date before it goes on ([`Vgic::attention_word`]).
    pub(crate) attention: &'static AtomicU32,
    /// The list registers of the CPU that has it loaded.
    pub(crate) lists: &'static Lists,
    /// What its domain's Xen side keeps of it.
    pub(crate) xen: Option<&'static VcpuState>,
    /// What is counted of it.
    pub(crate) counters: Counters,
    /// Its last exits.
    pub(crate) recent: Recent,
    /// The CPU in whose queues it is, or that has it loaded. Changed under the lock of that CPU's timer queue.
    home: AtomicPtr<Cpu>,
    /// A bit for each CPU that it may run on. Written by `tuning` alone.
    pub(crate) affinity: AtomicU64,
    /// How it is scheduled, as it was asked for.
    pub(crate) settings: SpinLock<Settings>,
    /// Its places in the CPUs' queues.
    pub(crate) places: Once<Places>,
    /// Whether it is on, runs, waits or sleeps.
    pub(crate) run: RunState,
    /// Its state is in its home's registers.
    pub(crate) loaded: Loaded,
    /// The physical interrupt of the virtual timer is active on its behalf; kept while it is not loaded.
    pub(crate) timer_active: AtomicBool,
    /// The physical CPU interface of the virtual GIC; its CPU alone touches it.
    pub(crate) interface: VirtualState,
    pub(crate) start: NextStart,
    /// The emulated physical timer.
    pub(crate) physical_timer: SpinLock<PhysicalTimer>,
    /// Its cache maintenance by set and way.
    pub(crate) set_way: SpinLock<SetWay>,
    /// SErrors that it caused, one after the other, while a virtual one waits for it.
    pub(crate) untaken_serrors: AtomicU32,
    /// When its virtual timer fires, while it is not loaded; ticks of the system counter, all ones for
    /// never. The same for its physical timer and for a poll with a timeout.
    pub(crate) virtual_deadline: AtomicU64,
    pub(crate) physical_deadline: AtomicU64,
    pub(crate) poll_deadline: AtomicU64,
    /// When the first of the domain's watchdogs runs out; vCPU 0 carries them.
    pub(crate) watchdog_deadline: AtomicU64,
    /// Until when the domain is to shut down that was asked to; vCPU 0 carries it.
    pub(crate) shutdown_deadline: AtomicU64,
    /// It sleeps in `SCHEDOP_poll`.
    pub(crate) polling: AtomicBool,
}

/// The vCPU that a domain fails with.
#[derive(Clone, Copy)]
pub(crate) struct Culprit {
    pub(crate) vcpu: VcpuId,
    pub(crate) reason: &'static str,
    /// The exit that it is about, if it is about one.
    pub(crate) syndrome: Option<Syndrome>,
}

/// What a domain gives back when it ends.
pub(crate) struct Holdings {
    pub(crate) stage2: Stage2,
    /// The greatest guest frame number at which something has been mapped.
    pub(crate) highest_gfn: u64,
    /// Frames of its RAM that the hypervisor writes; as many as the list has room for.
    pub(crate) kept: Vec<Pa>,
    /// Pages of the heap that are mapped into the guest, and those of an earlier life that had more of them.
    pub(crate) pages: Vec<Page>,
    /// How many of them each life begins with.
    pub(crate) first_pages: usize,
    /// How many of them there are now.
    pub(crate) used_pages: usize,
    /// Its PV console's ring, its store's page, and the one that takes the place of what others had granted, if it has
    /// those.
    pub(crate) console_page: Option<Pa>,
    pub(crate) store_page: Option<Pa>,
    pub(crate) empty_page: Option<Pa>,
}

/// Pages of the hypervisor that a guest can make it share, at most: shared information, grant frames,
/// console ring.
pub(crate) const MAX_SHARED_PAGES: usize = 80;

/// Tables of its second stage that a guest can make grow, at most, by having pages mapped at addresses far
/// apart; and one more for each chunk of its RAM, by having pages taken out of it.
pub(crate) const MAX_GROWN_TABLES: usize = 64;

/// A guest.
pub(crate) struct Domain {
    pub(crate) id: DomainId,
    pub(crate) name: String,
    pub(crate) vttbr: u64,
    /// See [`Self::counter_offset`].
    counter_offset: AtomicU64,
    pub(crate) vgic: Vgic,
    pub(crate) xen: XenState,
    pub(crate) uart: Option<Uart>,
    /// Its lines on the console.
    pub(crate) console: Source,
    /// It wrote to its UART last, and not to the ring: input goes the same way.
    pub(crate) speaks_by_uart: AtomicBool,
    /// Its PV console ring waits for room on the console.
    pub(crate) console_waits: AtomicBool,
    pub(crate) trap_unmapped: bool,
    /// Its frame numbers are the machine's.
    pub(crate) direct_map: bool,
    /// Its emulated devices.
    pub(crate) bus: Bus,
    /// Interrupts of the board's devices that it has.
    pub(crate) lines: Lines,
    /// What its trapped registers hold.
    pub(crate) registers: SystemRegisters,
    vcpus: Once<Box<[Vcpu]>>,
    /// What it is doing. Held while its vCPUs are held back or let go, so that one CPU at a time does that.
    pub(crate) life: SpinLock<Life>,
    /// See [`Self::is_running`].
    alive: Alive,
    /// Others are to start before it, and have not yet.
    pub(crate) is_after: AtomicBool,
    /// Those that start after it need not wait any more.
    pub(crate) was_up: AtomicBool,
    /// System counter when it was paused.
    pub(crate) paused_at: AtomicU64,
    /// System counter when its last life ended, or when it was to be started.
    pub(crate) ended_at: AtomicU64,
    /// Ticks from then until it ran.
    pub(crate) build_ticks: AtomicU64,
    pub(crate) holdings: SpinLock<Option<Holdings>>,
    /// The frames of its RAM; also after its end, while others hold some.
    pub(crate) frames: Frames,
    /// What the hypervisor has to do between two lives of it, and at the beginning of the first.
    pub(crate) job: SpinLock<Job>,
    /// The grace period that its job waits for; 0 for none.
    pub(crate) grace: AtomicU64,
    /// It has lived before.
    pub(crate) has_lived: AtomicBool,
    /// What it is built from.
    pub(crate) recipe: Recipe,
    /// It has ended and is disconnected: others do not find it any more.
    pub(crate) gone: AtomicBool,
    /// The vCPU that it fails with, and what is wrong.
    pub(crate) culprit: SpinLock<Option<Culprit>>,
    /// What is known of its last failure.
    pub(crate) report: SpinLock<Option<Report>>,
    /// The line of it that is told next, plus 1; 0 if all is told.
    pub(crate) telling: AtomicU32,
    /// It is to end for what it does to others.
    pub(crate) condemned: AtomicBool,
    /// Which vCPU was last on each CPU, plus 1, by that CPU: its stage-1 translations are in its TLB. They are as good as
    /// it left them when it comes back from another CPU, where the guest may have invalidated them:
    /// `HCR_EL2.FB` makes every invalidation of its reach all CPUs (DDI 0487, D8.14).
    last_vcpu: [AtomicU8; MAX_CPUS],
    /// Lines about this guest's mistakes that were printed: they are limited.
    complaints: AtomicU32,
}

/// Lines about mistakes of one guest.
const MAX_COMPLAINTS: u32 = 16;

/// What [`Domain::new`] needs.
pub(crate) struct Parts {
    pub(crate) id: DomainId,
    pub(crate) name: String,
    pub(crate) vttbr: u64,
    pub(crate) vgic: Vgic,
    pub(crate) xen: XenState,
    pub(crate) uart: Option<Uart>,
    pub(crate) console: Source,
    pub(crate) trap_unmapped: bool,
    pub(crate) direct_map: bool,
    pub(crate) lines: Lines,
    pub(crate) bus: Bus,
    pub(crate) registers: SystemRegisters,
    pub(crate) holdings: Holdings,
    pub(crate) frames: Frames,
    pub(crate) policy: Policy,
    pub(crate) recipe: Recipe,
}

/// What a domain is built from, each time. Files lie where firmware put them: in memory that nobody writes.
pub(crate) struct Recipe {
    pub(crate) config: &'static DomainConfig,
    pub(crate) plan: Box<Plan<'static>>,
    /// Its ends of the static event channels.
    pub(crate) channels: Vec<StaticChannel>,
    /// The interrupt controller's registers that the guest drives itself, and where it has them.
    pub(crate) cpu_interface: Option<(Ipa, PaRange)>,
}

impl Domain {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            name: parts.name,
            vttbr: parts.vttbr,
            counter_offset: AtomicU64::new(arch::time::counter()),
            vgic: parts.vgic,
            xen: parts.xen,
            uart: parts.uart,
            console: parts.console,
            speaks_by_uart: AtomicBool::new(false),
            console_waits: AtomicBool::new(false),
            trap_unmapped: parts.trap_unmapped,
            direct_map: parts.direct_map,
            lines: parts.lines,
            bus: parts.bus,
            registers: parts.registers,
            vcpus: Once::new(),
            life: SpinLock::new(Life::new(parts.policy)),
            alive: Alive::default(),
            is_after: AtomicBool::new(!parts.recipe.config.after.is_empty()),
            was_up: AtomicBool::new(false),
            paused_at: AtomicU64::new(0),
            ended_at: AtomicU64::new(0),
            build_ticks: AtomicU64::new(0),
            holdings: SpinLock::new(Some(parts.holdings)),
            frames: parts.frames,
            job: SpinLock::new(Job::default()),
            grace: AtomicU64::new(0),
            has_lived: AtomicBool::new(false),
            recipe: parts.recipe,
            gone: AtomicBool::new(false),
            culprit: SpinLock::new(None),
            report: SpinLock::new(None),
            telling: AtomicU32::new(0),
            condemned: AtomicBool::new(false),
            last_vcpu: [const { AtomicU8::new(0) }; MAX_CPUS],
            complaints: AtomicU32::new(0),
        }
    }

    /// Gives the domain its vCPUs, once.
    pub(crate) fn set_vcpus(&self, vcpus: Box<[Vcpu]>) {
        self.vcpus.call_once(|| vcpus);
    }

    /// Its vCPUs, by number.
    pub(crate) fn vcpus(&self) -> &[Vcpu] {
        self.vcpus.get().map_or(&[], |vcpus| vcpus)
    }

    /// The vCPU with this number.
    pub(crate) fn vcpu(&'static self, id: VcpuId) -> Option<&'static Vcpu> {
        self.vcpus().get(id.get() as usize)
    }

    /// System counter when the guest's counter was 0.
    #[inline]
    pub(crate) fn counter_offset(&self) -> u64 {
        self.counter_offset.load(Ordering::Relaxed)
    }

    /// The guest's counter is 0 now, and lines about its mistakes may be printed again.
    pub(crate) fn begin_anew(&self) {
        self.counter_offset
            .store(arch::time::counter(), Ordering::Relaxed);
        self.complaints.store(0, Ordering::Relaxed);
        self.speaks_by_uart.store(false, Ordering::Relaxed);
        self.condemned.store(false, Ordering::Relaxed);
        *self.culprit.lock() = None;
    }

    /// What it is doing.
    pub(crate) fn state(&self) -> State {
        self.life.lock().state()
    }

    /// Whether it may still run, now or when it is resumed.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.alive.get()
    }

    /// What it is doing has changed to this; its lock is held.
    pub(crate) fn tell(&self, life: &Life) {
        self.alive.set(life.state().is_alive());
    }

    /// Whether an address is this domain's RAM. Pages do not cross chunks, and chunks have one owner.
    #[inline]
    pub(crate) fn owns(&self, address: Pa) -> bool {
        memory_map::pool().belongs(address, self.id.0)
    }

    /// Whether its second stage maps `ipa`, as the table says now, to be written if that is asked.
    pub(crate) fn is_mapped(&self, ipa: Ipa, write: bool) -> bool {
        let holdings = self.holdings.lock();
        let found = holdings
            .as_ref()
            .and_then(|held| held.stage2.translate(ipa));
        found.is_some_and(|(_, kind)| !write || kind != Stage2Kind::GrantedReadOnly)
    }

    /// Whether another line about this guest may be printed.
    pub(crate) fn may_complain(&self) -> bool {
        self.complaints.load(Ordering::Relaxed) < MAX_COMPLAINTS
            && self.complaints.fetch_add(1, Ordering::Relaxed) < MAX_COMPLAINTS
    }
}

/// The word of a vCPU that its interrupt controller does not know.
static NO_ATTENTION: AtomicU32 = AtomicU32::new(0);

impl Vcpu {
    pub(crate) fn new(
        domain: &'static Domain,
        id: VcpuId,
        home: &'static Cpu,
        lists: &'static Lists,
        affinity: u64,
        settings: Settings,
    ) -> Self {
        Self {
            context: Context::new(),
            domain,
            id,
            attention: domain.vgic.attention_word(id).unwrap_or(&NO_ATTENTION),
            lists,
            xen: domain.xen.vcpu_state(abi::VcpuId(id.get())),
            counters: Counters::new(),
            recent: Recent::new(),
            home: AtomicPtr::new(core::ptr::from_ref(home).cast_mut()),
            affinity: AtomicU64::new(affinity),
            settings: SpinLock::new(settings),
            places: Once::new(),
            run: RunState::new(),
            loaded: Loaded::default(),
            timer_active: AtomicBool::new(false),
            interface: VirtualState::default(),
            start: NextStart::new(),
            physical_timer: SpinLock::new(PhysicalTimer::default()),
            set_way: SpinLock::new(SetWay::default()),
            untaken_serrors: AtomicU32::new(0),
            virtual_deadline: AtomicU64::new(u64::MAX),
            physical_deadline: AtomicU64::new(u64::MAX),
            poll_deadline: AtomicU64::new(u64::MAX),
            watchdog_deadline: AtomicU64::new(u64::MAX),
            shutdown_deadline: AtomicU64::new(u64::MAX),
            polling: AtomicBool::new(false),
        }
    }

    /// The CPU that it belongs to.
    pub(crate) fn home(&self) -> &'static Cpu {
        #[expect(unsafe_code, reason = "a pointer to a static object")]
        // SAFETY: it is only written from static references.
        unsafe {
            &*self.home.load(Ordering::Acquire)
        }
    }

    /// It belongs to another CPU now.
    pub(crate) fn set_home(&self, cpu: &'static Cpu) {
        let cpu = core::ptr::from_ref(cpu).cast_mut();
        self.home.store(cpu, Ordering::Release);
    }

    /// Its places in the queues of a CPU.
    pub(crate) fn place(&self, cpu: usize) -> Option<Place> {
        self.places.get()?.get(cpu).copied().flatten()
    }

    /// Whether its state is in its home's registers.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.get()
    }

    /// What `MPIDR_EL1` reads: RES1 bit 31 and the affinity that the GIC knows it by.
    pub(crate) fn mpidr(&self) -> u64 {
        1 << 31 | u64::from(self.id.affinity())
    }

    /// What the switch of contexts takes for this vCPU on `cpu`, and that it is the last one there now.
    pub(crate) fn world(&self, cpu: &Cpu) -> World {
        let mark = self.id.get() as u8 + 1;
        let before = self.domain.last_vcpu.get(cpu.index).map_or(0, |last| {
            let before = last.load(Ordering::Relaxed);
            last.store(mark, Ordering::Relaxed);
            before
        });
        World {
            vttbr: self.domain.vttbr,
            vmpidr: self.mpidr(),
            counter_offset: self.domain.counter_offset(),
            stale_translations: before != 0 && before != mark,
        }
    }
}
