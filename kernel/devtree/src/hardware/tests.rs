//! The board's tree as its guest gets it: QEMU's boards, a Pi 4, and trees with what those lack.

use memory::Pa;

use super::*;
use crate::dts;
use crate::fit::Fit;
use crate::guest::DomainConfig;
use crate::plan::{Plan, Planner};
use crate::tree::Node;

const BUNDLE: &[u8] = include_bytes!("../../tests/data/bundle.fit");
const VIRT_2: &[u8] = include_bytes!("../../tests/data/virt-gicv2.dtb");
const VIRT_3: &[u8] = include_bytes!("../../tests/data/virt-gicv3.dtb");
const PI_4: &str = include_str!("../../tests/data/pi4.dts");

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa::new(start), size).unwrap()
}

/// The first guest of the bundle, with the board's devices; what is told, each as a line.
fn plan_with(
    tree: &[u8],
    prepare: impl FnOnce(&mut DomainConfig),
) -> (Result<Plan<'_>, Error>, Vec<String>) {
    let board = Board::from_tree(tree).unwrap();
    let mut planner = Planner::new(&board, Some(Fit::new(BUNDLE).unwrap()));
    let mut configs = planner.describe(Tree::new(tree).unwrap(), &[], &mut |_| {});
    let mut config = configs.swap_remove(0);
    (config.hardware, config.direct_map) = (true, true);
    let ram = board.memory[0];
    config.static_memory = [range(ram.start().get() + (64 << 20), config.memory)].to_vec();
    prepare(&mut config);
    let plan = planner.plan(0, &config, &|_| unreachable!());
    let problems = planner.take_problems();
    (
        plan,
        problems.iter().map(|problem| problem.to_string()).collect(),
    )
}

fn plan(tree: &[u8]) -> (Plan<'_>, Vec<String>) {
    let (plan, told) = plan_with(tree, |_| {});
    (plan.unwrap(), told)
}

/// Pages and interrupts that a guest is given.
fn has(plan: &Plan<'_>, page: u64) -> bool {
    let mut registers = plan.assignment.registers.iter();
    registers.any(|(pages, at)| {
        assert_eq!(pages.start().get(), at.get(), "one to one");
        pages.contains(Pa::new(page))
    })
}

fn intids(plan: &Plan<'_>) -> Vec<u32> {
    let interrupts = plan.assignment.interrupts.iter();
    interrupts.map(|one| one.intid).collect()
}

fn cells(node: &Node<'_>, name: &str) -> Vec<u32> {
    node.property(name).unwrap().cells().collect()
}

fn is_off(tree: &Tree<'_>, path: &str) -> bool {
    !tree
        .find(path)
        .unwrap_or_else(|| panic!("{path}"))
        .is_enabled()
}

/// Nothing that EL2 keeps, no RAM but its own, each phandle once, no name of what is gone.
fn is_sane(board: &[u8], plan: &Plan<'_>) {
    let host = Board::from_tree(board).unwrap();
    for (pages, _) in &plan.assignment.registers {
        for (other, what) in kept(&host) {
            assert!(!other.overlaps(*pages), "{pages}: {what}");
        }
    }
    let tree = Tree::new(&plan.tree).unwrap();
    let mut walk = Walk::new(&tree);
    let mut phandles = Vec::new();
    while let Some(visit) = walk.next() {
        phandles.extend(visit.phandle);
    }
    let count = phandles.len();
    phandles.sort_unstable();
    phandles.dedup();
    assert_eq!(phandles.len(), count, "a phandle twice");
    for names in ["/aliases", "/__symbols__"] {
        for name in tree.find(names).iter().flat_map(Node::properties) {
            let path = name.str().unwrap();
            assert!(
                !path.starts_with('/') || tree.find(path).is_some(),
                "{name}"
            );
        }
    }
    // It is a board's tree again, with the guest's memory.
    let memory = tree.find("/memory").unwrap();
    assert_eq!(memory.str("device_type"), Some("memory"));
    assert_eq!(
        tree.root()
            .children()
            .filter(|node| node.name().is("memory"))
            .count(),
        1
    );
    assert_eq!(tree.find("/psci").unwrap().str("method"), Some("hvc"));
    assert!(plan.tree.len() as u64 <= plan.place.tree.size());
}

#[test]
fn virt_all_but_console_and_pcie() {
    for tree in [VIRT_2, VIRT_3] {
        let (plan, told) = plan(tree);
        is_sane(tree, &plan);
        // Flash, firmware configuration, clock, GPIO, 32 slots of 0x200 bytes.
        for page in [
            0, 0x400_0000, 0x902_0000, 0x901_0000, 0x903_0000, 0xa00_0000, 0xa00_3e00,
        ] {
            assert!(has(&plan, page), "{page:#x}");
        }
        for page in [
            0x800_0000,
            0x801_0000,
            0x804_0000,
            0x900_0000,
            0x1000_0000,
            0x40_1000_0000,
        ] {
            assert!(!has(&plan, page), "{page:#x}");
        }
        let intids = intids(&plan);
        assert!(intids.contains(&34) && intids.contains(&39) && !intids.contains(&33));
        assert!((48..80).all(|intid| intids.contains(&intid)), "{intids:?}");
        let guest = Tree::new(&plan.tree).unwrap();
        assert!(
            is_off(&guest, "/pl011@9000000") && is_off(&guest, "/pcie") && is_off(&guest, "/pmu")
        );
        assert!(!is_off(&guest, "/virtio_mmio@a003e00"));
        let lines = told.join("\n");
        assert!(lines.contains("found /pl011@9000000, expected pages clear of 0x9000000..0x9001000, the console's UART: left out"), "{lines}");
        assert!(
            lines.contains("found /pcie@10000000, expected message interrupts of its own"),
            "{lines}"
        );
    }
}

#[test]
fn virt_has_the_guests_interrupt_controller() {
    let (plan, _) = plan(VIRT_3);
    let guest = Tree::new(&plan.tree).unwrap();
    let gic = guest.find("/intc").unwrap();
    let size = 2 * 0x2_0000;
    assert_eq!(
        cells(&gic, "reg"),
        [0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, size]
    );
    assert_eq!(gic.u32("#redistributor-regions"), Some(1));
    assert_eq!(gic.children().count(), 0);
    assert!(gic.property("interrupts").is_none());
    let host = Tree::new(VIRT_3).unwrap();
    assert_eq!(
        gic.u32("phandle"),
        host.find("/intc").unwrap().u32("phandle")
    );
    let timer = guest.find("/timer").unwrap();
    assert_eq!(timer.u32("interrupt-parent"), gic.u32("phandle"));
    // The same machine's tree, read as a board's.
    assert_eq!(guest.find("/cpus").unwrap().children().count(), 2);

    let (plan, _) = self::plan(VIRT_2);
    let guest = Tree::new(&plan.tree).unwrap();
    let gic = guest.find("/intc").unwrap();
    assert_eq!(
        cells(&gic, "reg"),
        [0, 0x800_0000, 0, 0x1000, 0, 0x801_0000, 0, 0x2000]
    );
    assert_eq!(gic.children().count(), 0);
}

#[test]
fn a_pi_4_but_what_shares_a_page_with_the_console() {
    let source = PI_4
        .replace(
            "serial@7e215040 {",
            "aux: aux@7e215000 { compatible = \"brcm,bcm2835-aux\"; reg = <0x7e215000 0x8>; #clock-cells = <1>; phandle = <9>; };
             spi@7e215080 { compatible = \"brcm,bcm2835-aux-spi\"; reg = <0x7e215080 0x40>; interrupts = <0 93 4>; };
             serial@7e215040 {",
        )
        .replace("aux: ", "")
        .replace(
            "scb {",
            "emmc2bus { compatible = \"simple-bus\"; #address-cells = <2>; #size-cells = <1>;
                ranges = <0 0x7e000000 0 0xfe000000 0x1800000>; dma-ranges = <0 0xc0000000 0 0 0x40000000>;
                mmc@7e340000 { compatible = \"brcm,bcm2711-emmc2\"; reg = <0 0x7e340000 0x100>; interrupts = <0 126 4>; }; };
             zzsymbolszz { uart1 = \"/soc/serial@7e215040\"; cpu0 = \"/cpus/cpu@0\"; l2 = \"/cpus/l2-cache0\"; gicv2 = \"/soc/interrupt-controller@40041000\"; };
             scb {",
        );
    let mut bytes = dts::compile(&source);
    // The tests' writer of trees is stricter than those that boards' trees come from.
    let at = bytes
        .windows(11)
        .position(|name| name == b"zzsymbolszz")
        .unwrap();
    bytes[at..at + 11].copy_from_slice(b"__symbols__");
    let (plan, told) = plan(&bytes);
    is_sane(&bytes, &plan);
    for page in [
        0xfe34_0000,
        0xfe20_0000,
        0xfe20_1000,
        0xfe10_4000,
        0xfd58_0000,
        0xfe00_3000,
    ] {
        assert!(has(&plan, page), "{page:#x}");
    }
    for page in [
        0xfe21_5000,
        0xfe10_0000,
        0xff84_1000,
        0xff84_6000,
        0xff80_0000,
    ] {
        assert!(!has(&plan, page), "{page:#x}");
    }
    assert_eq!(intids(&plan), [96, 97, 153, 158]);
    let guest = Tree::new(&plan.tree).unwrap();
    for path in [
        "/soc/aux",
        "/soc/spi",
        "/soc/serial@7e215040",
        "/soc/watchdog",
        "/soc/local_intc",
    ] {
        assert!(is_off(&guest, path), "{path}");
    }
    let gic = guest.find("/soc/interrupt-controller").unwrap();
    assert_eq!(
        cells(&gic, "reg"),
        [0x4004_1000, 0x1000, 0x4004_2000, 0x2000]
    );
    let symbols = guest.find("/__symbols__").unwrap();
    assert_eq!(symbols.str("cpu0"), Some("/cpus/cpu@0"));
    assert!(symbols.str("l2").is_none() && symbols.str("gicv2").is_some());
    // The console is the guest's own UART, under the board's name for it.
    let uart = guest.find("/chosen").unwrap().str("stdout-path").unwrap();
    assert_eq!(uart, "/sbsa-uart@fe215000");
    assert_eq!(symbols.str("uart1"), Some(uart));
    assert_eq!(guest.find("/aliases").unwrap().str("serial1"), Some(uart));
    // What the firmware set aside is not in its memory; what Linux sets aside itself is kept.
    assert!(is_off(&guest, "/reserved-memory/nvram@3ef62400"));
    assert!(!is_off(&guest, "/reserved-memory/linux,cma"));
    let memory = guest.find("/memory").unwrap();
    assert_eq!(cells(&memory, "reg"), [0, 0x400_0000, 0x400_0000]);
    let lines = told.join("\n");
    assert!(
        lines.contains("/soc/watchdog@7e100000, expected pages clear of"),
        "{lines}"
    );
    assert!(!lines.contains("by DMA, expected all"), "{lines}");
    assert!(
        lines.contains("devices, ") && lines.contains("4 interrupt(s)"),
        "{lines}"
    );
}

#[test]
fn memory_out_of_a_devices_reach_is_told() {
    let source = PI_4.replace(
        "scb {",
        "emmc2bus { #address-cells = <2>; #size-cells = <1>; ranges;
            dma-ranges = <0 0xc0000000 0 0 0x20000000>, <0 0xe0000000 0 0x20000000 0x10000000>;
            deep { #address-cells = <1>; #size-cells = <1>; ranges = <0 0 0 0>; dma-ranges = <0 0 0xc0000000 0x1000000>; }; };
         scb {",
    );
    let bytes = dts::compile(&source);
    let told = |start: u64| {
        let (plan, told) = plan_with(&bytes, |config| {
            config.static_memory = [range(start, config.memory)].to_vec();
        });
        plan.unwrap();
        told.join("\n")
    };
    let lines = told(0x400_0000);
    assert!(!lines.contains("/emmc2bus, whose"), "{lines}");
    // What lies in two windows side by side is reached.
    assert!(!told(0x1e00_0000).contains("/emmc2bus, whose"));
    let lines = told(0x2e00_0000);
    assert!(lines.contains("/emmc2bus, whose devices reach 0x0..0x30000000 by DMA, expected all of the guest's RAM 0x2e000000..0x32000000 within it"), "{lines}");
    assert!(
        lines.contains("/emmc2bus/deep, whose devices reach 0x0..0x1000000"),
        "{lines}"
    );
}

/// A board with interrupts that go everywhere.
const WIRED: &str = "/ { #address-cells = <2>; #size-cells = <2>; interrupt-parent = <1>;
    memory@40000000 { device_type = \"memory\"; reg = <0 0x40000000 0 0x40000000>; };
    cpus { #address-cells = <1>; #size-cells = <0>; cpu@0 { device_type = \"cpu\"; reg = <0>; phandle = <5>; }; };
    gic { compatible = \"arm,gic-400\"; interrupt-controller; #interrupt-cells = <3>; #address-cells = <1>; phandle = <1>;
        reg = <0 0x8000000 0 0x1000 0 0x8010000 0 0x2000 0 0x8020000 0 0x2000 0 0x8030000 0 0x2000>; };
    pins { interrupt-controller; #interrupt-cells = <2>; phandle = <2>; interrupts = <0 10 4>; };
    one { reg = <0 0x9000000 0 0x10>; interrupts-extended = <2 7 1>, <1 0 11 4>, <2 8 1>, <1 0 12 1>; };
    two { reg = <0 0x9001000 0 0x10>; interrupt-parent = <2>; interrupts = <0 99 4>; };
    three { reg = <0 0x9002000 0 0x10>; interrupts-extended = <77 1>, <1 0 98 4>; };
    off { status = \"disabled\"; reg = <0 0x9003000 0 0x10>; interrupts = <0 97 4>;
        #address-cells = <2>; #size-cells = <2>; ranges; below { reg = <0 0x9004000 0 0x10>; interrupts = <0 96 4>; }; };
    pcie { device_type = \"pci\"; #address-cells = <3>; #size-cells = <2>; #interrupt-cells = <1>; phandle = <3>; msi-parent = <3>;
        reg = <0 0x9005000 0 0x1000>; ranges = <0x2000000 0 0xf8000000 6 0 0 0x4000000>;
        dma-ranges = <0x2000000 0 0 0 0 0 0x60000000>;
        interrupt-map = <0 0 0 1 1 0 0 20 4>, <0 0 0 2 1 0 0 21 4>, <0 0 0 3 2 5 1>; };
    far { reg = <0xff 0xfffff000 0 0x2000>; };
    ram { reg = <0 0x50000000 0 0x1000>; }; };";

#[test]
fn interrupts_are_found_wherever_they_go() {
    let bytes = dts::compile(WIRED);
    let (plan, told) = plan_with(&bytes, |config| config.vcpus = 1);
    let plan = plan.unwrap();
    is_sane(&bytes, &plan);
    assert_eq!(intids(&plan), [42, 43, 44, 52, 53]);
    let edge: Vec<bool> = plan
        .assignment
        .interrupts
        .iter()
        .map(|one| one.edge)
        .collect();
    assert_eq!(edge, [false, false, true, false, false]);
    for page in [
        0x900_0000,
        0x900_1000,
        0x900_2000,
        0x900_5000,
        0x6_0000_0000,
        0x6_03ff_f000,
    ] {
        assert!(has(&plan, page), "{page:#x}");
    }
    assert!(!has(&plan, 0x900_3000) && !has(&plan, 0x900_4000) && !has(&plan, 0x6_0400_0000));
    let lines = told.join("\n");
    assert!(
        lines.contains("found /far, expected registers below 0x10000000000: left out"),
        "{lines}"
    );
    assert!(
        lines.contains(
            "found /ram, expected pages clear of 0x40000000..0x80000000, the board's RAM"
        ),
        "{lines}"
    );
    assert!(
        !lines.contains("/pcie, expected") && !lines.contains("/pcie, whose"),
        "{lines}"
    );
    let guest = Tree::new(&plan.tree).unwrap();
    assert_eq!(guest.find("/cpus/cpu@0").unwrap().u32("phandle"), Some(5));
}

#[test]
fn what_others_have_stays_out() {
    let bytes = dts::compile(WIRED);
    let board = Board::from_tree(&bytes).unwrap();
    let machine = plan_with(&bytes, |config| config.vcpus = 1)
        .0
        .unwrap()
        .machine;
    let mut assigned = Assigned::default();
    let other = Assignment {
        registers: [(range(0x900_1000, 0x1000), Ipa::new(0))].to_vec(),
        interrupts: [Interrupt {
            intid: 43,
            edge: false,
        }]
        .to_vec(),
        devices: Vec::new(),
    };
    assigned.add("other", &other);
    let mut problems = Vec::new();
    let mut survey = Survey {
        board: &board,
        tree: Tree::new(&bytes).unwrap(),
        assigned: &assigned,
        machine: &machine,
        guest: "/chosen/linux",
        problems: &mut problems,
    };
    let (_, assignment) = survey.run().unwrap();
    let lines: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    let lines = lines.join("\n");
    assert!(lines.contains("/chosen/linux: capabilities: found /one, expected interrupts other than 43, which other has: left out"), "{lines}");
    assert!(
        lines.contains("found /two, expected pages clear of 0x9001000..0x9002000, which other has"),
        "{lines}"
    );
    assert!(
        assignment
            .interrupts
            .iter()
            .all(|one| ![43, 44].contains(&one.intid))
    );
}

/// Told of too little: RAM not found in one piece, an interrupt controller without room, cells that say too little.
#[test]
fn what_cannot_be() {
    let (plan, _) = plan_with(VIRT_3, |config| config.static_memory.clear());
    assert_eq!(plan.unwrap_err(), Error::NoPlace("its RAM in one piece"));
    let narrow = "/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <1>;
        memory { device_type = \"memory\"; reg = <0x40000000 0x40000000>; };
        cpus { #address-cells = <1>; #size-cells = <0>; cpu@0 { device_type = \"cpu\"; reg = <0>; }; };
        gic { compatible = \"arm,gic-400\"; #interrupt-cells = <3>; phandle = <1>;
            reg = <0x8000000 0x1000 0x8010000 0x2000 0x8020000 0x2000 0x8030000 0x2000>; }; };";
    let bytes = dts::compile(narrow);
    let (plan, _) = plan_with(&bytes, |config| config.vcpus = 1);
    // The window for grants lies above 4 GiB.
    assert_eq!(
        plan.unwrap_err(),
        Error::Writing("the board's cells cannot say an address")
    );
    let (plan, _) = plan_with(&bytes, |config| {
        (config.vcpus, config.enhanced) = (1, crate::guest::Enhanced::Off);
    });
    is_sane(&bytes, &plan.unwrap());
}

/// The RAM is found: the lowest that is free in one piece.
#[test]
fn a_place_for_its_memory() {
    let source = PI_4.replace(
        "stdout-path",
        "#address-cells = <2>; #size-cells = <2>;
         one { compatible = \"xen,domain\"; memory = <0 0x8000>; cpus = <1>; xen,static-mem = <0 0x10000000 0 0x2000000>;
            kernel { compatible = \"multiboot,module\", \"multiboot,kernel\"; reg = <0 0x9000000 0 0x1000>; }; };
         linux { compatible = \"xen,domain\"; cpus = <1>; capabilities = <2>; xen,force-assign-without-iommu;
            kernel { compatible = \"multiboot,module\", \"multiboot,kernel\"; reg = <0 0x9001000 0 0x1000>; }; };
         dummy = \"x\"; stdout-path",
    );
    // Properties come before nodes.
    let (before, after) = source.split_once("one {").unwrap();
    let (nodes, rest) = after.split_once("dummy = \"x\";").unwrap();
    let (properties, rest) = rest.split_once("};").unwrap();
    let source = format!("{before}{properties} one {{{nodes} }};{rest}");
    let bytes = dts::compile(&source);
    let board = Board::from_tree(&bytes).unwrap();
    let mut planner = Planner::new(&board, None);
    let taken = [range(0x20_0000, 0x20_0000), range(0x800_0000, 0x12_3456)];
    let tree = Tree::new(&bytes).unwrap();
    let configs = planner.describe(tree, &taken, &mut |problem| panic!("{problem}"));
    assert_eq!(configs[1].static_memory, [range(0x1200_0000, 512 << 20)]);
    assert!(configs[1].hardware && configs[1].direct_map);
    assert_eq!(configs[1].memory, 512 << 20);
    assert_eq!(crate::plan::order(&configs).collect::<Vec<_>>(), [0, 1]);
    assert!(crate::plan::heap_for_hardware(&tree, &configs) > 0);
}
