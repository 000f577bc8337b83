//! The binding's schema (`docs/bindings`): every example in the repository is right by it, what is wrong is wrong by
//! it, and it names the same properties as the code that reads descriptions.
//!
//! Schema and code are compared by what they say of the same tree: `dt-validate` on one side, `devtree::guest` on the
//! other.

mod names;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use devtree::fit::Fit;
use devtree::guest::{self, Container, Limits};
use devtree::{Problem, Severity, Tree};
use memory::{Pa, PaRange};
use viaduct_tests::{Bundle, Guest};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn data(file: &str) -> PathBuf {
    root().join("kernel/devtree/tests/data").join(file)
}

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error} (./setup installs it)"))
}

/// All schemas, made ready once for this process.
static SCHEMA: LazyLock<PathBuf> = LazyLock::new(|| {
    let file = folder("schema").join("all.json");
    let mut command = Command::new("dt-mk-schema");
    command.arg("-j").arg("-o").arg(&file).arg("docs/bindings");
    let output = run(command.current_dir(root()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    file
});

/// What the schema has against trees: nothing, if they are right.
fn against(trees: &[PathBuf]) -> String {
    let mut command = Command::new("dt-validate");
    // Only ours: the standard ones know nothing of guests in /chosen, and boards are not ours to judge.
    command
        .arg("-s")
        .arg(&*SCHEMA)
        .args(["-l", "docs/bindings"]);
    let output = run(command.args(trees));
    assert!(output.status.success(), "{output:?}");
    // Remarks that name no file are about how a value might be shown.
    let text = String::from_utf8(output.stderr).unwrap();
    let of_a_file = |line: &&str| line.starts_with(['\t', '/']);
    text.lines()
        .filter(of_a_file)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// What the code that boots has against the guests of a tree; notes are nothing against them.
fn problems(tree: &[u8]) -> Vec<Problem> {
    let limits = Limits {
        vcpus: 128,
        vcpus_because: "GICv3's bound",
        cpus: 8,
        memory: &[PaRange::new(Pa::new(0), 1 << 40).unwrap()],
        taken: &[],
    };
    let container = match Fit::new(tree) {
        Ok(bundle) => Container::Bundle(bundle),
        Err(_) => Container::Host(Tree::new(tree).unwrap()),
    };
    let (mut guests, mut problems) = (Vec::new(), Vec::new());
    guest::read(&container, &limits, &mut guests, &mut |problem| {
        if problem.severity != Severity::Note {
            problems.push(problem);
        }
    });
    problems
}

fn compile(source: &str, to: &Path) {
    let text = to.with_extension("dts");
    fs::write(&text, source).unwrap();
    let output = run(Command::new("dtc")
        .args(["-q", "-f", "-O", "dtb", "-o"])
        .arg(to)
        .arg(&text));
    assert!(
        to.exists(),
        "{}: {}",
        text.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes a bundle of a source whose files are stood in for by a small kernel.
fn make_bundle(source: &str, to: &Path) {
    let folder = to.with_extension("files");
    for part in source.split("/incbin/(\"").skip(1) {
        let file = folder.join(part.split('"').next().unwrap());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(data("kernel.bin"), file).unwrap();
    }
    fs::write(folder.join("source.its"), source).unwrap();
    let mut command = Command::new("mkimage");
    command.args(["-q", "-f", "source.its"]).arg(to);
    let output = run(command.current_dir(&folder));
    assert!(output.status.success() && to.exists(), "{output:?}");
}

/// Tree sources among the indented lines of a text: from `start` to the brace that closes it.
fn sources(text: &str, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("    ") || !line.trim_start().starts_with(start) {
            continue;
        }
        let (mut source, mut depth, mut opened) = (format!("{line}\n"), 0_i32, false);
        let mut next = Some(line);
        while let Some(line) = next {
            let braces = |brace| line.matches(brace).count() as i32;
            depth += braces('{') - braces('}');
            opened |= line.contains('{');
            if opened && depth == 0 {
                break;
            }
            next = lines.next();
            source.extend(next.map(|line| format!("{line}\n")));
        }
        assert!(opened && depth == 0, "no end: {source}");
        found.push(source);
    }
    found
}

/// A guest in `/chosen`, with more in its node and in its kernel's; the tree is bundle and host tree in one.
fn with_guest(properties: &str, children: &str) -> String {
    format!(
        "/dts-v1/; / {{ #address-cells = <2>; #size-cells = <2>;
        chosen {{ g {{ compatible = \"xen,domain\"; {properties} {children} }}; }}; }};"
    )
}

const KERNEL: &str = "k { compatible = \"multiboot,kernel\"; reg = <0 0x48000000 0 0x1000>; };";

#[test]
fn the_schemas_are_schemas() {
    let mut command = Command::new("dt-doc-validate");
    command.args(["-u", "docs/bindings"]).current_dir(root());
    let files = fs::read_dir(root().join("docs/bindings")).unwrap();
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 5);
    let output = run(command.args(files));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn every_example_is_right() {
    let folder = folder("examples");
    // Of the book.
    let mut from_the_book = 0;
    for page in [
        "docs/device-tree-binding.md",
        "docs/getting-started.md",
        "docs/bindings/xen,domain.yaml",
    ] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let name = Path::new(page).file_stem().unwrap().to_string_lossy();
        // A partial tree of devices is no bundle.
        let bundles = sources(&text, "/dts-v1/").into_iter();
        let bundles = bundles.filter(|source| source.contains("/incbin/"));
        for (number, source) in bundles.enumerate() {
            make_bundle(&source, &folder.join(format!("{name}-bundle-{number}.dtb")));
            from_the_book += 1;
        }
        // A bundle's own /chosen is indented further.
        let text = text.replace("\n        chosen {", "\n        ");
        for (number, source) in sources(&text, "chosen {").iter().enumerate() {
            let tree =
                format!("/dts-v1/; / {{ #address-cells = <2>; #size-cells = <2>; {source} }};");
            compile(&tree, &folder.join(format!("{name}-host-{number}.dtb")));
            from_the_book += 1;
        }
    }
    assert_eq!(
        from_the_book, 4,
        "two bundles, one host tree, the schema's own"
    );
    // Of the unit tests.
    for file in [
        "bundle.fit",
        "bundle-external.fit",
        "bundle-position.fit",
        "virt-gicv2.dtb",
        "virt-gicv3.dtb",
    ] {
        fs::copy(data(file), folder.join(format!("{file}.dtb"))).unwrap();
    }
    compile(
        &fs::read_to_string(data("pi4.dts")).unwrap(),
        &folder.join("pi4.dtb"),
    );
    // As the system tests make them.
    let kernel = data("kernel.bin");
    let guest = |name| Guest::new(name, &kernel);
    let end =
        |other| format!("end {{ compatible = \"xen,evtchn-v1\"; xen,evtchn = <10 &{other}>; }};");
    let vcpus = "vcpu0 { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"0-1,3\"; };";
    let bundle = Bundle::new("schema")
        .guest(guest("bare").enhanced(None))
        .guest(guest("uart").vpl011().memory_mib(8192).cpus(3))
        .guest(
            guest("disk")
                .ramdisk(&kernel)
                .enhanced(Some("enabled"))
                .boot_arguments("a b"),
        )
        .guest(guest("pinned").extra(vcpus))
        .guest(guest("board").extra("capabilities = <2>; xen,force-assign-without-iommu;"))
        .guest(guest("one").extra(&format!("viaduct,peers = \"*\"; a: {}", end("b"))))
        .guest(guest("two").extra(&format!("b: {}", end("a"))))
        .guest(
            guest("words")
                .extra("nr_spis = <64>; trap-unmapped-accesses = <0>; viaduct,console-focus;"),
        );
    for (hash, name) in [
        (None, "none"),
        (Some("crc32"), "crc32"),
        (Some("sha256"), "sha256"),
    ] {
        bundle
            .clone()
            .hash(hash)
            .write_to(&folder.join(format!("{name}.itb.dtb")));
    }
    bundle.external().write_to(&folder.join("external.itb.dtb"));
    // What system tests left here, wrong descriptions too: see below.
    let left = [viaduct_tests::target(), viaduct_tests::scratch()];
    for file in left.iter().flat_map(|left| fs::read_dir(left).unwrap()) {
        let path = file.unwrap().path();
        if !path
            .extension()
            .is_some_and(|kind| kind == "itb" || kind == "dtb")
        {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Large files inside the tree would only take time.
        if let Ok(bytes) = fs::read(&path)
            && let Ok(tree) = Tree::new(&bytes)
            && tree.bytes().len() <= 1 << 20
            && problems(&bytes).is_empty()
        {
            fs::write(folder.join(format!("left-{name}.dtb")), bytes).unwrap();
        }
    }

    let trees = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let trees: Vec<PathBuf> = trees
        .filter(|path| path.extension().is_some_and(|kind| kind == "dtb"))
        .collect();
    assert!(trees.len() >= 14);
    for tree in &trees {
        let problems = problems(&fs::read(tree).unwrap());
        assert!(problems.is_empty(), "{}: {}", tree.display(), problems[0]);
    }
    let said = against(&trees);
    assert!(
        said.is_empty(),
        "what boots is wrong by the schema:\n{said}"
    );
}

#[test]
fn what_is_wrong_is_wrong_by_both() {
    let folder = folder("wrong");
    let good = "memory = <0 0x4000>; cpus = <1>;";
    let domain = |properties: &str| with_guest(&format!("{good} {properties}"), KERNEL);
    let child = |child: &str| with_guest(good, &format!("{KERNEL} {child}"));
    let wrong = [
        with_guest("cpus = <1>;", KERNEL),
        with_guest("memory = <0 0x4000>;", KERNEL),
        with_guest("memory = <0x4000>; cpus = <1>;", KERNEL),
        with_guest("memory = <0 0>; cpus = <1>;", KERNEL),
        with_guest("memory = <0 0x4000>; cpus = <0>;", KERNEL),
        with_guest("memory = <0 0x4000>; cpus = <129>;", KERNEL),
        with_guest("memory = <0 0x4000>; cpus = \"two\";", KERNEL),
        domain("nr_spis = <989>;"),
        domain("xen,enhanced = \"on\";"),
        domain("trap-unmapped-accesses = <2>;"),
        domain("max_grant_version = <3>;"),
        domain("max_grant_frames = <0x80000000>;"),
        domain("max_maptrack_frames = <1 2>;"),
        domain("capabilities = <1>;"),
        domain("capabilities = <2>;"),
        domain("capabilities = <6>; xen,force-assign-without-iommu;"),
        domain("xen,force-assign-without-iommu;"),
        domain("sve = <128>;"),
        domain("passthrough = \"enabled\";"),
        domain("xen,sci_type = \"scmi_smc\";"),
        domain("direct-map;"),
        domain("xen,static-mem = \"a\";"),
        domain("llc-colors = \"4-8\";"),
        domain("vpmu;"),
        domain("vcpus = <2>;"),
        domain("viaduct,console-fokus;"),
        child("k2 { compatible = \"multiboot,kernel\"; };"),
        child(
            "k2 { compatible = \"multiboot,ramdisk\"; reg = <0 0x50000000 0 0x1000>; bootargs = \"a\"; };",
        ),
        child(
            "k2 { compatible = \"multiboot,ramdisk\"; reg = <0 0x50000000 0 0x1000>; size = <1>; };",
        ),
        child(
            "k2 { compatible = \"multiboot,device-tree\", \"multiboot,module\"; reg = <0 0x50000000 0 0x1000>; bootargs = \"a\"; };",
        ),
        child("k2 { compatible = \"multiboot,ramdisk\"; xen,uefi-binary = \"a\"; };"),
        child(
            "k2 { compatible = \"multiboot,ramdisk\"; reg = <0 0x50000000 0 0x1000>; viaduct,load-offset = <4>; };",
        ),
        with_guest(
            good,
            &KERNEL.replace("reg", "viaduct,dtb-offset = \"a\"; reg"),
        ),
        child("v { compatible = \"xen,vcpu\"; };"),
        child("v { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"0-\"; };"),
        child("v { compatible = \"xen,vcpu\"; id = <0>; affinity = \"0\"; };"),
        child("e { compatible = \"xen,evtchn-v1\"; };"),
        child("e { };"),
        child("s { compatible = \"xen,domain-shared-memory-v1\"; };"),
        child(
            "s { compatible = \"xen,domain-shared-memory-v1\"; xen,shm-id = \"a-longer-one-than-15\"; xen,shared-mem = <0 0x80000000 0 0x1000>; };",
        ),
        child(
            "s { compatible = \"xen,domain-shared-memory-v1\"; xen,shm-id = \"a\"; role = \"lender\"; xen,shared-mem = <0 0x80000000 0 0x1000>; };",
        ),
        with_guest(good, KERNEL).replace("xen,domain", "xen,domian"),
    ];
    for (number, source) in wrong.iter().enumerate() {
        let tree = folder.join(format!("{number:02}.dtb"));
        compile(source, &tree);
        assert!(
            !problems(&fs::read(&tree).unwrap()).is_empty(),
            "the code takes {source}"
        );
    }
    let trees = (0..wrong.len()).map(|number| folder.join(format!("{number:02}.dtb")));
    let said = against(&trees.collect::<Vec<_>>());
    for (number, source) in wrong.iter().enumerate() {
        assert!(
            said.contains(&format!("/{number:02}.dtb: ")),
            "the schema takes {source}"
        );
    }
    // And without its mistake it is right.
    let tree = folder.join("right.dtb");
    compile(&with_guest(good, KERNEL), &tree);
    assert_eq!(against(&[tree]), "");
}
