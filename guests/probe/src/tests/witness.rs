//! A guest that watches over itself while others do harm: its clock goes on, and its memory stays what it is. It ends, and
//! passes, when something is typed.

use crate::check::{Outcome, Trouble, check, equal};
use crate::raw::store64;
use core::time::Duration;
use runtime::{console, exception, memory, println, timer};

/// Memory that is watched.
const BYTES: u64 = 4 << 20;
/// As much of it is looked at in each beat.
const PART: u64 = 128 << 10;
/// From beat to beat.
const PERIOD: Duration = Duration::from_millis(100);

/// What belongs at an address.
fn pattern(address: u64) -> u64 {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x7769_746e_6573_7321
}

fn is_as_it_was(start: u64, bytes: u64) -> Outcome {
    for address in (start..start + bytes).step_by(8) {
        let found = exception::load64(address);
        let found = found.map_err(|_| Trouble::Fail("its own memory faults".into()))?;
        equal!(found, pattern(address), "memory at {address:#x}");
    }
    Ok(())
}

pub(crate) fn watch() -> Outcome {
    let spare = memory::spare();
    let start = spare.start.next_multiple_of(memory::PAGE);
    check!(start + BYTES <= spare.end, "too little memory");
    for address in (start..start + BYTES).step_by(8) {
        let _ = store64(address, pattern(address));
    }
    println!("READY witness");
    let step = timer::ticks(PERIOD);
    let mut next = timer::now();
    let (mut beats, mut late) = (0_u64, 0);
    while console::read(&mut [0]) == 0 {
        next += step;
        timer::sleep_until(next);
        late = late.max(timer::now() - next);
        is_as_it_was(start + beats % (BYTES / PART) * PART, PART)?;
        beats += 1;
        if beats % 10 == 0 {
            println!("NOTE witness beat {beats}");
        }
    }
    is_as_it_was(start, BYTES)?;
    let late = late.saturating_mul(PERIOD.as_micros() as u64) / step;
    println!("NOTE witness {beats} beats, at most {late} us late; its memory is as it was");
    Ok(())
}
