//! Damaged trees, bundles and kernels, the same on every run: nothing may panic, hang or take long.

use std::path::Path;

use crate::exercise::{self, guests, unpack};
use crate::fit::Fit;
use crate::guest::Container;
use crate::gzip::tests::{content, pack};
use crate::kernel::{self, Kernel};
use crate::random::Random;
use crate::{Tree, dts};

const VIRT_2: &[u8] = include_bytes!("../tests/data/virt-gicv2.dtb");
const VIRT_3: &[u8] = include_bytes!("../tests/data/virt-gicv3.dtb");
const EMBEDDED: &[u8] = include_bytes!("../tests/data/bundle.fit");
const EXTERNAL: &[u8] = include_bytes!("../tests/data/bundle-external.fit");
const PI_4: &str = include_str!("../tests/data/pi4.dts");
const KERNEL: &[u8] = include_bytes!("../tests/data/kernel.bin");

const WORDS: [u32; 12] = [
    0,
    1,
    2,
    3,
    4,
    9,
    0xff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffc,
    u32::MAX,
    0xd00d_feed,
];

const GUESTS: &str = "/ { #address-cells = <2>; #size-cells = <2>; chosen {
    a { compatible = \"xen,domain\"; memory = <0 0x8000>; cpus = <2>; vpl011; xen,enhanced = \"enabled\";
        k { compatible = \"multiboot,kernel\"; reg = <0 0x48000000 0 0x1000>; bootargs = \"x=y\"; };
        r { compatible = \"multiboot,ramdisk\"; reg = <0 0x49000000 0 0x1000>; };
        v { compatible = \"xen,vcpu\"; id = <1>; hard-affinity = \"0-1,3\"; }; };
    b { compatible = \"xen,domain\"; memory = <0 0x8000>; cpus = <1>; nr_spis = <32>;
        k { compatible = \"multiboot,kernel\"; reg = <0 0x4a000000 0 0x1000>; }; }; }; };";

/// Changes a few bytes, words or stretches; often to values that mean something.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let length = bytes.len() as u64;
        if length < 8 {
            return;
        }
        let at = random.below(length) as usize;
        match random.below(8) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 | 3 => {
                let at = (at & !3).min(bytes.len() - 4);
                let word = WORDS[random.below(WORDS.len() as u64) as usize];
                bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
            }
            // The header and what is near it.
            4 => {
                let at = random.below(16.min(length / 4)) as usize * 4;
                let word = random.below(2 * length) as u32;
                bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
            }
            5 => {
                let count = random.below(64).min(length - at as u64) as usize;
                let from = random.below(length - count as u64 + 1) as usize;
                bytes.copy_within(from..from + count, at);
            }
            6 => {
                let end = bytes.len().min(at + random.below(64) as usize);
                bytes[at..end].fill(random.next() as u8);
            }
            _ => {
                if random.below(8) == 0 {
                    bytes.truncate(at);
                }
            }
        }
    }
}

/// Changes values, their lengths and whose they are, so that the tree stays sound.
fn damage_values(bytes: &mut [u8], random: &mut Random) {
    let properties = dts::properties(bytes);
    for _ in 0..=random.below(3) {
        let pick = |random: &mut Random| {
            properties[random.below(properties.len() as u64) as usize].clone()
        };
        let (name, value) = pick(random);
        match random.below(4) {
            0 => {
                let (other, _) = pick(random);
                bytes.copy_within(other..other + 4, name);
            }
            1 => {
                // Shorter within its last word: the room stays the same.
                let length = value.len().saturating_sub(random.below(4) as usize);
                if length.div_ceil(4) == value.len().div_ceil(4) {
                    bytes[name - 4..name].copy_from_slice(&(length as u32).to_be_bytes());
                }
            }
            2 if value.len() >= 4 => {
                let at = value.start + (random.below(value.len() as u64 - 3) as usize & !3);
                let word = WORDS[random.below(WORDS.len() as u64) as usize];
                bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
            }
            _ if !value.is_empty() => {
                let at = value.start + random.below(value.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
            _ => {}
        }
    }
}

fn run(seed: u64, count: usize, original: &[u8]) {
    let mut random = Random::new(seed);
    let mut accepted = 0;
    for number in 0..count {
        let mut bytes = original.to_vec();
        if number % 2 == 0 {
            damage(&mut bytes, &mut random);
        } else {
            damage_values(&mut bytes, &mut random);
        }
        accepted += usize::from(Tree::new(&bytes).is_ok());
        exercise::tree(&bytes);
    }
    // Enough of them get past the check to test what lies behind it.
    assert!(accepted > count / 2, "{accepted} of {count}");
}

#[test]
fn damaged_trees_of_boards() {
    let mut pi = dts::compile(PI_4);
    dts::blank_node(&mut pi, "thermal-zones");
    for (seed, tree) in [VIRT_2, VIRT_3, &pi].into_iter().enumerate() {
        exercise::tree(tree);
        run(seed as u64, 12_000, tree);
    }
}

#[test]
fn damaged_trees_of_boards_whose_devices_a_guest_has() {
    let mut pi = dts::compile(PI_4);
    dts::blank_node(&mut pi, "thermal-zones");
    for (seed, tree) in [VIRT_2, VIRT_3, &pi].into_iter().enumerate() {
        assert!(exercise::hardware(tree));
        let mut random = Random::new(seed as u64 + 60);
        let mut planned = 0;
        for _ in 0..1_500 {
            let mut bytes = tree.to_vec();
            damage_values(&mut bytes, &mut random);
            planned += usize::from(exercise::hardware(&bytes));
        }
        assert!(planned > 700, "{planned}");
    }
}

#[test]
fn damaged_trees_of_guests() {
    run(10, 34_000, &dts::compile(GUESTS));
}

#[test]
fn damaged_bundles() {
    for (seed, bundle) in [EMBEDDED, EXTERNAL].into_iter().enumerate() {
        exercise::tree(bundle);
        run(20 + seed as u64, 15_000, bundle);
    }
}

/// What is wrong with one guest's node costs that guest alone.
#[test]
fn damage_stays_with_its_guest() {
    let original = dts::compile(GUESTS);
    let second = original
        .windows(8)
        .position(|bytes| bytes == [0, 0, 0, 1, b'b', 0, 0, 0])
        .unwrap();
    let read = |bytes: &[u8]| guests(&Container::Host(Tree::new(bytes).unwrap()));
    let right = read(&original).0.pop().unwrap();
    let first: Vec<_> = dts::properties(&original)
        .into_iter()
        .filter(|(_, value)| value.end < second && !value.is_empty())
        .skip(2)
        .collect();
    let mut random = Random::new(40);
    let mut left_out = 0;
    for _ in 0..20_000 {
        let mut bytes = original.clone();
        for _ in 0..=random.below(2) {
            let (_, value) = &first[random.below(first.len() as u64) as usize];
            let at = value.start + random.below(value.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        let (domains, problems) = read(&bytes);
        assert!(domains.contains(&right), "{problems:?}");
        left_out += usize::from(domains.len() == 1);
    }
    assert!(left_out > 2_000, "{left_out}");
}

/// The same for what lies in a bundle: one image's damage is seen by its hash, and by no other's.
#[test]
fn damage_stays_with_its_image() {
    let mut random = Random::new(41);
    for original in [EMBEDDED, EXTERNAL] {
        let fit = Fit::new(original).unwrap();
        let names: Vec<String> = fit.names().map(|name| name.to_string()).collect();
        assert!(names.len() > 1);
        for _ in 0..2_000 {
            let chosen = &names[random.below(names.len() as u64) as usize];
            let data = fit.image(chosen).unwrap().data;
            let start = data.as_ptr().addr() - original.as_ptr().addr();
            let mut bytes = original.to_vec();
            bytes[start + random.below(data.len() as u64) as usize] ^= 1 << random.below(8);
            let damaged = Fit::new(&bytes).unwrap();
            for name in &names {
                let image = damaged.image(name).unwrap();
                let found = image.verify().is_err();
                assert_eq!(found, name == chosen && !image.hashes.is_empty(), "{name}");
            }
        }
    }
}

#[test]
fn damaged_kernels() {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2, 0, 183, 0, 1, 0, 0, 0]);
    for long in [0x4000_0000_u64, 64, 0] {
        file.extend(long.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for long in [120_u64, 0x4000_0000, 0x4000_0000, 8, 16, 4096] {
        file.extend(long.to_le_bytes());
    }
    file.extend([0; 8]);
    assert!(matches!(kernel::probe(&file), Ok(kernel::Kernel::Elf(_))));
    let mut random = Random::new(30);
    for original in [&file[..], KERNEL] {
        for _ in 0..10_000 {
            let mut bytes = original.to_vec();
            damage(&mut bytes, &mut random);
            exercise::file(&bytes);
        }
    }
}

/// What comes out of a damaged gzip file is what was packed, or nothing.
#[test]
fn damaged_gzip_files() {
    let mut random = Random::new(31);
    let mut original = KERNEL.to_vec();
    original.extend(content(9_000));
    let packed = pack(&original, 0, &[]);
    assert!(unpack(&packed).is_ok());
    let mut accepted = 0;
    for _ in 0..10_000 {
        let mut bytes = packed.clone();
        damage(&mut bytes, &mut random);
        exercise::file(&bytes);
        if let Ok((Kernel::Packed(_), found)) = unpack(&bytes) {
            assert!(found == original);
            accepted += 1;
        }
    }
    assert!(accepted < 2_000, "{accepted}");
}

/// What fuzzing found worth keeping (`fuzz/`).
#[test]
fn the_corpus_of_the_fuzzer() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (folder, exercise) in [
        ("tree", exercise::tree as fn(&[u8])),
        ("file", exercise::file),
    ] {
        let entries = std::fs::read_dir(corpus.join(folder)).unwrap();
        let mut count = 0;
        for entry in entries {
            exercise(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{folder} is empty");
    }
}

/// Built to take long: all properties named by one long string, nodes nested, values that send readers to
/// every other node.
#[test]
fn trees_made_to_take_long() {
    let mut deep = String::new();
    for _ in 0..15 {
        deep += "n { #address-cells = <2>; #size-cells = <2>; ranges = <0 0 0 0 0xffffffff 0>;";
    }
    let uarts = "u { compatible = \"arm,pl011\"; reg = <0 1 0 1>; };".repeat(3_000);
    let deep = format!("/ {{ {deep} {uarts} {} }};", "};".repeat(15));
    exercise::tree(&dts::compile(&deep));

    let name = "p".repeat(31);
    let properties = format!("{name} = <1>;").repeat(20_000);
    exercise::tree(&dts::compile(&format!(
        "/ {{ chosen {{ {properties} }}; images {{ }}; }};"
    )));

    let guests: String = (0..1_000)
        .map(|number| {
            format!("g{number} {{ compatible = \"xen,domain\"; memory = <0 4>; cpus = <1>; }};")
        })
        .collect();
    exercise::tree(&dts::compile(&format!(
        "/ {{ chosen {{ {guests} }}; images {{ }}; }};"
    )));

    let empty = "/ { #address-cells = <0>; #size-cells = <0>; memory { device_type = \"memory\"; reg = <1 2 3>; };
        b { #address-cells = <0>; #size-cells = <0>; ranges = <1 2>; u { compatible = \"arm,pl011\"; reg; }; }; };";
    exercise::tree(&dts::compile(empty));
}
