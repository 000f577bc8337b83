//! Trees as they are written, read back, and what cannot be one.

use super::*;
use crate::Tree;

fn sample(room: usize) -> Result<Vec<u8>, Error> {
    let mut tree = Writer::new(room);
    tree.begin("");
    tree.texts("compatible", &["one", "two"]);
    tree.begin("__symbols__");
    tree.property(
        "a_label_that_is_much_longer_than_the_standard_has_it",
        b"/n\0",
    );
    tree.end();
    tree.begin("n@1");
    tree.long("reg", 0x1_0000_0002);
    tree.cells("x", &[1, 2, 3]);
    tree.cell("compatible", 7);
    tree.property("odd", &[1]);
    tree.property("flag", &[]);
    tree.end();
    tree.end();
    tree.finish()
}

#[test]
fn what_was_written_is_read() {
    let bytes = sample(4096).unwrap();
    let tree = Tree::new(&bytes).unwrap();
    assert_eq!(tree.bytes().len(), bytes.len());
    assert_eq!(tree.reservations().count(), 0);
    let texts = tree.root().property("compatible").unwrap();
    assert_eq!(texts.strings().collect::<Vec<_>>(), ["one", "two"]);
    let symbols = tree.find("/__symbols__").unwrap();
    assert_eq!(symbols.properties().next().unwrap().str(), Some("/n"));
    let node = tree.find("/n@1").unwrap();
    assert_eq!(node.property("reg").unwrap().u64(), Some(0x1_0000_0002));
    assert_eq!(
        node.property("x").unwrap().cells().collect::<Vec<_>>(),
        [1, 2, 3]
    );
    // Each name stands once.
    assert_eq!(node.u32("compatible"), Some(7));
    assert_eq!(
        bytes
            .windows(11)
            .filter(|part| *part == b"compatible\0")
            .count(),
        1
    );
    assert_eq!(node.property("odd").unwrap().value, [1]);
    assert!(node.property("flag").unwrap().value.is_empty());
}

#[test]
fn the_room_is_a_bound() {
    let size = sample(4096).unwrap().len();
    assert!(sample(size).is_ok());
    for room in 0..size {
        assert_eq!(
            sample(room).unwrap_err(),
            Error::Writing(TOO_LARGE),
            "{room}"
        );
    }
}

#[test]
fn what_is_no_tree_is_told() {
    let long = "n".repeat(256);
    type Case<'c> = (&'c dyn Fn(&mut Writer), &'static str);
    let cases: [Case<'_>; 7] = [
        (&|tree| tree.begin("a/b"), "a node's name is not allowed"),
        (&|tree| tree.begin("a b"), "a node's name is not allowed"),
        (&|tree| tree.begin(&long), "a node's name is not allowed"),
        (
            &|tree| tree.cell("a b", 1),
            "a property's name is not allowed",
        ),
        (&|tree| tree.cell("", 1), "a property's name is not allowed"),
        (&|tree| tree.texts("a", &["x\0y"]), "a text has a NUL in it"),
        (&|tree| tree.begin("a"), "a node has no end"),
    ];
    for (spoil, why) in cases {
        let mut tree = Writer::new(4096);
        tree.begin("");
        spoil(&mut tree);
        tree.end();
        assert_eq!(tree.finish().unwrap_err(), Error::Writing(why));
    }
}
