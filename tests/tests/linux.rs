//! Debian's Linux as a guest, to its shell and back.

use viaduct_tests::{Bundle, Console, Gic, Guest, Image, Machine, lines, seconds};

const SHELL: &str = "linux| This is a busybox shell";

/// Boots one Linux and a heartbeat beside it, and waits for the shell.
fn to_shell(name: &str, machine: Machine, linux: Guest) -> Console {
    let bundle = Bundle::new(name)
        .guest(linux.extra("viaduct,console-focus;"))
        .guest(Guest::hello("hello"))
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    at_the_shell(&mut console);
    console
}

/// Waits for the shell. From then on the kernel keeps its messages out of the commands' output.
fn at_the_shell(console: &mut Console) {
    console.expect(SHELL, seconds(120));
    console.command("linux", "dmesg -n 1", seconds(60));
}

/// What Linux says of itself and of us.
fn looks_healthy(console: &mut Console, cpus: u32) {
    assert_eq!(
        console.command("linux", "nproc", seconds(20)),
        [cpus.to_string()]
    );
    let log = console.command("linux", "dmesg", seconds(40));
    let has = |text: &str| log.iter().any(|line| line.contains(text));
    assert!(has("Xen 4."), "Linux did not find Xen: {log:#?}");
    for bad in [
        "BUG",
        "WARNING",
        "Call trace",
        "Oops",
        "rcu_sched detected stalls",
        "soft lockup",
    ] {
        assert!(!has(bad), "{bad} in {log:#?}");
    }
    assert_eq!(
        console.command("linux", "cat /sys/hypervisor/type", seconds(20)),
        ["xen"]
    );
    // Time passes at the right pace: a second is neither half nor two.
    let uptime = |console: &mut Console| {
        let answer = console.command("linux", "cut -d' ' -f1 /proc/uptime", seconds(20));
        answer
            .first()
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let before = uptime(console);
    console.command("linux", "sleep 2", seconds(30));
    let passed = uptime(console) - before;
    assert!((1.9..20.0).contains(&passed), "sleep 2 took {passed} s");
    // Memory is memory.
    let sums = console.command(
        "linux",
        "dd if=/dev/urandom of=/tmp/a bs=1M count=16 2>/dev/null; cp /tmp/a /tmp/b; cmp /tmp/a /tmp/b && echo same",
        seconds(60),
    );
    assert_eq!(sums, ["same"]);
}

fn powers_off(console: &mut Console) {
    console.send("poweroff\n");
    console.expect(&lines::stopped("linux", "poweroff"), seconds(30));
    // The other guest goes on.
    console.expect("hello| hello: heartbeat", seconds(10));
    console.expect("hello| hello: heartbeat", seconds(10));
}

#[test]
fn hvc0_on_gicv3() {
    let linux = Guest::linux("linux").cpus(2);
    let mut console = to_shell("linux-hvc0-v3", Machine::virt(Gic::V3), linux);
    assert!(console.lines_with("console: hvc0").len() == 1);
    looks_healthy(&mut console, 2);
    powers_off(&mut console);
}

#[test]
fn hvc0_on_gicv2() {
    let linux = Guest::linux("linux").cpus(2);
    let mut console = to_shell("linux-hvc0-v2", Machine::virt(Gic::V2), linux);
    looks_healthy(&mut console, 2);
    powers_off(&mut console);
}

/// Xen's interfaces and the emulated UART side by side, the console on the UART.
fn on_ttyama0(name: &str, gic: Gic) {
    let linux = Guest::linux("linux")
        .vpl011()
        .boot_arguments("console=ttyAMA0 earlycon=pl011,0x22000000");
    let mut console = to_shell(name, Machine::virt(gic), linux);
    assert!(console.lines_with("console: ttyAMA0").len() == 1);
    looks_healthy(&mut console, 1);
    powers_off(&mut console);
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
    looks_healthy(&mut console, 1);
}

#[test]
fn two_vcpus_on_one_cpu() {
    let machine = Machine::virt(Gic::V3).cpus(1);
    let mut console = to_shell("linux-one-cpu", machine, Guest::linux("linux").cpus(2));
    looks_healthy(&mut console, 2);
}

#[test]
fn reboot_has_its_reason() {
    let mut console = to_shell(
        "linux-reboot",
        Machine::virt(Gic::V3),
        Guest::linux("linux"),
    );
    console.send("reboot\n");
    console.expect(&lines::stopped("linux", "reboot"), seconds(30));
}

/// Linux on Arm tells nobody of its panics (on Xen neither); told to reboot on panic it does.
#[test]
fn a_panic_of_linux_stays_its_own() {
    let linux = Guest::linux("linux").boot_arguments("console=hvc0 panic=1");
    let mut console = to_shell("linux-panic", Machine::virt(Gic::V3), linux);
    console.send("echo c > /proc/sysrq-trigger\n");
    console.expect(&lines::stopped("linux", "reboot"), seconds(30));
    console.expect("hello| hello: heartbeat", seconds(10));
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
    at_the_shell(&mut console);
    looks_healthy(&mut console, 2);
    powers_off(&mut console);
}

#[test]
fn on_raspi4b() {
    let mut console = to_shell("linux-pi4", Machine::pi4(), Guest::linux("linux").cpus(4));
    looks_healthy(&mut console, 4);
    powers_off(&mut console);
}

/// CPUs of a guest can be switched off and on again (PSCI CPU_OFF, CPU_ON, AFFINITY_INFO).
#[test]
fn cpus_go_off_and_on() {
    let linux = Guest::linux("linux").cpus(2);
    let mut console = to_shell("linux-hotplug", Machine::virt(Gic::V3), linux);
    let command = "for i in 1 2 3; do echo 0 > /sys/devices/system/cpu/cpu1/online && nproc && \
                   echo 1 > /sys/devices/system/cpu/cpu1/online && nproc; done";
    let numbers = console.command("linux", command, seconds(60));
    let numbers: Vec<&String> = numbers.iter().filter(|line| line.len() == 1).collect();
    assert_eq!(numbers, ["1", "2", "1", "2", "1", "2"]);
    looks_healthy(&mut console, 2);
}
