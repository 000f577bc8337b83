//! The probe guest's tests, on every machine.

use viaduct_tests::{Bundle, Gic, Guest, Image, Machine, lines, seconds};

/// Tests that may say SKIP here: none, until one has a reason.
const MAY_SKIP: [&str; 0] = [];

/// Runs every test of the probe that ends by itself.
fn passes(name: &str, machine: Machine, vcpus: u32) {
    let bundle = Bundle::new(name)
        .guest(Guest::probe("probe", "test=all").cpus(vcpus).vpl011())
        .write();
    let mut console = machine
        .alone()
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("probe| DONE", seconds(300));
    console.expect(&lines::stopped("probe", "poweroff"), seconds(60));
    let failed = console.lines_with("probe| FAIL");
    assert!(failed.is_empty(), "{name}: {failed:#?}");
    let skipped: Vec<String> = console
        .lines_with("probe| SKIP")
        .into_iter()
        .filter(|line| vcpus > 1 || !line.ends_with("too few CPUs"))
        .filter(|line| MAY_SKIP.iter().all(|name| !line.contains(name)))
        .collect();
    assert!(skipped.is_empty(), "{name}: {skipped:#?}");
    let passed = console.lines_with("probe| PASS").len();
    assert!(passed >= 40, "{name}: only {passed} passed");
}

#[test]
fn gicv3_4_cpus() {
    passes("probe-v3-4", Machine::virt(Gic::V3).cpus(4), 4);
}

#[test]
fn gicv2_4_cpus() {
    passes("probe-v2-4", Machine::virt(Gic::V2).cpus(4), 4);
}

#[test]
fn gicv3_1_cpu() {
    passes("probe-v3-1", Machine::virt(Gic::V3).cpus(1), 1);
}

#[test]
fn gicv2_2_vcpus_on_1_cpu() {
    passes("probe-v2-1", Machine::virt(Gic::V2).cpus(1), 2);
}

#[test]
fn gicv3_2_vcpus_on_1_cpu_debug() {
    passes(
        "probe-v3-debug",
        Machine::virt(Gic::V3).cpus(1).image(Image::Debug),
        2,
    );
}

/// vCPU 2 shares the first CPU with vCPU 0, and vCPU 1 wakes it from the other one.
#[test]
fn gicv3_3_vcpus_on_2_cpus() {
    passes("probe-v3-2", Machine::virt(Gic::V3).cpus(2), 3);
}

#[test]
fn raspi4b() {
    passes("probe-pi4", Machine::pi4(), 4);
}

/// A line typed on the console arrives, by each way that input can take.
#[test]
fn input_arrives() {
    for (name, guest) in [
        ("input-ring", Guest::probe("probe", "test=input")),
        (
            "input-uart",
            Guest::probe("probe", "test=input").vpl011().enhanced(None),
        ),
    ] {
        let bundle = Bundle::new(name)
            .guest(guest.extra("viaduct,console-focus;"))
            .write();
        let mut console = Machine::virt(Gic::V3).bundle(bundle).start(name);
        console.expect("probe| READY input", seconds(60));
        console.send("one two\r");
        console.expect("probe| GOT one two", seconds(60));
        console.expect("probe| PASS input", seconds(60));
    }
}

/// A guest that only moves its timer's compare value gets every tick, also when one comes while the
/// last is not yet ended: the emulated GICv2 forgets such an interrupt until it is made to look.
#[test]
fn no_tick_is_lost() {
    let names = ["timer-compare-only"; 40].join(",");
    for (name, machine) in [
        ("ticks-v2", Machine::virt(Gic::V2).cpus(1)),
        ("ticks-v3", Machine::virt(Gic::V3).cpus(1)),
    ] {
        let bundle = Bundle::new(name)
            .guest(Guest::probe("probe", &format!("test={names}")))
            .write();
        let mut console = machine.alone().bundle(bundle).start(name);
        console.expect("probe| DONE", seconds(300));
        let failed = console.lines_with("probe| FAIL");
        assert!(failed.is_empty(), "{name}: {failed:#?}");
    }
}
