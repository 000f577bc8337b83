//! The devices that Viaduct drives itself: GIC and generic timer, and the interrupts of all.

use arrayvec::ArrayVec;

use super::{Gic, Interrupt, Timer};
use crate::Error;
use crate::tree::Node;
use crate::walk::{Visit, Walk, Wiring};

const EDGES: u32 = 0b0011;

/// A GIC node, as found on the way: its interrupts can be read once its phandle is known.
pub(crate) struct GicNode<'a> {
    wiring: Wiring<'a>,
    phandle: Option<u32>,
    version_3: bool,
    cells: usize,
    registers: ArrayVec<memory::PaRange, { super::MAX_REDISTRIBUTOR_REGIONS + 2 }>,
}

impl<'a> GicNode<'a> {
    /// The GIC that a node just visited describes; `None` if it makes no sense.
    pub(crate) fn read(walk: &Walk<'a>, visit: &Visit<'a>, version_3: bool) -> Option<Self> {
        let cells = visit.node.u32("#interrupt-cells").unwrap_or(3);
        let cells = usize::try_from(cells)
            .ok()
            .filter(|cells| (3..=8).contains(cells))?;
        let regions = match (version_3, visit.node.u32("#redistributor-regions")) {
            (true, regions) => usize::try_from(regions.unwrap_or(1)).unwrap_or(usize::MAX),
            (false, _) => 3,
        };
        // One more than there is room for, to be told from just enough.
        let count = walk.registers(visit).min(regions.saturating_add(1));
        let mut registers = ArrayVec::new();
        let found = (0..count).map_while(|index| walk.register(visit, index));
        for range in found.take(registers.capacity()) {
            registers.push(range);
        }
        Some(Self {
            wiring: visit.wiring,
            phandle: visit.phandle,
            version_3,
            cells,
            registers,
        })
    }

    /// Interrupt number `index` of a node, if it goes to this GIC.
    pub(crate) fn interrupt(&self, wiring: &Wiring<'_>, index: usize) -> Option<Interrupt> {
        if let Some(extended) = wiring.extended {
            // Entries for other controllers have a size that only those know: stop there.
            let entry = (self.cells + 1).checked_mul(4)?;
            let mut entries = extended.chunks_exact(entry).map_while(|entry| {
                let (phandle, cells) = entry.split_first_chunk::<4>()?;
                (Some(u32::from_be_bytes(*phandle)) == self.phandle).then_some(cells)
            });
            return decode(entries.nth(index)?);
        }
        if wiring.parent.is_some() && wiring.parent != self.phandle {
            return None;
        }
        let mut entries = wiring.plain?.chunks_exact(self.cells.checked_mul(4)?);
        decode(entries.nth(index)?)
    }

    /// All of it, once the walk is over.
    pub(super) fn finish(&self) -> Result<Gic, Error> {
        let register = |index: usize, what| {
            self.registers
                .get(index)
                .copied()
                .ok_or(Error::Missing(what))
        };
        let distributor = register(0, "GIC distributor")?;
        let maintenance = self.interrupt(&self.wiring, 0);
        // PPI 9 is where the base system architecture puts it.
        let maintenance = maintenance.unwrap_or(Interrupt {
            intid: 25,
            edge: false,
        });
        if self.version_3 {
            register(1, "GIC redistributor")?;
            let mut redistributors = ArrayVec::new();
            for &range in self.registers.iter().skip(1) {
                let pushed = redistributors.try_push(range);
                pushed.map_err(|_| Error::TooMany("GIC redistributor regions"))?;
            }
            return Ok(Gic::V3 {
                distributor,
                redistributors,
                maintenance,
            });
        }
        Ok(Gic::V2 {
            distributor,
            cpu_interface: register(1, "GIC CPU interface")?,
            hypervisor_interface: register(2, "GIC hypervisor interface (GICH)")?,
            virtual_cpu_interface: register(3, "GIC virtual CPU interface (GICV)")?,
            maintenance,
        })
    }
}

/// An interrupt specifier of the GIC binding: kind, number, flags.
pub(crate) fn decode(cells: &[u8]) -> Option<Interrupt> {
    let mut cells = cells
        .as_chunks::<4>()
        .0
        .iter()
        .map(|cell| u32::from_be_bytes(*cell));
    let (kind, number, flags) = (cells.next()?, cells.next()?, cells.next()?);
    let intid = match kind {
        0 if number < 988 => number + 32,
        1 if number < 16 => number + 16,
        _ => return None,
    };
    Some(Interrupt {
        intid,
        edge: flags & EDGES != 0,
    })
}

/// The generic timer, or the architecture's usual numbers where there is no node for it.
pub(super) fn timer(gic: &GicNode<'_>, node: Option<(Node<'_>, Wiring<'_>)>) -> Timer {
    let names = node.and_then(|(node, _)| node.property("interrupt-names"));
    let find = |name: &str, index: usize, usual: u32| {
        let named =
            |names: crate::tree::Property<'_>| names.strings().position(|text| text == name);
        let index = match names {
            Some(names) => named(names),
            None => Some(index),
        };
        let found = index.zip(node);
        let found = found.and_then(|(index, (_, wiring))| gic.interrupt(&wiring, index));
        found.unwrap_or(Interrupt {
            intid: usual,
            edge: false,
        })
    };
    Timer {
        physical: find("phys", 1, 30),
        virtual_timer: find("virt", 2, 27),
        hypervisor: find("hyp-phys", 3, 26),
        frequency: node.and_then(|(node, _)| node.u32("clock-frequency")),
    }
}
