//! The interleavings of the lock, the once cell and the ring, tried one by one on loom's model of the
//! memory. Run with `RUSTFLAGS="--cfg loom" cargo test -p viaduct-sync --features model --release --test loom`.
#![cfg(all(loom, feature = "model"))]

use loom::{sync::Arc, thread};
use viaduct_sync::{Once, Ring, SpinLock};

#[test]
fn a_lock_excludes_and_publishes() {
    loom::model(|| {
        let lock = Arc::new(SpinLock::new(0));
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || *lock.lock() += 1)
        };
        *lock.lock() += 1;
        other.join().unwrap();
        assert_eq!(*lock.lock(), 2);
    });
}

#[test]
fn a_tried_lock_excludes_and_publishes() {
    loom::model(|| {
        let lock = Arc::new(SpinLock::new(0));
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || *lock.lock() += 1)
        };
        // Until it succeeds: a single try would never be made after the other's turn.
        loop {
            if let Some(mut value) = lock.try_lock() {
                *value += 1;
                break;
            }
            thread::yield_now();
        }
        other.join().unwrap();
        assert_eq!(*lock.lock(), 2);
    });
}

#[test]
fn a_once_cell_is_made_once() {
    loom::model(|| {
        let once = Arc::new(Once::new());
        let other = {
            let once = Arc::clone(&once);
            thread::spawn(move || *once.call_once(|| Box::new(1)).as_ref())
        };
        let ours = *once.call_once(|| Box::new(2)).as_ref();
        assert_eq!(other.join().unwrap(), ours);
    });
}

#[test]
fn a_reader_sees_all_or_nothing() {
    loom::model(|| {
        let once = Arc::new(Once::new());
        let other = {
            let once = Arc::clone(&once);
            thread::spawn(move || once.get().map(|value: &Box<u32>| **value))
        };
        assert!(once.set(Box::new(7)).is_ok());
        assert!(matches!(other.join().unwrap(), None | Some(7)));
    });
}

#[test]
fn a_ring_keeps_order_while_full_and_empty() {
    loom::model(|| {
        let ring = Arc::new(Ring::<2>::new());
        let producer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || (1..=3).filter(|byte| ring.push(*byte)).count())
        };
        let mut got = Vec::new();
        for _ in 0..2 {
            got.extend(ring.pop());
        }
        let pushed = producer.join().unwrap();
        while let Some(byte) = ring.pop() {
            got.push(byte);
        }
        assert_eq!(got.len(), pushed);
        assert!(got.is_sorted() && got.first() == Some(&1));
    });
}
