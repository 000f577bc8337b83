//! Where the frames of guests go: given up, granted, and back to the pool.

use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

const BALLOON: &str =
    "balloon-pages,balloon-chunks,balloon-errors,balloon-under-a-page,memory-batch";
const GRANTS: &str = "grant-share,grant-read-only,grant-over-ram,grant-copy,grant-copy-edges,grant-refusals,grant-lists,grant-others";

/// Runs subjects of the probe in one guest, and checks that all memory is free in the end.
fn all_comes_back(name: &str, machine: Machine, vcpus: u32, subjects: &str) {
    let bundle = Bundle::new(name)
        .guest(Guest::probe("probe", &format!("test={subjects}")).cpus(vcpus))
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("probe| DONE", seconds(300));
    console.expect(&lines::stopped("probe", "poweroff"), seconds(60));
    let failed = console.lines_with("probe| FAIL");
    assert!(failed.is_empty(), "{name}: {failed:#?}");
    let passed = console.lines_with("probe| PASS").len();
    assert_eq!(passed, subjects.split(',').count(), "{name}");
    let line = console.expect(lines::MEMORY_FREE, seconds(300));
    assert!(lines::all_is_free(&line), "{name}: {line}");
}

#[test]
fn alone_gicv3() {
    let subjects = format!("{BALLOON},balloon-race,{GRANTS},grant-race");
    all_comes_back("balloon-v3", Machine::virt(Gic::V3).cpus(2), 2, &subjects);
}

#[test]
fn alone_gicv2_one_cpu() {
    let subjects = format!("{BALLOON},{GRANTS}");
    all_comes_back("balloon-v2", Machine::virt(Gic::V2).cpus(1), 1, &subjects);
}

#[test]
fn alone_raspi4b() {
    let subjects = format!("{BALLOON},balloon-race,{GRANTS},grant-race");
    all_comes_back("balloon-pi4", Machine::pi4(), 4, &subjects);
}

/// Two guests share pages, and one of them ends in the midst: what it had given stays with the other until
/// that gives it back, and all memory is free in the end.
fn pair(name: &str, machine: Machine, dies: &str) {
    let guest = |guest: &str, test: &str| Guest::probe(guest, &format!("test={test} dies={dies}"));
    let bundle = Bundle::new(name)
        .guest(guest("giver", "grant-give").extra("viaduct,peers = \"user\";"))
        .guest(guest("user", "grant-use"))
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    let (dead, survivor) = match dies {
        "giver" => ("giver", "user"),
        _ => ("user", "giver"),
    };
    let line = console.expect(lines::MEMORY_FREE, seconds(300));
    let has = |line: &str| !console.lines_with(line).is_empty();
    assert!(has(&lines::stopped(dead, "crash")), "{name}: no crash");
    assert!(
        has(&format!("{survivor}| DONE")),
        "{name}: {survivor} hangs"
    );
    for guest in ["giver", "user"] {
        let failed = console.lines_with(&format!("{guest}| FAIL"));
        assert!(failed.is_empty(), "{name}: {failed:#?}");
    }
    assert!(lines::all_is_free(&line), "{name}: {line}");
}

#[test]
fn the_giver_ends_gicv3() {
    pair("giver-ends-v3", Machine::virt(Gic::V3).cpus(2), "giver");
}

#[test]
fn the_user_ends_gicv2() {
    pair("user-ends-v2", Machine::virt(Gic::V2).cpus(2), "user");
}

#[test]
fn the_giver_ends_one_cpu() {
    pair("giver-ends-1", Machine::virt(Gic::V2).cpus(1), "giver");
}

#[test]
fn the_user_ends_raspi4b() {
    pair("user-ends-pi4", Machine::pi4(), "user");
}
