//! Other processors than the Cortex-A72: the probe's subjects and Debian's Linux on newer ones, of whose features
//! guests are shown those alone that work.

use viaduct_tests::linux::{self, looks_healthy};
use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

/// The newest that QEMU has, with everything; a core of Armv8.2 with RAS; the same for servers.
const PROCESSORS: [&str; 3] = ["max", "cortex-a76", "neoverse-n1"];

/// What depends on the processor: state that a switch carries, registers, exceptions, timers.
const SUBJECTS: &str = "entry-state,psci-features,smccc,timer-accuracy,timer-physical,gic-identity,id-registers,\
    id-space,system-registers,set-way,set-way-caches,program-calls,program-aarch32,aarch32-timers,aarch32-debug,fp-alone,\
    fp-smp,fault-unmapped,fault-syndrome,injected-state,event-ipi";

fn passes(processor: &'static str, gic: Gic, subjects: &str, least: usize) {
    let name = format!("processor-{processor}-{gic:?}").to_lowercase();
    let bundle = Bundle::new(&name)
        .guest(
            Guest::probe("probe", &format!("test={subjects}"))
                .cpus(2)
                .vpl011(),
        )
        .write();
    let mut console = Machine::virt(gic)
        .cpu(processor)
        .alone()
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(&name);
    console.expect("probe| DONE", seconds(300));
    console.expect(&lines::stopped("probe", "poweroff"), seconds(60));
    console.expect_never(&["probe| FAIL", "probe| SKIP"]);
    let passed = console.lines_with("probe| PASS").len();
    assert!(passed >= least, "{name}: only {passed} passed");
}

fn runs_linux(processor: &'static str, gic: Gic) {
    let name = format!("linux-{processor}-{gic:?}").to_lowercase();
    let machine = Machine::virt(gic).cpu(processor);
    let mut console = linux::to_shell(&name, machine, Guest::linux("linux").cpus(2));
    looks_healthy(&mut console, "linux", 2);
    linux::powers_off(&mut console, "linux");
}

#[test]
fn the_newest() {
    passes("max", Gic::V3, SUBJECTS, 21);
}

#[test]
fn linux_on_the_newest() {
    runs_linux("max", Gic::V3);
}

#[test]
#[ignore = "long"]
fn every_subject() {
    for processor in PROCESSORS {
        for gic in [Gic::V2, Gic::V3] {
            passes(processor, gic, "all", 40);
        }
    }
}

#[test]
#[ignore = "long"]
fn linux_everywhere() {
    for processor in PROCESSORS {
        for gic in [Gic::V2, Gic::V3] {
            runs_linux(processor, gic);
        }
    }
}
