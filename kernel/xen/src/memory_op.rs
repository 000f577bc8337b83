//! `memory_op` (`xen/include/public/memory.h`): sizes, and the hypervisor's own pages in the guest's map.
//! Changing the reservation is not there: those commands say that they did nothing, as they do on Xen
//! when they fail.

use crate::pages::Which;
use crate::{Caller, host};
use abi::memory_op as op;
use abi::{DomainId, Errno};

/// `cmd` carries, above its six bits, where a restarted call goes on. None of ours does, so that a guest
/// has no reason to set them.
#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, cmd: u64, argument: u64) -> Result<i64, Errno> {
    let command = cmd & op::COMMAND_MASK;
    let reservation = matches!(
        command,
        op::INCREASE_RESERVATION | op::DECREASE_RESERVATION | op::POPULATE_PHYSMAP
    );
    if reservation {
        return Ok(0);
    }
    if cmd != command {
        return Err(Errno::Invalid);
    }
    match command {
        op::ADD_TO_PHYSMAP => add(caller, argument),
        op::REMOVE_FROM_PHYSMAP => remove(caller, argument),
        op::MAXIMUM_RAM_PAGE => Ok(number(caller.memory().maximum_ram_page)),
        op::CURRENT_RESERVATION | op::MAXIMUM_RESERVATION | op::MAXIMUM_GPFN => {
            figure(caller, command, argument)
        }
        op::GET_SHARING_FREED_PAGES | op::GET_SHARING_SHARED_PAGES => Ok(0),
        op::CLAIM_PAGES | op::ACQUIRE_RESOURCE => Err(Errno::Perm),
        op::GET_VNUMA_INFO => Err(Errno::NotSupported),
        _ => Err(Errno::NoSys),
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
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

fn add<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let request: op::AddToPhysmap = host::read(caller, argument)?;
    host::own_domain(caller, request.domid)?;
    let which = match request.space {
        op::SPACE_SHARED_INFO if request.index == 0 => Which::SharedInfo,
        op::SPACE_SHARED_INFO => return Err(Errno::Invalid),
        op::SPACE_GRANT_TABLE => {
            // Status frames, by a bit of the index, belong to version 2: far beyond the limit as a number.
            let index = usize::try_from(request.index).map_err(|_| Errno::Invalid)?;
            Which::GrantFrame(index)
        }
        op::SPACE_DEVICE_MMIO => return Err(Errno::Perm),
        _ => return Err(Errno::NoSys),
    };
    let mut pages = caller.state().pages.lock();
    if let Which::GrantFrame(index) = which {
        let frames = index.checked_add(1).ok_or(Errno::Invalid)?;
        pages.grow_grants(caller, frames)?;
    }
    pages.place(caller, which, request.gpfn)?;
    Ok(0)
}

fn remove<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let request: op::RemoveFromPhysmap = host::read(caller, argument)?;
    host::own_domain(caller, request.domid)?;
    let mut pages = caller.state().pages.lock();
    pages.remove(caller, request.gpfn)?;
    Ok(0)
}
