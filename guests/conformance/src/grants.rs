//! `grant_table_op`, version 1.

use crate::memory::{extent, page};
use crate::raw::{call, load, pointer, store, with};
use crate::suite::{NOBODY, Suite};
use alloc::format;
use runtime::abi::Errno::{Invalid, NoSuchDomain, NoSys, Perm};
use runtime::abi::grant_table::{CopyFlags, MapFlags};
use runtime::abi::{DomainId, GrantRef, grant_table as op, hypercall as number, memory_op};
use runtime::{grant, memory, xen};

fn ask<T>(command: u64, argument: &mut T, count: u64) -> i64 {
    with(number::GRANT_TABLE_OP, command, argument, count)
}

fn at(command: u64, pointer: u64, count: u64) -> i64 {
    call(number::GRANT_TABLE_OP, [command, pointer, count, 0, 0])
}

/// The answer, and if that is 0 the status.
fn one<T>(command: u64, item: &mut T, status: impl Fn(&T) -> i16) -> i64 {
    match ask(command, item, 1) {
        0 => i64::from(status(item)),
        error => error,
    }
}

/// This guest's own number: the one whose table it may ask about.
pub(crate) fn own_number() -> DomainId {
    let is_own = |number: &u16| query(DomainId(*number)).0 == 0;
    DomainId((1..256).find(is_own).unwrap_or(0))
}

fn query(dom: DomainId) -> (i64, op::QuerySize) {
    let mut request = op::QuerySize {
        dom,
        status: 99,
        ..Default::default()
    };
    let answer = one(op::QUERY_SIZE, &mut request, |request| request.status);
    (answer, request)
}

/// An address in the window where nothing is.
fn place(number: u64) -> u64 {
    xen::window().map_or(0, |(base, _)| base) + (0x700 + number) * memory::PAGE
}

fn give(to: DomainId, address: u64, read_only: bool) -> GrantRef {
    let gfn = (address / memory::PAGE) as u32;
    grant::give(to, gfn, read_only).unwrap_or_default()
}

fn map(dom: DomainId, gref: GrantRef, flags: u32, host_addr: u64) -> (i64, u32) {
    let mut item = op::MapGrantRef {
        host_addr,
        flags,
        gref,
        dom,
        status: 99,
        ..Default::default()
    };
    let status = one(op::MAP_GRANT_REF, &mut item, |item| item.status);
    (status, item.handle)
}

fn unmap(handle: u32, host_addr: u64) -> i64 {
    let mut item = op::UnmapGrantRef {
        host_addr,
        handle,
        status: 99,
        ..Default::default()
    };
    one(op::UNMAP_GRANT_REF, &mut item, |item| item.status)
}

pub(crate) fn run(suite: &mut Suite) {
    sizes(suite);
    versions(suite);
    suite.that("frames to grant with", grant::map(2).is_ok());
    maps(suite);
    refusals(suite);
    copies(suite);
    rest(suite);
    lists(suite);
    suite.subject("grant_table_op.others");
    for command in [op::DUMP_TABLE, 13, 99, 0xfff] {
        suite.is(&format!("command {command}"), at(command, 8, 1), NoSys);
    }
    suite.is("with progress", at(op::COPY | 1 << 12, 8, 1), Invalid);
}

fn sizes(suite: &mut Suite) {
    let own = suite.own;
    suite.subject("grant_table_op.query_size");
    let (status, size) = query(DomainId::SELF);
    suite.is("its own", status, 0);
    suite.that(
        "a size and a limit",
        (1..=size.max_nr_frames).contains(&size.nr_frames),
    );
    suite.is("by number", query(own).0, 0);
    suite.is("another's", query(suite.stranger).0, -8);
    suite.is("nobody's", query(NOBODY).0, -2);
    suite.is("two at once", at(op::QUERY_SIZE, 8, 2), Invalid);
    suite.faults(|bad| at(op::QUERY_SIZE, bad, 1));
    suite.subject("grant_table_op.setup_table");
    let mut frames = [99_u64; 4];
    let list = pointer(&mut frames);
    let setup = |dom, nr_frames, frame_list| {
        let mut request = op::SetupTable {
            dom,
            nr_frames,
            status: 99,
            frame_list,
            ..Default::default()
        };
        one(op::SETUP_TABLE, &mut request, |request| request.status)
    };
    suite.is("3 frames", setup(DomainId::SELF, 3, list), 0);
    suite.that("it has grown", query(own).1.nr_frames >= 3);
    suite.that("a list", frames[2] != 99 && frames[3] == 99);
    suite.is("none", setup(own, 0, 8), 0);
    suite.is(
        "beyond the limit",
        setup(own, size.max_nr_frames + 1, list),
        -1,
    );
    suite.is("no list", setup(own, 1, 8), -5);
    suite.is("another's", setup(suite.stranger, 1, list), -8);
    suite.is("nobody's", setup(NOBODY, 1, list), -2);
    suite.is("two at once", at(op::SETUP_TABLE, 8, 2), Invalid);
    suite.faults(|bad| at(op::SETUP_TABLE, bad, 1));
}

fn versions(suite: &mut Suite) {
    suite.subject("grant_table_op.set_version");
    let set = |version| {
        let mut request = op::SetVersion { version };
        (ask(op::SET_VERSION, &mut request, 1), request.version)
    };
    suite.equal("1", set(1), (0, 1));
    suite.equal("2", set(2), (NoSys.as_return(), 1));
    suite.equal("3", set(3), (Invalid.as_return(), 1));
    suite.faults(|bad| at(op::SET_VERSION, bad, 1));
    suite.subject("grant_table_op.get_version");
    let get = |dom| {
        let mut request = op::GetVersion {
            dom,
            ..Default::default()
        };
        (ask(op::GET_VERSION, &mut request, 1), request.version)
    };
    suite.equal("its own", get(DomainId::SELF), (0, 1));
    suite.is("another's", get(suite.stranger).0, Perm);
    suite.is("nobody's", get(NOBODY).0, NoSuchDomain);
    suite.faults(|bad| at(op::GET_VERSION, bad, 1));
    suite.subject("grant_table_op.get_status_frames");
    let mut request = op::GetStatusFrames {
        nr_frames: 1,
        dom: DomainId::SELF,
        ..Default::default()
    };
    let status = |request: &op::GetStatusFrames| request.status;
    let answer = one(op::GET_STATUS_FRAMES, &mut request, status);
    suite.is("of version 2 alone", answer, -1);
    suite.faults(|bad| at(op::GET_STATUS_FRAMES, bad, 1));
}

const BOTH: u32 = MapFlags::HOST_MAP.bits();
const READ: u32 = BOTH | MapFlags::READ_ONLY.bits();

fn maps(suite: &mut Suite) {
    let (own, shared, here) = (suite.own, page(0), place(0));
    suite.subject("grant_table_op.map_grant_ref");
    suite.that("a page", store(shared, 0x1234));
    let reference = give(own, shared, false);
    let (status, handle) = map(own, reference, BOTH, here);
    suite.is("for both", status, 0);
    suite.equal("what is there", load(here), Some(0x1234));
    suite.that("written", store(here, 0x5678));
    suite.equal("in the page, too", load(shared), Some(0x5678));
    suite.that("it is in use", !grant::revoke(reference));
    let (status, second) = map(own, reference, READ, place(1));
    suite.is("a second time, to read", status, 0);
    suite.that("not to be written", !store(place(1), 1));
    suite.subject("grant_table_op.unmap_grant_ref");
    suite.is("elsewhere", unmap(handle, here + memory::PAGE), -1);
    suite.is("where the other one is", unmap(second, here), -1);
    suite.is("nothing of it", unmap(handle, 0), 0);
    suite.is("the first", unmap(handle, here), 0);
    suite.equal("gone", load(here), None);
    suite.is("twice", unmap(handle, here), -4);
    for forged in [100, 0xffff, u32::MAX] {
        suite.is(&format!("handle {forged}"), unmap(forged, here), -4);
    }
    suite.is("the second", unmap(second, place(1)), 0);
    suite.that("revoked", grant::revoke(reference));
    suite.subject("grant_table_op.map_grant_ref");
    suite.is("of what is revoked", map(own, reference, BOTH, here).0, -1);
    // Over RAM, which comes back when the guest asks for it.
    let (reference, over) = (give(own, shared, false), page(1));
    let (status, handle) = map(own, reference, BOTH, over);
    suite.is("over RAM", status, 0);
    suite.equal("the other page", load(over), Some(0x5678));
    suite.is("unmapped", unmap(handle, over), 0);
    suite.equal("a hole", load(over), None);
    suite.is("filled", extent(memory_op::POPULATE_PHYSMAP, over, 0), 1);
    suite.subject("grant_table_op.unmap_and_replace");
    let handle = map(own, reference, BOTH, here).1;
    let replace = |handle, host_addr, new_addr| {
        let mut item = op::UnmapAndReplace {
            host_addr,
            new_addr,
            handle,
            status: 99,
            ..Default::default()
        };
        one(op::UNMAP_AND_REPLACE, &mut item, |item| item.status)
    };
    suite.is("by something", replace(handle, here, over), -1);
    suite.is("by nothing", replace(handle, here, 0), 0);
    suite.is("twice", replace(handle, here, 0), -4);
    suite.that("revoked", grant::revoke(reference));
}

fn refusals(suite: &mut Suite) {
    let (own, shared, here) = (suite.own, page(0), place(0));
    suite.subject("grant_table_op.map_grant_ref");
    let reference = give(own, shared, true);
    suite.is(
        "to write what may be read",
        map(own, reference, BOTH, here).0,
        -1,
    );
    for (flags, status) in [
        (0, -3),
        (4, -3),
        (1, -1),
        (3, -1),
        (8 | 2, -1),
        (16 | 2, -1),
        (1 << 16 | 2, -1),
    ] {
        let found = map(own, reference, flags, here).0;
        suite.is(&format!("flags {flags:#x}"), found, status);
    }
    for dom in [DomainId::SELF, NOBODY, DomainId::XEN, DomainId::IO] {
        suite.is(&format!("of {dom}"), map(dom, reference, READ, here).0, -2);
    }
    let stranger = suite.stranger;
    suite.is(
        "of a stranger",
        map(stranger, GrantRef(8), READ, here).0,
        -8,
    );
    for bad in [1 << 20, u32::MAX] {
        let found = map(own, GrantRef(bad), READ, here).0;
        suite.is(&format!("reference {bad:#x}"), found, -3);
    }
    for bad in [0, 0x300_2000, 1 << 40, u64::MAX] {
        let found = map(own, reference, READ, bad).0;
        suite.is(&format!("at {bad:#x}"), found, -1);
    }
    suite.that("revoked", grant::revoke(reference));
    let other = give(NOBODY, shared, false);
    suite.is("granted to another", map(own, other, BOTH, here).0, -1);
    suite.that("revoked", grant::revoke(other));
    for nothing in [0x1000, 0x300_2000] {
        let reference = give(own, nothing, false);
        let case = format!("what is no RAM, {nothing:#x}");
        suite.is(&case, map(own, reference, BOTH, here).0, -9);
        suite.that("revoked", grant::revoke(reference));
    }
    suite.equal("nothing is there", load(here), None);
}

fn copies(suite: &mut Suite) {
    suite.subject("grant_table_op.copy");
    let (own, shared, other) = (suite.own, page(0), page(1));
    let filled = store(shared, 0x11) && store(shared + 4088, 0x22);
    suite.that(
        "two pages",
        filled && store(other, 0) && store(other + 4088, 0),
    );
    let side = |number, domid, offset| op::CopyPointer {
        frame_or_ref: number,
        domid,
        offset,
        reserved: 0,
    };
    let copy = |source, dest, len, flags: CopyFlags| {
        let mut item = op::GrantCopy {
            source,
            dest,
            len,
            flags: flags.bits(),
            status: 99,
            reserved: 0,
        };
        one(op::COPY, &mut item, |item| item.status)
    };
    let reference = give(own, shared, true);
    let granted = |domid, offset| side(u64::from(reference.0), domid, offset);
    let mine = |offset| side(other / memory::PAGE, DomainId::SELF, offset);
    let from = CopyFlags::SOURCE_GREF;
    suite.is("a page", copy(granted(own, 0), mine(0), 4096, from), 0);
    suite.equal("its last bytes", load(other + 4088), Some(0x22));
    suite.is(
        "to a byte's place",
        copy(granted(own, 0), mine(9), 1, from),
        0,
    );
    suite.equal("there", load(other + 8), Some(0x1100));
    suite.is(
        "of SELF",
        copy(granted(DomainId::SELF, 0), mine(0), 8, from),
        0,
    );
    suite.is(
        "without a grant",
        copy(mine(0), mine(16), 8, CopyFlags::empty()),
        0,
    );
    suite.is("nothing", copy(granted(NOBODY, 0), mine(0), 0, from), 0);
    suite.is(
        "across a page's end",
        copy(granted(own, 1), mine(0), 4096, from),
        -10,
    );
    suite.is(
        "across the other's",
        copy(granted(own, 0), mine(4095), 2, from),
        -10,
    );
    let to = CopyFlags::DEST_GREF;
    suite.is(
        "to what may be read",
        copy(mine(0), granted(own, 0), 8, to),
        -1,
    );
    suite.is("of nobody", copy(granted(NOBODY, 0), mine(0), 8, from), -2);
    suite.is(
        "of a stranger",
        copy(granted(suite.stranger, 0), mine(0), 8, from),
        -8,
    );
    let none = side(1 << 20, own, 0);
    suite.is("no such reference", copy(none, mine(0), 8, from), -3);
    let hole = side(1, DomainId::SELF, 0);
    suite.is("to no RAM", copy(granted(own, 0), hole, 8, from), -9);
    let theirs = side(other / memory::PAGE, own, 0);
    suite.is(
        "its number where SELF belongs",
        copy(granted(own, 0), theirs, 8, from),
        -8,
    );
    suite.that("revoked", grant::revoke(reference));
    suite.is(
        "of what is revoked",
        copy(granted(own, 0), mine(0), 8, from),
        -1,
    );
}

fn rest(suite: &mut Suite) {
    let (own, shared) = (suite.own, page(0));
    suite.subject("grant_table_op.transfer");
    let transfer = |frame| {
        let mut item = op::Transfer {
            frame,
            domid: own,
            status: 99,
            ..Default::default()
        };
        one(op::TRANSFER, &mut item, |item| item.status)
    };
    suite.is("a page", transfer(shared / memory::PAGE), -1);
    suite.is("no page", transfer(1), -9);
    suite.subject("grant_table_op.swap_grant_ref");
    let (one_ref, other) = (give(own, shared, false), give(NOBODY, shared, true));
    let (first, second) = (grant::read(one_ref), grant::read(other));
    let swap = |ref_a, ref_b| {
        let mut item = op::SwapGrantRef {
            ref_a,
            ref_b,
            status: 99,
            ..Default::default()
        };
        one(op::SWAP_GRANT_REF, &mut item, |item| item.status)
    };
    suite.is("two entries", swap(one_ref, other), 0);
    let swapped = (grant::read(other), grant::read(one_ref));
    suite.equal("they are", swapped, (first, second));
    let handle = map(own, other, BOTH, place(0)).1;
    suite.is("one that is in use", swap(one_ref, other), -12);
    suite.is("unmapped", unmap(handle, place(0)), 0);
    suite.is("with itself", swap(other, other), 0);
    suite.is(
        "one that is not there",
        swap(one_ref, GrantRef(1 << 20)),
        -3,
    );
    suite.that("revoked", grant::revoke(one_ref) && grant::revoke(other));
    flush(suite);
}

fn flush(suite: &mut Suite) {
    let (own, shared) = (suite.own, page(0));
    suite.subject("grant_table_op.cache_flush");
    let mut item = op::MapGrantRef {
        host_addr: place(0),
        flags: BOTH,
        gref: give(own, shared, false),
        dom: own,
        ..Default::default()
    };
    let _ = ask(op::MAP_GRANT_REF, &mut item, 1);
    let flush = |dev_bus_addr, offset, length, operation| {
        let mut request = op::CacheFlush {
            dev_bus_addr,
            offset,
            length,
            op: operation,
        };
        ask(op::CACHE_FLUSH, &mut request, 1)
    };
    let machine = item.dev_bus_addr;
    for operation in 0..4 {
        let answer = flush(machine, 0, 4096, operation);
        suite.is(&format!("operation {operation}"), answer, 0);
    }
    suite.is("operation 4", flush(machine, 0, 64, 4), Invalid);
    suite.is("nothing", flush(machine, 0, 0, 1), 0);
    suite.is("across a page's end", flush(machine, 1, 4096, 1), Invalid);
    suite.is("offset 4096", flush(machine, 4096, 0, 1), Invalid);
    suite.is("what is nobody's RAM", flush(0x300_0000, 0, 64, 1), Invalid);
    suite.is("unmapped", unmap(item.handle, place(0)), 0);
    suite.that("revoked", grant::revoke(item.gref));
}

fn lists(suite: &mut Suite) {
    const COUNT: usize = 40;
    let own = suite.own;
    suite.subject("grant_table_op.lists");
    let gref = give(own, page(0), false);
    let mut maps: [op::MapGrantRef; COUNT] = core::array::from_fn(|number| op::MapGrantRef {
        host_addr: place(number as u64),
        flags: BOTH,
        gref,
        dom: own,
        status: 99,
        ..Default::default()
    });
    suite.is(
        "40 maps",
        ask(op::MAP_GRANT_REF, &mut maps, COUNT as u64),
        0,
    );
    suite.that("all of them", maps.iter().all(|item| item.status == 0));
    let mut unmaps = maps.map(|item| op::UnmapGrantRef {
        host_addr: item.host_addr,
        handle: item.handle,
        status: 99,
        ..Default::default()
    });
    suite.is(
        "40 unmaps",
        ask(op::UNMAP_GRANT_REF, &mut unmaps, COUNT as u64),
        0,
    );
    suite.that("all of them", unmaps.iter().all(|item| item.status == 0));
    suite.that("revoked", grant::revoke(gref));
    for command in [
        op::MAP_GRANT_REF,
        op::UNMAP_GRANT_REF,
        op::UNMAP_AND_REPLACE,
        op::COPY,
        op::TRANSFER,
        op::SWAP_GRANT_REF,
        op::CACHE_FLUSH,
    ] {
        let case = format!("command {command}: none");
        suite.is(&case, at(command, 8, 0), 0);
        let case = format!("command {command}: 2^31");
        suite.is(&case, at(command, 8, 1 << 31), Invalid);
        suite.faults(|bad| at(command, bad, 1));
    }
}
