//! Building guests: from a description and its files to a domain whose first vCPU is ready to run.

mod roll;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::say::{debug, error, info, warn};
use ::memory::{CHUNK_SIZE, Frames, MapError, PAGE_SIZE, PaRange, Page, SharedMemory, Stage2};
use abi::{DomainId, Port};
use arch::{cache, tlb};
use devtree::guest::{self, DomainConfig, Enhanced};
use devtree::guest_tree::GuestGic;
use devtree::plan::{self, GuestMachine, Plan, Planner};
use devtree::seats::Seats;
use devtree::{Problem, Severity};
use domain::life::{Policy, Restart};
use domain::sysreg::SystemRegisters;
use vgic::{VcpuId, Vgic};
use xen::{Config, ConsoleConfig, StaticChannel, StoreConfig, XenState};

use self::roll::{Outcome, Roll};
use crate::assigned::Lines;
use crate::building::Build;
use crate::console;
use crate::cpus;
use crate::hypercalls::Machine;
use crate::interrupts::{self, Virtual};
use crate::machine::{self, Domain, Holdings, MAX_SHARED_PAGES, Parts, Recipe, Vcpu};
use crate::tuning::Settings;
use crate::{
    building, crew, devices, memory_map, migration, registers, shared, store, trace, tuning,
};

/// Why a guest could not be built.
#[derive(Debug)]
enum Error {
    /// It cannot be planned, or what the plan needs is not there.
    Plan(devtree::Error),
    /// The hypervisor's own heap is exhausted.
    Heap,
    /// Its stage 2 could not be made.
    Map(MapError),
    /// Its interrupt controller could not be made.
    Vgic(vgic::Error),
    /// Its Xen side could not be made.
    Xen(xen::NewError),
    /// Its memory could not be filled.
    Build(building::Error),
    /// An interrupt of its devices is not there, or not ours.
    Interrupt(platform::gic::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::Heap => f.write_str("the hypervisor has no memory for its description"),
            Self::Map(error) => write!(f, "stage 2: {error}"),
            Self::Vgic(error) => error.fmt(f),
            Self::Xen(error) => error.fmt(f),
            Self::Build(error) => error.fmt(f),
            Self::Interrupt(error) => write!(f, "devices: {error}"),
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

impl From<building::Error> for Error {
    fn from(error: building::Error) -> Self {
        match error {
            building::Error::File(error) => Self::Plan(error),
            building::Error::Map(error) => Self::Map(error),
            other => Self::Build(other),
        }
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

/// Pages of the hypervisor that a guest can have: shared information, console ring, xenstore's page, the one in place of
/// what others had granted, and its grant table.
fn shared_pages(config: &DomainConfig) -> usize {
    let frames = config.grants.frames.max(1) as usize;
    MAX_SHARED_PAGES.min(frames.saturating_add(4))
}

/// What is done after a guest's end.
fn policy_of(config: &DomainConfig) -> Policy {
    Policy {
        restart: match config.life.restart {
            guest::Restart::Never => Restart::Never,
            guest::Restart::OnCrash => Restart::OnCrash,
            guest::Restart::Always => Restart::Always,
        },
        limit: config.life.limit,
        back_off: config.life.backoff,
    }
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
pub(crate) fn build_all(
    virtual_gic: Virtual,
    planner: Planner<'_, 'static>,
    configs: &'static [DomainConfig],
) {
    if configs.iter().any(has_store)
        && let Err(error) = store::start(configs.len() as u16)
    {
        error!("{error}");
    }
    cpus::set_ipa_bits(plan::ipa_bits(configs));
    let mut builder = Builder {
        registers: registers::for_guests(virtual_gic.version),
        virtual_gic,
        planner,
        configs,
        seats: Seats::new(
            cpus::all().iter().map(|cpu| cpu.index),
            interrupts::no_slices(),
        ),
        roll: Roll::new(configs.len()),
    };
    let logs = configs.iter().filter_map(|config| config.scroll_back);
    let logs: u64 = logs.map(|kibibytes| u64::from(kibibytes) << 10).sum();
    memory_map::grow_heap_by(console::room_for(configs.len()).saturating_add(logs));
    shared::start(configs);
    console::reserve(configs.len());
    for number in plan::order(configs) {
        let Some(config) = configs.get(number) else {
            continue;
        };
        let outcome = builder.build(number, config);
        let problems = builder.planner.take_problems();
        builder.roll.add(config, problems, outcome);
    }
    builder.roll.settle();
    if cpus::all().len() > 1 {
        debug!("guests built by CPUs {}", crew::builders());
    }
    let mut domains = builder.roll.domains;
    ::memory::sort_by_key(&mut domains, |domain| domain.id);
    let ids: Vec<DomainId> = domains.iter().map(|domain| domain.id).collect();
    let focus = plan::focus(configs, &ids).filter(|_| console::input_goes_to_guest());
    if let Some(domain) = domains.iter().find(|domain| Some(domain.id) == focus) {
        console::focus(domain.console);
    }
    machine::publish(domains);
    // The end that comes first opens the channel, and the other binds to it.
    for domain in machine::domains() {
        for channel in &domain.recipe.channels {
            domain.xen.connect_channel(&Machine, channel);
        }
    }
}

/// The memory that a guest begins with.
fn chunks(config: &DomainConfig, plan: &Plan<'_>) -> Result<Vec<PaRange>, devtree::Error> {
    let pool = memory_map::pool();
    let wanted = plan.machine.chunks;
    match config.static_memory.is_empty() {
        // It takes what it needs when it is started.
        true if config.life.manual_start => Ok(Vec::new()),
        true => pool
            .allocate(wanted, plan.id.0)
            .ok_or_else(|| devtree::Error::NotEnoughMemory {
                wanted: wanted * CHUNK_SIZE,
                free: pool.free() * CHUNK_SIZE,
            }),
        false if pool.take(&config.static_memory, plan.id.0) => Ok(config.static_memory.clone()),
        false => Err(devtree::Error::StaticMemory),
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
struct Builder<'b> {
    virtual_gic: Virtual,
    /// What the trapped registers of each hold.
    registers: SystemRegisters,
    planner: Planner<'b, 'static>,
    configs: &'static [DomainConfig],
    /// Where vCPUs begin.
    seats: Seats,
    /// What has come of those so far.
    roll: Roll,
}

impl Builder<'_> {
    /// Begins to build one guest.
    fn build(&mut self, number: usize, config: &'static DomainConfig) -> Result<Outcome, Error> {
        memory_map::grow_heap().ok_or(Error::Heap)?;
        let plan = Box::new(
            self.planner
                .plan(number, config, &|range| memory_map::bytes(range))?,
        );
        let id = plan.id;
        let chunks = match chunks(config, &plan) {
            Err(_) if self.roll.is_waiting() => {
                // One that cannot be built after all gives back what it has.
                self.roll.settle();
                chunks(config, &plan)
            }
            chunks => chunks,
        }?;
        match self.assemble(number, config, plan, &chunks) {
            Ok((domain, None)) => Ok(Outcome::Waits(domain)),
            Ok((domain, Some(build))) => {
                crew::offer(domain, build);
                Ok(Outcome::UnderWay(domain, chunks))
            }
            Err(error) => {
                roll::leave_out(id, &chunks);
                Err(error)
            }
        }
    }

    /// Makes the guest's objects, with its memory; how far it has come, if it is to be built now.
    fn assemble(
        &mut self,
        number: usize,
        config: &'static DomainConfig,
        plan: Box<Plan<'static>>,
        chunks: &[PaRange],
    ) -> Result<(&'static Domain, Option<Build>), Error> {
        let domain = self.make(number, config, plan)?;
        {
            // Slots are numbered in the order of the pieces.
            let mut frames = domain.frames.lock();
            let starts = chunks.iter().flat_map(|piece| {
                let count = piece.size() / CHUNK_SIZE;
                (0..count).filter_map(|number| piece.start().checked_add(number * CHUNK_SIZE))
            });
            for (slot, start) in (0..).zip(starts) {
                if !frames.place(slot, start) {
                    return Err(Error::Heap);
                }
            }
        }
        if config.life.manual_start || !config.after.is_empty() {
            return Ok((domain, None));
        }
        domain.life.lock().start().map_err(|_| Error::Heap)?;
        let build = building::furnish(domain)?;
        Ok((domain, Some(build)))
    }

    /// A guest without memory of its own, with vCPUs that are off.
    fn make(
        &mut self,
        number: usize,
        config: &'static DomainConfig,
        plan: Box<Plan<'static>>,
    ) -> Result<&'static Domain, Error> {
        let domain = self.describe(number, config, plan)?;
        let vcpus = self.vcpus(domain, config)?;
        domain.set_vcpus(vcpus);
        for vcpu in domain.vcpus() {
            let parameters = vcpu.settings.lock().parameters(vcpu.home().index);
            let places = migration::add(vcpu, parameters).map_err(|_| Error::Heap)?;
            vcpu.places.call_once(|| places);
        }
        Ok(domain)
    }

    /// The objects of a guest, with all that it will ever take from the heap but what its bounds let it.
    fn describe(
        &self,
        number: usize,
        config: &'static DomainConfig,
        plan: Box<Plan<'static>>,
    ) -> Result<&'static Domain, Error> {
        let (id, machine) = (plan.id, &plan.machine);
        let stage2 = Stage2::new(cpus::ipa_bits()).ok_or(Error::Heap)?;
        let cpu_interface = match (self.virtual_gic.cpu_interface, machine.gic) {
            (Some(interface), GuestGic::V2 { cpu_interface, .. }) => {
                let size = cpu_interface.size().min(interface.size());
                let registers = PaRange::new(interface.start(), size);
                registers.map(|registers| (cpu_interface.start(), registers))
            }
            _ => None,
        };
        let page = || Page::allocate().ok_or(Error::Heap);
        let (shared_info, grant_frame) = (page()?, page()?);
        let mut xen_config =
            Config::new(id, config.vcpus, shared_info.words(), grant_frame.words());
        xen_config.peers = plan::peers(self.configs, number).collect();
        let channels: Vec<StaticChannel> = channels(config).collect();
        xen_config.channels = &channels;
        xen_config.max_grant_frames = config.grants.frames;
        xen_config.max_maptrack_frames = config.grants.maptrack_frames;
        xen_config.handle[15] = id.0 as u8;
        xen_config.handle[14] = (id.0 >> 8) as u8;
        xen_config.direct_mapped = config.direct_map;
        xen_config.store = store_of(config, machine);
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(shared_pages(config))
            .map_err(|_| Error::Heap)?;
        pages.extend([shared_info, grant_frame]);
        let mut take = || {
            let page = page()?;
            let words = page.words();
            pages.push(page);
            Ok::<_, Error>(words)
        };
        let console_page = machine.enhanced.then(&mut take).transpose()?;
        let store_page = xen_config.store.map(|_| take()).transpose()?;
        // Who has no peers maps nothing of others.
        let has_peers = plan::peers(self.configs, number).next().is_some();
        let empty_page = has_peers.then(&mut take).transpose()?;
        xen_config.console = console_page.map(|page| ConsoleConfig {
            page,
            gfn: machine.magic.frame_number(),
        });
        for page in &pages {
            cache::clean_invalidate(page.address(), PAGE_SIZE);
        }
        let xen = XenState::new(&xen_config).map_err(Error::Xen)?;
        let mapped: u64 = machine.banks.iter().map(|bank| bank.size()).sum();
        let mut kept = Vec::new();
        // vcpu_info and FIFO control block of each vCPU, and event words.
        kept.try_reserve_exact(2 * config.vcpus as usize + xen::FIFO_PAGES)
            .map_err(|_| Error::Heap)?;
        let vttbr = u64::from(id.0) << 48 | stage2.root().get();
        tlb::Stage2::new(vttbr).invalidate_all();
        trace::give_up(&plan.assignment);
        let address = |page: Option<SharedMemory>| page.map(|page| page.address());
        let frames = Frames::vacant(mapped / PAGE_SIZE).ok_or(Error::Heap)?;
        Ok(Box::leak(Box::new(Domain::new(Parts {
            id,
            name: config.name.clone(),
            vttbr,
            vgic: Vgic::new(self.virtual_gic.version, config.vcpus, machine.spis)
                .map_err(Error::Vgic)?,
            xen,
            uart: machine.uart.map(|(_, intid)| devices::Uart::new(intid)),
            console: console::add(&config.name, config.scroll_back).ok_or(Error::Heap)?,
            trap_unmapped: config.trap_unmapped,
            direct_map: config.direct_map,
            registers: self.registers.clone(),
            bus: devices::bus(machine, !plan.assignment.interrupts.is_empty()),
            holdings: Holdings {
                stage2,
                highest_gfn: 0,
                kept,
                first_pages: pages.len(),
                used_pages: pages.len(),
                pages,
                console_page: address(console_page),
                store_page: address(store_page),
                empty_page: address(empty_page),
            },
            frames: match config.static_memory.is_empty() {
                true => frames,
                false => frames.fixed(),
            },
            policy: policy_of(config),
            lines: Lines::new(&plan.assignment.interrupts, !config.hardware)
                .ok_or(Error::Heap)?
                .map_err(Error::Interrupt)?,
            recipe: Recipe {
                config,
                channels,
                cpu_interface,
                plan,
            },
        }))))
    }

    /// Gives each vCPU a first CPU.
    fn vcpus(
        &mut self,
        domain: &'static Domain,
        config: &DomainConfig,
    ) -> Result<Box<[Vcpu]>, Error> {
        let homes = self.seats.take(config)?;
        let mut vcpus = Vec::new();
        vcpus
            .try_reserve_exact(config.vcpus as usize)
            .map_err(|_| Error::Heap)?;
        for (number, home) in homes.into_iter().enumerate() {
            let id = VcpuId::new(number as u32).ok_or(devtree::Error::NoCpu)?;
            let home = cpus::with_index(home).ok_or(devtree::Error::NoCpu)?;
            let lists =
                interrupts::lists().ok_or(devtree::Error::Missing("an interrupt controller"))?;
            let settings = Settings::of(config, number);
            tuning::promise(home, settings.reservation);
            vcpus.push(Vcpu::new(
                domain,
                id,
                home,
                lists,
                settings.affinity_on(home.index),
                settings,
            ));
        }
        Ok(vcpus.into_boxed_slice())
    }
}
