//! Trees that the check must refuse, or must not.

use super::*;
use crate::{Tree, dts};

fn tree() -> Vec<u8> {
    dts::compile("/memreserve/ 0x1000 0x2000; / { a = <1>; b { c = \"text\"; d { }; }; e { }; };")
}

fn set(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

fn refused(bytes: &[u8]) -> Error {
    Tree::new(bytes).err().unwrap()
}

#[test]
fn headers_that_contradict_themselves() {
    let whole = tree();
    assert!(Tree::new(&whole).is_ok());
    assert_eq!(Tree::size_of(&whole[..8]), Some(whole.len()));
    assert_eq!(Tree::size_of(&whole[..7]), None);
    let length = u32::try_from(whole.len()).unwrap();
    for (field, value, expected) in [
        (0, 0xd00d_feee, Error::NotATree),
        (1, 39, Error::Header("total size")),
        (1, length + 1, Error::Header("total size")),
        (2, u32::MAX, Error::Header("structure block")),
        (3, u32::MAX, Error::Header("strings block")),
        (4, length + 1, Error::Header("reservation block")),
        (5, 16, Error::Header("version")),
        (6, 18, Error::Header("version")),
        (8, u32::MAX, Error::Header("strings block")),
        (9, u32::MAX, Error::Header("structure block")),
    ] {
        let mut bytes = whole.clone();
        set(&mut bytes, field * 4, value);
        assert_eq!(refused(&bytes), expected, "field {field}");
    }
    for length in 0..whole.len() {
        assert!(Tree::new(&whole[..length]).is_err());
    }
    // What follows is left alone.
    let mut longer = whole.clone();
    longer.extend([0xff; 100]);
    assert_eq!(Tree::new(&longer).unwrap().bytes(), whole);
}

#[test]
fn every_token_counts() {
    let whole = tree();
    let structure = usize::try_from(word(&whole, 8).unwrap()).unwrap();
    let size = usize::try_from(word(&whole, 36).unwrap()).unwrap();
    for offset in (structure..structure + size).step_by(4) {
        let mut bytes = whole.clone();
        set(&mut bytes, offset, 5);
        // It is a token, a length, a name's offset, a name or a value: the first is refused for certain.
        let is_token = matches!(word(&whole, offset), Some(1..=4 | 9));
        if is_token && Tree::new(&bytes).is_ok() {
            let value = whole.get(offset - 12..offset - 8);
            assert_eq!(value, Some(&3_u32.to_be_bytes()[..]), "at {offset:#x}");
        }
    }
    // The last half is not lost quietly: an END too early is an error.
    let mut bytes = whole.clone();
    let end = (structure..)
        .step_by(4)
        .filter(|&at| word(&whole, at) == Some(END_NODE))
        .nth(1);
    set(&mut bytes, end.unwrap() + 4, END);
    assert!(matches!(refused(&bytes), Error::Structure { .. }));
}

#[test]
fn names_are_names() {
    for name in ["b/d", "b\u{7f}", "bä"] {
        let mut bytes = tree();
        let at = bytes
            .windows(4)
            .position(|window| window == b"b\0\0\0")
            .unwrap();
        bytes[at..at + 3].fill(0);
        let name = &name.as_bytes()[..name.len().min(3)];
        bytes[at..at + name.len()].copy_from_slice(name);
        assert!(Tree::new(&bytes).is_err(), "{name:?}");
    }
}

#[test]
fn depth_and_numbers_are_bounded() {
    let nested = |depth: usize| {
        dts::compile(&format!(
            "/ {{ {} {} }};",
            "n {".repeat(depth),
            "};".repeat(depth)
        ))
    };
    assert!(Tree::new(&nested(MAX_DEPTH - 1)).is_ok());
    let deep = nested(MAX_DEPTH);
    assert_eq!(refused(&deep), Error::TooMany("nodes in the device tree"));
    let many = dts::compile(&format!("/ {{ {} }};", "n { };".repeat(MAX_NODES)));
    assert_eq!(refused(&many), Error::TooMany("nodes in the device tree"));
}

#[test]
fn reservations_end_where_they_end() {
    let bytes = tree();
    let tree = Tree::new(&bytes).unwrap();
    let found: Vec<_> = tree.reservations().collect();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].start().get(), found[0].size()), (0x1000, 0x2000));
}

#[test]
fn properties_look_as_in_source() {
    let bytes = dts::compile(
        "/ { a = <1 2>; b; c = \"x\", \"y\"; d = [01 02 03]; e = <0>; f = [00];
            g = <1 2 3 4 5 6 7 8 9>; h = [41 42 43]; };",
    );
    let shown: Vec<String> = Tree::new(&bytes)
        .unwrap()
        .root()
        .properties()
        .map(|property| property.to_string())
        .collect();
    let expected = [
        "<0x1 0x2>",
        "no value",
        "\"x\", \"y\"",
        "[01 02 03]",
        "<0x0>",
        "[00]",
        "<0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8 ...>",
        "[41 42 43]",
    ];
    assert_eq!(shown, expected);
}
