//! A reader beside the writer that overtakes it, all interleavings on loom's model of the memory. Run with
//! `RUSTFLAGS="--cfg loom" cargo test -p viaduct-trace --features model --release --test loom`.
#![cfg(all(loom, feature = "model"))]

use loom::{sync::Arc, thread};
use viaduct_trace::{Reader, Ring, SLOT, Slot, Taken};

fn record(number: u8) -> Slot {
    Slot([number; SLOT])
}

#[test]
fn a_record_is_whole_or_lost() {
    loom::model(|| {
        // Two slots, of which one is safe.
        let ring = Arc::new(Ring::new(1).unwrap());
        let writer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || (0..3).for_each(|number| ring.push(record(number).words())))
        };
        let mut reader = Reader::new();
        let mut next = 0;
        for _ in 0..2 {
            match reader.take(&ring) {
                Some(Taken::Record(slot)) => {
                    assert_eq!(slot, record(next));
                    next += 1;
                }
                Some(Taken::Lost(count)) => next += count as u8,
                None => {}
            }
        }
        writer.join().unwrap();
    });
}
