//! The tree against a map of pages, and the break-before-make rule watched from inside.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::{CHUNK_SIZE, PAGE_SIZE};

#[derive(Default)]
struct Store {
    tables: BTreeMap<u64, [u64; ENTRIES]>,
    next: u64,
    valid_to_valid: usize,
}

#[derive(Clone, Default)]
struct Arena(Rc<RefCell<Store>>);

impl TableMemory for Arena {
    fn allocate(&mut self) -> Option<Pa> {
        let mut store = self.0.borrow_mut();
        store.next += PAGE_SIZE;
        let at = store.next;
        store.tables.insert(at, [0; ENTRIES]);
        Some(Pa::new(at))
    }
    fn free(&mut self, table: Pa) {
        assert!(self.0.borrow_mut().tables.remove(&table.get()).is_some());
    }
    fn allocate_roots(&mut self, count: usize) -> Option<Pa> {
        let first = self.allocate();
        for _ in 1..count {
            self.allocate();
        }
        first
    }
    fn free_roots(&mut self, root: Pa, count: usize) {
        for number in 0..count as u64 {
            self.free(Pa::new(root.get() + number * PAGE_SIZE));
        }
    }
    fn get(&self, table: Pa, index: usize) -> u64 {
        self.0.borrow().tables[&table.get()][index]
    }
    fn set(&mut self, table: Pa, index: usize, entry: u64) {
        let mut store = self.0.borrow_mut();
        let slot = &mut store.tables.get_mut(&table.get()).unwrap()[index];
        let replaced = *slot & entry & VALID != 0;
        *slot = entry;
        store.valid_to_valid += usize::from(replaced);
    }
}

#[derive(Default)]
struct Counter(Cell<usize>);
impl Invalidate for Counter {
    fn invalidate(&self, _start: u64, _size: u64) {
        self.0.set(self.0.get() + 1);
    }
}

fn tree(arena: &Arena) -> Tree<Arena> {
    Tree::new(arena.clone(), 2).unwrap()
}

#[test]
fn largest_blocks_that_fit_are_used() {
    let arena = Arena::default();
    let mut tree = tree(&arena);
    let gib = 1 << 30;
    tree.map(
        gib - CHUNK_SIZE,
        gib - CHUNK_SIZE,
        gib + 2 * CHUNK_SIZE + PAGE_SIZE,
        0x7fc,
    )
    .unwrap();
    let mut sizes = Vec::new();
    tree.for_each_leaf(|leaf| sizes.push(leaf.size));
    assert_eq!(sizes, [CHUNK_SIZE, gib, CHUNK_SIZE, PAGE_SIZE]);
}

#[test]
fn occupied_and_bad_ranges_are_refused() {
    let mut tree = tree(&Arena::default());
    tree.map(CHUNK_SIZE, 0, CHUNK_SIZE, 0).unwrap();
    assert_eq!(
        tree.map(CHUNK_SIZE + PAGE_SIZE, 0, PAGE_SIZE, 0),
        Err(MapError::Occupied)
    );
    assert_eq!(tree.map(1, 0, PAGE_SIZE, 0), Err(MapError::BadRange));
    assert_eq!(tree.map(1 << 40, 0, PAGE_SIZE, 0), Err(MapError::BadRange));
    assert_eq!(
        tree.map(u64::MAX - 0xfff, 0, PAGE_SIZE, 0),
        Err(MapError::BadRange)
    );
    assert_eq!(tree.translate(1 << 40), None);
}

#[test]
fn unmapping_a_page_splits_the_block_and_breaks_before_it_makes() {
    let arena = Arena::default();
    let mut tree = tree(&arena);
    let tlb = Counter::default();
    tree.map(1 << 30, 1 << 30, 1 << 30, 0x7fc).unwrap();
    tree.unmap((1 << 30) + PAGE_SIZE, PAGE_SIZE, &tlb).unwrap();
    assert_eq!(tree.translate((1 << 30) + PAGE_SIZE), None);
    let after = tree.translate((1 << 30) + 2 * PAGE_SIZE).unwrap();
    assert_eq!(
        (after.output, after.size),
        ((1 << 30) + 2 * PAGE_SIZE, PAGE_SIZE)
    );
    assert_eq!(arena.0.borrow().valid_to_valid, 0);
    // Two splits and the page itself.
    assert_eq!(tlb.0.get(), 3);
}

#[test]
fn pages_stay_pages_where_a_block_would_fit() {
    let mut tree = Tree::new(Arena::default(), 1).unwrap();
    let (start, size) = (CHUNK_SIZE - PAGE_SIZE, 2 * CHUNK_SIZE);
    tree.map_pages(start, start, size, 0).unwrap();
    let mut leaves = 0;
    tree.for_each_leaf(|leaf| {
        assert_eq!((leaf.size, leaf.input), (PAGE_SIZE, leaf.output));
        leaves += 1;
    });
    assert_eq!(leaves, size / PAGE_SIZE);
    // Where the run of free entries ends, the rest is refused.
    assert_eq!(tree.map_pages(0, 0, CHUNK_SIZE, 0), Err(MapError::Occupied));
}

#[test]
fn a_block_is_mapped_where_a_table_has_become_empty() {
    let mut tree = tree(&Arena::default());
    let tlb = Counter::default();
    tree.map(PAGE_SIZE, 0, PAGE_SIZE, 0).unwrap();
    tree.unmap(PAGE_SIZE, PAGE_SIZE, &tlb).unwrap();
    tree.map(0, 0, 1 << 30, 0).unwrap();
    let sizes = [0, CHUNK_SIZE].map(|at| tree.translate(at).unwrap().size);
    assert_eq!(sizes, [PAGE_SIZE, CHUNK_SIZE]);
}

#[test]
fn one_page_has_a_short_way_where_its_table_is() {
    let arena = Arena::default();
    let mut tree = tree(&arena);
    let tlb = Counter::default();
    assert!(!tree.map_page(PAGE_SIZE, 0x5000, 0x7fc), "no table");
    tree.map(0, 0, PAGE_SIZE, 0).unwrap();
    tree.map(CHUNK_SIZE, 0, CHUNK_SIZE, 0).unwrap();
    assert!(tree.map_page(PAGE_SIZE, 0x5000, 0x7fc));
    let leaf = tree.translate(PAGE_SIZE).unwrap();
    assert_eq!(
        (leaf.output, leaf.size, leaf.attributes),
        (0x5000, PAGE_SIZE, 0x7fc)
    );
    for at in [PAGE_SIZE, CHUNK_SIZE, CHUNK_SIZE + PAGE_SIZE, 1, 1 << 40] {
        assert!(!tree.map_page(at, 0x6000, 0x7fc), "{at:#x}");
    }
    assert!(!tree.map_page(2 * PAGE_SIZE, 0x6001, 0x7fc));
    for at in [CHUNK_SIZE, 2 * PAGE_SIZE, 1, 1 << 40] {
        assert!(!tree.unmap_page(at, &tlb, |_| true), "{at:#x}");
    }
    assert!(!tree.unmap_page(PAGE_SIZE, &tlb, |leaf| leaf.output == 0x6000));
    assert_eq!(tlb.0.get(), 0);
    assert!(tree.unmap_page(PAGE_SIZE, &tlb, |leaf| leaf.output == 0x5000));
    assert_eq!((tree.translate(PAGE_SIZE), tlb.0.get()), (None, 1));
    assert_eq!(arena.0.borrow().valid_to_valid, 0);
}

#[test]
fn dropping_gives_back_every_table() {
    let arena = Arena::default();
    let mut tree = tree(&arena);
    tree.map(0, 0, PAGE_SIZE, 0).unwrap();
    tree.map(0x2_0000_0000, 0, PAGE_SIZE, 0).unwrap();
    drop(tree);
    assert!(arena.0.borrow().tables.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(4)))]
    #[test]
    fn behaves_as_a_map_of_pages(
        operations in prop::collection::vec((any::<bool>(), 0_u64..1536, 0_u64..1536, 1_u64..1100), 1..40)
    ) {
        let arena = Arena::default();
        let mut tree = tree(&arena);
        let tlb = Counter::default();
        let mut model = BTreeMap::<u64, u64>::new();
        for (is_map, page, output, count) in operations {
            let pages = page..page + count;
            if output % 3 == 0 {
                // The short ways of one page, which may refuse.
                let (at, to) = (page * PAGE_SIZE, output * PAGE_SIZE);
                if is_map && tree.map_page(at, to, 0x7fc) {
                    prop_assert_eq!(model.insert(page, output), None);
                } else if !is_map {
                    let goes = tree.unmap_page(at, &tlb, |leaf| leaf.output == leaf.output & !0xfff);
                    prop_assert!(!goes || model.remove(&page).is_some());
                }
            } else if is_map && pages.clone().all(|page| !model.contains_key(&page)) {
                tree.map(page * PAGE_SIZE, output * PAGE_SIZE, count * PAGE_SIZE, 0x7fc).unwrap();
                model.extend(pages.enumerate().map(|(number, page)| (page, output + number as u64)));
            } else {
                tree.unmap(page * PAGE_SIZE, count * PAGE_SIZE, &tlb).unwrap();
                model.retain(|mapped, _| !pages.contains(mapped));
            }
            for page in 0..3000 {
                let found = tree.translate(page * PAGE_SIZE)
                    .map(|leaf| (leaf.output + (page * PAGE_SIZE - leaf.input)) / PAGE_SIZE);
                prop_assert_eq!(found, model.get(&page).copied());
            }
            prop_assert_eq!(arena.0.borrow().valid_to_valid, 0);
        }
        let (mut from, mut steps) = (0, 0);
        while let Some(next) = tree.clear_some(from) {
            (from, steps) = (next, steps + 1);
        }
        prop_assert!(steps <= 3 + 1024 / 128 && (0..3000).all(|page| tree.translate(page * PAGE_SIZE).is_none()));
        prop_assert_eq!(arena.0.borrow().tables.len(), 2, "the roots");
        drop(tree);
        prop_assert!(arena.0.borrow().tables.is_empty());
    }
}
