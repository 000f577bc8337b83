//! Grants in use (xen-arm-hypercalls section 10): mapped and copied by this guest itself. Between two guests: `between`.

mod race;

mod between;

pub(crate) use between::{give, use_grants};
pub(crate) use race::race;

use super::grants::{call, copy, give as grant_page, map_at, own_number, page, place, unmap_at};
use crate::check::{Outcome, Trouble, check, equal, fail};
use crate::raw::{hypercall, pointer, store64};
use runtime::abi::Errno::{Fault, Invalid, NoSys};
use runtime::abi::{DomainId, GrantRef, grant_table as op, hypercall as number, memory_op};
use runtime::exception::load64;
use runtime::{grant, memory};

const BOTH: op::MapFlags = op::MapFlags::HOST_MAP;
const READ: op::MapFlags = op::MapFlags::HOST_MAP.union(op::MapFlags::READ_ONLY);
const IN_USE: u64 = 0b11000;

fn word(address: u64, wanted: u64, what: &str) -> Outcome {
    match load64(address) {
        Ok(found) if found == wanted => Ok(()),
        Ok(found) => fail!("{what}: {address:#x} holds {found:#x}, not {wanted:#x}"),
        Err(_) => fail!("{what}: nothing at {address:#x}"),
    }
}

fn write(address: u64, value: u64) -> Outcome {
    check!(store64(address, value).is_ok(), "store to {address:#x}");
    Ok(())
}

fn mapped(result: Result<u32, i16>) -> Result<u32, Trouble> {
    result.map_err(|status| Trouble::Fail(alloc::format!("map: status {status}")))
}

/// A page at two places; its entry says so, and cannot be revoked meanwhile.
pub(crate) fn maps() -> Outcome {
    let (own, at, here) = (own_number()?, page(0)?, place(0)?);
    write(at + 8, 0x1234)?;
    let reference = grant_page(own, at, false)?;
    let handle = mapped(map_at(own, reference, BOTH, here))?;
    word(here + 8, 0x1234, "through the map")?;
    write(here + 16, 0x5678)?;
    word(at + 16, 0x5678, "written through the map")?;
    check!(
        grant::read(reference).unwrap_or(0) & IN_USE == IN_USE,
        "not in use"
    );
    check!(!grant::revoke(reference), "revoked while it is mapped");
    equal!(
        unmap_at(handle, here + memory::PAGE),
        -1,
        "unmap at the wrong place"
    );
    equal!(unmap_at(handle, 0), 0, "unmap of nothing");
    equal!(unmap_at(handle, here), 0, "unmap");
    check!(load64(here).is_err(), "still mapped");
    equal!(unmap_at(handle, here), -4, "unmap again");
    for forged in [handle + 1, 0x1000, u32::MAX] {
        equal!(unmap_at(forged, here), -4, "handle {forged:#x}");
    }
    check!(grant::revoke(reference), "not revoked");
    equal!(
        map_at(own, reference, BOTH, here),
        Err(-1),
        "map of what is revoked"
    );
    Ok(())
}

pub(crate) fn read_only() -> Outcome {
    let (own, at, here) = (own_number()?, page(0)?, place(0)?);
    write(at, 0x77)?;
    let reference = grant_page(own, at, true)?;
    equal!(map_at(own, reference, BOTH, here), Err(-1), "map to write");
    let handle = mapped(map_at(own, reference, READ, here))?;
    word(here, 0x77, "through the map")?;
    check!(store64(here, 1).is_err(), "a read-only map was written");
    word(at, 0x77, "after the store")?;
    equal!(unmap_at(handle, here), 0, "unmap");
    check!(grant::revoke(reference), "not revoked");
    Ok(())
}

/// Over RAM of the guest's own, which comes back by populate_physmap.
pub(crate) fn over_ram() -> Outcome {
    let (own, at, over) = (own_number()?, page(0)?, page(1)?);
    write(at, 0xa)?;
    write(over, 0xb)?;
    let reference = grant_page(own, at, false)?;
    let handle = mapped(map_at(own, reference, BOTH, over))?;
    word(over, 0xa, "over RAM")?;
    equal!(unmap_at(handle, over), 0, "unmap");
    check!(load64(over).is_err(), "no hole");
    equal!(balloon(memory_op::POPULATE_PHYSMAP, over), 1, "populate");
    word(over, 0, "filled again")?;
    // A page that is mapped elsewhere is held when it is given up, and its content stays. It cannot be
    // taken again meanwhile.
    let here = place(0)?;
    let handle = mapped(map_at(own, reference, BOTH, here))?;
    equal!(
        balloon(memory_op::DECREASE_RESERVATION, at),
        1,
        "giving up what is granted"
    );
    equal!(
        balloon(memory_op::POPULATE_PHYSMAP, at),
        0,
        "the page that is held"
    );
    equal!(
        balloon(memory_op::DECREASE_RESERVATION, over),
        1,
        "giving up another"
    );
    equal!(
        balloon(memory_op::POPULATE_PHYSMAP, at),
        1,
        "that one in its place"
    );
    word(at, 0, "the other")?;
    write(at, 0xc)?;
    word(here, 0xa, "what was granted")?;
    equal!(unmap_at(handle, here), 0, "unmap");
    equal!(
        balloon(memory_op::POPULATE_PHYSMAP, over),
        1,
        "what was held"
    );
    word(over, 0, "what was held")?;
    check!(grant::revoke(reference), "not revoked");
    Ok(())
}

/// Gives up or fills the page at an address; the number of pages done.
fn balloon(command: u64, at: u64) -> i64 {
    let gfn = [at / memory::PAGE];
    let mut request = memory_op::Reservation {
        extent_start: gfn.as_ptr() as u64,
        nr_extents: 1,
        domid: DomainId::SELF,
        ..Default::default()
    };
    hypercall(number::MEMORY_OP, [command, pointer(&mut request), 0, 0, 0])
}

pub(crate) fn copies() -> Outcome {
    let (own, at, other) = (own_number()?, page(0)?, page(1)?);
    for offset in (0..memory::PAGE).step_by(8) {
        write(at + offset, offset | 0x55_0000)?;
        write(other + offset, 0)?;
    }
    let reference = grant_page(own, at, false)?;
    equal!(
        copy(own, reference, other, false, (0, 4096)),
        0,
        "a page from a grant"
    );
    for offset in (0..memory::PAGE).step_by(8) {
        word(other + offset, offset | 0x55_0000, "copied")?;
        write(other + offset, !offset)?;
    }
    equal!(
        copy(DomainId::SELF, reference, other, true, (8, 24)),
        0,
        "24 bytes to a grant"
    );
    word(at, 0x55_0000, "before")?;
    word(at + 8, !8, "first")?;
    word(at + 24, !24, "last")?;
    word(at + 32, 0x55_0020, "behind")?;
    equal!(
        copy(own, reference, other, true, (4095, 1)),
        0,
        "the last byte"
    );
    word(at + 4088, 0xff00_0000_0055_0ff8, "the last byte")?;
    check!(grant::revoke(reference), "still in use");
    Ok(())
}

pub(crate) fn copy_edges() -> Outcome {
    let (own, at, other) = (own_number()?, page(0)?, page(1)?);
    let reference = grant_page(own, at, true)?;
    let nobody = DomainId(0x7000);
    equal!(
        copy(own, reference, other, false, (1, 4096)),
        -10,
        "across the page's end"
    );
    equal!(
        copy(own, reference, other, false, (u16::MAX, u16::MAX)),
        -10,
        "far across"
    );
    equal!(copy(own, reference, other, false, (0, 0)), 0, "nothing");
    equal!(
        copy(nobody, reference, other, false, (0, 1)),
        -2,
        "from nobody"
    );
    equal!(
        copy(own, reference, other, true, (0, 1)),
        -1,
        "to a read-only grant"
    );
    equal!(
        copy(own, GrantRef(1 << 30), other, false, (0, 1)),
        -3,
        "reference 2^30"
    );
    equal!(
        copy(own, reference, 0x0300_2000, false, (0, 1)),
        -9,
        "to the GIC"
    );
    equal!(copy(own, reference, 0, false, (0, 1)), -9, "to nothing");
    check!(grant::revoke(reference), "still in use");
    equal!(
        copy(own, reference, other, false, (0, 1)),
        -1,
        "of what is revoked"
    );
    let console = grant_page(own, 0x3900_0000, false)?;
    equal!(
        copy(own, console, other, false, (0, 1)),
        -9,
        "of the hypervisor's page"
    );
    check!(grant::revoke(console), "still in use");
    Ok(())
}

pub(crate) fn refusals() -> Outcome {
    let (own, at, here) = (own_number()?, page(0)?, place(0)?);
    let reference = grant_page(own, at, false)?;
    let with = |bits| op::MapFlags::from_bits_retain(bits);
    for (flags, status) in [
        (0, -3),
        (4, -3),
        (1, -1),
        (3, -1),
        (0xa, -1),
        (0x12, -1),
        (0x1_0002, -1),
    ] {
        equal!(
            map_at(own, reference, with(flags), here),
            Err(status),
            "flags {flags:#x}"
        );
    }
    for (dom, status) in [
        (DomainId::SELF, -2),
        (DomainId(0x7000), -2),
        (DomainId::XEN, -2),
    ] {
        equal!(map_at(dom, reference, BOTH, here), Err(status), "{dom:?}");
    }
    equal!(
        map_at(own, GrantRef(u32::MAX), BOTH, here),
        Err(-3),
        "reference 2^32 - 1"
    );
    for bad in [0, 0x300_2000, 1 << 40, u64::MAX] {
        equal!(map_at(own, reference, BOTH, bad), Err(-1), "at {bad:#x}");
    }
    check!(grant::revoke(reference), "still in use");
    let other = grant_page(DomainId(0x7000), at, false)?;
    equal!(map_at(own, other, BOTH, here), Err(-1), "another's grant");
    check!(grant::revoke(other), "still in use");
    let nothing = grant_page(own, 0x1000, false)?;
    equal!(
        map_at(own, nothing, BOTH, here),
        Err(-9),
        "a page that is not there"
    );
    check!(grant::revoke(nothing), "still in use");
    Ok(())
}

/// Long lists are done to the end; counts that make no sense, and lists that are not there, are refused.
pub(crate) fn lists() -> Outcome {
    const COUNT: usize = 100;
    let (own, at) = (own_number()?, page(0)?);
    let reference = grant_page(own, at, false)?;
    let mut maps: [op::MapGrantRef; COUNT] = core::array::from_fn(|_| op::MapGrantRef {
        flags: BOTH.bits(),
        gref: reference,
        dom: own,
        status: 99,
        ..Default::default()
    });
    for (number, item) in maps.iter_mut().enumerate() {
        item.host_addr = place(number as u64)?;
    }
    equal!(
        call(op::MAP_GRANT_REF, &mut maps, COUNT as u64),
        0,
        "100 maps"
    );
    check!(maps.iter().all(|item| item.status == 0), "a map failed");
    write(at, 0x99)?;
    word(maps[COUNT - 1].host_addr, 0x99, "the last map")?;
    let mut unmaps = maps.map(|item| op::UnmapGrantRef {
        host_addr: item.host_addr,
        handle: item.handle,
        status: 99,
        ..Default::default()
    });
    equal!(
        call(op::UNMAP_GRANT_REF, &mut unmaps, COUNT as u64),
        0,
        "100 unmaps"
    );
    check!(
        unmaps.iter().all(|item| item.status == 0),
        "an unmap failed"
    );
    check!(grant::revoke(reference), "still in use");
    for command in [
        op::MAP_GRANT_REF,
        op::UNMAP_GRANT_REF,
        op::COPY,
        op::SWAP_GRANT_REF,
    ] {
        let list = |at, count| hypercall(number::GRANT_TABLE_OP, [command, at, count, 0, 0]);
        equal!(list(8, 0), 0, "{command}: none");
        equal!(list(8, 1), Fault.as_return(), "{command}: nowhere");
        equal!(
            list(u64::MAX - 7, 2),
            Fault.as_return(),
            "{command}: at the end"
        );
        equal!(list(8, 1 << 31), Invalid.as_return(), "{command}: 2^31");
        equal!(
            list(8, i32::MAX as u64),
            Fault.as_return(),
            "{command}: 2^31 - 1"
        );
    }
    Ok(())
}

pub(crate) fn others() -> Outcome {
    let (own, at, here) = (own_number()?, page(0)?, place(0)?);
    let one = grant_page(own, at, false)?;
    let other = grant_page(DomainId(7), page(1)?, true)?;
    let words = (grant::read(one), grant::read(other));
    let mut swap = op::SwapGrantRef {
        ref_a: one,
        ref_b: other,
        status: 99,
        reserved: 0,
    };
    equal!(
        (call(op::SWAP_GRANT_REF, &mut swap, 1), swap.status),
        (0, 0),
        "swap"
    );
    equal!(
        (grant::read(other), grant::read(one)),
        words,
        "entries after the swap"
    );
    equal!(
        (call(op::SWAP_GRANT_REF, &mut swap, 1), swap.status),
        (0, 0),
        "swap back"
    );
    let mut item = op::MapGrantRef {
        host_addr: here,
        flags: BOTH.bits(),
        gref: one,
        dom: own,
        ..Default::default()
    };
    equal!(
        (call(op::MAP_GRANT_REF, &mut item, 1), item.status),
        (0, 0),
        "map"
    );
    equal!(
        (call(op::SWAP_GRANT_REF, &mut swap, 1), swap.status),
        (0, -12),
        "swap in use"
    );
    let flush = |address, length, operation| {
        let mut flush = op::CacheFlush {
            dev_bus_addr: address,
            offset: 64,
            length,
            op: operation,
        };
        call(op::CACHE_FLUSH, &mut flush, 1)
    };
    equal!(flush(item.dev_bus_addr, 128, 3), 0, "cache_flush");
    equal!(
        flush(item.dev_bus_addr, 4096, 1),
        Invalid.as_return(),
        "cache_flush across the end"
    );
    equal!(
        flush(item.dev_bus_addr, 64, 4),
        Invalid.as_return(),
        "cache_flush of another kind"
    );
    equal!(
        flush(0x10_0000_0000, 64, 1),
        Invalid.as_return(),
        "cache_flush of no memory"
    );
    let mut replace = op::UnmapAndReplace {
        host_addr: here,
        new_addr: at,
        handle: item.handle,
        ..Default::default()
    };
    equal!(
        (call(op::UNMAP_AND_REPLACE, &mut replace, 1), replace.status),
        (0, -1),
        "replace"
    );
    replace.new_addr = 0;
    equal!(
        (call(op::UNMAP_AND_REPLACE, &mut replace, 1), replace.status),
        (0, 0),
        "unmap"
    );
    check!(grant::revoke(one) && grant::revoke(other), "still in use");
    let mut transfer = op::Transfer {
        frame: at / memory::PAGE,
        domid: own,
        ..Default::default()
    };
    equal!(
        (call(op::TRANSFER, &mut transfer, 1), transfer.status),
        (0, -1),
        "transfer"
    );
    let mut frames = op::GetStatusFrames {
        nr_frames: 1,
        dom: DomainId::SELF,
        ..Default::default()
    };
    equal!(
        (call(op::GET_STATUS_FRAMES, &mut frames, 1), frames.status),
        (0, -1),
        "status frames"
    );
    let mut dump = op::DumpTable::default();
    equal!(
        call(op::DUMP_TABLE, &mut dump, 1),
        NoSys.as_return(),
        "dump_table"
    );
    Ok(())
}
