use super::*;

#[test]
fn pages_are_zeroed_aligned_and_bounded() {
    let pages = Pages::allocate(2).unwrap();
    assert!(pages.address().is_aligned(2 * PAGE_SIZE));
    let words = pages.words();
    assert_eq!(words.u64(8184).unwrap().load(Ordering::Relaxed), 0);
    assert!(words.u64(8192).is_none() && words.u64(8185).is_none() && words.u32(2).is_none());
    assert!(words.u64(usize::MAX - 7).is_none());
    assert!(Pages::allocate(0).is_none());
}

#[test]
fn copies_are_right_at_every_alignment() {
    let pages = Pages::allocate(1).unwrap();
    let words = pages.words();
    let pattern: Vec<u8> = (0..=255).collect();
    for offset in 0..17 {
        for length in 0..33 {
            words.write(offset, &pattern[..length]);
            let mut back = vec![0; length + 1];
            words.write(offset + length, &[0xee]);
            words.read(offset, &mut back);
            assert_eq!((&back[..length], back[length]), (&pattern[..length], 0xee));
        }
    }
    let mut back = [1; 16];
    words.write(4090, &[7; 16]);
    words.read(4090, &mut back);
    assert_eq!(back, [7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    words.read(usize::MAX, &mut back);
    assert_eq!(back, [0; 16]);
}

#[test]
fn a_tree_of_heap_pages_works() {
    let mut tree = crate::tree::Tree::new(HeapTables::default(), 1).unwrap();
    tree.map(0, 0x4000_0000, PAGE_SIZE, 0).unwrap();
    assert_eq!(tree.translate(0).unwrap().output, 0x4000_0000);
}

#[test]
fn a_limit_on_tables_holds() {
    let mut tree = crate::tree::Tree::new(HeapTables::default(), 1).unwrap();
    tree.memory_mut().limit(3);
    tree.map(0, 0x4000_0000, PAGE_SIZE, 0).unwrap();
    tree.map(2 << 20, 0x4000_0000, PAGE_SIZE, 0).unwrap();
    let more = tree.map(4 << 20, 0x4000_0000, PAGE_SIZE, 0);
    assert_eq!(more, Err(crate::tree::MapError::NoMemory));
    tree.map(PAGE_SIZE, 0x4000_0000, PAGE_SIZE, 0).unwrap();
}

#[test]
fn tables_that_came_back_are_used_again_and_empty() {
    let mut tables = HeapTables::default();
    tables.limit(2);
    let (one, other) = (tables.allocate().unwrap(), tables.allocate().unwrap());
    assert_eq!(tables.allocate(), None);
    for table in [one, other] {
        tables.set(table, 0, u64::MAX);
        tables.set(table, 511, 7);
        tables.free(table);
    }
    for wanted in [other, one] {
        assert_eq!(tables.allocate(), Some(wanted));
        assert_eq!((tables.get(wanted, 0), tables.get(wanted, 511)), (0, 0));
    }
    assert_eq!(tables.allocate(), None);
    tables.free(one);
    tables.free(other);
}

#[test]
fn a_part_lies_inside() {
    let words = Pages::allocate(1).unwrap();
    let words = words.words();
    assert!(words.part(4, 8).is_none() && words.part(4096 - 8, 16).is_none());
    assert!(words.part(usize::MAX - 7, 16).is_none());
    let part = words.part(64, 64).unwrap();
    part.u64(8).unwrap().store(5, Ordering::Relaxed);
    assert_eq!(words.u64(72).unwrap().load(Ordering::Relaxed), 5);
    assert!(part.u64(64).is_none());
    let cell = SharedCell::<64>::new();
    assert!(cell.get().is_none() && !cell.set(words), "another size");
    assert!(cell.set(part) && !cell.set(part));
    assert_eq!(cell.get().unwrap().address(), part.address());
    cell.clear();
    assert!(cell.get().is_none());
    words.clear();
    assert_eq!(words.u64(72).unwrap().load(Ordering::Relaxed), 0);
}
