//! Where the frames of guests go: given up, granted, and back to the pool.

use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

const BALLOON: &str =
    "balloon-pages,balloon-chunks,balloon-errors,balloon-under-a-page,memory-batch";

/// Runs subjects of the probe in one guest, and checks that all memory is free in the end.
fn all_comes_back(name: &str, machine: Machine, vcpus: u32, subjects: &str) {
    let bundle = Bundle::new(name)
        .guest(Guest::probe("probe", &format!("test={subjects}")).cpus(vcpus))
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("probe| DONE", seconds(40));
    console.expect(&lines::stopped("probe", "poweroff"), seconds(10));
    let failed = console.lines_with("probe| FAIL");
    assert!(failed.is_empty(), "{name}: {failed:#?}");
    let passed = console.lines_with("probe| PASS").len();
    assert_eq!(passed, subjects.split(',').count(), "{name}");
    let line = console.expect(lines::MEMORY_FREE, seconds(10));
    assert!(lines::all_is_free(&line), "{name}: {line}");
}

#[test]
fn balloon_gicv3() {
    let subjects = format!("{BALLOON},balloon-race");
    all_comes_back("balloon-v3", Machine::virt(Gic::V3).cpus(2), 2, &subjects);
}

#[test]
fn balloon_gicv2_one_cpu() {
    all_comes_back("balloon-v2", Machine::virt(Gic::V2).cpus(1), 1, BALLOON);
}

#[test]
fn balloon_raspi4b() {
    let subjects = format!("{BALLOON},balloon-race");
    all_comes_back("balloon-pi4", Machine::pi4(), 4, &subjects);
}
