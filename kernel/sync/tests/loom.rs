//! The interleavings of the lock, the once cell and the ring, tried one by one on loom's model of the
//! memory. Run with `RUSTFLAGS="--cfg loom" cargo test -p viaduct-sync --features model --release --test loom`.
#![cfg(all(loom, feature = "model"))]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::{sync::Arc, thread};
use viaduct_sync::{Grace, Once, Ring, SpinLock};

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

/// A frame, whether its domain's map has it, and who collects it when the grace period is over.
struct Frame {
    grace: Grace<2>,
    mapped: SpinLock<bool>,
    content: UnsafeCell<u32>,
    ticket: AtomicU32,
    leaving: AtomicBool,
    collected: AtomicU32,
}

impl Frame {
    /// A call of the CPU that copies to the frame if it finds it.
    fn copy(&self) {
        let found = *self.mapped.lock();
        if found {
            self.content.with_mut(|content| {
                // SAFETY: loom fails the model if somebody else uses the cell meanwhile.
                unsafe { *content += 1 }
            });
        }
    }

    /// Between guests: what is over is given to another owner, who writes it.
    fn pass(&self, cpu: usize) {
        if self.grace.pass(cpu)
            && self.leaving.load(Ordering::Acquire)
            && self
                .grace
                .is_over(self.ticket.load(Ordering::Relaxed), 0..2)
            && self.leaving.swap(false, Ordering::AcqRel)
        {
            self.content.with_mut(|content| {
                // SAFETY: as above.
                unsafe { *content = 100 }
            });
            self.collected.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_frame_changes_hands_when_no_cpu_copies_to_it() {
    loom::model(|| {
        let frame = Arc::new(Frame {
            grace: Grace::new(),
            mapped: SpinLock::new(true),
            content: UnsafeCell::new(0),
            ticket: AtomicU32::new(0),
            leaving: AtomicBool::new(false),
            collected: AtomicU32::new(0),
        });
        let copier = {
            let frame = Arc::clone(&frame);
            thread::spawn(move || {
                frame.copy();
                frame.pass(1);
                frame.copy();
            })
        };
        // The domain balloons it out, or ends.
        *frame.mapped.lock() = false;
        frame.ticket.store(frame.grace.draw(), Ordering::Relaxed);
        frame.leaving.store(true, Ordering::Release);
        frame.pass(0);
        copier.join().unwrap();
        // It is told to look, and so passes again.
        frame.pass(1);
        assert_eq!(frame.collected.load(Ordering::Relaxed), 1);
    });
}
