//! Devices of the board that guests are given: QEMU's clock for a unikernel, a disk for Linux, and what nobody may have.

use viaduct_tests::linux::{at_the_shell, file_system, powers_off, uses_its_disk};
use viaduct_tests::{
    Bundle, CLOCK, Gic, Guest, Machine, lines, linux_initramfs_with_disks, seconds,
};

const BEAT: &str = "period=20ms count=2";

/// The last of the slots for disks, where QEMU puts the first, with the page that it shares with seven others.
const DISK: &str = "gic: gic { #interrupt-cells = <3>; interrupt-controller; };
    passthrough { compatible = \"simple-bus\"; #address-cells = <2>; #size-cells = <2>; ranges;
        virtio_mmio@a003e00 { compatible = \"virtio,mmio\"; reg = <0 0xa003e00 0 0x200>; dma-coherent;
            interrupt-parent = <&gic>; interrupts = <0 47 1>;
            xen,reg = <0 0xa003000 0 0x1000 0 0xa003000>; xen,path = \"/virtio_mmio@a003e00\";
            xen,force-assign-without-iommu; }; };";

fn clock(name: &str, machine: Machine) {
    let guest = Guest::clock("clock");
    // A second guest that wants it is left out, and says whose it is.
    let late = Guest::clock("late");
    let bundle = Bundle::new(name)
        .guest(guest)
        .guest(late)
        .guest(Guest::hello("beside").boot_arguments(BEAT));
    let mut console = machine
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("clock| DONE", seconds(300));
    console.expect(lines::ALL_STOPPED, seconds(300));
    assert_eq!(console.lines_with("clock| PASS rtc").len(), 1);
    assert!(!console.lines_with("which clock has").is_empty());
    assert!(console.lines_with("late|").is_empty());
}

#[test]
fn a_unikernel_has_the_clock_on_gicv2() {
    clock("clock-v2", Machine::virt(Gic::V2));
}

#[test]
fn a_unikernel_has_the_clock_on_gicv3() {
    clock("clock-v3", Machine::virt(Gic::V3));
}

fn disk(name: &str, machine: Machine) {
    let image = file_system(name);
    let linux = Guest::linux("linux")
        .cpus(2)
        .ramdisk(linux_initramfs_with_disks())
        .devices(DISK)
        .extra("xen,static-mem = <0x60000000 0x10000000>; direct-map; viaduct,console-focus;");
    let bundle = Bundle::new(name).guest(linux).guest(Guest::hello("hello"));
    let mut console = machine
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .device(&format!(
            "-drive if=none,format=raw,id=disk,file={}",
            image.display()
        ))
        .device("-device virtio-blk-device,drive=disk")
        .start(name);
    at_the_shell(&mut console, "linux");
    let neighbours = console.lines_with("where /virtio_mmio@a003000");
    assert!(
        neighbours[0].contains("/virtio_mmio@a003c00"),
        "{neighbours:?}"
    );
    uses_its_disk(&mut console, "linux", "/dev/vda");
    powers_off(&mut console, "linux");
}

#[test]
fn linux_has_a_disk_on_gicv2() {
    disk("disk-v2", Machine::virt(Gic::V2));
}

#[test]
fn linux_has_a_disk_on_gicv3() {
    disk("disk-v3", Machine::virt(Gic::V3));
}

/// A hostile guest that has the clock, on two CPUs, and in the end still has its alarms. Beside it goes on a guest that
/// watches its own clock and memory, and the board's UART with an interrupt of its own.
fn storm(name: &str, machine: Machine, seed: u64) {
    let line = format!("test=device-storm seed={seed}");
    let bad = Guest::probe("bad", &line).cpus(2).devices(CLOCK);
    let good = Guest::probe("good", "test=witness").extra("viaduct,console-focus;");
    let bundle = Bundle::new(name).guest(bad).guest(good);
    let mut console = machine
        .cpus(2)
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("good| READY witness", seconds(60));
    console.expect("bad| PASS device-storm", seconds(300));
    console.expect("good| NOTE witness beat", seconds(60));
    console.send("\n");
    console.expect("good| PASS witness", seconds(60));
    let told = console.lines_with("viaduct| bad: ").len();
    assert!(told < 60, "{name}: {told} lines about it");
    let line = console.expect(lines::MEMORY_FREE, seconds(300));
    assert!(lines::all_is_free(&line), "{name}: {line}");
}

#[test]
fn a_hostile_owner_of_the_clock_on_gicv2() {
    storm("storm-v2", Machine::virt(Gic::V2), 1);
}

#[test]
fn a_hostile_owner_of_the_clock_on_gicv3() {
    storm("storm-v3", Machine::virt(Gic::V3), 2);
}

#[test]
#[ignore = "long"]
fn hostile_owners_of_the_clock() {
    for seed in 10..20 {
        storm(&format!("storm-v2-{seed}"), Machine::virt(Gic::V2), seed);
        storm(&format!("storm-v3-{seed}"), Machine::virt(Gic::V3), seed);
    }
}

/// One that crashes in the midst of that: what it left behind is taken back, and its next life has the clock as if it
/// were the first.
fn dies_in_the_storm(name: &str, machine: Machine) {
    const LIVES: usize = 3;
    let restart = "viaduct,restart = \"on-crash\"; viaduct,restart-limit = <0>; viaduct,restart-backoff-ms = <0>;";
    let line = "test=rtc,device-storm rounds=600 dies";
    let bad = Guest::probe("bad", line)
        .cpus(2)
        .devices(CLOCK)
        .extra(restart);
    let good = Guest::probe("good", "test=witness").extra("viaduct,console-focus;");
    let bundle = Bundle::new(name).guest(bad).guest(good);
    let mut console = machine
        .cpus(2)
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    // Each life first has its alarms in good order.
    for _ in 0..LIVES {
        console.expect("bad| PASS rtc", seconds(60));
        console.expect("bad| BEGIN device-storm", seconds(60));
    }
    console.expect("bad| PASS rtc", seconds(60));
    console.expect_never(&["bad| FAIL"]);
    console.send("\n");
    console.expect("good| PASS witness", seconds(60));
}

#[test]
fn what_a_storm_leaves_behind_is_taken_back_on_gicv2() {
    dies_in_the_storm("storm-dies-v2", Machine::virt(Gic::V2));
}

#[test]
fn what_a_storm_leaves_behind_is_taken_back_on_gicv3() {
    dies_in_the_storm("storm-dies-v3", Machine::virt(Gic::V3));
}
