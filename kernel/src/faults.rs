//! Failing on purpose, in a build for that: what the tests of the failure path boot.

use log::info;

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
    info!("bytes: {wrong} times not what they should be");
}
