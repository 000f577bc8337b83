//! Guests whose failure the hypervisor is to tell of: what they do is easy to find again in a report.

use super::begin;
use crate::check::{Outcome, check, fail};
use crate::raw;
use crate::tests::{grants, storm};
use runtime::abi::grant_table::{self, MapFlags};
use runtime::abi::{GrantRef, hypercall as number, sched, version};
use runtime::{cpu, exception, grant, hypercall, memory, println};

/// Places where grants are mapped, over and over.
const PLACES: u64 = 0x400;
/// No guest may have so many maps.
const MOST_MAPS: u64 = 1 << 20;

/// An exception where neither the vectors nor the instruction are in memory: without end, and each through EL2.
pub(super) fn vectors() -> Outcome {
    begin("vectors");
    exception::lose_memory();
}

/// Hypercalls as fast as they go: those that are answered at once, and those that are not.
pub(super) fn calls() -> Outcome {
    begin("calls");
    let mut features = version::FeatureInfo::default();
    let mut random = super::wild::Random::new(1);
    loop {
        match random.next() & 3 {
            0 => raw::hypercall(number::XEN_VERSION, [0; 5]),
            1 => raw::hypercall(u64::MAX, [0; 5]),
            2 => raw::hypercall(number::SCHED_OP, [sched::YIELD, 0, 0, 0, 0]),
            _ => {
                let pointer = raw::pointer(&mut features);
                raw::hypercall(
                    number::XEN_VERSION,
                    [version::GET_FEATURES, pointer, 0, 0, 0],
                )
            }
        };
    }
}

/// Does nothing, for ever: it is asked to shut down, and does not hear.
pub(super) fn deaf() -> Outcome {
    begin("deaf");
    loop {
        core::hint::spin_loop();
    }
}

/// A crash in the middle of CPUs that switch each other on and off at random.
pub(super) fn power() -> Outcome {
    begin("power");
    storm::rage(50);
    for index in 1..cpu::count() {
        let _ = cpu::start(index, || storm::rage(3));
    }
    storm::rage(5);
    let answer = hypercall::shutdown(sched::SHUTDOWN_CRASH);
    fail!("still here: {answer:?}");
}

/// Uses up all that grants give: frames of the table, entries, maps. Then it crashes with all of it.
pub(super) fn exhaust() -> Outcome {
    begin("exhaust");
    let size = match grant::size() {
        Ok(size) => size,
        Err(error) => fail!("the table's size: {error}"),
    };
    let more = (1..=size.limit).take_while(|frames| grant::map(*frames).is_ok());
    let frames = more.count();
    check!(
        frames as u32 == size.limit,
        "{frames} of {} frames",
        size.limit
    );
    check!(grant::map(size.limit + 1).is_err(), "a frame too many");
    let own = grants::own_number()?;
    let gfn = (grants::page(0)? / memory::PAGE) as u32;
    let first = grant_table::FIRST_FREE.0;
    let mut given = 0;
    while let Some(reference) = grant::give_from(GrantRef(first + given), own, gfn, false) {
        check!(
            reference.0 == first + given,
            "entry {} is taken",
            reference.0
        );
        given += 1;
    }
    let mut maps = 0;
    let refused = loop {
        let reference = GrantRef(first + maps as u32 % given.max(1));
        let place = grants::place(maps % PLACES)?;
        let flags = MapFlags::HOST_MAP | MapFlags::READ_ONLY;
        if let Err(status) = grants::map_at(own, reference, flags, place) {
            break status;
        }
        maps += 1;
        check!(maps < MOST_MAPS, "{maps} maps, and no end");
    };
    println!("NOTE exhaust {frames} frames, {given} entries, {maps} maps, then {refused}");
    let answer = hypercall::shutdown(sched::SHUTDOWN_CRASH);
    fail!("still here: {answer:?}");
}
