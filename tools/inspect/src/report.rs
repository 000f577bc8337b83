//! From the bytes of a tree and a bundle to what would become of every guest in them: the boot's steps from
//! the board's tree to the last guest built (`kernel/src/main.rs`), as far as they are decisions.

use std::fmt::Display;
use std::path::Path;

use devtree::board::StartMethod;
use devtree::fit::Fit;
use devtree::guest::DomainConfig;
use devtree::gzip::Gunzip;
use devtree::kernel::{self, Kernel};
use devtree::own_memory::{self, FirstHeap};
use devtree::plan::{self, GuestMachine, Plan, Planner};
use devtree::seats::Seats;
use devtree::{Board, Error, Options, Problem, Severity, Tree};
use memory::{CHUNK_SIZE, ChunkPool, Pa, PaRange};
use shell::Switch;

/// What is inspected.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'t> {
    /// The board's tree.
    pub tree: &'t [u8],
    /// What lies in the initrd slot.
    pub bundle: Option<&'t [u8]>,
    /// Bytes that the hypervisor's image needs, zeroed data included.
    pub image_size: u64,
    /// Files that lie in memory, with their addresses.
    pub modules: &'t [(Pa, Vec<u8>)],
}

/// What would happen.
pub struct Report<'t> {
    /// The board.
    pub board: Board,
    /// Where the image is taken to lie.
    pub image: PaRange,
    /// Where the tree is taken to lie.
    pub tree: PaRange,
    /// The heap's first range.
    pub heap: FirstHeap,
    /// Numbers of the CPUs that come up if nothing fails.
    pub cpus: Vec<usize>,
    /// The hypervisor's own lines before the guests' are built, in order.
    pub lines: Vec<(Severity, String)>,
    /// What is wrong with descriptions.
    pub problems: Vec<Problem>,
    /// Guests whose descriptions passed.
    pub guests: Vec<Guest<'t>>,
    /// Where the console's input goes first.
    pub focus: Option<String>,
    /// Bytes for guests, before the first is built and after the last.
    pub free: [u64; 2],
    /// The tree and the bundle that descriptions were read from.
    pub containers: Vec<Tree<'t>>,
}

/// A guest whose description passed.
pub struct Guest<'t> {
    /// What it asks for.
    pub config: DomainConfig,
    /// Its machine, if there can be one.
    pub machine: Result<GuestMachine, Error>,
    /// What becomes of it.
    pub fate: Fate<'t>,
    /// The CPU of each vCPU.
    pub homes: Vec<usize>,
    /// Files whose size is not what the tree says: where they lie, and their size.
    pub sizes: Vec<(PaRange, u64)>,
}

/// What becomes of a guest.
pub enum Fate<'t> {
    /// It is built.
    Built(Box<Plan<'t>>),
    /// It is built if its files are what they should be: these were not given.
    Unchecked(Vec<PaRange>),
    /// It is left out.
    LeftOut(Error),
}

impl<'t> Report<'t> {
    /// Reads everything and plans every guest.
    ///
    /// # Errors
    /// The tree is none, or not that of a board that can be used.
    pub fn new(inputs: &Inputs<'t>) -> Result<Self, Error> {
        let mut board = Board::from_tree(inputs.tree)?;
        let tree = Tree::new(inputs.tree)?;
        let mut lines = Vec::new();
        let bootargs = board.bootargs;
        let options = Options::parse(&bootargs, |word, why| {
            lines.push((Severity::Warning, format!("boot argument {word}: {why}")));
        });

        board.keeps_second_uart = options.trace;

        let slot = board.initrd;
        let (image, own_tree) = load(&mut board, inputs)?;
        let mut taken = own_memory::taken(&board, image, own_tree)?;
        let heap = own_memory::first_heap(&board, image, &mut taken)?;
        let bundle = inputs.bundle.and_then(|bytes| match Fit::new(bytes) {
            Ok(bundle) => Some(bundle),
            Err(error) => {
                let at = board
                    .initrd
                    .map_or(String::new(), |range| format!(" at {range}"));
                lines.push((Severity::Refused, format!("bundle{at}: {error}")));
                None
            }
        });

        match (slot, inputs.bundle) {
            (Some(slot), None) => {
                let line =
                    format!("what lies in the initrd slot {slot} is not checked: give bundle=FILE");
                lines.push((Severity::Note, line));
            }
            (Some(slot), Some(bundle)) if slot.size() != bundle.len() as u64 => {
                let found = format!("found {} bytes, expected {}", slot.size(), bundle.len());
                lines.push((
                    Severity::Warning,
                    format!("initrd slot: {found}: the bundle's size"),
                ));
            }
            _ => {}
        }

        let mut planner = Planner::new(&board, bundle);
        let mut problems = Vec::new();
        let configs = planner.describe(tree, &taken, &mut |problem| problems.push(problem));
        let pool = ChunkPool::new();
        let fixed = plan::static_memory(&configs);
        let kept = [plan::kept(&configs), fixed.clone()].concat();
        pool.fill(&own_memory::left(&board, &taken, &kept).ranges, &fixed);
        let before = pool.free();
        let cpus: Vec<usize> = up(&board).collect();
        let mut seats = Seats::new(cpus.iter().copied(), options.no_slices);
        let mut guests = Vec::new();
        let files = Memory(inputs.modules);
        for number in plan::order(&configs) {
            let config = &configs[number];
            let guest = guest(
                &board,
                &mut planner,
                number,
                config,
                &files,
                &pool,
                &mut seats,
            );
            guests.push((number, guest));
            problems.extend(planner.take_problems());
        }
        guests.sort_unstable_by_key(|(number, _)| *number);
        let guests: Vec<_> = guests.into_iter().map(|(_, guest)| guest).collect();
        let built: Vec<_> = guests
            .iter()
            .enumerate()
            .filter(|(_, guest)| !matches!(guest.fate, Fate::LeftOut(_)))
            .map(|(number, _)| plan::id(number))
            .collect();
        let switch = options.console_switch.map(Switch::parse);
        let to_guest =
            switch.is_none_or(|switch| switch.is_ok_and(|switch| switch.to_guest_at_boot));
        let focus = plan::focus(&configs, &built)
            .filter(|_| to_guest)
            .and_then(|id| configs.get(usize::from(id.0).checked_sub(1)?))
            .map(|config| config.name.clone());
        let free = [before, pool.free()].map(|chunks| chunks * CHUNK_SIZE);
        let containers = [Some(tree), bundle.map(|bundle| bundle.tree())];
        Ok(Self {
            image,
            tree: own_tree,
            heap,
            cpus,
            lines,
            problems,
            guests,
            focus,
            free,
            containers: containers.into_iter().flatten().collect(),
            board,
        })
    }

    /// Whether nothing is refused and no guest is left out. Warnings do not count.
    pub fn all_well(&self) -> bool {
        let refused = |severity: Severity| severity == Severity::Refused;
        let said = self.lines.iter().any(|(severity, _)| refused(*severity));
        let described = self
            .problems
            .iter()
            .any(|problem| refused(problem.severity));
        let built = self
            .guests
            .iter()
            .all(|guest| !matches!(guest.fate, Fate::LeftOut(_)));
        !said && !described && built && !self.guests.is_empty()
    }
}

/// Bytes that the hypervisor's image needs, from its header (Linux, Documentation/arch/arm64/booting).
///
/// # Errors
/// It is not there, or no such image.
pub fn image_size(image: &Path) -> Result<u64, String> {
    let said = |what: &dyn Display| {
        format!(
            "the hypervisor's image {}: {what} (`just build` makes it)",
            image.display()
        )
    };
    let file = std::fs::read(image).map_err(|error| said(&error))?;
    match kernel::probe(&file) {
        Ok(Kernel::Image(header)) => Ok(header.size),
        Ok(_) => Err(said(&"not an arm64 Image")),
        Err(error) => Err(said(&error)),
    }
}

/// Where image and tree come to lie, and the bundle where the tree does not say it: as QEMU's loader places
/// them (hw/arm/boot.c), which is much what others do. The image goes to 2 MiB from the start of RAM; the bundle to
/// 128 MiB, or half of a smaller RAM; the tree to the next 2 MiB behind it.
fn load(board: &mut Board, inputs: &Inputs<'_>) -> Result<(PaRange, PaRange), Error> {
    const NO_ROOM: Error = Error::Missing("room for image, tree and bundle");
    let ram = *board.memory.first().ok_or(Error::Missing("memory"))?;
    let place = |offset: u64, size: u64| {
        let start = ram.start().checked_add(offset)?;
        PaRange::new(start, size)
    };
    let image = place(CHUNK_SIZE, inputs.image_size).ok_or(NO_ROOM)?;
    let middle = (ram.size() / 2).min(128 << 20);
    if let (Some(bundle), None) = (inputs.bundle, board.initrd) {
        board.initrd = place(middle, bundle.len() as u64);
    }
    let behind = match board.initrd {
        Some(bundle) if ram.contains(bundle.start()) => bundle.end(),
        _ => place(middle, 0).ok_or(NO_ROOM)?.start(),
    };
    let at = behind.align_up(CHUNK_SIZE).ok_or(NO_ROOM)?;
    let tree = PaRange::new(at, inputs.tree.len() as u64).ok_or(NO_ROOM)?;
    Ok((image, tree))
}

/// CPUs that can be started, the first of the tree being the one that boots.
fn up(board: &Board) -> impl Iterator<Item = usize> + '_ {
    let starts = |method| match method {
        StartMethod::Psci => board.psci.is_some(),
        StartMethod::SpinTable(_) => true,
        StartMethod::Unknown => false,
    };
    let cpus = board.cpus.iter().enumerate();
    cpus.filter(move |(number, cpu)| *number == 0 || starts(cpu.start))
        .map(|(number, _)| number)
}

/// Files that lie in memory.
struct Memory<'t>(&'t [(Pa, Vec<u8>)]);

impl<'t> Memory<'t> {
    fn at(&self, range: PaRange) -> Option<&'t [u8]> {
        let file = self.0.iter().find(|(at, _)| *at == range.start())?;
        Some(&file.1)
    }

    /// As much of the file as the tree says.
    fn bytes(&self, range: PaRange) -> &'t [u8] {
        let file = self.at(range).unwrap_or_default();
        let size = usize::try_from(range.size()).unwrap_or(usize::MAX);
        file.get(..size).unwrap_or(file)
    }
}

/// Unpacks a packed kernel, which the hypervisor does when it builds the guest: only then damage shows.
fn unpacked(plan: Plan<'_>) -> Result<Plan<'_>, Error> {
    if matches!(plan.kernel, Kernel::Packed(_)) {
        let mut unpacker = Gunzip::new(plan.kernel_file)?;
        while unpacker.step()?.is_some() {}
    }
    Ok(plan)
}

/// Plans one guest, and takes what it takes.
fn guest<'t>(
    board: &Board,
    planner: &mut Planner<'_, 't>,
    number: usize,
    config: &DomainConfig,
    files: &Memory<'t>,
    pool: &ChunkPool,
    seats: &mut Seats,
) -> Guest<'t> {
    let machine = GuestMachine::new(board, config);
    let ranges = plan::modules(std::slice::from_ref(config));
    let given = |range: &PaRange| files.at(*range).is_some();
    let missing: Vec<_> = ranges
        .iter()
        .copied()
        .filter(|range| !given(range))
        .collect();
    let sizes = ranges.iter().filter_map(|range| {
        let size = files.at(*range)?.len() as u64;
        (size != range.size()).then_some((*range, size))
    });
    let sizes = sizes.collect();
    let plan = match missing.is_empty() {
        true => planner
            .plan(number, config, &|range| files.bytes(range))
            .and_then(unpacked)
            .map(|plan| Fate::Built(Box::new(plan))),
        false => Ok(Fate::Unchecked(missing)),
    };
    let mut homes = Vec::new();
    let fate = plan.and_then(|fate| {
        let wanted = machine.as_ref().map_err(|error| *error)?.chunks;
        let free = pool.free();
        let id = plan::id(number).0;
        let chunks = match config.static_memory.is_empty() {
            true => pool.allocate(wanted, id).ok_or(Error::NotEnoughMemory {
                wanted: wanted * CHUNK_SIZE,
                free: free * CHUNK_SIZE,
            })?,
            false if pool.take(&config.static_memory, id) => config.static_memory.clone(),
            false => return Err(Error::StaticMemory),
        };
        homes = seats
            .take(config)
            .inspect_err(|_| pool.give_back(&chunks))?;
        Ok(fate)
    });
    Guest {
        config: config.clone(),
        machine,
        fate: fate.unwrap_or_else(Fate::LeftOut),
        homes,
        sizes,
    }
}
