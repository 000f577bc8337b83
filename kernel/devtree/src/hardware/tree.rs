//! The board's tree as the guest gets it.

use alloc::string::ToString;
use alloc::vec::Vec;

use memory::{Ipa, IpaRange};

use super::{Fate, Hardware, tree_room};
use crate::flat::Writer;
use crate::guest_tree::{self, GuestGic, GuestTree};
use crate::tree::Node;
use crate::walk::{Visit, Walk};

impl Hardware<'_> {
    /// Bytes that there are for the tree.
    pub(crate) fn tree_room(&self) -> u64 {
        tree_room(&self.tree)
    }

    /// `#address-cells` and `#size-cells` of the root.
    pub(crate) fn root_cells(&self) -> (u32, u32) {
        let root = self.tree.root();
        let cells = |name, usual| root.u32(name).unwrap_or(usual);
        (cells("#address-cells", 2), cells("#size-cells", 1))
    }

    /// `#interrupt-cells` of the interrupt controller.
    pub(crate) fn interrupt_cells(&self) -> usize {
        self.interrupt_cells
    }

    /// The interrupt controller's phandle.
    pub(crate) fn gic_phandle(&self) -> u32 {
        self.gic_phandle.unwrap_or(guest_tree::GIC)
    }

    /// Everything between the root's beginning and its end.
    pub(crate) fn write(&self, guest: &GuestTree<'_>, tree: &mut Writer) {
        copy(tree, &self.tree.root());
        guest.chosen(tree);
        if self.tree.find("/aliases").is_none() {
            guest.aliases(tree);
        }
        guest.cpus(tree, &self.cpus);
        guest.memory(tree);
        if self.tree.find("/reserved-memory").is_none() {
            guest.reserved_memory(tree);
        }
        guest.timer(tree);
        guest_tree::psci(tree);
        guest.uart(tree);
        guest.hypervisor(tree);

        let mut walk = Walk::new(&self.tree);
        let mut fates = self.fates.iter();
        let mut open = 0;
        while let Some((visit, fate)) = walk.next().zip(fates.next()) {
            // The children of one that is gone are gone too.
            if *fate == Fate::Gone {
                continue;
            }
            while open >= visit.depth {
                tree.end();
                open -= 1;
            }
            tree.begin(&visit.node.name().to_string());
            open += 1;
            match fate {
                Fate::Given | Fate::Gone => copy(tree, &visit.node),
                Fate::Off => {
                    copy_but(tree, &visit.node, &["status"]);
                    tree.texts("status", &["disabled"]);
                }
                Fate::Reserved => {
                    copy(tree, &visit.node);
                    let cells = |name, usual| visit.node.u32(name).unwrap_or(usual);
                    let cells = (cells("#address-cells", 2), cells("#size-cells", 1));
                    guest.shared_memory(tree, cells);
                }
                Fate::Names => self.names(guest, tree, &visit.node),
                Fate::Controller => self.controller(guest, tree, &walk, &visit),
            }
        }
        for _ in 0..open {
            tree.end();
        }
    }

    /// Names of nodes: those that are gone have none, and the console's UART is the guest's own.
    fn names(&self, guest: &GuestTree<'_>, tree: &mut Writer, node: &Node<'_>) {
        let uart = guest.uart_path();
        for name in node.properties() {
            let path = name.str();
            match (&uart, path) {
                (Some(uart), Some(path)) if self.console.as_deref() == Some(path) => {
                    tree.texts(name.name, &[uart]);
                }
                (_, Some(path)) if self.is_gone(guest, path) => {}
                _ => tree.property(name.name, name.value),
            }
        }
    }

    fn is_gone(&self, guest: &GuestTree<'_>, path: &str) -> bool {
        let below = |gone: &str| match path.strip_prefix(gone) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || gone.ends_with('/'),
            None => false,
        };
        let is_again = || match path {
            "/chosen" | "/cpus" | "/timer" | "/psci" => true,
            "/hypervisor" => guest.hypervisor.is_some(),
            _ => {
                let cpu = path.strip_prefix("/cpus/");
                cpu.is_some_and(|cpu| {
                    let affinities = guest.affinities.iter();
                    let mut names =
                        affinities.map(|affinity| guest_tree::cpu_name(*affinity as u32));
                    names.any(|name| name == cpu)
                })
            }
        };
        self.gone.iter().any(|gone| below(gone)) && !is_again()
    }

    /// The guest's interrupt controller at the place of the board's: what a guest's does not have is left out.
    fn controller<'t>(
        &self,
        guest: &GuestTree<'_>,
        tree: &mut Writer,
        walk: &Walk<'t>,
        visit: &Visit<'t>,
    ) {
        const REPLACED: [&str; 9] = [
            "reg",
            "interrupts",
            "interrupts-extended",
            "#redistributor-regions",
            "redistributor-stride",
            "mbi-ranges",
            "mbi-alias",
            "msi-controller",
            "#msi-cells",
        ];
        copy_but(tree, &visit.node, &REPLACED);
        let ranges = match guest.gic {
            GuestGic::V2 {
                distributor,
                cpu_interface,
            } => [distributor, cpu_interface],
            GuestGic::V3 {
                distributor,
                redistributors,
            } => {
                tree.cell("#redistributor-regions", 1);
                [distributor, redistributors]
            }
        };
        // Addresses as the bus above has them.
        let on_bus = |range: IpaRange| {
            let mut entries = 0..walk.registers(visit);
            let index = entries.find(|index| {
                let at = walk.register(visit, *index);
                at.is_some_and(|at| at.start().get() == range.start().get())
            })?;
            IpaRange::new(Ipa::new(walk.raw_register(visit, index)?.0), range.size())
        };
        let registers: Vec<IpaRange> = ranges.into_iter().filter_map(on_bus).collect();
        if registers.len() < ranges.len() {
            tree.fail("the interrupt controller is not where the guest has its own");
        }
        guest_tree::registers(tree, &registers, walk.cells(visit));
        if visit.phandle.is_none() {
            tree.cell("phandle", self.gic_phandle());
        }
    }
}

fn copy(tree: &mut Writer, node: &Node<'_>) {
    copy_but(tree, node, &[]);
}

fn copy_but(tree: &mut Writer, node: &Node<'_>, but: &[&str]) {
    for property in node.properties() {
        if !but.contains(&property.name) {
            tree.property(property.name, property.value);
        }
    }
}
