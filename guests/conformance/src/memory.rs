//! `memory_op`: figures, the balloon, and what a guest may not do.

use crate::raw::{call, load, pointer, store};
use crate::suite::{NOBODY, Suite};
use alloc::format;
use runtime::abi::Errno::{Invalid, NoSuchDomain, NoSys, NotSupported, Perm};
use runtime::abi::{DomainId, hypercall as number, memory_op as op};
use runtime::memory;

pub(crate) fn ask<T>(command: u64, argument: &mut T) -> i64 {
    at(command, pointer(argument))
}

pub(crate) fn at(command: u64, pointer: u64) -> i64 {
    call(number::MEMORY_OP, [command, pointer, 0, 0, 0])
}

/// A page of RAM that nobody uses.
pub(crate) fn page(number: u64) -> u64 {
    memory::spare().start.next_multiple_of(2 << 20) + number * memory::PAGE
}

/// Gives up or fills one extent of pages.
pub(crate) fn extent(command: u64, address: u64, order: u32) -> i64 {
    let mut gfn = address / memory::PAGE;
    let mut request = op::Reservation {
        extent_start: pointer(&mut gfn),
        nr_extents: 1,
        extent_order: order,
        domid: DomainId::SELF,
        ..Default::default()
    };
    ask(command, &mut request)
}

pub(crate) fn run(suite: &mut Suite) {
    figures(suite);
    balloon(suite);
    refused(suite);
}

fn figures(suite: &mut Suite) {
    suite.subject("memory_op.maximum_ram_page");
    suite.that("a frame", at(op::MAXIMUM_RAM_PAGE, 8) > 0);
    suite.is(
        "with progress",
        at(op::MAXIMUM_RAM_PAGE | 1 << 6, 8),
        Invalid,
    );
    let banks = || memory::banks().map(|(base, size)| (base / memory::PAGE, size / memory::PAGE));
    let pages: u64 = banks().map(|(_, pages)| pages).sum();
    let last = banks().map(|(first, pages)| first + pages - 1).max();
    for (name, command, least) in [
        (
            "memory_op.current_reservation",
            op::CURRENT_RESERVATION,
            pages,
        ),
        (
            "memory_op.maximum_reservation",
            op::MAXIMUM_RESERVATION,
            pages,
        ),
        (
            "memory_op.maximum_gpfn",
            op::MAXIMUM_GPFN,
            last.unwrap_or(0),
        ),
    ] {
        suite.subject(name);
        let figure = ask(command, &mut DomainId::SELF.clone());
        suite.that("at least what the tree says", figure >= least as i64);
        let mut own = suite.own;
        suite.is("by number", ask(command, &mut own), figure);
        let mut other = suite.stranger;
        suite.is("another's", ask(command, &mut other), Perm);
        suite.is("nobody's", ask(command, &mut NOBODY.clone()), NoSuchDomain);
        suite.is("with progress", at(command | 1 << 6, 8), Invalid);
        suite.faults(|bad| at(command, bad));
    }
}

fn balloon(suite: &mut Suite) {
    let (first, second) = (page(0), page(1));
    let now = || ask(op::CURRENT_RESERVATION, &mut DomainId::SELF.clone());
    let before = now();
    suite.subject("memory_op.decrease_reservation");
    suite.that("there at first", store(first, 0x77));
    suite.is("a page", extent(op::DECREASE_RESERVATION, first, 0), 1);
    suite.is("one less", now(), before - 1);
    suite.equal("gone", load(first), None);
    suite.is("once more", extent(op::DECREASE_RESERVATION, first, 0), 0);
    suite.is(
        "a device",
        extent(op::DECREASE_RESERVATION, 0x300_2000, 0),
        0,
    );
    counts(suite, op::DECREASE_RESERVATION, second);
    suite.equal("nothing else went", now(), before - 1);
    suite.subject("memory_op.populate_physmap");
    suite.is("a page", extent(op::POPULATE_PHYSMAP, first, 0), 1);
    suite.equal("zero", load(first), Some(0));
    suite.is("as many as before", now(), before);
    suite.is(
        "no more than at first",
        extent(op::POPULATE_PHYSMAP, first, 0),
        0,
    );
    suite.is(
        "two MiB less",
        extent(op::DECREASE_RESERVATION, first, 9),
        1,
    );
    suite.is("two MiB", extent(op::POPULATE_PHYSMAP, first, 9), 1);
    suite.equal("the last page", load(first + 511 * memory::PAGE), Some(0));
    suite.is(
        "four MiB at once",
        extent(op::POPULATE_PHYSMAP, first, 10),
        0,
    );
    suite.is(
        "a page less",
        extent(op::DECREASE_RESERVATION, second, 0),
        1,
    );
    suite.is(
        "over a device",
        extent(op::POPULATE_PHYSMAP, 0x300_2000, 0),
        0,
    );
    suite.is(
        "beyond all addresses",
        extent(op::POPULATE_PHYSMAP, 1 << 48, 0),
        0,
    );
    counts(suite, op::POPULATE_PHYSMAP, second);
    suite.is("back", extent(op::POPULATE_PHYSMAP, second, 0), 1);
    suite.is("as many as before, again", now(), before);
    suite.subject("memory_op.increase_reservation");
    suite.is("a page", extent(op::INCREASE_RESERVATION, second, 0), 0);
    suite.is("no pages more", now(), before);
}

/// Whatever is wrong, the result is a count.
fn counts(suite: &mut Suite, command: u64, address: u64) {
    let mut gfns = [address / memory::PAGE; 2];
    let good = op::Reservation {
        extent_start: pointer(&mut gfns),
        nr_extents: 1,
        domid: DomainId::SELF,
        ..Default::default()
    };
    for (case, change) in [
        (
            "no extents",
            (|request| request.nr_extents = 0) as fn(&mut op::Reservation),
        ),
        ("too many", |request| request.nr_extents = u64::MAX),
        ("order 63", |request| request.extent_order = 63),
        ("a list that is nowhere", |request| request.extent_start = 8),
        ("memory below 2^12", |request| request.mem_flags = 12),
        ("nobody's", |request| request.domid = NOBODY),
    ] {
        let mut request = good;
        change(&mut request);
        suite.is(case, ask(command, &mut request), 0);
    }
    let mut request = good;
    request.domid = suite.stranger;
    suite.is("another's", ask(command, &mut request), 0);
    for bad in crate::suite::BAD_POINTERS {
        suite.is(&format!("pointer {bad:#x}"), at(command, bad), 0);
    }
    suite.is("what is said to be done is", at(command | 5 << 6, 8), 5);
}

fn refused(suite: &mut Suite) {
    let (own, stranger) = (suite.own, suite.stranger);
    suite.subject("memory_op.claim_pages");
    let claim = |domid, extent_order| {
        let mut request = op::Reservation {
            domid,
            extent_order,
            nr_extents: 1,
            ..Default::default()
        };
        ask(op::CLAIM_PAGES, &mut request)
    };
    suite.is("its own", claim(own, 0), Perm);
    suite.is("another's", claim(stranger, 0), Perm);
    suite.is("nobody's", claim(NOBODY, 0), Invalid);
    suite.is("an order", claim(own, 1), Invalid);
    suite.faults(|bad| at(op::CLAIM_PAGES, bad));
    suite.subject("memory_op.get_vnumainfo");
    let nodes = |domid, reserved| {
        let mut request = op::VnumaTopology {
            domid,
            reserved,
            ..Default::default()
        };
        ask(op::GET_VNUMA_INFO, &mut request)
    };
    suite.is("its own", nodes(DomainId::SELF, 0), NotSupported);
    suite.is("another's", nodes(stranger, 0), Perm);
    suite.is("nobody's", nodes(NOBODY, 0), NoSuchDomain);
    suite.is("padding", nodes(own, 1), Invalid);
    suite.faults(|bad| at(op::GET_VNUMA_INFO, bad));
    suite.subject("memory_op.acquire_resource");
    let acquire = |domid, reserved| {
        let mut request = op::AcquireResource {
            domid,
            reserved,
            ..Default::default()
        };
        ask(op::ACQUIRE_RESOURCE, &mut request)
    };
    suite.is("its own", acquire(own, 0), Perm);
    suite.is("another's", acquire(stranger, 0), Perm);
    suite.is("nobody's", acquire(NOBODY, 0), NoSuchDomain);
    suite.is(
        "SELF, which is no number",
        acquire(DomainId::SELF, 0),
        NoSuchDomain,
    );
    suite.is("padding", acquire(own, 1), Invalid);
    suite.faults(|bad| at(op::ACQUIRE_RESOURCE, bad));
    for (name, command) in [
        (
            "memory_op.get_sharing_freed_pages",
            op::GET_SHARING_FREED_PAGES,
        ),
        (
            "memory_op.get_sharing_shared_pages",
            op::GET_SHARING_SHARED_PAGES,
        ),
    ] {
        suite.subject(name);
        suite.is("none", at(command, 8), 0);
    }
    suite.subject("memory_op.memory_map");
    suite.is("not on Arm", at(op::MEMORY_MAP, 8), NoSys);
    suite.subject("memory_op.exchange");
    suite.is("not for guests", at(op::EXCHANGE, 8), NoSys);
    suite.subject("memory_op.others");
    for command in [
        5,
        8,
        10,
        12,
        13,
        16,
        17,
        20,
        21,
        22,
        25,
        27,
        29,
        63,
        63 | 1 << 6,
    ] {
        suite.is(&format!("command {command}"), at(command, 8), NoSys);
    }
}
