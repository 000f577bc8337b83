//! Building guests: from a description and its files to a domain whose first vCPU is ready to run.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use ::memory::{
    CHUNK_SIZE, Ipa, IpaRange, MapError, PAGE_SIZE, PaRange, Pages, Stage2, Stage2Kind,
};
use abi::{DomainId, guest_layout as layout};
use arch::entry::MAX_CPUS;
use arch::{cache, tlb};
use arrayvec::ArrayVec;
use devtree::fit::Fit;
use devtree::guest::{self, Container, DomainConfig, Enhanced, Limits, ModuleSource};
use devtree::guest_tree::{GuestGic, GuestTree, Hypervisor};
use devtree::kernel;
use devtree::placement::{self, Placement};
use devtree::{Board, Problem, Severity, Tree};
use domain::sched::Parameters;
use log::{error, info, warn};
use vgic::{VcpuId, Version, Vgic};
use xen::{Config, ConsoleConfig, XenState};

use crate::console;
use crate::cpus::{self, Cpu};
use crate::interrupts::Virtual;
use crate::load::{self, Files};
use crate::machine::{self, Domain, Holdings, Parts, Start, Vcpu};
use crate::{devices, exits, memory_map, schedule};

/// SPIs of a guest whose description says nothing: one bank, in which the UART's is the first.
const DEFAULT_SPIS: u32 = 32;
/// The version of Xen whose ABI guests are told of.
const XEN_VERSION: (u16, u16) = (4, 20);

/// Why a guest could not be built.
#[derive(Debug)]
enum Error {
    /// Something of its files or of their placement.
    Files(devtree::Error),
    /// The pool has fewer chunks than it needs.
    NotEnoughMemory { wanted: u64, free: u64 },
    /// The hypervisor's own heap is exhausted.
    Heap,
    /// Its stage 2 could not be made.
    Map(MapError),
    /// Its interrupt controller could not be made.
    Vgic(vgic::Error),
    /// Its Xen side could not be made.
    Xen(xen::NewError),
    /// No CPU of its affinity runs.
    NoCpu,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(error) => error.fmt(f),
            Self::NotEnoughMemory { wanted, free } => write!(
                f,
                "memory: found {} KiB free, expected {} KiB",
                free >> 10,
                wanted >> 10
            ),
            Self::Heap => f.write_str("the hypervisor has no memory for its description"),
            Self::Map(error) => write!(f, "stage 2: {error}"),
            Self::Vgic(error) => error.fmt(f),
            Self::Xen(error) => error.fmt(f),
            Self::NoCpu => f.write_str("hard-affinity: no CPU of it is up"),
        }
    }
}

impl From<devtree::Error> for Error {
    fn from(error: devtree::Error) -> Self {
        Self::Files(error)
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// Reads all descriptions, from the host's tree and from the bundle; says what is wrong with each.
pub(crate) fn describe<'t>(
    board: &Board,
    tree: Tree<'t>,
    own: &[PaRange],
    bundle: Option<&Fit<'t>>,
    virtual_gic: Virtual,
    report: &mut dyn FnMut(Problem),
) -> Vec<DomainConfig> {
    let (vcpus, vcpus_because) =
        Limits::vcpu_bound(virtual_gic.version == Version::V3, guest::MAX_VCPUS_GIC_V3);
    let limits = Limits {
        vcpus,
        vcpus_because,
        cpus: board.cpus.len().min(MAX_CPUS) as u32,
        memory: &board.memory,
        taken: own,
    };
    let mut configs = Vec::new();
    guest::read(&Container::Host(tree), &limits, &mut configs, report);
    if let Some(bundle) = bundle {
        guest::read(&Container::Bundle(*bundle), &limits, &mut configs, report);
    }
    configs
}

/// Prints what is wrong with a description.
pub(crate) fn tell(problem: &Problem) {
    match problem.severity {
        Severity::Note => info!("{problem}"),
        Severity::Warning => warn!("{problem}"),
        Severity::Refused => error!("{problem}"),
    }
}

/// Where the guests' files lie in the host's memory: not to be given away before all guests are built.
pub(crate) fn modules(configs: &[DomainConfig]) -> Vec<PaRange> {
    let of = |source: &ModuleSource| match source {
        ModuleSource::Memory(range) => Some(*range),
        ModuleSource::Image(_) => None,
    };
    configs
        .iter()
        .flat_map(|config| [of(&config.kernel), config.ramdisk.as_ref().and_then(of)])
        .flatten()
        .collect()
}

/// What all guests are built from.
pub(crate) struct Builder<'t> {
    pub(crate) board: &'t Board,
    pub(crate) bundle: Option<&'t Fit<'t>>,
    pub(crate) virtual_gic: Virtual,
}

impl Builder<'_> {
    /// Builds every guest that can be built, and makes all known and ready to run.
    pub(crate) fn build_all(&self, configs: &[DomainConfig]) {
        let mut checked = Vec::new();
        let mut domains: Vec<&'static Domain> = Vec::new();
        for (number, config) in configs.iter().enumerate() {
            let id = DomainId(number as u16 + 1);
            match self.build(id, config, &mut checked) {
                Ok(domain) => domains.push(domain),
                Err(error) => error!("{}: {error}; guest left out", config.name),
            }
        }
        cache::invalidate_instructions();
        let focus = configs
            .iter()
            .position(|config| config.console_focus)
            .and_then(|number| {
                domains
                    .iter()
                    .find(|domain| usize::from(domain.id.0) == number + 1)
            })
            .or_else(|| domains.first());
        if let Some(domain) = focus.filter(|_| console::input_goes_to_guest()) {
            console::focus(domain.console);
        }
        machine::publish(domains);
    }

    /// Builds one guest. `checked` names the images of the bundle whose hashes were found right.
    fn build(
        &self,
        id: DomainId,
        config: &DomainConfig,
        checked: &mut Vec<String>,
    ) -> Result<&'static Domain, Error> {
        memory_map::grow_heap().ok_or(Error::Heap)?;
        let kernel_file = self.file(&config.kernel, checked)?;
        let kernel = kernel::probe(kernel_file)?;
        let ramdisk = match &config.ramdisk {
            Some(source) => self.file(source, checked)?,
            None => &[],
        };
        let banks =
            placement::banks(config.memory).ok_or(devtree::Error::DoesNotFit("the memory"))?;
        let place = placement::place(&kernel, &banks, ramdisk.len() as u64)?;
        let machine = GuestMachine::new(config);
        let tree = self.guest_tree(config, &banks, &place, &machine).write()?;

        let wanted = config.memory.div_ceil(CHUNK_SIZE);
        let mut pool = memory_map::pool().lock();
        let free = pool.free();
        let chunks = pool.allocate(wanted).ok_or(Error::NotEnoughMemory {
            wanted: wanted * CHUNK_SIZE,
            free: free * CHUNK_SIZE,
        })?;
        drop(pool);
        let files = Files {
            kernel: &kernel,
            kernel_file,
            ramdisk,
            tree: &tree,
        };
        match self.assemble(id, config, &chunks, &banks, &place, &files) {
            Ok(domain) => Ok(domain),
            Err(error) => {
                memory_map::pool().lock().give_back(&chunks);
                Err(error)
            }
        }
    }

    /// The bytes of a module; those of the bundle are checked against their hashes, once each.
    fn file(&self, source: &ModuleSource, checked: &mut Vec<String>) -> Result<&[u8], Error> {
        match source {
            ModuleSource::Memory(range) => Ok(memory_map::bytes(*range)),
            ModuleSource::Image(name) => {
                let bundle = self.bundle.ok_or(devtree::Error::NoSuchImage)?;
                let image = bundle.image(name)?;
                if !checked.contains(name) {
                    image.verify()?;
                    checked.push(name.clone());
                }
                Ok(image.data)
            }
        }
    }

    fn guest_tree<'c>(
        &'c self,
        config: &'c DomainConfig,
        banks: &'c [IpaRange],
        place: &Placement,
        machine: &'c GuestMachine,
    ) -> GuestTree<'c> {
        GuestTree {
            affinities: &machine.affinities,
            cpu_compatible: &self.board.cpu_compatible,
            memory: banks,
            gic: guest_gic(self.virtual_gic.version, config.vcpus),
            timer_frequency: self.board.timer.frequency,
            timers: [
                layout::TIMER_SECURE_PHYSICAL_INTID,
                layout::TIMER_PHYSICAL_INTID,
                layout::TIMER_VIRTUAL_INTID,
                layout::TIMER_HYPERVISOR_INTID,
            ],
            uart: config
                .vpl011
                .then_some((machine.uart, layout::VPL011_INTID)),
            hypervisor: (config.enhanced != Enhanced::Off).then_some(Hypervisor {
                version: XEN_VERSION,
                grant_window: machine.grant_window,
                extended_regions: &machine.extended_regions,
                upcall: layout::EVENT_INTID,
            }),
            initrd: place.initrd,
            bootargs: config.bootargs.as_deref(),
        }
    }

    fn assemble(
        &self,
        id: DomainId,
        config: &DomainConfig,
        chunks: &[PaRange],
        banks: &[IpaRange],
        place: &Placement,
        files: &Files<'_>,
    ) -> Result<&'static Domain, Error> {
        let ram = load::lay_out(banks, chunks);
        for chunk in chunks {
            memory_map::scrub(*chunk);
        }
        load::copy_files(&ram, place, files);

        let mut stage2 = Stage2::new().ok_or(Error::Heap)?;
        for (range, to) in &ram {
            let to = PaRange::new(*to, range.size()).ok_or(MapError::BadRange)?;
            stage2.map(range.start(), to, Stage2Kind::Ram)?;
        }
        if let Some(interface) = self.virtual_gic.cpu_interface {
            let size = layout::GICV2_CPU_INTERFACE_SIZE.min(interface.size());
            let registers = PaRange::new(interface.start(), size).ok_or(MapError::BadRange)?;
            stage2.map(
                Ipa::new(layout::GICV2_CPU_INTERFACE),
                registers,
                Stage2Kind::Device,
            )?;
        }

        let shared_info = Pages::allocate(1).ok_or(Error::Heap)?;
        let grant_frame = Pages::allocate(1).ok_or(Error::Heap)?;
        let ring = Pages::allocate(1).ok_or(Error::Heap)?;
        let mut xen_config =
            Config::new(id, config.vcpus, shared_info.words(), grant_frame.words());
        xen_config.max_grant_frames = config.grants.frames;
        xen_config.handle[15] = id.0 as u8;
        xen_config.handle[14] = (id.0 >> 8) as u8;
        if config.enhanced != Enhanced::Off {
            let page = PaRange::new(ring.address(), PAGE_SIZE).ok_or(MapError::BadRange)?;
            stage2.map(Ipa::new(layout::MAGIC), page, Stage2Kind::Shared)?;
            xen_config.console = Some(ConsoleConfig {
                page: ring.words(),
                gfn: layout::CONSOLE_GFN,
            });
        }
        for page in [&shared_info, &grant_frame, &ring] {
            cache::clean_invalidate(page.address(), PAGE_SIZE);
        }
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(machine::MAX_SHARED_PAGES)
            .map_err(|_| Error::Heap)?;
        pages.extend([shared_info, grant_frame, ring]);

        stage2.limit_tables(machine::MAX_GROWN_TABLES);
        let vttbr = u64::from(id.0) << 48 | stage2.root().get();
        tlb::Stage2::new(vttbr).invalidate_all();
        let domain: &'static Domain = Box::leak(Box::new(Domain::new(Parts {
            id,
            name: config.name.clone(),
            vttbr,
            vgic: Vgic::new(
                self.virtual_gic.version,
                config.vcpus,
                // The UART's interrupt is the first shared one.
                config
                    .spis
                    .unwrap_or(DEFAULT_SPIS)
                    .max(u32::from(config.vpl011)),
            )
            .map_err(Error::Vgic)?,
            xen: XenState::new(&xen_config).map_err(Error::Xen)?,
            uart: config.vpl011.then(devices::Uart::new),
            console: console::add(&config.name),
            ram,
            trap_unmapped: config.trap_unmapped,
            registers: exits::registers(self.virtual_gic.version),
            bus: devices::bus(self.virtual_gic.version, config.vcpus, config.vpl011),
            holdings: Holdings {
                stage2,
                chunks: chunks.to_vec(),
                pages,
            },
        })));
        let vcpus = self.vcpus(domain, config)?;
        domain.set_vcpus(vcpus);
        for vcpu in domain.vcpus() {
            if let Some(slot) = vcpu.home.timers.lock().vcpus.get_mut(vcpu.timer_slot) {
                *slot = Some(vcpu);
            }
            let slot = vcpu
                .home
                .queue
                .lock()
                .add(vcpu, Parameters::default())
                .map_err(|_| Error::Heap)?;
            vcpu.slot.call_once(|| slot);
        }
        info!(
            "{}: domain {}, {} MiB, {} vCPU{} on CPU{}, entry {}",
            config.name,
            id.0,
            config.memory >> 20,
            config.vcpus,
            if config.vcpus == 1 { "" } else { "s" },
            homes(domain),
            place.entry,
        );
        if let Some(first) = domain.vcpus().first() {
            *first.start.lock() = Some(Start {
                entry: place.entry.get(),
                argument: place.tree.start().get(),
            });
            if first.run.claim().is_ok() && first.run.complete() {
                schedule::enqueue(first);
            }
        }
        Ok(domain)
    }

    /// Gives each vCPU the CPU of its affinity that has the fewest.
    fn vcpus(&self, domain: &'static Domain, config: &DomainConfig) -> Result<Box<[Vcpu]>, Error> {
        let mut vcpus = Vec::new();
        vcpus
            .try_reserve_exact(config.vcpus as usize)
            .map_err(|_| Error::Heap)?;
        for number in 0..config.vcpus {
            let affinity = config.affinity.get(number as usize);
            let allowed =
                |cpu: &&&'static Cpu| affinity.is_none_or(|set| set.contains(cpu.index as u32));
            let home: &'static Cpu = cpus::all()
                .iter()
                .filter(allowed)
                .min_by_key(|cpu| cpu.timers.lock().vcpus.len())
                .ok_or(Error::NoCpu)?;
            let id = VcpuId::new(number).ok_or(Error::NoCpu)?;
            let mut timers = home.timers.lock();
            let slot = timers.queue.add_slot().map_err(|_| Error::Heap)?;
            timers.vcpus.push(None);
            drop(timers);
            vcpus.push(Vcpu::new(domain, id, home, slot));
        }
        Ok(vcpus.into_boxed_slice())
    }
}

/// What of a guest's machine its tree refers to.
struct GuestMachine {
    affinities: Vec<u64>,
    extended_regions: ArrayVec<IpaRange, 2>,
    grant_window: IpaRange,
    uart: IpaRange,
}

impl GuestMachine {
    fn new(config: &DomainConfig) -> Self {
        Self {
            affinities: (0..config.vcpus).map(layout::affinity_of).collect(),
            extended_regions: placement::extended_regions(config.memory),
            grant_window: devices::range(layout::GRANT_TABLE, layout::GRANT_TABLE_SIZE),
            uart: devices::range(layout::VPL011, layout::VPL011_SIZE),
        }
    }
}

fn homes(domain: &Domain) -> String {
    let mut text = String::new();
    for vcpu in domain.vcpus() {
        text.push(' ');
        text.push_str(&vcpu.home.index.to_string());
    }
    text
}

/// The interrupt controller as the guest's tree has it.
fn guest_gic(version: Version, vcpus: u32) -> GuestGic {
    use devices::range;
    match version {
        Version::V2 => GuestGic::V2 {
            distributor: range(layout::GICV2_DISTRIBUTOR, layout::GICV2_DISTRIBUTOR_SIZE),
            cpu_interface: range(
                layout::GICV2_CPU_INTERFACE,
                layout::GICV2_CPU_INTERFACE_SIZE,
            ),
        },
        Version::V3 => GuestGic::V3 {
            distributor: range(layout::GICV3_DISTRIBUTOR, layout::GICV3_DISTRIBUTOR_SIZE),
            redistributors: range(
                layout::GICV3_REDISTRIBUTORS,
                layout::GICV3_REDISTRIBUTOR_STRIDE * u64::from(vcpus),
            ),
        },
    }
}
