//! Failing on purpose, in a build for that: what the tests of the failure path boot.

use alloc::vec;
use alloc::vec::Vec;

use crate::say::info;
use ::memory::Pa;

use crate::memory_map;

/// Fails before the board is read: no argument is known yet, and so the board's tree is searched for the words.
pub(crate) fn run_early(tree: &[u8]) {
    const WORDS: &[u8] = b"fault=early";
    assert!(
        tree.windows(WORDS.len()).all(|words| words != WORDS),
        "on purpose"
    );
}

/// Fails in the way that the boot argument `fault=` asks for.
pub(crate) fn run(kind: Option<&str>) {
    let Some(kind) = kind else { return };
    info!("failing on purpose: {kind}");
    match kind {
        "panic" => panic!("on purpose"),
        "stack" => {
            info!("{}", arch::vectors::overflow_stack(0));
        }
        "data" => arch::vectors::fault_on(arch::vectors::Fault::Data),
        "write-code" => arch::vectors::fault_on(arch::vectors::Fault::WriteCode),
        "execute-data" => arch::vectors::fault_on(arch::vectors::Fault::ExecuteData),
        "bytes" => bytes(),
        // Below.
        "late" => {}
        _ => info!("no such fault"),
    }
}

/// The same when everything is built.
pub(crate) fn run_late(kind: Option<&str>) {
    if kind == Some("late") {
        panic!("on purpose");
    }
}

/// No failure, unless a byte is not what it should be: copies, moves and fills as the compiler calls them, which are
/// assembly of ours, at every alignment, with what lies beside them left as it was.
fn bytes() {
    const ROOM: usize = 256;
    const LENGTHS: core::ops::Range<usize> = 0..152;
    fn pattern(at: usize, salt: usize) -> u8 {
        (at.wrapping_mul(31) ^ salt.wrapping_mul(7)) as u8
    }
    fn fresh(salt: usize) -> [u8; ROOM] {
        core::array::from_fn(|at| core::hint::black_box(pattern(at, salt)))
    }
    let mut wrong = 0_u32;
    let mut hold = |is_right: bool| wrong += u32::from(!is_right);
    for length in LENGTHS {
        let length = core::hint::black_box(length);
        for from in 0..8 {
            for to in 0..8 {
                let (source, mut target) = (fresh(1), fresh(2));
                let inside = to..to + length;
                target[inside.clone()].copy_from_slice(&source[from..from + length]);
                hold(
                    target
                        .iter()
                        .enumerate()
                        .all(|(at, byte)| match inside.contains(&at) {
                            true => *byte == pattern(at - to + from, 1),
                            false => *byte == pattern(at, 2),
                        }),
                );
            }
        }
        for from in 0..8 {
            for to in (0..24).chain([64, 65, 72]) {
                for (from, to) in [(from, to), (to, from)] {
                    let mut both = fresh(3);
                    both.copy_within(from..from + length, to);
                    hold(both.iter().enumerate().all(|(at, byte)| {
                        match (to..to + length).contains(&at) {
                            true => *byte == pattern(at - to + from, 3),
                            false => *byte == pattern(at, 3),
                        }
                    }));
                }
            }
        }
        for to in 0..16 {
            let mut target = fresh(4);
            let inside = to..to + length;
            target[inside.clone()].fill(core::hint::black_box(0xa5));
            hold(
                target
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| match inside.contains(&at) {
                        true => *byte == 0xa5,
                        false => *byte == pattern(at, 4),
                    }),
            );
        }
    }
    guest_bytes(&mut hold);
    info!("bytes: {wrong} times not what they should be");
}

/// The same of what copies to and from guests: whole turns, halves, and what is left.
fn guest_bytes(hold: &mut impl FnMut(bool)) {
    const ROOM: usize = 1400;
    let place = |bytes: &[u8]| Pa::new(bytes.as_ptr().addr() as u64);
    let source: Vec<u8> = (0..ROOM)
        .map(|at| (at.wrapping_mul(37) >> 2) as u8)
        .collect();
    let lengths = (0..80)
        .chain(120..140)
        .chain(250..270)
        .chain(380..400)
        .chain(505..520)
        .chain(1020..1030);
    for length in lengths {
        for (from, to) in [(0, 0), (1, 0), (0, 3), (8, 16), (5, 7)] {
            let wanted = source.get(from..from + length).unwrap_or_default();
            for way in 0..4 {
                let mut target = vec![0xa5; ROOM];
                let there = Pa::new(target[to..].as_mut_ptr().addr() as u64);
                match way {
                    0 => memory_map::write_cached(there, wanted),
                    1 => memory_map::write_item(there, wanted),
                    2 => memory_map::read(place(wanted), &mut target[to..to + length]),
                    _ => memory_map::read_item(place(wanted), &mut target[to..to + length]),
                }
                let target = core::hint::black_box(target);
                let beside = target
                    .iter()
                    .take(to)
                    .chain(target.iter().skip(to + length));
                hold(
                    target[to..to + length] == *wanted && beside.copied().all(|byte| byte == 0xa5),
                );
            }
        }
    }
}
