//! The end of a transaction: is all that it has seen as it was? Then what it changed is carried out, in steps with
//! nothing in between, and nothing of that can fail: space for what it made was promised to it.

use crate::arena::{Block, Share};
use crate::node::{CHANGED, CREATED, DELETED, Node, RIGHTS, Ref, SHADOW, TEXT, TOUCHED};
use crate::permissions::Permissions;
use crate::store::Store;
use abi::Errno;

/// Nodes carried out in one go.
const APPLY: u32 = 6;

/// A node that a transaction has changed, for those who are to be told.
pub(crate) struct Change {
    pub(crate) at: Ref,
    pub(crate) removed: bool,
    /// Its permissions now and before, and those of the node above.
    pub(crate) permissions: [Permissions; 3],
}

impl Store {
    /// The next shadow in the order of the tree, those above before those below.
    fn next_shadow(&self, at: Ref, down: bool) -> Ref {
        let Some(node) = self.node(at) else {
            return Ref::NONE;
        };
        if down && node.child.is_some() {
            return node.child;
        }
        let mut node = node;
        loop {
            if node.next.is_some() {
                return node.next;
            }
            match self.node(node.parent) {
                Some(parent) => node = parent,
                None => return Ref::NONE,
            }
        }
    }

    /// Has a transaction carried out. Its shadows stay, for [`Self::next_change`], until it is dropped.
    ///
    /// # Errors
    /// [`Errno::Again`] if it cannot be: it is dropped.
    pub(crate) fn commit(&mut self, who: u16, slot: usize) -> Result<(), Errno> {
        let transaction = *self.transaction(who, slot)?;
        if transaction.failed || !self.is_still_right(transaction.root) {
            self.drop_transaction(who, slot);
            return Err(Errno::Again);
        }
        self.applying = transaction.root;
        Ok(())
    }

    /// Carries out some of the transaction that has succeeded last; `None` if all is done. Nothing else is done by
    /// anybody meanwhile.
    pub(crate) fn apply_some(&mut self) -> Option<()> {
        self.node(self.applying)?;
        for _ in 0..APPLY {
            let at = self.applying;
            let Some(node) = self.node(at).copied() else {
                break;
            };
            self.apply(at, &node);
            self.applying = self.next_shadow(at, !node.has(DELETED));
        }
        Some(())
    }

    /// Whether every node that was looked at is as it was.
    fn is_still_right(&self, root: Ref) -> bool {
        let mut at = root;
        while let Some(node) = self.node(at) {
            if node.has(TOUCHED)
                && !node.has(CREATED)
                && self
                    .base_of(node)
                    .is_none_or(|base| base.generation != node.generation)
            {
                return false;
            }
            at = self.next_shadow(at, true);
        }
        true
    }

    /// Carries out what is changed of one node; those above have been before.
    fn apply(&mut self, at: Ref, shadow: &Node) {
        if !Self::is_changed(shadow) {
            return;
        }
        if shadow.has(DELETED) {
            return self.remove(shadow.base);
        }
        let mut changed = *shadow;
        if shadow.has(CREATED) {
            let Some(base) = self.make_real(at, shadow) else {
                return;
            };
            changed.base = base;
        } else {
            let Some(base) = self.node_mut(shadow.base) else {
                return;
            };
            if shadow.has(RIGHTS) {
                changed.permissions = core::mem::replace(&mut base.permissions, shadow.permissions);
            }
            if shadow.has(TEXT) {
                let old = core::mem::replace(&mut base.text, shadow.text);
                let had_text = base.has(TEXT);
                base.name = shadow.name;
                base.value = shadow.value;
                base.flags |= TEXT;
                if had_text && let Some(account) = self.account_mut(shadow.base.domain) {
                    account.arena.free_text(old, Share::Store);
                }
            }
            self.changed(shadow.base);
        }
        changed.flags = SHADOW | CHANGED;
        if let Some(node) = self.node_mut(at) {
            *node = changed;
        }
    }

    /// Hangs a node that a transaction has made into the tree that all see.
    fn make_real(&mut self, at: Ref, shadow: &Node) -> Option<Ref> {
        let parent = self.node(shadow.parent)?.base;
        let generation = self.tick();
        let node = Node {
            parent: Ref::NONE,
            next: Ref::NONE,
            child: Ref::NONE,
            base: Ref::NONE,
            generation,
            flags: TEXT,
            ..*shadow
        };
        let account = self.account_mut(at.domain)?;
        account.arena.promised = account.arena.promised.saturating_sub(1);
        let index = account.arena.take(Block::Node(node), Share::Store).ok()?;
        account.nodes = account.nodes.saturating_add(1);
        let base = Ref {
            domain: at.domain,
            index,
        };
        let mut before = Ref::NONE;
        let mut sibling = self.node(parent)?.child;
        while let Some(node) = self.node(sibling)
            && node.hash <= shadow.hash
        {
            before = sibling;
            sibling = node.next;
        }
        self.link(parent, before, base);
        self.changed(parent);
        Some(base)
    }

    /// The first change of a transaction that was carried out, after the node `after`.
    pub(crate) fn next_change(&mut self, who: u16, slot: usize, after: Ref) -> Option<Change> {
        let mut at = match self.node(after) {
            Some(node) => self.next_shadow(after, !node.has(DELETED)),
            None => self.transaction(who, slot).ok()?.root,
        };
        loop {
            let node = self.node(at)?;
            let removed = node.has(DELETED);
            if removed || node.has(CHANGED) {
                let parent = self.node(node.parent).unwrap_or(node);
                let above = self.base_of(parent).unwrap_or(parent);
                let now = self.base_of(node).unwrap_or(node);
                return Some(Change {
                    at,
                    removed,
                    permissions: [now.permissions, node.permissions, above.permissions],
                });
            }
            at = self.next_shadow(at, true);
        }
    }
}
