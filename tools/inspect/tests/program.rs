//! The program itself: exit status, and what it says of right and wrong files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    // The hypervisor's image, as far as it is looked at: 300 KiB by its header.
    let mut image = vec![0; 64];
    image[16..24].copy_from_slice(&0x4_b000_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    std::fs::write(folder.join("viaduct.img"), image).unwrap();
    folder
}

fn data(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernel/devtree/tests/data");
    root.join(file)
}

/// Exit status and both outputs.
fn inspect(folder: &Path, words: &[String]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_inspect"))
        .arg(format!("image={}", folder.join("viaduct.img").display()))
        .args(words)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

fn words(file: &Path, more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|word| (*word).to_owned());
    std::iter::once(file.display().to_string())
        .chain(more)
        .collect()
}

fn on_virt(file: &Path, more: &[&str]) -> Vec<String> {
    let mut words = words(file, more);
    words.push(format!("board={}", data("virt-gicv3.dtb").display()));
    words
}

/// QEMU's virt with more in its `/chosen`.
fn host_tree(folder: &Path, chosen: &str) -> PathBuf {
    let dtc = |arguments: &[&str], file: &Path| {
        let output = Command::new("dtc")
            .args(["-q"])
            .args(arguments)
            .arg(file)
            .stderr(Stdio::inherit())
            .output()
            .expect("dtc (./setup installs it)");
        assert!(output.status.success());
        output.stdout
    };
    let mut source = String::from_utf8(dtc(&["-O", "dts"], &data("virt-gicv3.dtb"))).unwrap();
    source.push_str(&format!(
        "/ {{ chosen {{ #address-cells = <2>; #size-cells = <2>; {chosen} }}; }};"
    ));
    std::fs::write(folder.join("host.dts"), source).unwrap();
    let tree = dtc(&["-O", "dtb"], &folder.join("host.dts"));
    std::fs::write(folder.join("host.dtb"), tree).unwrap();
    folder.join("host.dtb")
}

const GUEST: &str = "web@1 { compatible = \"xen,domain\"; memory = <0 0x4000>; cpus = <2>; vpl011;
    vcpu1 { compatible = \"xen,vcpu\"; id = <1>; hard-affinity = \"0\"; };
    kernel@44000000 { compatible = \"multiboot,kernel\"; reg = <0 0x44000000 0 0x1000>; }; };";

#[test]
fn a_bundle_that_is_right() {
    let folder = folder("right");
    for bundle in ["bundle.fit", "bundle-external.fit", "bundle-position.fit"] {
        let (status, text) = inspect(&folder, &on_virt(&data(bundle), &[]));
        assert_eq!(status, 0, "{text}");
        for line in [
            "web: domain 1, 64 MiB, 2 vCPUs on CPU 0 1, entry 0x40000000",
            "image \"kernel-1\"",
            "UART           INTID 32 = SPI 0, in its tree <0 0 0x4>",
            "INTID 33 = SPI 1, in the tree <0 1 ...>",
            "nr_spis <32>",
            "warning: tick: no console but console_io",
            "input goes to web",
            "2 guests are built",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}

#[test]
fn the_tree_of_a_guest() {
    let folder = folder("tree");
    let (status, text) = inspect(&folder, &on_virt(&data("bundle.fit"), &["tree=web"]));
    assert_eq!(status, 0, "{text}");
    assert!(
        text.starts_with("/dts-v1/;") && text.contains("bootargs = \"console=hvc0\""),
        "{text}"
    );
    let file = folder.join("web.dtb");
    let dtb = format!("dtb={}", file.display());
    let (status, text) = inspect(&folder, &on_virt(&data("bundle.fit"), &["tree=web", &dtb]));
    assert_eq!((status, text.as_str()), (0, ""));
    assert!(devtree::Tree::new(&std::fs::read(file).unwrap()).is_ok());
    let (status, text) = inspect(&folder, &on_virt(&data("bundle.fit"), &["tree=wab"]));
    assert!(
        status == 2 && text.contains("there are: web, tick"),
        "{text}"
    );
}

#[test]
fn a_damaged_bundle() {
    let folder = folder("damaged");
    let mut bytes = std::fs::read(data("bundle.fit")).unwrap();
    let magic = bytes
        .windows(4)
        .position(|window| window == b"ARM\x64")
        .unwrap();
    bytes[magic + 4] ^= 1;
    let path = folder.join("damaged.fit");
    std::fs::write(&path, bytes).unwrap();
    let (status, text) = inspect(&folder, &on_virt(&path, &[]));
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("error: /chosen/web/kernel: image: found data does not match its crc32, expected a sound file; guest left out"),
        "{text}"
    );
    assert!(
        text.contains("left out: web, tick") && text.contains("no guest to run"),
        "{text}"
    );
}

#[test]
fn modules_that_lie_in_memory() {
    let folder = folder("modules");
    let tree = host_tree(&folder, GUEST);
    let (status, text) = inspect(&folder, &words(&tree, &[]));
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("not checked") && text.contains("module@0x44000000=FILE"),
        "{text}"
    );

    let kernel = format!("module@0x44000000={}", data("kernel.bin").display());
    let (status, text) = inspect(&folder, &words(&tree, &[&kernel]));
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("web@1: domain 1, 16 MiB, 2 vCPUs on CPU 0 0, entry"),
        "{text}"
    );
    assert!(text.contains("may run on CPU 0\n"), "{text}");
    let size = std::fs::metadata(data("kernel.bin")).unwrap().len();
    let line = format!("warning: web@1: reg: found 4096 bytes, expected {size}");
    assert!(size == 4096 || text.contains(&line), "{text}");

    let none = format!("module@0x44000000={}", data("bundle.its").display());
    let (status, text) = inspect(&folder, &words(&tree, &[&none]));
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("error: /chosen/web@1/kernel@44000000: reg: found neither an arm64 Image"),
        "{text}"
    );
}

#[test]
fn what_is_refused_and_what_is_warned_about() {
    let folder = folder("refused");
    let tree = host_tree(&folder, &GUEST.replace("vpl011;", "vpl011; vcpus = <3>;"));
    let (status, text) = inspect(&folder, &words(&tree, &[]));
    assert_eq!(status, 0, "{text}");
    let line =
        "warning: /chosen/web@1: vcpus: found <0x3>, expected a property of the binding; ignored";
    assert!(text.contains(line), "{text}");

    let tree = host_tree(&folder, &GUEST.replace("cpus = <2>", "cpus = <0>"));
    let (status, text) = inspect(&folder, &words(&tree, &[]));
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("error: /chosen/web@1: cpus: found <0x0>"),
        "{text}"
    );
    assert!(text.contains("left out: web@1\nno guest to run"), "{text}");

    let huge = GUEST.replace("0x4000>", "0x4000000>");
    let (status, text) = inspect(&folder, &words(&host_tree(&folder, &huge), &[]));
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("error: /chosen/web@1: memory: found "),
        "{text}"
    );
}

#[test]
fn what_cannot_be_used() {
    let folder = folder("unusable");
    let text_file = data("bundle.its");
    for (words, part) in [
        (words(&text_file, &[]), "not a flattened device tree"),
        (words(Path::new("/no/such/file"), &[]), "No such file"),
        (
            words(&data("virt-gicv3.dtb"), &["gic=2"]),
            "a host tree is the board",
        ),
        (words(&data("bundle.fit"), &["colour=red"]), "colour"),
        (
            on_virt(&data("bundle.fit"), &["bundle=x"]),
            "this is a bundle",
        ),
        (
            words(&data("bundle.fit"), &["board=/no/board"]),
            "/no/board",
        ),
        (
            on_virt(&data("bundle.fit"), &["image=/no/image"]),
            "just build",
        ),
    ] {
        let (status, text) = inspect(&folder, &words);
        assert!(
            status == 2 && text.contains(part),
            "{words:?}: {status} {text}"
        );
    }
    // A board that has no memory: what the Pi's firmware fills in.
    let board = folder.join("empty.dtb");
    let tree = Command::new("dtc")
        .args(["-q", "-O", "dtb", "-o"])
        .arg(&board)
        .stdin(Stdio::piped())
        .spawn();
    let mut tree = tree.unwrap();
    std::io::Write::write_all(&mut tree.stdin.take().unwrap(), b"/dts-v1/; / { };").unwrap();
    assert!(tree.wait().unwrap().success());
    let (status, text) = inspect(&folder, &words(&board, &[]));
    assert!(
        status == 2 && text.contains("the board: device tree has no"),
        "{text}"
    );
}
