//! The image's own memory on QEMU's board of 1 GiB, as far as it is chosen.

use memory::Pa;

use super::*;

const TREE: &[u8] = include_bytes!("../tests/data/virt-gicv3.dtb");

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa::new(start), size).unwrap()
}

fn heap_of(image_size: u64) -> (Board, Taken, FirstHeap) {
    let mut board = Board::from_tree(TREE).unwrap();
    board.memory.clear();
    board.memory.push(range(0x4000_0000, 1 << 30));
    board.initrd = Some(range(0x4800_0000, 0x50_0000));
    let image = range(0x4020_0000, image_size);
    let mut taken = taken(&board, image, range(0x4860_0000, 0x1_0000)).unwrap();
    assert_eq!(taken.len(), 3 + board.reserved.len());
    let heap = first_heap(&board, image, &mut taken).unwrap();
    assert_eq!(taken.last(), Some(&heap.range()));
    (board, taken, heap)
}

#[test]
fn the_heap_is_the_rest_of_the_images_block() {
    let (board, taken, heap) = heap_of(0x8_0000);
    assert_eq!(heap, FirstHeap::Beside(range(0x4028_0000, 0x18_0000)));
    // 512 blocks less the image's, three of the bundle's and the tree's.
    assert_eq!(left(&board, &taken, &[]).total(), (512 - 5) * CHUNK_SIZE);
    let module = range(0x5000_0000, CHUNK_SIZE + 1);
    assert_eq!(
        left(&board, &taken, &[module]).total(),
        (512 - 7) * CHUNK_SIZE
    );
}

#[test]
fn a_small_rest_is_left_alone() {
    let (board, taken, heap) = heap_of(0x1a_0000);
    assert_eq!(heap, FirstHeap::Apart(range(0x4000_0000, CHUNK_SIZE)));
    assert_eq!(left(&board, &taken, &[]).total(), (512 - 6) * CHUNK_SIZE);
}

#[test]
fn a_board_that_is_full_has_no_heap() {
    let mut board = Board::from_tree(TREE).unwrap();
    board.memory.clear();
    board.memory.push(range(0x4000_0000, 1 << 20));
    let image = range(0x4000_0000, 1 << 20);
    let mut taken = taken(&board, image, range(0x4010_0000, 0x1000)).unwrap();
    assert!(first_heap(&board, image, &mut taken).is_err());
}
