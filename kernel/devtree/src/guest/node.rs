//! Nodes of guests: which children of `/chosen` are guests, and what a guest's own properties say
//! (xen/common/device-tree/dom0less-bindings.c, dom0less-build.c).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;

use memory::PAGE_SIZE;

use super::module::{self, Kind, Module};
use super::{
    Container, CpuSet, DomainConfig, Enhanced, GrantLimits, LifeConfig, Limits, MAX_DOMAINS,
    MAX_SPIS, ModuleNodes, Scheduling, affinity, fixed, hardware, life, links, order, scheduling,
    shared,
};
use crate::placement;
use crate::properties::Properties;
use crate::tree::{Node, Property};
use crate::{Problem, Severity};

/// What is not built: the guest that asks for it would not be what its writer meant.
const NOT_BUILT: &str = "no such property: it is not supported";

pub(super) fn read(
    chosen: &Node<'_>,
    container: &Container<'_>,
    limits: &Limits<'_>,
    domains: &mut Vec<DomainConfig>,
    report: &mut dyn FnMut(Problem),
) {
    let tree = match container {
        Container::Host(tree) => *tree,
        Container::Bundle(fit) => fit.tree(),
    };
    let cells = Cells::of(
        &Properties::of(chosen),
        Cells::of(
            &Properties::of(&tree.root()),
            Cells {
                address: 2,
                size: 1,
            },
        ),
    );
    // Xen's own, in its own hand: everything else there is the firmware's.
    if let Some(heap) = chosen.property("xen,static-heap") {
        report(Problem::new(
            Severity::Warning,
            "/chosen",
            heap.name,
            heap,
            NOT_BUILT,
        ));
    }
    let first = domains.len();
    let mut dom0_seen = false;
    for child in chosen.children() {
        let path = format!("/chosen/{}", child.name());
        let child = Properties::of(&child);
        if child.is_compatible(&["xen,domain"]) {
            let mut context = Context {
                container,
                limits,
                path,
                refused: false,
                report,
            };
            if let Some(domain) = context.domain(&child, cells, domains) {
                domains.push(domain);
            }
        } else if child.is_compatible(&["multiboot,module", "xen,multiboot-module"]) {
            if !dom0_seen {
                let (found, expected) = (
                    "a module of a classic dom0",
                    "only guests: dom0 is left out",
                );
                report(Problem::new(Severity::Note, &path, "", found, expected));
            }
            dom0_seen = true;
        } else {
            stranger(&child, &path, report);
        }
    }
    links::join(domains, first, report);
}

/// A child of `/chosen` that is neither guest nor module. Most are somebody else's and no business of ours.
fn stranger(child: &Properties<'_>, path: &str, report: &mut dyn FnMut(Problem)) {
    const KNOWN: [&str; 3] = [
        "xen,cpupool",
        "xen,evtchn-v1",
        "xen,domain-shared-memory-v1",
    ];
    let compatible = child.property("compatible");
    let found = compatible.map_or("nothing".to_string(), |list| list.to_string());
    if child.is_compatible(&KNOWN) {
        let expected = "no such node: it is not supported";
        report(Problem::new(
            Severity::Warning,
            path,
            "compatible",
            found,
            expected,
        ));
    } else if child.property("memory").is_some() || child.property("cpus").is_some() {
        report(Problem::new(
            Severity::Warning,
            path,
            "compatible",
            found,
            "\"xen,domain\" on a guest",
        ));
    }
}

/// `#address-cells` and `#size-cells`. As on Xen, a node without them has its parent's.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    pub(super) address: u32,
    pub(super) size: u32,
}

impl Cells {
    fn of(node: &Properties<'_>, parent: Self) -> Self {
        Self {
            address: node.u32("#address-cells").unwrap_or(parent.address),
            size: node.u32("#size-cells").unwrap_or(parent.size),
        }
    }
}

/// A guest on its way to be read.
pub(super) struct Context<'c> {
    pub(super) container: &'c Container<'c>,
    pub(super) limits: &'c Limits<'c>,
    path: String,
    refused: bool,
    report: &'c mut dyn FnMut(Problem),
}

impl Context<'_> {
    /// The guest is left out. Reading goes on, so that one boot shows all that is wrong.
    pub(super) fn refuse(
        &mut self,
        below: &str,
        property: &str,
        found: impl Display,
        expected: impl Display,
    ) {
        self.refused = true;
        self.tell(Severity::Refused, below, property, &found, &expected);
    }

    pub(super) fn warn(
        &mut self,
        below: &str,
        property: &str,
        found: impl Display,
        expected: impl Display,
    ) {
        self.tell(Severity::Warning, below, property, &found, &expected);
    }

    // Out of the way of descriptions that are in order.
    #[cold]
    #[inline(never)]
    fn tell(
        &mut self,
        severity: Severity,
        below: &str,
        property: &str,
        found: &dyn Display,
        expected: &dyn Display,
    ) {
        let between = if below.is_empty() { "" } else { "/" };
        let node = format!("{}{between}{below}", self.path);
        (self.report)(Problem::new(severity, &node, property, found, expected));
    }

    fn domain(
        &mut self,
        node: &Properties<'_>,
        outer: Cells,
        others: &[DomainConfig],
    ) -> Option<DomainConfig> {
        if !node.is_enabled() {
            self.tell(
                Severity::Note,
                "",
                "status",
                &"a guest switched off",
                &"\"okay\" to start it",
            );
            return None;
        }
        let name = node.node().name().to_string();
        if others.iter().any(|other| other.name == name) {
            self.refuse("", "", "a second guest of this name", "names that differ");
        }
        if others.len() >= MAX_DOMAINS {
            self.refuse(
                "",
                "",
                "one guest more",
                format_args!("at most {MAX_DOMAINS} guests"),
            );
            return None;
        }
        let mut domain = DomainConfig {
            name,
            memory: 0,
            vcpus: 0,
            affinity: Vec::new(),
            scheduling: Vec::new(),
            vpl011: false,
            spis: None,
            enhanced: Enhanced::Off,
            grants: GrantLimits::default(),
            trap_unmapped: true,
            table_memory: None,
            console_focus: false,
            scroll_back: None,
            life: LifeConfig::default(),
            peers: Vec::new(),
            after: Vec::new(),
            channels: Vec::new(),
            kernel: super::ModuleSource::Image(String::new()),
            load_offset: None,
            tree_offset: None,
            ramdisk: None,
            device_tree: None,
            nodes: ModuleNodes::default(),
            bootargs: None,
            static_memory: Vec::new(),
            direct_map: false,
            hardware: false,
            shared: Vec::new(),
        };
        for property in node.iter() {
            self.property(&property, &mut domain);
        }
        hardware::read(self, node, &mut domain, others);
        fixed::read(self, node, outer, &mut domain, others);
        for (property, expected) in [
            ("memory", "two cells: KiB of RAM, 64 bits"),
            ("cpus", "one cell: the number of vCPUs"),
        ] {
            let has_usual = property == "memory" && domain.memory > 0;
            if node.property(property).is_none() && !has_usual {
                self.refuse("", property, "nothing", expected);
            }
        }
        let vcpus = usize::try_from(domain.vcpus).unwrap_or(0);
        domain.affinity = vec![CpuSet::ALL; vcpus];
        let usual = scheduling::read(self, node, "", Scheduling::default());
        domain.scheduling = vec![usual; vcpus];
        self.children(node.node(), Cells::of(node, outer), &mut domain, others);
        if domain.hardware && domain.device_tree.is_some() {
            let expected = "no partial tree beside \"capabilities\" <2>: it has the board's own";
            self.refuse(&domain.nodes.device_tree, "", "a partial tree", expected);
        }
        (!self.refused).then_some(domain)
    }

    fn property(&mut self, property: &Property<'_>, domain: &mut DomainConfig) {
        match property.name {
            "compatible" | "status" | "name" | "description" | "phandle" | "linux,phandle"
            | "#address-cells" | "#size-cells" => {}
            "memory" => domain.memory = self.memory(property),
            "cpus" => {
                let (most, because) = (self.limits.vcpus, self.limits.vcpus_because);
                let expected = format_args!("one cell: 1 to {most} ({because})");
                domain.vcpus = self.number(property, 1..=most, &expected);
            }
            // ImageBuilder writes <0x1>; even <0x0> switches it on, as on Xen.
            "vpl011" => domain.vpl011 = true,
            "nr_spis" => {
                let expected = format_args!("one cell: 0 to {MAX_SPIS}");
                domain.spis = Some(self.number(property, 0..=MAX_SPIS, &expected));
            }
            "xen,enhanced" => domain.enhanced = self.enhanced(property),
            "trap-unmapped-accesses" => {
                domain.trap_unmapped = self.number(property, 0..=1, &"<0> or <1>") == 1;
            }
            "xen,domain-p2m-mem-mb" => {
                let megabytes = self.number(property, 0..=u32::MAX, &"one cell: MiB");
                domain.table_memory = Some(u64::from(megabytes) << 20);
            }
            "max_grant_version" => {
                domain.grants.version = self.number(property, 1..=2, &"<1> or <2>");
            }
            "max_grant_frames" => domain.grants.frames = self.natural(property),
            "max_maptrack_frames" => domain.grants.maptrack_frames = self.natural(property),
            "viaduct,console-focus" => domain.console_focus = true,
            "viaduct,scroll-back" => {
                let expected = "one cell: 1 to 1024 KiB";
                domain.scroll_back = Some(self.number(property, 1..=1024, &expected));
            }
            // Read with the vCPUs.
            name if scheduling::is_known(name) => {}
            "viaduct,peers" => domain.peers = links::peers(self, property),
            "viaduct,after" => domain.after = order::after(self, property),
            // Read with each other: see `hardware`.
            hardware::CAPABILITIES | hardware::CONSENT => {}
            "sve" => {
                self.number(property, 0..=0, &"<0>: SVE is not supported");
            }
            "passthrough" if property.str() == Some("disabled") => {}
            "passthrough" => self.refuse(
                "",
                property.name,
                property,
                "\"disabled\": it is not supported",
            ),
            "xen,sci_type" if property.str() == Some("none") => {}
            "xen,sci_type" => self.refuse("", property.name, property, "\"none\""),
            // Read with each other: see `fixed`.
            "direct-map" | "xen,static-mem" => {}
            "domain-cpupool" | "llc-colors" | "v8r_el1_msa" | "vpmu" => {
                self.refuse("", property.name, property, NOT_BUILT);
            }
            _ if life::property(self, property, &mut domain.life) => {}
            _ => self.unknown("", property),
        }
    }

    /// A property that nobody knows: most often a known one, mistyped.
    pub(super) fn unknown(&mut self, below: &str, property: &Property<'_>) {
        self.warn(below, property.name, property, "a property of the binding");
    }

    /// One cell in a range. What is wrong is told, and the range's start returned.
    pub(super) fn number(
        &mut self,
        property: &Property<'_>,
        range: core::ops::RangeInclusive<u32>,
        expected: &dyn Display,
    ) -> u32 {
        match property.u32() {
            Some(number) if range.contains(&number) => number,
            _ => {
                self.refuse("", property.name, property, expected);
                *range.start()
            }
        }
    }

    fn natural(&mut self, property: &Property<'_>) -> u32 {
        const MOST: u32 = i32::MAX.cast_unsigned();
        self.number(property, 0..=MOST, &"one cell: 0 to 0x7fffffff")
    }

    fn memory(&mut self, property: &Property<'_>) -> u64 {
        let bytes = property
            .u64()
            .and_then(|kilobytes| kilobytes.checked_mul(1024));
        match bytes {
            Some(bytes) if placement::banks(bytes).is_some() => bytes,
            Some(bytes) if bytes > 0 && bytes <= placement::MAX_MEMORY => {
                let expected = format_args!("a multiple of {} KiB", PAGE_SIZE / 1024);
                self.refuse("", property.name, property, expected);
                0
            }
            _ => {
                let most = placement::MAX_MEMORY >> 10;
                let expected = format_args!("two cells: KiB of RAM, 64 bits, 4 to {most:#x}");
                self.refuse("", property.name, property, expected);
                0
            }
        }
    }

    fn enhanced(&mut self, property: &Property<'_>) -> Enhanced {
        if property.value.is_empty() {
            return Enhanced::Full;
        }
        match property.str() {
            Some("" | "enabled") => Enhanced::Full,
            Some("legacy") => Enhanced::Legacy,
            Some("no-xenstore") => Enhanced::WithoutXenstore,
            Some("disabled") => Enhanced::Off,
            // What Xen does, but it says nothing.
            _ => {
                let expected = "\"enabled\", \"no-xenstore\", \"legacy\" or \"disabled\"";
                self.warn("", property.name, property, expected);
                Enhanced::Off
            }
        }
    }

    fn children(
        &mut self,
        node: &Node<'_>,
        cells: Cells,
        domain: &mut DomainConfig,
        others: &[DomainConfig],
    ) {
        let (mut modules, mut shared) = (Vec::new(), Vec::new());
        let mut has_kernel = false;
        let mut pinned = vec![false; domain.affinity.len()];
        let usual = domain.scheduling.first().copied().unwrap_or_default();
        for child in node.children() {
            let name = child.name().to_string();
            let child = Properties::of(&child);
            let compatible = child.property("compatible");
            if compatible.is_some_and(|list| module::is_module(&list)) {
                has_kernel |= Kind::of(&child) == Some(Kind::Kernel);
                modules.extend(self.module(&child, &name, cells));
            } else if child.is_compatible(&["xen,vcpu"]) {
                let slots = (&mut *domain, &mut *pinned);
                affinity::read(self, &child, &name, slots, usual);
            } else if child.is_compatible(&["xen,evtchn-v1"]) {
                links::channel(self, child.node(), &name, domain);
            } else if child.is_compatible(&["xen,domain-shared-memory-v1"]) {
                shared.push(*child.node());
            } else {
                self.warn(
                    &name,
                    "",
                    "a node that is no module and no vCPU",
                    "a node of the binding",
                );
            }
        }
        if !has_kernel {
            let expected = "a child compatible with \"multiboot,kernel\"";
            self.refuse("", "", "no kernel", expected);
        }
        self.take_modules(modules, domain, others);
        // They must keep clear of the modules.
        for child in shared {
            shared::read(self, &child, cells, domain, others);
        }
    }

    fn take_modules(
        &mut self,
        modules: Vec<Module>,
        domain: &mut DomainConfig,
        others: &[DomainConfig],
    ) {
        let mut kernel = None;
        for module in modules {
            self.check_memory(&module, &kernel, domain, others);
            let (slot, name) = match module.kind {
                Kind::Kernel => (&mut kernel, &mut domain.nodes.kernel),
                Kind::Ramdisk => (&mut domain.ramdisk, &mut domain.nodes.ramdisk),
                Kind::DeviceTree => (&mut domain.device_tree, &mut domain.nodes.device_tree),
            };
            if slot.is_some() {
                let found = format!("a second {}", module.kind);
                self.refuse(&module.name, "compatible", found, "one of each kind");
                continue;
            }
            *slot = Some(module.source);
            *name = module.name;
            if module.kind == Kind::Kernel {
                domain.bootargs = module.bootargs;
                domain.load_offset = module.load_offset;
                domain.tree_offset = module.tree_offset;
            }
        }
        if let Some(kernel) = kernel {
            domain.kernel = kernel;
        }
    }
}
