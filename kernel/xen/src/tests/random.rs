//! Whatever a guest sends, and whatever stands in its memory: an outcome, in bounded time, no panic.

use super::support::{BASE, Machine, SIZE};
use crate::exercise::call;
use abi::hypercall as number;
use proptest::prelude::*;

fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..20,
        4 => (0..SIZE / 8).prop_map(|word| BASE + word * 8),
        1 => prop_oneof![Just(BASE - 1), Just(BASE + SIZE - 4), Just(BASE + SIZE)],
        1 => any::<u64>(),
        1 => prop_oneof![Just(u64::MAX), Just(1 << 31), Just(1 << 32), Just(1 << 63)],
    ]
}

fn number_of_call() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => prop_oneof![
            Just(number::MEMORY_OP),
            Just(number::MULTICALL),
            Just(number::XEN_VERSION),
            Just(number::CONSOLE_IO),
            Just(number::GRANT_TABLE_OP),
            Just(number::VCPU_OP),
            Just(number::SCHED_OP),
            Just(number::EVENT_CHANNEL_OP),
            Just(number::HVM_OP),
            Just(number::VM_ASSIST),
        ],
        1 => 0_u64..64,
        1 => any::<u64>(),
    ]
}

/// Words that make sense somewhere: small numbers, pointers, ids.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0_u64..6,
        2 => (0_u64..6, 0_u64..6).prop_map(|(low, high)| high << 32 | low),
        2 => argument(),
        1 => Just(0x7ff0),
        1 => number_of_call(),
    ]
}

proptest! {
    // Three domains a case are slow to build in a debug build; PROPTEST_CASES scales this too.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(4)))]

    #[test]
    fn hypercalls_never_panic(
        memory in proptest::collection::vec(word(), 96),
        calls in proptest::collection::vec(
            (1_u16..4, 0_u32..2, number_of_call(), proptest::array::uniform5(argument())),
            1..60,
        ),
    ) {
        let machine = Machine::new(3, 2);
        let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_le_bytes()).collect();
        for (_, physical) in &machine.domains {
            let mut memory = physical.memory.borrow_mut();
            for chunk in memory.chunks_mut(bytes.len()) {
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
        }
        for (domain, vcpu, nr, arguments) in calls {
            call(&machine, domain, vcpu, nr, arguments);
        }
        // Every port is still either free on both sides or connected to one that says the same.
        for (state, _) in &machine.domains {
            while !state.disconnect_all(&machine) {}
            prop_assert_eq!(state.events.pollers.load(std::sync::atomic::Ordering::SeqCst), 0);
        }
    }
}

/// What fuzzing found worth keeping, and what it began with.
#[test]
fn the_corpus_harms_nothing() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (folder, exercise) in [
        ("hypercalls", crate::exercise::hypercalls as fn(&[u8])),
        ("sharing", crate::exercise::sharing),
    ] {
        let entries = std::fs::read_dir(corpus.join(folder)).unwrap();
        let mut count = 0;
        for entry in entries {
            exercise(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{folder} is empty");
    }
}
