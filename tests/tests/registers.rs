//! System registers: all that can be encoded, on every machine and on other CPUs, beside a heartbeat.

use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

/// Runs a test of the probe beside a guest that beats on: on its CPU, and whose own registers would show what
/// leaks.
fn beside_a_heartbeat(name: &str, machine: Machine, line: &str) -> Vec<String> {
    let bundle = Bundle::new(name)
        .guest(Guest::hello("good").boot_arguments("period=100ms"))
        .guest(Guest::probe("probe", line))
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("probe| DONE", seconds(300));
    console.expect(&lines::stopped("probe", "poweroff"), seconds(60));
    for _ in 0..5 {
        console.expect("good| hello: heartbeat", seconds(60));
    }
    console.expect_never(&["good| guest panic", "probe| FAIL", "probe| SKIP"]);
    console.lines_with("probe| NOTE")
}

#[test]
fn all_encodings_gicv2() {
    beside_a_heartbeat(
        "space-v2",
        Machine::virt(Gic::V2).cpus(1),
        "test=space,space-el0 seed=1",
    );
}

#[test]
fn all_encodings_gicv3() {
    beside_a_heartbeat(
        "space-v3",
        Machine::virt(Gic::V3).cpus(1),
        "test=space,space-el0 seed=2",
    );
}

#[test]
fn all_encodings_pi4() {
    beside_a_heartbeat("space-pi4", Machine::pi4(), "test=space,space-el0 seed=3");
}

/// A CPU with more than guests are shown.
#[test]
fn all_encodings_newest_cpu() {
    beside_a_heartbeat(
        "space-max",
        Machine::virt(Gic::V3).cpus(1).cpu("max"),
        "test=space,space-el0 seed=4",
    );
}
