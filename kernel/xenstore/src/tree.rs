//! Walking and changing the tree: the one that all see, and a transaction's view of it, by the same names.

use crate::arena::{Block, NIL, Pieces, Share};
use crate::list::Writer;
use crate::node::{CREATED, DELETED, Node, Ref, SHADOW, TEXT, text_home};
use crate::path::{Components, From, Path, decimal, hash};
use crate::permissions::{OWNER, Permissions, READ};
use crate::store::{Account, Store};
use abi::Errno;

/// Who looks, and at which tree.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) who: u16,
    /// Its transaction, by slot.
    pub(crate) transaction: Option<usize>,
}

/// How far a path leads.
pub(crate) struct Walk<'p> {
    /// The deepest node of the path that there is.
    pub(crate) deepest: Ref,
    /// The path's last component; empty for the root.
    pub(crate) last: &'p [u8],
    /// Components of which there is no node.
    pub(crate) missing: Components<'p>,
}

impl Walk<'_> {
    /// The node of the path, if there is one.
    pub(crate) fn node(&self) -> Option<Ref> {
        (self.missing == Components::of(&[])).then_some(self.deepest)
    }
}

/// Where a name is, or would be, among its siblings.
pub(crate) struct Place {
    /// The sibling before it.
    pub(crate) before: Ref,
    pub(crate) node: Option<Ref>,
    /// A transaction has removed a node of this name.
    pub(crate) hidden: bool,
}

impl Store {
    /// The node behind a shadow, unless it is there no longer.
    pub(crate) fn base_of(&self, shadow: &Node) -> Option<&Node> {
        self.node(shadow.base)
            .filter(|base| base.serial == shadow.serial && !base.has(SHADOW))
    }

    /// Name, or value, of a node as its view has it. `None` if it is there no longer.
    fn text_of(&self, at: Ref, is_name: bool) -> Option<Pieces<'_>> {
        let node = self.node(at)?;
        let (home, holder) = if node.has(SHADOW) && !node.has(TEXT) {
            (node.base.domain, self.base_of(node)?)
        } else {
            (text_home(at, node), node)
        };
        let arena = &self.account(home)?.arena;
        let (name, value) = (usize::from(holder.name), usize::from(holder.value));
        Some(if is_name {
            arena.pieces(holder.text, 0, name)
        } else {
            arena.pieces(holder.text, name, value)
        })
    }

    pub(crate) fn name(&self, at: Ref) -> Option<Pieces<'_>> {
        self.text_of(at, true)
    }

    pub(crate) fn value(&self, at: Ref) -> Option<Pieces<'_>> {
        self.text_of(at, false)
    }

    /// Looks for a name among the children that hang on `parent` itself.
    pub(crate) fn find(&self, parent: Ref, name: &[u8], hash: u16) -> Place {
        let mut place = Place {
            before: Ref::NONE,
            node: None,
            hidden: false,
        };
        let mut at = self.node(parent).map_or(Ref::NONE, |node| node.child);
        while let Some(node) = self.node(at)
            && node.hash <= hash
        {
            if node.hash == hash && self.name(at).is_some_and(|pieces| pieces.is(name)) {
                if !node.has(DELETED) {
                    place.node = Some(at);
                    return place;
                }
                place.hidden = true;
            }
            place.before = at;
            at = node.next;
        }
        place
    }

    /// The child of this name. In a transaction, its shadow, made if need be.
    fn child(&mut self, view: View, parent: Ref, name: &[u8]) -> Result<Option<Ref>, Errno> {
        let hash = hash(name);
        let place = self.find(parent, name, hash);
        let Some(slot) = view.transaction else {
            return Ok(place.node);
        };
        if place.node.is_some() || place.hidden {
            return Ok(place.node);
        }
        let behind = self
            .node(parent)
            .filter(|parent| self.base_of(parent).is_some())
            .and_then(|parent| self.find(parent.base, name, hash).node);
        match behind {
            Some(base) => self
                .shadow(view.who, slot, parent, place.before, base)
                .map(Some),
            None => Ok(None),
        }
    }

    /// Follows a path as far as there are nodes.
    pub(crate) fn walk<'p>(&mut self, view: View, path: &Path<'p>) -> Result<Walk<'p>, Errno> {
        let mut at = match view.transaction {
            Some(slot) => self.shadow_root(view.who, slot)?,
            None => self.root,
        };
        if path.from == From::Home {
            let mut digits = [0; 20];
            let home = [
                b"local",
                b"domain".as_slice(),
                decimal(u64::from(view.who), &mut digits),
            ];
            for name in home {
                // Its home is there for as long as a domain lives.
                at = self.child(view, at, name)?.ok_or(Errno::NoEntry)?;
            }
        }
        let mut walk = Walk {
            deepest: at,
            last: &[],
            missing: path.components(),
        };
        let mut rest = walk.missing;
        while let Some(name) = rest.next() {
            walk.last = name;
            if let Some(child) = self.child(view, walk.deepest, name)? {
                walk.deepest = child;
                walk.missing = rest;
            } else {
                walk.last = rest.last().unwrap_or(name);
                break;
            }
        }
        self.touch(view, walk.deepest)?;
        Ok(walk)
    }

    /// Whether the caller may do this with a node.
    pub(crate) fn check(&self, view: View, at: Ref, rights: u16) -> Result<(), Errno> {
        let node = self.node(at).ok_or(Errno::Io)?;
        let allowed = if rights & OWNER != 0 {
            view.who == 0 || node.permissions.owner() == view.who
        } else {
            let account = self.account(view.who).ok_or(Errno::Io)?;
            let permissions = &node.permissions;
            permissions.allow(view.who, rights) && account.may_see(view.who, permissions.owner())
        };
        allowed.then_some(()).ok_or(Errno::Access)
    }

    /// The node of a path, which must be there and allow this. Who may not do the same with the node above hears
    /// nothing of whether it is there.
    pub(crate) fn get<'p>(
        &mut self,
        view: View,
        path: &Path<'p>,
        rights: u16,
    ) -> Result<(Ref, Walk<'p>), Errno> {
        let walk = self.walk(view, path)?;
        self.check(view, walk.deepest, rights)?;
        let node = walk.node().ok_or(Errno::NoEntry)?;
        Ok((node, walk))
    }

    /// The node's value, permissions or children have changed.
    pub(crate) fn changed(&mut self, at: Ref) {
        let now = self.tick();
        if let Some(node) = self.node_mut(at)
            && !node.has(SHADOW)
        {
            node.generation = now;
        }
    }

    /// Hangs a node into the tree, at its place.
    pub(crate) fn link(&mut self, parent: Ref, before: Ref, at: Ref) {
        let next = match self.node_mut(before) {
            Some(before) => core::mem::replace(&mut before.next, at),
            None => match self.node_mut(parent) {
                Some(parent) => core::mem::replace(&mut parent.child, at),
                None => return,
            },
        };
        if let Some(node) = self.node_mut(at) {
            node.parent = parent;
            node.next = next;
        }
    }

    /// Takes a node out of the tree, and leaves it to be freed with all below.
    pub(crate) fn remove(&mut self, at: Ref) {
        let Some(node) = self.node(at).copied() else {
            return;
        };
        let mut before = Ref::NONE;
        let mut sibling = self
            .node(node.parent)
            .map_or(Ref::NONE, |parent| parent.child);
        while sibling != at {
            let Some(next) = self.node(sibling).map(|sibling| sibling.next) else {
                return;
            };
            before = core::mem::replace(&mut sibling, next);
        }
        match self.node_mut(before) {
            Some(before) => before.next = node.next,
            None => {
                if let Some(parent) = self.node_mut(node.parent) {
                    parent.child = node.next;
                }
            }
        }
        self.changed(node.parent);
        self.discard(at);
    }

    /// A new node of `charge`, not yet in a tree.
    pub(crate) fn allocate(
        &mut self,
        charge: u16,
        name: &[u8],
        value: &[u8],
        permissions: Permissions,
    ) -> Result<Ref, Errno> {
        let serial = self.tick();
        let account = self.of(charge)?;
        let promised = account.arena.promised;
        if account.nodes.saturating_add(promised) >= account.quota.nodes {
            return Err(Errno::NoSpace);
        }
        let text = account.arena.store(&[name, value])?;
        let node = Node {
            parent: Ref::NONE,
            next: Ref::NONE,
            child: Ref::NONE,
            base: Ref::NONE,
            generation: serial,
            serial,
            text,
            hash: hash(name),
            name: name.len() as u16,
            value: value.len() as u16,
            permissions,
            flags: TEXT,
        };
        match account.arena.take(Block::Node(node), Share::Store) {
            Ok(index) => {
                account.nodes = account.nodes.saturating_add(1);
                Ok(Ref {
                    domain: charge,
                    index,
                })
            }
            Err(error) => {
                account.arena.free_text(text, Share::Store);
                Err(error)
            }
        }
    }

    /// Frees a node without children that is in no tree.
    pub(crate) fn free(&mut self, at: Ref, node: &Node) {
        if node.has(TEXT)
            && let Some(account) = self.account_mut(text_home(at, node))
        {
            account.arena.free_text(node.text, Share::Store);
        }
        if let Some(account) = self.account_mut(at.domain) {
            if node.has(CREATED) {
                account.arena.promised = account.arena.promised.saturating_sub(1);
            }
            if !node.has(SHADOW) {
                account.nodes = account.nodes.saturating_sub(1);
            }
            account.arena.give(at.index, Share::Store);
        }
    }

    /// Makes the nodes that a path lacks, the last one with this value. If there is no space, none is made.
    pub(crate) fn create(
        &mut self,
        view: View,
        walk: &Walk<'_>,
        value: &[u8],
    ) -> Result<Ref, Errno> {
        let mut at = walk.deepest;
        let mut top = None;
        let mut missing = walk.missing;
        while let Some(name) = missing.next() {
            let is_last = missing == Components::of(&[]);
            let value = if is_last { value } else { &[] };
            match self.create_one(view, at, name, value) {
                Ok(node) => {
                    top.get_or_insert(node);
                    at = node;
                }
                Err(error) => {
                    if let Some(top) = top {
                        self.remove(top);
                    }
                    return Err(error);
                }
            }
        }
        Ok(at)
    }

    fn create_one(
        &mut self,
        view: View,
        parent: Ref,
        name: &[u8],
        value: &[u8],
    ) -> Result<Ref, Errno> {
        let permissions = self.node(parent).ok_or(Errno::Io)?.permissions;
        // What the hypervisor makes belongs to whom the node above belongs to, and is charged to the same.
        let (permissions, charge) = match view.who {
            0 => (permissions, parent.domain),
            who => (permissions.owned_by(who), who),
        };
        let before = self.find(parent, name, hash(name)).before;
        let node = self.allocate(charge, name, value, permissions)?;
        if let Some(slot) = view.transaction
            && let Err(error) = self.promise(view.who, slot, node)
        {
            self.discard(node);
            return Err(error);
        }
        self.link(parent, before, node);
        self.changed(parent);
        Ok(node)
    }

    /// Gives a node another value. `name` is its name.
    pub(crate) fn set_value(&mut self, at: Ref, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let node = *self.node(at).ok_or(Errno::Io)?;
        let arena = &mut self.of(text_home(at, &node))?.arena;
        let text = arena.store(&[name, value])?;
        if node.has(TEXT) {
            arena.free_text(node.text, Share::Store);
        }
        if let Some(node) = self.node_mut(at) {
            node.text = text;
            node.name = name.len() as u16;
            node.value = value.len() as u16;
            node.flags |= TEXT;
        }
        self.changed(at);
        Ok(())
    }

    /// Writes the path of a node to the end of `buffer`; where it begins. `None` if it is out of the tree or
    /// there is no room.
    pub(crate) fn write_path(&self, at: Ref, buffer: &mut [u8]) -> Option<usize> {
        let mut start = buffer.len();
        let mut at = at;
        loop {
            let node = self.node(at)?;
            if !node.parent.is_some() {
                break;
            }
            let name = self.name(at)?;
            let length = name.clone().map(<[u8]>::len).fold(0, usize::saturating_add);
            start = start.checked_sub(length.saturating_add(1))?;
            let mut out = Writer::new(buffer.get_mut(start..)?);
            out.push(b"/").ok()?;
            for piece in name {
                out.push(piece).ok()?;
            }
            at = node.parent;
        }
        if start == buffer.len() {
            start = start.checked_sub(1)?;
            *buffer.get_mut(start)? = b'/';
        }
        Some(start)
    }

    /// Gives the names of a node's children, as its view has them, to `visit` until that says `false`.
    pub(crate) fn children(&self, at: Ref, mut visit: impl FnMut(Pieces<'_>) -> bool) {
        let Some(node) = self.node(at) else {
            return;
        };
        let mut shadow = node.child;
        if self.base_of(node).is_some() {
            // Both lists are sorted by hash: a base's shadow is among the few of the same hash.
            let mut child = self.node(node.base).map_or(Ref::NONE, |base| base.child);
            while let Some(base) = self.node(child) {
                while let Some(first) = self.node(shadow)
                    && first.hash < base.hash
                {
                    shadow = first.next;
                }
                let mut same = shadow;
                let mut is_known = false;
                while let Some(first) = self.node(same)
                    && first.hash == base.hash
                {
                    is_known |= first.base == child;
                    same = first.next;
                }
                if !is_known && !self.name(child).is_none_or(&mut visit) {
                    return;
                }
                child = base.next;
            }
        }
        let mut own = node.child;
        while let Some(child) = self.node(own) {
            if !child.has(DELETED) && !self.name(own).is_none_or(&mut visit) {
                return;
            }
            own = child.next;
        }
    }

    /// The node below which domains have their homes.
    pub(crate) fn homes(&self) -> Option<Ref> {
        let mut at = self.root;
        for name in [b"local".as_slice(), b"domain"] {
            at = self.find(at, name, hash(name)).node?;
        }
        Some(at)
    }

    /// The home of a domain.
    pub(crate) fn home(&self, domain: u16) -> Option<Ref> {
        let mut digits = [0; 20];
        let name = decimal(u64::from(domain), &mut digits);
        self.find(self.homes()?, name, hash(name)).node
    }
}

impl Account {
    /// Whether the domain whose account this is may learn that a node has changed: it may read the node, or the one above.
    pub(crate) fn may_hear(&self, domain: u16, permissions: &[Permissions]) -> bool {
        let may_read =
            |list: &Permissions| list.allow(domain, READ) && self.may_see(domain, list.owner());
        permissions.iter().any(may_read)
    }
}

/// No text.
pub(crate) const NO_TEXT: u16 = NIL;
