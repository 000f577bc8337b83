//! Debian's Linux as a guest, to its shell and back.

use viaduct_tests::linux::{at_the_shell, cpus_come_and_go, looks_healthy, powers_off, to_shell};
use viaduct_tests::{Gic, Guest, Image, Machine, lines, seconds};

#[test]
fn hvc0_on_gicv3() {
    let linux = Guest::linux("linux").cpus(2);
    let mut console = to_shell("linux-hvc0-v3", Machine::virt(Gic::V3), linux);
    assert!(console.lines_with("console: hvc0").len() == 1);
    assert_eq!(console.lines_with("Using FIFO-based ABI").len(), 1);
    looks_healthy(&mut console, "linux", 2);
    powers_off(&mut console, "linux");
}

#[test]
fn hvc0_on_gicv2() {
    let linux = Guest::linux("linux").cpus(2);
    let mut console = to_shell("linux-hvc0-v2", Machine::virt(Gic::V2), linux);
    assert_eq!(console.lines_with("Using FIFO-based ABI").len(), 1);
    looks_healthy(&mut console, "linux", 2);
    powers_off(&mut console, "linux");
}

/// Xen's interfaces and the emulated UART side by side, the console on the UART.
fn on_ttyama0(name: &str, gic: Gic) {
    let linux = Guest::linux("linux")
        .vpl011()
        .boot_arguments("console=ttyAMA0 earlycon=pl011,0x22000000");
    let mut console = to_shell(name, Machine::virt(gic), linux);
    assert!(console.lines_with("console: ttyAMA0").len() == 1);
    looks_healthy(&mut console, "linux", 1);
    powers_off(&mut console, "linux");
}

#[test]
fn ttyama0_on_gicv3() {
    on_ttyama0("linux-ttyama0-v3", Gic::V3);
}

#[test]
fn ttyama0_on_gicv2() {
    on_ttyama0("linux-ttyama0-v2", Gic::V2);
}

#[test]
fn a_debug_build_runs_it_too() {
    let machine = Machine::virt(Gic::V3).image(Image::Debug);
    let mut console = to_shell("linux-debug", machine, Guest::linux("linux"));
    looks_healthy(&mut console, "linux", 1);
}

#[test]
fn two_vcpus_on_one_cpu() {
    let machine = Machine::virt(Gic::V3).cpus(1);
    let mut console = to_shell("linux-one-cpu", machine, Guest::linux("linux").cpus(2));
    looks_healthy(&mut console, "linux", 2);
}

#[test]
fn reboot_has_its_reason() {
    let mut console = to_shell(
        "linux-reboot",
        Machine::virt(Gic::V3),
        Guest::linux("linux"),
    );
    console.send("reboot\n");
    console.expect(&lines::stopped("linux", "reboot"), seconds(60));
}

/// Linux on Arm tells nobody of its panics (on Xen neither); told to reboot on panic it does.
#[test]
fn a_panic_of_linux_stays_its_own() {
    let linux = Guest::linux("linux").boot_arguments("console=hvc0 panic=1");
    let mut console = to_shell("linux-panic", Machine::virt(Gic::V3), linux);
    console.send("echo c > /proc/sysrq-trigger\n");
    console.expect(&lines::stopped("linux", "reboot"), seconds(60));
    console.expect("hello| hello: heartbeat", seconds(60));
}

#[test]
fn from_the_host_tree() {
    let linux = Guest::linux("linux")
        .cpus(2)
        .vpl011()
        .extra("viaduct,console-focus;");
    let machine = Machine::virt(Gic::V3)
        .guest(linux)
        .guest(Guest::hello("hello"));
    let mut console = machine.argument(lines::POWER_OFF).start("linux-host-tree");
    at_the_shell(&mut console, "linux");
    looks_healthy(&mut console, "linux", 2);
    powers_off(&mut console, "linux");
}

#[test]
fn on_raspi4b() {
    let mut console = to_shell("linux-pi4", Machine::pi4(), Guest::linux("linux").cpus(4));
    looks_healthy(&mut console, "linux", 4);
    powers_off(&mut console, "linux");
}

/// CPUs of a guest can be switched off and on again (PSCI CPU_OFF, CPU_ON, AFFINITY_INFO).
#[test]
fn cpus_go_off_and_on() {
    let linux = Guest::linux("linux").cpus(2);
    let mut console = to_shell("linux-hotplug", Machine::virt(Gic::V3), linux);
    cpus_come_and_go(&mut console, "linux", 2, 3);
    looks_healthy(&mut console, "linux", 2);
}
