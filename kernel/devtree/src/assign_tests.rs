//! Partial trees on QEMU's `virt`: what is given, and every way to be wrong.

use super::*;
use crate::dts;

const VIRT: &[u8] = include_bytes!("../tests/data/virt-gicv3.dtb");

/// Reads a partial tree with these nodes in `/passthrough`. What is told, each as a line.
fn read_with(assigned: &Assigned, nodes: &str) -> (Result<Assignment, Vec<String>>, Vec<String>) {
    read_on(&Board::from_tree(VIRT).unwrap(), assigned, nodes)
}

/// The same on a board of one's own.
fn read_on(
    board: &Board,
    assigned: &Assigned,
    nodes: &str,
) -> (Result<Assignment, Vec<String>>, Vec<String>) {
    let source = format!(
        "/ {{ #address-cells = <2>; #size-cells = <2>; gic {{ phandle = <7>; }};
            aliases {{ rtc0 = \"/passthrough/rtc\"; }};
            passthrough {{ compatible = \"simple-bus\"; #address-cells = <2>; #size-cells = <2>; ranges; {nodes} }}; }};"
    );
    let bytes = dts::compile(&source);
    let partial = Tree::new(&bytes).unwrap();
    assert_eq!(gic_phandle(&partial), Some(7));
    let host = Host::new(Tree::new(VIRT).unwrap()).unwrap();
    let occupied = [IpaRange::new(Ipa::new(0x4000_0000), 0x1000_0000).unwrap()];
    let mut problems = Vec::new();
    let mut reader = Reader {
        board,
        host: &host,
        assigned,
        occupied: &occupied,
        module: "/chosen/one/devices",
        problems: &mut problems,
        sound: true,
    };
    let assignment = reader.read(&partial);
    let sound = reader.sound;
    if sound {
        reader.name_neighbours(&assignment);
    }
    let lines = |problems: &[Problem], which: fn(&Problem) -> bool| {
        let some = problems.iter().filter(|problem| which(problem));
        some.map(ToString::to_string).collect::<Vec<_>>()
    };
    let refused = lines(&problems, |problem| problem.severity == Severity::Refused);
    let told = lines(&problems, |problem| problem.severity != Severity::Refused);
    assert_eq!(refused.is_empty(), sound);
    (if sound { Ok(assignment) } else { Err(refused) }, told)
}

fn device(name: &str, properties: &str) -> String {
    format!("{name} {{ {properties} xen,force-assign-without-iommu; }};")
}

fn rtc(properties: &str) -> String {
    device(
        "rtc",
        &format!("xen,path = \"/pl031@9010000\"; {properties}"),
    )
}

const RTC: &str = "xen,reg = <0 0x9010000 0 0x1000 0 0x30000000>;";

#[test]
fn a_clock_with_its_interrupt() {
    let (assignment, told) = read_with(&Assigned::default(), &rtc(RTC));
    let assignment = assignment.unwrap();
    let pages = PaRange::new(Pa::new(0x901_0000), 0x1000).unwrap();
    assert_eq!(assignment.registers, [(pages, Ipa::new(0x3000_0000))]);
    let intids: Vec<u32> = assignment.interrupts.iter().map(|one| one.intid).collect();
    assert_eq!(intids, [34]);
    assert_eq!(assignment.devices, ["/pl031@9010000"]);
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0],
        "/chosen/one/devices /passthrough/rtc: found /pl031@9010000, 1 range(s), 1 interrupt(s), expected trust in the guest: by DMA the device reaches all memory"
    );
}

/// A second UART is the guest's, and the trace does without; but one that the trace has from the start is not.
#[test]
fn the_second_uart_is_a_guests_or_the_traces() {
    let mut board = Board::from_tree(VIRT).unwrap();
    let console = board.console.unwrap();
    // Where the clock is, whose registers and interrupt the tree has.
    let uart = Uart {
        registers: PaRange::new(Pa::new(0x901_0000), 0x1000).unwrap(),
        interrupt: console.interrupt.map(|own| Interrupt { intid: 34, ..own }),
        ..console
    };
    board.second_uart = Some(uart);
    let (assignment, _) = read_on(&board, &Assigned::default(), &rtc(RTC));
    assert!(assignment.clone().unwrap().has(&uart));
    assert!(!assignment.unwrap().has(&console));

    board.keeps_second_uart = true;
    let (refused, _) = read_on(&board, &Assigned::default(), &rtc(RTC));
    let lines = refused.unwrap_err().join("\n");
    assert!(
        lines.contains("pages clear of 0x9010000..0x9011000, the trace's UART"),
        "{lines}"
    );
    let elsewhere = rtc("xen,reg = <0 0x9030000 0 0x1000 0 0x30000000>;");
    let (refused, _) = read_on(&board, &Assigned::default(), &elsewhere);
    let lines = refused.unwrap_err().join("\n");
    assert!(
        lines.contains("interrupt 34, expected an interrupt that is not the trace's"),
        "{lines}"
    );
}

#[test]
fn a_virtio_slot_brings_its_seven_neighbours() {
    let slot = device(
        "disk",
        "xen,path = \"/virtio_mmio@a003e00\"; xen,reg = <0 0xa003000 0 0x1000 0 0xa003000>;",
    );
    let (assignment, told) = read_with(&Assigned::default(), &slot);
    let intids: Vec<u32> = assignment
        .unwrap()
        .interrupts
        .iter()
        .map(|one| one.intid)
        .collect();
    assert_eq!(intids, [79]);
    let neighbours = told.iter().find(|line| line.contains("are too")).unwrap();
    for slot in (0xa00_3000..0xa00_3e00).step_by(0x200) {
        assert!(
            neighbours.contains(&format!("/virtio_mmio@{slot:x}")),
            "{neighbours}"
        );
    }
    assert!(
        !neighbours.contains("a003e00") && !neighbours.contains("a002e00"),
        "{neighbours}"
    );
}

#[test]
fn registers_without_a_device() {
    let node = device("gpio", "xen,reg = <0 0x9030000 0 0x1000 0 0x30000000>;");
    let (assignment, told) = read_with(&Assigned::default(), &node);
    let assignment = assignment.unwrap();
    assert_eq!(
        (assignment.registers.len(), assignment.interrupts.len()),
        (1, 0)
    );
    assert!(told[0].contains("where /pl061@9030000 are too"), "{told:?}");
}

#[test]
fn what_nobody_may_have() {
    let cases = [
        (
            "rtc { xen,path = \"/pl031@9010000\"; xen,reg = <0 0x9010000 0 0x1000 0 0x30000000>; };".to_string(),
            "xen,force-assign-without-iommu: found nothing, expected it: no IOMMU keeps",
        ),
        (rtc(""), "rtc: xen,reg: found nothing, expected the device's registers"),
        (
            device("x", &format!("xen,path = \"/pl031@9011000\"; {RTC}")),
            "xen,path: found \"/pl031@9011000\", expected the path of a device in the board's tree",
        ),
        (device("x", &format!("xen,path = \"pl031\"; {RTC}")), "expected the path of a device"),
        (rtc("xen,reg = <0x9010000 0x1000 0x30000000>;"), "expected the board's address (2 cells), size (2)"),
        (rtc("xen,reg;"), "expected the board's address (2 cells), size (2)"),
        (
            rtc("xen,reg = <0 0x9010000 0 0x200 0 0x30000000>;"),
            "found <0x9010000 0x200 0x30000000>, expected whole pages of 4 KiB",
        ),
        (rtc("xen,reg = <0 0x9010000 0 0 0 0x30000000>;"), "expected whole pages of 4 KiB"),
        (rtc("xen,reg = <0 0x9010000 0 0x1000 0x100 0>;"), "expected whole pages of 4 KiB, within 40 bits"),
        (rtc("xen,reg = <0xffffffff 0xfffff000 0 0x2000 0 0x30000000>;"), "whole pages"),
        (
            rtc("xen,reg = <0 0x9000000 0 0x1000 0 0x30000000>;"),
            "found 0x9000000..0x9001000, expected pages clear of 0x9000000..0x9001000, the console's UART",
        ),
        (
            rtc("xen,reg = <0 0x8000000 0 0x1000 0 0x30000000>;"),
            "expected pages clear of 0x8000000..0x8010000, the interrupt controller",
        ),
        (rtc("xen,reg = <0 0x80a0000 0 0x1000 0 0x30000000>;"), "the interrupt controller"),
        (
            rtc("xen,reg = <0 0x47ff0000 0 0x1000 0 0x30000000>;"),
            "the board's RAM",
        ),
        (
            rtc("xen,reg = <0 0x9010000 0 0x1000 0 0x4ffff000>;"),
            "found 0x4ffff000..0x50000000, expected guest addresses clear of 0x40000000..0x50000000",
        ),
        (
            rtc("xen,reg = <0 0x9010000 0 0x1000 0 0x30000000 0 0x9030000 0 0x1000 0 0x30000000>;"),
            "expected guest addresses clear of 0x30000000..0x30001000",
        ),
        (
            rtc("xen,reg = <0 0x9010000 0 0x1000 0 0x30000000 0 0x9010000 0 0x1000 0 0x30001000>;"),
            "expected pages clear of 0x9010000..0x9011000, which it has already",
        ),
        (
            device("uart", "xen,path = \"/pl011@9000000\"; xen,reg = <0 0x9030000 0 0x1000 0 0x30000000>;"),
            "xen,path: found interrupt 33, expected an interrupt that is not the console's",
        ),
        ("x { phandle = <65000>; };".to_string(), "phandle: found <0xfde8>, expected a number below 65000"),
    ];
    for (nodes, expected) in cases {
        let (assignment, _) = read_with(&Assigned::default(), &nodes);
        let refused = assignment.unwrap_err();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains(expected), "{refused:?} for {nodes}");
        assert!(
            refused[0].starts_with("/chosen/one/devices /passthrough/"),
            "{refused:?}"
        );
    }
}

#[test]
fn nothing_is_given_twice() {
    let mut assigned = Assigned::default();
    let (first, _) = read_with(&assigned, &rtc(RTC));
    assigned.add("first", &first.unwrap());
    let (second, _) = read_with(&assigned, &rtc(RTC));
    let refused = second.unwrap_err();
    assert!(
        refused[0].contains("expected pages clear of 0x9010000..0x9011000, which first has"),
        "{refused:?}"
    );
    assert!(
        refused[1].contains("found interrupt 34, expected an interrupt that first does not have"),
        "{refused:?}"
    );
    // Slots of one page, each with an interrupt of its own.
    let slot = |slot: u64| {
        let path = format!("xen,path = \"/virtio_mmio@{slot:x}\";");
        device(
            "disk",
            &format!("{path} xen,reg = <0 0xa000000 0 0x1000 0 0xa000000>;"),
        )
    };
    let (first, _) = read_with(&assigned, &slot(0xa00_0000));
    assigned.add("third", &first.unwrap());
    let refused = read_with(&assigned, &slot(0xa00_0200)).0.unwrap_err();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("which third has"), "{refused:?}");
}

#[test]
fn a_partial_tree_without_devices() {
    let board = Board::from_tree(VIRT).unwrap();
    let host = Host::new(Tree::new(VIRT).unwrap()).unwrap();
    let bytes = dts::compile("/ { gic { }; };");
    let mut problems = Vec::new();
    let mut reader = Reader {
        board: &board,
        host: &host,
        assigned: &Assigned::default(),
        occupied: &[],
        module: "/chosen/one/devices",
        problems: &mut problems,
        sound: true,
    };
    reader.read(&Tree::new(&bytes).unwrap());
    assert!(!reader.sound);
    assert!(
        problems[0]
            .to_string()
            .contains("expected a node /passthrough")
    );
}
