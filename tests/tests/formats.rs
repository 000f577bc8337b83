//! What a guest's files may be: packed kernels, raw binaries, large RAM disks.

use std::path::{Path, PathBuf};
use std::process::Command;

use viaduct_tests::{
    Bundle, Console, Gic, Guest, Machine, guest_image, lines, linux_initramfs, linux_kernel,
    scratch, seconds, u_boot,
};

const BEAT: &str = "period=20ms count=2";

/// `file`, packed by gzip, as `NAME` in the tests' folder.
fn packed(file: &Path, name: &str) -> PathBuf {
    let output = Command::new("gzip").args(["-1nc"]).arg(file).output();
    let output = output.expect("gzip");
    assert!(output.status.success(), "gzip {}", file.display());
    let path = scratch().join(name);
    std::fs::write(&path, output.stdout).expect("the packed file");
    path
}

/// A shell on the guest `linux`, its kernel messages out of the way.
fn shell(console: &mut Console) {
    console.expect("linux| This is a busybox shell", seconds(300));
    console.command("linux", "dmesg -n 1", seconds(60));
}

#[test]
fn a_packed_linux_boots_as_it_is() {
    let kernel = packed(&linux_kernel(), "packed-linux.gz");
    let linux = Guest::new("linux", kernel)
        .ramdisk(linux_initramfs())
        .memory_mib(256)
        .boot_arguments("console=hvc0")
        .extra("viaduct,console-focus;");
    let bundle = Bundle::new("packed-linux").guest(linux).write();
    let mut console = Machine::virt(Gic::V3)
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start("packed-linux");
    shell(&mut console);
    assert_eq!(
        console.command("linux", "cat /sys/hypervisor/type", seconds(60)),
        ["xen"]
    );
}

#[test]
fn packed_images_from_both_containers_and_a_damaged_one() {
    let good = packed(&guest_image("hello"), "packed-hello.gz");
    let mut bytes = std::fs::read(&good).expect("the packed file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    let damaged = scratch().join("packed-damaged.gz");
    std::fs::write(&damaged, bytes).expect("the damaged file");
    let hello = |name: &str, kernel: &Path| Guest::new(name, kernel).boot_arguments(BEAT);

    let bundle = Bundle::new("packed")
        .guest(hello("bundled", &good))
        .guest(hello("bad", &damaged))
        .write();
    let mut console = Machine::virt(Gic::V2)
        .guest(hello("hosted", &good))
        .guest(hello("cut", Path::new(&damaged)))
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start("packed");
    console.expect_each(
        &["hosted| hello: heartbeat 2", "bundled| hello: heartbeat 2"],
        seconds(60),
    );
    console.expect(lines::ALL_STOPPED, seconds(300));
    for name in ["bad", "cut"] {
        let told = console.lines_with(&format!("viaduct| error: /chosen/{name}/kernel"));
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert!(
            told[0].contains("gzip") && told[0].contains("left out"),
            "{told:?}"
        );
    }
    console.expect_never(&["bad| ", "cut| "]);
}

#[test]
fn a_raw_binary_goes_where_its_description_says() {
    // Our guest's image is one whose header nobody looks at, then.
    let raw = Guest::new("raw", guest_image("hello"))
        .boot_arguments(BEAT)
        .kernel_extra("viaduct,load-offset = <0x80000>; viaduct,dtb-offset = <0x40000>;");
    let wrong = Guest::new("wrong", guest_image("hello"))
        .kernel_extra("viaduct,load-offset = <0x80000>; viaduct,dtb-offset = <0x80000>;");
    let outside = Guest::new("outside", guest_image("hello"))
        .kernel_extra("viaduct,load-offset = <0x1000000>;");
    let bundle = Bundle::new("raw").guest(wrong).guest(outside).guest(raw);
    let mut console = Machine::virt(Gic::V3)
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start("raw");
    console.expect(
        "viaduct| error: /chosen/wrong: memory: found 16384 KiB, expected room for the tree at its offset",
        seconds(60),
    );
    console.expect(
        "viaduct| error: /chosen/outside: memory: found 16384 KiB, expected room for the kernel",
        seconds(60),
    );
    console.expect("entry 0x40080000", seconds(60));
    console.expect("raw| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
}

#[test]
fn u_boot_to_its_prompt() {
    for (name, gic) in [("u-boot-v3", Gic::V3), ("u-boot-v2", Gic::V2)] {
        let guest = Guest::new("u-boot", u_boot())
            .memory_mib(128)
            .vpl011()
            .kernel_extra("viaduct,load-offset = <0x200000>; viaduct,dtb-offset = <0>;")
            .extra("trap-unmapped-accesses = <0>; viaduct,console-focus;");
        let bundle = Bundle::new(name).guest(guest).guest(Guest::hello("hello"));
        let mut console = Machine::virt(gic)
            .bundle(bundle.write())
            .argument(lines::POWER_OFF)
            .start(name);
        console.expect("u-boot| U-Boot 20", seconds(60));
        console.expect("u-boot| DRAM:  128 MiB", seconds(60));
        console.send("\r\r");
        console.expect("u-boot| =>", seconds(60));
        console.send("fdt addr ${fdtcontroladdr}; fdt print / model\r");
        console.expect("u-boot| model = \"Viaduct guest\"", seconds(60));
        console.send("poweroff\r");
        console.expect(&lines::stopped("u-boot", "poweroff"), seconds(60));
        console.expect("hello| hello: heartbeat", seconds(60));
    }
}

/// A RAM disk of so many MiB: the usual one, and behind it an archive with one large file.
fn large_disk(mib: usize, name: &str) -> PathBuf {
    let folder = scratch().join(format!("{name}.files"));
    std::fs::create_dir_all(&folder).expect("a folder");
    // Each megabyte says which it is, so that one in the wrong place shows.
    let file: Vec<u8> = (0..mib << 18)
        .flat_map(|word| (word as u32 ^ 0x5aa5_0000).to_le_bytes())
        .collect();
    std::fs::write(folder.join("large"), file).expect("the large file");
    let path = scratch().join(format!("{name}.cpio"));
    let script = "cp \"$1\" \"$3\" && truncate -s %512 \"$3\" && cd \"$2\" && echo large | cpio --quiet -o -H newc >>\"$3\"";
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([&linux_initramfs(), &folder, &path])
        .status();
    assert!(status.expect("sh, cpio").success());
    path
}

fn a_large_disk_arrives(name: &str, mib: usize, guest_mib: u64, board_mib: u64) {
    let disk = large_disk(mib, name);
    let linux = Guest::new("linux", linux_kernel())
        .ramdisk(&disk)
        .memory_mib(guest_mib)
        .boot_arguments("console=hvc0")
        .extra("viaduct,console-focus;");
    let bundle = Bundle::new(name).external().hash(None).guest(linux).write();
    let mut console = Machine::virt(Gic::V3)
        .memory_mib(board_mib)
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    shell(&mut console);
    let expected = Command::new("sha256sum")
        .arg(scratch().join(format!("{name}.files/large")))
        .output()
        .expect("sha256sum");
    let expected = String::from_utf8_lossy(&expected.stdout);
    let expected = expected.split_whitespace().next().unwrap_or("").to_owned();
    let sum = console.command("linux", "sha256sum /large | cut -d' ' -f1", seconds(300));
    assert_eq!(sum, [expected]);
    let _ = std::fs::remove_file(disk);
}

/// Larger than the 128 MiB between the kernel's usual place and the disk's.
#[test]
fn a_ram_disk_of_160_mib() {
    a_large_disk_arrives("large-160", 160, 1024, 2048);
}

#[test]
#[ignore = "long"]
fn a_ram_disk_of_700_mib() {
    a_large_disk_arrives("large-700", 700, 4096, 8192);
}
