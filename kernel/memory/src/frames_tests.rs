//! The frames of a domain against a list of them.

use super::holds::MOST_HOLDS;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const BASE: u64 = 0x8000_0000;

fn frame(number: u64) -> (u16, Pa) {
    (
        (number / FRAMES as u64) as u16,
        Pa::new(BASE + number * PAGE_SIZE),
    )
}

fn frames(chunks: u64, mapped: u64) -> Frames {
    let frames = Frames::vacant(mapped).unwrap();
    for slot in 0..chunks {
        assert!(
            frames
                .lock()
                .place(slot as u16, Pa::new(BASE + slot * CHUNK_SIZE))
        );
    }
    begin(&frames, chunks);
    frames
}

fn begin(frames: &Frames, chunks: u64) {
    assert_eq!(frames.lock().vacant_from(0), None);
    for slot in 0..chunks {
        frames.lock().renew(slot as u16).unwrap();
    }
    frames.lock().live();
}

/// The chunks that leave at the end of a domain that has so many.
fn leave_all(frames: &Frames, chunks: u16) -> Vec<Pa> {
    (0..chunks)
        .filter_map(|slot| frames.lock().leave(slot))
        .collect()
}

#[test]
fn what_the_last_chunk_has_too_much_is_free_from_the_start() {
    let frames = frames(2, 700);
    let locked = frames.lock();
    assert_eq!((locked.mapped(), locked.most()), (700, 700));
    drop(locked);
    assert_eq!(frames.lock().take(), None, "it has all that it may");
    let (slot, gone) = frame(3);
    assert_eq!(frames.lock().remove(slot, gone), Ok(None));
    assert_eq!(frames.lock().remove(slot, gone), Err(FrameError::NotThere));
    assert_eq!(frames.lock().take(), Some(gone));
    assert_eq!(frames.lock().take(), None);
}

#[test]
fn memory_with_a_place_stays_until_the_end() {
    let frames = frames(1, 512).fixed();
    for number in 0..512 {
        let (slot, frame) = frame(number);
        assert_eq!(frames.lock().remove(slot, frame), Ok(None), "{number}");
    }
    assert_eq!(frames.lock().vacancy(), None);
    let (slot, wanted) = frame(77);
    assert_eq!(frames.lock().take_at(slot, wanted), Ok(()));
    assert_eq!(frames.lock().mapped(), 1);
    assert_eq!(
        frames.lock().take_at(slot, wanted),
        Err(FrameError::NotThere)
    );
    frames.lock().hold(slot, wanted).unwrap();
    assert_eq!(frames.lock().remove(slot, wanted), Ok(None));
    let held = frames.lock().take_at(slot, wanted);
    assert_eq!(held, Err(FrameError::NotThere), "held");
    assert_eq!(frames.release(slot, wanted), None);
    assert_eq!(frames.lock().take_at(slot, wanted), Ok(()));
    frames.lock().end();
    assert_eq!(leave_all(&frames, 1), [Pa::new(BASE)]);
}

#[test]
fn a_held_frame_keeps_its_chunk_and_is_not_taken_again() {
    let frames = frames(2, 1024);
    let (slot, held) = frame(5);
    frames.lock().hold(slot, held).unwrap();
    frames.lock().hold(slot, held).unwrap();
    for number in 0..512 {
        let (slot, frame) = frame(number);
        assert_eq!(frames.lock().remove(slot, frame), Ok(None), "{number}");
    }
    assert_eq!(frames.lock().hold(slot, held), Err(FrameError::NotThere));
    assert_ne!(frames.lock().take(), Some(held));
    let (_, first) = frame(0);
    assert_eq!(frames.lock().remove(0, first), Ok(None), "was taken again");
    assert_eq!(frames.release(slot, held), None);
    assert_eq!(frames.release(slot, held), Some(Pa::new(BASE)));
    assert_eq!(frames.release(slot, held), None, "one too many");
    // The place can be filled again, by any chunk.
    let vacant = frames.lock().vacancy().unwrap();
    let other = Pa::new(0x4000_0000);
    assert_eq!(vacant, 0);
    assert!(frames.lock().add(vacant, other));
    assert!(!frames.lock().add(vacant, other));
    assert_eq!(frames.lock().take(), Some(other));
    assert_eq!(frames.lock().hold(0, held), Err(FrameError::NotThere));
}

#[test]
fn the_end_leaves_what_is_held() {
    let frames = frames(3, 3 * 512);
    let (slot, held) = frame(600);
    frames.lock().hold(slot, held).unwrap();
    assert_eq!(leave_all(&frames, 3), []);
    frames.lock().end();
    let left = leave_all(&frames, 3);
    assert_eq!(left, [Pa::new(BASE), Pa::new(BASE + 2 * CHUNK_SIZE)]);
    assert_eq!(frames.lock().hold(slot, held), Err(FrameError::NotThere));
    assert_eq!(frames.lock().vacancy(), None);
    let chunk = frames.release(slot, held);
    assert_eq!(chunk, Some(Pa::new(BASE + CHUNK_SIZE)));
}

#[test]
fn a_new_life_begins_with_all_frames_in_the_map() {
    let frames = frames(2, 700);
    let (slot, held) = frame(5);
    frames.lock().hold(slot, held).unwrap();
    for number in 512..700 {
        let (slot, gone) = frame(number);
        let left = frames.lock().remove(slot, gone).unwrap();
        assert_eq!(left.is_some(), number == 699);
    }
    let (_, gone) = frame(3);
    assert_eq!(frames.lock().remove(0, gone), Ok(None));
    assert_eq!(
        frames.lock().renew(0),
        Err(FrameError::NotThere),
        "it lives"
    );
    frames.lock().end();
    assert_eq!(frames.lock().renew(0), Err(FrameError::TooOften));
    // The hold ends after the domain has: its chunk stays for the next life.
    assert_eq!(frames.release(slot, held), None);
    assert_eq!(frames.lock().vacant_from(0), Some(1));
    assert_eq!(frames.lock().vacant_from(2), None);
    let other = Pa::new(0x4000_0000);
    assert!(frames.lock().place(1, other));
    assert!(!frames.lock().place(1, other));
    begin(&frames, 2);
    assert_eq!(frames.lock().mapped(), 700);
    assert_eq!(frames.lock().take(), None);
    frames.lock().hold(0, gone).unwrap();
    let past_the_end = other.checked_add(190 * PAGE_SIZE).unwrap();
    assert_eq!(
        frames.lock().hold(1, past_the_end),
        Err(FrameError::NotThere)
    );
    let last = other.checked_add(187 * PAGE_SIZE).unwrap();
    frames.lock().hold(1, last).unwrap();
}

#[test]
fn holds_are_counted_up_to_a_limit() {
    let frames = frames(1, 512);
    let (slot, held) = frame(1);
    for _ in 0..MOST_HOLDS {
        frames.lock().hold(slot, held).unwrap();
    }
    assert_eq!(frames.lock().hold(slot, held), Err(FrameError::TooOften));
    assert_eq!(frames.lock().hold(1, held), Err(FrameError::NotThere));
}

#[test]
fn a_chunk_leaves_once_whoever_comes_last() {
    for _ in 0..200 {
        let frames = frames(1, 512);
        let (slot, last) = frame(511);
        frames.lock().hold(slot, last).unwrap();
        frames.hold(slot, last).unwrap();
        for number in 0..511 {
            let (slot, frame) = frame(number);
            assert_eq!(frames.lock().remove(slot, frame), Ok(None));
        }
        let left = std::thread::scope(|scope| {
            let release = || scope.spawn(|| frames.release(slot, last));
            let releases = [release(), release()];
            let removed = frames.lock().remove(slot, last).unwrap();
            let released = releases.map(|thread| thread.join().unwrap());
            removed
                .into_iter()
                .chain(released.into_iter().flatten())
                .count()
        });
        assert_eq!(left, 1);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Remove(u64),
    Take,
    Hold(u64),
    Release(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Half of all frames of the first chunk are few enough for it to empty.
    let number = prop_oneof![4 => 500_u64..516, 1 => 0_u64..1100];
    prop_oneof![
        3 => number.clone().prop_map(Step::Remove),
        2 => Just(Step::Take),
        2 => number.clone().prop_map(Step::Hold),
        2 => number.prop_map(Step::Release),
    ]
}

proptest! {
    #[test]
    fn no_frame_is_twice_in_use(
        early in 490_u64..513,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let frames = frames(2, 1020);
        let mut mapped: BTreeSet<u64> = (0..1020).collect();
        let mut holds: BTreeMap<u64, u32> = BTreeMap::new();
        let mut left: BTreeSet<u64> = BTreeSet::new();
        let steps = (0..early).map(Step::Remove).chain(steps);
        for step in steps {
            let mut leaves = None;
            match step {
                Step::Remove(number) => {
                    let (slot, at) = frame(number);
                    let removed = frames.lock().remove(slot, at);
                    prop_assert_eq!(removed.is_ok(), mapped.remove(&number));
                    leaves = removed.ok().flatten();
                }
                Step::Take => {
                    if let Some(at) = frames.lock().take() {
                        let number = (at.get() - BASE) / PAGE_SIZE;
                        prop_assert!(mapped.insert(number));
                        prop_assert!(!holds.contains_key(&number));
                        prop_assert!(!left.contains(&(number / 512)));
                    }
                }
                Step::Hold(number) => {
                    let (slot, at) = frame(number);
                    // The short way, but for the first of a chunk.
                    let in_map = mapped.contains(&number);
                    let short = in_map && frames.hold(slot, at).is_ok();
                    let held = short || frames.lock().hold(slot, at).is_ok();
                    prop_assert_eq!(held, in_map);
                    if held {
                        *holds.entry(number).or_default() += 1;
                    }
                }
                Step::Release(number) => {
                    if let Some(count) = holds.get_mut(&number) {
                        *count -= 1;
                        if *count == 0 {
                            holds.remove(&number);
                        }
                        let (slot, at) = frame(number);
                        leaves = frames.release(slot, at);
                    }
                }
            }
            prop_assert_eq!(frames.lock().mapped(), mapped.len() as u64);
            for chunk in 0..2 {
                let used = |number: &u64| number / 512 == chunk;
                let empty = !mapped.iter().any(used) && !holds.keys().any(used);
                let leaves = leaves == Some(Pa::new(BASE + chunk * CHUNK_SIZE));
                prop_assert_eq!(leaves, empty && left.insert(chunk));
            }
        }
    }
}
