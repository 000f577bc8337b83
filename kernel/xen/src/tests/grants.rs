//! Maps and copies of grants, one by one.

use super::support::{BASE, Guest, Machine, RAM_GFN, SCRATCH};
use abi::hypercall::GRANT_TABLE_OP;
use abi::{DomainId, grant_table as op};
use op::GrantRef;
use std::sync::atomic::Ordering::SeqCst;

/// Where tests map.
pub(super) const PLACE: u64 = 0x5_0000;
pub(super) const READ_ONLY: u32 = 0b110;
pub(super) const READ_WRITE: u32 = 0b010;

/// Writes an entry of a guest's table, as a guest does.
pub(super) fn grant(guest: &Guest, reference: u32, flags: u16, domain: u16, gfn: u64) {
    let word = u64::from(flags) | u64::from(domain) << 16 | gfn << 32;
    entry(guest, reference).store(word, SeqCst);
}

pub(super) fn entry<'a>(guest: &Guest<'a>, reference: u32) -> &'a std::sync::atomic::AtomicU64 {
    let frame = guest.state.pages.lock().grant_page(0).unwrap();
    // Pages of the tests live as long as the program.
    let frame: &'static crate::SharedPage = Box::leak(Box::new(frame));
    frame.u64(reference as usize * 8).unwrap()
}

pub(super) fn map(
    guest: &Guest,
    dom: u16,
    gref: u32,
    flags: u32,
    gfn: u64,
) -> Result<op::MapGrantRef, i16> {
    let mut item = op::MapGrantRef {
        host_addr: gfn << 12,
        flags,
        gref: GrantRef(gref),
        dom: DomainId(dom),
        status: 99,
        ..Default::default()
    };
    assert_eq!(guest.with(GRANT_TABLE_OP, op::MAP_GRANT_REF, &mut item), 0);
    match item.status {
        0 => Ok(item),
        status => Err(status),
    }
}

pub(super) fn unmap(guest: &Guest, handle: u32, gfn: u64) -> i16 {
    let mut item = op::UnmapGrantRef {
        host_addr: gfn << 12,
        handle,
        status: 99,
        ..Default::default()
    };
    assert_eq!(
        guest.with(GRANT_TABLE_OP, op::UNMAP_GRANT_REF, &mut item),
        0
    );
    item.status
}

pub(super) fn side(domid: DomainId, frame_or_ref: u64, offset: u16) -> op::CopyPointer {
    op::CopyPointer {
        frame_or_ref,
        domid,
        offset,
        reserved: 0,
    }
}

pub(super) fn copy(
    guest: &Guest,
    flags: u16,
    source: op::CopyPointer,
    dest: op::CopyPointer,
    len: u16,
) -> i16 {
    let mut item = op::GrantCopy {
        source,
        dest,
        len,
        flags,
        status: 99,
        reserved: 0,
    };
    assert_eq!(guest.with(GRANT_TABLE_OP, op::COPY, &mut item), 0);
    item.status
}

fn flags(guest: &Guest, reference: u32) -> u16 {
    entry(guest, reference).load(SeqCst) as u16
}

#[test]
fn a_grant_is_mapped_and_unmapped() {
    let machine = Machine::new(2, 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    grant(&one, 8, 1, 2, RAM_GFN + 1);
    let first = map(&two, 1, 8, READ_WRITE, PLACE).unwrap();
    let frame = one.physical.frame(RAM_GFN + 1).unwrap().get();
    assert_eq!(first.dev_bus_addr, frame);
    assert_eq!(two.physical.granted.borrow()[&PLACE], (frame, true));
    assert_eq!(flags(&one, 8), 0b11001);
    // Once more, to be read: flags stay until the last is gone.
    let second = map(&two, 1, 8, READ_ONLY, PLACE + 1).unwrap();
    assert_ne!(first.handle, second.handle);
    assert_eq!(two.physical.granted.borrow()[&(PLACE + 1)], (frame, false));
    assert_eq!(unmap(&two, first.handle, PLACE + 2), -1, "not there");
    assert_eq!(unmap(&two, first.handle, PLACE + 1), -1, "the other's");
    assert_eq!(unmap(&two, first.handle, 0), 0, "nothing asked for");
    assert_eq!(unmap(&two, first.handle, PLACE), 0);
    assert_eq!(unmap(&two, first.handle, PLACE), -4);
    assert_eq!(flags(&one, 8), 0b01001);
    assert_eq!(unmap(&two, second.handle, PLACE + 1), 0);
    assert_eq!(flags(&one, 8), 0b00001);
    assert!(machine.holds.borrow().is_empty());
    assert_eq!(one.state.grants.active.lock().uses(), 0);
    for handle in [2, 255, 256, 1 << 20, u32::MAX] {
        assert_eq!(unmap(&two, handle, PLACE), -4);
        assert_eq!(unmap(&two, handle, 0), -4);
    }
}

#[test]
fn what_cannot_be_mapped_has_a_status() {
    let machine = Machine::new(3, 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    grant(&one, 8, 1, 2, RAM_GFN);
    grant(&one, 9, 5, 2, RAM_GFN);
    grant(&one, 10, 1, 3, RAM_GFN);
    grant(&one, 11, 1, 2, 0x7777);
    grant(&one, 12, 1, 2, super::support::CONSOLE_GFN);
    for (reference, flags) in [
        (13, 0),
        (14, 2),
        (15, 3),
        (16, 0x101),
        (17, 0x21),
        (18, 0x81),
    ] {
        grant(&one, reference, flags, 2, RAM_GFN);
    }
    for (dom, reference, flags, gfn, status) in [
        (1, 8, 0, PLACE, -3),
        (1, 8, 4, PLACE, -3),
        (1, 8, 1, PLACE, -1),
        (1, 8, 3, PLACE, -1),
        (1, 8, 0xa, PLACE, -1),
        (1, 8, 0x12, PLACE, -1),
        (1, 8, 0x1_0002, PLACE, -1),
        (9, 8, 2, PLACE, -2),
        (DomainId::SELF.0, 8, 2, PLACE, -2),
        (1, 512, 2, PLACE, -3),
        (1, u32::MAX, 2, PLACE, -3),
        (1, 9, 2, PLACE, -1),
        (1, 10, 2, PLACE, -1),
        (1, 11, 2, PLACE, -9),
        (1, 12, 2, PLACE, -9),
        (1, 13, 2, PLACE, -1),
        (1, 14, 2, PLACE, -1),
        (1, 15, 2, PLACE, -1),
        (1, 16, 2, PLACE, -1),
        (1, 17, 2, PLACE, -1),
        (1, 18, 2, PLACE, -1),
        (1, 8, 2, 1 << 40, -1),
        (2, 8, 2, PLACE, -1),
    ] {
        let result = map(&two, dom, reference, flags, gfn).map(|item| item.handle);
        assert_eq!(result, Err(status), "{dom} {reference} {flags:#x} {gfn:#x}");
    }
    assert!(machine.holds.borrow().is_empty());
    assert_eq!(one.state.grants.active.lock().uses(), 0);
    for reference in 8..19 {
        assert_eq!(flags(&one, reference) & 0b11000, 0, "{reference}");
    }
    // One user at a time.
    let mapped = map(&two, 1, 8, READ_ONLY, PLACE).unwrap();
    entry(&one, 8).store(1 | 3 << 16 | RAM_GFN << 32, SeqCst);
    let other = machine.guest(3);
    assert_eq!(map(&other, 1, 8, READ_ONLY, PLACE).map(|_| ()), Err(-1));
    // And what the entry says now does not matter to who uses it.
    let again = map(&two, 1, 8, READ_ONLY, PLACE + 1).unwrap();
    assert_eq!(again.dev_bus_addr, mapped.dev_bus_addr);
}

#[test]
fn who_is_no_peer_is_refused() {
    let machine = Machine::with(2, 1, |config| config.peers = abi::DomainSet::NONE);
    let (one, two) = (machine.guest(1), machine.guest(2));
    grant(&one, 8, 1, 2, RAM_GFN);
    assert_eq!(map(&two, 1, 8, READ_WRITE, PLACE).map(|_| ()), Err(-8));
    assert_eq!(map(&two, 9, 8, READ_WRITE, PLACE).map(|_| ()), Err(-2));
    let own = side(DomainId::SELF, RAM_GFN, 0);
    assert_eq!(copy(&two, 1, side(DomainId(1), 8, 0), own, 8), -8);
    grant(&two, 8, 1, 2, RAM_GFN);
    assert!(map(&two, 2, 8, READ_WRITE, PLACE).is_ok(), "its own");
}

#[test]
fn uses_and_handles_have_limits() {
    let machine = Machine::with(2, 1, |config| config.max_maptrack_frames = 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    grant(&one, 8, 1, 2, RAM_GFN);
    grant(&one, 9, 1, 2, RAM_GFN);
    for number in 0..128 {
        map(&two, 1, 8, READ_WRITE, PLACE + number).unwrap();
    }
    assert_eq!(
        map(&two, 1, 8, READ_WRITE, PLACE + 500).map(|_| ()),
        Err(-1)
    );
    for number in 128..256 {
        map(&two, 1, 9, READ_ONLY, PLACE + number).unwrap();
    }
    assert_eq!(
        map(&two, 1, 9, READ_ONLY, PLACE + 500).map(|_| ()),
        Err(-13)
    );
    // Before the one page of places that there may be, and not when there may be no more.
    assert_eq!(two.physical.rooms.get(), 1);
    assert_eq!(unmap(&two, 77, PLACE + 77), 0);
    let item = map(&two, 1, 8, READ_WRITE, PLACE + 77).unwrap();
    assert_eq!(item.handle, 77);
    let frame = one.physical.frame(RAM_GFN).unwrap().get();
    assert_eq!(machine.holds.borrow()[&frame], 256);
    two.state.close_grants();
    while !two.state.release_maps(&machine) {}
    assert!(machine.holds.borrow().is_empty());
    assert_eq!(one.state.grants.active.lock().uses(), 0);
    assert_eq!(flags(&one, 8), 1);
}

#[test]
fn a_map_outlives_the_granter() {
    let machine = Machine::new(2, 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    grant(&one, 8, 1, 2, RAM_GFN);
    let mapped = map(&two, 1, 8, READ_WRITE, PLACE).unwrap();
    one.state.close_grants();
    // Between the two, it is still found.
    assert_eq!(map(&two, 1, 8, READ_WRITE, PLACE + 1).map(|_| ()), Err(-2));
    machine.dead.set(Some(DomainId(1)));
    assert_eq!(map(&two, 1, 8, READ_WRITE, PLACE + 1).map(|_| ()), Err(-2));
    assert_eq!(machine.holds.borrow().len(), 1);
    assert_eq!(unmap(&two, mapped.handle, PLACE), 0);
    assert!(machine.holds.borrow().is_empty());
}

#[test]
fn copies_go_from_and_to_grants() {
    let machine = Machine::new(2, 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    grant(&one, 8, 5, 2, RAM_GFN);
    grant(&one, 9, 1, 2, RAM_GFN + 1);
    let word = |guest: &Guest, gfn, offset| {
        let (_, page) = machine.page(guest.physical.frame(gfn).unwrap()).unwrap();
        page.u64(offset).unwrap().load(SeqCst)
    };
    let (_, page) = machine.page(one.physical.frame(RAM_GFN).unwrap()).unwrap();
    page.u64(64).unwrap().store(0x1122_3344_5566_7788, SeqCst);
    let own = |gfn, offset| side(DomainId::SELF, gfn, offset);
    let theirs = |reference, offset| side(DomainId(1), reference, offset);
    assert_eq!(copy(&two, 1, theirs(8, 64), own(RAM_GFN, 16), 8), 0);
    assert_eq!(word(&two, RAM_GFN, 16), 0x1122_3344_5566_7788);
    assert_eq!(copy(&two, 2, own(RAM_GFN, 17), theirs(9, 4095), 1), 0);
    assert_eq!(word(&one, RAM_GFN + 1, 4088), 0x77 << 56);
    assert_eq!(copy(&two, 3, theirs(8, 0), theirs(9, 0), 4096), 0);
    assert_eq!(copy(&two, 0, own(RAM_GFN, 0), own(RAM_GFN + 1, 0), 4096), 0);
    assert_eq!(word(&two, RAM_GFN + 1, 16), 0x1122_3344_5566_7788);
    for (flags, source, dest, length, status) in [
        (0, side(DomainId(9), 0, 0), own(0, 0), 0, 0),
        (0, side(DomainId(2), RAM_GFN, 0), own(RAM_GFN, 0), 1, -8),
        (1, theirs(8, 0), side(DomainId(1), RAM_GFN, 0), 1, -8),
        (1, side(DomainId(9), 8, 0), own(RAM_GFN, 0), 1, -2),
        (1, theirs(512, 0), own(RAM_GFN, 0), 1, -3),
        (1, theirs(10, 0), own(RAM_GFN, 0), 1, -1),
        (2, own(RAM_GFN, 0), theirs(8, 0), 1, -1),
        (1, theirs(8, 0), own(5, 0), 1, -9),
        (1, theirs(8, 4096), own(RAM_GFN, 0), 1, -10),
        (1, theirs(8, 0), own(RAM_GFN, 4000), 97, -10),
        (0, own(RAM_GFN, 65535), own(RAM_GFN, 0), 65535, -10),
    ] {
        assert_eq!(
            copy(&two, flags, source, dest, length),
            status,
            "{source:?} {dest:?}"
        );
    }
    assert_eq!(one.state.grants.active.lock().uses(), 0);
    assert_eq!(flags(&one, 8) | flags(&one, 9), 5);
    assert!(machine.holds.borrow().is_empty());
}

#[test]
fn lists_go_on_in_steps_and_stop_at_a_bad_pointer() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let size = size_of::<op::SwapGrantRef>() as u64;
    let count = 100;
    for number in 0..count {
        let swap = op::SwapGrantRef {
            ref_a: GrantRef(8 + number as u32),
            ref_b: GrantRef(9 + number as u32),
            status: 99,
            reserved: 0,
        };
        guest.put(BASE + number * size, &swap);
    }
    grant(&guest, 8, 1, 3, 0x1234);
    let result = guest.returns(GRANT_TABLE_OP, &[op::SWAP_GRANT_REF, BASE, count]);
    assert_eq!(result, 0);
    assert_eq!(entry(&guest, 8).load(SeqCst), 0);
    let expected = 1 | 3 << 16 | 0x1234 << 32;
    assert_eq!(entry(&guest, 8 + count as u32).load(SeqCst), expected);
    let end = BASE + super::support::SIZE - 2 * size;
    let swap = op::SwapGrantRef::default();
    guest.put(end, &swap);
    guest.put(end + size, &swap);
    for count in [3, i32::MAX as u64] {
        let result = guest.returns(GRANT_TABLE_OP, &[op::SWAP_GRANT_REF, end, count]);
        assert_eq!(result, -14);
    }
    assert_eq!(
        guest.returns(GRANT_TABLE_OP, &[op::COPY, 8, 0]),
        0,
        "nothing"
    );
}

#[test]
fn the_other_operations() {
    let machine = Machine::new(2, 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    let swap = |a, b| {
        let mut item = op::SwapGrantRef {
            ref_a: GrantRef(a),
            ref_b: GrantRef(b),
            status: 99,
            reserved: 0,
        };
        assert_eq!(one.with(GRANT_TABLE_OP, op::SWAP_GRANT_REF, &mut item), 0);
        item.status
    };
    grant(&one, 8, 1, 2, RAM_GFN);
    assert_eq!(
        [swap(512, 8), swap(8, 512), swap(8, 8), swap(512, 512)],
        [-3, -3, 0, -3]
    );
    let mapped = map(&two, 1, 8, READ_WRITE, PLACE).unwrap();
    assert_eq!([swap(8, 9), swap(9, 8), swap(8, 8)], [-12, -12, 0]);

    let flush = |guest: &Guest, address, offset, length, operation| {
        let mut item = op::CacheFlush {
            dev_bus_addr: address,
            offset,
            length,
            op: operation,
        };
        guest.with(GRANT_TABLE_OP, op::CACHE_FLUSH, &mut item)
    };
    let address = mapped.dev_bus_addr;
    assert_eq!(flush(&two, address, 64, 128, 1), 0);
    assert_eq!(flush(&one, address, 0, 4096, 2), 0);
    let flushed = [(address + 64, 128), (address, 4096)];
    assert_eq!(machine.flushes.take(), flushed);
    assert_eq!(flush(&two, address, 0, 0, 3), 0);
    assert_eq!(flush(&two, address, 0, 64, 0), 0);
    for (address, offset, length, operation) in [
        (address, 0, 64, 4),
        (address, 4096, 0, 1),
        (address, 1, 4096, 1),
        (0xdead_0000, 0, 64, 1),
        (one.physical.frame(RAM_GFN + 1).unwrap().get(), 0, 64, 1),
    ] {
        assert_eq!(flush(&two, address, offset, length, operation), -22);
    }
    assert!(machine.flushes.take().is_empty());

    let mut replace = op::UnmapAndReplace {
        host_addr: PLACE << 12,
        new_addr: 0x1000,
        handle: mapped.handle,
        ..Default::default()
    };
    let call = |item: &mut _| two.with(GRANT_TABLE_OP, op::UNMAP_AND_REPLACE, item);
    assert_eq!((call(&mut replace), replace.status), (0, -1));
    replace.new_addr = 0;
    assert_eq!((call(&mut replace), replace.status), (0, 0));
    assert_eq!((call(&mut replace), replace.status), (0, -4));

    let mut transfer = op::Transfer {
        frame: RAM_GFN,
        ..Default::default()
    };
    let call = |item: &mut _| one.with(GRANT_TABLE_OP, op::TRANSFER, item);
    assert_eq!((call(&mut transfer), transfer.status), (0, -1));
    transfer.frame = 5;
    assert_eq!((call(&mut transfer), transfer.status), (0, -9));

    for (nr_frames, dom, status) in [
        (1, DomainId::SELF, -1),
        (0, DomainId::SELF, 0),
        (1, DomainId(2), -8),
        (1, DomainId(9), -2),
    ] {
        let mut request = op::GetStatusFrames {
            nr_frames,
            dom,
            status: 99,
            frame_list: SCRATCH,
        };
        let result = one.with(GRANT_TABLE_OP, op::GET_STATUS_FRAMES, &mut request);
        assert_eq!((result, request.status), (0, status));
    }
    let console = entry(&one, op::RESERVED_CONSOLE.0).load(SeqCst);
    let expected = 1 | u64::from(DomainId::XEN.0) << 16 | super::support::CONSOLE_GFN << 32;
    assert_eq!(console, expected);
}

/// A guest that changes its entry all the time costs a bounded number of tries, and is ended if the end of a
/// use cannot be noted.
#[test]
fn an_entry_that_changes_all_the_time() {
    let machine = Machine::new(2, 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    grant(&one, 8, 1, 2, RAM_GFN);
    let word = entry(&one, 8);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                word.fetch_xor(4, SeqCst);
            }
        });
        let outcomes: Vec<_> = (0..2_000)
            .map(|_| {
                let mapped = map(&two, 1, 8, READ_ONLY, PLACE);
                mapped.map(|item| unmap(&two, item.handle, PLACE))
            })
            .collect();
        stop.store(true, SeqCst);
        let expected = [Ok(0), Err(-1)];
        assert!(outcomes.iter().all(|outcome| expected.contains(outcome)));
    });
    assert_eq!(flags(&one, 8) & !4, 1);
    assert_eq!(one.state.grants.active.lock().uses(), 0);
}

/// What an operator sees of it.
#[test]
fn grants_in_use_are_met_once_by_who_looks() {
    let machine = Machine::new(2, 1);
    let (granter, user) = (machine.guest(1), machine.guest(2));
    let look = || {
        let (mut place, mut found) = (0, Vec::new());
        while let Some((grant, next)) = granter.state.inspect_grant(place) {
            assert!(next > place);
            place = next;
            found.extend(grant);
        }
        found
    };
    grant(&granter, 300, 1, 2, RAM_GFN);
    assert_eq!(look(), []);
    let mapped = map(&user, 1, 300, READ_ONLY, PLACE).unwrap();
    let [found] = look()[..] else {
        panic!("{:?}", look());
    };
    assert_eq!((found.reference, found.user), (300, DomainId(2)));
    assert_eq!((found.readers, found.writers), (1, 0));
    assert_eq!(unmap(&user, mapped.handle, PLACE), 0);
    assert_eq!(look(), []);
}
