//! Devices that a guest is given by a partial tree (docs/misc/arm/passthrough.txt and passthrough-noiommu.txt of Xen):
//! which registers and interrupts, and whether it may have them.
//!
//! Of the partial tree three nodes count: `/passthrough`, whose nodes say what they want; `/aliases`; and `/gic`, which
//! stands for the guest's interrupt controller. The first two are copied into the guest's tree.
//!
//! No IOMMU is driven: a device that does DMA reaches all memory, the hypervisor's too. So each wants its
//! `xen,force-assign-without-iommu`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use arrayvec::ArrayVec;
use memory::{Ipa, IpaRange, PAGE_SIZE, Pa, PaRange};

use crate::board::{Gic, Interrupt};
use crate::host::Host;
use crate::placement::LIMIT;
use crate::tree::{Children, Node, Property};
use crate::walk::take;
use crate::{Board, Problem, Severity, Tree, Uart};

/// Registers, as <board's address, size, guest's address>.
const REGISTERS: &str = "xen,reg";
/// The node of the host's tree.
const PATH: &str = "xen,path";
/// Consent to DMA that nothing holds back.
const FORCE: &str = "xen,force-assign-without-iommu";
/// Phandles from here on are the hypervisor's (xen/include/public/device_tree_defs.h).
const FIRST_OWN_PHANDLE: u32 = 65000;
/// Nesting of a partial tree.
const MAX_DEPTH: usize = 16;
/// Ranges of registers of one guest.
const MAX_RANGES: usize = 512;

/// What of the board a guest has for itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Assignment {
    /// Pages of registers, and where the guest sees them.
    pub registers: Vec<(PaRange, Ipa)>,
    /// Shared interrupts, which have the same numbers in the guest.
    pub interrupts: Vec<Interrupt>,
    /// Paths of the devices in the host's tree.
    pub devices: Vec<String>,
}

impl Assignment {
    /// Whether a UART of the board's is the guest's: its registers or its interrupt.
    #[must_use]
    pub fn has(&self, uart: &Uart) -> bool {
        let mut pages = self.registers.iter().map(|(pages, _)| pages);
        let mut interrupts = self.interrupts.iter().map(|one| one.intid);
        pages.any(|pages| pages.overlaps(uart.registers))
            || interrupts.any(|intid| uart.interrupt.is_some_and(|own| own.intid == intid))
    }
}

/// Who has what of the board, over all guests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assigned {
    pages: Vec<(PaRange, String)>,
    interrupts: Vec<(u32, String)>,
}

impl Assigned {
    /// The owner of one of these pages, and which pages they are.
    pub(crate) fn pages(&self, range: PaRange) -> Option<&(PaRange, String)> {
        self.pages.iter().find(|(other, _)| other.overlaps(range))
    }

    /// The owner of an interrupt.
    pub(crate) fn interrupt(&self, intid: u32) -> Option<&str> {
        let found = self.interrupts.iter().find(|(other, _)| *other == intid);
        found.map(|(_, owner)| &**owner)
    }

    /// Books what a guest is given.
    pub(crate) fn add(&mut self, owner: &str, assignment: &Assignment) {
        let pages = assignment.registers.iter();
        self.pages
            .extend(pages.map(|(pages, _)| (*pages, owner.to_string())));
        let interrupts = assignment.interrupts.iter();
        self.interrupts
            .extend(interrupts.map(|one| (one.intid, owner.to_string())));
    }
}

/// What the hypervisor keeps for itself, and what it is.
pub(crate) fn kept(board: &Board) -> Vec<(PaRange, &'static str)> {
    let mut kept = Vec::new();
    match &board.gic {
        Gic::V2 {
            distributor,
            cpu_interface,
            hypervisor_interface,
            virtual_cpu_interface,
            ..
        } => kept.extend(
            [
                distributor,
                cpu_interface,
                hypervisor_interface,
                virtual_cpu_interface,
            ]
            .map(|range| (*range, "the interrupt controller")),
        ),
        Gic::V3 {
            distributor,
            redistributors,
            ..
        } => {
            kept.push((*distributor, "the interrupt controller"));
            kept.extend(
                redistributors
                    .iter()
                    .map(|range| (*range, "the interrupt controller")),
            );
        }
    }
    kept.extend(
        board
            .console
            .map(|uart| (uart.registers, "the console's UART")),
    );
    kept.extend(traces(board).map(|uart| (uart.registers, "the trace's UART")));
    kept.extend(board.watchdog.map(|range| (range, "the watchdog")));
    kept.extend(board.memory.iter().map(|range| (*range, "the board's RAM")));
    kept.iter()
        .filter_map(|(range, what)| Some((range.align_outward(PAGE_SIZE)?, *what)))
        .collect()
}

/// The UART of the trace, if that has it from the start.
fn traces(board: &Board) -> Option<&Uart> {
    let second = board.second_uart.as_ref();
    second.filter(|_| board.keeps_second_uart)
}

/// Whose an interrupt is, if it is the hypervisor's own.
pub(crate) fn own(board: &Board, intid: u32) -> Option<&'static str> {
    let is = |uart: Option<&Uart>| {
        let interrupt = uart.and_then(|uart| uart.interrupt);
        interrupt.is_some_and(|interrupt| interrupt.intid == intid)
    };
    match () {
        () if is(board.console.as_ref()) => Some("the console"),
        () if is(traces(board)) => Some("the trace"),
        () => None,
    }
}

/// Reads what a partial tree wants, for one guest.
pub(crate) struct Reader<'r, 't> {
    /// The board.
    pub(crate) board: &'r Board,
    /// Its tree.
    pub(crate) host: &'r Host<'t>,
    /// What others have.
    pub(crate) assigned: &'r Assigned,
    /// Where the guest has something already.
    pub(crate) occupied: &'r [IpaRange],
    /// Path of the module's node, for messages.
    pub(crate) module: &'r str,
    /// Where what is wrong goes.
    pub(crate) problems: &'r mut Vec<Problem>,
    /// Nothing was refused.
    pub(crate) sound: bool,
}

/// A node of the partial tree, as it is told of.
struct Place<'p> {
    path: &'p str,
}

impl Reader<'_, '_> {
    fn tell(
        &mut self,
        severity: Severity,
        at: &Place<'_>,
        property: &str,
        found: &dyn Display,
        expected: &dyn Display,
    ) {
        self.sound &= severity != Severity::Refused;
        let node = format!("{} {}", self.module, at.path);
        let problem = Problem::new(severity, node.trim_end(), property, found, expected);
        self.problems.push(problem);
    }

    fn refuse(
        &mut self,
        at: &Place<'_>,
        property: &str,
        found: impl Display,
        expected: impl Display,
    ) {
        self.tell(Severity::Refused, at, property, &found, &expected);
    }

    /// Everything below `/passthrough`.
    pub(crate) fn read(&mut self, partial: &Tree<'_>) -> Assignment {
        let mut assignment = Assignment::default();
        let Some(top) = partial.find("/passthrough") else {
            let expected = "a node /passthrough, with what the guest gets";
            self.refuse(&Place { path: "" }, "", "nothing", expected);
            return assignment;
        };
        let cells = |node: &Node<'_>| {
            let number = |name, usual| node.u32(name).unwrap_or(usual);
            (number("#address-cells", 2), number("#size-cells", 1))
        };
        let mut path = String::from("/passthrough");
        let mut stack: ArrayVec<(Children<'_>, (u32, u32), usize), MAX_DEPTH> = ArrayVec::new();
        self.node(&top, cells(&partial.root()), &path, &mut assignment);
        stack.push((top.children(), cells(&top), path.len()));
        while let Some((children, sizes, length)) = stack.last_mut() {
            path.truncate(*length);
            let Some(child) = children.next() else {
                stack.pop();
                continue;
            };
            let sizes = *sizes;
            path.push_str(&format!("/{}", child.name()));
            self.node(&child, sizes, &path, &mut assignment);
            let below = (child.children(), cells(&child), path.len());
            if stack.try_push(below).is_err() {
                let expected = format_args!("at most {MAX_DEPTH} levels");
                self.refuse(&Place { path: &path }, "", "a node too deep", expected);
                return assignment;
            }
        }
        assignment
    }

    fn node(
        &mut self,
        node: &Node<'_>,
        cells: (u32, u32),
        path: &str,
        assignment: &mut Assignment,
    ) {
        let at = Place { path };
        for name in ["phandle", "linux,phandle"] {
            if let Some(phandle) = node.property(name)
                && phandle
                    .u32()
                    .is_none_or(|phandle| phandle >= FIRST_OWN_PHANDLE)
            {
                let expected = format_args!("a number below {FIRST_OWN_PHANDLE}");
                self.refuse(&at, name, phandle, expected);
            }
        }
        let (registers, from) = (node.property(REGISTERS), node.property(PATH));
        let forced = node.property(FORCE).is_some();
        if registers.is_none() && from.is_none() {
            return;
        }
        if !forced {
            let expected = "it: no IOMMU keeps the device's DMA within the guest";
            self.refuse(&at, FORCE, "nothing", expected);
            return;
        }
        let Some(registers) = registers else {
            return self.refuse(&at, REGISTERS, "nothing", "the device's registers");
        };
        let device = match from {
            None => None,
            Some(from) => {
                let found = from.str().and_then(|path| self.host.device(path));
                if found.is_none() {
                    let expected = "the path of a device in the board's tree";
                    return self.refuse(&at, PATH, from, expected);
                }
                found
            }
        };
        let before = assignment.registers.len();
        self.registers(&at, &registers, cells, assignment);
        let Some(device) = device else {
            return;
        };
        let mut routed = 0;
        for &interrupt in &device.interrupts {
            routed += usize::from(self.interrupt(&at, interrupt, assignment));
        }
        assignment.devices.push(device.path.clone());
        let pages = assignment.registers.get(before..).unwrap_or_default().len();
        let found = format!("{}, {pages} range(s), {routed} interrupt(s)", device.path);
        let expected = "trust in the guest: by DMA the device reaches all memory";
        self.tell(Severity::Note, &at, "", &found, &expected);
    }

    fn registers(
        &mut self,
        at: &Place<'_>,
        property: &Property<'_>,
        (address, size): (u32, u32),
        assignment: &mut Assignment,
    ) {
        let mut rest = property.value;
        let mut entry = || {
            let host = take(&mut rest, address)?;
            let bytes = take(&mut rest, size)?;
            let guest = take(&mut rest, address)?;
            Some((host, bytes, guest, rest.is_empty()))
        };
        for _ in 0..MAX_RANGES {
            let Some((host, bytes, guest, last)) = entry().filter(|_| address > 0 && size > 0)
            else {
                let expected = format_args!(
                    "the board's address ({address} cells), size ({size}) and the guest's address ({address}), each"
                );
                return self.refuse(at, property.name, property, expected);
            };
            self.range(at, (host, bytes, guest), assignment);
            if last {
                return;
            }
        }
        let expected = format_args!("at most {MAX_RANGES} ranges");
        self.refuse(at, property.name, "more ranges", expected);
    }

    fn range(
        &mut self,
        at: &Place<'_>,
        (host, bytes, guest): (u64, u64, u64),
        assignment: &mut Assignment,
    ) {
        let whole = [host, bytes, guest]
            .iter()
            .all(|part| part.is_multiple_of(PAGE_SIZE));
        let pages = PaRange::new(Pa::new(host), bytes).filter(|pages| !pages.is_empty() && whole);
        let seen = IpaRange::new(Ipa::new(guest), bytes).filter(|seen| seen.end() <= LIMIT);
        let (Some(pages), Some(seen)) = (pages, seen) else {
            let found = format_args!("<{host:#x} {bytes:#x} {guest:#x}>");
            let expected = "whole pages of 4 KiB, within 40 bits";
            return self.refuse(at, REGISTERS, found, expected);
        };
        if let Some(problem) = self.is_free(pages, assignment) {
            return self.refuse(at, REGISTERS, pages, problem);
        }
        let own = assignment.registers.iter();
        let mut own = own.filter_map(|(pages, at)| IpaRange::new(*at, pages.size()));
        let other = self
            .occupied
            .iter()
            .find(|other| other.overlaps(seen))
            .copied();
        if let Some(other) = other.or_else(|| own.find(|other| other.overlaps(seen))) {
            let expected =
                format_args!("guest addresses clear of {other}, where something else is");
            return self.refuse(at, REGISTERS, seen, expected);
        }
        assignment.registers.push((pages, seen.start()));
    }

    /// What is expected of pages that cannot be given.
    fn is_free(&self, pages: PaRange, assignment: &Assignment) -> Option<String> {
        if let Some((other, what)) = kept(self.board)
            .iter()
            .find(|(other, _)| other.overlaps(pages))
        {
            return Some(format!("pages clear of {other}, {what}"));
        }
        if let Some((other, owner)) = self.assigned.pages(pages) {
            return Some(format!("pages clear of {other}, which {owner} has"));
        }
        let own = &assignment.registers;
        let twice = own.iter().find(|(other, _)| other.overlaps(pages))?;
        Some(format!("pages clear of {}, which it has already", twice.0))
    }

    /// Whether an interrupt can be routed to the guest, and is from now on.
    fn interrupt(
        &mut self,
        at: &Place<'_>,
        interrupt: Interrupt,
        assignment: &mut Assignment,
    ) -> bool {
        let intid = interrupt.intid;
        let found = format!("interrupt {intid}");
        if intid < 32 {
            let expected = "a shared interrupt: private ones stay the CPU's";
            self.tell(Severity::Warning, at, PATH, &found, &expected);
            return false;
        }
        if let Some(owner) = own(self.board, intid) {
            let expected = format!("an interrupt that is not {owner}'s");
            self.refuse(at, PATH, found, expected);
            return false;
        }
        if let Some(owner) = self.assigned.interrupt(intid) {
            let expected = format!("an interrupt that {owner} does not have");
            self.refuse(at, PATH, found, expected);
            return false;
        }
        // Devices of one guest may share a line.
        if assignment.interrupts.iter().all(|one| one.intid != intid) {
            assignment.interrupts.push(interrupt);
        }
        true
    }

    /// Names the devices whose registers share a page with what is assigned, and which the guest did not ask for.
    pub(crate) fn name_neighbours(&mut self, assignment: &Assignment) {
        let mut found: Vec<(PaRange, Vec<String>)> = Vec::new();
        self.host.each(|device, _| {
            if !device.enabled || assignment.devices.contains(&device.path) {
                return;
            }
            for (pages, _) in &assignment.registers {
                if !device.registers.iter().any(|range| range.overlaps(*pages)) {
                    continue;
                }
                match found.iter_mut().find(|(known, _)| known == pages) {
                    Some((_, names)) => names.push(device.path.clone()),
                    None => found.push((*pages, [device.path.clone()].to_vec())),
                }
            }
        });
        for (pages, names) in found {
            let names = names.join(", ");
            let found = format!("{pages}, where {names} are too");
            let expected = "trust in the guest: it reaches those as well";
            self.tell(
                Severity::Note,
                &Place { path: "" },
                REGISTERS,
                &found,
                &expected,
            );
        }
    }
}

/// Whether a property is for the hypervisor alone, and not for the guest's tree.
pub(crate) fn is_for_us(name: &str) -> bool {
    matches!(name, REGISTERS | PATH | FORCE)
}

/// The phandle that a partial tree has for the guest's interrupt controller.
pub(crate) fn gic_phandle(partial: &Tree<'_>) -> Option<u32> {
    let gic = partial.find("/gic")?;
    gic.u32("phandle").or_else(|| gic.u32("linux,phandle"))
}

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
