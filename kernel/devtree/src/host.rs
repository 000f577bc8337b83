//! The board's devices by path: their registers and interrupts, as the host's tree has them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use memory::PaRange;

use crate::Tree;
use crate::board::{GicNode, Interrupt};
use crate::device::Device;
use crate::walk::{Visit, Walk};

/// Interrupts of one device that are looked at.
const MAX_INTERRUPTS: usize = 64;
/// Registers of one device that are looked at.
const MAX_REGISTERS: usize = 64;

/// A device of the board.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostDevice {
    /// Its node's path.
    pub(crate) path: String,
    /// Its registers, as the CPU sees them.
    pub(crate) registers: Vec<PaRange>,
    /// Its interrupts that go to the GIC.
    pub(crate) interrupts: Vec<Interrupt>,
    /// Its node is not switched off.
    pub(crate) enabled: bool,
}

/// Names of the nodes on the way down to the one that a walk is at.
#[derive(Default)]
pub(crate) struct Names(Vec<String>);

impl Names {
    /// The walk has come to this node; the result is its path.
    pub(crate) fn enter(&mut self, visit: &Visit<'_>) -> String {
        self.0.truncate(visit.depth.saturating_sub(1));
        self.0.push(format!("/{}", visit.node.name()));
        self.0.concat()
    }
}

/// The host's tree, to look devices up in.
pub(crate) struct Host<'t> {
    tree: Tree<'t>,
    gic: GicNode<'t>,
}

impl<'t> Host<'t> {
    /// For a tree that has a GIC.
    pub(crate) fn new(tree: Tree<'t>) -> Option<Self> {
        let mut walk = Walk::new(&tree);
        while let Some(visit) = walk.next() {
            let kind = visit.device().filter(|_| visit.enabled);
            if let Some(kind @ (Device::GicV2 | Device::GicV3)) = kind {
                let gic = GicNode::read(&walk, &visit, kind == Device::GicV3)?;
                return Some(Self { tree, gic });
            }
        }
        None
    }

    /// The device at a path, absolute, each component with or without its unit address.
    pub(crate) fn device(&self, path: &str) -> Option<HostDevice> {
        let path = path.strip_prefix('/')?;
        let mut walk = Walk::new(&self.tree);
        let mut visit = None;
        for component in path.split('/') {
            visit = Some(walk.enter(component)?);
        }
        Some(self.read(&walk, &visit?, format!("/{path}")))
    }

    /// Calls `each` with every node below the root, as a device.
    pub(crate) fn each(&self, mut each: impl FnMut(&HostDevice, &Visit<'t>)) {
        let mut walk = Walk::new(&self.tree);
        let mut names = Names::default();
        while let Some(visit) = walk.next() {
            let path = names.enter(&visit);
            each(&self.read(&walk, &visit, path), &visit);
        }
    }

    fn read(&self, walk: &Walk<'t>, visit: &Visit<'t>, path: String) -> HostDevice {
        let registers = 0..walk.registers(visit).min(MAX_REGISTERS);
        let registers = registers.filter_map(|index| walk.register(visit, index));
        let interrupts = (0..MAX_INTERRUPTS)
            .map_while(|index| self.gic.interrupt(&visit.wiring, index))
            .collect();
        HostDevice {
            path,
            registers: registers.filter(|range| !range.is_empty()).collect(),
            interrupts,
            enabled: visit.enabled,
        }
    }
}
