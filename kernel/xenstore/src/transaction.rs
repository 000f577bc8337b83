//! Transactions. Each has a tree of its own, of *shadows*: one for every node that it has looked at or changed, with what
//! it changed. What it has not changed it reads from the node behind the shadow. When the transaction ends, every
//! node that it has looked at must be what it was then; the changes are carried out together, or not at
//! all (`EAGAIN`).

use crate::arena::{Block, Share};
use crate::node::{CREATED, DELETED, Node, RIGHTS, Ref, SHADOW, TEXT, TOUCHED};
use crate::permissions::Permissions;
use crate::store::Store;
use crate::tree::{NO_TEXT, View};
use abi::Errno;

/// Most transactions of a domain at a time.
pub(crate) const MOST_TRANSACTIONS: usize = 8;
/// Most shadows of a transaction: it is carried out in one piece.
const MOST_SHADOWS: u16 = 128;

#[derive(Clone, Copy)]
pub(crate) struct Transaction {
    pub(crate) id: u32,
    /// The shadow of the root, once there is one.
    pub(crate) root: Ref,
    shadows: u16,
    /// It cannot succeed any more.
    pub(crate) failed: bool,
}

impl Store {
    /// Begins a transaction; its number.
    pub(crate) fn start_transaction(&mut self, who: u16) -> Result<u32, Errno> {
        let account = self.of(who)?;
        let slot = account.transactions.iter().position(Option::is_none);
        let slot = slot.ok_or(Errno::NoSpace)?;
        let mut id = account.last_transaction;
        let in_use = |id| {
            account
                .transactions
                .iter()
                .flatten()
                .any(|other| other.id == id)
        };
        loop {
            id = id.wrapping_add(1);
            if id != 0 && !in_use(id) {
                break;
            }
        }
        account.last_transaction = id;
        if let Some(slot) = account.transactions.get_mut(slot) {
            *slot = Some(Transaction {
                id,
                root: Ref::NONE,
                shadows: 0,
                failed: false,
            });
        }
        Ok(id)
    }

    /// The slot of a transaction.
    pub(crate) fn transaction_slot(&mut self, who: u16, id: u32) -> Result<usize, Errno> {
        let transactions = &self.of(who)?.transactions;
        let slot = transactions
            .iter()
            .position(|slot| slot.is_some_and(|transaction| transaction.id == id));
        slot.ok_or(Errno::NoEntry)
    }

    pub(crate) fn transaction(&mut self, who: u16, slot: usize) -> Result<&mut Transaction, Errno> {
        let slot = self.of(who)?.transactions.get_mut(slot);
        slot.and_then(Option::as_mut).ok_or(Errno::Io)
    }

    /// Ends a transaction without any effect.
    pub(crate) fn drop_transaction(&mut self, who: u16, slot: usize) {
        if let Ok(transaction) = self.transaction(who, slot) {
            let root = transaction.root;
            if let Some(slot) = self
                .account_mut(who)
                .and_then(|account| account.transactions.get_mut(slot))
            {
                *slot = None;
            }
            self.discard(root);
        }
    }

    /// Makes every transaction of a domain fail, and forgets what it has seen.
    pub(crate) fn fail_transactions(&mut self, who: u16) {
        for slot in 0..MOST_TRANSACTIONS {
            if let Ok(transaction) = self.transaction(who, slot) {
                transaction.failed = true;
                let root = core::mem::replace(&mut transaction.root, Ref::NONE);
                self.discard(root);
            }
        }
    }

    /// Books another shadow.
    fn count_shadow(&mut self, who: u16, slot: usize) -> Result<(), Errno> {
        let transaction = self.transaction(who, slot)?;
        if transaction.shadows >= MOST_SHADOWS {
            return Err(Errno::NoSpace);
        }
        transaction.shadows = transaction.shadows.saturating_add(1);
        Ok(())
    }

    fn new_shadow(&mut self, who: u16, slot: usize, base: Ref) -> Result<Ref, Errno> {
        self.count_shadow(who, slot)?;
        let behind = *self.node(base).ok_or(Errno::Io)?;
        let shadow = Node {
            parent: Ref::NONE,
            next: Ref::NONE,
            child: Ref::NONE,
            base,
            text: NO_TEXT,
            flags: SHADOW,
            ..behind
        };
        let index = self
            .of(who)?
            .arena
            .take(Block::Node(shadow), Share::Store)?;
        Ok(Ref { domain: who, index })
    }

    /// The transaction's root.
    pub(crate) fn shadow_root(&mut self, who: u16, slot: usize) -> Result<Ref, Errno> {
        let root = self.transaction(who, slot)?.root;
        if root.is_some() {
            return Ok(root);
        }
        let root = self.new_shadow(who, slot, self.root)?;
        self.transaction(who, slot)?.root = root;
        Ok(root)
    }

    /// A shadow of `base`, at its place below `parent`.
    pub(crate) fn shadow(
        &mut self,
        who: u16,
        slot: usize,
        parent: Ref,
        before: Ref,
        base: Ref,
    ) -> Result<Ref, Errno> {
        let shadow = self.new_shadow(who, slot, base)?;
        self.link(parent, before, shadow);
        Ok(shadow)
    }

    /// The transaction, if there is one, depends on this node from now on.
    pub(crate) fn touch(&mut self, view: View, at: Ref) -> Result<(), Errno> {
        if view.transaction.is_none() {
            return Ok(());
        }
        let shadow = *self.node(at).ok_or(Errno::Io)?;
        if shadow.has(TOUCHED) {
            return Ok(());
        }
        let behind = self
            .base_of(&shadow)
            .map(|base| (base.generation, base.permissions));
        if let Some(node) = self.node_mut(at) {
            node.flags |= TOUCHED;
            // If there is nothing behind it any more, the end will find that out.
            if let Some((generation, permissions)) = behind {
                node.generation = generation;
                node.permissions = permissions;
            }
        }
        Ok(())
    }

    /// Makes of a node that was just allocated one that will be there if the transaction succeeds.
    pub(crate) fn promise(&mut self, who: u16, slot: usize, at: Ref) -> Result<(), Errno> {
        self.count_shadow(who, slot)?;
        let account = self.of(at.domain)?;
        account.arena.promise()?;
        account.nodes = account.nodes.saturating_sub(1);
        if let Some(node) = self.node_mut(at) {
            node.flags |= SHADOW | CREATED | TOUCHED;
        }
        Ok(())
    }

    /// Removes a node, for all or in the transaction. `name` is its name.
    pub(crate) fn remove_in(&mut self, view: View, at: Ref, name: &[u8]) -> Result<(), Errno> {
        let node = *self.node(at).ok_or(Errno::Io)?;
        if view.transaction.is_none() || node.has(CREATED) {
            self.remove(at);
            return Ok(());
        }
        // It keeps its name, for those who will be told; what was seen below it still counts.
        self.set_value(at, name, &[])?;
        if let Some(node) = self.node_mut(at) {
            node.flags |= DELETED;
        }
        self.touch(view, node.parent)
    }

    /// Gives a node other permissions, for all or in the transaction.
    pub(crate) fn set_permissions(&mut self, at: Ref, permissions: Permissions) {
        if let Some(node) = self.node_mut(at) {
            node.permissions = permissions;
            node.flags |= RIGHTS;
        }
        self.changed(at);
    }

    /// Whether a shadow has changes of its own.
    pub(crate) fn is_changed(node: &Node) -> bool {
        node.flags & (TEXT | RIGHTS | CREATED | DELETED) != 0
    }
}
