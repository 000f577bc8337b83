//! The board, read from the host's tree once into one flat value: no references into the tree, no heap.

mod devices;
mod read;
#[cfg(test)]
mod tests;

use arrayvec::{ArrayString, ArrayVec};
use memory::{Pa, PaRange};

use crate::tree::Node;
use crate::{Error, Led, Tree, Uart};

pub(crate) use devices::{GicNode, decode};

/// CPUs that are used; further ones are counted and left alone.
pub const MAX_CPUS: usize = 8;
/// Ranges of RAM.
pub const MAX_MEMORY: usize = 16;
/// Ranges that must not be used.
pub const MAX_RESERVED: usize = 64;
/// Redistributor regions of a GICv3.
pub const MAX_REDISTRIBUTOR_REGIONS: usize = 8;
/// Bytes of the hypervisor's command line; what is beyond is cut off.
pub const MAX_BOOTARGS: usize = 1024;

/// An interrupt of the GIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// The GIC's number: 16 to 31 private to each CPU, 32 and up shared. (The tree counts each kind
    /// from 0.)
    pub intid: u32,
    /// Edge-triggered; else by level.
    pub edge: bool,
}

/// A range that must not be used as free memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reserved {
    /// The range.
    pub range: PaRange,
    /// It must not even be mapped.
    pub no_map: bool,
}

/// How a CPU is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartMethod {
    /// PSCI's `CPU_ON`.
    Psci,
    /// By writing the entry address to this 64-bit word and `SEV`. Its page is among the reserved ranges.
    SpinTable(Pa),
    /// The tree names none that is known: only the boot CPU runs.
    Unknown,
}

/// A CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Affinity fields as in `MPIDR_EL1`, all other bits clear.
    pub mpidr: u64,
    /// How it is started.
    pub start: StartMethod,
}

/// The instruction by which PSCI is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `SMC`.
    Smc,
    /// `HVC`: firmware's own EL2 took it, so a hypervisor cannot; kept for the report.
    Hvc,
}

/// The interrupt controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gic {
    /// GICv2 (IHI 0048).
    V2 {
        /// GICD.
        distributor: PaRange,
        /// GICC.
        cpu_interface: PaRange,
        /// GICH, the list registers. Never to be seen by a guest.
        hypervisor_interface: PaRange,
        /// GICV: what a guest sees as its CPU interface.
        virtual_cpu_interface: PaRange,
        /// The maintenance interrupt.
        maintenance: Interrupt,
    },
    /// GICv3 (IHI 0069), used through system registers.
    V3 {
        /// GICD.
        distributor: PaRange,
        /// GICR regions, each with 128 KiB for every CPU in it.
        redistributors: ArrayVec<PaRange, MAX_REDISTRIBUTOR_REGIONS>,
        /// The maintenance interrupt.
        maintenance: Interrupt,
    },
}

/// The generic timer's interrupts. The architecture's usual numbers stand where the tree is silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Non-secure EL1 physical timer (usually 30).
    pub physical: Interrupt,
    /// Virtual timer (usually 27).
    pub virtual_timer: Interrupt,
    /// EL2 physical timer (usually 26).
    pub hypervisor: Interrupt,
    /// Counter frequency in Hz, only where firmware left `CNTFRQ_EL0` wrong and the tree says so.
    pub frequency: Option<u32>,
}

/// The board.
#[derive(Clone, Debug)]
pub struct Board {
    /// The root's `model`, else its first `compatible`.
    pub model: ArrayString<64>,
    /// RAM: sorted, merged, not empty.
    pub memory: ArrayVec<PaRange, MAX_MEMORY>,
    /// What must not be used: the reservation block, `/reserved-memory`, pages of spin tables.
    pub reserved: ArrayVec<Reserved, MAX_RESERVED>,
    /// CPUs in tree order: what options and affinities count as CPU 0, 1, ...
    pub cpus: ArrayVec<Cpu, MAX_CPUS>,
    /// CPUs of the tree beyond [`MAX_CPUS`].
    pub cpus_left_out: usize,
    /// First `compatible` of the first CPU, for guests' trees.
    pub cpu_compatible: ArrayString<64>,
    /// How PSCI 0.2 or later is called. `None`: there is none, and `SMC` may be undefined.
    pub psci: Option<Conduit>,
    /// The interrupt controller.
    pub gic: Gic,
    /// The generic timer.
    pub timer: Timer,
    /// The console, as [`early::console`](crate::early::console) finds it, with its interrupt.
    pub console: Option<Uart>,
    /// Another UART that nothing is attached to.
    pub second_uart: Option<Uart>,
    /// The hypervisor uses that from the start (`trace=on`), so no guest may have it. The tree does not tell.
    pub keeps_second_uart: bool,
    /// The BCM2835 or BCM2711 power management block, which can reset the board.
    pub watchdog: Option<PaRange>,
    /// A light, for what must be said where no UART works.
    pub led: Option<Led>,
    /// The initial RAM disk: the slot of the bundle.
    pub initrd: Option<PaRange>,
    /// Viaduct's command line: `xen,xen-bootargs`, else `bootargs`.
    pub bootargs: ArrayString<MAX_BOOTARGS>,
}

impl Board {
    /// Reads the board from the bytes of its tree. What Viaduct cannot do without is RAM, a CPU and a GIC
    /// with virtualization; anything else may be missing.
    pub fn from_tree(tree: &[u8]) -> Result<Self, Error> {
        Self::read(&Tree::new(tree)?)
    }

    /// The same of a tree that has been checked.
    ///
    /// # Errors
    /// What is missing, or more than there is room for.
    pub fn read(tree: &Tree<'_>) -> Result<Self, Error> {
        let mut board = Self::empty();
        board.fill(tree)?;
        Ok(board)
    }

    /// Reads the board into an [empty](Self::empty) one, in its place, and returns `/chosen`, which was met on the way.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn fill<'t>(&mut self, tree: &Tree<'t>) -> Result<Option<Node<'t>>, Error> {
        read::fill(self, tree)
    }

    /// A board of which nothing is known.
    #[must_use]
    pub const fn empty() -> Self {
        const NOWHERE: PaRange = match PaRange::new(Pa::new(0), 0) {
            Some(range) => range,
            None => unreachable!(),
        };
        const NONE: Interrupt = Interrupt {
            intid: 0,
            edge: false,
        };
        Self {
            model: ArrayString::new_const(),
            memory: ArrayVec::new_const(),
            reserved: ArrayVec::new_const(),
            cpus: ArrayVec::new_const(),
            cpus_left_out: 0,
            cpu_compatible: ArrayString::new_const(),
            psci: None,
            gic: Gic::V2 {
                distributor: NOWHERE,
                cpu_interface: NOWHERE,
                hypervisor_interface: NOWHERE,
                virtual_cpu_interface: NOWHERE,
                maintenance: NONE,
            },
            timer: Timer {
                physical: NONE,
                virtual_timer: NONE,
                hypervisor: NONE,
                frequency: None,
            },
            console: None,
            second_uart: None,
            keeps_second_uart: false,
            watchdog: None,
            led: None,
            initrd: None,
            bootargs: ArrayString::new_const(),
        }
    }
}
