//! Every mistake that a description can hold, on the real image: each has its line, and the guests that are
//! right boot beside it.

use std::path::{Path, PathBuf};

use viaduct_tests::{Bundle, Gic, Guest, Machine, guest_image, lines, scratch, seconds};

const BEAT: &str = "period=20ms count=2";

fn good(name: &str) -> Guest {
    Guest::hello(name).boot_arguments(BEAT)
}

/// A file of the tests' own.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    if let Err(error) = std::fs::write(&path, bytes) {
        panic!("cannot write {}: {error}", path.display());
    }
    path
}

/// The source of a domain node whose kernel lies at `reg`, in the host's tree.
fn node(name: &str, properties: &str, reg: &str) -> String {
    format!(
        "{name} {{ compatible = \"xen,domain\"; #address-cells = <2>; #size-cells = <2>; {properties}
             module0x1 {{ compatible = \"multiboot,kernel\", \"multiboot,module\"; reg = <{reg}>; }}; }};\n"
    )
}

const SIZES: &str = "memory = <0 0x4000>; cpus = <1>;";
const MODULE: &str = "0 0x60000000 0 0x1000";

/// In the host's tree: name, source, and what its line must hold.
fn descriptions() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let with = |name: &'static str, properties: &str, reg: &str, parts: &[&'static str]| {
        (name, node(name, properties, reg), parts.to_vec())
    };
    let sized = |name: &'static str, more: &str, parts: &[&'static str]| {
        (
            name,
            node(name, &format!("{SIZES} {more}"), MODULE),
            parts.to_vec(),
        )
    };
    vec![
        with("no-memory", "cpus = <1>;", MODULE, &["memory: found nothing"]),
        with("no-cpus", "memory = <0 0x4000>;", MODULE, &["cpus: found nothing"]),
        with("narrow", "memory = <0x4000>; cpus = <1>;", MODULE, &["memory: found <0x4000>"]),
        with("wide", "memory = <0 0x4000>; cpus = <1 2>;", MODULE, &["cpus: found <0x1 0x2>"]),
        with("odd-size", "memory = <0 0x4001>; cpus = <1>;", MODULE, &["memory", "multiple of 4 KiB"]),
        with("many", "memory = <0 0x4000>; cpus = <129>;", MODULE, &["cpus: found <0x81>", "GICv3's bound"]),
        with("outside", SIZES, "0 0x1000 0 0x1000", &["reg", "inside the board's RAM"]),
        with("beyond", SIZES, "0 0x7ffff000 0 0x2000", &["reg", "inside the board's RAM"]),
        with("empty", SIZES, "0 0x60000000 0 0", &["reg", "size above 0"]),
        with("wraps", SIZES, "0xffffffff 0xfffff000 0 0x2000", &["reg"]),
        with("short-reg", SIZES, "0 0x60000000", &["reg", "2 cell(s) of address and 2 of size"]),
        with("on-image", SIZES, "0 0x40200000 0 0x1000", &["reg", "which is taken"]),
        sized("static", "xen,static-mem = <0 0x70100000 0 0x1000000>;", &["xen,static-mem", "multiples of 2 MiB"]),
        sized("direct", "direct-map;", &["direct-map", "\"xen,static-mem\" beside it"]),
        sized("passed", "passthrough = \"enabled\";", &["passthrough: found \"enabled\""]),
        sized("pooled", "domain-cpupool = <1>;", &["domain-cpupool", "not supported"]),
        sized("coloured", "llc-colors = \"0-3\";", &["llc-colors", "not supported"]),
        sized("mighty", "capabilities = <1>;", &["capabilities: found <0x1>"]),
        sized("sve", "sve = <128>;", &["sve: found <0x80>"]),
        (
            "cells",
            node("cells", SIZES, MODULE).replace("#address-cells = <2>", "#address-cells = <3>"),
            vec!["#address-cells: found <0x3>"],
        ),
        (
            "kernel-less",
            format!("kernel-less {{ compatible = \"xen,domain\"; {SIZES} }};\n"),
            vec!["found no kernel"],
        ),
        (
            "shared",
            node("shared", SIZES, MODULE).replace(
                "module0x1 {",
                "mem { compatible = \"xen,domain-shared-memory-v1\"; }; module0x1 {",
            ),
            vec!["xen,shm-id: found nothing"],
        ),
        (
            "overlapping",
            node("overlapping", SIZES, "0 0x61000000 0 0x2000").replace(
                "module0x1 {",
                "disk { compatible = \"multiboot,ramdisk\", \"multiboot,module\"; reg = <0 0x61001000 0 0x1000>; };
                 module0x1 {",
            ),
            vec!["reg", "another module"],
        ),
    ]
}

#[test]
fn each_in_the_hosts_tree_has_its_line() {
    let descriptions = descriptions();
    let source: String = descriptions
        .iter()
        .map(|(_, source, _)| source.as_str())
        .collect();
    let habits = "dom0 { compatible = \"xen,linux-zimage\", \"xen,multiboot-module\"; reg = <0 0x62000000 0 0x1000>; };\n";
    let last = good("last").extra("vpl011 = <0x1>; nr-spis = <1>;");
    let mut console = Machine::virt(Gic::V3)
        .chosen(&format!("{habits}{source}"))
        .guest(good("first"))
        .guest(last)
        .argument(lines::POWER_OFF)
        .start("mistakes-host");
    console.expect_each(
        &["first| hello: heartbeat 2", "last| hello: heartbeat 2"],
        seconds(60),
    );
    console.expect(lines::ALL_STOPPED, seconds(300));
    for (name, _, parts) in &descriptions {
        let told = console.lines_with(&format!("viaduct| error: /chosen/{name}"));
        let right = told.iter().any(|line| {
            line.ends_with("guest left out") && parts.iter().all(|part| line.contains(part))
        });
        assert!(right, "{name}: no line has {parts:?}: {told:#?}");
        assert!(console.lines_with(&format!("{name}| ")).is_empty());
    }
    // Known, mistyped, and not fatal; ImageBuilder's habits neither.
    assert_eq!(
        console.lines_with("warning: /chosen/last: nr-spis").len(),
        1
    );
    assert_eq!(console.lines_with("dom0").len(), 1);
}

#[test]
fn each_file_of_a_bundle_has_its_line() {
    let image = std::fs::read(guest_image("hello")).expect("our guest's image");
    let elf = std::fs::read(viaduct_tests::guest_elf("hello")).expect("our guest");
    let mut misaligned = image.clone();
    misaligned[8..16].copy_from_slice(&0x123_u64.to_le_bytes());
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    packed.extend([0x55; 100]);
    let mut foreign = elf.clone();
    foreign[18] = 62;
    let cases: Vec<(&str, PathBuf, &str)> = vec![
        ("cut-image", file("cut.img", &image[..60]), "Image header"),
        (
            "misaligned",
            file("misaligned.img", &misaligned),
            "text offset",
        ),
        ("cut-elf", file("cut.elf", &elf[..elf.len() / 2]), "ELF"),
        (
            "foreign",
            file("foreign.elf", &foreign),
            "another processor",
        ),
        (
            "unknown",
            file("unknown.bin", &[0x42; 4096]),
            "neither an arm64 Image nor",
        ),
        ("corrupt", file("corrupt.gz", &packed), "gzip"),
        (
            "lz4",
            file("kernel.lz4", &[0x04, 0x22, 0x4d, 0x18, 0, 0, 0, 0]),
            "LZ4",
        ),
        (
            "uimage",
            file("kernel.uimage", &[0x27, 0x05, 0x19, 0x56, 0, 0, 0, 0]),
            "uImage",
        ),
        ("hungry", guest_image("hello"), "KiB free, expected"),
        ("tight", guest_image("hello"), "expected room for"),
    ];
    let mut bundle = Bundle::new("mistakes-files").guest(good("first"));
    for (name, path, _) in &cases {
        let guest = Guest::new(name, path);
        bundle = bundle.guest(match *name {
            "hungry" => guest.memory_mib(64 * 1024),
            "tight" => guest.memory_kib(4),
            _ => guest,
        });
    }
    let mut console = Machine::virt(Gic::V2)
        .bundle(bundle.guest(good("last")).write())
        // A name that both containers have: the host's tree came first.
        .guest(good("last"))
        .argument(lines::POWER_OFF)
        .start("mistakes-files");
    console.expect_each(
        &["first| hello: heartbeat 2", "last| hello: heartbeat 2"],
        seconds(60),
    );
    console.expect(lines::ALL_STOPPED, seconds(300));
    for (name, _, part) in &cases {
        let told = console.lines_with(&format!("viaduct| error: /chosen/{name}"));
        assert_eq!(told.len(), 1, "{name}: {told:#?}");
        assert!(
            told[0].contains(part) && told[0].ends_with("guest left out"),
            "{told:?}"
        );
    }
    assert_eq!(
        console
            .lines_with("/chosen/last: found a second guest of this name")
            .len(),
        1
    );
}

/// As many as there are VMIDs are looked at, and as many as memory holds are built; the rest has a line.
#[test]
fn three_hundred_guests() {
    let mut bundle = Bundle::new("three-hundred");
    for number in 0..300 {
        bundle = bundle.guest(good(&format!("g{number}")).memory_kib(2048));
    }
    let mut console = Machine::virt(Gic::V3)
        .memory_mib(2048)
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start("three-hundred");
    console.expect(lines::ALL_STOPPED, seconds(300));
    let refused = console.lines_with("expected at most 255 guests; guest left out");
    assert_eq!(refused.len(), 45);
    for number in 0..255 {
        let beat = format!("g{number}| hello: heartbeat 2");
        assert_eq!(console.lines_with(&beat).len(), 1, "{beat}");
    }
}

/// `path` with one word of its structure block made nonsense: the one that begins the guest's node.
fn damaged_in_the_middle(path: &Path, name: &str) -> PathBuf {
    let mut bytes = std::fs::read(path).expect("a tree");
    let word =
        |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize;
    let (structure, size) = (word(8), word(36));
    // What begins the last node but one: a word 1 and a name.
    let token = (structure..structure + size)
        .step_by(4)
        .rfind(|&at| word(at) == 1 && bytes[at + 4..].starts_with(b"inside\0"))
        .expect("the guest's node");
    bytes[token] = 0x77;
    file(name, &bytes)
}

#[test]
fn a_bundle_damaged_in_the_middle_leaves_the_host_its_guests() {
    let whole = Bundle::new("damaged-middle").guest(good("inside")).write();
    let bundle = damaged_in_the_middle(&whole, "damaged-middle.damaged.itb");
    let mut console = Machine::virt(Gic::V3)
        .guest(good("outside"))
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start("damaged-middle");
    console.expect("device tree damaged at structure offset", seconds(60));
    console.expect("outside| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
    console.expect_never(&["inside| "]);
}
