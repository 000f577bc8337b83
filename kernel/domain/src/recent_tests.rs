//! The last exits stay, in their order, and are told in words.

use super::*;
use crate::exit::{ESR_HVC_SMCCC, ESR_HYPERCALL, ESR_SMC_SMCCC};
use proptest::prelude::*;
use std::string::ToString;

proptest! {
    /// Against a plain list.
    #[test]
    fn the_last_ones_stay_in_their_order(links in proptest::collection::vec(1..u64::MAX, 0..40)) {
        let recent = Recent::new();
        for &link in &links {
            recent.note(Note::other(0x0600_0000, link));
        }
        let kept = recent.read();
        let wanted = &links[links.len().saturating_sub(KEPT)..];
        let empty = KEPT - wanted.len();
        prop_assert!(kept[..empty].iter().all(|note| *note == Note::default()));
        let found: Vec<u64> = kept[empty..].iter().map(|note| note.link).collect();
        prop_assert_eq!(found, wanted);
        recent.clear();
        prop_assert_eq!(recent.read(), [Note::default(); KEPT]);
    }

    /// Whatever the syndrome and the registers, there are words, and not many.
    #[test]
    fn everything_has_words(esr: u64, link: u64, a: u64, b: u64) {
        for note in [
            Note::other(esr, link),
            Note::call(esr, link, a, b),
            Note::abort(esr, link, a, b),
        ] {
            let words = note.to_string();
            prop_assert!(words.starts_with("0x") && words.len() < 120, "{}", words);
        }
    }
}

#[test]
fn the_count_may_wrap() {
    let recent = Recent::new();
    recent.count.store(u32::MAX - 1, Ordering::Relaxed);
    for link in 1..=4 {
        recent.note(Note::other(0, link));
    }
    let last = recent.read().map(|note| note.link);
    assert_eq!(last[KEPT - 4..], [1, 2, 3, 4]);
}

#[test]
fn calls_are_told_with_number_and_place() {
    let told = |esr, number, argument| Note::call(esr, 0x4008_0104, number, argument).to_string();
    assert_eq!(
        told(ESR_HYPERCALL, 20, 5),
        "0x40080100: hypercall 20, argument 0x5"
    );
    assert_eq!(
        told(ESR_HVC_SMCCC, 0x8400_0003, 1),
        "0x40080100: HVC 0x0, function 0x84000003, argument 0x1"
    );
    // ELR is at an SMC, and behind an HVC.
    assert_eq!(
        told(ESR_SMC_SMCCC, 0xc400_0003, 1),
        "0x40080104: SMC 0x0, function 0xc4000003, argument 0x1"
    );
}

#[test]
fn aborts_are_told_with_their_address() {
    let store = 0x24 << 26 | 1 << 25 | 1 << 6 | 0x07;
    assert_eq!(
        Note::abort(store, 0x4008_0000, 0x1234, 0x90_0000).to_string(),
        "0x40080000: store (Translation(3)) at IPA 0x90000234"
    );
    let fetch = 0x20 << 26 | 1 << 25 | 0x06;
    assert_eq!(
        Note::abort(fetch, 0x10, 0x10, 0).to_string(),
        "0x10: instruction fetch (Translation(2)) at IPA 0x10"
    );
}

#[test]
fn waits_and_registers_are_told() {
    assert_eq!(Note::other(0x0600_0000, 8).to_string(), "0x8: WFI");
    assert_eq!(Note::other(0x0600_0001, 8).to_string(), "0x8: WFE");
    let read = Note::other(0x18 << 26 | 1, 8).to_string();
    assert!(read.starts_with("0x8: register read"), "{read}");
}
