//! Those who wait for a CPU, in the order of a key: a balanced tree (Adelson-Velsky and Landis) over numbered places, in
//! which each subtree knows the CPUs that somebody in it may run on.
//!
//! Putting in, taking out, the first, and the first that may run on some CPU cost O(log n). Only
//! [`Ordered::add_slot`] allocates. Keys wrap around: any two in a tree are less than half of their range apart. Who
//! has the same key as others comes behind them.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// No node.
const NONE: u16 = u16::MAX;

struct Node {
    key: u64,
    /// Puts equal keys in the order of their arrival.
    order: u64,
    /// CPUs that this one may run on, and those that somebody in the subtree may run on.
    mask: u64,
    masks: u64,
    left: u16,
    right: u16,
    /// Of the subtree; 0 if this one is not in the tree.
    height: u8,
}

/// One of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct First {
    /// Its place.
    pub(crate) slot: u16,
    pub(crate) key: u64,
    /// The CPUs that it may run on.
    pub(crate) mask: u64,
}

/// A tree over places 0, 1, 2 and so on, each in it or not.
pub(crate) struct Ordered {
    nodes: Vec<Node>,
    root: u16,
    length: usize,
    arrivals: u64,
    /// Those of the root.
    masks: u64,
}

/// Whether `one` lies before `other` on a circle.
pub(crate) const fn is_before(one: u64, other: u64) -> bool {
    (one.wrapping_sub(other).cast_signed()) < 0
}

impl Node {
    #[inline]
    const fn at(&self, slot: u16) -> First {
        First {
            slot,
            key: self.key,
            mask: self.mask,
        }
    }
}

impl Ordered {
    /// An empty tree without places.
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            root: NONE,
            length: 0,
            arrivals: 0,
            masks: 0,
        }
    }

    /// One more place.
    pub(crate) fn add_slot(&mut self) -> Result<(), TryReserveError> {
        self.nodes.try_reserve(1)?;
        self.nodes.push(Node {
            key: 0,
            order: 0,
            mask: 0,
            masks: 0,
            left: NONE,
            right: NONE,
            height: 0,
        });
        Ok(())
    }

    /// How many places there are.
    pub(crate) const fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// How many are in it.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// The CPUs that somebody in it may run on.
    pub(crate) const fn masks(&self) -> u64 {
        self.masks
    }

    /// The one with the least key.
    #[inline]
    pub(crate) fn first(&self) -> Option<First> {
        let mut at = self.root;
        loop {
            let node = self.node(at)?;
            if node.left == NONE {
                return Some(node.at(at));
            }
            at = node.left;
        }
    }

    /// The one with the least key of those that may run on a CPU of `mask`.
    pub(crate) fn first_for(&self, mask: u64) -> Option<First> {
        let mut at = self.root;
        loop {
            let node = self.node(at)?;
            let on_left = self.node(node.left);
            at = if on_left.is_some_and(|left| left.masks & mask != 0) {
                node.left
            } else if node.mask & mask != 0 {
                return Some(node.at(at));
            } else {
                node.right
            };
        }
    }

    /// The place with the least key of those that may run on a CPU of `mask` and that `accept` does not refuse. Each
    /// refusal costs O(log n) more.
    pub(crate) fn find(&self, mask: u64, accept: &mut impl FnMut(u16) -> bool) -> Option<u16> {
        self.find_in(self.root, mask, accept)
    }

    fn find_in(&self, at: u16, mask: u64, accept: &mut impl FnMut(u16) -> bool) -> Option<u16> {
        let node = self.node(at).filter(|node| node.masks & mask != 0)?;
        if let Some(found) = self.find_in(node.left, mask, accept) {
            return Some(found);
        }
        if node.mask & mask != 0 && accept(at) {
            return Some(at);
        }
        self.find_in(node.right, mask, accept)
    }

    /// Puts a place in that is not in it; `mask` has a bit for each CPU that it may run on.
    #[inline]
    pub(crate) fn insert(&mut self, slot: u16, key: u64, mask: u64) {
        if !self.place(slot, key, mask) {
            return;
        }
        if self.root == NONE {
            self.root = slot;
            self.masks = mask;
            self.length = 1;
        } else {
            self.insert_among_others(slot);
        }
    }

    #[inline(never)]
    fn insert_among_others(&mut self, slot: u16) {
        self.root = self.insert_in(self.root, slot);
        self.masks = self.node(self.root).map_or(0, |node| node.masks);
        self.length = self.length.saturating_add(1);
    }

    /// Prepares a place that is not in the tree, as a tree of its own. `false` if it is in it.
    #[inline]
    fn place(&mut self, slot: u16, key: u64, mask: u64) -> bool {
        let order = self.arrivals;
        let Some(node) = self.node_mut(slot).filter(|node| node.height == 0) else {
            return false;
        };
        *node = Node {
            key,
            order,
            mask,
            masks: mask,
            left: NONE,
            right: NONE,
            height: 1,
        };
        self.arrivals = order.wrapping_add(1);
        true
    }

    /// Takes a place out; `false` if it is not in.
    pub(crate) fn remove(&mut self, slot: u16) -> bool {
        let Some(node) = self.node_mut(slot) else {
            return false;
        };
        if node.height == 0 {
            return false;
        }
        let is_leaf = node.height == 1;
        self.root = if is_leaf && self.root == slot {
            NONE
        } else {
            self.remove_in(self.root, slot)
        };
        self.length = self.length.saturating_sub(1);
        self.masks = self.node(self.root).map_or(0, |node| node.masks);
        if let Some(node) = self.node_mut(slot) {
            node.height = 0;
        }
        true
    }

    /// Takes `out` out, which is in, and puts `slot` in, which is not. Two who take turns cost no search.
    #[inline]
    pub(crate) fn replace(&mut self, out: u16, slot: u16, key: u64, mask: u64) {
        if self.length == 1 && self.root == out && self.place(slot, key, mask) {
            if let Some(node) = self.node_mut(out) {
                node.height = 0;
            }
            self.root = slot;
            self.masks = mask;
        } else {
            self.remove(out);
            self.insert(slot, key, mask);
        }
    }

    fn node(&self, at: u16) -> Option<&Node> {
        self.nodes.get(usize::from(at))
    }

    fn node_mut(&mut self, at: u16) -> Option<&mut Node> {
        self.nodes.get_mut(usize::from(at))
    }

    fn height(&self, at: u16) -> u8 {
        self.node(at).map_or(0, |node| node.height)
    }

    fn children(&self, at: u16) -> (u16, u16) {
        self.node(at)
            .map_or((NONE, NONE), |node| (node.left, node.right))
    }

    fn precedes(&self, one: u16, other: u16) -> bool {
        match (self.node(one), self.node(other)) {
            (Some(one), Some(other)) if one.key == other.key => is_before(one.order, other.order),
            (Some(one), Some(other)) => is_before(one.key, other.key),
            _ => false,
        }
    }

    /// The root of subtree `at` with `slot` in it.
    fn insert_in(&mut self, at: u16, slot: u16) -> u16 {
        if at == NONE {
            return slot;
        }
        let (left, right) = self.children(at);
        if self.precedes(slot, at) {
            let left = self.insert_in(left, slot);
            self.join(at, left, right)
        } else {
            let right = self.insert_in(right, slot);
            self.join(at, left, right)
        }
    }

    /// The root of subtree `at` without `slot`.
    fn remove_in(&mut self, at: u16, slot: u16) -> u16 {
        if at == NONE {
            return NONE;
        }
        let (left, right) = self.children(at);
        if at == slot {
            if right == NONE {
                return left;
            }
            let (first, right) = self.split_first(right);
            return self.join(first, left, right);
        }
        if self.precedes(slot, at) {
            let left = self.remove_in(left, slot);
            self.join(at, left, right)
        } else {
            let right = self.remove_in(right, slot);
            self.join(at, left, right)
        }
    }

    /// The first of a subtree that is not empty, and the root of the rest.
    fn split_first(&mut self, at: u16) -> (u16, u16) {
        let (left, right) = self.children(at);
        if left == NONE {
            return (at, right);
        }
        let (first, left) = self.split_first(left);
        (first, self.join(at, left, right))
    }

    /// The root of what `at` and two subtrees make whose heights differ by two at most.
    fn join(&mut self, at: u16, left: u16, right: u16) -> u16 {
        let (on_left, on_right) = (self.height(left), self.height(right));
        if on_left > on_right.saturating_add(1) {
            let (outer, inner) = self.children(left);
            if self.height(inner) <= self.height(outer) {
                self.set(at, inner, right);
                return self.set(left, outer, at);
            }
            let (first, second) = self.children(inner);
            self.set(left, outer, first);
            self.set(at, second, right);
            return self.set(inner, left, at);
        }
        if on_right > on_left.saturating_add(1) {
            let (inner, outer) = self.children(right);
            if self.height(inner) <= self.height(outer) {
                self.set(at, left, inner);
                return self.set(right, at, outer);
            }
            let (first, second) = self.children(inner);
            self.set(at, left, first);
            self.set(right, second, outer);
            return self.set(inner, at, right);
        }
        self.set(at, left, right)
    }

    /// Gives a node its children.
    fn set(&mut self, at: u16, left: u16, right: u16) -> u16 {
        let of = |child: u16| {
            self.node(child)
                .map_or((0, 0), |node| (node.height, node.masks))
        };
        let ((one, some), (other, more)) = (of(left), of(right));
        if let Some(node) = self.node_mut(at) {
            node.left = left;
            node.right = right;
            node.height = one.max(other).saturating_add(1);
            node.masks = node.mask | some | more;
        }
        at
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACES: u16 = 40;

    impl Ordered {
        /// Height of a subtree whose nodes are all in order and balance.
        fn check(&self, at: u16) -> u8 {
            let Some(node) = self.node(at) else {
                return 0;
            };
            let (left, right) = (self.check(node.left), self.check(node.right));
            assert!(left.abs_diff(right) <= 1, "out of balance");
            assert_eq!(node.height, left.max(right) + 1);
            let masks =
                [node.left, node.right].map(|child| self.node(child).map_or(0, |it| it.masks));
            assert_eq!(node.masks, node.mask | masks[0] | masks[1]);
            node.height
        }
    }

    fn tree(places: u16) -> Ordered {
        let mut tree = Ordered::new();
        for _ in 0..places {
            tree.add_slot().unwrap();
        }
        tree
    }

    #[test]
    fn equal_keys_keep_their_order() {
        let mut tree = tree(4);
        for slot in [2, 0, 3, 1] {
            tree.insert(slot, 7, 1);
        }
        for slot in [2, 0, 3, 1] {
            assert_eq!(
                tree.first().map(|first| (first.slot, first.key)),
                Some((slot, 7))
            );
            assert!(tree.remove(slot) && !tree.remove(slot));
        }
        assert!(tree.is_empty() && tree.first().is_none());
    }

    #[test]
    fn it_stays_flat_whatever_the_order_of_arrival() {
        let mut tree = tree(4096);
        for slot in 0..4096 {
            tree.insert(slot, u64::from(slot), 1);
        }
        assert!(tree.check(tree.root) <= 13);
        for slot in 0..4000 {
            assert_eq!(tree.first().unwrap().slot, slot);
            tree.remove(slot);
        }
        tree.check(tree.root);
    }

    proptest! {
        #[test]
        fn it_does_as_a_sorted_list(
            start in prop_oneof![Just(0_u64), Just(u64::MAX - 20), Just(i64::MAX as u64 - 20)],
            steps in prop::collection::vec((0..PLACES, any::<bool>(), 0_u64..50, 0_u64..16), 0..300),
        ) {
            let mut tree = tree(PLACES);
            // Key, arrival, place, mask.
            let mut model: Vec<(u64, usize, u16, u64)> = Vec::new();
            for (arrival, (slot, insert, key, mask)) in steps.into_iter().enumerate() {
                let known = model.iter().position(|entry| entry.2 == slot);
                // The first makes room for another.
                if insert && known.is_none() && key % 5 == 0 && let Some((.., out, _)) = model.first().copied() {
                    tree.replace(out, slot, start.wrapping_add(key), mask);
                    model.remove(0);
                    model.push((key, arrival, slot, mask));
                    model.sort_unstable();
                } else if insert {
                    tree.insert(slot, start.wrapping_add(key), mask);
                    if known.is_none() {
                        model.push((key, arrival, slot, mask));
                        model.sort_unstable();
                    }
                } else {
                    prop_assert_eq!(tree.remove(slot), known.is_some());
                    known.map(|place| model.remove(place));
                }
                tree.check(tree.root);
                prop_assert_eq!(tree.length(), model.len());
                prop_assert_eq!(tree.is_empty(), model.is_empty());
                prop_assert_eq!(tree.masks(), model.iter().fold(0, |all, entry| all | entry.3));
                let first = model.first().map(|entry| (entry.2, start.wrapping_add(entry.0)));
                prop_assert_eq!(tree.first().map(|first| (first.slot, first.key)), first);
                for mask in [1, 6, 8] {
                    let able = |entry: &&(u64, usize, u16, u64)| entry.3 & mask != 0;
                    let mut all = model.iter().filter(able).map(|entry| entry.2);
                    let (one, two) = (all.next(), all.next());
                    prop_assert_eq!(tree.find(mask, &mut |_| true), one);
                    prop_assert_eq!(tree.first_for(mask).map(|first| first.slot), one);
                    prop_assert_eq!(tree.find(mask, &mut |slot| Some(slot) != one), two);
                }
            }
        }
    }
}
