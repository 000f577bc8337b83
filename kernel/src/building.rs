//! The beginning of a domain's life, in steps: all that it had is as at first, its memory is zeroed and filled from its
//! modules, and vCPU 0 is ready. The first life, at boot, is made by the same steps.

use core::sync::atomic::Ordering;

use crate::say::error;
use ::memory::{CHUNK_SIZE, FrameError, Ipa, MapError, Owner, PAGE_SIZE, Pa, PaRange, Stage2Kind};
use arch::{cache, tlb};

use crate::hypercalls::Machine;
use crate::jobs::{Job, Progress};
use crate::load::{self, Copied};
use crate::machine::{Domain, MAX_GROWN_TABLES, Start};
use crate::{console, cpus, memory_map, shared, store};

/// Bytes zeroed in a step.
const SCRUB_STEP: u64 = 64 << 10;
/// Chunks looked for in a step.
const FILL_STEP: usize = 1;
/// Chunks whose frames are booked in a step, and chunks mapped in one.
const CHUNK_STEP: u16 = 32;
/// Static channels connected in a step.
const CHANNEL_STEP: usize = 16;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Build {
    /// The pool gives what is missing of its memory.
    #[default]
    Fill,
    /// The chunks from this slot on are booked.
    Book(u16),
    /// Pages that it shares with the hypervisor are zeroed.
    Pages,
    /// Its Xen side is as at first.
    Xen,
    /// Its interrupt controller, devices and vCPUs are as at first.
    Machine,
    /// Its second stage, from this slot on.
    Map(u16),
    /// Its RAM is zeroed, from this byte of the chunk in this slot on.
    Scrub {
        slot: u16,
        offset: u64,
    },
    /// The files are copied, from this byte of file number `file` on.
    Copy {
        file: usize,
        offset: u64,
    },
    /// It gets its place in xenstore.
    Store,
    /// And what it finds there, from this item on.
    Seed(usize),
    /// Who watches for domains that come is told: first that there is something to tell, then each.
    Introduce,
    Tell,
    /// The static event channels are connected, from this one on.
    Channels(usize),
    /// vCPU 0 is ready.
    Start,
}

/// Why a domain could not be built.
#[derive(Debug)]
pub(crate) enum Error {
    /// The pool has no chunk left, or the heap.
    NoMemory,
    /// Somebody holds a frame of its last life.
    Held,
    /// There was no room for memory that it shares.
    SharedMemory,
    /// Its second stage could not be made.
    Map(MapError),
    /// A file could not be copied.
    File(devtree::Error),
    /// Its Xen side could not be made as at first.
    Xen(xen::NewError),
    /// It has no place in xenstore.
    Store(xenstore::AddError),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoMemory => f.write_str("not enough memory"),
            Self::SharedMemory => f.write_str("no room for memory that it shares"),
            Self::Held => f.write_str("a frame of its last life is held"),
            Self::Map(error) => write!(f, "stage 2: {error}"),
            Self::File(error) => error.fmt(f),
            Self::Xen(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// A step while guests run: a domain that cannot be built is told of, and ends.
pub(crate) fn step(domain: &'static Domain, build: Build) -> Progress {
    match advance(domain, build) {
        Ok(Some(next)) => Progress::More(Job::Build(next)),
        Ok(None) => Progress::Runs,
        Err(why) => {
            error!("{}: cannot be built again: {why}", domain.name);
            domain.life.lock().failed();
            Progress::More(Job::End(crate::ending::End::default()))
        }
    }
}

/// Gives a domain all the memory that it begins with, before any guest runs: how far it has come then.
///
/// # Errors
/// [`Error`].
pub(crate) fn furnish(domain: &'static Domain) -> Result<Build, Error> {
    let mut build = Build::default();
    while !matches!(build, Build::Scrub { .. }) {
        match advance(domain, build)? {
            Some(next) => build = next,
            None => break,
        }
    }
    Ok(build)
}

/// Builds a domain that has come so far to the end, before any guest runs.
///
/// # Errors
/// [`Error`].
pub(crate) fn complete(domain: &'static Domain, mut build: Build) -> Result<(), Error> {
    while let Some(next) = advance(domain, build)? {
        build = next;
    }
    Ok(())
}

/// A step; what comes next, or `None` when vCPU 0 is ready.
fn advance(domain: &'static Domain, build: Build) -> Result<Option<Build>, Error> {
    let next = match build {
        Build::Fill => fill(domain)?,
        Build::Book(slot) => book(domain, slot)?,
        Build::Pages => {
            clean_pages(domain);
            Build::Xen
        }
        Build::Xen => {
            let channels = &domain.recipe.channels;
            domain.xen.renew(channels).map_err(Error::Xen)?;
            Build::Machine
        }
        Build::Machine => {
            reset(domain);
            Build::Map(0)
        }
        Build::Map(slot) => map(domain, slot)?,
        Build::Scrub { slot, offset } => scrub(domain, slot, offset),
        Build::Copy { file, offset } => match load::copy(domain, file, offset) {
            Ok(Copied::Next { file, offset }) => Build::Copy { file, offset },
            Ok(Copied::All) => Build::Store,
            Err(why) => return Err(Error::File(why)),
        },
        Build::Store => match store::enter(domain).map_err(Error::Store)? {
            true => Build::Seed(0),
            false => Build::Channels(0),
        },
        Build::Seed(item) => match store::seed(domain, item) {
            Some(next) => Build::Seed(next),
            None => Build::Introduce,
        },
        Build::Introduce => match store::introduce() {
            true => Build::Tell,
            false => Build::Introduce,
        },
        Build::Tell => match store::serve_own() {
            true => Build::Tell,
            false => Build::Channels(0),
        },
        Build::Channels(from) => {
            // From here on it is found.
            domain.gone.store(false, Ordering::Release);
            let all = domain.recipe.channels.iter().skip(from);
            for channel in all.take(CHANNEL_STEP) {
                domain.xen.connect_channel(&Machine, channel);
            }
            let next = from.saturating_add(CHANNEL_STEP);
            match next < domain.recipe.channels.len() {
                true => Build::Channels(next),
                false => Build::Start,
            }
        }
        Build::Start => {
            start(domain);
            return Ok(None);
        }
    };
    Ok(Some(next))
}

/// Some of the chunks that are missing. At boot none is: the builder takes the largest pieces that there are.
fn fill(domain: &'static Domain) -> Result<Build, Error> {
    let mut frames = domain.frames.lock();
    for _ in 0..FILL_STEP {
        let Some(slot) = frames.vacant_from(0) else {
            return Ok(Build::Book(0));
        };
        let owner = Owner {
            domain: domain.id.0,
            slot,
        };
        let chunk = memory_map::pool().allocate_one(owner);
        if !frames.place(slot, chunk.ok_or(Error::NoMemory)?) {
            return Err(Error::NoMemory);
        }
    }
    Ok(Build::Fill)
}

fn book(domain: &'static Domain, slot: u16) -> Result<Build, Error> {
    let mut frames = domain.frames.lock();
    for slot in slot..slot.saturating_add(CHUNK_STEP) {
        if usize::from(slot) >= frames.slots() {
            frames.live();
            return Ok(match domain.has_lived.load(Ordering::Relaxed) {
                true => Build::Pages,
                // All is as at first.
                false => Build::Map(0),
            });
        }
        frames.renew(slot).map_err(|why| match why {
            FrameError::TooOften => Error::Held,
            FrameError::NotThere | FrameError::NoMemory => Error::NoMemory,
        })?;
    }
    Ok(Build::Book(slot.saturating_add(CHUNK_STEP)))
}

/// Zeroes the pages that every life begins with; the others are zeroed when they are used again.
fn clean_pages(domain: &Domain) {
    let mut holdings = domain.holdings.lock();
    if let Some(held) = holdings.as_mut() {
        held.used_pages = held.first_pages;
        for page in held.pages.iter().take(held.first_pages) {
            page.words().clear();
            cache::clean_invalidate(page.address(), PAGE_SIZE);
        }
    }
}

fn reset(domain: &'static Domain) {
    domain.vgic.reset();
    if let Some(uart) = &domain.uart {
        uart.reset();
    }
    for vcpu in domain.vcpus() {
        vcpu.start.clear();
        vcpu.polling.store(false, Ordering::Relaxed);
        vcpu.untaken_serrors.store(0, Ordering::Relaxed);
        vcpu.recent.clear();
        // The first does this.
        if vcpu.id != vgic::VcpuId::BOOT {
            vcpu.run.reset();
        }
    }
}

/// Where the RAM of a slot lies in the guest, and how much of it is the guest's: what the last chunk has too much is not.
fn places(domain: &Domain, slot: u16) -> impl Iterator<Item = (Ipa, u64, u64)> + '_ {
    let first = u64::from(slot) * CHUNK_SIZE;
    let mut before = 0;
    domain
        .recipe
        .plan
        .machine
        .banks
        .iter()
        .filter_map(move |bank| {
            let begins = before;
            before += bank.size();
            let from = first.max(begins);
            let until = (first + CHUNK_SIZE).min(begins + bank.size());
            (from < until).then(|| {
                let ipa = Ipa::new(bank.start().get() + (from - begins));
                (ipa, from - first, until - from)
            })
        })
}

/// Maps chunks, those side by side in one piece: large blocks map them if they are aligned alike.
fn map(domain: &'static Domain, slot: u16) -> Result<Build, Error> {
    const BLOCK: u64 = 1 << 30;
    let frames = domain.frames.lock();
    let Some(start) = frames.chunk_in(slot) else {
        drop(frames);
        map_others(domain)?;
        return Ok(Build::Scrub { slot: 0, offset: 0 });
    };
    let whole = |slot: u16| {
        let mut places = places(domain, slot);
        match (places.next(), places.next()) {
            (Some((ipa, 0, CHUNK_SIZE)), None) => Some(ipa),
            _ => None,
        }
    };
    let mut count: u16 = 1;
    if let Some(ipa) = whole(slot) {
        let most = match start.is_aligned(BLOCK) && ipa.is_aligned(BLOCK) {
            true => (BLOCK / CHUNK_SIZE) as u16,
            false => CHUNK_STEP,
        };
        while count < most
            && let Some(next) = slot.checked_add(count)
            && frames.chunk_in(next) == start.checked_add(u64::from(count) * CHUNK_SIZE)
            && whole(next) == Some(Ipa::new(ipa.get() + u64::from(count) * CHUNK_SIZE))
        {
            count += 1;
        }
        // A block that is not whole is mapped by smaller ones, which are many.
        if u64::from(count) * CHUNK_SIZE < BLOCK {
            count = count.min(CHUNK_STEP);
        }
    }
    drop(frames);
    let mut holdings = domain.holdings.lock();
    let held = holdings.as_mut().ok_or(Error::NoMemory)?;
    for (ipa, offset, size) in places(domain, slot) {
        let size = match count {
            1 => size,
            _ => u64::from(count) * CHUNK_SIZE,
        };
        let at = start.checked_add(offset).ok_or(MapError::BadRange)?;
        let to = PaRange::new(at, size).ok_or(MapError::BadRange)?;
        held.stage2.map(ipa, to, Stage2Kind::Ram)?;
        held.highest_gfn = (ipa.get() + size) / PAGE_SIZE - 1;
    }
    Ok(Build::Map(slot.saturating_add(count)))
}

/// Maps what is not RAM.
fn map_others(domain: &'static Domain) -> Result<(), Error> {
    let mut holdings = domain.holdings.lock();
    let held = holdings.as_mut().ok_or(Error::NoMemory)?;
    if let Some((at, registers)) = domain.recipe.cpu_interface {
        held.stage2.map(at, registers, Stage2Kind::Device)?;
    }
    for (pages, at) in &domain.recipe.plan.assignment.registers {
        held.stage2.map(*at, *pages, Stage2Kind::Device)?;
    }
    shared::map(domain.recipe.config, &mut held.stage2).ok_or(Error::SharedMemory)??;
    let magic = domain.recipe.plan.machine.magic.frame_number();
    let pages = [(held.console_page, magic), (held.store_page, magic + 1)];
    for (page, gfn) in pages {
        if let Some(page) = page {
            let page = PaRange::new(page, PAGE_SIZE).ok_or(MapError::BadRange)?;
            let at = Ipa::from_frame_number(gfn).ok_or(MapError::BadRange)?;
            held.stage2.map(at, page, Stage2Kind::Shared)?;
        }
    }
    if !domain.has_lived.load(Ordering::Relaxed) {
        // Those that it has now are its for ever.
        let chunks = domain.frames.lock().slots();
        held.stage2.limit_tables(chunks + MAX_GROWN_TABLES);
    }
    Ok(())
}

fn scrub(domain: &'static Domain, slot: u16, offset: u64) -> Build {
    let Some(start) = domain.frames.lock().chunk_in(slot) else {
        return Build::Copy { file: 0, offset: 0 };
    };
    // Before guests run nobody waits for this CPU.
    let step = match cpus::are_released() {
        true => SCRUB_STEP,
        false => CHUNK_SIZE,
    };
    if let Some(at) = start.checked_add(offset)
        && let Some(range) = PaRange::new(at, step)
    {
        memory_map::scrub(range);
    }
    let next = offset + step;
    match next < CHUNK_SIZE {
        true => Build::Scrub { slot, offset: next },
        false => Build::Scrub {
            slot: slot.saturating_add(1),
            offset: 0,
        },
    }
}

/// The piece of memory that is a guest's RAM at an address, up to the end of its chunk.
pub(crate) fn ram_at(domain: &Domain, ipa: Ipa) -> Option<PaRange> {
    let mut before = 0;
    for bank in &domain.recipe.plan.machine.banks {
        if bank.contains(ipa) {
            let at = before + (ipa.get() - bank.start().get());
            let slot = u16::try_from(at / CHUNK_SIZE).ok()?;
            let offset = at % CHUNK_SIZE;
            let start: Pa = domain.frames.lock().chunk_in(slot)?;
            let left = (CHUNK_SIZE - offset).min(bank.end().get() - ipa.get());
            return PaRange::new(start.checked_add(offset)?, left);
        }
        before += bank.size();
    }
    None
}

/// The guest is ready to run.
fn start(domain: &'static Domain) {
    // What was cached of an earlier life was forgotten at its end; what this one was given was visible to no walker.
    tlb::Stage2::new(domain.vttbr).invalidate_all();
    cache::invalidate_instructions();
    domain.begin_anew();
    let place = &domain.recipe.plan.place;
    if let Some(first) = domain.vcpus().first() {
        first.start.set(Start {
            entry: place.entry.get(),
            argument: place.tree.start().get(),
        });
    }
    if domain.has_lived.swap(true, Ordering::Relaxed) {
        console::reopen(domain.console);
    }
}
