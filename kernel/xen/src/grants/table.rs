//! The table itself: its size, frames and version.

use crate::{Caller, host};
use abi::grant_table as op;
use abi::{DomainId, Errno};
use memory::Va;

/// The version of every table.
const VERSION: u32 = 1;

/// A frame that is not mapped, in the list of [`op::SetupTable`].
const NOT_MAPPED: u64 = u64::MAX;

pub(super) fn call<C: Caller>(
    caller: &C,
    command: u64,
    argument: u64,
    count: u32,
) -> Result<i64, Errno> {
    match command {
        op::QUERY_SIZE | op::SETUP_TABLE | op::GET_STATUS_FRAMES if count != 1 => {
            Err(Errno::Invalid)
        }
        op::QUERY_SIZE => query_size(caller, argument),
        op::SETUP_TABLE => setup_table(caller, argument),
        op::SET_VERSION => set_version(caller, argument),
        op::GET_STATUS_FRAMES => {
            let mut request: op::GetStatusFrames = host::read(caller, argument)?;
            request.status = domain_status(caller, request.dom);
            // Version 1 has none.
            if request.status == op::STATUS_OKAY && request.nr_frames != 0 {
                request.status = op::STATUS_GENERAL_ERROR;
            }
            host::write(caller, argument, &request)?;
            Ok(0)
        }
        op::GET_VERSION => {
            let mut request: op::GetVersion = host::read(caller, argument)?;
            host::own_domain(caller, request.dom)?;
            request.version = VERSION;
            host::write(caller, argument, &request)?;
            Ok(0)
        }
        // Among them DUMP_TABLE, which Xen has no more.
        _ => Err(Errno::NoSys),
    }
}

/// The status for a domain that is not the caller; okay for the caller.
fn domain_status<C: Caller>(caller: &C, id: DomainId) -> i16 {
    match host::own_domain(caller, id) {
        Ok(()) => op::STATUS_OKAY,
        Err(Errno::Perm) => op::STATUS_PERMISSION_DENIED,
        Err(_) => op::STATUS_BAD_DOMAIN,
    }
}

fn query_size<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let mut request: op::QuerySize = host::read(caller, argument)?;
    request.status = domain_status(caller, request.dom);
    if request.status == op::STATUS_OKAY {
        let pages = caller.state().pages.lock();
        request.nr_frames = pages.grant_frames() as u32;
        request.max_nr_frames = pages.max_grant_frames() as u32;
    }
    host::write(caller, argument, &request)?;
    Ok(0)
}

fn setup_table<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let mut request: op::SetupTable = host::read(caller, argument)?;
    request.status = domain_status(caller, request.dom);
    if request.status == op::STATUS_OKAY {
        request.status = setup_frames(caller, request)?;
    }
    host::write(caller, argument, &request)?;
    Ok(0)
}

/// Grows the table and lists where its frames are. The list is written without the lock: a frame may have
/// moved when the guest reads it, but then the guest has moved it.
fn setup_frames<C: Caller>(caller: &C, request: op::SetupTable) -> Result<i16, Errno> {
    let wanted = request.nr_frames as usize;
    let pages = &caller.state().pages;
    match pages.lock().grow_grants(caller, wanted) {
        Ok(()) => {}
        Err(Errno::Restart) => return Err(Errno::Restart),
        Err(_) => return Ok(op::STATUS_GENERAL_ERROR),
    }
    let mut place = Va::new(request.frame_list);
    for index in 0..wanted {
        let gfn = pages.lock().grant_gfn(index).unwrap_or(NOT_MAPPED);
        if caller.write(place, &gfn.to_le_bytes()).is_err() {
            return Ok(op::STATUS_BAD_VIRTUAL_ADDRESS);
        }
        match place.checked_add(size_of::<u64>() as u64) {
            Some(next) => place = next,
            None => return Ok(op::STATUS_BAD_VIRTUAL_ADDRESS),
        }
    }
    Ok(op::STATUS_OKAY)
}

/// Writes back the version in force, whatever was asked for.
fn set_version<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let request: op::SetVersion = host::read(caller, argument)?;
    let result = match request.version {
        VERSION => Ok(0),
        2 => Err(Errno::NoSys),
        _ => Err(Errno::Invalid),
    };
    host::write(caller, argument, &op::SetVersion { version: VERSION })?;
    result
}
