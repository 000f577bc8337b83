//! Boards: QEMU's two, a Pi 4 as QEMU edits it, and trees that lack things.

use super::*;
use crate::{Error, UartKind, dts, early};

const VIRT_2: &[u8] = include_bytes!("../../tests/data/virt-gicv2.dtb");
const VIRT_3: &[u8] = include_bytes!("../../tests/data/virt-gicv3.dtb");
const PI_4: &str = include_str!("../../tests/data/pi4.dts");

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa::new(start), size).unwrap()
}

fn level(intid: u32) -> Interrupt {
    Interrupt { intid, edge: false }
}

fn pi4() -> Vec<u8> {
    let mut tree = dts::compile(PI_4);
    for node in [
        "timer@7e003000",
        "thermal-zones",
        "rng@7e104000",
        "ethernet@7d580000",
        "local_intc@40000000",
    ] {
        dts::blank_node(&mut tree, node);
    }
    tree
}

#[test]
fn virt_with_gicv3() {
    let board = Board::from_tree(VIRT_3).unwrap();
    assert_eq!(&board.model, "linux,dummy-virt");
    assert_eq!(board.memory[..], [range(0x4000_0000, 1 << 30)]);
    assert_eq!(board.cpus.len(), 4);
    assert!(board.cpus.iter().enumerate().all(|(number, cpu)| {
        *cpu == Cpu {
            mpidr: number as u64,
            start: StartMethod::Psci,
        }
    }));
    assert_eq!(&board.cpu_compatible, "arm,cortex-a72");
    assert_eq!(board.psci, Some(Conduit::Smc));
    let Gic::V3 {
        distributor,
        redistributors,
        maintenance,
    } = board.gic
    else {
        panic!()
    };
    assert_eq!(distributor, range(0x800_0000, 0x1_0000));
    assert_eq!(redistributors[..], [range(0x80a_0000, 0xf6_0000)]);
    assert_eq!(maintenance, level(25));
    assert_eq!(board.timer.physical, level(30));
    assert_eq!(board.timer.virtual_timer, level(27));
    assert_eq!(board.timer.hypervisor, level(26));
    let console = Uart {
        kind: UartKind::Pl011,
        registers: range(0x900_0000, 0x1000),
        interrupt: Some(level(33)),
        clock: Some(24_000_000),
    };
    assert_eq!(board.console, Some(console));
    assert_eq!(board.second_uart, None);
    assert_eq!(early::console(VIRT_3).unwrap().registers, console.registers);
    assert_eq!((board.initrd, &*board.bootargs), (None, ""));
    // What it takes on EL2's boot stack.
    assert!(size_of::<Board>() < 6 * 1024, "{}", size_of::<Board>());
}

#[test]
fn virt_with_gicv2() {
    let board = Board::from_tree(VIRT_2).unwrap();
    let expected = Gic::V2 {
        distributor: range(0x800_0000, 0x1_0000),
        cpu_interface: range(0x801_0000, 0x1_0000),
        hypervisor_interface: range(0x803_0000, 0x1_0000),
        virtual_cpu_interface: range(0x804_0000, 0x1_0000),
        maintenance: level(25),
    };
    assert_eq!(board.gic, expected);
}

#[test]
fn pi_4_with_blanked_nodes() {
    for tree in [dts::compile(PI_4), pi4()] {
        let board = Board::from_tree(&tree).unwrap();
        assert_eq!(&board.model, "Raspberry Pi 4 Model B");
        assert_eq!(
            board.memory[..],
            [range(0, 0x3c00_0000), range(0x4000_0000, 0x3c00_0000)]
        );
        let expected = [
            Reserved {
                range: range(0, 0x1000),
                no_map: false,
            },
            Reserved {
                range: range(0x3ef6_2400, 0x58),
                no_map: true,
            },
        ];
        assert_eq!(board.reserved[..], expected);
        assert_eq!(board.cpus.len(), 4);
        assert_eq!(
            board.cpus[3],
            Cpu {
                mpidr: 3,
                start: StartMethod::SpinTable(Pa::new(0xf0))
            }
        );
        assert_eq!(board.psci, None);
        let expected = Gic::V2 {
            distributor: range(0xff84_1000, 0x1000),
            cpu_interface: range(0xff84_2000, 0x2000),
            hypervisor_interface: range(0xff84_4000, 0x2000),
            virtual_cpu_interface: range(0xff84_6000, 0x2000),
            maintenance: level(25),
        };
        assert_eq!(board.gic, expected);
        let console = board.console.unwrap();
        assert_eq!(console.kind, UartKind::MiniUart);
        assert_eq!(console.registers, range(0xfe21_5040, 0x40));
        assert_eq!(console.interrupt, Some(level(125)));
        // Bluetooth hangs on the one, the other is switched off.
        assert_eq!(board.second_uart, None);
        assert_eq!(early::console(&tree).unwrap().registers, console.registers);
        assert_eq!(board.watchdog, Some(range(0xfe10_0000, 0x114)));
        assert_eq!(board.initrd, Some(range(0x800_0000, 0x12_3456)));
        assert_eq!(&board.bootargs, "loglevel=info");
    }
}

/// A board with room for one more line in the root and in /chosen.
fn small(root: &str, chosen: &str) -> Vec<u8> {
    dts::compile(&format!(
        "/ {{ #address-cells = <2>; #size-cells = <2>; interrupt-parent = <9>;
            chosen {{ {chosen} }};
            aliases {{ serial0 = \"uart\"; uart = \"/a@1000\"; loop = \"loop\"; }};
            cpus {{ #address-cells = <2>; #size-cells = <0>;
                cpu@0 {{ device_type = \"cpu\"; reg = <0x1 0x81000203>; enable-method = \"psci\"; }}; }};
            gic {{ compatible = \"arm,gic-400\"; #interrupt-cells = <3>; phandle = <9>;
                reg = <0 0x1000 0 0x1000  0 0x2000 0 0x1000  0 0x3000 0 0x1000  0 0x4000 0 0x1000>; }};
            a@1000 {{ compatible = \"arm,pl011\"; reg = <0 0x1000 0 0x1000>; interrupts-extended = <9 0 7 1>; }};
            b@2000 {{ compatible = \"arm,sbsa-uart\"; reg = <0 0x2000 0 0x1000>; interrupts = <0 8 4>;
                interrupt-parent = <5>; }};
            off@3000 {{ compatible = \"arm,pl011\"; reg = <0 0x3000 0 0x1000>; status = \"disabled\"; }};
            {root} }};"
    ))
}

const RAM: &str = "memory { device_type = \"memory\"; reg = <0 0x40000000 0 0x1000000>; };";

#[test]
fn the_console_is_found_by_option_path_or_order() {
    let cases = [
        ("", 0x1000),
        ("stdout-path = \"/b\";", 0x2000),
        ("stdout-path = \"/b@2000:9600\";", 0x2000),
        ("stdout-path = \"serial0:115200n8\";", 0x1000),
        (
            "stdout-path = \"/b\"; xen,xen-bootargs = \"console=dtuart dtuart=serial0 x\";",
            0x1000,
        ),
        ("stdout-path = \"/nowhere\";", 0x1000),
        ("stdout-path = \"/b@3\";", 0x1000),
        ("stdout-path = \"/off@3000\";", 0x1000),
        ("stdout-path = \"loop\";", 0x1000),
        ("stdout-path = [ 41 42 ];", 0x1000),
    ];
    for (chosen, expected) in cases {
        let tree = small(RAM, chosen);
        let found = early::console(&tree).unwrap();
        assert_eq!(found.registers.start(), Pa::new(expected), "{chosen}");
        let board = Board::from_tree(&tree).unwrap();
        assert_eq!(
            board.console.unwrap().registers,
            found.registers,
            "{chosen}"
        );
        assert_ne!(
            board.second_uart.unwrap().registers,
            found.registers,
            "{chosen}"
        );
    }
    assert_eq!(early::console(b"no tree"), None);
    assert_eq!(early::console(&dts::compile("/ { };")), None);
}

#[test]
fn interrupts_are_those_of_the_gic() {
    let board = Board::from_tree(&small(RAM, "")).unwrap();
    assert_eq!(
        board.console.unwrap().interrupt,
        Some(Interrupt {
            intid: 39,
            edge: true
        })
    );
    // Another controller's.
    assert_eq!(board.second_uart.unwrap().interrupt, None);
    // No timer node: the usual numbers. No interrupts at the GIC: the usual one.
    assert_eq!(board.timer.virtual_timer, level(27));
    assert!(matches!(
        board.gic,
        Gic::V2 {
            maintenance: Interrupt { intid: 25, .. },
            ..
        }
    ));
    let timer = "timer { compatible = \"arm,armv8-timer\"; interrupt-names = \"virt\", \"phys\", \"hyp-phys\";
        interrupts = <1 1 4 1 2 4 1 3 1>; clock-frequency = <1000>; };";
    let timer = Board::from_tree(&small(&format!("{RAM}{timer}"), ""))
        .unwrap()
        .timer;
    assert_eq!(
        (timer.virtual_timer, timer.physical),
        (level(17), level(18))
    );
    assert_eq!((timer.hypervisor.edge, timer.frequency), (true, Some(1000)));
}

#[test]
fn only_affinity_is_left_of_a_cpu_number() {
    let board = Board::from_tree(&small(RAM, "")).unwrap();
    assert_eq!(board.cpus[0].mpidr, 0x1_0000_0203);
}

#[test]
fn memory_is_sorted_and_merged() {
    let memory = "memory@1 { device_type = \"memory\";
        reg = <0 0x3000 0 0x1000  0 0x9000 0 0x1000  0 0x1000 0 0x2000  0 0 0 0  0 0x9800 0 0x100>; };
        memory@2 { device_type = \"memory\"; status = \"disabled\"; reg = <0 0x70000000 0 0x1000>; };";
    let board = Board::from_tree(&small(memory, "")).unwrap();
    assert_eq!(
        board.memory[..],
        [range(0x1000, 0x3000), range(0x9000, 0x1000)]
    );
}

#[test]
fn what_is_missing_is_named() {
    let missing = |tree: &[u8]| Board::from_tree(tree).unwrap_err();
    assert_eq!(missing(&small("", "")), Error::Missing("memory"));
    assert_eq!(missing(b""), Error::NotATree);
    let no_gic = "/ { memory { device_type = \"memory\"; reg = <0 0 1>; }; };";
    assert!(
        matches!(missing(&dts::compile(no_gic)), Error::Missing(what) if what.contains("interrupt"))
    );
    // QEMU without virtualization=on.
    let tree = PI_4.replace(", <0x40044000 0x2000>, <0x40046000 0x2000>", "");
    assert_eq!(
        missing(&dts::compile(&tree)),
        Error::Missing("GIC hypervisor interface (GICH)")
    );
    // A bus that passes nothing on.
    let tree = PI_4.replace(
        "<0x40000000 0x0 0xff800000 0x00800000>",
        "<0x50000000 0x0 0xff800000 0x1000>",
    );
    assert_eq!(
        missing(&dts::compile(&tree)),
        Error::Missing("GIC distributor")
    );
}

#[test]
fn cpus_beyond_the_bound_are_counted() {
    let cpus: String = (0..20)
        .map(|number| format!("cpu@{number:x} {{ device_type = \"cpu\"; reg = <{number}>; }};"))
        .collect();
    let (before, after) = PI_4.split_once("cpu@0 {").unwrap();
    let tree = dts::compile(&format!("{before} {cpus} cpu@0 {{ {after}"));
    let board = Board::from_tree(&tree).unwrap();
    assert_eq!((board.cpus.len(), board.cpus_left_out), (MAX_CPUS, 16));
    assert_eq!(board.cpus[0].start, StartMethod::Unknown);
}

#[test]
fn reservations_are_never_lost() {
    let nodes: String = (0..MAX_RESERVED + 1)
        .map(|number| {
            format!(
                "r@{number:x} {{ reg = <0 {} 0x1000>; }};",
                (number + 1) << 20
            )
        })
        .collect();
    let tree = PI_4.replace("linux,cma {", &format!("{nodes} linux,cma {{"));
    assert_eq!(
        Board::from_tree(&dts::compile(&tree)).unwrap_err(),
        Error::TooMany("reserved ranges")
    );
}

#[test]
fn redistributor_regions_are_all_there_or_it_is_an_error() {
    let board = |regions: u64| {
        let ranges: String = (0..=regions)
            .map(|number| format!(" <0 {} 0 0x20000>,", (number + 1) << 20))
            .collect();
        let gic = format!(
            "gic {{ compatible = \"arm,gic-v3\"; #interrupt-cells = <4>; #redistributor-regions = <{regions}>;
                phandle = <9>; interrupts = <1 9 4 0>; reg = {}; }};",
            ranges.trim_end_matches(',')
        );
        let mut tree = small(&format!("{RAM} {gic}"), "");
        // The first of the two, a GICv2.
        dts::blank_node(&mut tree, "gic");
        Board::from_tree(&tree)
    };
    let Gic::V3 {
        redistributors,
        maintenance,
        ..
    } = board(8).unwrap().gic
    else {
        panic!()
    };
    assert_eq!((redistributors.len(), maintenance), (8, level(25)));
    assert_eq!(
        board(9).unwrap_err(),
        Error::TooMany("GIC redistributor regions")
    );
}
