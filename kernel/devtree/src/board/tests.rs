//! Boards: QEMU's two, a Pi 4 as QEMU edits it, and trees that lack things.

use super::*;
use crate::{Error, Led, UartKind, dts, early, led};

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
        let act = Led {
            registers: range(0xfe20_0000, 0xb4),
            pin: 42,
            is_active_low: false,
        };
        assert_eq!((board.led, led(&tree)), (Some(act), Some(act)));
        assert_eq!(board.initrd, Some(range(0x800_0000, 0x12_3456)));
        assert_eq!(&board.bootargs, "loglevel=info");
    }
}

/// The Pi 4's tree as firmware hands it to a board of the family: `memory` in cells of two and one, in one node.
fn firmware_edited(model: &str, memory: &str) -> String {
    let (head, _) = PI_4.split_once("\tmemory@0 {").unwrap();
    let tree =
        format!("{head}\tmemory@0 {{ device_type = \"memory\"; reg = <{memory}>; }};\n}};\n");
    assert!(tree.contains("Raspberry Pi 4 Model B"));
    tree.replace("Raspberry Pi 4 Model B", model)
}

#[test]
fn boards_of_the_pi_4_family() {
    const LOW: u64 = 0x3b40_0000;
    // Below the peripherals in low peripheral mode, above which 64 MiB of the fourth GiB lie unused.
    const MIDDLE: u64 = 0xbc00_0000;
    let cases: [(&str, &str, &[PaRange]); 6] = [
        (
            "Raspberry Pi 4 Model B Rev 1.1",
            "0 0 0x3b400000",
            &[range(0, LOW)],
        ),
        (
            "Raspberry Pi 4 Model B Rev 1.2",
            "0 0 0x3b400000 0 0x40000000 0x40000000",
            &[range(0, LOW), range(1 << 30, 1 << 30)],
        ),
        (
            "Raspberry Pi 4 Model B Rev 1.4",
            "0 0 0x3b400000 0 0x40000000 0xbc000000",
            &[range(0, LOW), range(1 << 30, MIDDLE)],
        ),
        (
            // One cell for sizes cannot say 4 GiB: two ranges, side by side.
            "Raspberry Pi 4 Model B Rev 1.5",
            "0 0 0x3b400000 0 0x40000000 0xbc000000 1 0 0x80000000 1 0x80000000 0x80000000",
            &[
                range(0, LOW),
                range(1 << 30, MIDDLE),
                range(4 << 30, 4 << 30),
            ],
        ),
        (
            "Raspberry Pi 400 Rev 1.0",
            "0 0 0x3b400000 0 0x40000000 0xbc000000",
            &[range(0, LOW), range(1 << 30, MIDDLE)],
        ),
        (
            "Raspberry Pi Compute Module 4 Rev 1.0",
            "0 0 0x3b400000 0 0x40000000 0xbc000000 1 0 0x80000000 1 0x80000000 0x80000000",
            &[
                range(0, LOW),
                range(1 << 30, MIDDLE),
                range(4 << 30, 4 << 30),
            ],
        ),
    ];
    for (model, memory, expected) in cases {
        let tree = dts::compile(&firmware_edited(model, memory));
        let board = Board::from_tree(&tree).unwrap();
        assert_eq!(&board.model, model);
        assert_eq!(board.memory[..], *expected, "{model}");
        assert_eq!(board.cpus.len(), 4, "{model}");
        let uart = board.console.unwrap().registers;
        for ram in &board.memory {
            assert!(!ram.overlaps(uart), "{model}: RAM where the UART is");
        }
        assert!(board.reserved.iter().any(|it| it.range == range(0, 0x1000)));
    }
}

/// `arm_peri_high=1`: the peripherals leave the first 4 GiB, and RAM has their place.
#[test]
fn a_pi_4_in_high_peripheral_mode() {
    let memory = "0 0 0x37000000 0 0x40000000 0xc0000000 1 0 0x80000000 1 0x80000000 0x80000000";
    let mut tree = firmware_edited("Raspberry Pi 4 Model B Rev 1.4", memory);
    for (low, high) in [
        ("0x7e000000 0x0 0xfe000000", "0x7e000000 0x4 0x7e000000"),
        ("0x7c000000 0x0 0xfc000000", "0x7c000000 0x4 0x7c000000"),
        ("0x40000000 0x0 0xff800000", "0x40000000 0x4 0xc0000000"),
        ("0x7c000000 0x0 0xfc000000", "0x7c000000 0x4 0x7c000000"),
    ] {
        tree = tree.replace(low, high);
    }
    let tree = dts::compile(&tree);
    let board = Board::from_tree(&tree).unwrap();
    let expected = [range(0, 0x3700_0000), range(1 << 30, 7 << 30)];
    assert_eq!(board.memory[..], expected);
    let console = board.console.unwrap();
    assert_eq!(console.registers, range(0x4_7e21_5040, 0x40));
    assert_eq!(
        early::console(&tree).unwrap().registers,
        console.registers,
        "the first words go there too"
    );
    assert_eq!(board.watchdog, Some(range(0x4_7e10_0000, 0x114)));
    let Gic::V2 {
        distributor,
        virtual_cpu_interface,
        ..
    } = board.gic
    else {
        panic!("{:?}", board.gic)
    };
    assert_eq!(distributor, range(0x4_c004_1000, 0x1000));
    assert_eq!(virtual_cpu_interface, range(0x4_c004_6000, 0x2000));
}

/// `dtoverlay=disable-bt`: the PL011 has the pins, the mini UART is off, and `serial0` is the PL011.
#[test]
fn a_pi_4_with_its_pl011_on_the_pins() {
    let tree = PI_4
        .replace("serial1:115200n8", "serial0:115200n8")
        .replace("bluetooth {", "bluetooth { status = \"disabled\";");
    let (before, mini) = tree.split_once("serial@7e215040 {").unwrap();
    // The first mention is the alias.
    assert!(before.contains("stdout-path") && mini.contains("okay"));
    let tree = format!(
        "{before}serial@7e215040 {{{}",
        mini.replacen("\"okay\"", "\"disabled\"", 1)
    );
    let board = Board::from_tree(&dts::compile(&tree)).unwrap();
    let console = board.console.unwrap();
    assert_eq!(console.kind, UartKind::Pl011);
    assert_eq!(console.registers, range(0xfe20_1000, 0x200));
    assert_eq!(console.interrupt, Some(level(153)));
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
