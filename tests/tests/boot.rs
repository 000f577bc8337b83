//! The same image on every machine: from the banner through two heartbeats to the last guest's end.

use viaduct_tests::{Board, Bundle, Console, Gic, Guest, Image, Machine, lines, seconds};

/// Two short-lived heartbeats.
fn heartbeats(name: &str) -> Bundle {
    let beats = "period=50ms count=3";
    Bundle::new(name)
        .guest(Guest::hello("hello-1").boot_arguments(beats))
        .guest(Guest::hello("hello-2").boot_arguments(beats))
}

/// Waits for both heartbeats, their ends, and that of the machine.
fn expect_whole_run(console: &mut Console) {
    console.expect(lines::BANNER, seconds(60));
    console.expect_each(
        &[
            "hello-1| hello: heartbeat 3".to_owned(),
            "hello-2| hello: heartbeat 3".to_owned(),
            lines::stopped("hello-1", "poweroff"),
            lines::stopped("hello-2", "poweroff"),
        ],
        seconds(60),
    );
    console.expect(lines::ALL_STOPPED, seconds(300));
    assert_eq!(console.expect_exit(seconds(60)), 0);
}

fn boots(name: &str, machine: Machine) {
    let bundle = heartbeats(name).write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    expect_whole_run(&mut console);
}

/// Rows of the matrix that every change runs: each value of each column is there, most pairs are.
#[test]
fn virt_gicv3_2_cpus_1_gib() {
    boots("boot-v3-2", Machine::virt(Gic::V3));
}

#[test]
fn virt_gicv2_1_cpu_512_mib() {
    boots("boot-v2-1", Machine::virt(Gic::V2).cpus(1).memory_mib(512));
}

#[test]
fn virt_gicv3_8_cpus_8_gib_debug() {
    boots(
        "boot-v3-8",
        Machine::virt(Gic::V3)
            .cpus(8)
            .memory_mib(8192)
            .image(Image::Debug),
    );
}

#[test]
fn virt_gicv2_4_cpus_2_gib_debug() {
    boots(
        "boot-v2-4",
        Machine::virt(Gic::V2)
            .cpus(4)
            .memory_mib(2048)
            .image(Image::Debug),
    );
}

#[test]
fn virt_gicv2_8_cpus_4_gib() {
    boots("boot-v2-8", Machine::virt(Gic::V2).cpus(8).memory_mib(4096));
}

#[test]
fn virt_gicv3_1_cpu_512_mib_debug() {
    boots(
        "boot-v3-1",
        Machine::virt(Gic::V3)
            .cpus(1)
            .memory_mib(512)
            .image(Image::Debug),
    );
}

#[test]
fn raspi4b() {
    boots("boot-pi4", Machine::pi4());
}

#[test]
fn raspi4b_debug() {
    boots("boot-pi4-debug", Machine::pi4().image(Image::Debug));
}

/// The full product.
#[test]
#[ignore = "long"]
fn every_machine() {
    for image in [Image::Release, Image::Debug] {
        for gic in [Gic::V2, Gic::V3] {
            for cpus in [1, 2, 4, 8] {
                for mib in [512, 1024, 2048, 4096, 8192] {
                    let name = format!("boot-all-{image:?}-{gic:?}-{cpus}-{mib}").to_lowercase();
                    let machine = Machine::virt(gic).cpus(cpus).memory_mib(mib);
                    boots(&name, machine.image(image.clone()));
                }
            }
        }
    }
}

#[test]
fn all_cpus_come_up() {
    for (name, machine, cpus) in [
        ("cpus-v3", Machine::virt(Gic::V3).cpus(4), 4),
        ("cpus-v2", Machine::virt(Gic::V2).cpus(8), 8),
        ("cpus-pi4", Machine::pi4(), 4),
    ] {
        let bundle = heartbeats(name).write();
        let mut console = machine.bundle(bundle).start(name);
        console.expect(
            &format!("{}CPUs: {cpus} of {cpus} up", lines::VIADUCT),
            seconds(60),
        );
        console.expect("hello-2| hello: heartbeat 1", seconds(60));
    }
}

/// Who is free builds, and what comes of it is told in order. On a workstation that is busy one emulated CPU may get
/// through before another has begun: so there are several boots.
#[test]
fn guests_are_built_by_all_cpus() {
    const BOOTS: usize = 20;
    for (name, cpus, gic) in [("crew-v3", 4, Gic::V3), ("crew-v2", 2, Gic::V2)] {
        let several = (0..BOOTS).any(|_| builders(name, Machine::virt(gic).cpus(cpus)) > 1);
        assert!(
            several,
            "{name}: one CPU has built all guests, {BOOTS} times"
        );
    }
}

/// Boots many guests; returns how many CPUs have built them.
fn builders(name: &str, machine: Machine) -> usize {
    const GUESTS: usize = 48;
    let names = || (1..=GUESTS).map(|number| format!("g{number}"));
    let bundle = names().fold(Bundle::new(name).hash(None), |bundle, name| {
        let guest = Guest::hello(&name).memory_mib(4);
        bundle.guest(guest.boot_arguments("count=1 period=1ms"))
    });
    let mut console = machine
        .bundle(bundle.write())
        .argument("loglvl=debug")
        .argument(lines::POWER_OFF)
        .start(name);
    let said = console.expect_that("who has built", seconds(300), |line| {
        line.starts_with(lines::BUILT_BY)
    });
    let told = console.lines_with(": domain ");
    let told: Vec<&str> = told
        .iter()
        .filter_map(|line| line.strip_prefix(lines::VIADUCT)?.split(':').next())
        .collect();
    assert_eq!(told, names().collect::<Vec<_>>());
    console.expect(lines::ALL_STOPPED, seconds(300));
    assert_eq!(console.expect_exit(seconds(60)), 0);
    said.trim_start_matches(lines::BUILT_BY)
        .split_whitespace()
        .count()
}

#[test]
fn more_vcpus_than_cpus_share() {
    let mut bundle = Bundle::new("share");
    let names: Vec<String> = (1..=4).map(|index| format!("hello-{index}")).collect();
    for name in &names {
        bundle = bundle.guest(
            Guest::hello(name)
                .cpus(2)
                .boot_arguments("period=50ms count=5"),
        );
    }
    for cpus in [1, 2] {
        let machine = Machine::virt(Gic::V3)
            .cpus(cpus)
            .bundle(bundle.write())
            .argument(lines::POWER_OFF);
        let mut console = machine.start(&format!("share-{cpus}"));
        let beats: Vec<String> = names
            .iter()
            .map(|name| format!("{name}| hello: heartbeat 5"))
            .collect();
        console.expect_each(&beats, seconds(60));
        console.expect(lines::ALL_STOPPED, seconds(300));
    }
}

#[test]
fn no_guest_is_said_and_powers_off() {
    let mut console = Machine::virt(Gic::V3)
        .argument(lines::POWER_OFF)
        .start("no-guest");
    console.expect(lines::BANNER, seconds(60));
    console.expect(lines::NO_GUESTS, seconds(60));
    assert_eq!(console.expect_exit(seconds(60)), 0);
}

#[test]
fn at_el1_it_says_so_and_parks() {
    for (name, gic) in [("el1-v2", Gic::V2), ("el1-v3", Gic::V3)] {
        let mut console = Machine::virt(gic).without_el2().start(name);
        console.expect(lines::NOT_AT_EL2, seconds(60));
        console.run_for(seconds(1));
        assert!(console.is_running(), "it parks");
    }
}

#[test]
fn the_board_is_named() {
    for (name, machine, model) in [
        ("model-virt", Machine::virt(Gic::V3), "linux,dummy-virt"),
        ("model-pi4", Machine::pi4(), "Raspberry Pi 4 Model B"),
    ] {
        assert!(matches!(
            machine.board(),
            Board::Virt(_) | Board::RaspberryPi4
        ));
        let mut console = machine.start(name);
        console.expect(model, seconds(60));
    }
}
