//! Grant tables: frames and entries (xen-arm-hypercalls section 10), and what other subjects need of them.

use crate::check::{Outcome, Trouble, check, equal, fail};
use crate::raw::{hypercall, pointer};
use runtime::abi::{DomainId, GrantRef, grant_table as op, hypercall as number};
use runtime::{grant, memory, xen};

pub(super) fn call<T>(command: u64, argument: &mut T, count: u64) -> i64 {
    hypercall(
        number::GRANT_TABLE_OP,
        [command, pointer(argument), count, 0, 0],
    )
}

/// This guest's own number: the one whose table it may ask about.
pub(crate) fn own_number() -> Result<DomainId, Trouble> {
    let is_own = |number: &u16| {
        let mut query = op::QuerySize {
            dom: DomainId(*number),
            ..Default::default()
        };
        call(op::QUERY_SIZE, &mut query, 1) == 0 && query.status == op::STATUS_OKAY
    };
    let own = (1..256).find(is_own);
    own.map(DomainId)
        .ok_or_else(|| Trouble::Fail("no number is this guest's".into()))
}

/// An address in the window, behind the pages that other tests use, where nothing is.
pub(crate) fn place(number: u64) -> Result<u64, Trouble> {
    let (base, _) = xen::window().ok_or(Trouble::Skip("no window"))?;
    Ok(base + (0x300 + number) * memory::PAGE)
}

/// A free page of RAM.
pub(crate) fn page(number: u64) -> Result<u64, Trouble> {
    let spare = memory::spare();
    let at = spare.start.next_multiple_of(memory::PAGE) + number * memory::PAGE;
    check!(at + memory::PAGE <= spare.end, "nothing to spare");
    Ok(at)
}

/// Grants a page; the table is there.
pub(crate) fn give(to: DomainId, at: u64, read_only: bool) -> Result<GrantRef, Trouble> {
    if let Err(error) = grant::map(1) {
        fail!("mapping a frame of the table: {error}");
    }
    let gfn = (at / memory::PAGE) as u32;
    let given = grant::give(to, gfn, read_only);
    given.ok_or_else(|| Trouble::Fail("no free entry".into()))
}

pub(crate) fn map_at(
    dom: DomainId,
    gref: GrantRef,
    flags: op::MapFlags,
    host_addr: u64,
) -> Result<u32, i16> {
    let mut item = op::MapGrantRef {
        host_addr,
        flags: flags.bits(),
        gref,
        dom,
        status: 99,
        ..Default::default()
    };
    match (call(op::MAP_GRANT_REF, &mut item, 1), item.status) {
        (0, 0) => Ok(item.handle),
        (0, status) => Err(status),
        (error, _) => Err(error as i16),
    }
}

pub(crate) fn unmap_at(handle: u32, host_addr: u64) -> i16 {
    let mut item = op::UnmapGrantRef {
        host_addr,
        handle,
        status: 99,
        ..Default::default()
    };
    match call(op::UNMAP_GRANT_REF, &mut item, 1) {
        0 => item.status,
        error => error as i16,
    }
}

/// Copies from a grant to a page of this guest's own, or the other way.
pub(crate) fn copy(
    dom: DomainId,
    gref: GrantRef,
    own: u64,
    to_grant: bool,
    (offset, len): (u16, u16),
) -> i16 {
    let grant = op::CopyPointer {
        frame_or_ref: u64::from(gref.0),
        domid: dom,
        offset,
        reserved: 0,
    };
    let own = op::CopyPointer {
        frame_or_ref: own / memory::PAGE,
        domid: DomainId::SELF,
        offset,
        reserved: 0,
    };
    let (source, dest, flags) = if to_grant {
        (own, grant, op::CopyFlags::DEST_GREF)
    } else {
        (grant, own, op::CopyFlags::SOURCE_GREF)
    };
    let mut item = op::GrantCopy {
        source,
        dest,
        len,
        flags: flags.bits(),
        status: 99,
        reserved: 0,
    };
    match call(op::COPY, &mut item, 1) {
        0 => item.status,
        error => error as i16,
    }
}

/// Four frames, the highest first; the table has grown; every entry can be read and written.
pub(crate) fn map() -> Outcome {
    if let Err(error) = grant::map(4) {
        fail!("mapping 4 frames: {error}");
    }
    match grant::size() {
        Ok(size) => check!(size.frames >= 4, "{size:?} after mapping 4"),
        Err(error) => fail!("query_size: {error}"),
    }
    for reference in (op::FIRST_FREE.0..4 * op::ENTRIES_PER_FRAME as u32).step_by(61) {
        equal!(
            grant::read(GrantRef(reference)),
            Some(0),
            "entry {reference}"
        );
    }
    equal!(
        grant::read(GrantRef(4 * 512)),
        None,
        "entry behind the table"
    );
    Ok(())
}

pub(crate) fn entries() -> Outcome {
    if let Err(error) = grant::map(1) {
        fail!("mapping a frame: {error}");
    }
    let Some(first) = grant::give(DomainId(0), 0x40123, false) else {
        fail!("no free entry")
    };
    let Some(second) = grant::give(DomainId(7), 0x40124, true) else {
        fail!("no second entry")
    };
    check!(first != second, "the same entry twice");
    equal!(grant::read(first), Some(0x0004_0123_0000_0001), "entry");
    equal!(
        grant::read(second),
        Some(0x0004_0124_0007_0005),
        "read-only entry"
    );
    check!(grant::revoke(first), "not revoked");
    check!(grant::revoke(second), "not revoked");
    equal!(grant::read(first), Some(0), "entry after it was revoked");
    Ok(())
}
