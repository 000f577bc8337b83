//! Free memory against a map of pages, and its bound.

use memory::PAGE_SIZE;

use super::*;
use crate::random::Random;

fn range(first: u64, pages: u64) -> PaRange {
    PaRange::new(Pa::new(first * PAGE_SIZE), pages * PAGE_SIZE).unwrap()
}

#[test]
fn what_is_taken_is_not_free() {
    let memory = [range(0x100, 0x100), range(0x300, 0x100)];
    let taken = [
        range(0x1f0, 0x120),
        range(0x110, 8),
        range(0x114, 8),
        range(0x50, 0xb1),
        range(0x150, 0),
    ];
    let free = Free::new(&memory, &taken, PAGE_SIZE);
    let expected = [range(0x101, 0xf), range(0x11c, 0xd4), range(0x310, 0xf0)];
    assert_eq!(free.ranges[..], expected);
    assert_eq!(
        (free.lost, free.total()),
        (0, (0xf + 0xd4 + 0xf0) * PAGE_SIZE)
    );
    // Bytes in the middle of a page; chunks.
    let odd = [PaRange::new(Pa::new(0x10_0001), 1).unwrap()];
    let free = Free::new(&[range(0, 0x400)], &odd, 0x20_0000);
    assert_eq!(free.ranges[..], [range(0x200, 0x200)]);
    let all = [PaRange::new(Pa::new(0), u64::MAX).unwrap()];
    assert!(Free::new(&memory, &all, PAGE_SIZE).ranges.is_empty());
}

#[test]
fn when_there_is_no_room_the_smallest_is_lost() {
    let taken: Vec<PaRange> = (0..100)
        .map(|number| range(number * number + 1, 1))
        .collect();
    let memory = [range(0, 20_000)];
    let free = Free::new(&memory, &taken, PAGE_SIZE);
    assert!(free.ranges.is_full() && free.ranges.is_sorted_by_key(|range| range.start()));
    assert_eq!(free.total() + free.lost, (20_000 - 100) * PAGE_SIZE);
    let smallest = free.ranges.iter().map(|range| range.size()).min().unwrap();
    assert!(smallest > 34 * 2 * PAGE_SIZE, "{smallest:#x}");
}

#[test]
fn behaves_as_a_map_of_pages() {
    let mut random = Random::new(3);
    for _ in 0..300 {
        let memory = [
            range(random.below(50), 50),
            range(110 + random.below(50), 40),
        ];
        let count = random.below(12);
        let taken: Vec<PaRange> = (0..count)
            .map(|_| range(random.below(210), random.below(30)))
            .collect();
        let free = Free::new(&memory, &taken, PAGE_SIZE);
        for page in 0..256 {
            let at = Pa::new(page * PAGE_SIZE);
            let holds = |ranges: &[PaRange]| ranges.iter().any(|range| range.contains(at));
            assert_eq!(holds(&free.ranges), holds(&memory) && !holds(&taken));
        }
    }
}
