//! Grant tables, version 1 (xen-arm-hypercalls section 10): the table's frames, giving and revoking
//! access to pages of this domain.

use crate::{
    hypercall::{self, Error},
    memory,
    sync::Lock,
    xen,
};
use abi::{DomainId, GrantRef, grant_table as op, hypercall as number, memory_op};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How large the table is and may become, in frames.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Frames now.
    pub frames: u32,
    /// Frames at most.
    pub limit: u32,
}

static MAPPED: Lock<u32> = Lock::new(0);

/// Asks for the size of the table.
///
/// # Errors
/// What the hypervisor answered; a bad status comes as a general error.
pub fn size() -> Result<Size, Error> {
    let mut argument = op::QuerySize {
        dom: DomainId::SELF,
        ..Default::default()
    };
    let pointer = core::ptr::from_mut(&mut argument) as u64;
    // SAFETY: the structure of GNTTABOP_query_size, one of it.
    let result =
        unsafe { hypercall::call(number::GRANT_TABLE_OP, [op::QUERY_SIZE, pointer, 1, 0, 0]) };
    hypercall::check(result)?;
    if argument.status != op::STATUS_OKAY {
        return Err(Error(i64::from(argument.status)));
    }
    Ok(Size {
        frames: argument.nr_frames,
        limit: argument.max_nr_frames,
    })
}

/// Maps the first `frames` frames of the table into the window, the highest first, which grows the
/// table once.
///
/// # Errors
/// What the hypervisor answered.
pub fn map(frames: u32) -> Result<(), Error> {
    let Some((base, size)) = xen::window() else {
        return Err(Error(abi::Errno::NoSys.as_return()));
    };
    // The last page of the window is shared_info.
    if u64::from(frames) >= size / memory::PAGE {
        return Err(Error(abi::Errno::Invalid.as_return()));
    }
    let mut mapped = MAPPED.lock();
    for frame in (*mapped..frames).rev() {
        let gpfn = base / memory::PAGE + u64::from(frame);
        // SAFETY: the window has nothing behind it but what this module puts there.
        unsafe { hypercall::add_to_physmap(memory_op::SPACE_GRANT_TABLE, u64::from(frame), gpfn) }?;
    }
    *mapped = (*mapped).max(frames);
    Ok(())
}

/// The entry of `reference`, as one 64-bit word: flags, domain, frame.
fn entry(GrantRef(reference): GrantRef) -> Option<&'static AtomicU64> {
    let (base, _) = xen::window()?;
    if u64::from(reference) >= u64::from(*MAPPED.lock()) * op::ENTRIES_PER_FRAME as u64 {
        return None;
    }
    // SAFETY: inside the frames mapped, aligned to its 8 bytes; both sides use atomics.
    Some(unsafe { AtomicU64::from_ptr((base + u64::from(reference) * 8) as *mut u64) })
}

/// The raw entry of `reference`: flags in bits 15..0, domain in 31..16, frame in 63..32.
pub fn read(reference: GrantRef) -> Option<u64> {
    entry(reference).map(|entry| entry.load(Ordering::Acquire))
}

/// Gives `domain` access to the page `gfn` and returns the reference; `None` if no entry is free.
pub fn give(domain: DomainId, gfn: u32, read_only: bool) -> Option<GrantRef> {
    give_from(op::FIRST_FREE, domain, gfn, read_only)
}

/// The same, looking for a free entry from `first` on.
pub fn give_from(first: GrantRef, domain: DomainId, gfn: u32, read_only: bool) -> Option<GrantRef> {
    let flags = op::EntryFlags::PERMIT_ACCESS.bits()
        | if read_only {
            op::EntryFlags::READ_ONLY.bits()
        } else {
            0
        };
    let value = u64::from(gfn) << 32 | u64::from(domain.0) << 16;
    for number in first.0.. {
        let reference = GrantRef(number);
        let entry = entry(reference)?;
        if entry
            .compare_exchange(0, value, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            // Frame and domain first, then the flags that make them count.
            entry.store(value | u64::from(flags), Ordering::Release);
            return Some(reference);
        }
    }
    None
}

/// Takes access back; false while somebody has the page mapped.
pub fn revoke(reference: GrantRef) -> bool {
    let Some(entry) = entry(reference) else {
        return false;
    };
    let in_use = op::EntryFlags::READING.bits() | op::EntryFlags::WRITING.bits();
    // Flags and domain are the half that the hypervisor changes, by 32-bit compare and swap.
    // SAFETY: the lower half of a live entry; both sides use atomics.
    let half = unsafe { AtomicU32::from_ptr(entry.as_ptr().cast()) };
    let revoked = half.fetch_update(Ordering::AcqRel, Ordering::Acquire, |value| {
        (value as u16 & in_use == 0).then_some(0)
    });
    if revoked.is_ok() {
        entry.store(0, Ordering::Release);
    }
    revoked.is_ok()
}
