//! `memory_op` (`xen/include/public/memory.h`): sizes, the balloon, and the hypervisor's own pages in the
//! guest's map.

use crate::hypercall::Arguments;
use crate::pages::Which;
use crate::{Caller, Replaced, control, host};
use abi::memory_op as op;
use abi::{DomainId, Errno};
use memory::Va;

/// Pages given up or filled, or entries of a list, before a call is restarted.
const STEP: u32 = 32;

/// Where the command has the number of extents that are done, and above it the pages of the next one.
const EXTENTS_SHIFT: u32 = 6;
const EXTENTS_BITS: u32 = 48;
const PAGES_SHIFT: u32 = EXTENTS_SHIFT + EXTENTS_BITS;

/// Greatest order of an extent for a guest that has no devices (`CONFIG_DOMU_MAX_ORDER`).
const MAX_ORDER: u32 = 9;

/// Bits of an address that the machine's memory may have, in the flags of a reservation.
const ADDRESS_BITS: u32 = 0xff;
/// Memory that is there when it is first touched: not on Arm.
const POPULATE_ON_DEMAND: u32 = 1 << 16;

/// `cmd` carries, above its six bits, where a restarted call goes on.
#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, arguments: &mut Arguments) -> Result<i64, Errno> {
    let [cmd, argument, ..] = *arguments;
    let command = cmd & op::COMMAND_MASK;
    match command {
        op::INCREASE_RESERVATION | op::DECREASE_RESERVATION | op::POPULATE_PHYSMAP => {
            return reservation(caller, arguments);
        }
        op::ADD_TO_PHYSMAP_BATCH => return add_batch(caller, arguments),
        // Only the three above are ever restarted.
        op::ADD_TO_PHYSMAP
        | op::REMOVE_FROM_PHYSMAP
        | op::MAXIMUM_RAM_PAGE
        | op::CURRENT_RESERVATION
        | op::MAXIMUM_RESERVATION
        | op::MAXIMUM_GPFN
        | op::CLAIM_PAGES
        | op::GET_VNUMA_INFO
            if cmd != command =>
        {
            return Err(Errno::Invalid);
        }
        _ => {}
    }
    match command {
        op::ADD_TO_PHYSMAP => {
            let request: op::AddToPhysmap = host::read(caller, argument)?;
            if request.space == op::SPACE_GMFN_FOREIGN {
                return Err(Errno::NoSys);
            }
            permit(caller, request.domid, request.space)?;
            add(caller, request.space, request.index, request.gpfn)?;
            Ok(0)
        }
        op::REMOVE_FROM_PHYSMAP => remove(caller, argument),
        op::MAXIMUM_RAM_PAGE => Ok(number(caller.memory().maximum_ram_page)),
        op::CURRENT_RESERVATION | op::MAXIMUM_RESERVATION | op::MAXIMUM_GPFN => {
            figure(caller, command, argument)
        }
        op::GET_SHARING_FREED_PAGES | op::GET_SHARING_SHARED_PAGES if cmd == command => Ok(0),
        op::CLAIM_PAGES => claim(caller, argument),
        op::ACQUIRE_RESOURCE => acquire(caller, argument),
        op::GET_VNUMA_INFO => {
            let request: op::VnumaTopology = host::read(caller, argument)?;
            if request.reserved != 0 {
                return Err(Errno::Invalid);
            }
            host::own_domain(caller, request.domid)?;
            // No guest has nodes.
            Err(Errno::NotSupported)
        }
        _ => Err(Errno::NoSys),
    }
}

/// Only a control domain claims pages, for domains that it makes.
fn claim<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let request: op::Reservation = host::read(caller, argument)?;
    if request.extent_start != 0 || request.extent_order != 0 || request.mem_flags != 0 {
        return Err(Errno::Invalid);
    }
    control::real_domain(caller, request.domid).map_err(|_| Errno::Invalid)?;
    Err(Errno::Perm)
}

/// Resources are those of a domain that the caller controls, which is never its own.
fn acquire<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let request: op::AcquireResource = host::read(caller, argument)?;
    if request.reserved != 0 {
        return Err(Errno::Invalid);
    }
    control::real_domain(caller, request.domid)?;
    Err(Errno::Perm)
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The element of a guest's list of 64-bit numbers.
fn element<C: Caller>(caller: &C, list: u64, index: u64) -> Result<u64, Errno> {
    let offset = index.checked_mul(size_of::<u64>() as u64);
    let at = offset.and_then(|offset| list.checked_add(offset));
    host::read(caller, at.ok_or(Errno::Fault)?)
}

fn figure<C: Caller>(caller: &C, command: u64, argument: u64) -> Result<i64, Errno> {
    let domain: DomainId = host::read(caller, argument)?;
    host::own_domain(caller, domain)?;
    let memory = caller.memory();
    Ok(number(match command {
        op::CURRENT_RESERVATION => memory.current,
        op::MAXIMUM_RESERVATION => memory.maximum,
        _ => memory.maximum_gfn,
    }))
}

/// The balloon. What cannot be done ends the call: its result is the number of whole extents that were
/// done, never an error, another domain's memory included.
fn reservation<C: Caller>(caller: &C, arguments: &mut Arguments) -> Result<i64, Errno> {
    let [cmd, argument, ..] = *arguments;
    let command = cmd & op::COMMAND_MASK;
    let most = 1_u64.wrapping_shl(EXTENTS_BITS).wrapping_sub(1);
    let mut done = cmd >> EXTENTS_SHIFT & most;
    let Ok(request) = host::read::<op::Reservation>(caller, argument) else {
        return Ok(number(done));
    };
    if request.nr_extents > most || done >= request.nr_extents {
        return Ok(number(done));
    }
    if host::own_domain(caller, request.domid).is_err() {
        return Ok(number(done));
    }
    let bits = request.mem_flags & ADDRESS_BITS;
    if request.extent_order > MAX_ORDER || (1..=abi::PAGE_SIZE.trailing_zeros()).contains(&bits) {
        return Ok(number(done));
    }
    let pages = 1_u64.wrapping_shl(request.extent_order);
    let mut page = (cmd >> PAGES_SHIFT).min(pages.saturating_sub(1));
    for _ in 0..STEP {
        let changed = element(caller, request.extent_start, done)
            .and_then(|first| first.checked_add(page).ok_or(Errno::Invalid))
            .and_then(|gfn| change(caller, command, gfn, request.mem_flags));
        if changed.is_err() {
            return Ok(number(done));
        }
        page = page.wrapping_add(1);
        if page == pages {
            page = 0;
            done = done.wrapping_add(1);
        }
        if done == request.nr_extents {
            return Ok(number(done));
        }
    }
    let [cmd, ..] = arguments;
    *cmd = command | done << EXTENTS_SHIFT | page << PAGES_SHIFT;
    Err(Errno::Restart)
}

/// Gives up or fills one page. Pages that are in no map, which `increase` would give, are of no use to a
/// guest whose memory is translated: there are none.
fn change<C: Caller>(caller: &C, command: u64, gfn: u64, flags: u32) -> Result<(), Errno> {
    match command {
        op::DECREASE_RESERVATION => caller.give_up(gfn),
        op::POPULATE_PHYSMAP if flags & POPULATE_ON_DEMAND == 0 => {
            if caller.populate(gfn)? == Replaced::OwnPage {
                caller.state().pages.lock().forget(gfn);
            }
            Ok(())
        }
        _ => Err(Errno::NoSys),
    }
}

/// Whether the caller may put something of this space into a domain's map.
fn permit<C: Caller>(caller: &C, domain: DomainId, space: u32) -> Result<(), Errno> {
    match host::own_domain(caller, domain) {
        Err(Errno::NoSuchDomain) => Err(Errno::NoSuchDomain),
        _ if space == op::SPACE_DEVICE_MMIO => Err(Errno::Access),
        result => result,
    }
}

fn add<C: Caller>(caller: &C, space: u32, index: u64, gpfn: u64) -> Result<(), Errno> {
    let which = match space {
        op::SPACE_SHARED_INFO if index == 0 => Which::SharedInfo,
        op::SPACE_SHARED_INFO => return Err(Errno::Invalid),
        op::SPACE_GRANT_TABLE => {
            // Status frames, by a bit of the index, belong to version 2: far beyond the limit as a number.
            Which::GrantFrame(usize::try_from(index).map_err(|_| Errno::Invalid)?)
        }
        _ => return Err(Errno::NoSys),
    };
    let mut pages = caller.state().pages.lock();
    if let Which::GrantFrame(index) = which {
        let frames = index.checked_add(1).ok_or(Errno::Invalid)?;
        pages.grow_grants(caller, frames)?;
    }
    pages.place(caller, which, gpfn)
}

/// A frame of another domain, by its number there: for domains that control it, and no guest controls
/// another.
fn add_foreign<C: Caller>(caller: &C, domain: DomainId) -> Errno {
    match domain {
        DomainId::IO | DomainId::XEN => Errno::Perm,
        _ => match host::own_domain(caller, domain) {
            Ok(()) => Errno::Invalid,
            Err(error) => error,
        },
    }
}

fn add_batch<C: Caller>(caller: &C, arguments: &mut Arguments) -> Result<i64, Errno> {
    let [cmd, argument, ..] = *arguments;
    let done = cmd >> EXTENTS_SHIFT;
    let mut done = u16::try_from(done).map_err(|_| Errno::Domain)?;
    let request: op::AddToPhysmapBatch = host::read(caller, argument)?;
    let space = u32::from(request.space);
    if space == op::SPACE_GMFN_RANGE {
        return Err(Errno::NotSupported);
    }
    permit(caller, request.domid, space)?;
    if done != 0 && done >= request.size {
        return Err(Errno::IllegalSequence);
    }
    for _ in 0..STEP {
        if done == request.size {
            return Ok(0);
        }
        let entry = u64::from(done);
        let index = element(caller, request.idxs, entry)?;
        let gpfn = element(caller, request.gpfns, entry)?;
        let result = match space {
            op::SPACE_GMFN_FOREIGN => Err(add_foreign(caller, request.foreign_domid)),
            _ => add(caller, space, index, gpfn),
        };
        if result == Err(Errno::Restart) {
            break;
        }
        let error = result.err().map_or(0, |error| error.as_return() as i32);
        let place = Va::new(request.errs).checked_add(entry.wrapping_mul(4));
        caller.write(place.ok_or(Errno::Fault)?, &error.to_le_bytes())?;
        done = done.wrapping_add(1);
    }
    if done == request.size {
        return Ok(0);
    }
    let [cmd, ..] = arguments;
    *cmd = op::ADD_TO_PHYSMAP_BATCH | u64::from(done) << EXTENTS_SHIFT;
    Err(Errno::Restart)
}

fn remove<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let request: op::RemoveFromPhysmap = host::read(caller, argument)?;
    host::own_domain(caller, request.domid)?;
    let mut pages = caller.state().pages.lock();
    pages.remove(caller, request.gpfn)?;
    Ok(0)
}
