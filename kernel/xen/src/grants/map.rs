//! Mapping granted frames, and the end of it. A map holds the granted frame: its domain may take it out of its
//! own memory, or end, and the frame stays what it is until the map is gone.

use super::active::{Access, frame_at};
use super::maptrack::{Found, Map};
use super::{GrantTable, real_peer};
use crate::{Caller, Host, Replaced, Traced, XenState};
use abi::DomainId;
use abi::grant_table::{self as op, MapFlags};
use memory::{Ipa, Pa};

/// Maps undone in a step when a domain ends.
const RELEASE_STEP: u32 = 32;
/// The same for maps of its frames in another domain, and for places that are looked at.
const BREAK_STEP: u32 = 8;
const BREAK_SCAN: u32 = 256;

/// `GNTTABOP_map_grant_ref`, one item.
#[inline(always)]
pub(super) fn map<C: Caller>(caller: &C, item: &mut op::MapGrantRef) {
    item.status = match try_map(caller, item) {
        Ok((handle, frame)) => {
            item.handle = handle;
            item.dev_bus_addr = frame.get();
            op::STATUS_OKAY
        }
        Err(status) => status,
    };
}

/// Tells of an item that was served, if it went well.
#[cold]
#[inline(never)]
pub(super) fn trace_map<C: Caller>(caller: &C, item: &op::MapGrantRef) {
    if item.status != op::STATUS_OKAY {
        return;
    }
    let user = caller.state().id();
    caller.trace(Traced::Mapped {
        user,
        granter: real_peer(caller, item.dom).map_or(user, XenState::id),
        reference: item.gref.0,
        gfn: Ipa::new(item.host_addr).frame_number(),
        write: item.flags & MapFlags::READ_ONLY.bits() == 0,
    });
}

/// Tells of what is mapped by a handle, and is to be so no more.
#[cold]
#[inline(never)]
pub(super) fn trace_unmap<C: Caller>(caller: &C, handle: u32) {
    let mut maps = caller.state().grants.maps.lock();
    let found = maps.find(handle).map(|found| found.map());
    drop(maps);
    let Some(map) = found else { return };
    caller.trace(Traced::Unmapped {
        user: caller.state().id(),
        granter: map.granter,
        reference: map.reference.0,
    });
}

/// Whether that is a map in the second stage and nothing else, to read and write or to read.
#[inline(always)]
const fn is_plain(flags: u32) -> bool {
    flags & !MapFlags::READ_ONLY.bits() == MapFlags::HOST_MAP.bits()
}

/// What is said of other flags before the grant is looked at.
#[cold]
fn look_at_flags(flags: u32) -> Result<(), i16> {
    let has = |some: MapFlags| flags & some.bits() != 0;
    if !has(MapFlags::HOST_MAP | MapFlags::DEVICE_MAP) {
        return Err(op::STATUS_BAD_GRANT_REF);
    }
    if has(MapFlags::DEVICE_MAP | MapFlags::APPLICATION_MAP | MapFlags::CONTAINS_PTE) {
        return Err(op::STATUS_GENERAL_ERROR);
    }
    Ok(())
}

#[inline(always)]
fn try_map<C: Caller>(caller: &C, item: &op::MapGrantRef) -> Result<(u32, Pa), i16> {
    if !is_plain(item.flags) {
        look_at_flags(item.flags)?;
    }
    let granter = real_peer(caller, item.dom).ok_or(op::STATUS_BAD_DOMAIN)?;
    if !caller.state().may_reach(granter.id()) {
        return Err(op::STATUS_PERMISSION_DENIED);
    }
    let mut maps = caller.state().grants.maps.lock();
    let vacancy = maps.vacancy(caller).ok_or(op::STATUS_NO_SPACE)?;
    let map = map_frame(caller, granter, item)?;
    let handle = vacancy.handle;
    vacancy.fill(map);
    Ok((handle, map.frame))
}

#[inline(always)]
fn map_frame<C: Caller>(
    caller: &C,
    granter: &XenState,
    item: &op::MapGrantRef,
) -> Result<Map, i16> {
    let write = item.flags & MapFlags::READ_ONLY.bits() == 0;
    let access = Access { write, map: true };
    let (id, reference) = (granter.id(), item.gref);
    let user = caller.state().id();
    let acquired = granter
        .grants
        .active
        .lock()
        .acquire(caller, id, reference, user, access);
    let frame = frame_at(acquired?);
    match put(caller, frame, item, write) {
        Ok(gfn) => Ok(Map {
            granter: id,
            reference,
            write,
            frame,
            gfn,
            is_broken: false,
        }),
        Err(status) => {
            let mut active = granter.grants.active.lock();
            active.release(caller, id, reference, write);
            drop(active);
            caller.release(id, frame);
            Err(status)
        }
    }
}

/// Maps a frame that is held; the guest frame number.
#[inline(always)]
fn put<C: Caller>(caller: &C, frame: Pa, item: &op::MapGrantRef, write: bool) -> Result<u32, i16> {
    if !is_plain(item.flags) {
        return Err(op::STATUS_GENERAL_ERROR);
    }
    let gfn = Ipa::new(item.host_addr).frame_number();
    let number = u32::try_from(gfn).map_err(|_| op::STATUS_GENERAL_ERROR)?;
    let replaced = caller.map_granted(gfn, frame, write);
    if replaced.map_err(|_| op::STATUS_GENERAL_ERROR)? == Replaced::OwnPage {
        caller.state().pages.lock().forget(gfn);
    }
    Ok(number)
}

/// `GNTTABOP_unmap_grant_ref` and `GNTTABOP_unmap_and_replace`, one item. A frame that is not where it was
/// mapped stays mapped by its handle. The place is looked at as well, or a guest could keep what it may write
/// by the handle of what it may only read; Xen asks for the frame alone.
#[inline(always)]
pub(super) fn unmap<C: Caller>(caller: &C, handle: u32, host_addr: u64, new_addr: u64) -> i16 {
    let mut maps = caller.state().grants.maps.lock();
    let Some(found) = maps.find(handle) else {
        return op::STATUS_BAD_HANDLE;
    };
    if host_addr == 0 {
        return op::STATUS_OKAY;
    }
    let Map { gfn, frame, .. } = found.map();
    let number = Ipa::new(host_addr).frame_number();
    // The same frame elsewhere is another handle's: each is found where it was mapped when its domain ends.
    let is_there = u64::from(gfn) == number;
    if new_addr != 0 || !is_there || caller.unmap_granted(number, frame).is_err() {
        return op::STATUS_GENERAL_ERROR;
    }
    let map = found.free();
    drop(maps);
    forget(caller, &map);
    op::STATUS_OKAY
}

/// [`unmap`] for `GNTTABOP_unmap_and_replace`, which is rare.
#[inline(never)]
pub(super) fn replace<C: Caller>(caller: &C, handle: u32, host_addr: u64, new_addr: u64) -> i16 {
    unmap(caller, handle, host_addr, new_addr)
}

/// Ends the use of a grant whose frame is mapped no more. Its domain may have ended.
#[inline(always)]
fn forget<H: Host>(host: &H, map: &Map) {
    if map.is_broken {
        return;
    }
    if let Some(granter) = host.granter(map.granter) {
        let mut active = granter.grants.active.lock();
        active.release(host, map.granter, map.reference, map.write);
    }
    host.release(map.granter, map.frame);
}

impl GrantTable {
    /// Nobody may use the domain's grants any more.
    fn close(&self) {
        self.active.lock().close();
    }

    /// Undoes a step of what the domain has mapped: `true` when done.
    fn release_maps<H: Host>(&self, host: &H) -> bool {
        for _ in 0..RELEASE_STEP {
            let next = self.maps.lock().take_next();
            let Some(map) = next else {
                return true;
            };
            forget(host, &map);
        }
        false
    }

    /// Everything as at first, for a domain that lives again.
    pub(crate) fn renew(&self) {
        self.active.lock().renew();
        self.maps.lock().renew();
    }
}

/// How far [`XenState::break_maps`] has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// It goes on at this handle.
    Next(u32),
    /// All are broken.
    All,
}

impl XenState {
    /// Nobody may use the grants of a domain that has ended any more.
    pub fn close_grants(&self) {
        self.grants.close();
    }

    /// Another domain has ended, and nobody may use its grants any more: an empty page takes the place of each of its
    /// frames that this domain has mapped, so that who reads or writes there comes to no harm, and finds nothing. The
    /// handle stays good. A step, from the handle on that the last one gave; 0 at first.
    pub fn break_maps<H: Host>(&self, host: &H, granter: DomainId, from: u32) -> Broken {
        let maps = &self.grants.maps;
        let mut broken: u32 = 0;
        let mut handle = from;
        while handle.wrapping_sub(from) < BREAK_SCAN && broken < BREAK_STEP {
            let found = maps.lock().break_at(handle, granter, |gfn, frame| {
                host.replace_map(self.id(), gfn, frame)
            });
            match found {
                Found::End => return Broken::All,
                Found::Other => {}
                Found::Map(map) => {
                    forget(host, &map);
                    broken = broken.saturating_add(1);
                }
            }
            handle = handle.wrapping_add(1);
        }
        Broken::Next(handle)
    }

    /// Gives back what a domain that has ended had mapped of others, a step at a time: `true` when done. Its
    /// second stage is out of force, and its translations are forgotten.
    pub fn release_maps<H: Host>(&self, host: &H) -> bool {
        self.grants.release_maps(host)
    }
}
