//! Descriptions of guests: Xen's dom0less binding (docs/misc/arm/device-tree/booting.txt), as ImageBuilder
//! writes it, with our own properties under the prefix `viaduct,`.
//!
//! A direct child of `/chosen` that is compatible with "xen,domain" is a guest. [`read`] checks all that it says; what
//! is wrong leaves out that guest, with a [`Problem`] that names node, property, found and expected. What
//! nobody knows is warned about.

mod affinity;
mod fixed;
#[cfg(test)]
mod fixed_tests;
mod hardware;
mod life;
mod links;
mod module;
#[cfg(test)]
mod module_tests;
mod node;
mod order;
mod scheduling;
mod shared;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use memory::{Ipa, IpaRange, PaRange};

use crate::fit::Fit;
use crate::placement::{self, Banks};
use crate::tree::Node;
use crate::{Problem, Tree};

pub use life::{LifeConfig, Restart};
pub(crate) use links::check_names;
pub use links::{ChannelEnd, are_peers};
pub(crate) use order::check_order;
pub use scheduling::{LEAST_BUDGET, PERIODS, Reservation, Scheduling, WEIGHTS};
pub use shared::SharedMemory;

/// Guests of one boot: as many as there are 8-bit VMIDs besides the hypervisor's.
pub const MAX_DOMAINS: usize = 255;
/// vCPUs of one guest with a GICv2 (the architecture's bound).
pub const MAX_VCPUS_GIC_V2: u32 = 8;
/// vCPUs of one guest with a GICv3 (Xen's bound: its redistributor window).
pub const MAX_VCPUS_GIC_V3: u32 = 128;
/// Bytes of a guest's command line (Xen's bound).
pub const MAX_BOOTARGS: usize = 1024;
/// Shared memories of one guest. Xen has room for 32 of all guests.
pub const MAX_SHARED: usize = 16;
/// Shared interrupts of a guest (GIC architecture).
pub const MAX_SPIS: u32 = 988;

/// Where a file of a guest is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModuleSource {
    /// In memory: modules of the host's tree.
    Memory(PaRange),
    /// An image of the bundle, by name.
    Image(String),
}

/// Names of the nodes of a guest's modules.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModuleNodes {
    /// The kernel's.
    pub kernel: String,
    /// The initial RAM disk's; empty if there is none.
    pub ramdisk: String,
    /// The partial tree's; empty if there is none.
    pub device_tree: String,
}

/// How much of Xen's paravirtual interfaces the guest is told of (`xen,enhanced`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Enhanced {
    /// No `/hypervisor` node.
    #[default]
    Off,
    /// Everything but xenstore: `"no-xenstore"`.
    WithoutXenstore,
    /// Everything: no value, or `"enabled"`.
    Full,
    /// `"legacy"`: as `Full`, and the page of the store is the guest's own matter at first.
    Legacy,
}

/// Bounds of a guest's grant table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantLimits {
    /// Greatest version, 1 or 2 (`max_grant_version`).
    pub version: u32,
    /// Frames of the table (`max_grant_frames`).
    pub frames: u32,
    /// Frames for what the guest has mapped (`max_maptrack_frames`).
    pub maptrack_frames: u32,
}

impl Default for GrantLimits {
    /// Xen's.
    fn default() -> Self {
        Self {
            version: 1,
            frames: 64,
            maptrack_frames: 1024,
        }
    }
}

/// CPUs of the board, a bit each, in the order of [`Board::cpus`](crate::Board::cpus).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet(u64);

impl CpuSet {
    /// All CPUs.
    pub const ALL: Self = Self(u64::MAX);

    /// The set with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set as bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether CPU number `cpu` is in it.
    pub const fn contains(self, cpu: u32) -> bool {
        cpu < u64::BITS && self.0 >> cpu & 1 == 1
    }
}

/// A guest, as described. Everything in it has been checked against the binding and the [`Limits`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DomainConfig {
    /// Name of its node, unit address included.
    pub name: String,
    /// RAM in bytes: a multiple of 4 KiB, not 0.
    pub memory: u64,
    /// Number of vCPUs, at least 1.
    pub vcpus: u32,
    /// CPUs that each vCPU may run on, as many entries as vCPUs (`xen,vcpu` nodes' `hard-affinity`).
    pub affinity: Vec<CpuSet>,
    /// How each vCPU is scheduled, as many entries as vCPUs.
    pub scheduling: Vec<Scheduling>,
    /// It has an emulated UART (`vpl011`).
    pub vpl011: bool,
    /// Shared interrupts, where the tree asks for a number (`nr_spis`).
    pub spis: Option<u32>,
    /// Paravirtual interfaces.
    pub enhanced: Enhanced,
    /// Bounds of its grant table.
    pub grants: GrantLimits,
    /// Accesses to nothing are faults; else they read all ones and write nothing
    /// (`trap-unmapped-accesses`).
    pub trap_unmapped: bool,
    /// Bytes for its translation tables, where the tree asks for a number (`xen,domain-p2m-mem-mb`).
    pub table_memory: Option<u64>,
    /// It has the console's input when everything has started (`viaduct,console-focus`).
    pub console_focus: bool,
    /// KiB of its last lines that the console keeps (`viaduct,scroll-back`), where the tree says how many.
    pub scroll_back: Option<u32>,
    /// What is done at its end, and whether it starts at boot.
    pub life: LifeConfig,
    /// Guests that it may deal with, by name (`viaduct,peers`); see [`are_peers`].
    pub peers: Vec<String>,
    /// Guests that start before it, by name (`viaduct,after`): such as there are, and nobody waits in a circle.
    pub after: Vec<String>,
    /// Its ends of static event channels (`xen,evtchn-v1`).
    pub channels: Vec<ChannelEnd>,
    /// The kernel.
    pub kernel: ModuleSource,
    /// The kernel is a raw binary, to be put so many bytes from the start of RAM and entered there
    /// (`viaduct,load-offset`).
    pub load_offset: Option<u64>,
    /// The tree goes so many bytes from the start of RAM (`viaduct,dtb-offset`).
    pub tree_offset: Option<u64>,
    /// The initial RAM disk.
    pub ramdisk: Option<ModuleSource>,
    /// A partial tree: which devices of the board it gets.
    pub device_tree: Option<ModuleSource>,
    /// Names of the modules' nodes, for messages.
    pub nodes: ModuleNodes,
    /// The command line (`bootargs` of the kernel's module).
    pub bootargs: Option<String>,
    /// Where in the board's memory its RAM lies, if the tree says it (`xen,static-mem`): whole 2 MiB blocks that are
    /// nobody else's, in the tree's order.
    pub static_memory: Vec<PaRange>,
    /// Its addresses are the board's own (`direct-map`).
    pub direct_map: bool,
    /// It has the board's devices (the hardware capability of "capabilities"); then it is direct-mapped.
    pub hardware: bool,
    /// Memory that it shares with others ("xen,domain-shared-memory-v1").
    pub shared: Vec<SharedMemory>,
}

impl DomainConfig {
    /// The banks of its RAM, as far as its description is right.
    pub(crate) fn banks(&self) -> Banks {
        if self.direct_map {
            let own = |range: &PaRange| IpaRange::new(Ipa::new(range.start().get()), range.size());
            let ranges = self.static_memory.iter().take(placement::MAX_BANKS);
            return ranges.filter_map(own).collect();
        }
        placement::banks(self.memory).unwrap_or_default()
    }

    /// Its files.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &ModuleSource> {
        let others = [&self.ramdisk, &self.device_tree].into_iter().flatten();
        core::iter::once(&self.kernel).chain(others)
    }

    /// The board's memory that it has by its place, and what it is: nobody else may have it.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (PaRange, &'static str)> {
        let fixed = self.static_memory.iter();
        let fixed = fixed.map(|range| (*range, "static memory"));
        let shared = self.shared.iter().filter_map(|shared| shared.host);
        let modules = self.modules();
        let modules = modules.filter_map(|source| match source {
            ModuleSource::Memory(range) => Some((*range, "a module")),
            ModuleSource::Image(_) => None,
        });
        let shared = shared.map(|range| (range, "shared memory"));
        fixed.chain(shared).chain(modules)
    }
}

/// What the board and the build allow.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Most vCPUs of a guest.
    pub vcpus: u32,
    /// Whose bound that is, for the message: "GICv2", "GICv3", "this build".
    pub vcpus_because: &'a str,
    /// CPUs of the board that run.
    pub cpus: u32,
    /// RAM: where modules may lie.
    pub memory: &'a [PaRange],
    /// What is taken of it: image, tree, bundle, reserved ranges. No module may lie there.
    pub taken: &'a [PaRange],
}

impl Limits<'_> {
    /// The bound on vCPUs: the GIC's, or `own` where that is lower. Returns the number and whose it is.
    pub fn vcpu_bound(gic_v3: bool, own: u32) -> (u32, &'static str) {
        let gic = if gic_v3 {
            MAX_VCPUS_GIC_V3
        } else {
            MAX_VCPUS_GIC_V2
        };
        match own < gic {
            true => (own, "Viaduct's bound"),
            false => (
                gic,
                if gic_v3 {
                    "GICv3's bound"
                } else {
                    "GICv2's bound"
                },
            ),
        }
    }
}

/// Where descriptions come from.
#[derive(Clone, Copy)]
pub enum Container<'a> {
    /// The host's tree: modules lie in memory, at `reg`.
    Host(Tree<'a>),
    /// A bundle: modules are images, by name.
    Bundle(Fit<'a>),
}

/// Reads all guests of a tree, in its order, and adds them to `domains`, which may hold some already: names and
/// memory of modules must differ from theirs too. Everything that is to be said goes to `report`.
pub fn read(
    container: &Container<'_>,
    limits: &Limits<'_>,
    domains: &mut Vec<DomainConfig>,
    report: &mut dyn FnMut(Problem),
) {
    let chosen = match container {
        Container::Host(tree) => tree.find("/chosen"),
        Container::Bundle(fit) => fit.tree().find("/chosen"),
    };
    read_below(chosen, container, limits, domains, report);
}

/// The same, for whoever has met `/chosen`.
pub(crate) fn read_below(
    chosen: Option<Node<'_>>,
    container: &Container<'_>,
    limits: &Limits<'_>,
    domains: &mut Vec<DomainConfig>,
    report: &mut dyn FnMut(Problem),
) {
    if let Some(chosen) = chosen {
        node::read(&chosen, container, limits, domains, report);
    }
}
