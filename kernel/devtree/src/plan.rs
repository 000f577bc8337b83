//! Guests on paper: all that is decided about them and needs no hardware. The image carries a [`Plan`] out,
//! the checker on a workstation prints it; since both come here, what the one says is what the other does.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use abi::DomainId;
use memory::{CHUNK_SIZE, PaRange};

use crate::assign::{self, Assigned, Reader};
use crate::board::Gic;
use crate::fit::Fit;
use crate::free::Free;
use crate::guest::{self, Container, DomainConfig, Limits, ModuleSource, SharedMemory};
use crate::gzip;
use crate::hardware::{self, Hardware, Survey};
use crate::host::Host;
use crate::kernel::{self, Kernel};
use crate::placement::{self, Placement, TREE_SIZE};
use crate::tree::Node;
use crate::{Assignment, Board, Error, Problem, Severity, Tree};

pub use crate::guest_machine::GuestMachine;

/// The version of Xen whose ABI guests are told of.
pub const XEN_VERSION: (u16, u16) = (4, 20);

/// Reads the descriptions of all guests, and plans each.
pub struct Planner<'b, 't> {
    board: &'b Board,
    bundle: Option<Fit<'t>>,
    /// Images of the bundle whose hashes were found right.
    checked: Vec<String>,
    /// The host's tree, once it has been read.
    tree: Option<Tree<'t>>,
    /// `/chosen` of that tree, if somebody has met it.
    chosen: Option<Node<'t>>,
    /// That tree, to look devices up in, once a guest wants some.
    host: Option<Host<'t>>,
    /// What of the board guests have been given.
    assigned: Assigned,
    /// What was found wrong, or is to be known, about devices.
    problems: Vec<Problem>,
}

/// A guest, ready to be made.
#[derive(Clone, Debug)]
pub struct Plan<'t> {
    /// Its id, which is its VMID too.
    pub id: DomainId,
    /// Its machine.
    pub machine: GuestMachine,
    /// The kernel, and the file that it was read from.
    pub kernel: Kernel<'t>,
    /// See `kernel`.
    pub kernel_file: &'t [u8],
    /// The initial RAM disk; empty for none.
    pub ramdisk: &'t [u8],
    /// Where they go.
    pub place: Placement,
    /// The tree that it gets.
    pub tree: Vec<u8>,
    /// What of the board it has for itself.
    pub assignment: Assignment,
}

impl<'b, 't> Planner<'b, 't> {
    /// For a board, and the bundle if there is one.
    pub fn new(board: &'b Board, bundle: Option<Fit<'t>>) -> Self {
        Self {
            board,
            bundle,
            checked: Vec::new(),
            tree: None,
            chosen: None,
            host: None,
            assigned: Assigned::default(),
            problems: Vec::new(),
        }
    }

    /// For whoever has met `/chosen` of the host's tree: it need not be looked for.
    #[must_use]
    pub fn with_chosen(mut self, chosen: Option<Node<'t>>) -> Self {
        self.chosen = chosen;
        self
    }

    /// Reads all descriptions, those of the host's tree first. `taken` is what no module may touch. What is
    /// wrong goes to `report`.
    pub fn describe(
        &mut self,
        tree: Tree<'t>,
        taken: &[PaRange],
        report: &mut dyn FnMut(Problem),
    ) -> Vec<DomainConfig> {
        self.tree = Some(tree);
        let is_v3 = matches!(self.board.gic, Gic::V3 { .. });
        let (vcpus, vcpus_because) = Limits::vcpu_bound(is_v3, guest::MAX_VCPUS_GIC_V3);
        let limits = Limits {
            vcpus,
            vcpus_because,
            cpus: self.board.cpus.len() as u32,
            memory: &self.board.memory,
            taken,
        };
        let mut configs = Vec::new();
        let chosen = self.chosen.or_else(|| tree.find("/chosen"));
        let host = Container::Host(tree);
        guest::read_below(chosen, &host, &limits, &mut configs, report);
        if let Some(bundle) = self.bundle {
            guest::read(&Container::Bundle(bundle), &limits, &mut configs, report);
        }
        guest::check_names(&configs, report);
        guest::check_order(&mut configs, report);
        self.place_hardware(&mut configs, taken);
        configs
    }

    /// Finds the memory of the guest that has the board's devices, if its node does not say where it lies: the lowest
    /// that is free in one piece, as old DMA masters reach no further than 1 GiB. This comes before anything else is
    /// placed.
    fn place_hardware(&self, configs: &mut [DomainConfig], taken: &[PaRange]) {
        let claims = configs.iter().flat_map(DomainConfig::claims);
        let claims: Vec<PaRange> = claims.map(|(range, _)| range).collect();
        let mut configs = configs.iter_mut();
        if let Some(config) = configs.find(|config| config.hardware)
            && config.static_memory.is_empty()
        {
            let free = Free::new(&self.board.memory, &[taken, &claims].concat(), CHUNK_SIZE);
            let mut pieces = free.ranges.iter();
            let piece = pieces.find(|piece| piece.size() >= config.memory);
            let place = piece.and_then(|piece| PaRange::new(piece.start(), config.memory));
            config.static_memory.extend(place);
        }
    }

    /// Plans the guest that was described as number `number`, from 0. `memory` gives the bytes of a module
    /// that lies in memory; those of the bundle are checked against their hashes, once each.
    pub fn plan(
        &mut self,
        number: usize,
        config: &DomainConfig,
        memory: &dyn Fn(PaRange) -> &'t [u8],
    ) -> Result<Plan<'t>, Error> {
        let kernel_file = self.file(&config.kernel, memory)?;
        let kernel = match config.load_offset {
            Some(offset) => kernel::raw(kernel_file, offset),
            None => kernel::probe(kernel_file)?,
        };
        let ramdisk = match &config.ramdisk {
            Some(source) => self.file(source, memory).map_err(|error| match error {
                Error::HashMismatch(algorithm) => Error::RamdiskHashMismatch(algorithm),
                other => other,
            })?,
            None => &[],
        };
        if config.hardware && config.static_memory.is_empty() {
            return Err(Error::NoPlace("its RAM in one piece"));
        }
        let mut machine = GuestMachine::new(self.board, config)?;
        let (partial, mut assignment) = self.devices(config, &machine, memory)?;
        let mut hardware = None;
        if config.hardware {
            let (tree, all) = self.all_devices(config, &machine)?;
            hardware = Some(tree);
            assignment = all;
        }
        machine.assign(&assignment);
        let room = hardware.as_ref().map_or(TREE_SIZE, Hardware::tree_room);
        let place = placement::place(
            &kernel,
            &machine.banks,
            ramdisk.len() as u64,
            room,
            config.tree_offset,
        );
        let place = match (place, &kernel) {
            // A file that was cut off has some number in place of its length.
            (Err(error), Kernel::Packed(_)) => {
                return Err(gzip::damage(kernel_file, config.memory).unwrap_or(error));
            }
            (place, _) => place?,
        };
        let mut tree = machine.tree(self.board, config, &place);
        if let Some(partial) = partial {
            tree.gic_phandle = assign::gic_phandle(&partial).unwrap_or(tree.gic_phandle);
            tree.partial = Some(partial);
        }
        if let Some(hardware) = &hardware {
            tree.gic_phandle = hardware.gic_phandle();
            tree.hardware = Some(hardware);
        }
        let tree = tree.write()?;
        Ok(Plan {
            id: id(number),
            machine,
            kernel,
            kernel_file,
            ramdisk,
            place,
            tree,
            assignment,
        })
    }

    /// What is to be told of the devices of the guest that was planned last.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        core::mem::take(&mut self.problems)
    }

    /// The board's devices, for the guest that has them, and what of the board it is given by that.
    fn all_devices(
        &mut self,
        config: &DomainConfig,
        machine: &GuestMachine,
    ) -> Result<(Hardware<'t>, Assignment), Error> {
        let mut survey = Survey {
            board: self.board,
            tree: self.tree.ok_or(Error::Devices)?,
            assigned: &self.assigned,
            machine,
            guest: &format!("/chosen/{}", config.name),
            problems: &mut self.problems,
        };
        let (hardware, assignment) = survey.run()?;
        self.assigned.add(&config.name, &assignment);
        Ok((hardware, assignment))
    }

    /// The partial tree of a guest, if it has one, and what of the board it is given by it.
    fn devices(
        &mut self,
        config: &DomainConfig,
        machine: &GuestMachine,
        memory: &dyn Fn(PaRange) -> &'t [u8],
    ) -> Result<(Option<Tree<'t>>, Assignment), Error> {
        let Some(source) = &config.device_tree else {
            return Ok((None, Assignment::default()));
        };
        let partial = Tree::new(self.file(source, memory)?)?;
        if self.host.is_none() {
            self.host = self.tree.and_then(Host::new);
        }
        let mut occupied = machine.occupied();
        occupied.extend(config.shared.iter().map(|shared| shared.guest));
        let module = format!("/chosen/{}/{}", config.name, config.nodes.device_tree);
        let mut reader = Reader {
            board: self.board,
            host: self.host.as_ref().ok_or(Error::Devices)?,
            assigned: &self.assigned,
            occupied: &occupied,
            module: &module,
            problems: &mut self.problems,
            sound: true,
        };
        let assignment = reader.read(&partial);
        if !reader.sound {
            return Err(Error::Devices);
        }
        reader.name_neighbours(&assignment);
        self.assigned.add(&config.name, &assignment);
        Ok((Some(partial), assignment))
    }

    fn file(
        &mut self,
        source: &ModuleSource,
        memory: &dyn Fn(PaRange) -> &'t [u8],
    ) -> Result<&'t [u8], Error> {
        match source {
            ModuleSource::Memory(range) => Ok(memory(*range)),
            ModuleSource::Image(name) => {
                let image = self.bundle.ok_or(Error::NoSuchImage)?.image(name)?;
                if !self.checked.contains(name) {
                    image.verify()?;
                    self.checked.push(name.clone());
                }
                Ok(image.data)
            }
        }
    }
}

impl Plan<'_> {
    /// The line that says that the guest is there, its vCPUs on these CPUs.
    pub fn line(&self, config: &DomainConfig, homes: impl Iterator<Item = usize>) -> String {
        let homes: String = homes.map(|home| format!(" {home}")).collect();
        format!(
            "{}: domain {}, {} MiB, {} vCPU{} on CPU{homes}, entry {}",
            config.name,
            self.id.0,
            config.memory >> 20,
            config.vcpus,
            if config.vcpus == 1 { "" } else { "s" },
            self.place.entry,
        )
    }
}

/// The numbers of all guests in the order in which they are to be planned: who has what others leave of the board comes
/// last.
pub fn order(configs: &[DomainConfig]) -> impl Iterator<Item = usize> {
    let some = |hardware: bool| {
        let numbers = configs.iter().enumerate();
        numbers.filter_map(move |(number, config)| (config.hardware == hardware).then_some(number))
    };
    some(false).chain(some(true))
}

/// Bytes of heap that it takes to plan the guest that has the board's devices: its tree, twice while it grows, and
/// what is known of each node. None if there is no such guest.
pub fn heap_for_hardware(tree: &Tree<'_>, configs: &[DomainConfig]) -> u64 {
    let any = configs.iter().any(|config| config.hardware);
    if any {
        hardware::tree_room(tree).saturating_mul(6)
    } else {
        0
    }
}

/// The id of the guest that was described as number `number`, from 0. Ids begin at 1, and have gaps where a guest
/// could not be built.
pub fn id(number: usize) -> DomainId {
    DomainId(u16::try_from(number).map_or(u16::MAX, |number| number.saturating_add(1)))
}

/// Who the guest that was described as number `number` may deal with, built or not.
pub fn peers(configs: &[DomainConfig], number: usize) -> impl Iterator<Item = DomainId> {
    (0..configs.len())
        .filter(move |other| guest::are_peers(configs, number, *other))
        .map(id)
}

/// The ends of static event channels of a guest: its port, and domain and port at the other end.
pub fn channels(config: &DomainConfig) -> impl Iterator<Item = (u32, DomainId, u32)> {
    let ends = config.channels.iter();
    ends.filter_map(|end| end.other.map(|(other, port)| (end.port, id(other), port)))
}

/// What is told of a guest that was described well, and could not be built.
pub fn problem(config: &DomainConfig, error: &Error) -> Problem {
    let guest = format!("/chosen/{}", config.name);
    let property = |source: &ModuleSource| match source {
        ModuleSource::Memory(_) => "reg",
        ModuleSource::Image(_) => "image",
    };
    let kernel = |expected: &str| {
        let node = format!("{guest}/{}", config.nodes.kernel);
        let property = property(&config.kernel);
        (node, property, error.to_string(), expected.to_string())
    };
    let (node, property, found, expected) = match *error {
        Error::UnknownKernel | Error::KernelKind(_) => {
            kernel("an Image, plain or packed by gzip, or an ELF file, for arm64")
        }
        Error::Kernel(_) | Error::HashMismatch(_) => kernel("a sound file"),
        Error::RamdiskHashMismatch(_) => (
            format!("{guest}/{}", config.nodes.ramdisk),
            config.ramdisk.as_ref().map_or("image", property),
            error.to_string(),
            "a sound file".to_string(),
        ),
        Error::NotEnoughMemory { wanted, free } => {
            let found = format!("{} KiB free", free >> 10);
            (guest, "memory", found, format!("{} KiB", wanted >> 10))
        }
        Error::NoPlace(what) => {
            let expected = format!("room for {what}");
            (
                guest,
                "direct-map",
                "the board's own addresses".to_string(),
                expected,
            )
        }
        Error::Devices => {
            let node = format!("{guest}/{}", config.nodes.device_tree);
            let found = "devices that it cannot have".to_string();
            (node, "", found, "such as nobody else has".to_string())
        }
        Error::SharedPlace(number) => {
            let shared = config.shared.get(number);
            let node = shared.map_or("", |shared| &shared.node);
            let found = shared.map_or(String::new(), |shared| shared.guest.to_string());
            let expected = "addresses clear of its interrupt controller, UART and windows";
            let node = format!("{guest}/{node}");
            (node, "xen,shared-mem", found, expected.to_string())
        }
        Error::StaticMemory => {
            let found = "memory that is in use".to_string();
            (
                guest,
                "xen,static-mem",
                found,
                "memory that is free".to_string(),
            )
        }
        Error::DoesNotFit(what) => {
            let found = format!("{} KiB", config.memory >> 10);
            (guest, "memory", found, format!("room for {what}"))
        }
        Error::NoFreeCpu { .. } => {
            let expected = "no more vCPUs than CPUs, with sched=null".to_string();
            (guest, "cpus", error.to_string(), expected)
        }
        Error::NoTime {
            reservation, free, ..
        } => {
            let most = u64::from(free) * u64::from(reservation.period) / 1_000_000;
            let expected = format!("at most {most} us, as no CPU that it may run on has more left");
            (guest, "viaduct,budget-us", error.to_string(), expected)
        }
        _ => {
            let expected = "a guest that can be built".to_string();
            (guest, "", error.to_string(), expected)
        }
    };
    Problem::new(Severity::Refused, &node, property, found, expected)
}

/// Where the guests' files lie in the host's memory: not to be given away before all guests are built.
pub fn modules(configs: &[DomainConfig]) -> Vec<PaRange> {
    let of = |source: &ModuleSource| match source {
        ModuleSource::Memory(range) => Some(*range),
        ModuleSource::Image(_) => None,
    };
    configs
        .iter()
        .flat_map(DomainConfig::modules)
        .filter_map(of)
        .collect()
}

/// Memory that guests share: each once.
pub fn shared_memory(configs: &[DomainConfig]) -> Vec<&SharedMemory> {
    let mut all: Vec<&SharedMemory> = Vec::new();
    for shared in configs.iter().flat_map(|config| &config.shared) {
        if all.iter().all(|known| known.id != shared.id) {
            all.push(shared);
        }
    }
    all
}

/// What of the board's memory is not to be dealt out while guests are built: their files, and what they share.
pub fn kept(configs: &[DomainConfig]) -> Vec<PaRange> {
    let shared = shared_memory(configs).into_iter();
    let mut kept = modules(configs);
    kept.extend(shared.filter_map(|shared| shared.host));
    kept
}

/// What else of the board's memory is not to be dealt out: that which guests have by its place.
pub fn static_memory(configs: &[DomainConfig]) -> Vec<PaRange> {
    let ranges = configs.iter().flat_map(|config| &config.static_memory);
    ranges.copied().collect()
}

/// Bits of address that the guests' second stages need: more than one root takes only where a guest may have something
/// beyond, which with devices is the board's to say.
pub fn ipa_bits(configs: &[DomainConfig]) -> u32 {
    const END: u64 = 1 << memory::IPA_BITS_OF_A_ROOT;
    const MOST: u64 = placement::BANK_0_SIZE + (END - placement::BANK_1.get());
    let reaches_beyond = |config: &DomainConfig| {
        let mut shared = config.shared.iter();
        config.direct_map
            || config.device_tree.is_some()
            || config.memory > MOST
            || shared.any(|shared| shared.guest.end().get() > END)
    };
    match configs.iter().any(reaches_beyond) {
        true => memory::IPA_BITS,
        false => memory::IPA_BITS_OF_A_ROOT,
    }
}

/// The guest that has the console's input at first: the first that asks for it if it was built, else the first
/// that was.
pub fn focus(configs: &[DomainConfig], built: &[DomainId]) -> Option<DomainId> {
    let asks = configs.iter().position(|config| config.console_focus);
    asks.map(id)
        .filter(|id| built.contains(id))
        .or(built.first().copied())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
