//! The guest that has the board's devices, which Xen calls the one with the hardware capability: what it is given is
//! all that the board's tree describes and is switched on, but for what the hypervisor keeps and what others have.
//!
//! A device is given whole or not at all. One that stays out is there in the guest's tree and switched off, so that
//! paths, labels and phandles mean what they meant. Registers are at the board's own addresses.

mod interrupts;
mod tree;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;

use memory::{Ipa, IpaRange, PAGE_SIZE, PaRange};

use crate::assign::{Assigned, kept, own};
use crate::board::Interrupt;
use crate::device::Device;
use crate::guest_machine::GuestMachine;
use crate::host::Names;
use crate::placement::{LIMIT, TREE_SIZE};
use crate::tree::Property;
use crate::walk::{Access, Visit, Walk};
use crate::{Assignment, Board, Error, Problem, Severity, Tree};
use interrupts::Controllers;

/// Registers and windows of one node that are looked at.
const MAX_RANGES: usize = 64;
/// The largest tree that such a guest gets: Linux takes twice as much.
const MAX_TREE: u64 = 1 << 20;
/// The property that gives a guest the board's devices.
const CAPABILITIES: &str = "capabilities";

/// What becomes of a node of the board's tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// The guest has it as it is.
    Given,
    /// The guest sees it switched off.
    Off,
    /// The guest does not see it, nor what is below: it has something of its own instead, or nothing.
    Gone,
    /// The interrupt controller: the guest's own is at its place.
    Controller,
    /// Memory set aside.
    Reserved,
    /// Names of nodes, by path.
    Names,
}

/// The board's tree, and what becomes of each of its nodes.
#[derive(Clone, Debug)]
pub(crate) struct Hardware<'t> {
    tree: Tree<'t>,
    /// Of each node below the root, in the walk's order.
    fates: Vec<Fate>,
    /// Paths of nodes that are gone, with all below them.
    gone: Vec<String>,
    /// Path of the console's UART.
    console: Option<String>,
    /// Phandles of the board's CPUs.
    cpus: Vec<Option<u32>>,
    /// Phandle of the interrupt controller.
    gic_phandle: Option<u32>,
    interrupt_cells: usize,
}

/// Goes through the board's tree for a guest.
pub(crate) struct Survey<'r, 't> {
    /// The board.
    pub(crate) board: &'r Board,
    /// Its tree.
    pub(crate) tree: Tree<'t>,
    /// What others have.
    pub(crate) assigned: &'r Assigned,
    /// The guest's machine.
    pub(crate) machine: &'r GuestMachine,
    /// Path of the guest's node, for messages.
    pub(crate) guest: &'r str,
    /// Where what is to be known goes.
    pub(crate) problems: &'r mut Vec<Problem>,
}

/// What the survey knows before it decides.
struct Known {
    controllers: Controllers,
    /// What is the hypervisor's, or not for guests.
    kept: Vec<(PaRange, &'static str)>,
    occupied: Vec<IpaRange>,
    gic_seen: bool,
}

impl<'t> Survey<'_, 't> {
    /// What the guest is given, and how its tree comes about.
    ///
    /// # Errors
    /// The tree has no interrupt controller, or is too large.
    pub(crate) fn run(&mut self) -> Result<(Hardware<'t>, Assignment), Error> {
        let mut hardware = Hardware {
            tree: self.tree,
            fates: Vec::new(),
            gone: Vec::new(),
            console: None,
            cpus: Vec::new(),
            gic_phandle: None,
            interrupt_cells: 3,
        };
        let mut known = self.look(&mut hardware)?;
        let mut assignment = Assignment::default();
        let mut walk = Walk::new(&self.tree);
        let mut names = Names::default();
        // What is above the nodes that need no look, and what becomes of those.
        let mut above: Option<(usize, Fate)> = None;
        let mut reserved = false;
        while let Some(visit) = walk.next() {
            if let Some((depth, fate)) = above
                && visit.depth > depth
            {
                names.enter(&visit);
                hardware.fates.push(fate);
                continue;
            }
            let path = names.enter(&visit);
            reserved &= visit.depth > 1;
            let fate = match role(&visit) {
                _ if reserved && visit.node.property("reg").is_some() => Fate::Off,
                _ if reserved => Fate::Given,
                Some(Fate::Reserved) => {
                    reserved = true;
                    Fate::Reserved
                }
                Some(Fate::Controller) if known.gic_seen => Fate::Off,
                Some(fate) => fate,
                None if !visit.enabled => Fate::Given,
                None => self.device(&mut known, (&walk, &visit), &path, &mut assignment),
            };
            above = match fate {
                Fate::Gone => Some((visit.depth, Fate::Gone)),
                Fate::Controller => {
                    known.gic_seen = true;
                    // Its message frames and translation services, of which guests have none.
                    hardware.gone.push(format!("{path}/"));
                    Some((visit.depth, Fate::Gone))
                }
                Fate::Off => Some((visit.depth, Fate::Given)),
                Fate::Given if !visit.enabled => Some((visit.depth, Fate::Given)),
                _ => None,
            };
            if fate == Fate::Gone {
                hardware.gone.push(path);
            } else if self.is_console(&walk, &visit) {
                hardware.console = Some(path);
            }
            hardware.fates.push(fate);
        }
        assignment.registers = merge(assignment.registers);
        memory::sort_by_key(&mut assignment.interrupts, |one| one.intid);
        assignment.interrupts.dedup_by_key(|one| one.intid);
        let found = format_args!(
            "{} devices, {} range(s), {} interrupt(s)",
            assignment.devices.len(),
            assignment.registers.len(),
            assignment.interrupts.len()
        );
        let expected = "trust in the guest: by DMA devices reach all memory";
        self.note(&found, &expected);
        Ok((hardware, assignment))
    }

    fn note(&mut self, found: &dyn Display, expected: &dyn Display) {
        let problem = Problem::new(Severity::Note, self.guest, CAPABILITIES, found, expected);
        self.problems.push(problem);
    }

    /// A first walk: interrupt controllers, CPUs, and pages that are for no guest.
    fn look(&self, hardware: &mut Hardware<'t>) -> Result<Known, Error> {
        let mut known = Known {
            controllers: Controllers::default(),
            kept: kept(self.board),
            occupied: self.machine.occupied(),
            gic_seen: false,
        };
        let mut walk = Walk::new(&self.tree);
        let (mut in_cpus, mut gic) = (false, None);
        while let Some(visit) = walk.next() {
            if visit.depth == 1 {
                in_cpus = visit.node.name().base == "cpus";
            }
            if in_cpus && visit.depth == 2 && visit.device_type == Some("cpu") {
                hardware.cpus.push(visit.phandle);
            }
            known.controllers.add(&visit);
            if gic.is_none() && role(&visit) == Some(Fate::Controller) {
                gic = Some(visit.phandle);
            }
            if let Some(what) = withheld(&visit) {
                let ranges = (0..walk.registers(&visit)).take(MAX_RANGES);
                let ranges = ranges.filter_map(|index| walk.register(&visit, index));
                let pages = ranges.filter_map(|range| range.align_outward(PAGE_SIZE));
                known.kept.extend(pages.map(|pages| (pages, what)));
            }
        }
        hardware.gic_phandle = gic.ok_or(Error::Missing("interrupt controller"))?;
        known.controllers.sort(hardware.gic_phandle);
        hardware.interrupt_cells = known.controllers.gic_cells();
        Ok(known)
    }

    fn is_console(&self, walk: &Walk<'t>, visit: &Visit<'t>) -> bool {
        let console = self.board.console.map(|uart| uart.registers);
        console.is_some() && visit.enabled && walk.register(visit, 0) == console
    }

    /// A device that is switched on: given, with its registers and interrupts, or left out with a line.
    fn device(
        &mut self,
        known: &mut Known,
        (walk, visit): (&Walk<'t>, &Visit<'t>),
        path: &str,
        assignment: &mut Assignment,
    ) -> Fate {
        if let Some(what) = withheld(visit) {
            self.note(&path, &format_args!("no such device, {what}: left out"));
            return Fate::Off;
        }
        let registers = (0..walk.registers(visit)).filter_map(|index| walk.register(visit, index));
        // What the bridge to a PCI bus passes on is the devices' behind it.
        let is_bridge = visit.device_type == Some("pci");
        let windows = walk.windows(visit, Access::Cpu).flatten();
        let windows = windows.filter(|_| is_bridge);
        let ranges = registers.chain(windows).filter(|range| !range.is_empty());
        let pages: Vec<Option<PaRange>> = ranges
            .take(MAX_RANGES)
            .map(|range| range.align_outward(PAGE_SIZE))
            .collect();
        let interrupts = known.controllers.interrupts(visit);
        let problem = pages
            .iter()
            .find_map(|pages| self.page_problem(known, *pages))
            .or_else(|| interrupts.iter().find_map(|one| self.line_problem(one)))
            .or_else(|| known.controllers.message_problem(visit));
        if let Some(problem) = problem {
            self.note(&path, &format_args!("{problem}: left out"));
            return Fate::Off;
        }
        self.check_dma(walk, visit, path);
        if !pages.is_empty() || !interrupts.is_empty() {
            assignment.devices.push(path.into());
        }
        let pages = pages.into_iter().flatten();
        let registers = pages.map(|pages| (pages, Ipa::new(pages.start().get())));
        assignment.registers.extend(registers);
        let shared = interrupts.into_iter().filter(|one| one.intid >= 32);
        assignment.interrupts.extend(shared);
        Fate::Given
    }

    /// What is expected of pages that cannot be given.
    fn page_problem(&self, known: &Known, pages: Option<PaRange>) -> Option<String> {
        let Some((pages, seen)) = pages.and_then(|pages| {
            let seen = IpaRange::new(Ipa::new(pages.start().get()), pages.size())?;
            (seen.end() <= LIMIT).then_some((pages, seen))
        }) else {
            return Some(format!("registers below {LIMIT}"));
        };
        let mut kept = known.kept.iter();
        if let Some((other, what)) = kept.find(|(other, _)| other.overlaps(pages)) {
            return Some(format!("pages clear of {other}, {what}"));
        }
        if let Some((other, owner)) = self.assigned.pages(pages) {
            return Some(format!("pages clear of {other}, which {owner} has"));
        }
        let mut occupied = known.occupied.iter();
        let other = occupied.find(|other| other.overlaps(seen))?;
        Some(format!(
            "pages clear of {other}, where the guest has something else"
        ))
    }

    /// What is expected of an interrupt that cannot be given. Private ones are each CPU's own.
    fn line_problem(&self, interrupt: &Interrupt) -> Option<String> {
        let intid = interrupt.intid;
        let owner = own(self.board, intid).or_else(|| self.assigned.interrupt(intid))?;
        Some(format!("interrupts other than {intid}, which {owner} has"))
    }

    /// Tells of a bus whose devices do not reach all of the guest's memory.
    fn check_dma(&mut self, walk: &Walk<'t>, visit: &Visit<'t>, path: &str) {
        let windows = walk.windows(visit, Access::Dma).take(MAX_RANGES);
        let windows: Vec<PaRange> = windows.flatten().collect();
        if windows.is_empty() {
            return;
        }
        let windows = merge_ranges(windows);
        let reaches = |bank: &IpaRange| {
            let mut windows = windows.iter();
            windows.any(|window| {
                window.start().get() <= bank.start().get() && bank.end().get() <= window.end().get()
            })
        };
        if let Some(bank) = self.machine.banks.iter().find(|bank| !reaches(bank)) {
            let windows: Vec<String> = windows.iter().map(|window| format!("{window}")).collect();
            let found = format!("{path}, whose devices reach {} by DMA", windows.join(", "));
            let expected = format!("all of the guest's RAM {bank} within it");
            self.note(&found, &expected);
        }
    }
}

/// What a node is that is no device, or the interrupt controller.
fn role(visit: &Visit<'_>) -> Option<Fate> {
    let name = visit.node.name();
    if visit.depth == 1 {
        match name.base {
            "chosen" | "cpus" | "psci" | "hypervisor" | "timer" if name.unit.is_none() => {
                return Some(Fate::Gone);
            }
            "memory" => return Some(Fate::Gone),
            "reserved-memory" => return Some(Fate::Reserved),
            "aliases" | "__symbols__" => return Some(Fate::Names),
            _ if visit.device_type == Some("memory") => return Some(Fate::Gone),
            _ => {}
        }
    }
    match visit.device() {
        Some(Device::GicV2 | Device::GicV3) if visit.enabled => Some(Fate::Controller),
        Some(Device::Timer | Device::Psci) => Some(Fate::Gone),
        _ if visit.compatible?.has_any(&["arm,psci", "xen,xen"]) => Some(Fate::Gone),
        _ => None,
    }
}

/// Why no guest gets a device, whoever asks for it.
fn withheld(visit: &Visit<'_>) -> Option<&'static str> {
    let mut texts = visit.compatible.iter().flat_map(Property::strings);
    texts.find_map(|text| match text {
        // Timers' prescaler, interrupt routing and mailboxes of all CPUs.
        "brcm,bcm2836-l1-intc" => Some("which all CPUs depend on"),
        _ if text.starts_with("arm,") && text.contains("-pmu") => {
            Some("as no guest has performance counters")
        }
        _ => None,
    })
}

/// Pages in order, those that touch or overlap in one range.
fn merge(registers: Vec<(PaRange, Ipa)>) -> Vec<(PaRange, Ipa)> {
    let pages = registers.into_iter().map(|(pages, _)| pages).collect();
    let merged = merge_ranges(pages).into_iter();
    merged
        .map(|pages| (pages, Ipa::new(pages.start().get())))
        .collect()
}

fn merge_ranges(mut ranges: Vec<PaRange>) -> Vec<PaRange> {
    let remain = memory::merge(&mut ranges);
    ranges.truncate(remain);
    ranges
}

/// Room for the tree of the guest that gets the board's.
pub(crate) fn tree_room(tree: &Tree<'_>) -> u64 {
    let room = (tree.content() as u64).saturating_add(TREE_SIZE);
    room.next_multiple_of(PAGE_SIZE).min(MAX_TREE)
}

#[cfg(test)]
#[path = "hardware/tests.rs"]
mod tests;
