//! How frames get into domains and out of them. A frame leaves a domain with the whole chunk that it is in,
//! when (a) the stage-2 entries of all its frames are cleared and invalidated, (b) no grant holds any of
//! them, and (c) every CPU has since been between guests or idle, so that no call copies there any more.
//! A domain's tables and the pages that it shared with the hypervisor wait for the same.

use core::sync::atomic::{AtomicU32, Ordering};

use ::memory::Owner;
use ::memory::{
    FrameError, Ipa, IpaRange, MapError, PAGE_SIZE, Pa, PaRange, SharedMemory, Stage2Kind,
};
use abi::Errno;
use arch::entry::MAX_CPUS;
use arch::{cache, tlb};
use sync::Grace;

use crate::cpus::{self, Cpu};
use crate::machine::{self, Domain, Holdings};
use crate::{interrupts, jobs, memory_map};

static GRACE: Grace<MAX_CPUS> = Grace::new();

/// Domains whose jobs wait for a grace period.
static WAITING: AtomicU32 = AtomicU32::new(0);

/// A ticket as a domain has it: 0 is none.
const TICKET: u64 = 1 << 32;

/// This CPU is between guests: it has nothing of any of them in its hands.
pub(crate) fn pass(cpu: &Cpu) {
    if GRACE.pass(cpu.index) {
        collect();
    }
}

fn is_over(ticket: u32) -> bool {
    GRACE.is_over(ticket, cpus::all().iter().map(|cpu| cpu.index))
}

/// Takes back what no CPU can touch any more.
fn collect() {
    memory_map::pool().collect(GRACE.last(), is_over);
    if WAITING.load(Ordering::Acquire) == 0 {
        return;
    }
    for domain in machine::domains() {
        let ticket = domain.grace.load(Ordering::Acquire);
        if ticket & TICKET != 0
            && is_over(ticket as u32)
            && domain
                .grace
                .compare_exchange(ticket, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            WAITING.fetch_sub(1, Ordering::Relaxed);
            jobs::kick(domain);
        }
    }
}

/// Every CPU is to pass before [`is_grace_over`] says so, and kicks the domain's job.
pub(crate) fn begin_grace(domain: &'static Domain) {
    let ticket = u64::from(GRACE.draw()) | TICKET;
    domain.grace.store(ticket, Ordering::Release);
    WAITING.fetch_add(1, Ordering::Release);
    ask_all();
}

/// Whether every CPU has passed since [`begin_grace`].
pub(crate) fn is_grace_over(domain: &Domain) -> bool {
    domain.grace.load(Ordering::Acquire) == 0
}

/// Makes every CPU pass, this one too: also one that runs a guest alone, or waits.
fn ask_all() {
    for cpu in cpus::all() {
        cpu.look.store(true, Ordering::Release);
        interrupts::send_look(cpu);
    }
}

/// A chunk leaves its domain: nothing of it is mapped or held.
fn leave(chunk: Option<Pa>) {
    if let Some(chunk) = chunk {
        memory_map::pool().leave(chunk, GRACE.draw());
        ask_all();
    }
}

/// Releases some of the frames that a domain which has ended kept for the hypervisor; whether there are more.
pub(crate) fn let_go_some(domain: &Domain, most: usize) -> bool {
    for _ in 0..most {
        let frame = domain
            .holdings
            .lock()
            .as_mut()
            .and_then(|held| held.kept.pop());
        match frame {
            Some(frame) => release(domain, frame),
            None => return false,
        }
    }
    true
}

/// Puts a domain's empty page in place of a granted frame, if that is what its map has at `gfn`; the page's frame.
pub(crate) fn replace(domain: &Domain, gfn: u64, frame: Pa) -> Option<Pa> {
    let page = page_at(gfn)?;
    let mut holdings = domain.holdings.lock();
    let held = holdings.as_mut()?;
    let empty = held.empty_page?;
    let (there, kind) = held.stage2.translate(page.start())?;
    if there != frame || !matches!(kind, Stage2Kind::Granted | Stage2Kind::GrantedReadOnly) {
        return None;
    }
    // Its table is there, so neither takes one.
    let tlb = tlb::Stage2::new(domain.vttbr);
    held.stage2.unmap(page, &tlb).ok()?;
    let to = PaRange::new(empty, PAGE_SIZE)?;
    held.stage2.map(page.start(), to, kind).ok()?;
    tlb::publish();
    Some(empty)
}

/// Runs `work`, and once more with a larger heap if there was no memory.
fn with_heap<T, E: PartialEq>(
    no_memory: &E,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let result = work();
    if result.as_ref().err() == Some(no_memory) && memory_map::grow_heap().is_some() {
        return work();
    }
    result
}

fn map_errno(error: MapError) -> Errno {
    match error {
        MapError::NoMemory => Errno::NoMemory,
        MapError::BadRange | MapError::Occupied => Errno::Invalid,
    }
}

fn frame_errno(error: FrameError) -> Errno {
    match error {
        FrameError::NotThere => Errno::Invalid,
        FrameError::TooOften => Errno::Busy,
        FrameError::NoMemory => Errno::NoMemory,
    }
}

/// A page of a guest's map; `None` if its address does not fit.
fn page_at(gfn: u64) -> Option<IpaRange> {
    IpaRange::new(Ipa::from_frame_number(gfn)?, PAGE_SIZE)
}

/// Guest frame numbers at which a guest may have something mapped: its RAM, the grant window, the magic
/// pages and what its tree calls unused. Where a direct-mapped guest has its devices depends on the board; if it maps
/// something over one, it alone has the harm.
#[inline(always)]
fn mappable(domain: &Domain, gfn: u64) -> Result<IpaRange, Errno> {
    const END: u64 = 1 << (::memory::IPA_BITS - PAGE_SIZE.trailing_zeros());
    const FIRST: u64 = abi::guest_layout::GRANT_TABLE / PAGE_SIZE;
    let is_there = (FIRST..END).contains(&gfn) || (domain.direct_map && gfn < END);
    let page = is_there.then(|| page_at(gfn)).flatten();
    page.ok_or(Errno::Invalid)
}

/// The slot of a frame of this domain.
#[inline(always)]
fn slot_of(domain: &Domain, frame: Pa) -> Option<u16> {
    memory_map::pool().slot_of(frame, domain.id.0)
}

/// The frame of a domain's own RAM that its map has at `gfn`.
pub(crate) fn frame(domain: &Domain, gfn: u64) -> Option<Pa> {
    let ipa = Ipa::from_frame_number(gfn)?;
    let holdings = domain.holdings.lock();
    holdings.as_ref()?.stage2.translate_as(ipa, Stage2Kind::Ram)
}

/// Keeps a frame of a domain from leaving it, until [`release`].
pub(crate) fn hold(domain: &Domain, frame: Pa) -> Result<(), Errno> {
    let slot = slot_of(domain, frame).ok_or(Errno::Invalid)?;
    with_heap(&FrameError::NoMemory, || {
        domain.frames.lock().hold(slot, frame)
    })
    .map_err(frame_errno)
}

/// [`frame`] and [`hold`]: the frame cannot leave the map between the two.
#[inline(always)]
pub(crate) fn hold_at(domain: &Domain, gfn: u64) -> Result<Pa, Errno> {
    let ipa = Ipa::from_frame_number(gfn).ok_or(Errno::Invalid)?;
    let holdings = domain.holdings.lock();
    let held = holdings.as_ref().ok_or(Errno::Invalid)?;
    let frame = held.stage2.translate_as(ipa, Stage2Kind::Ram);
    let frame = frame.ok_or(Errno::Invalid)?;
    let slot = slot_of(domain, frame).ok_or(Errno::Invalid)?;
    match domain.frames.hold(slot, frame) {
        Ok(()) => Ok(frame),
        // The first of its chunk, or one too many.
        Err(_) => hold_first(domain, frame),
    }
}

#[cold]
#[inline(never)]
fn hold_first(domain: &Domain, frame: Pa) -> Result<Pa, Errno> {
    hold(domain, frame).map(|()| frame)
}

/// Ends a [`hold`] of a frame of this domain, which may have ended meanwhile. What is held does not change its owner.
#[inline(always)]
pub(crate) fn release(domain: &Domain, frame: Pa) {
    if let Some(slot) = slot_of(domain, frame)
        && let Some(chunk) = domain.frames.release(slot, frame)
    {
        leave(Some(chunk));
    }
}

/// The page at `gfn`, which stays the domain's until [`let_go`] or its end.
pub(crate) fn keep(domain: &Domain, gfn: u64) -> Result<SharedMemory, Errno> {
    let ipa = Ipa::from_frame_number(gfn).ok_or(Errno::Invalid)?;
    let mut holdings = domain.holdings.lock();
    let held = holdings.as_mut().ok_or(Errno::Invalid)?;
    match held.stage2.translate(ipa) {
        None => Err(Errno::Invalid),
        Some((frame, Stage2Kind::Ram)) => {
            if held.kept.len() >= held.kept.capacity() {
                return Err(Errno::NoMemory);
            }
            hold(domain, frame)?;
            held.kept.push(frame);
            memory_map::shared_page(frame).ok_or(Errno::Invalid)
        }
        Some(_) => Err(Errno::Access),
    }
}

/// Gives back what [`keep`] gave.
pub(crate) fn let_go(domain: &Domain, frame: Pa) {
    let mut holdings = domain.holdings.lock();
    let Some(kept) = holdings.as_mut().map(|held| &mut held.kept) else {
        return;
    };
    let Some(at) = kept.iter().position(|held| *held == frame) else {
        return;
    };
    kept.swap_remove(at);
    drop(holdings);
    release(domain, frame);
}

/// Takes away what is mapped in a page, device registers excepted. What it was, and a chunk that leaves.
fn clear(
    domain: &Domain,
    held: &mut Holdings,
    page: IpaRange,
) -> Result<(Option<Stage2Kind>, Option<Pa>), Errno> {
    let Some((frame, kind)) = held.stage2.translate(page.start()) else {
        return Ok((None, None));
    };
    let tlb = tlb::Stage2::new(domain.vttbr);
    let mut unmap =
        || with_heap(&MapError::NoMemory, || held.stage2.unmap(page, &tlb)).map_err(map_errno);
    match kind {
        Stage2Kind::Device => Err(Errno::Invalid),
        Stage2Kind::Ram => {
            let slot = slot_of(domain, frame).ok_or(Errno::Invalid)?;
            with_heap(&FrameError::NoMemory, || {
                domain.frames.lock().prepare(slot, frame)
            })
            .map_err(frame_errno)?;
            unmap()?;
            let left = domain.frames.lock().remove(slot, frame);
            Ok((Some(kind), left.map_err(frame_errno)?))
        }
        _ => unmap().map(|()| (Some(kind), None)),
    }
}

/// Maps a frame in place of what is there; RAM that is there is given up. What was there.
pub(crate) fn put(
    domain: &Domain,
    gfn: u64,
    frame: Pa,
    kind: Stage2Kind,
) -> Result<Option<Stage2Kind>, Errno> {
    let page = mappable(domain, gfn)?;
    let to = PaRange::new(frame, PAGE_SIZE).ok_or(Errno::Invalid)?;
    let mut holdings = domain.holdings.lock();
    let held = holdings.as_mut().ok_or(Errno::Invalid)?;
    let (before, left) = clear(domain, held, page)?;
    let mapped = with_heap(&MapError::NoMemory, || {
        held.stage2.map(page.start(), to, kind)
    });
    held.highest_gfn = held.highest_gfn.max(gfn);
    tlb::publish();
    drop(holdings);
    leave(left);
    mapped.map_err(map_errno)?;
    Ok(before)
}

/// [`put`] of a granted frame, which mostly comes where nothing is, and beside others: a short way for that. `false`, and
/// nothing done, if it is not for that.
#[inline(always)]
pub(crate) fn put_granted(domain: &Domain, gfn: u64, frame: Pa, kind: Stage2Kind) -> bool {
    let Ok(page) = mappable(domain, gfn) else {
        return false;
    };
    let mut holdings = domain.holdings.lock();
    let Some(held) = holdings.as_mut() else {
        return false;
    };
    if !held.stage2.map_page(page.start(), frame, kind) {
        return false;
    }
    if gfn > held.highest_gfn {
        held.highest_gfn = gfn;
    }
    tlb::publish();
    true
}

/// Takes away what is mapped at `gfn`, if that is this granted frame.
#[inline(always)]
pub(crate) fn take_granted(domain: &Domain, gfn: u64, frame: Pa) -> Result<(), Errno> {
    let page = page_at(gfn).ok_or(Errno::Invalid)?;
    let is_it = |there: Pa, kind: Stage2Kind| {
        there == frame && matches!(kind, Stage2Kind::Granted | Stage2Kind::GrantedReadOnly)
    };
    let mut holdings = domain.holdings.lock();
    let held = holdings.as_mut().ok_or(Errno::Invalid)?;
    let tlb = tlb::Stage2::new(domain.vttbr);
    match held.stage2.unmap_page(page.start(), &tlb, is_it) {
        true => Ok(()),
        false => Err(Errno::Invalid),
    }
}

/// Takes away what is mapped at `gfn`, if `which` agrees with what it is; what it was.
pub(crate) fn take_away(
    domain: &Domain,
    gfn: u64,
    which: impl FnOnce(Pa, Stage2Kind) -> bool,
) -> Result<Stage2Kind, Errno> {
    let page = page_at(gfn).ok_or(Errno::Invalid)?;
    let mut holdings = domain.holdings.lock();
    let held = holdings.as_mut().ok_or(Errno::Invalid)?;
    let (frame, kind) = held.stage2.translate(page.start()).ok_or(Errno::NoEntry)?;
    if !which(frame, kind) {
        return Err(Errno::Invalid);
    }
    let (_, left) = clear(domain, held, page)?;
    drop(holdings);
    leave(left);
    Ok(kind)
}

/// Gives a domain a zeroed frame at `gfn`, in place of what is there; what was there.
pub(crate) fn populate(domain: &Domain, gfn: u64) -> Result<Option<Stage2Kind>, Errno> {
    mappable(domain, gfn)?;
    let frame = match domain.direct_map {
        true => take_at(domain, gfn)?,
        false => {
            let given_up = domain.frames.lock().take();
            given_up.or_else(|| grow(domain)).ok_or(Errno::NoMemory)?
        }
    };
    if let Some(page) = PaRange::new(frame, PAGE_SIZE) {
        memory_map::scrub(page);
    }
    put(domain, gfn, frame, Stage2Kind::Ram).inspect_err(|_| {
        let left = slot_of(domain, frame)
            .and_then(|slot| domain.frames.lock().remove(slot, frame).ok().flatten());
        leave(left);
    })
}

/// Takes the frame that a direct-mapped domain has at `gfn`, if it gave it up.
fn take_at(domain: &Domain, gfn: u64) -> Result<Pa, Errno> {
    let frame = Pa::new(page_at(gfn).ok_or(Errno::Invalid)?.start().get());
    let slot = slot_of(domain, frame).ok_or(Errno::Invalid)?;
    let taken = domain.frames.lock().take_at(slot, frame);
    taken.map(|()| frame).map_err(frame_errno)
}

/// Adds a chunk of the pool to a domain that has given one back, and takes a frame of it.
fn grow(domain: &Domain) -> Option<Pa> {
    let mut frames = domain.frames.lock();
    let owner = Owner {
        domain: domain.id.0,
        slot: frames.vacancy()?,
    };
    let chunk = memory_map::pool().allocate_one(owner)?;
    if !frames.add(owner.slot, chunk) {
        let whole = PaRange::new(chunk, ::memory::CHUNK_SIZE)?;
        memory_map::pool().give_back(&[whole]);
        return None;
    }
    // Code of the chunk's last owner may be in instruction caches.
    cache::invalidate_instructions();
    frames.take()
}
