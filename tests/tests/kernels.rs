//! Debian's kernels of today: bookworm's, trixie's and sid's, in every flavour, on both interrupt
//! controllers; and many guests of different kinds on few CPUs.

use viaduct_tests::linux::{
    self, computes, cpus_come_and_go, has_no_complaint, input_to, ticks_everywhere,
};
use viaduct_tests::{Bundle, Console, Gic, Guest, Machine, debian_kernel, seconds};

/// One row of the matrix, on a machine of two CPUs: to the shell, all that a healthy Linux is asked,
/// its CPUs off and on again under load, and off.
fn row(suite: &str, flavour: &str, cpus: u32, gic: Gic) {
    row_on("cortex-a72", suite, flavour, cpus, gic);
}

fn row_on(processor: &'static str, suite: &str, flavour: &str, cpus: u32, gic: Gic) {
    let name = format!("kernel-{suite}-{flavour}-{cpus}-{gic:?}").to_lowercase();
    let guest = Guest::linux("linux")
        .kernel(debian_kernel(suite, flavour))
        .cpus(cpus)
        .enhanced(Some("enabled"));
    let mut console = linux::to_shell(&name, Machine::virt(gic).cpu(processor), guest);
    let release = console.command("linux", "uname -r", seconds(60)).concat();
    println!(
        "{name}: {release}, shell after {:.1} s",
        console.age().as_secs_f64()
    );
    linux::uses_all_of_xen(&mut console, "linux");
    linux::looks_healthy(&mut console, "linux", cpus);
    if cpus > 1 {
        cpus_come_and_go(&mut console, "linux", cpus, 2);
        linux::looks_healthy(&mut console, "linux", cpus);
    }
    linux::powers_off(&mut console, "linux");
    println!("{name}: done after {:.1} s", console.age().as_secs_f64());
}

// Six rows in which each suite, flavour, number of CPUs and interrupt controller meets each other.

#[test]
fn bookworm_cloud_1_cpu_gicv2() {
    row("bookworm", "cloud-arm64", 1, Gic::V2);
}

#[test]
fn bookworm_generic_4_cpus_gicv3() {
    row("bookworm", "arm64", 4, Gic::V3);
}

#[test]
fn trixie_cloud_4_cpus_gicv3() {
    row("trixie", "cloud-arm64", 4, Gic::V3);
}

#[test]
fn trixie_generic_1_cpu_gicv2() {
    row("trixie", "arm64", 1, Gic::V2);
}

#[test]
fn sid_cloud_4_cpus_gicv2() {
    row("sid", "cloud-arm64", 4, Gic::V2);
}

#[test]
fn sid_generic_1_cpu_gicv3() {
    row("sid", "arm64", 1, Gic::V3);
}

/// The full product for one kernel.
fn every_row(suite: &str, flavour: &str) {
    for gic in [Gic::V2, Gic::V3] {
        for cpus in [1, 4] {
            row(suite, flavour, cpus, gic);
        }
    }
}

#[test]
#[ignore = "long"]
fn bookworm_cloud() {
    every_row("bookworm", "cloud-arm64");
}

#[test]
#[ignore = "long"]
fn bookworm_generic() {
    every_row("bookworm", "arm64");
}

#[test]
#[ignore = "long"]
fn trixie_cloud() {
    every_row("trixie", "cloud-arm64");
}

#[test]
#[ignore = "long"]
fn trixie_generic() {
    every_row("trixie", "arm64");
}

#[test]
#[ignore = "long"]
fn sid_cloud() {
    every_row("sid", "cloud-arm64");
}

#[test]
#[ignore = "long"]
fn sid_generic() {
    every_row("sid", "arm64");
}

/// A Cortex-A72 has pages of 4 and 64 KiB alone (`ID_AA64MMFR0_EL1.TGran16` is 0).
#[test]
#[ignore = "long"]
fn pages_of_16_kib() {
    row_on("cortex-a76", "trixie", "arm64-16k", 4, Gic::V2);
    row_on("cortex-a76", "sid", "arm64-16k", 4, Gic::V3);
}

#[test]
#[ignore = "long"]
fn preemptible_everywhere() {
    row("bookworm", "rt-arm64", 4, Gic::V3);
    row("trixie", "rt-arm64", 4, Gic::V2);
    row("sid", "rt-arm64", 4, Gic::V3);
}

const UNIKERNELS: u32 = 4;

/// Two Linux of different make and four unikernels at once: each goes on while the others work.
fn crowd(name: &str, machine: Machine) {
    let linux = |name: &str, suite: &str| {
        Guest::linux(name)
            .kernel(debian_kernel(suite, "cloud-arm64"))
            .memory_mib(192)
            .cpus(2)
    };
    let mut bundle = Bundle::new(name)
        .guest(linux("first", "bookworm").extra("viaduct,console-focus;"))
        .guest(linux("second", "sid"));
    for index in 1..=UNIKERNELS {
        let guest = Guest::hello(&format!("hello-{index}")).boot_arguments("period=250ms");
        bundle = bundle.guest(guest);
    }
    let mut console = machine.bundle(bundle.write()).start(name);
    console.expect_each(
        &[
            "first| This is a busybox shell",
            "second| This is a busybox shell",
        ],
        seconds(300),
    );
    let before = heartbeats(&console);
    // The first has enough to do for both CPUs for as long as the second is asked.
    console.command("first", "dmesg -n 1", seconds(60));
    ticks_everywhere(&mut console, "first", 2);
    console.command(
        "first",
        "for n in 1 2; do (while :; do :; done) & done",
        seconds(60),
    );
    input_to(&mut console, "second");
    console.command("second", "dmesg -n 1", seconds(60));
    ticks_everywhere(&mut console, "second", 2);
    computes(&mut console, "second", 2);
    has_no_complaint(&mut console, "second");
    input_to(&mut console, "first");
    console.command("first", "kill $(jobs -p)", seconds(60));
    computes(&mut console, "first", 2);
    has_no_complaint(&mut console, "first");
    let after = heartbeats(&console);
    for (before, after) in before.iter().zip(&after) {
        assert!(*after >= before + 8, "{before} beats, then {after}");
    }
    let further: Vec<String> = (1..)
        .zip(after)
        .map(|(index, beat)| format!("hello-{index}| hello: heartbeat {} at", beat + 8))
        .collect();
    console.expect_each(&further, seconds(60));
}

/// The number of the last heartbeat of each unikernel.
fn heartbeats(console: &Console) -> Vec<u64> {
    let last = |index| {
        let lines = console.lines_with(&format!("hello-{index}| hello: heartbeat "));
        lines
            .iter()
            .rev()
            .filter(|line| line.ends_with(" ms"))
            .find_map(|line| line.split(' ').nth(3)?.parse().ok())
    };
    (1..=UNIKERNELS)
        .map(|index| last(index).unwrap_or_else(|| console.fail("a unikernel is silent")))
        .collect()
}

#[test]
fn a_crowd_on_two_cpus_gicv2() {
    crowd("crowd-v2", Machine::virt(Gic::V2));
}

#[test]
fn a_crowd_on_two_cpus_gicv3() {
    crowd("crowd-v3", Machine::virt(Gic::V3));
}

#[test]
fn a_crowd_on_raspi4b() {
    crowd("crowd-pi4", Machine::pi4());
}
