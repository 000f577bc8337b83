//! `GNTTABOP_copy`. A frame is copied without a lock: it cannot change its domain before this CPU is done
//! with the call (see [`Host::frame`]).

use super::active::frame_at;
use crate::{Caller, Host, XenState};
use abi::grant_table::{self as op, CopyFlags, CopyPointer, GrantRef};
use abi::{DomainId, PAGE_SIZE};
use memory::Pa;

/// One side of a copy, checked.
struct Side<'a> {
    /// Of a grant, whose.
    granter: &'a XenState,
    is_grant: bool,
    write: bool,
    pointer: &'a CopyPointer,
}

/// The copy that an item asks for; its status.
#[inline]
pub(super) fn copy<C: Caller>(caller: &C, item: &mut op::GrantCopy) {
    item.status = match try_copy(caller, item) {
        Ok(()) => op::STATUS_OKAY,
        Err(status) => status,
    };
}

#[inline(always)]
fn try_copy<C: Caller>(caller: &C, item: &op::GrantCopy) -> Result<(), i16> {
    if item.len == 0 {
        return Ok(());
    }
    let is_grant = |flag: CopyFlags| item.flags & flag.bits() != 0;
    let source = side(
        caller,
        &item.source,
        is_grant(CopyFlags::SOURCE_GREF),
        false,
    )?;
    let dest = side(caller, &item.dest, is_grant(CopyFlags::DEST_GREF), true)?;
    let from = source.acquire(caller)?;
    let result = dest.acquire(caller).and_then(|to| {
        let done = transfer(caller, item, from, to);
        dest.release(caller);
        done
    });
    source.release(caller);
    result
}

#[inline(always)]
fn side<'a, C: Caller>(
    caller: &'a C,
    pointer: &'a CopyPointer,
    is_grant: bool,
    write: bool,
) -> Result<Side<'a>, i16> {
    let own = caller.state();
    if pointer.domid != DomainId::SELF && !is_grant {
        return Err(op::STATUS_PERMISSION_DENIED);
    }
    let granter = if pointer.domid == DomainId::SELF || pointer.domid == own.id() {
        own
    } else {
        caller.peer(pointer.domid).ok_or(op::STATUS_BAD_DOMAIN)?
    };
    if is_grant && !own.may_reach(granter.id()) {
        return Err(op::STATUS_PERMISSION_DENIED);
    }
    Ok(Side {
        granter,
        is_grant,
        write,
        pointer,
    })
}

impl Side<'_> {
    fn reference(&self) -> GrantRef {
        GrantRef(self.pointer.frame_or_ref as u32)
    }

    #[inline(always)]
    fn acquire<C: Caller>(&self, caller: &C) -> Result<Pa, i16> {
        let own = caller.state().id();
        if !self.is_grant {
            let frame = caller.frame(own, self.pointer.frame_or_ref);
            return frame.ok_or(op::STATUS_BAD_PAGE);
        }
        let (granter, reference) = (self.granter.id(), self.reference());
        let mut active = self.granter.grants.active.lock();
        let number = active.acquire_to_copy(caller, granter, reference, own, self.write)?;
        Ok(frame_at(number))
    }

    #[inline(always)]
    fn release<H: Host>(&self, host: &H) {
        if self.is_grant {
            let mut active = self.granter.grants.active.lock();
            active.release(host, self.granter.id(), self.reference(), self.write);
        }
    }
}

fn transfer<C: Caller>(caller: &C, item: &op::GrantCopy, from: Pa, to: Pa) -> Result<(), i16> {
    let fits = |offset: u16| usize::from(offset).wrapping_add(usize::from(item.len)) <= PAGE_SIZE;
    if !fits(item.source.offset) || !fits(item.dest.offset) {
        return Err(op::STATUS_BAD_COPY_ARGUMENT);
    }
    let at = |frame: Pa, offset: u16| {
        frame
            .checked_add(u64::from(offset))
            .ok_or(op::STATUS_BAD_COPY_ARGUMENT)
    };
    caller.copy(
        at(from, item.source.offset)?,
        at(to, item.dest.offset)?,
        u64::from(item.len),
    );
    Ok(())
}
