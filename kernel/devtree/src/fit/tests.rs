//! Bundles as mkimage makes them, and what is wrong with others.

use super::*;
use crate::dts;

const EMBEDDED: &[u8] = include_bytes!("../../tests/data/bundle.fit");
const EXTERNAL: &[u8] = include_bytes!("../../tests/data/bundle-external.fit");
const POSITION: &[u8] = include_bytes!("../../tests/data/bundle-position.fit");
const KERNEL: &[u8] = include_bytes!("../../tests/data/kernel.bin");
const RAMDISK: &[u8] = include_bytes!("../../tests/data/ramdisk.bin");

#[test]
fn data_inside_and_outside_the_tree_is_found_and_right() {
    for bytes in [EMBEDDED, EXTERNAL, POSITION] {
        let fit = Fit::new(bytes).unwrap();
        let names: Vec<String> = fit.names().map(|name| name.to_string()).collect();
        assert_eq!(names, ["kernel-1", "ramdisk-1"]);
        let kernel = fit.image("kernel-1").unwrap();
        assert_eq!((kernel.data, kernel.kind), (KERNEL, Some("kernel")));
        assert_eq!(kernel.hashes.len(), 3);
        assert_eq!(kernel.verify(), Ok(()));
        let ramdisk = fit.image("ramdisk-1").unwrap();
        assert_eq!(ramdisk.data, RAMDISK);
        assert_eq!(ramdisk.verify(), Ok(()));
        assert_eq!(fit.image("kernel").unwrap_err(), Error::NoSuchImage);
    }
}

#[test]
fn a_changed_byte_is_found_by_each_algorithm() {
    let fit = Fit::new(EMBEDDED).unwrap();
    let kernel = fit.image("kernel-1").unwrap();
    let mut data = KERNEL.to_vec();
    data[199] ^= 1;
    for hash in &kernel.hashes {
        let image = Image {
            data: &data,
            kind: None,
            hashes: [*hash].into_iter().collect(),
        };
        assert_eq!(
            image.verify(),
            Err(Error::HashMismatch(hash.algorithm.name()))
        );
        let image = Image {
            data: KERNEL,
            ..image
        };
        assert_eq!(image.verify(), Ok(()));
    }
}

#[test]
fn steps_of_any_size_come_to_the_same_end() {
    let fit = Fit::new(EXTERNAL).unwrap();
    let kernel = fit.image("kernel-1").unwrap();
    for size in [1, 63, 64, 199, 200, 201] {
        let mut check = kernel.check();
        let mut steps = 0;
        let result = loop {
            steps += 1;
            match check.step(size) {
                Progress::More => {}
                Progress::Done(result) => break result,
            }
        };
        assert_eq!(result, Ok(()));
        assert_eq!(steps, 3 * 200_usize.div_ceil(size) + 1);
    }
}

#[test]
fn a_cut_bundle_is_told_from_a_whole_one() {
    let cut = &EXTERNAL[..EXTERNAL.len() - 1];
    let fit = Fit::new(cut).unwrap();
    assert!(fit.image("kernel-1").is_ok());
    assert_eq!(
        fit.image("ramdisk-1").unwrap_err(),
        Error::Image("data: beyond the bundle's end")
    );
    assert_eq!(
        Fit::new(&EMBEDDED[..2000]).err(),
        Some(Error::Header("total size"))
    );
    assert!(matches!(
        Fit::new(&dts::compile("/ { };")).err(),
        Some(Error::Missing(_))
    ));
}

#[test]
fn wrong_images_are_told_by_what_is_wrong() {
    let cases = [
        ("", Error::Image("data: it has none")),
        ("data-size = <4>;", Error::Image("data: it has none")),
        (
            "data-size = <1 2 3>; data-offset = <0>;",
            Error::Image("data-size"),
        ),
        (
            "data-size = <0xffffffff 0xffffffff>; data-offset = <8>;",
            Error::Image("data: beyond the bundle's end"),
        ),
        (
            "data-size = <1>; data-offset = <0x7fffffff 0xffffffff>;",
            Error::Image("data: beyond the bundle's end"),
        ),
        (
            "data = <1>; compression = \"lzma\";",
            Error::NotBuilt("compression other than \"none\" and \"gzip\""),
        ),
        (
            "data = <1>; compression = <1>;",
            Error::Image("compression"),
        ),
        (
            "data = <1>; hash-1 { algo = \"md5\"; value = <1>; };",
            Error::NotBuilt("hash algorithm \"md5\""),
        ),
        (
            "data = <1>; hash { algo = \"rot13\"; value = <1>; };",
            Error::NotBuilt("a hash algorithm other than crc32, sha1, sha256"),
        ),
        (
            "data = <1>; hash { value = <1>; };",
            Error::Image("algo of a hash"),
        ),
        (
            "data = <1>; hash { algo = \"sha1\"; };",
            Error::Image("value of a hash: run mkimage"),
        ),
        (
            "data = <1>; hash { algo = \"sha1\"; value = <1>; };",
            Error::Image("value of a hash"),
        ),
    ];
    for (image, expected) in cases {
        let bytes = dts::compile(&format!("/ {{ images {{ i {{ {image} }}; }}; }};"));
        let found = Fit::new(&bytes).unwrap().image("i").unwrap_err();
        assert_eq!(found, expected, "{image}");
    }
    let hash = "hash { algo = \"crc32\"; value = <0>; }; ".repeat(5);
    let bytes = dts::compile(&format!(
        "/ {{ images {{ i {{ data = <1>; {hash} }}; }}; }};"
    ));
    assert_eq!(
        Fit::new(&bytes).unwrap().image("i").unwrap_err(),
        Error::TooMany("hashes")
    );
}

#[test]
fn an_image_without_hashes_or_data_passes() {
    let bytes =
        dts::compile("/ { images { i { data = []; signature-1 { algo = \"rsa\"; }; }; }; };");
    let fit = Fit::new(&bytes).unwrap();
    assert_eq!(fit.image("i").unwrap().verify(), Ok(()));
}
