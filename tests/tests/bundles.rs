//! What guests come in: FIT bundles of every make, the host's tree, both at once.

use viaduct_tests::{Bundle, Gic, Guest, Machine, guest_image, lines, seconds};

const BEAT: &str = "period=20ms count=2";

fn hello(name: &str) -> Guest {
    Guest::hello(name).boot_arguments(BEAT)
}

fn boots(name: &str, bundle: &Bundle) {
    let machine = Machine::virt(Gic::V3)
        .bundle(bundle.write())
        .argument(lines::POWER_OFF);
    let mut console = machine.start(name);
    console.expect("one| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
}

#[test]
fn data_behind_the_tree() {
    boots(
        "fit-external",
        &Bundle::new("fit-external").external().guest(hello("one")),
    );
}

#[test]
fn every_hash_and_none() {
    for algorithm in [Some("sha1"), Some("sha256"), None] {
        let name = format!("fit-{}", algorithm.unwrap_or("bare"));
        boots(
            &name,
            &Bundle::new(&name).hash(algorithm).guest(hello("one")),
        );
    }
}

#[test]
fn a_flat_image_as_kernel() {
    let guest = Guest::new("one", guest_image("hello")).boot_arguments(BEAT);
    boots("fit-image", &Bundle::new("fit-image").guest(guest));
}

#[test]
fn a_hash_that_cannot_be_checked_is_named() {
    let bundle = Bundle::new("fit-md5")
        .hash(Some("md5"))
        .guest(hello("one"))
        .write();
    let mut console = Machine::virt(Gic::V3)
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start("fit-md5");
    console.expect("md5", seconds(60));
    assert_eq!(console.expect_exit(seconds(60)), 0);
    console.expect_never(&["one| "]);
}

#[test]
fn damaged_data_is_found_and_the_rest_boots() {
    let bundle = Bundle::new("fit-damaged");
    let other = Guest::new("two", guest_image("hello")).boot_arguments(BEAT);
    let path = bundle.guest(hello("one")).guest(other).write();
    let mut bytes = std::fs::read(&path).unwrap();
    let elf = bytes
        .windows(4)
        .position(|window| window == b"\x7fELF")
        .unwrap();
    bytes[elf + 0x1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut console = Machine::virt(Gic::V3)
        .bundle(path)
        .argument(lines::POWER_OFF)
        .start("fit-damaged");
    console.expect("crc32", seconds(60));
    console.expect("two| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
    console.expect_never(&["one| "]);
}

#[test]
fn unikernels_from_the_host_tree() {
    for (name, machine) in [
        ("host-v2", Machine::virt(Gic::V2)),
        ("host-v3", Machine::virt(Gic::V3)),
        ("host-pi4", Machine::pi4()),
    ] {
        let machine = machine
            .guest(hello("one"))
            .guest(hello("two"))
            .argument(lines::POWER_OFF);
        let mut console = machine.start(name);
        console.expect_each(
            &["one| hello: heartbeat 2", "two| hello: heartbeat 2"],
            seconds(60),
        );
        console.expect(lines::ALL_STOPPED, seconds(300));
    }
}

#[test]
fn both_containers_at_once() {
    let bundle = Bundle::new("both").guest(hello("bundled")).write();
    let machine = Machine::virt(Gic::V3).guest(hello("hosted")).bundle(bundle);
    let mut console = machine.argument(lines::POWER_OFF).start("both");
    console.expect_each(
        &["hosted| hello: heartbeat 2", "bundled| hello: heartbeat 2"],
        seconds(60),
    );
    console.expect(lines::ALL_STOPPED, seconds(300));
}
