//! The ABI as guests use it: the conformance guest with every sub-operation of every hypercall, and what well-known guests
//! ask at their start, on every machine.

use viaduct_tests::{Bundle, Gic, Guest, Machine, guest_elf, lines, seconds};

/// Cases that a run has at least: it would be a bad sign if they became fewer.
const CASES: usize = 1100;

/// Runs it beside a guest that lives and that it has nothing to do with.
fn conforms(name: &str, machine: Machine) {
    let guest = Guest::new("conformance", guest_elf("conformance"));
    let bundle = Bundle::new(name)
        .guest(Guest::hello("stranger"))
        .guest(guest.cpus(2).boot_arguments("stranger=1"))
        .write();
    let mut console = machine.bundle(bundle).start(name);
    console.expect("conformance| DONE", seconds(300));
    // What it recorded before it asked for power-off.
    console.expect(&lines::stopped("conformance", "crash"), seconds(60));
    let failed = console.lines_with("conformance| FAIL");
    assert!(failed.is_empty(), "{name}: {failed:#?}");
    let passed = console.lines_with("conformance| PASS").len();
    assert!(passed >= CASES, "{name}: only {passed} passed");
    console.expect_never(&["stranger| guest panic", "viaduct| stranger: stopped"]);
}

#[test]
fn gicv2() {
    conforms("conformance-v2", Machine::virt(Gic::V2).cpus(1));
}

#[test]
fn gicv3() {
    conforms("conformance-v3", Machine::virt(Gic::V3).cpus(2));
}

#[test]
fn raspi4b() {
    conforms("conformance-pi4", Machine::pi4());
}

/// What Zephyr, U-Boot, Unikraft and Mini-OS ask at their start, with MMU and caches off; once more beside a xenstore.
fn starts(name: &str, machine: Machine) {
    let guests = ["zephyr", "uboot", "unikraft", "minios"];
    let mut bundle = Bundle::new(name);
    for (enhanced, suffix) in [("no-xenstore", ""), ("enabled", "-store")] {
        for guest in guests {
            let kernel = guest_elf("early");
            bundle = bundle.guest(
                Guest::new(&format!("{guest}{suffix}"), kernel)
                    .memory_mib(4)
                    .enhanced(Some(enhanced))
                    .boot_arguments(&format!("early={guest}")),
            );
        }
    }
    let mut console = machine
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect(lines::ALL_STOPPED, seconds(300));
    assert_eq!(console.lines_with("| FAIL"), Vec::<String>::new(), "{name}");
    for guest in guests {
        for suffix in ["", "-store"] {
            let line = lines::stopped(&format!("{guest}{suffix}"), "poweroff");
            assert!(!console.lines_with(&line).is_empty(), "{name}: {line}");
        }
    }
    let line = console.expect(lines::MEMORY_FREE, seconds(300));
    assert!(lines::all_is_free(&line), "{name}: {line}");
}

#[test]
fn starts_gicv2() {
    starts("early-v2", Machine::virt(Gic::V2).cpus(1));
}

#[test]
fn starts_gicv3() {
    starts("early-v3", Machine::virt(Gic::V3).cpus(2));
}

#[test]
fn starts_raspi4b() {
    starts("early-pi4", Machine::pi4());
}
