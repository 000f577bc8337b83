//! `console_io`: bytes straight to and from the hypervisor's console, for early messages and for guests
//! without a console driver (`xen/include/public/xen.h`).

use crate::hypercall::Arguments;
use crate::{Caller, Host};
use abi::{Errno, console};
use memory::Va;

/// Bytes copied at once.
const CHUNK: usize = 128;
/// Bytes written before the call is restarted, so that a long write is no long stretch in EL2.
const STEP: u32 = 128;

#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, arguments: &mut Arguments) -> Result<i64, Errno> {
    if !caller.state().may_use_console_io() {
        return Err(Errno::Perm);
    }
    let [cmd, count, buffer, ..] = *arguments;
    match u64::from(cmd as u32) {
        console::WRITE => write(caller, arguments, count as u32, buffer),
        console::READ => read(caller, count as u32, buffer),
        _ => Err(Errno::NoSys),
    }
}

fn write<C: Caller>(
    caller: &C,
    arguments: &mut Arguments,
    count: u32,
    buffer: u64,
) -> Result<i64, Errno> {
    let now = count.min(STEP);
    let mut done = 0;
    while done < now {
        let mut chunk = [0; CHUNK];
        let length = now.saturating_sub(done).min(CHUNK as u32);
        let Some(bytes) = chunk.get_mut(..length as usize) else {
            break;
        };
        let from = Va::new(buffer)
            .checked_add(u64::from(done))
            .ok_or(Errno::Fault)?;
        caller.read(from, bytes)?;
        Host::console_write(caller, caller.state().id(), bytes);
        done = done.saturating_add(length);
    }
    if done == count {
        return Ok(0);
    }
    let [_, x1, x2, ..] = arguments;
    *x1 = u64::from(count.saturating_sub(done));
    *x2 = buffer.wrapping_add(u64::from(done));
    Err(Errno::Restart)
}

/// Takes at most one chunk: a reader comes again anyway.
fn read<C: Caller>(caller: &C, count: u32, buffer: u64) -> Result<i64, Errno> {
    if count > i32::MAX as u32 {
        return Err(Errno::TooBig);
    }
    let mut chunk = [0; CHUNK];
    let wanted = CHUNK.min(count as usize);
    let Some(room) = chunk.get_mut(..wanted) else {
        return Err(Errno::Invalid);
    };
    let taken = caller.console_read(room);
    let bytes = room.get(..taken).unwrap_or_default();
    if !bytes.is_empty() {
        caller.write(Va::new(buffer), bytes)?;
    }
    Ok(bytes.len() as i64)
}
