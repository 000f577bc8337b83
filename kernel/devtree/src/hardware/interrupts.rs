//! Where interrupts of the board's devices go: straight to the GIC, by a list of their own, or through a node that maps
//! those of others (Devicetree Specification 0.4, section 2.4).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::board::{Interrupt, decode};
use crate::walk::{Visit, take};

/// Interrupts of one node that are looked at.
const MAX_INTERRUPTS: usize = 1024;

/// A node that other nodes' interrupts go to.
struct Controller {
    phandle: u32,
    interrupt_cells: usize,
    address_cells: usize,
}

/// All of a tree.
#[derive(Default)]
pub(super) struct Controllers {
    all: Vec<Controller>,
    gic: Option<u32>,
}

impl Controllers {
    /// Takes note of a node, if it is one.
    pub(super) fn add(&mut self, visit: &Visit<'_>) {
        let cells = |name| visit.node.u32(name).map(|cells| cells as usize);
        if let Some((phandle, interrupt_cells)) = visit.phandle.zip(cells("#interrupt-cells")) {
            self.all.push(Controller {
                phandle,
                interrupt_cells,
                address_cells: cells("#address-cells").unwrap_or(0),
            });
        }
    }

    /// All are known, and which is the GIC.
    pub(super) fn sort(&mut self, gic: Option<u32>) {
        memory::sort_by_key(&mut self.all, |controller| controller.phandle);
        self.gic = gic;
    }

    fn find(&self, phandle: u32) -> Option<&Controller> {
        let found = (self.all).binary_search_by_key(&phandle, |controller| controller.phandle);
        self.all.get(found.ok()?)
    }

    /// Cells of an interrupt of the GIC.
    pub(super) fn gic_cells(&self) -> usize {
        let gic = self.gic.and_then(|gic| self.find(gic));
        gic.map_or(3, |gic| gic.interrupt_cells).clamp(3, 8)
    }

    /// The interrupts that a node sends to the GIC: its own, and those that it maps there for others.
    pub(super) fn interrupts(&self, visit: &Visit<'_>) -> Vec<Interrupt> {
        let mut found = Vec::new();
        let wiring = &visit.wiring;
        match (wiring.extended, wiring.plain) {
            (Some(mut list), _) => while self.entry(&mut list, false, &mut found).is_some() {},
            (None, Some(list)) if wiring.parent.is_none() || wiring.parent == self.gic => {
                let entries = list.chunks_exact(self.gic_cells() * 4);
                found.extend(entries.take(MAX_INTERRUPTS).filter_map(decode));
            }
            _ => {}
        }
        if let Some(map) = visit.node.property("interrupt-map") {
            let cells = |name, usual| visit.node.u32(name).unwrap_or(usual) as usize;
            let child = cells("#address-cells", 2).checked_add(cells("#interrupt-cells", 1));
            let child = child.and_then(|child| child.checked_mul(4));
            let mut rest = map.value;
            while let Some(list) = child.and_then(|child| rest.get(child..)) {
                rest = list;
                if self.entry(&mut rest, true, &mut found).is_none() {
                    break;
                }
            }
        }
        found
    }

    /// One entry of a list: phandle of a controller, a unit address if it is `mapped`, an interrupt. `None` at the end,
    /// and where it cannot be told where the next begins.
    fn entry(&self, list: &mut &[u8], mapped: bool, found: &mut Vec<Interrupt>) -> Option<()> {
        let phandle = take(list, 1)? as u32;
        let controller = self.find(phandle)?;
        if mapped {
            *list = list.get(controller.address_cells.checked_mul(4)?..)?;
        }
        let size = controller.interrupt_cells.checked_mul(4)?;
        let (cells, rest) = list.split_at_checked(size)?;
        *list = rest;
        if Some(phandle) == self.gic && found.len() < MAX_INTERRUPTS {
            found.extend(decode(cells));
        }
        Some(())
    }

    /// What is expected of the bridge of a PCI bus whose devices send messages to somebody else: to what belongs to the
    /// GIC, and guests do not have.
    pub(super) fn message_problem(&self, visit: &Visit<'_>) -> Option<String> {
        if visit.device_type != Some("pci") {
            return None;
        }
        let map = visit.node.property("msi-map");
        // <first requester, controller, first message, how many>
        let mapped = map.and_then(|map| map.cells().nth(1));
        let parent = visit.node.property("msi-parent");
        let parent = parent.and_then(|parent| parent.cells().next());
        let other = mapped.or(parent)?;
        (Some(other) != visit.phandle).then(|| {
            format!("message interrupts of its own, not of phandle {other:#x} at the interrupt controller")
        })
    }
}
