use super::*;
use proptest::prelude::*;

const ON: u64 = 0x30d0_198d;
const OFF: u64 = 0x30d0_1988;

/// RAM of a guest: its chunks by slot.
struct Ram(Vec<Option<Pa>>);

impl Ram {
    fn new(chunks: u64) -> Self {
        Self(
            (1..=chunks)
                .map(|chunk| Some(Pa::new(chunk << 32)))
                .collect(),
        )
    }

    fn step(&self, job: &mut SetWay) -> Option<PaRange> {
        job.step(|slot| {
            let mut from = self.0.iter().enumerate().skip(slot);
            from.find_map(|(slot, chunk)| chunk.map(|start| (slot, start)))
        })
    }
}

/// Executes an instruction until it is through: how many bytes were done on the way.
fn execute(job: &mut SetWay, operand: u64, ram: &Ram) -> u64 {
    let mut bytes = 0;
    while job.maintenance(operand) {
        match ram.step(job) {
            Some(range) => bytes += range.size(),
            None => {
                job.watch(operand);
                break;
            }
        }
    }
    bytes
}

/// The same for a write of `SCTLR_EL1`.
fn switch(job: &mut SetWay, before: u64, after: u64, ram: &Ram) -> (u64, bool) {
    let mut bytes = 0;
    let mut now = before;
    while job.switch(now, after) {
        if !caches_on(after) {
            now = after;
        }
        match ram.step(job) {
            Some(range) => bytes += range.size(),
            None => break,
        }
    }
    (bytes, job.is_over(after))
}

#[test]
fn a_loop_costs_one_turn() {
    let ram = Ram::new(3);
    let mut job = SetWay::default();
    // Two levels, as kernels do it: the way in the upper bits, the set in the middle, the level at the end.
    let operands: Vec<u64> = [(0, 2, 256, 6), (2, 16, 1024, 6)]
        .into_iter()
        .flat_map(|(level, ways, sets, line)| {
            (0..ways).flat_map(move |way| (0..sets).map(move |set| way << 28 | set << line | level))
        })
        .collect();
    for _ in 0..3 {
        let bytes: u64 = operands
            .iter()
            .map(|operand| execute(&mut job, *operand, &ram))
            .sum();
        assert_eq!(bytes, 3 * CHUNK_SIZE);
    }
}

/// What a loop costs that goes over these ways, sets and levels, in one of the orders that loops have.
fn cost(
    job: &mut SetWay,
    ram: &Ram,
    down: bool,
    sets_outside: bool,
    sets: core::ops::Range<u64>,
) -> u64 {
    let turn = |mut values: Vec<u64>| {
        if down {
            values.reverse();
        }
        values
    };
    let mut bytes = 0;
    for level in turn(vec![0, 2]) {
        let (ways, sets) = (turn((0..16).collect()), turn(sets.clone().collect()));
        let (outer, inner) = if sets_outside {
            (&sets, &ways)
        } else {
            (&ways, &sets)
        };
        for first in outer {
            for second in inner {
                let (way, set) = if sets_outside {
                    (second, first)
                } else {
                    (first, second)
                };
                bytes += execute(job, way << 28 | set << 6 | level, ram);
            }
        }
    }
    bytes
}

/// With caches on all the while: each loop does its turn, whichever part of the cache it is about.
#[test]
fn loops_over_a_part_are_loops_of_their_own() {
    for (down, sets_outside) in [(false, false), (false, true), (true, false), (true, true)] {
        let ram = Ram::new(1);
        let mut job = SetWay::default();
        for sets in [0..64, 0..64, 10..20, 5..6, 0..64] {
            let bytes = cost(&mut job, &ram, down, sets_outside, sets.clone());
            assert_eq!(
                bytes, CHUNK_SIZE,
                "{sets:?}, down {down}, sets outside {sets_outside}"
            );
        }
    }
    // One instruction again and again.
    let (ram, mut job) = (Ram::new(1), SetWay::default());
    for _ in 0..3 {
        assert_eq!(execute(&mut job, 0x40, &ram), CHUNK_SIZE);
    }
}

#[test]
fn caches_that_go_off_and_on_after_it_are_followed_by_turns() {
    let ram = Ram::new(1);
    let mut job = SetWay::default();
    assert_eq!(execute(&mut job, 4, &ram), CHUNK_SIZE);
    assert_eq!(switch(&mut job, ON, OFF, &ram), (CHUNK_SIZE, false));
    assert_eq!(switch(&mut job, OFF, OFF, &ram), (0, false));
    assert_eq!(execute(&mut job, 8, &ram), 0);
    assert_eq!(switch(&mut job, OFF, ON, &ram), (CHUNK_SIZE, true));
    // Over: the next loop begins anew, whatever it begins with.
    assert_eq!(execute(&mut job, 8, &ram), CHUNK_SIZE);
}

#[test]
fn an_interrupted_turn_is_finished_by_whoever_comes() {
    let ram = Ram::new(1);
    let mut job = SetWay::default();
    assert!(job.maintenance(4));
    assert_eq!(ram.step(&mut job).unwrap().start(), Pa::new(1 << 32));
    // The handler of an interrupt does its own.
    assert_eq!(execute(&mut job, 8, &ram), CHUNK_SIZE - STEP);
    assert_eq!(execute(&mut job, 4, &ram), 0);
}

proptest! {
    #[test]
    fn a_turn_covers_all_ram_once(
        present in proptest::collection::vec(any::<bool>(), 0..8),
        operand in any::<u64>(),
    ) {
        let mut ram = Ram::new(present.len() as u64);
        for (chunk, present) in ram.0.iter_mut().zip(&present) {
            *chunk = chunk.filter(|_| *present);
        }
        let mut job = SetWay::default();
        prop_assert!(job.maintenance(operand));
        for start in ram.0.iter().flatten() {
            for offset in (0..CHUNK_SIZE).step_by(STEP as usize) {
                let next = ram.step(&mut job).unwrap();
                prop_assert_eq!((next.start().get(), next.size()), (start.get() + offset, STEP));
            }
        }
        prop_assert_eq!(ram.step(&mut job), None);
    }
}
