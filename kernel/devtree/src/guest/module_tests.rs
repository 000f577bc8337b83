//! Modules of guests: every way to be wrong, in memory and in a bundle.

use super::tests::{KERNEL, guest, read_chosen, read_container, refusal};
use super::*;
use crate::dts;

#[test]
fn wrong_modules_leave_the_guest_out() {
    let module = |properties: &str| format!("m {{ {properties} }};");
    let kernel =
        |properties: &str| module(&format!("compatible = \"multiboot,kernel\"; {properties}"));
    let disk = |properties: &str| {
        let node = format!("m {{ compatible = \"multiboot,ramdisk\"; {properties} }};");
        format!("{KERNEL} {node}")
    };
    let long = "a".repeat(MAX_BOOTARGS + 1);
    let cases = [
        (
            String::new(),
            "/chosen/bad: found no kernel, expected a child compatible with \"multiboot,kernel\"",
        ),
        (
            kernel(""),
            "/chosen/bad/m: reg: found nothing, expected address and size",
        ),
        (
            kernel("reg = <0 0x48000000>;"),
            "reg: found <0x0 0x48000000>, expected 2 cell(s) of address and 2",
        ),
        (
            kernel("reg = <0 0x48000000 0 0>;"),
            "expected a size above 0",
        ),
        (
            kernel("reg = <0xffffffff 0xffffffff 0 2>;"),
            "expected a size above 0 and an end within 64 bits",
        ),
        (
            kernel("reg = <0 0x3ffff000 0 0x2000>;"),
            "found 0x3ffff000..0x40001000, expected a range inside the board's RAM",
        ),
        (
            kernel("reg = <0 0x402ff000 0 0x2000>;"),
            "expected a range clear of 0x40200000..0x40300000, which is taken",
        ),
        (
            kernel("image = \"kernel-1\";"),
            "image: found \"kernel-1\", expected \"reg\": address and size",
        ),
        (
            kernel("xen,uefi-binary = \"vmlinuz\";"),
            "xen,uefi-binary: found \"vmlinuz\", expected \"reg\"",
        ),
        (
            module("compatible = \"multiboot,module\";"),
            "expected \"multiboot,kernel\", \"multiboot,ramdisk\" or \"multiboot,device-tree\"",
        ),
        (
            format!(
                "{KERNEL} {}",
                KERNEL.replace("@48", "@49").replace("0x48", "0x49")
            ),
            "found a second kernel",
        ),
        (
            disk("reg = <0 0x48008000 0 0x10000>;"),
            "expected a range clear of 0x48000000..0x48010000, another module",
        ),
        (disk("reg = <0 0x48000000 0 0x10000>;"), "another module"),
        (
            kernel(&format!("reg = <0 0x48000000 0 1>; bootargs = \"{long}\";")),
            "at most 1024 bytes",
        ),
        (
            kernel("reg = <0 0x48000000 0 1>; bootargs = <1>;"),
            "bootargs: found <0x1>",
        ),
    ];
    for (more, expected) in cases {
        let told = refusal(&guest("bad", &more));
        assert!(
            told.iter().any(|line| line.contains(expected)),
            "{told:?} for {more}"
        );
    }
}

#[test]
fn modules_of_different_guests_do_not_overlap_but_may_be_the_same() {
    let same = format!("{} {}", guest("a", KERNEL), guest("b", KERNEL));
    let (domains, problems) = read_chosen(&same);
    assert_eq!((domains.len(), problems.len()), (2, 0));
    let shifted = KERNEL.replace("<0 0x48000000", "<0 0x48000800");
    let (domains, problems) =
        read_chosen(&format!("{} {}", guest("a", KERNEL), guest("b", &shifted)));
    // One of them is wrong, and the other must not be left out for it.
    assert_eq!((domains.len(), problems.len()), (2, 1));
    assert_eq!(
        problems[0].to_string(),
        "/chosen/b/module@48000000: reg: found 0x48000800..0x48010800, \
         expected a range clear of 0x48000000..0x48010000, a module of a; ignored"
    );
}

#[test]
fn a_bundle_names_images_that_it_has() {
    let read_bundle = |kernel: &str| {
        let bytes = dts::compile(&format!(
            "/ {{ images {{ good {{ data = <1>; }}; packed {{ data = <1>; compression = \"lzma\"; }}; }};
            chosen {{ {} }}; }};",
            guest("a", &format!("k {{ compatible = \"multiboot,kernel\"; {kernel} }};"))
        ));
        read_container(&Container::Bundle(Fit::new(&bytes).unwrap()))
    };
    assert_eq!(read_bundle("image = \"good\";").0.len(), 1);
    let cases = [
        (
            "",
            "/chosen/a/k: image: found nothing, expected the name of an image",
        ),
        (
            "image = \"bad\";",
            "found \"bad\", expected a usable image (no image of that name in the bundle)",
        ),
        (
            "image = \"packed\";",
            "expected a usable image (compression other than \"none\" and \"gzip\" is not supported)",
        ),
        ("image = <1>;", "image: found <0x1>, expected one string"),
        (
            "reg = <0 0x48000000 0 1>;",
            "reg: found <0x0 0x48000000 0x0 0x1>, expected \"image\"",
        ),
    ];
    for (kernel, expected) in cases {
        let (domains, problems) = read_bundle(kernel);
        assert_eq!(domains.len(), 0);
        assert!(problems[0].to_string().contains(expected), "{problems:?}");
    }
}

#[test]
fn a_raw_kernel_says_where_it_goes() {
    let with = |properties: &str| {
        let kernel = "compatible = \"multiboot,kernel\"; reg = <0 0x48000000 0 0x1000>;";
        read_chosen(&guest("a", &format!("k {{ {kernel} {properties} }};")))
    };
    let (domains, problems) =
        with("viaduct,load-offset = <0x200000>; viaduct,dtb-offset = <0 0x100000>;");
    assert_eq!(problems, []);
    assert_eq!(domains[0].load_offset, Some(0x20_0000));
    assert_eq!(domains[0].tree_offset, Some(0x10_0000));
    let (domains, _) = with("");
    assert_eq!(
        (domains[0].load_offset, domains[0].tree_offset),
        (None, None)
    );
    for (property, expected) in [
        (
            "viaduct,load-offset = <2>;",
            "expected one or two cells: a multiple of 4 bytes",
        ),
        (
            "viaduct,load-offset;",
            "found no value, expected one or two cells",
        ),
        (
            "viaduct,dtb-offset = <4>;",
            "expected one or two cells: a multiple of 8 bytes",
        ),
        ("viaduct,dtb-offset = <0 0 0>;", "expected one or two cells"),
    ] {
        let (domains, problems) = with(property);
        assert_eq!(domains.len(), 0, "{property}");
        assert!(problems[0].to_string().contains(expected), "{problems:?}");
    }
    // On a RAM disk they mean nothing.
    let disk = "k { compatible = \"multiboot,kernel\"; reg = <0 0x48000000 0 0x1000>; };
        r { compatible = \"multiboot,ramdisk\"; reg = <0 0x49000000 0 0x1000>; viaduct,load-offset = <0>; };";
    let (domains, problems) = read_chosen(&guest("a", disk));
    assert_eq!((domains.len(), problems.len()), (1, 1));
}
