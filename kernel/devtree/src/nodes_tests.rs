//! All nodes of a tree, in both ways of going through it.

use alloc::string::ToString;

use super::*;
use crate::dts;

fn seen(tree: &Tree<'_>) -> Vec<(usize, String)> {
    let nodes = tree.nodes();
    nodes
        .map(|(depth, node)| (depth, node.name().to_string()))
        .collect()
}

/// One chain of nested nodes, a leaf in each, and a node behind it all.
fn nested(depth: usize) -> Vec<u8> {
    let open: String = (1..=depth)
        .map(|level| format!("n{level} {{ p = <{level}>; leaf@{level} {{ q; }}; "))
        .collect();
    let close = "}; ".repeat(depth);
    dts::compile(&format!("/ {{ r; {open} {close} last {{ s; }}; }};"))
}

#[test]
fn both_ways_are_the_same() {
    let mut blanked = nested(3);
    dts::blank_node(&mut blanked, "leaf@2");
    for bytes in [
        nested(1),
        nested(14),
        blanked,
        include_bytes!("../tests/data/virt-gicv3.dtb").to_vec(),
    ] {
        let straight = Tree::new(&bytes).unwrap();
        let mut by_levels = straight;
        by_levels.depth = usize::MAX;
        assert!(straight.nodes().straight.is_some());
        assert!(by_levels.nodes().straight.is_none());
        let all = seen(&straight);
        assert!(all.len() > 2);
        assert_eq!(all, seen(&by_levels));
    }
}

#[test]
fn what_lies_too_deep_is_passed_over() {
    for depth in [13, 14, 15, 16, 20, 30] {
        let bytes = nested(depth);
        let all = seen(&Tree::new(&bytes).unwrap());
        let mut expected = Vec::new();
        for level in 1..=depth {
            expected.push((level, format!("n{level}")));
            expected.push((level + 1, format!("leaf@{level}")));
        }
        expected.push((1, "last".to_string()));
        expected.retain(|(depth, _)| *depth <= MAX_DEPTH);
        assert_eq!(all, expected, "{depth}");
    }
}
