//! Two Linux guests that exchange data with each other by Linux's own devices: pages by gntalloc and gntdev, an event
//! channel by evtchn, who meets whom by xenbus. The program is `guests/linux/exchange`.

use viaduct_tests::linux::{has_no_complaint, input_to};
use viaduct_tests::{
    Bundle, Console, Gic, Guest, Machine, debian_kernel, exchange_initramfs, lines, seconds,
};

/// Pages that are granted, one of them without data.
const PAGES: u32 = 17;
const ROUNDS: u32 = 50;
const NAMES: [&str; 2] = ["first", "second"];

/// What a guest says of an exchange that went well: all that it has sent and got, as checksums.
fn sums(console: &Console, what: &str, lines: &[String]) -> [String; 2] {
    let start = format!(
        "exchange: PASS {what} {} pages, {ROUNDS} rounds, sent ",
        PAGES - 1
    );
    let found = lines
        .iter()
        .find_map(|line| line.strip_prefix(&start)?.split_once(" got "));
    match found {
        Some((sent, got)) => [sent.to_owned(), got.to_owned()],
        None => console.fail(&format!("{start:?} is not in {lines:#?}")),
    }
}

/// `giver` has the input, and offers; in the end the other one has it.
fn exchange(console: &mut Console, giver: usize) {
    let (offers, takes) = (NAMES[giver], NAMES[1 - giver]);
    let peer = 2 - giver;
    let offer = format!("exchange offer {peer} {PAGES} {ROUNDS} > /tmp/offer 2>&1 & true");
    console.command(offers, &offer, seconds(60));
    input_to(console, takes);
    let took = console.command(takes, &format!("exchange take {}", giver + 1), seconds(300));
    input_to(console, offers);
    let offered = console.command(offers, "wait; cat /tmp/offer", seconds(300));
    let [sent, got] = sums(console, "offered", &offered);
    let [sent_back, arrived] = sums(console, "took", &took);
    assert_eq!((&sent, &got), (&arrived, &sent_back));
    assert_ne!(sent, got);
    input_to(console, takes);
}

fn pair(name: &str, machine: Machine, suite: &str, flavour: &str) {
    let guest = |index: usize| {
        Guest::linux(NAMES[index])
            .kernel(debian_kernel(suite, flavour))
            .ramdisk(exchange_initramfs(suite, flavour))
            .memory_mib(192)
            .enhanced(Some("enabled"))
    };
    let bundle = Bundle::new(name)
        .guest(guest(0).extra("viaduct,console-focus; viaduct,peers = \"second\";"))
        .guest(guest(1))
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect_each(
        &NAMES.map(|guest| format!("{guest}| This is a busybox shell")),
        seconds(300),
    );
    let load = "dmesg -n 1; for m in $(cat /modules/order); do insmod /modules/$m.ko || exit 1; done; \
        for d in evtchn gntalloc gntdev xenbus; do for i in $(seq 60); do [ -e /dev/xen/$d ] && break; sleep 1; done; done; ls /dev/xen";
    for guest in NAMES {
        input_to(&mut console, guest);
        let devices = console.command(guest, load, seconds(60));
        for device in ["evtchn", "gntalloc", "gntdev", "xenbus"] {
            assert!(
                devices.iter().any(|line| line.contains(device)),
                "{guest} has no {device}: {devices:?}"
            );
        }
    }
    // Both ways round, so that what the first time has left behind is met by the second.
    exchange(&mut console, 1);
    exchange(&mut console, 0);
    exchange(&mut console, 1);
    for guest in NAMES {
        has_no_complaint(&mut console, guest);
        console.send("poweroff\n");
        console.expect(&lines::stopped(guest, "poweroff"), seconds(60));
        if guest == NAMES[0] {
            input_to(&mut console, NAMES[1]);
        }
    }
    let line = console.expect(lines::MEMORY_FREE, seconds(300));
    assert!(lines::all_is_free(&line), "{name}: {line}");
}

#[test]
fn two_linux_guests_gicv2() {
    pair(
        "exchange-v2",
        Machine::virt(Gic::V2).cpus(1),
        "trixie",
        "cloud-arm64",
    );
}

#[test]
fn two_linux_guests_gicv3() {
    pair(
        "exchange-v3",
        Machine::virt(Gic::V3).cpus(2),
        "trixie",
        "cloud-arm64",
    );
}

#[test]
#[ignore = "long"]
fn other_kernels() {
    for (suite, flavour) in [
        ("bookworm", "cloud-arm64"),
        ("sid", "cloud-arm64"),
        ("trixie", "arm64"),
    ] {
        for (gic, machine) in [
            ("v2", Machine::virt(Gic::V2)),
            ("v3", Machine::virt(Gic::V3)),
        ] {
            let name = format!("exchange-{suite}-{flavour}-{gic}");
            pair(&name, machine, suite, flavour);
        }
    }
}
