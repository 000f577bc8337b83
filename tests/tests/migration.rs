//! More vCPUs than CPUs: they take turns and move, and a guest notices nothing but the time.

use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

/// A vCPU's node with the CPUs that it may run on.
fn pinned(vcpu: u32, cpus: &str) -> String {
    format!(
        "vcpu{vcpu} {{ compatible = \"xen,vcpu\"; id = <{vcpu}>; hard-affinity = \"{cpus}\"; }};"
    )
}

/// A vCPU runs where a CPU is free: it hardly waits though both CPUs are another's half of the time.
#[test]
fn a_vcpu_goes_where_there_is_room() {
    for (name, machine) in [
        ("moves-v2", Machine::virt(Gic::V2).cpus(2)),
        ("moves-v3", Machine::virt(Gic::V3).cpus(2)),
    ] {
        let nodes = pinned(0, "0") + &pinned(1, "1") + &pinned(2, "0-1");
        let guest = Guest::probe("probe", "test=moves").cpus(3).extra(&nodes);
        let bundle = Bundle::new(name).guest(guest).write();
        let mut console = machine.icount().bundle(bundle).start(name);
        console.expect("probe| DONE", seconds(300));
        let troubles = console.lines_with("probe| FAIL");
        assert!(troubles.is_empty(), "{name}: {troubles:#?}");
        let passed = console.lines_with("probe| PASS moves");
        assert_eq!(passed.len(), 1, "{name}");
    }
}

/// Runs every test of the probe in some guests at once.
fn share(name: &str, machine: Machine, guests: u32, vcpus: u32) {
    let mut bundle = Bundle::new(name);
    for number in 1..=guests {
        // An interrupt may come as late as the others' slices are long.
        let guest = Guest::probe(&format!("probe-{number}"), "test=all late=500ms");
        bundle = bundle.guest(guest.cpus(vcpus).vpl011());
    }
    let mut console = machine
        .alone()
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect(lines::ALL_STOPPED, seconds(300));
    for number in 1..=guests {
        let of = |word: &str| console.lines_with(&format!("probe-{number}| {word}"));
        let troubles = [of("FAIL"), of("SKIP")].concat();
        assert!(troubles.is_empty(), "{name}: {troubles:#?}");
        assert!(of("PASS").len() >= 40, "{name}: {:#?}", of("PASS"));
        assert_eq!(of("DONE").len(), 1, "{name}");
    }
}

#[test]
fn gicv3_4_vcpus_on_2_cpus() {
    share("share-v3", Machine::virt(Gic::V3).cpus(2), 1, 4);
}

#[test]
fn gicv2_2_guests_of_3_on_2_cpus() {
    share("share-v2", Machine::virt(Gic::V2).cpus(2), 2, 3);
}

#[test]
fn raspi4b_2_guests_of_4() {
    share("share-pi4", Machine::pi4(), 2, 4);
}
