//! Building guests: from a description and its files to a domain whose first vCPU is ready to run.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;

use ::memory::{CHUNK_SIZE, Frames, Ipa, MapError, PAGE_SIZE, PaRange, Pages, Stage2, Stage2Kind};
use abi::{DomainId, Port};
use arch::{cache, tlb};
use devtree::guest::{DomainConfig, Enhanced};
use devtree::guest_tree::GuestGic;
use devtree::plan::{self, GuestMachine, Plan, Planner};
use devtree::{Problem, Severity};
use domain::life::Policy;
use domain::migration::bit;
use log::{error, info, warn};
use vgic::{VcpuId, Vgic};
use xen::{Config, ConsoleConfig, StaticChannel, StoreConfig, XenState};

use crate::console;
use crate::cpus::{self, Cpu};
use crate::hypercalls::Machine;
use crate::interrupts::{self, Virtual};
use crate::machine::{
    self, Domain, Holdings, MAX_GROWN_TABLES, MAX_SHARED_PAGES, Parts, Start, Vcpu,
};
use crate::{devices, lifecycle, load, memory_map, migration, registers, schedule, shared, store};

/// Why a guest could not be built.
#[derive(Debug)]
enum Error {
    /// It cannot be planned, or what the plan needs is not there.
    Plan(devtree::Error),
    /// The hypervisor's own heap is exhausted.
    Heap,
    /// There was no room for memory that it shares.
    SharedMemory,
    /// Its stage 2 could not be made.
    Map(MapError),
    /// Its interrupt controller could not be made.
    Vgic(vgic::Error),
    /// Its Xen side could not be made.
    Xen(xen::NewError),
    /// It could not be added to xenstore.
    Store(xenstore::AddError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::Heap => f.write_str("the hypervisor has no memory for its description"),
            Self::SharedMemory => f.write_str("no room for memory that it shares"),
            Self::Map(error) => write!(f, "stage 2: {error}"),
            Self::Vgic(error) => error.fmt(f),
            Self::Xen(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<devtree::Error> for Error {
    fn from(error: devtree::Error) -> Self {
        Self::Plan(error)
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<xenstore::AddError> for Error {
    fn from(error: xenstore::AddError) -> Self {
        Self::Store(error)
    }
}

/// Whether a guest has xenstore.
fn has_store(config: &DomainConfig) -> bool {
    matches!(config.enhanced, Enhanced::Full | Enhanced::Legacy)
}

/// Its xenstore, if a guest has one.
fn store_of(config: &DomainConfig, machine: &GuestMachine) -> Option<StoreConfig> {
    has_store(config).then_some(StoreConfig {
        gfn: machine.magic.frame_number() + 1,
        late: config.enhanced == Enhanced::Legacy,
    })
}

/// Prints what is wrong with a description.
pub(crate) fn tell(problem: &Problem) {
    match problem.severity {
        Severity::Note => info!("{problem}"),
        Severity::Warning => warn!("{problem}"),
        Severity::Refused => error!("{problem}"),
    }
}

/// Builds every guest that can be built, and makes all known and ready to run.
pub(crate) fn build_all<'b>(
    virtual_gic: Virtual,
    planner: Planner<'b, '_>,
    configs: &'b [DomainConfig],
) {
    if configs.iter().any(has_store)
        && let Err(error) = store::start(configs.len() as u16)
    {
        error!("{error}");
    }
    let mut builder = Builder {
        virtual_gic,
        planner,
        configs,
    };
    let mut domains: Vec<&'static Domain> = Vec::new();
    memory_map::grow_heap_by(console::room_for(configs.len()));
    shared::start(configs);
    console::reserve(configs.len());
    for (number, config) in configs.iter().enumerate() {
        match builder.build(number, config) {
            Ok(domain) => domains.push(domain),
            Err(Error::Plan(error)) => tell(&plan::problem(config, &error)),
            Err(error) => error!("/chosen/{}: {error}; guest left out", config.name),
        }
    }
    cache::invalidate_instructions();
    let ids: Vec<DomainId> = domains.iter().map(|domain| domain.id).collect();
    let focus = plan::focus(configs, &ids).filter(|_| console::input_goes_to_guest());
    if let Some(domain) = domains.iter().find(|domain| Some(domain.id) == focus) {
        console::focus(domain.console);
    }
    machine::publish(domains);
    // The end that comes first opens the channel, and the other binds to it.
    for (number, config) in configs.iter().enumerate() {
        if let Some(domain) = machine::find(plan::id(number)) {
            channels(config).for_each(|channel| domain.xen.connect_channel(&Machine, &channel));
        }
    }
}

/// A guest's ends of the static event channels.
fn channels(config: &DomainConfig) -> impl Iterator<Item = StaticChannel> {
    plan::channels(config).map(|(port, peer, peer_port)| StaticChannel {
        port: Port(port),
        peer,
        peer_port: Port(peer_port),
    })
}

/// What all guests are built from.
struct Builder<'b, 't> {
    virtual_gic: Virtual,
    planner: Planner<'b, 't>,
    configs: &'b [DomainConfig],
}

impl Builder<'_, '_> {
    /// Builds one guest.
    fn build(&mut self, number: usize, config: &DomainConfig) -> Result<&'static Domain, Error> {
        memory_map::grow_heap().ok_or(Error::Heap)?;
        let plan = self
            .planner
            .plan(number, config, &|range| memory_map::bytes(range))?;
        let pool = memory_map::pool();
        let wanted = plan.machine.chunks;
        let chunks = match config.static_memory.is_empty() {
            true => {
                pool.allocate(wanted, plan.id.0)
                    .ok_or_else(|| devtree::Error::NotEnoughMemory {
                        wanted: wanted * CHUNK_SIZE,
                        free: pool.free() * CHUNK_SIZE,
                    })?
            }
            false if pool.take(&config.static_memory, plan.id.0) => config.static_memory.clone(),
            false => return Err(devtree::Error::StaticMemory.into()),
        };
        match self.assemble(number, config, &plan, &chunks) {
            Ok(domain) => Ok(domain),
            Err(error) => {
                store::remove(plan.id);
                pool.give_back(&chunks);
                Err(error)
            }
        }
    }

    fn assemble(
        &self,
        number: usize,
        config: &DomainConfig,
        plan: &Plan<'_>,
        chunks: &[PaRange],
    ) -> Result<&'static Domain, Error> {
        let (id, machine) = (plan.id, &plan.machine);
        let ram = load::lay_out(&machine.banks, chunks);
        for chunk in chunks {
            memory_map::scrub(*chunk);
        }
        load::copy_files(&ram, plan)?;

        let mut stage2 = Stage2::new().ok_or(Error::Heap)?;
        for (range, to) in &ram {
            let to = PaRange::new(*to, range.size()).ok_or(MapError::BadRange)?;
            stage2.map(range.start(), to, Stage2Kind::Ram)?;
        }
        if let Some(interface) = self.virtual_gic.cpu_interface
            && let GuestGic::V2 { cpu_interface, .. } = machine.gic
        {
            let size = cpu_interface.size().min(interface.size());
            let registers = PaRange::new(interface.start(), size).ok_or(MapError::BadRange)?;
            stage2.map(cpu_interface.start(), registers, Stage2Kind::Device)?;
        }

        shared::map(config, &mut stage2).ok_or(Error::SharedMemory)??;

        let shared_info = Pages::allocate(1).ok_or(Error::Heap)?;
        let grant_frame = Pages::allocate(1).ok_or(Error::Heap)?;
        let ring = Pages::allocate(1).ok_or(Error::Heap)?;
        let mut xen_config =
            Config::new(id, config.vcpus, shared_info.words(), grant_frame.words());
        xen_config.peers = plan::peers(self.configs, number).collect();
        let channels: Vec<StaticChannel> = channels(config).collect();
        xen_config.channels = &channels;
        xen_config.max_grant_frames = config.grants.frames;
        xen_config.max_maptrack_frames = config.grants.maptrack_frames;
        xen_config.handle[15] = id.0 as u8;
        xen_config.handle[14] = (id.0 >> 8) as u8;
        if machine.enhanced {
            let page = PaRange::new(ring.address(), PAGE_SIZE).ok_or(MapError::BadRange)?;
            stage2.map(machine.magic, page, Stage2Kind::Shared)?;
            xen_config.console = Some(ConsoleConfig {
                page: ring.words(),
                gfn: machine.magic.frame_number(),
            });
        }
        for page in [&shared_info, &grant_frame, &ring] {
            cache::clean_invalidate(page.address(), PAGE_SIZE);
        }
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(MAX_SHARED_PAGES)
            .map_err(|_| Error::Heap)?;
        pages.extend([shared_info, grant_frame, ring]);
        xen_config.direct_mapped = config.direct_map;
        xen_config.store = store_of(config, machine);
        let xen = XenState::new(&xen_config).map_err(Error::Xen)?;
        if let Some(config_of_store) = xen_config.store {
            let page = Pages::allocate(1).ok_or(Error::Heap)?;
            let range = PaRange::new(page.address(), PAGE_SIZE).ok_or(MapError::BadRange)?;
            let at = Ipa::from_frame_number(config_of_store.gfn).ok_or(MapError::BadRange)?;
            stage2.map(at, range, Stage2Kind::Shared)?;
            store::add(id, config, machine.magic.frame_number(), page.words(), &xen)?;
            cache::clean_invalidate(page.address(), PAGE_SIZE);
            pages.push(page);
        }

        let mapped: u64 = machine.banks.iter().map(|bank| bank.size()).sum();
        let tables = mapped.div_ceil(CHUNK_SIZE) as usize + MAX_GROWN_TABLES;
        stage2.limit_tables(tables);
        let mut kept = Vec::new();
        // vcpu_info and FIFO control block of each vCPU, and event words.
        kept.try_reserve_exact(2 * config.vcpus as usize + xen::FIFO_PAGES)
            .map_err(|_| Error::Heap)?;
        let highest = machine.banks.iter().map(|bank| bank.end().get()).max();
        let vttbr = u64::from(id.0) << 48 | stage2.root().get();
        tlb::Stage2::new(vttbr).invalidate_all();
        let frames = Frames::new(chunks, mapped / PAGE_SIZE).ok_or(Error::Heap)?;
        let domain: &'static Domain = Box::leak(Box::new(Domain::new(Parts {
            id,
            name: config.name.clone(),
            vttbr,
            vgic: Vgic::new(self.virtual_gic.version, config.vcpus, machine.spis)
                .map_err(Error::Vgic)?,
            xen,
            uart: machine.uart.map(|(_, intid)| devices::Uart::new(intid)),
            console: console::add(&config.name).ok_or(Error::Heap)?,
            trap_unmapped: config.trap_unmapped,
            direct_map: config.direct_map,
            registers: registers::for_guests(self.virtual_gic.version),
            bus: devices::bus(machine),
            holdings: Holdings {
                stage2,
                highest_gfn: highest.unwrap_or(0) / PAGE_SIZE - 1,
                kept,
                pages,
            },
            frames: match config.static_memory.is_empty() {
                true => frames,
                false => frames.fixed(),
            },
            policy: Policy::default(),
        })));
        let vcpus = Self::vcpus(domain, config)?;
        domain.set_vcpus(vcpus);
        for vcpu in domain.vcpus() {
            let places = migration::add(vcpu).map_err(|_| Error::Heap)?;
            vcpu.places.call_once(|| places);
        }
        let homes = domain.vcpus().iter().map(|vcpu| vcpu.home().index);
        info!("{}", plan.line(config, homes));
        if let Some(first) = domain.vcpus().first() {
            *first.start.lock() = Some(Start {
                entry: plan.place.entry.get(),
                argument: plan.place.tree.start().get(),
            });
            lifecycle::begin(domain);
            if first.run.claim().is_ok() && first.run.complete() {
                schedule::enqueue(first);
            }
        }
        Ok(domain)
    }

    /// Gives each vCPU a first CPU: of its affinity the one that has the fewest.
    fn vcpus(domain: &'static Domain, config: &DomainConfig) -> Result<Box<[Vcpu]>, Error> {
        let mut vcpus = Vec::new();
        vcpus
            .try_reserve_exact(config.vcpus as usize)
            .map_err(|_| Error::Heap)?;
        for number in 0..config.vcpus {
            let allowed = config.affinity.get(number as usize).copied();
            let natives = |cpu: &Cpu| cpu.natives.load(Ordering::Relaxed);
            let cpus = cpus::all()
                .iter()
                .map(|cpu| (*cpu, cpu.index, natives(cpu)));
            let home: &'static Cpu = plan::home(allowed, cpus)?;
            home.natives.fetch_add(1, Ordering::Relaxed);
            let id = VcpuId::new(number).ok_or(devtree::Error::NoCpu)?;
            // The null scheduler's CPUs do not share, and its vCPUs do not move.
            let affinity = if interrupts::no_slices() {
                bit(home.index)
            } else {
                allowed.map_or(u64::MAX, |set| set.bits())
            };
            vcpus.push(Vcpu::new(domain, id, home, affinity));
        }
        Ok(vcpus.into_boxed_slice())
    }
}
