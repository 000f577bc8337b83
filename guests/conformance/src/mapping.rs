//! `memory_op`: what a guest maps and takes away by frame number.

use crate::memory::{ask, at, extent, page};
use crate::raw::{load, pointer, store};
use crate::suite::{NOBODY, Suite};
use alloc::format;
use runtime::abi::Errno::{
    Access, Busy, Fault, Invalid, NoEntry, NoSuchDomain, NoSys, NotSupported, Perm,
};
use runtime::abi::{DomainId, memory_op as op};
use runtime::{cpu, event, memory, xen};

/// Frames of the grant table that these cases map, from this one on: the runtime uses those before.
const FRAME: u64 = 8;

fn window() -> (u64, u64) {
    let (base, size) = xen::window().unwrap_or((0, memory::PAGE));
    (base / memory::PAGE, size / memory::PAGE)
}

/// A frame number in the middle of the window, where nothing is.
fn gfn(number: u64) -> u64 {
    window().0 + 0x600 + number
}

fn add(space: u32, index: u64, gpfn: u64) -> i64 {
    add_for(DomainId::SELF, space, index, gpfn)
}

fn add_for(domid: DomainId, space: u32, index: u64, gpfn: u64) -> i64 {
    let mut request = op::AddToPhysmap {
        domid,
        size: 0,
        space,
        index,
        gpfn,
    };
    ask(op::ADD_TO_PHYSMAP, &mut request)
}

fn remove(domid: DomainId, gpfn: u64) -> i64 {
    let mut request = op::RemoveFromPhysmap {
        domid,
        gpfn,
        ..Default::default()
    };
    ask(op::REMOVE_FROM_PHYSMAP, &mut request)
}

pub(crate) fn run(suite: &mut Suite) {
    shared_info(suite);
    grant_frames(suite);
    refused(suite);
    taken_away(suite);
    batch(suite);
}

/// It has one place at a time; taken away it can be put back, with its content, over a hole or over RAM.
fn shared_info(suite: &mut Suite) {
    suite.subject("memory_op.add_to_physmap");
    let (base, size) = window();
    let place = base + size - 1;
    suite.is(
        "shared_info at a second place",
        add(op::SPACE_SHARED_INFO, 0, gfn(0)),
        Busy,
    );
    suite.is("where it is", add(op::SPACE_SHARED_INFO, 0, place), 0);
    suite.is(
        "shared_info 1",
        add(op::SPACE_SHARED_INFO, 1, gfn(0)),
        Invalid,
    );
    let port = event::bind_ipi(0).unwrap_or_default();
    event::mask(port);
    let sent = event::send(port).is_ok();
    let (removed, elsewhere, away, back) = cpu::masked(|| {
        let removed = remove(DomainId::SELF, place);
        let elsewhere = add(op::SPACE_SHARED_INFO, 0, gfn(0));
        let away = remove(DomainId::SELF, gfn(0));
        (
            removed,
            elsewhere,
            away,
            add(op::SPACE_SHARED_INFO, 0, place),
        )
    });
    suite.is("taken away", removed, 0);
    suite.is("elsewhere", elsewhere, 0);
    suite.is("away from there", away, 0);
    suite.is("back", back, 0);
    suite.that("its events are still there", sent && event::take(port));
    let _ = event::close(port);
}

fn grant_frames(suite: &mut Suite) {
    suite.is(
        "a grant frame",
        add(op::SPACE_GRANT_TABLE, FRAME, gfn(1)),
        0,
    );
    let word = memory::PAGE * gfn(1);
    suite.equal("zero", load(word), Some(0));
    suite.that("to be written", store(word, 5));
    suite.is(
        "at a second place",
        add(op::SPACE_GRANT_TABLE, FRAME, gfn(2)),
        Busy,
    );
    suite.is(
        "over another one",
        add(op::SPACE_GRANT_TABLE, FRAME + 1, gfn(1)),
        0,
    );
    suite.equal("that one", load(word), Some(0));
    suite.is(
        "the first again",
        add(op::SPACE_GRANT_TABLE, FRAME, gfn(2)),
        0,
    );
    suite.equal(
        "with what was written",
        load(gfn(2) * memory::PAGE),
        Some(5),
    );
    suite.that("which is cleared", store(gfn(2) * memory::PAGE, 0));
    suite.is(
        "over RAM",
        add(op::SPACE_GRANT_TABLE, FRAME + 2, page(4) / memory::PAGE),
        0,
    );
    suite.is(
        "taken away",
        remove(DomainId::SELF, page(4) / memory::PAGE),
        0,
    );
    suite.is(
        "the RAM comes back",
        extent(op::POPULATE_PHYSMAP, page(4), 0),
        1,
    );
    for number in 1..3 {
        suite.is("taken away", remove(DomainId::SELF, gfn(number)), 0);
    }
    for index in [64, 1 << 20, op::GRANT_TABLE_STATUS_INDEX, u64::MAX] {
        let answer = add(op::SPACE_GRANT_TABLE, index, gfn(1));
        suite.is(&format!("grant frame {index:#x}"), answer, Invalid);
    }
}

fn refused(suite: &mut Suite) {
    let grant = op::SPACE_GRANT_TABLE;
    for (space, wanted) in [
        (op::SPACE_GMFN, NoSys),
        (op::SPACE_GMFN_RANGE, NoSys),
        (op::SPACE_GMFN_FOREIGN, NoSys),
        (op::SPACE_DEVICE_MMIO, Access),
        (6, NoSys),
        (u32::MAX, NoSys),
    ] {
        suite.is(&format!("space {space}"), add(space, 0, gfn(0)), wanted);
    }
    for bad in [0x300_2000 / memory::PAGE, 1 << 28, 1 << 52, u64::MAX] {
        suite.is(
            &format!("at frame {bad:#x}"),
            add(grant, FRAME, bad),
            Invalid,
        );
    }
    suite.is("another's", add_for(suite.stranger, grant, 0, gfn(0)), Perm);
    suite.is("nobody's", add_for(NOBODY, grant, 0, gfn(0)), NoSuchDomain);
    let device = op::SPACE_DEVICE_MMIO;
    suite.is(
        "nobody's device",
        add_for(NOBODY, device, 0, gfn(0)),
        NoSuchDomain,
    );
    suite.is("with progress", at(op::ADD_TO_PHYSMAP | 1 << 6, 8), Invalid);
    suite.faults(|bad| at(op::ADD_TO_PHYSMAP, bad));
}

fn taken_away(suite: &mut Suite) {
    suite.subject("memory_op.remove_from_physmap");
    suite.is("nothing", remove(DomainId::SELF, gfn(0)), NoEntry);
    suite.is(
        "beyond all addresses",
        remove(DomainId::SELF, 1 << 48),
        NoEntry,
    );
    let ram = page(4);
    suite.that("there at first", store(ram, 1));
    suite.is("RAM", remove(suite.own, ram / memory::PAGE), 0);
    suite.equal("gone", load(ram), None);
    suite.is("back", extent(op::POPULATE_PHYSMAP, ram, 0), 1);
    suite.equal("zero", load(ram), Some(0));
    suite.that(
        "a device stays",
        remove(DomainId::SELF, 0x300_2000 / memory::PAGE) < 0,
    );
    suite.is("another's", remove(suite.stranger, gfn(0)), Perm);
    suite.is("nobody's", remove(NOBODY, gfn(0)), NoSuchDomain);
    suite.is(
        "with progress",
        at(op::REMOVE_FROM_PHYSMAP | 1 << 6, 8),
        Invalid,
    );
    suite.faults(|bad| at(op::REMOVE_FROM_PHYSMAP, bad));
}

fn batch(suite: &mut Suite) {
    suite.subject("memory_op.add_to_physmap_batch");
    let mut indexes: [u64; 40] = core::array::from_fn(|index| FRAME + index as u64);
    let mut places: [u64; 40] = core::array::from_fn(|index| gfn(index as u64));
    (indexes[7], places[9]) = (1 << 20, 1 << 48);
    let mut errors = [99_i32; 41];
    let good = op::AddToPhysmapBatch {
        domid: DomainId::SELF,
        space: op::SPACE_GRANT_TABLE as u16,
        size: 40,
        foreign_domid: DomainId(0),
        idxs: pointer(&mut indexes),
        gpfns: pointer(&mut places),
        errs: pointer(&mut errors),
    };
    let batch = |change: &dyn Fn(&mut op::AddToPhysmapBatch)| {
        let mut request = good;
        change(&mut request);
        ask(op::ADD_TO_PHYSMAP_BATCH, &mut request)
    };
    suite.is("40 frames", batch(&|_| {}), 0);
    suite.equal("no such frame", errors[7], -22);
    suite.equal("no such place", errors[9], -22);
    let fine = errors[..40].iter().filter(|error| **error == 0).count();
    suite.equal("all others", fine, 38);
    suite.equal("not beyond", errors[40], 99);
    for place in places {
        let _ = remove(DomainId::SELF, place);
    }
    suite.is("none", batch(&|request| request.size = 0), 0);
    let own = suite.own;
    for (owner, wanted) in [
        (suite.stranger, Perm),
        (NOBODY, NoSuchDomain),
        (DomainId::IO, Perm),
        (DomainId::SELF, Invalid),
        (own, Invalid),
    ] {
        let answer = batch(&|request| {
            request.space = op::SPACE_GMFN_FOREIGN as u16;
            request.foreign_domid = owner;
            request.size = 1;
        });
        suite.is(&format!("a frame of {owner}"), answer, 0);
        suite.is("its error", i64::from(errors[0]), wanted);
    }
    let space = |space: u32| batch(&|request| request.space = space as u16);
    suite.is("a range", space(op::SPACE_GMFN_RANGE), NotSupported);
    suite.is("device memory", space(op::SPACE_DEVICE_MMIO), Access);
    let stranger = suite.stranger;
    suite.is(
        "another's",
        batch(&|request| request.domid = stranger),
        Perm,
    );
    suite.is(
        "nobody's",
        batch(&|request| request.domid = NOBODY),
        NoSuchDomain,
    );
    suite.is(
        "no list of errors",
        batch(&|request| request.errs = 8),
        Fault,
    );
    suite.is(
        "no list of places",
        batch(&|request| request.gpfns = 8),
        Fault,
    );
    suite.is(
        "no list of indexes",
        batch(&|request| request.idxs = 8),
        Fault,
    );
    suite.faults(|bad| at(op::ADD_TO_PHYSMAP_BATCH, bad));
    for place in places {
        let _ = remove(DomainId::SELF, place);
    }
}
