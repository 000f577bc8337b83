//! The conformance guest: every sub-operation of every hypercall, on every machine.

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
    console.expect("conformance| DONE", seconds(60));
    // What it recorded before it asked for power-off.
    console.expect(&lines::stopped("conformance", "crash"), seconds(10));
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
