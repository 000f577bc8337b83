//! The guest that has the board's devices: Linux with the disk, the clock and the pins of QEMU's `virt`, and with the card,
//! the mailbox and the pins of a Raspberry Pi 4, beside a unikernel that crashes.

use std::path::PathBuf;

use viaduct_inspect::{Fate, Inputs, Report, image_size};
use viaduct_tests::family::{edited, family};
use viaduct_tests::linux::{at_the_shell, file_system, powers_off, uses_its_disk};
use viaduct_tests::{
    Bundle, Console, Gic, Guest, Image, Machine, lines, linux_initramfs_with_disks, pi4_tree, root,
    seconds,
};

/// What gives a guest the board's devices.
const DEVICES: &str = "capabilities = <2>; xen,force-assign-without-iommu; viaduct,console-focus; viaduct,restart = \"on-crash\";";

fn linux() -> Guest {
    Guest::linux("linux")
        .cpus(2)
        .memory_mib(512)
        .ramdisk(linux_initramfs_with_disks())
        .extra(DEVICES)
}

/// Starts Linux with the devices, a unikernel beside it, one that crashes again and again, and perhaps another.
fn start(name: &str, machine: Machine, another: Option<Guest>) -> Console {
    let falls = Guest::probe("falls", "test=crash").extra(
        "viaduct,restart = \"on-crash\"; viaduct,restart-limit = <0>; viaduct,restart-backoff-ms = <1000>;",
    );
    let mut bundle = Bundle::new(name)
        .guest(linux())
        .guest(falls)
        .guest(Guest::hello("hello"));
    if let Some(another) = another {
        bundle = bundle.guest(another);
    }
    let mut console = machine
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    at_the_shell(&mut console, "linux");
    console
}

/// Another crash of the neighbour; then the disk is used once more.
fn survives(console: &mut Console, disk: &str) {
    uses_its_disk(console, "linux", disk);
    // The wait before a restart doubles, up to a minute.
    console.expect("falls: ended (crash)", seconds(300));
    let again = format!(
        "cd / && umount /mnt; mount -t ext4 {disk} /mnt && cat /mnt/greeting && dmesg | grep -c -i 'call trace\\|i/o error'; true"
    );
    let said = console.command("linux", &again, seconds(60));
    assert_eq!(said, ["a word from the disk", "0"]);
    console.command("linux", "umount /mnt", seconds(60));
}

fn virt(name: &str, machine: Machine, another: Option<Guest>) -> Console {
    let image = file_system(name);
    let drive = format!("-drive if=none,format=raw,id=disk,file={}", image.display());
    let machine = machine.device(&drive);
    let machine = machine.device("-device virtio-blk-device,drive=disk");
    let mut console = start(name, machine, another);
    for left_out in ["/pcie@10000000", "/pl011@9000000"] {
        assert!(is_left_out(&console, left_out), "{left_out}");
    }
    survives(&mut console, "/dev/vda");
    console
}

fn is_left_out(console: &Console, device: &str) -> bool {
    let lines = console.lines_with(&format!("/chosen/linux: capabilities: found {device},"));
    lines.len() == 1 && lines[0].contains(": left out")
}

/// Clock and pins by their drivers, which may find them later than they are loaded.
const DRIVERS: &str = "for i in $(seq 60); do [ -e /sys/bus/amba/devices/9030000.pl061/driver ] && break; sleep 1; done; \
    for d in 9010000.pl031 9030000.pl061; do readlink /sys/bus/amba/devices/$d/driver; done";

/// After a reboot by itself it has everything again.
#[test]
fn linux_has_the_devices_of_virt_on_gicv2() {
    let mut console = virt("board-v2", Machine::virt(Gic::V2), None);
    let said = console.command("linux", DRIVERS, seconds(60));
    assert!(
        said.len() == 2 && said[0].contains("pl031") && said[1].contains("pl061"),
        "{said:?}"
    );
    let clock = "for i in $(seq 60); do [ -e /sys/class/rtc/rtc0 ] && break; sleep 1; done; cat /sys/class/rtc/rtc0/since_epoch";
    let said = console.command("linux", clock, seconds(60));
    let seconds_of_1970 = said.first().and_then(|text| text.parse::<u64>().ok());
    assert!(
        seconds_of_1970.is_some_and(|time| time > 1_700_000_000),
        "{said:?}"
    );
    console.send("reboot\n");
    console.expect("linux: ended (reboot)", seconds(60));
    at_the_shell(&mut console, "linux");
    uses_its_disk(&mut console, "linux", "/dev/vda");
    powers_off(&mut console, "linux");
}

/// The clock is a unikernel's, which is described behind Linux; the rest is Linux's.
#[test]
fn linux_has_what_another_guest_leaves_on_gicv3() {
    let another = Guest::clock("clock");
    let mut console = virt("board-v3", Machine::virt(Gic::V3), Some(another));
    assert!(is_left_out(&console, "/pl031@9010000"));
    console.expect_ever("clock| PASS rtc", seconds(60));
    let said = console.command("linux", DRIVERS, seconds(60));
    assert!(said.len() == 1 && said[0].contains("pl061"), "{said:?}");
    powers_off(&mut console, "linux");
}

/// What QEMU's board has not, or not where the tree says it: blocks of the display and of the second chip answer with an
/// abort, which stops Linux on the bare machine too; the firmware has no pins of its own, on which the card's supply hangs; and
/// the card lies behind the controller that on a board has the radio, with no supply, and not behind the one with the card slot.
fn tree_as_qemu_has_it(name: &str) -> PathBuf {
    let off = [
        "/soc/interrupt-controller@7ef00100",
        "/soc/clock@7ef00000",
        "/soc/i2c@7ef04500",
        "/soc/i2c@7ef09500",
        "/soc/hdmi@7ef00700",
        "/soc/hdmi@7ef05700",
        "/soc/avs-monitor@7d5d2000",
        "/soc/hvs@7e400000",
        "/soc/vec@7ec13000",
        "/soc/txp@7e004000",
        "/scb/usb@7e9c0000",
        "/scb/gpu@7ec00000",
        "/emmc2bus/mmc@7e340000",
        "/gpu",
    ];
    let card = "/soc/mmc@7e300000";
    let radio = ["mmc-pwrseq", "non-removable", "pinctrl-0", "pinctrl-names"];
    let mut edits: Vec<Vec<&str>> = off
        .map(|node| vec!["-t", "s", node, "status", "disabled"])
        .into();
    edits.extend(radio.map(|property| vec!["-d", card, property]));
    edits.push(vec!["-r", "/soc/mmc@7e300000/wifi@1"]);
    edits.push(vec!["-t", "s", card, "broken-cd", ""]);
    let edits: Vec<&[&str]> = edits.iter().map(Vec::as_slice).collect();
    edited(&pi4_tree(), &format!("{name}.edited.dtb"), &edits)
}

#[test]
fn linux_has_the_devices_of_the_pi() {
    let name = "board-pi4";
    let image = file_system(name);
    let machine = Machine::pi4()
        .tree(tree_as_qemu_has_it(name))
        .device(&format!("-drive if=sd,format=raw,file={}", image.display()));
    let mut console = start(name, machine, None);
    // The console's UART, and what shares its page.
    for left_out in [
        "/soc/serial@7e215040",
        "/soc/aux@7e215000",
        "/soc/watchdog@7e100000",
    ] {
        assert!(is_left_out(&console, left_out), "{left_out}");
    }
    survives(&mut console, "/dev/mmcblk0");
    // Its memory lies below 1 GiB, where all DMA masters of the board reach.
    assert!(console.lines_with("by DMA, expected all").is_empty());
    let ram = console.command("linux", "grep 'System RAM' /proc/iomem", seconds(60));
    assert_eq!(ram.len(), 1, "{ram:?}");
    let drivers = "for d in fe00b880.mailbox fe200000.gpio fe007000.dma-controller fe101000.cprman soc:firmware fe201000.serial; do \
        for i in $(seq 60); do readlink /sys/devices/platform/*/$d/driver && break; sleep 1; done; done";
    let said = console.command("linux", drivers, seconds(60));
    assert_eq!(said.len(), 6, "{said:?}");
    powers_off(&mut console, "linux");
}

/// Every tree of the family with every size of memory, as it is: card slot, Ethernet, USB by PCIe, radio and pins go to
/// the guest, with memory that their DMA reaches, and the tree that it gets is a sound one.
#[test]
fn every_board_of_the_family_gives_its_devices() {
    const PAGES: [u64; 7] = [
        0xfe20_0000, // GPIO
        0xfe30_0000, // radio
        0xfe34_0000, // card slot
        0xfe00_7000, // DMA
        0xfd50_0000, // PCIe
        0xfd58_0000, // Ethernet
        0xfe98_0000, // USB
    ];
    const KEPT: [u64; 5] = [
        0xfe10_0000, // watchdog
        0xfe21_5000, // console
        0xff80_0000, // local to the CPUs
        0xff84_1000, // interrupt controller
        0xff84_4000,
    ];
    let kernel = root().join("kernel/devtree/tests/data/kernel.bin");
    let guest = Guest::new("linux", kernel).memory_mib(512).extra(DEVICES);
    let bundle = Bundle::new("board-family").guest(guest);
    let bundle = std::fs::read(bundle.write()).unwrap();
    let mut count = 0;
    for (board, mib, tree) in family(bundle.len()) {
        let bytes = std::fs::read(tree).unwrap();
        let report = Report::new(&Inputs {
            tree: &bytes,
            bundle: Some(&bundle),
            image_size: image_size(&Image::Release.path()).unwrap(),
            modules: &[],
        });
        let report = report.unwrap();
        let text = report.to_string();
        let Fate::Built(plan) = &report.guests[0].fate else {
            panic!("{board}, {mib} MiB: {text}");
        };
        let registers = &plan.assignment.registers;
        let has = |at: u64| {
            registers
                .iter()
                .any(|(pages, _)| pages.contains(memory::Pa::new(at)))
        };
        for page in PAGES {
            assert!(has(page), "{board}: {page:#x}: {text}");
        }
        for page in KEPT {
            assert!(!has(page), "{board}: {page:#x}: {text}");
        }
        // The window to the USB controller's registers.
        assert!(has(0x6_0000_0000), "{board}: {text}");
        let ram = plan.machine.banks[0];
        assert!(
            ram.end().get() <= 0x4000_0000 && ram.size() == 512 << 20,
            "{board}: {ram}"
        );
        assert!(!text.contains("by DMA, expected all"), "{board}: {text}");
        let sound = devtree::Tree::new(&plan.tree).unwrap();
        let names = sound
            .find("/__symbols__")
            .into_iter()
            .chain(sound.find("/aliases"));
        for name in names.flat_map(|names| names.properties().collect::<Vec<_>>()) {
            let path = name.str().unwrap();
            assert!(sound.find(path).is_some(), "{board}: {name}");
        }
        let intids = plan.assignment.interrupts.iter().map(|one| one.intid);
        // Card slot and radio, Ethernet's two, PCIe's own and its first pin.
        let intids: Vec<u32> = intids.collect();
        for intid in [158, 189, 190, 175, 180] {
            assert!(intids.contains(&intid), "{board}: {intid} of {intids:?}");
        }
        count += 1;
    }
    assert_eq!(count, 12);
}
