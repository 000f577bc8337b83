//! The tree that a guest gets: Xen's (xen/common/device-tree/dom0less-build.c,
//! xen/arch/arm/domain_build.c), and what Xen's lacks and guests ask for: a root `compatible`, `stdout-path`, an
//! alias for the UART, "arm,pl011" among its strings, four timer interrupts, PSCI functions by their full numbers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use memory::IpaRange;

use crate::flat::Writer;
use crate::guest::SharedMemory;
use crate::hardware::Hardware;
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
    /// The board's own tree, for the guest that gets its devices: then this is what replaces parts of it.
    pub(crate) hardware: Option<&'a Hardware<'a>>,
}

impl GuestTree<'_> {
    /// The tree as bytes, at most [`TREE_SIZE`], or what the board's tree needs where the guest gets that.
    ///
    /// # Errors
    /// It would be larger, or has a name or value that is not allowed.
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        let mut tree = Writer::new(self.room());
        tree.begin("");
        match &self.hardware {
            Some(hardware) => hardware.write(self, &mut tree),
            None => self.build(&mut tree),
        }
        tree.end();
        tree.finish()
    }

    /// Bytes that there are for it.
    fn room(&self) -> usize {
        let room = self.hardware.map_or(TREE_SIZE, Hardware::tree_room);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    fn build(&self, tree: &mut Writer) {
        tree.cell("#address-cells", 2);
        tree.cell("#size-cells", 2);
        tree.texts("model", &["Viaduct guest"]);
        tree.texts("compatible", &["viaduct,guest", "xen,xenvm"]);
        tree.cell("interrupt-parent", self.gic_phandle);
        self.chosen(tree);
        self.aliases(tree);
        self.cpus(tree, &[]);
        self.memory(tree);
        self.reserved_memory(tree);
        self.interrupt_controller(tree);
        self.timer(tree);
        psci(tree);
        self.uart(tree);
        self.hypervisor(tree);
        if let Some(top) = self
            .partial
            .and_then(|partial| partial.find("/passthrough"))
        {
            copy(tree, &top);
        }
    }

    /// Path of the UART's node.
    pub(crate) fn uart_path(&self) -> Option<String> {
        self.uart
            .map(|(registers, _)| format!("/sbsa-uart@{:x}", registers.start().get()))
    }

    pub(crate) fn chosen(&self, tree: &mut Writer) {
        tree.begin("chosen");
        if let Some(bootargs) = self.bootargs {
            tree.texts("bootargs", &[bootargs]);
        }
        if let Some(initrd) = self.initrd {
            tree.long("linux,initrd-start", initrd.start().get());
            tree.long("linux,initrd-end", initrd.end().get());
        }
        if let Some(path) = &self.uart_path() {
            tree.texts("stdout-path", &[path]);
        }
        tree.end();
    }

    pub(crate) fn aliases(&self, tree: &mut Writer) {
        let uart_path = self.uart_path();
        let theirs = self.partial.and_then(|partial| partial.find("/aliases"));
        if uart_path.is_none() && theirs.is_none() {
            return;
        }
        tree.begin("aliases");
        if let Some(path) = &uart_path {
            tree.texts("serial0", &[path]);
        }
        for alias in theirs.iter().flat_map(Node::properties) {
            if uart_path.is_none() || alias.name != "serial0" {
                tree.property(alias.name, alias.value);
            }
        }
        tree.end();
    }

    /// The CPUs; the first ones have these phandles.
    pub(crate) fn cpus(&self, tree: &mut Writer, phandles: &[Option<u32>]) {
        tree.begin("cpus");
        tree.cell("#address-cells", 1);
        tree.cell("#size-cells", 0);
        for (number, &affinity) in self.affinities.iter().enumerate() {
            let Ok(affinity) = u32::try_from(affinity) else {
                return tree.fail("an affinity of more than 32 bits");
            };
            tree.begin(&cpu_name(affinity));
            tree.texts("device_type", &["cpu"]);
            let compatible = Some(self.cpu_compatible).filter(|compatible| !compatible.is_empty());
            tree.texts("compatible", &[compatible.unwrap_or("arm,armv8")]);
            tree.cell("reg", affinity);
            tree.texts("enable-method", &["psci"]);
            if let Some(Some(phandle)) = phandles.get(number) {
                tree.cell("phandle", *phandle);
            }
            tree.end();
        }
        tree.end();
    }

    pub(crate) fn memory(&self, tree: &mut Writer) {
        let Some(first) = self.memory.first() else {
            return;
        };
        tree.begin(&format!("memory@{:x}", first.start().get()));
        tree.texts("device_type", &["memory"]);
        // As on Xen, what is shared is memory too, and reserved beside.
        let shared = self.shared.iter().map(|shared| shared.guest);
        let banks: Vec<IpaRange> = self.memory.iter().copied().chain(shared).collect();
        self.registers(tree, &banks);
        tree.end();
    }

    pub(crate) fn reserved_memory(&self, tree: &mut Writer) {
        if self.shared.is_empty() {
            return;
        }
        let (address, size) = self.cells();
        tree.begin("reserved-memory");
        tree.cell("#address-cells", address);
        tree.cell("#size-cells", size);
        tree.property("ranges", &[]);
        self.shared_memory(tree, (address, size));
        tree.end();
    }

    /// What Xen writes for static shared memory (xen/arch/arm/static-shmem.c), below a node with these cells.
    pub(crate) fn shared_memory(&self, tree: &mut Writer, cells: (u32, u32)) {
        for shared in self.shared {
            let start = shared.guest.start().get();
            tree.begin(&format!("xen-shmem@{start:x}"));
            tree.texts("compatible", &["xen,shared-memory-v1"]);
            registers(tree, &[shared.guest], cells);
            tree.long("xen,offset", 0);
            tree.texts("xen,id", &[&shared.id]);
            tree.end();
        }
    }

    fn interrupt_controller(&self, tree: &mut Writer) {
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
        tree.begin(&format!("interrupt-controller@{start:x}"));
        tree.texts("compatible", &[compatible]);
        tree.cell("#interrupt-cells", 3);
        tree.cell("#address-cells", 0);
        tree.property("interrupt-controller", &[]);
        if matches!(self.gic, GuestGic::V3 { .. }) {
            tree.cell("#redistributor-regions", 1);
        }
        self.registers(tree, &registers);
        tree.cell("linux,phandle", self.gic_phandle);
        tree.cell("phandle", self.gic_phandle);
        tree.end();
    }

    pub(crate) fn timer(&self, tree: &mut Writer) {
        tree.begin("timer");
        tree.texts("compatible", &["arm,armv8-timer"]);
        self.interrupts(tree, &self.timers);
        if let Some(frequency) = self.timer_frequency {
            tree.cell("clock-frequency", frequency);
        }
        tree.end();
    }

    pub(crate) fn uart(&self, tree: &mut Writer) {
        let Some(((registers, intid), path)) = self.uart.zip(self.uart_path()) else {
            return;
        };
        tree.begin(path.trim_start_matches('/'));
        // Without "arm,primecell": Linux's bus of that name would read identification registers.
        tree.texts("compatible", &["arm,sbsa-uart", "arm,pl011"]);
        self.registers(tree, &[registers]);
        self.interrupts(tree, &[intid]);
        tree.cell("current-speed", 115_200);
        tree.end();
    }

    pub(crate) fn hypervisor(&self, tree: &mut Writer) {
        let Some(hypervisor) = &self.hypervisor else {
            return;
        };
        let (major, minor) = hypervisor.version;
        let mut registers = Vec::from([hypervisor.grant_window]);
        registers.extend_from_slice(hypervisor.extended_regions);
        // Linux finds it by this name.
        tree.begin("hypervisor");
        let exact = format!("xen,xen-{major}.{minor}");
        tree.texts("compatible", &[&exact, "xen,xen"]);
        self.registers(tree, &registers);
        self.interrupts(tree, &[hypervisor.upcall]);
        tree.end();
    }

    /// `#address-cells` and `#size-cells` of the root.
    fn cells(&self) -> (u32, u32) {
        self.hardware.map_or((2, 2), Hardware::root_cells)
    }

    fn registers(&self, tree: &mut Writer, ranges: &[IpaRange]) {
        registers(tree, ranges, self.cells());
    }

    fn interrupts(&self, tree: &mut Writer, intids: &[u32]) {
        let size = self.hardware.map_or(3, Hardware::interrupt_cells);
        let mut cells = Vec::new();
        for intid in intids {
            // What a controller wants beyond three is 0 for those that concern all CPUs.
            let padded = interrupt_cells(*intid).into_iter();
            cells.extend(padded.chain(core::iter::repeat(0)).take(size));
        }
        tree.cell("interrupt-parent", self.gic_phandle);
        tree.cells("interrupts", &cells);
    }
}

/// Name of a CPU's node.
pub(crate) fn cpu_name(affinity: u32) -> String {
    format!("cpu@{affinity:x}")
}

/// `reg`, in so many cells for addresses and sizes; what one cell cannot say is said in pieces.
pub(crate) fn registers(tree: &mut Writer, ranges: &[IpaRange], (address, size): (u32, u32)) {
    const PIECE: u64 = 1 << 31;
    let mut cells = Vec::new();
    let mut put = |number: u64, count: u32| {
        let [high, low] = [(number >> 32) as u32, number as u32];
        match count {
            2 => cells.extend([high, low]),
            1 if high == 0 => cells.push(low),
            _ => return false,
        }
        true
    };
    for range in ranges {
        let (mut at, mut left) = (range.start().get(), range.size());
        while left > 0 {
            let piece = match u32::try_from(left) {
                Err(_) if size == 1 => PIECE,
                _ => left,
            };
            if !put(at, address) || !put(piece, size) {
                return tree.fail("the board's cells cannot say an address");
            }
            at = at.saturating_add(piece);
            left = left.saturating_sub(piece);
        }
    }
    tree.cells("reg", &cells);
}

/// An interrupt of a guest as its tree has it: a tree counts private interrupts (type 1) from INTID 16, and shared
/// ones (type 0) from INTID 32.
pub const fn interrupt_cells(intid: u32) -> [u32; 3] {
    match intid {
        0..32 => [1, intid.wrapping_sub(16), PRIVATE_LEVEL],
        _ => [0, intid.wrapping_sub(32), SHARED_LEVEL],
    }
}

pub(crate) fn psci(tree: &mut Writer) {
    tree.begin("psci");
    tree.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
    tree.texts("method", &["hvc"]);
    // Xen says 1 and 2, PSCI 0.1's calls without a context. Readers of the numbers want the calls of 0.2.
    tree.cell("cpu_off", 0x8400_0002);
    tree.cell("cpu_on", 0xc400_0003);
    tree.end();
}

/// Copies a node and all below it, but for what is the hypervisor's.
fn copy(tree: &mut Writer, top: &Node<'_>) {
    let mut open: ArrayVec<Children<'_>, MAX_DEPTH> = ArrayVec::new();
    let mut next = Some(*top);
    loop {
        match next {
            Some(node) => {
                tree.begin(&node.name().to_string());
                for property in node.properties() {
                    if !assign::is_for_us(property.name) {
                        tree.property(property.name, property.value);
                    }
                }
                if open.try_push(node.children()).is_err() {
                    return tree.fail("nodes nested too deep");
                }
            }
            None => {
                open.pop();
                tree.end();
            }
        }
        let Some(children) = open.last_mut() else {
            break;
        };
        next = children.next();
    }
}

#[cfg(test)]
#[path = "guest_tree_tests.rs"]
mod tests;
