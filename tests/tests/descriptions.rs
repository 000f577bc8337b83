//! Wrong descriptions: the guest is left out, with a line that names node, property, found and
//! expected; the others boot.

use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

const BEAT: &str = "period=20ms count=2";

/// Boots `good` beside what `source` says is in `/chosen`, and returns all lines.
fn with_chosen(name: &str, source: &str) -> Vec<String> {
    let good = Guest::hello("good").boot_arguments(BEAT);
    let machine = Machine::virt(Gic::V3)
        .chosen(source)
        .guest(good)
        .argument(lines::POWER_OFF);
    let mut console = machine.start(name);
    console.expect("good| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
    assert_eq!(console.expect_exit(seconds(60)), 0);
    console.lines()
}

/// One line has all of these.
fn names(lines: &[String], parts: &[&str]) {
    let found = lines.iter().any(|line| {
        line.starts_with(lines::VIADUCT) && parts.iter().all(|part| line.contains(part))
    });
    assert!(found, "no line names {parts:?}: {lines:#?}");
}

#[test]
fn a_guest_without_cpus() {
    let lines = with_chosen(
        "bad-cpus",
        "bad { compatible = \"xen,domain\"; memory = <0 0x4000>; };",
    );
    names(
        &lines,
        &["/chosen/bad", "cpus", "found", "expected", "left out"],
    );
}

#[test]
fn a_memory_of_one_cell() {
    let lines = with_chosen(
        "bad-memory",
        "bad { compatible = \"xen,domain\"; memory = <0x4000>; cpus = <1>; };",
    );
    names(
        &lines,
        &["/chosen/bad", "memory", "found", "expected", "left out"],
    );
}

#[test]
fn a_module_outside_ram() {
    let lines = with_chosen(
        "bad-reg",
        "bad { compatible = \"xen,domain\"; memory = <0 0x4000>; cpus = <1>;
             #address-cells = <2>; #size-cells = <2>;
             kernel@100000 { compatible = \"multiboot,kernel\", \"multiboot,module\";
                             reg = <0 0x100000 0 0x1000>; }; };",
    );
    names(
        &lines,
        &["/chosen/bad", "reg", "found", "expected", "left out"],
    );
}

#[test]
fn more_memory_than_there_is() {
    let huge = Guest::hello("huge").memory_mib(64 * 1024);
    let good = Guest::hello("good").boot_arguments(BEAT);
    let machine = Machine::virt(Gic::V3)
        .guest(huge)
        .guest(good)
        .argument(lines::POWER_OFF);
    let mut console = machine.start("bad-size");
    console.expect("good| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
    names(&console.lines(), &["huge", "memory"]);
    console.expect_never(&["huge| "]);
}

#[test]
fn a_property_that_nobody_knows() {
    let good = Guest::hello("good")
        .boot_arguments(BEAT)
        .extra("vcpus = <2>;");
    let machine = Machine::virt(Gic::V3)
        .guest(good)
        .argument(lines::POWER_OFF);
    let mut console = machine.start("unknown-property");
    console.expect("good| hello: heartbeat 2", seconds(60));
    names(&console.lines(), &["/chosen/good", "vcpus"]);
}

#[test]
fn a_classic_dom0_is_left_out_with_one_line() {
    let lines = with_chosen(
        "dom0",
        "xen,dom0-bootargs = \"console=hvc0\";
         dom0 { compatible = \"xen,linux-zimage\", \"xen,multiboot-module\"; reg = <0 0x5a000000 0 0x1000>; };
         dom0-ramdisk { compatible = \"xen,linux-initrd\", \"xen,multiboot-module\"; reg = <0 0x5b000000 0 0x1000>; };",
    );
    let told = lines.iter().filter(|line| line.contains("dom0")).count();
    assert_eq!(told, 1, "{lines:#?}");
}

#[test]
fn an_image_that_the_bundle_lacks() {
    let bundle = Bundle::new("bad-image")
        .guest(Guest::hello("good").boot_arguments(BEAT))
        .extra(
            "bad { compatible = \"xen,domain\"; memory = <0 0x4000>; cpus = <1>;
                 kernel { compatible = \"multiboot,kernel\", \"multiboot,module\"; image = \"nowhere\"; }; };",
        )
        .write();
    let machine = Machine::virt(Gic::V3)
        .bundle(bundle)
        .argument(lines::POWER_OFF);
    let mut console = machine.start("bad-image");
    console.expect("good| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
    names(
        &console.lines(),
        &["/chosen/bad/kernel", "image", "nowhere", "left out"],
    );
}

#[test]
fn a_kernel_that_is_none() {
    let text = viaduct_tests::root().join("Cargo.toml");
    let bundle = Bundle::new("bad-kernel")
        .guest(Guest::new("bad", text))
        .guest(Guest::hello("good").boot_arguments(BEAT))
        .write();
    let machine = Machine::virt(Gic::V3)
        .bundle(bundle)
        .argument(lines::POWER_OFF);
    let mut console = machine.start("bad-kernel");
    console.expect("good| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
    names(&console.lines(), &["bad", "arm64 Image"]);
    console.expect_never(&["bad| "]);
}

#[test]
fn an_initrd_slot_with_something_else_in_it() {
    let text = viaduct_tests::root().join("Cargo.toml");
    let good = Guest::hello("good").boot_arguments(BEAT);
    let machine = Machine::virt(Gic::V3)
        .bundle(text)
        .guest(good)
        .argument(lines::POWER_OFF);
    let mut console = machine.start("no-bundle");
    console.expect("good| hello: heartbeat 2", seconds(60));
    names(
        &console.lines(),
        &["bundle at", "not a flattened device tree"],
    );
}

#[test]
fn options_that_nobody_knows_are_told_once() {
    let good = Guest::hello("good").boot_arguments(BEAT);
    let bundle = Bundle::new("options").guest(good).write();
    let machine = Machine::virt(Gic::V3)
        .bundle(bundle)
        .argument("iommu=no")
        .argument(lines::POWER_OFF);
    let mut console = machine.start("options");
    console.expect("good| hello: heartbeat 2", seconds(60));
    assert_eq!(console.lines_with("iommu=no").len(), 1);
}
