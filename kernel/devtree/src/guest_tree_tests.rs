//! Guest trees, read back.

use memory::Ipa;

use super::*;
use crate::Tree;
use crate::tree::Node;

fn range(start: u64, size: u64) -> IpaRange {
    IpaRange::new(Ipa::new(start), size).unwrap()
}

fn description() -> GuestTree<'static> {
    GuestTree {
        affinities: &[0, 1],
        cpu_compatible: "arm,cortex-a72",
        memory: &[],
        shared: &[],
        gic: GuestGic::V3 {
            distributor: range(0x300_1000, 0x1_0000),
            redistributors: range(0x302_0000, 0x100_0000),
        },
        timer_frequency: None,
        timers: [29, 30, 27, 26],
        uart: Some((range(0x2200_0000, 0x1000), 32)),
        hypervisor: None,
        initrd: None,
        bootargs: None,
        gic_phandle: GIC,
        partial: None,
        hardware: None,
    }
}

fn cells(node: &Node<'_>, property: &str) -> Vec<u32> {
    node.property(property).unwrap().cells().collect()
}

fn texts(node: &Node<'_>, property: &str) -> Vec<String> {
    let property = node.property(property).unwrap();
    property.strings().map(str::to_string).collect()
}

#[test]
fn a_linux_guest() {
    let banks = [
        range(0x4000_0000, 0xc000_0000),
        range(0x2_0000_0000, 0x4000_0000),
    ];
    let extended = [range(0x2_4000_0000, 0xfd_c000_0000)];
    let bytes = GuestTree {
        memory: &banks,
        shared: &[],
        hypervisor: Some(Hypervisor {
            version: (4, 20),
            grant_window: range(0x3800_0000, 0x100_0000),
            extended_regions: &extended,
            upcall: 31,
        }),
        initrd: Some(range(0x4820_0000, 0x12_3456)),
        bootargs: Some("console=hvc0 root=/dev/ram"),
        timer_frequency: Some(54_000_000),
        ..description()
    }
    .write()
    .unwrap();
    let tree = Tree::new(&bytes).unwrap();
    let node = |path: &str| tree.find(path).unwrap_or_else(|| panic!("{path}"));

    let root = tree.root();
    assert_eq!(
        (root.u32("#address-cells"), root.u32("#size-cells")),
        (Some(2), Some(2))
    );
    assert_eq!(root.u32("interrupt-parent"), Some(65000));
    assert!(root.is_compatible(&["xen,xenvm"]) && root.str("model").is_some());

    let chosen = node("/chosen");
    assert_eq!(chosen.str("bootargs"), Some("console=hvc0 root=/dev/ram"));
    assert_eq!(chosen.str("stdout-path"), Some("/sbsa-uart@22000000"));
    assert_eq!(cells(&chosen, "linux,initrd-start"), [0, 0x4820_0000]);
    assert_eq!(cells(&chosen, "linux,initrd-end"), [0, 0x4832_3456]);
    assert_eq!(node("/aliases").str("serial0"), Some("/sbsa-uart@22000000"));

    assert_eq!(node("/cpus").children().count(), 2);
    let cpu = node("/cpus/cpu@1");
    assert_eq!(cells(&cpu, "reg"), [1]);
    assert_eq!(
        (cpu.str("device_type"), cpu.str("enable-method")),
        (Some("cpu"), Some("psci"))
    );
    assert_eq!(cpu.str("compatible"), Some("arm,cortex-a72"));

    let memory = node("/memory@40000000");
    assert_eq!(
        cells(&memory, "reg"),
        [0, 0x4000_0000, 0, 0xc000_0000, 2, 0, 0, 0x4000_0000]
    );

    let gic = node("/interrupt-controller@3001000");
    assert_eq!(texts(&gic, "compatible"), ["arm,gic-v3"]);
    assert_eq!(gic.u32("phandle"), Some(65000));
    assert_eq!(
        cells(&gic, "reg"),
        [0, 0x300_1000, 0, 0x1_0000, 0, 0x302_0000, 0, 0x100_0000]
    );
    assert_eq!(gic.u32("#redistributor-regions"), Some(1));

    let timer = node("/timer");
    let expected = [1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08, 1, 10, 0xf08];
    assert_eq!(cells(&timer, "interrupts"), expected);
    assert_eq!(timer.u32("clock-frequency"), Some(54_000_000));

    let uart = node("/sbsa-uart@22000000");
    assert_eq!(texts(&uart, "compatible"), ["arm,sbsa-uart", "arm,pl011"]);
    assert_eq!(cells(&uart, "interrupts"), [0, 0, 4]);

    let hypervisor = node("/hypervisor");
    assert_eq!(
        texts(&hypervisor, "compatible"),
        ["xen,xen-4.20", "xen,xen"]
    );
    assert_eq!(
        cells(&hypervisor, "reg")[..4],
        [0, 0x3800_0000, 0, 0x100_0000]
    );
    assert_eq!(
        cells(&hypervisor, "reg")[4..],
        [2, 0x4000_0000, 0xfd, 0xc000_0000]
    );
    assert_eq!(cells(&hypervisor, "interrupts"), [1, 15, 0xf08]);

    let psci = node("/psci");
    assert_eq!(psci.str("method"), Some("hvc"));
    assert!(psci.is_compatible(&["arm,psci-0.2"]));
}

#[test]
fn a_plain_guest_is_told_of_nothing_else() {
    let bytes = GuestTree {
        uart: None,
        cpu_compatible: "",
        memory: &[range(0x4000_0000, 0x40_0000)],
        gic: GuestGic::V2 {
            distributor: range(0x300_1000, 0x1000),
            cpu_interface: range(0x300_2000, 0x2000),
        },
        ..description()
    }
    .write()
    .unwrap();
    let tree = Tree::new(&bytes).unwrap();
    for path in ["/hypervisor", "/sbsa-uart", "/aliases"] {
        assert!(tree.find(path).is_none(), "{path}");
    }
    let chosen = tree.find("/chosen").unwrap();
    assert_eq!(chosen.properties().count(), 0);
    assert_eq!(
        tree.find("/cpus/cpu@0").unwrap().str("compatible"),
        Some("arm,armv8")
    );
    let gic = tree.find("/interrupt-controller").unwrap();
    assert!(gic.is_compatible(&["arm,gic-400"]) && gic.u32("#redistributor-regions").is_none());
}

#[test]
fn the_largest_tree_fits_its_room() {
    let affinities: Vec<u64> = (0..128)
        .map(|vcpu| ((vcpu / 16) << 8) | (vcpu % 16))
        .collect();
    let line = "a".repeat(1024);
    let bytes = GuestTree {
        affinities: &affinities,
        cpu_compatible: &"c".repeat(64),
        bootargs: Some(&line),
        ..description()
    }
    .write()
    .unwrap();
    assert!(Tree::new(&bytes).unwrap().find("/cpus/cpu@70f").is_some());
    assert!(bytes.len() < 32 * 1024, "{}", bytes.len());

    let line = "a".repeat(usize::try_from(TREE_SIZE).unwrap());
    let too_large = GuestTree {
        bootargs: Some(&line),
        ..description()
    };
    assert!(matches!(too_large.write(), Err(Error::Writing(_))));
    let with_nul = GuestTree {
        bootargs: Some("a\0b"),
        ..description()
    };
    assert!(matches!(with_nul.write(), Err(Error::Writing(_))));
}

#[test]
fn shared_memory_is_memory_and_reserved() {
    let range = IpaRange::new(Ipa::new(0x8000_0000), 0x3000).unwrap();
    let shared = [SharedMemory {
        node: "s".into(),
        id: "mailbox".into(),
        host: None,
        guest: range,
        owner: true,
    }];
    let banks = crate::placement::banks(16 << 20).unwrap();
    let tree = GuestTree {
        memory: &banks,
        shared: &shared,
        ..description()
    };
    let bytes = tree.write().unwrap();
    let tree = Tree::new(&bytes).unwrap();
    let node = tree.find("/reserved-memory/xen-shmem@80000000").unwrap();
    assert_eq!(node.str("compatible"), Some("xen,shared-memory-v1"));
    assert_eq!(node.str("xen,id"), Some("mailbox"));
    let cells: Vec<u32> = node.property("reg").unwrap().cells().collect();
    assert_eq!(cells, [0, 0x8000_0000, 0, 0x3000]);
    assert!(
        tree.find("/reserved-memory")
            .unwrap()
            .property("ranges")
            .is_some()
    );
    let memory = tree.find("/memory").unwrap();
    let cells: Vec<u32> = memory.property("reg").unwrap().cells().collect();
    assert_eq!(
        cells,
        [0, 0x4000_0000, 0, 0x100_0000, 0, 0x8000_0000, 0, 0x3000]
    );
}
