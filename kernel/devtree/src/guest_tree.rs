//! The tree that a guest gets: Xen's (xen/common/device-tree/dom0less-build.c,
//! xen/arch/arm/domain_build.c), and what Xen's lacks and guests ask for: a root `compatible`, `stdout-path`, an
//! alias for the UART, "arm,pl011" among its strings, four timer interrupts, PSCI functions by their full numbers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use memory::IpaRange;
use vm_fdt::{FdtWriter, FdtWriterNode};

use crate::guest::SharedMemory;
use crate::placement::TREE_SIZE;
use crate::tree::{Children, Node};
use crate::{Error, Tree, assign};

/// Nesting that is copied.
const MAX_DEPTH: usize = 16;

/// The phandle of the interrupt controller, as on Xen, unless a partial tree has another for it.
pub const GIC: u32 = 65000;
/// Level-triggered, active low, for all CPUs.
const PRIVATE_LEVEL: u32 = 0xf08;
/// Level-triggered, active high.
const SHARED_LEVEL: u32 = 4;

/// The guest's interrupt controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestGic {
    /// GICv2.
    V2 {
        /// GICD.
        distributor: IpaRange,
        /// GICC, which is GICV underneath.
        cpu_interface: IpaRange,
    },
    /// GICv3.
    V3 {
        /// GICD.
        distributor: IpaRange,
        /// All redistributors, one region.
        redistributors: IpaRange,
    },
}

/// The `/hypervisor` node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hypervisor<'a> {
    /// Version of Xen's ABI, major and minor.
    pub version: (u16, u16),
    /// Where the guest may map its grant table.
    pub grant_window: IpaRange,
    /// See [`extended_regions`](crate::placement::extended_regions).
    pub extended_regions: &'a [IpaRange],
    /// INTID of the event channel interrupt, a PPI.
    pub upcall: u32,
}

/// Everything that a guest's tree says.
#[derive(Clone, Debug)]
pub struct GuestTree<'a> {
    /// Affinity (`MPIDR_EL1`) of each vCPU.
    pub affinities: &'a [u64],
    /// `compatible` of the vCPUs: the board's.
    pub cpu_compatible: &'a str,
    /// Banks of RAM.
    pub memory: &'a [IpaRange],
    /// Memory that it shares with others.
    pub shared: &'a [SharedMemory],
    /// The interrupt controller.
    pub gic: GuestGic,
    /// Counter frequency in Hz, where the board's tree says it.
    pub timer_frequency: Option<u32>,
    /// INTIDs of the timers: secure physical, physical, virtual, hypervisor.
    pub timers: [u32; 4],
    /// The UART's registers and INTID (an SPI), if the guest has one.
    pub uart: Option<(IpaRange, u32)>,
    /// The hypervisor node, if the guest is told of one.
    pub hypervisor: Option<Hypervisor<'a>>,
    /// The initial RAM disk.
    pub initrd: Option<IpaRange>,
    /// The guest's command line.
    pub bootargs: Option<&'a str>,
    /// The interrupt controller's phandle: [`GIC`], or what a partial tree says.
    pub gic_phandle: u32,
    /// The partial tree whose `/passthrough` and `/aliases` it gets.
    pub partial: Option<Tree<'a>>,
}

type Result<T> = core::result::Result<T, vm_fdt::Error>;

impl GuestTree<'_> {
    /// The tree as bytes, at most [`TREE_SIZE`].
    pub fn write(&self) -> core::result::Result<Vec<u8>, Error> {
        let tree = self
            .build()
            .map_err(|_| Error::Writing("a name or value in it is not allowed"))?;
        if tree.len() as u64 > TREE_SIZE {
            return Err(Error::Writing("larger than the room for it"));
        }
        Ok(tree)
    }

    fn build(&self) -> Result<Vec<u8>> {
        let mut tree = FdtWriter::new()?;
        let root = tree.begin_node("")?;
        tree.property_u32("#address-cells", 2)?;
        tree.property_u32("#size-cells", 2)?;
        tree.property_string("model", "Viaduct guest")?;
        tree.property_string_list("compatible", strings(&["viaduct,guest", "xen,xenvm"]))?;
        tree.property_u32("interrupt-parent", self.gic_phandle)?;
        self.chosen(&mut tree)?;
        self.cpus(&mut tree)?;
        self.memory(&mut tree)?;
        self.reserved_memory(&mut tree)?;
        self.interrupt_controller(&mut tree)?;
        self.timer(&mut tree)?;
        psci(&mut tree)?;
        self.uart(&mut tree)?;
        self.hypervisor(&mut tree)?;
        if let Some(top) = self
            .partial
            .and_then(|partial| partial.find("/passthrough"))
        {
            copy(&mut tree, &top)?;
        }
        tree.end_node(root)?;
        tree.finish()
    }

    fn uart_name(&self) -> Option<String> {
        self.uart
            .map(|(registers, _)| format!("sbsa-uart@{:x}", registers.start().get()))
    }

    fn chosen(&self, tree: &mut FdtWriter) -> Result<()> {
        let uart_path = self.uart_name().map(|name| format!("/{name}"));
        let node = tree.begin_node("chosen")?;
        if let Some(bootargs) = self.bootargs {
            tree.property_string("bootargs", bootargs)?;
        }
        if let Some(initrd) = self.initrd {
            tree.property_u64("linux,initrd-start", initrd.start().get())?;
            tree.property_u64("linux,initrd-end", initrd.end().get())?;
        }
        if let Some(path) = &uart_path {
            tree.property_string("stdout-path", path)?;
        }
        tree.end_node(node)?;
        let theirs = self.partial.and_then(|partial| partial.find("/aliases"));
        if uart_path.is_none() && theirs.is_none() {
            return Ok(());
        }
        let node = tree.begin_node("aliases")?;
        if let Some(path) = &uart_path {
            tree.property_string("serial0", path)?;
        }
        for alias in theirs.iter().flat_map(Node::properties) {
            if uart_path.is_none() || alias.name != "serial0" {
                tree.property(alias.name, alias.value)?;
            }
        }
        tree.end_node(node)
    }

    fn cpus(&self, tree: &mut FdtWriter) -> Result<()> {
        let cpus = tree.begin_node("cpus")?;
        tree.property_u32("#address-cells", 1)?;
        tree.property_u32("#size-cells", 0)?;
        for &affinity in self.affinities {
            let affinity =
                u32::try_from(affinity).map_err(|_| vm_fdt::Error::PropertyValueTooLarge)?;
            let node = tree.begin_node(&format!("cpu@{affinity:x}"))?;
            tree.property_string("device_type", "cpu")?;
            let compatible = Some(self.cpu_compatible).filter(|compatible| !compatible.is_empty());
            tree.property_string("compatible", compatible.unwrap_or("arm,armv8"))?;
            tree.property_u32("reg", affinity)?;
            tree.property_string("enable-method", "psci")?;
            tree.end_node(node)?;
        }
        tree.end_node(cpus)
    }

    fn memory(&self, tree: &mut FdtWriter) -> Result<()> {
        let Some(first) = self.memory.first() else {
            return Ok(());
        };
        let node = tree.begin_node(&format!("memory@{:x}", first.start().get()))?;
        tree.property_string("device_type", "memory")?;
        // As on Xen, what is shared is memory too, and reserved beside.
        let shared = self.shared.iter().map(|shared| shared.guest);
        let banks: Vec<IpaRange> = self.memory.iter().copied().chain(shared).collect();
        tree.property_array_u64("reg", &cells(&banks))?;
        tree.end_node(node)
    }

    /// What Xen writes for static shared memory (xen/arch/arm/static-shmem.c).
    fn reserved_memory(&self, tree: &mut FdtWriter) -> Result<()> {
        if self.shared.is_empty() {
            return Ok(());
        }
        let all = tree.begin_node("reserved-memory")?;
        tree.property_u32("#address-cells", 2)?;
        tree.property_u32("#size-cells", 2)?;
        tree.property_null("ranges")?;
        for shared in self.shared {
            let start = shared.guest.start().get();
            let node = tree.begin_node(&format!("xen-shmem@{start:x}"))?;
            tree.property_string("compatible", "xen,shared-memory-v1")?;
            tree.property_array_u64("reg", &cells(&[shared.guest]))?;
            tree.property_u64("xen,offset", 0)?;
            tree.property_string("xen,id", &shared.id)?;
            tree.end_node(node)?;
        }
        tree.end_node(all)
    }

    fn interrupt_controller(&self, tree: &mut FdtWriter) -> Result<()> {
        let (registers, compatible) = match self.gic {
            GuestGic::V2 {
                distributor,
                cpu_interface,
            } => ([distributor, cpu_interface], "arm,gic-400"),
            GuestGic::V3 {
                distributor,
                redistributors,
            } => ([distributor, redistributors], "arm,gic-v3"),
        };
        let start = registers
            .iter()
            .map(|range| range.start().get())
            .min()
            .unwrap_or(0);
        let node = tree.begin_node(&format!("interrupt-controller@{start:x}"))?;
        tree.property_string("compatible", compatible)?;
        tree.property_u32("#interrupt-cells", 3)?;
        tree.property_u32("#address-cells", 0)?;
        tree.property_null("interrupt-controller")?;
        if matches!(self.gic, GuestGic::V3 { .. }) {
            tree.property_u32("#redistributor-regions", 1)?;
        }
        tree.property_array_u64("reg", &cells(&registers))?;
        tree.property_u32("linux,phandle", self.gic_phandle)?;
        tree.property_phandle(self.gic_phandle)?;
        tree.end_node(node)
    }

    fn timer(&self, tree: &mut FdtWriter) -> Result<()> {
        let interrupts = self.timers.map(interrupt_cells);
        let node = tree.begin_node("timer")?;
        tree.property_string("compatible", "arm,armv8-timer")?;
        tree.property_u32("interrupt-parent", self.gic_phandle)?;
        tree.property_array_u32("interrupts", interrupts.as_flattened())?;
        if let Some(frequency) = self.timer_frequency {
            tree.property_u32("clock-frequency", frequency)?;
        }
        tree.end_node(node)
    }

    fn uart(&self, tree: &mut FdtWriter) -> Result<()> {
        let Some(((registers, intid), name)) = self.uart.zip(self.uart_name()) else {
            return Ok(());
        };
        let node = tree.begin_node(&name)?;
        // Without "arm,primecell": Linux's bus of that name would read identification registers.
        tree.property_string_list("compatible", strings(&["arm,sbsa-uart", "arm,pl011"]))?;
        tree.property_array_u64("reg", &cells(&[registers]))?;
        tree.property_u32("interrupt-parent", self.gic_phandle)?;
        tree.property_array_u32("interrupts", &interrupt_cells(intid))?;
        tree.property_u32("current-speed", 115_200)?;
        tree.end_node(node)
    }

    fn hypervisor(&self, tree: &mut FdtWriter) -> Result<()> {
        let Some(hypervisor) = &self.hypervisor else {
            return Ok(());
        };
        let (major, minor) = hypervisor.version;
        let mut registers = vec![hypervisor.grant_window];
        registers.extend_from_slice(hypervisor.extended_regions);
        // Linux finds it by this name.
        let node = tree.begin_node("hypervisor")?;
        let exact = format!("xen,xen-{major}.{minor}");
        tree.property_string_list("compatible", strings(&[&exact, "xen,xen"]))?;
        tree.property_array_u64("reg", &cells(&registers))?;
        tree.property_u32("interrupt-parent", self.gic_phandle)?;
        tree.property_array_u32("interrupts", &interrupt_cells(hypervisor.upcall))?;
        tree.end_node(node)
    }
}

/// An interrupt of a guest as its tree has it: a tree counts private interrupts (type 1) from INTID 16, and shared
/// ones (type 0) from INTID 32.
pub const fn interrupt_cells(intid: u32) -> [u32; 3] {
    match intid {
        0..32 => [1, intid.wrapping_sub(16), PRIVATE_LEVEL],
        _ => [0, intid.wrapping_sub(32), SHARED_LEVEL],
    }
}

fn psci(tree: &mut FdtWriter) -> Result<()> {
    let node = tree.begin_node("psci")?;
    tree.property_string_list(
        "compatible",
        strings(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]),
    )?;
    tree.property_string("method", "hvc")?;
    // Xen says 1 and 2, PSCI 0.1's calls without a context. Readers of the numbers want the calls of 0.2.
    tree.property_u32("cpu_off", 0x8400_0002)?;
    tree.property_u32("cpu_on", 0xc400_0003)?;
    tree.end_node(node)
}

/// Copies a node and all below it, but for what is the hypervisor's.
fn copy(tree: &mut FdtWriter, top: &Node<'_>) -> Result<()> {
    let mut open: ArrayVec<(FdtWriterNode, Children<'_>), MAX_DEPTH> = ArrayVec::new();
    let mut next = Some(*top);
    loop {
        match next {
            Some(node) => {
                let writer = tree.begin_node(&node.name().to_string())?;
                for property in node.properties() {
                    if !assign::is_for_us(property.name) {
                        tree.property(property.name, property.value)?;
                    }
                }
                let entry = (writer, node.children());
                let pushed = open.try_push(entry);
                pushed.map_err(|_| vm_fdt::Error::NodeDepthTooLarge)?;
            }
            None => {
                let Some((writer, _)) = open.pop() else { break };
                tree.end_node(writer)?;
            }
        }
        let Some((_, children)) = open.last_mut() else {
            break;
        };
        next = children.next();
    }
    Ok(())
}

fn cells(ranges: &[IpaRange]) -> Vec<u64> {
    ranges
        .iter()
        .flat_map(|range| [range.start().get(), range.size()])
        .collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

#[cfg(test)]
#[path = "guest_tree_tests.rs"]
mod tests;
