//! Nodes, and how they are named inside the store.

use crate::arena::NIL;
use crate::permissions::Permissions;

/// A node's block: which domain's, and which of its blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ref {
    pub(crate) domain: u16,
    pub(crate) index: u16,
}

impl Ref {
    pub(crate) const NONE: Self = Self {
        domain: NIL,
        index: NIL,
    };

    pub(crate) fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// A node of a transaction's own tree, not of the tree that all see.
pub(crate) const SHADOW: u8 = 1;
/// Its transaction has looked at the node: nobody may have changed it when the transaction ends.
pub(crate) const TOUCHED: u8 = 2;
/// The transaction has made it: nothing is behind it.
pub(crate) const CREATED: u8 = 4;
/// The transaction has removed it, with all below.
pub(crate) const DELETED: u8 = 8;
/// It has a text of its own.
pub(crate) const TEXT: u8 = 16;
/// It has permissions of its own.
pub(crate) const RIGHTS: u8 = 32;
/// The transaction has been carried out and has changed this node: watches are to be told.
pub(crate) const CHANGED: u8 = 64;

/// A node of the tree, or what a transaction knows of one (its *shadow*).
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub(crate) parent: Ref,
    /// The next of its siblings, which are sorted by hash; the next to be freed, when it is out of the tree.
    pub(crate) next: Ref,
    /// The first of its children.
    pub(crate) child: Ref,
    /// Of a shadow: the node behind it.
    pub(crate) base: Ref,
    /// When it was changed last: its value, its permissions, or which children it has. Of a shadow: the base's, when it
    /// was touched.
    pub(crate) generation: u64,
    /// Which node this is, of all that there ever were. Of a shadow: the base's.
    pub(crate) serial: u64,
    /// Name and then value; in the arena of [`text_home`].
    pub(crate) text: u16,
    pub(crate) hash: u16,
    pub(crate) name: u16,
    pub(crate) value: u16,
    pub(crate) permissions: Permissions,
    pub(crate) flags: u8,
}

impl Node {
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// In whose arena the text of a node lies: a shadow's new value is the matter of who is charged for the node.
pub(crate) fn text_home(at: Ref, node: &Node) -> u16 {
    if node.base.is_some() {
        node.base.domain
    } else {
        at.domain
    }
}
