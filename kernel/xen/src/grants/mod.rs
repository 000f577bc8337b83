//! `grant_table_op`, version 1 (`xen/include/public/grant_table.h`).
//!
//! * [`active`]: which entries of a domain's own table are in use.
//! * [`maptrack`]: what a domain has mapped of others.
//! * [`map`], [`copy`]: the two uses of a grant.
//! * [`table`]: size, frames and version of the table.
//!
//! An item's status says what became of it; the call's result is an error only where its argument cannot be
//! read or written. Long lists go on in further steps.

mod active;
mod copy;
mod map;
mod maptrack;
mod table;

use crate::hypercall::Arguments;
use crate::{Caller, SharedPage, XenState, host};
use abi::grant_table as op;
use abi::{DomainId, Errno, PAGE_SIZE};
use active::Active;
use core::mem::offset_of;
pub use map::Broken;
use maptrack::Maptrack;
use memory::{Pa, Va};
use sync::SpinLock;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Items before a call is restarted.
const STEP: u32 = 16;

/// Bits of a command that name it; those above carry where a call goes on, for [`op::CACHE_FLUSH`] alone.
const COMMAND_MASK: u32 = 0xfff;
const PROGRESS_SHIFT: u32 = 12;

/// A domain's grants, both ways. What it has mapped comes before everything: it is locked while a frame is mapped or
/// unmapped, for which the active entries of the granter are looked at, and the places of the domain's own pages.
pub(crate) struct GrantTable {
    pub(crate) active: SpinLock<Active>,
    maps: SpinLock<Maptrack>,
}

impl GrantTable {
    /// `None` if there is no memory.
    pub(crate) fn new(first: SharedPage, frames: usize, maptrack_frames: u32) -> Option<Self> {
        Some(Self {
            active: SpinLock::new(Active::new(first, frames)?),
            maps: SpinLock::new(Maptrack::new(maptrack_frames)),
        })
    }

    /// Writes a reserved entry: what `domain` serves is in the guest's page `gfn`.
    pub(crate) fn seed(&self, reference: op::GrantRef, domain: DomainId, gfn: u64) {
        if let Ok(gfn) = u32::try_from(gfn) {
            self.active.lock().seed(reference, domain, gfn);
        }
    }
}

/// The domain with this number, the caller too; no other name for it.
fn real_peer<C: Caller>(caller: &C, id: DomainId) -> Option<&XenState> {
    let own = caller.state();
    if id == own.id() {
        return Some(own);
    }
    caller.peer(id)
}

#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, arguments: &mut Arguments) -> Result<i64, Errno> {
    let [cmd, argument, count, ..] = *arguments;
    let (cmd, count) = (cmd as u32, count as u32);
    if count > i32::MAX as u32 {
        return Err(Errno::Invalid);
    }
    let command = u64::from(cmd & COMMAND_MASK);
    if cmd > COMMAND_MASK && command != op::CACHE_FLUSH {
        return Err(Errno::Invalid);
    }
    match command {
        op::COPY => each(caller, arguments, size_of::<op::GrantCopy>(), copy_item),
        op::MAP_GRANT_REF => each(caller, arguments, size_of::<op::MapGrantRef>(), map_item),
        op::UNMAP_GRANT_REF => each(
            caller,
            arguments,
            size_of::<op::UnmapGrantRef>(),
            unmap_item,
        ),
        op::UNMAP_AND_REPLACE => each(
            caller,
            arguments,
            size_of::<op::UnmapAndReplace>(),
            replace_item,
        ),
        op::SWAP_GRANT_REF => each(
            caller,
            arguments,
            size_of::<op::SwapGrantRef>(),
            |caller, at| {
                host::update(caller, at, |item: &mut op::SwapGrantRef| {
                    let mut active = caller.state().grants.active.lock();
                    item.status = active.swap(item.ref_a, item.ref_b);
                })
            },
        ),
        op::TRANSFER => each(
            caller,
            arguments,
            size_of::<op::Transfer>(),
            |caller, at| {
                host::update(caller, at, |item: &mut op::Transfer| {
                    // Memory of translated guests cannot be given away, as on Xen.
                    item.status = match caller.frame(caller.state().id(), item.frame) {
                        Some(_) => op::STATUS_GENERAL_ERROR,
                        None => op::STATUS_BAD_PAGE,
                    };
                })
            },
        ),
        op::CACHE_FLUSH => cache_flush(caller, arguments),
        _ => table::call(caller, command, argument, count),
    }
}

/// A list of one item, of a command that drivers use all the time: neither the list nor the table of commands is
/// needed for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OneGrant {
    /// `GNTTABOP_map_grant_ref`.
    Map,
    /// `GNTTABOP_unmap_grant_ref`.
    Unmap,
    /// `GNTTABOP_copy`.
    Copy,
}

impl OneGrant {
    /// Whether a `GNTTABOP_*` with this command and count is one.
    #[inline]
    #[must_use]
    pub const fn of(command: u64, count: u64) -> Option<Self> {
        if count as u32 != 1 {
            return None;
        }
        match command as u32 as u64 {
            op::COPY => Some(Self::Copy),
            op::MAP_GRANT_REF => Some(Self::Map),
            op::UNMAP_GRANT_REF => Some(Self::Unmap),
            _ => None,
        }
    }

    /// What [`hypercall`](crate::hypercall) does with it; the item is at `at`.
    ///
    /// # Errors
    /// [`Errno::Fault`] if the item cannot be read or written.
    #[inline(always)]
    pub fn serve<C: Caller>(self, caller: &C, at: u64) -> Result<(), Errno> {
        match self {
            Self::Copy => {
                const RESULT: usize = offset_of!(op::GrantCopy, len);
                at_its_place::<_, _, RESULT>(caller, at, copy::copy, copy_item)
            }
            Self::Map => {
                const RESULTS: usize = offset_of!(op::MapGrantRef, dom);
                at_its_place::<_, _, RESULTS>(caller, at, map_one, map_item)
            }
            Self::Unmap => {
                const RESULT: usize = offset_of!(op::UnmapGrantRef, handle);
                at_its_place::<_, _, RESULT>(caller, at, unmap_one, unmap_item)
            }
        }
    }
}

/// Serves an item where one look finds it, and writes it back from the byte `RESULT` on; by `elsewhere` if it lies otherwise.
#[inline(always)]
fn at_its_place<C: Caller, T: FromBytes + IntoBytes + Immutable, const RESULT: usize>(
    caller: &C,
    at: u64,
    serve: impl FnOnce(&C, &mut T),
    elsewhere: impl FnOnce(&C, u64) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let Some(place) = caller.place(Va::new(at), size_of::<T>())? else {
        return elsewhere(caller, at);
    };
    let mut item = host::read_at(caller, place);
    serve(caller, &mut item);
    host::write_at::<_, RESULT>(caller, place, &item);
    Ok(())
}

#[inline(always)]
fn map_one<C: Caller>(caller: &C, item: &mut op::MapGrantRef) {
    map::map(caller, item);
    // Out here, where nothing has to be kept for it alone.
    if caller.is_traced() {
        map::trace_map(caller, item);
    }
}

#[inline(always)]
fn unmap_one<C: Caller>(caller: &C, item: &mut op::UnmapGrantRef) {
    if caller.is_traced() {
        map::trace_unmap(caller, item.handle);
    }
    item.status = map::unmap(caller, item.handle, item.host_addr, 0);
}

// For longer lists, and for items wherever they are.

#[inline(never)]
fn copy_item<C: Caller>(caller: &C, at: u64) -> Result<(), Errno> {
    host::update(caller, at, |item| copy::copy(caller, item))
}

#[inline(never)]
fn map_item<C: Caller>(caller: &C, at: u64) -> Result<(), Errno> {
    host::update(caller, at, |item| map_one(caller, item))
}

#[inline(never)]
fn unmap_item<C: Caller>(caller: &C, at: u64) -> Result<(), Errno> {
    host::update(caller, at, |item| unmap_one(caller, item))
}

#[inline(never)]
fn replace_item<C: Caller>(caller: &C, at: u64) -> Result<(), Errno> {
    host::update(caller, at, |item: &mut op::UnmapAndReplace| {
        if caller.is_traced() {
            map::trace_unmap(caller, item.handle);
        }
        item.status = map::replace(caller, item.handle, item.host_addr, item.new_addr);
    })
}

/// Serves the items of a list, each of `size` bytes, a step of them; `serve` is given where one is.
#[inline(never)]
fn each<C: Caller>(
    caller: &C,
    arguments: &mut Arguments,
    size: usize,
    serve: fn(&C, u64) -> Result<(), Errno>,
) -> Result<i64, Errno> {
    let [_, at, count, ..] = arguments;
    *count = u64::from(*count as u32);
    for _ in 0..STEP {
        if *count == 0 {
            return Ok(0);
        }
        serve(caller, *at)?;
        next(at, count, size);
    }
    match *count {
        0 => Ok(0),
        _ => Err(Errno::Restart),
    }
}

fn next(at: &mut u64, count: &mut u64, size: usize) {
    *at = at.wrapping_add(size as u64);
    *count = count.saturating_sub(1);
}

/// `GNTTABOP_cache_flush`: one item, or one page of the caller's maps that is looked through for it, a step.
/// Invalidating cleans as well, as it does for a guest's own instructions (DDI 0487, D7.5.9).
fn cache_flush<C: Caller>(caller: &C, arguments: &mut Arguments) -> Result<i64, Errno> {
    let [cmd, at, count, ..] = arguments;
    if *count as u32 == 0 {
        return Ok(0);
    }
    let item: op::CacheFlush = host::read(caller, *at)?;
    let progress = (*cmd as u32) >> PROGRESS_SHIFT;
    if flush_one(caller, &item, progress as usize)? {
        *cmd = op::CACHE_FLUSH;
        next(at, count, size_of::<op::CacheFlush>());
        if *count as u32 == 0 {
            return Ok(0);
        }
    } else {
        *cmd = op::CACHE_FLUSH | u64::from(progress.wrapping_add(1)) << PROGRESS_SHIFT;
    }
    Err(Errno::Restart)
}

/// `false` if the next page of the caller's maps is to be looked through.
fn flush_one<C: Caller>(caller: &C, item: &op::CacheFlush, page: usize) -> Result<bool, Errno> {
    const CLEAN_AND_INVALIDATE: u32 = 0b11;
    let end = usize::from(item.offset).wrapping_add(usize::from(item.length));
    if usize::from(item.offset) >= PAGE_SIZE
        || end > PAGE_SIZE
        || item.op & !CLEAN_AND_INVALIDATE != 0
    {
        return Err(Errno::Invalid);
    }
    if item.length == 0 || item.op == 0 {
        return Ok(true);
    }
    let frame = Pa::new(item.dev_bus_addr).align_down(PAGE_SIZE as u64);
    let owner = caller.owner(frame).ok_or(Errno::Invalid)?;
    let own = caller.state();
    if owner != own.id() {
        let maps = own.grants.maps.lock().page_maps(page, frame);
        if !maps.ok_or(Errno::Invalid)? {
            return Ok(false);
        }
    }
    if let Some(start) = frame.checked_add(u64::from(item.offset)) {
        caller.flush(start, u64::from(item.length));
    }
    Ok(true)
}
