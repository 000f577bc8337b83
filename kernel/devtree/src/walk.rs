//! One walk down a tree, which carries the chain of buses so that `reg` can be translated to what the CPU
//! sees and interrupts find their controller (Devicetree Specification 0.4, sections 2.3 and 2.4).

use core::fmt::Write;

use arrayvec::{ArrayString, ArrayVec};
use memory::{Pa, PaRange};

use crate::Tree;
use crate::device::Device;
use crate::tree::{MAX_DEPTH, Node, Nodes, Property};

/// How addresses below a bus become addresses above it.
#[derive(Clone, Copy)]
enum Ranges<'a> {
    /// They are the same.
    Same,
    /// Triplets of child address, parent address, size.
    Table(&'a [u8]),
    /// They have none.
    Absent,
}

/// What a node says to its children.
struct Bus<'a> {
    node: Node<'a>,
    address_cells: u32,
    size_cells: u32,
    ranges: Ranges<'a>,
    dma_ranges: Ranges<'a>,
    interrupt_parent: Option<u32>,
}

/// Whose addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The CPU's, to registers: `ranges`.
    Cpu,
    /// A device's, to memory: `dma-ranges`.
    Dma,
}

impl<'a> Bus<'a> {
    fn table(&self, access: Access) -> Ranges<'a> {
        match access {
            Access::Cpu => self.ranges,
            Access::Dma => self.dma_ranges,
        }
    }
}

/// Where a node's interrupts go, to be read when their controller is known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wiring<'a> {
    /// `interrupts`.
    pub(crate) plain: Option<&'a [u8]>,
    /// `interrupts-extended`, which holds where both stand.
    pub(crate) extended: Option<&'a [u8]>,
    /// The controller of the plain ones: the node's own, or the nearest that a parent names.
    pub(crate) parent: Option<u32>,
}

/// A node on the way, with the properties that most readers ask for, picked up in one pass.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) node: Node<'a>,
    /// 1 for children of the root.
    pub(crate) depth: usize,
    pub(crate) enabled: bool,
    pub(crate) compatible: Option<Property<'a>>,
    pub(crate) device_type: Option<&'a str>,
    pub(crate) phandle: Option<u32>,
    pub(crate) wiring: Wiring<'a>,
    reg: &'a [u8],
}

impl Visit<'_> {
    /// What it is, if it is a device of ours.
    pub(crate) fn device(&self) -> Option<Device> {
        Device::of(&self.compatible?)
    }
}

/// The walk: every node below the root, parents before children. Nodes that are switched off are
/// visited too.
pub(crate) struct Walk<'a> {
    nodes: Nodes<'a>,
    /// The root and the nodes on the way down to the one visited last, that one included.
    stack: ArrayVec<Bus<'a>, { MAX_DEPTH + 1 }>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(tree: &Tree<'a>) -> Self {
        let mut walk = Self {
            nodes: tree.nodes(),
            stack: ArrayVec::new(),
        };
        walk.push(0, tree.root());
        if let Some(root) = walk.stack.first_mut() {
            // The root's children have the CPU's addresses.
            root.ranges = Ranges::Same;
        }
        walk
    }

    /// The next node; its children come after it.
    pub(crate) fn next(&mut self) -> Option<Visit<'a>> {
        let (depth, node) = self.nodes.next()?;
        Some(self.push(depth, node))
    }

    /// Goes down to the child of the node visited last that has this name, if there is one. If there is none the walk is
    /// somewhere behind that node.
    pub(crate) fn enter(&mut self, name: &str) -> Option<Visit<'a>> {
        let wanted = self.stack.len();
        loop {
            let (depth, node) = self.nodes.next().filter(|(depth, _)| *depth >= wanted)?;
            if depth == wanted && node.name().is(name) {
                return Some(self.push(depth, node));
            }
        }
    }

    #[inline]
    fn push(&mut self, depth: usize, node: Node<'a>) -> Visit<'a> {
        self.stack.truncate(depth);
        let inherited = self.stack.last().and_then(|bus| bus.interrupt_parent);
        let (visit, bus) = look(node, depth, inherited);
        // There is room for the deepest node that comes.
        let _ = self.stack.try_push(bus);
        visit
    }

    /// The path of the node visited last, with all unit addresses; `None` if it has more letters.
    pub(crate) fn path<const LETTERS: usize>(&self) -> Option<ArrayString<LETTERS>> {
        let mut path = ArrayString::new();
        for bus in self.stack.iter().skip(1) {
            write!(path, "/{}", bus.node.name()).ok()?;
        }
        Some(path)
    }

    fn parent(&self, visit: &Visit<'a>) -> Option<&Bus<'a>> {
        self.stack.get(visit.depth.checked_sub(1)?)
    }

    /// `#address-cells` and `#size-cells` for the `reg` of a node just visited.
    pub(crate) fn cells(&self, visit: &Visit<'a>) -> (u32, u32) {
        self.parent(visit)
            .map_or((2, 1), |bus| (bus.address_cells, bus.size_cells))
    }

    /// The `reg` of a node just visited as it stands there, for nodes whose addresses are not on the bus.
    pub(crate) fn raw_register(&self, visit: &Visit<'a>, index: usize) -> Option<(u64, u64)> {
        let (address_cells, size_cells) = self.cells(visit);
        let entry = usize::try_from(address_cells.checked_add(size_cells)?)
            .ok()?
            .checked_mul(4)?;
        let mut rest = visit.reg.get(entry.checked_mul(index)?..)?;
        // An entry of no cells would repeat for ever.
        (entry > 0).then_some(())?;
        Some((
            take(&mut rest, address_cells)?,
            take(&mut rest, size_cells)?,
        ))
    }

    /// Entry `index` of the `reg` of a node just visited, as the CPU sees it. `None` past the last, and
    /// for an entry that no bus on the way up passes on.
    pub(crate) fn register(&self, visit: &Visit<'a>, index: usize) -> Option<PaRange> {
        let (address, size) = self.raw_register(visit, index)?;
        self.outward(visit.depth, address, size, Access::Cpu)
    }

    /// A range of addresses beside the `reg` of a node at this depth, as the CPU or the memory sees it.
    fn outward(
        &self,
        depth: usize,
        mut address: u64,
        size: u64,
        access: Access,
    ) -> Option<PaRange> {
        let buses = self.stack.get(..depth)?;
        for (level, bus) in buses.iter().enumerate().rev() {
            let Some(outer) = level.checked_sub(1).and_then(|level| buses.get(level)) else {
                break;
            };
            address = translate(address, size, bus, outer, access)?;
        }
        PaRange::new(Pa::new(address), size)
    }

    /// What a node just visited, a bus, passes on by the entries of its `ranges` or `dma-ranges`, as the CPU or the
    /// memory sees it; `None` for an entry that a bus further out does not. Nothing if it has no entries.
    pub(crate) fn windows(
        &self,
        visit: &Visit<'a>,
        access: Access,
    ) -> impl Iterator<Item = Option<PaRange>> + '_ {
        let (own, outer) = (self.stack.get(visit.depth), self.parent(visit));
        let depth = visit.depth;
        let mut table = match own.map(|own| own.table(access)) {
            Some(Ranges::Table(table)) => table,
            _ => &[],
        };
        core::iter::from_fn(move || {
            let (own, outer) = own.zip(outer)?;
            // Addresses below may be wider than ours: a PCI bus has three cells.
            let child = usize::try_from(own.address_cells).ok()?.checked_mul(4)?;
            table = table.get(child..).filter(|_| child > 0)?;
            let parent = take(&mut table, outer.address_cells)?;
            let size = take(&mut table, own.size_cells)?;
            Some(self.outward(depth, parent, size, access))
        })
    }

    /// Entries in the `reg` of a node just visited.
    pub(crate) fn registers(&self, visit: &Visit<'a>) -> usize {
        let (address_cells, size_cells) = self.cells(visit);
        let entry = usize::try_from(u64::from(address_cells) + u64::from(size_cells)).unwrap_or(0);
        visit
            .reg
            .len()
            .checked_div(entry.saturating_mul(4))
            .unwrap_or(0)
    }
}

/// A number of 0 to 2 cells from the front of `bytes`. Wider ones (PCI) are not addresses of ours.
pub(crate) fn take(bytes: &mut &[u8], cells: u32) -> Option<u64> {
    let mut value = 0;
    for _ in 0..(cells <= 2).then_some(cells)? {
        let (cell, rest) = bytes.split_first_chunk::<4>()?;
        value = value << 32 | u64::from(u32::from_be_bytes(*cell));
        *bytes = rest;
    }
    Some(value)
}

fn translate(
    address: u64,
    size: u64,
    bus: &Bus<'_>,
    outer: &Bus<'_>,
    access: Access,
) -> Option<u64> {
    let mut table = match bus.table(access) {
        Ranges::Same => return Some(address),
        Ranges::Absent => return None,
        Ranges::Table(table) => table,
    };
    while !table.is_empty() {
        let child = take(&mut table, bus.address_cells)?;
        let parent = take(&mut table, outer.address_cells)?;
        let length = take(&mut table, bus.size_cells)?;
        let offset = address.wrapping_sub(child);
        let inside = address >= child && offset.checked_add(size).is_some_and(|end| end <= length);
        if inside {
            return parent.checked_add(offset);
        }
        // Entries without cells would repeat for ever.
        (bus.address_cells > 0).then_some(())?;
    }
    None
}

/// Reads a node's properties once.
#[inline]
fn look<'a>(node: Node<'a>, depth: usize, inherited: Option<u32>) -> (Visit<'a>, Bus<'a>) {
    let mut visit = Visit {
        node,
        depth,
        enabled: true,
        compatible: None,
        device_type: None,
        phandle: None,
        wiring: Wiring {
            parent: inherited,
            ..Wiring::default()
        },
        reg: &[],
    };
    // 2 and 1 are what the specification says where nothing stands.
    let mut bus = Bus {
        node,
        address_cells: 2,
        size_cells: 1,
        ranges: Ranges::Absent,
        // A bus that says nothing of DMA changes no address.
        dma_ranges: Ranges::Same,
        interrupt_parent: inherited,
    };
    for property in node.properties() {
        match property.name {
            "compatible" => visit.compatible = Some(property),
            "reg" => visit.reg = property.value,
            "status" => visit.enabled = property.is_okay(),
            "device_type" => visit.device_type = property.str(),
            "phandle" | "linux,phandle" => visit.phandle = property.u32(),
            "interrupts" => visit.wiring.plain = Some(property.value),
            "interrupts-extended" => visit.wiring.extended = Some(property.value),
            "interrupt-parent" => visit.wiring.parent = property.u32().or(inherited),
            "#address-cells" => bus.address_cells = property.u32().unwrap_or(u32::MAX),
            "#size-cells" => bus.size_cells = property.u32().unwrap_or(u32::MAX),
            "ranges" if property.value.is_empty() => bus.ranges = Ranges::Same,
            "ranges" => bus.ranges = Ranges::Table(property.value),
            "dma-ranges" if !property.value.is_empty() => {
                bus.dma_ranges = Ranges::Table(property.value);
            }
            _ => {}
        }
    }
    bus.interrupt_parent = visit.wiring.parent;
    (visit, bus)
}
