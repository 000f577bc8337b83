//! A node's properties at hand: to look one up in the tree, those before it are gone through letter by letter.

use arrayvec::ArrayVec;

use crate::tree::{Node, Property};

/// Properties of a node that [`Properties`] holds.
const HELD: usize = 24;

/// A node whose properties have been gone through once, for whoever asks for many of them.
pub(crate) struct Properties<'a> {
    node: Node<'a>,
    held: ArrayVec<Property<'a>, HELD>,
    /// There are more than are held.
    more: bool,
}

impl<'a> Properties<'a> {
    #[inline(never)]
    pub(crate) fn of(node: &Node<'a>) -> Self {
        let mut properties = node.properties();
        Self {
            node: *node,
            held: properties.by_ref().take(HELD).collect(),
            more: properties.next().is_some(),
        }
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node<'a> {
        &self.node
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Property<'a>> + '_ {
        let others = self.more.then(|| self.node.properties().skip(HELD));
        let held = self.held.iter().copied();
        held.chain(others.into_iter().flatten())
    }

    /// The property of that name.
    #[inline(never)]
    pub(crate) fn property(&self, name: &str) -> Option<Property<'a>> {
        let mut held = self.held.iter();
        match held.find(|property| property.name == name) {
            Some(found) => Some(*found),
            None if self.more => self.node.property(name),
            None => None,
        }
    }

    /// The value of a property that holds one 32-bit cell.
    pub(crate) fn u32(&self, name: &str) -> Option<u32> {
        self.property(name)?.u32()
    }

    /// The value of a property that holds one string.
    pub(crate) fn str(&self, name: &str) -> Option<&'a str> {
        self.property(name)?.str()
    }

    /// Whether `compatible` has one of these strings.
    pub(crate) fn is_compatible(&self, any_of: &[&str]) -> bool {
        self.property("compatible")
            .is_some_and(|list| list.has_any(any_of))
    }

    /// Whether the node is not switched off by its `status`.
    pub(crate) fn is_enabled(&self) -> bool {
        self.property("status")
            .is_none_or(|status| status.is_okay())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tree, dts};

    #[test]
    fn all_are_found_held_or_not() {
        for count in [0, 1, HELD - 1, HELD, HELD + 1, 3 * HELD] {
            let source: String = (0..count).map(|at| format!("p{at} = <{at}>; ")).collect();
            let bytes = dts::compile(&format!("/ {{ {source} child {{ q; }}; }};"));
            let root = Tree::new(&bytes).unwrap().root();
            let properties = Properties::of(&root);
            assert!(properties.iter().eq(root.properties()), "{count}");
            for at in 0..count {
                assert_eq!(properties.u32(&format!("p{at}")), Some(at as u32));
            }
            assert_eq!(properties.property("q"), None);
        }
    }
}
