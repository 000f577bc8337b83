//! What the Xen side of a domain asks of the machine: guest memory, other domains, the console.

use core::sync::atomic::{AtomicU64, Ordering};

use ::memory::{PAGE_SIZE, Pa, Page, Stage2Kind, Va};
use abi::{DomainId, Errno, VcpuId};
use arch::cache;
use arch::guest::{self, Intent};
use domain::clock::Clock;
use xen::{Caller, GuestMemory, Host, MemoryFigures, Replaced, SharedPage, Traced, XenState};

use crate::machine::{self, MAX_SHARED_PAGES, Vcpu};
use crate::{console, frames, lifecycle, memory_map, schedule, store, trace};

/// The machine, as any domain's Xen side sees it.
pub(crate) struct Machine;

/// The vCPU that makes a call; it is loaded on this CPU.
pub(crate) struct Calling(pub(crate) &'static Vcpu);

/// The counter's [`Clock`]; 0 before it was first asked for.
static CLOCK: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds of this many ticks.
#[inline]
pub(crate) fn nanoseconds(ticks: u64) -> u64 {
    let clock = match CLOCK.load(Ordering::Relaxed) {
        0 => first_clock(),
        word => Clock::from_word(word),
    };
    clock.nanoseconds(ticks)
}

#[cold]
fn first_clock() -> Clock {
    let clock = Clock::new(arch::time::frequency());
    CLOCK.store(clock.to_word(), Ordering::Relaxed);
    clock
}

/// Ticks of this many nanoseconds, rounded up; what does not fit is "never".
pub(crate) fn ticks(nanoseconds: u64) -> u64 {
    let frequency = u128::from(arch::time::frequency());
    let ticks = (u128::from(nanoseconds) * frequency).div_ceil(1_000_000_000);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

impl Host for Machine {
    fn upcall(&self, domain: DomainId, vcpu: VcpuId) {
        if let Some(vcpu) = vcpu_of(domain, vcpu) {
            schedule::upcall(vcpu);
        }
    }

    fn wake(&self, domain: DomainId, vcpu: VcpuId) {
        if let Some(vcpu) = vcpu_of(domain, vcpu) {
            schedule::kick(vcpu);
        }
    }

    fn peer(&self, id: DomainId) -> Option<&XenState> {
        machine::find(id)
            .filter(|domain| !domain.gone.load(Ordering::Acquire))
            .map(|domain| &domain.xen)
    }

    fn granter(&self, id: DomainId) -> Option<&XenState> {
        machine::find(id).map(|domain| &domain.xen)
    }

    fn frame(&self, domain: DomainId, gfn: u64) -> Option<Pa> {
        frames::frame(machine::find(domain)?, gfn)
    }

    fn owner(&self, frame: Pa) -> Option<DomainId> {
        let owner = memory_map::pool().owner_of(frame)?;
        Some(DomainId(owner.domain))
    }

    fn hold(&self, domain: DomainId, frame: Pa) -> Result<(), Errno> {
        frames::hold(machine::find(domain).ok_or(Errno::Invalid)?, frame)
    }

    #[inline(never)]
    fn hold_at(&self, domain: DomainId, gfn: u64) -> Result<Pa, Errno> {
        frames::hold_at(machine::find(domain).ok_or(Errno::Invalid)?, gfn)
    }

    #[inline(never)]
    fn release(&self, domain: DomainId, frame: Pa) {
        if let Some(domain) = machine::find(domain) {
            frames::release(domain, frame);
        }
    }

    fn replace_map(&self, domain: DomainId, gfn: u64, frame: Pa) -> Option<Pa> {
        frames::replace(machine::find(domain)?, gfn, frame)
    }

    fn console_write(&self, domain: DomainId, bytes: &[u8]) {
        if let Some(domain) = machine::find(domain) {
            domain.speaks_by_uart.store(false, Ordering::Relaxed);
            console::write(domain.console, bytes);
        }
    }

    fn console_has_room(&self, domain: DomainId) -> bool {
        machine::find(domain).is_none_or(console::has_room)
    }

    fn release_page(&self, domain: DomainId, page: &SharedPage) {
        if let Some(domain) = machine::find(domain) {
            frames::let_go(domain, page.address());
        }
    }

    fn serve_store(&self, domain: DomainId) -> bool {
        store::serve(self, domain)
    }

    fn condemn(&self, domain: DomainId) {
        if let Some(domain) = machine::find(domain) {
            lifecycle::condemn(domain);
        }
    }

    #[inline(always)]
    fn is_traced(&self) -> bool {
        trace::is_on()
    }

    fn trace(&self, what: Traced) {
        trace::points::xen(what);
    }
}

fn vcpu_of(domain: DomainId, vcpu: VcpuId) -> Option<&'static Vcpu> {
    machine::find(domain)?.vcpu(vgic::VcpuId::new(vcpu.0)?)
}

/// Whether so many bytes, one at least, are in one page.
#[inline]
fn is_in_a_page(start: Va, length: usize) -> bool {
    let room = (PAGE_SIZE - start.offset_in(PAGE_SIZE)) as usize;
    (1..=room).contains(&length)
}

impl Calling {
    /// The physical address of a guest virtual address.
    #[inline]
    fn piece(&self, at: Va, intent: Intent) -> Result<Pa, Errno> {
        let pa = guest::translate(at, intent).ok_or(Errno::Fault)?;
        if self.0.domain.owns(pa) {
            Ok(pa)
        } else {
            Err(Errno::Fault)
        }
    }

    /// Maps a granted frame in place of whatever is there.
    #[inline(never)]
    fn put_instead(&self, gfn: u64, frame: Pa, kind: Stage2Kind) -> Result<Replaced, Errno> {
        frames::put(self.0.domain, gfn, frame, kind).map(replaced)
    }

    /// Visits the pieces of a range of guest virtual addresses, page by page: physical address, and which
    /// bytes of the range.
    #[inline]
    fn pieces(
        &self,
        va: Va,
        length: usize,
        intent: Intent,
        mut visit: impl FnMut(Pa, core::ops::Range<usize>),
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < length {
            let at = va.checked_add(done as u64).ok_or(Errno::Fault)?;
            let room = (PAGE_SIZE - at.offset_in(PAGE_SIZE)) as usize;
            let size = room.min(length - done);
            visit(self.piece(at, intent)?, done..done + size);
            done += size;
        }
        Ok(())
    }
}

impl GuestMemory for Calling {
    #[inline]
    fn read(&self, from: Va, buffer: &mut [u8]) -> Result<(), Errno> {
        let cached = guest::caches_on();
        if cached && is_in_a_page(from, buffer.len()) {
            memory_map::read(self.piece(from, Intent::Read)?, buffer);
            return Ok(());
        }
        self.pieces(from, buffer.len(), Intent::Read, |pa, part| {
            if let Some(part) = buffer.get_mut(part) {
                if !cached {
                    // The guest wrote past the caches: what they hold of it is older.
                    cache::clean_invalidate(pa, part.len() as u64);
                }
                memory_map::read(pa, part);
            }
        })
    }

    /// The frame cannot become another's before this call is over (`frames`).
    #[inline]
    fn place(&self, at: Va, length: usize) -> Result<Option<Pa>, Errno> {
        if !guest::caches_on() || !is_in_a_page(at, length) || !at.is_aligned(8) {
            return Ok(None);
        }
        self.piece(at, Intent::Write).map(Some)
    }

    #[inline]
    fn read_place(&self, place: Pa, buffer: &mut [u8]) {
        memory_map::read_item(place, buffer);
    }

    #[inline]
    fn write_place(&self, place: Pa, bytes: &[u8]) {
        memory_map::write_item(place, bytes);
    }

    /// The argument of the hot calls: aligned, so in one page.
    #[inline(always)]
    fn read_u32_at_once(&self, from: Va) -> Option<u32> {
        if !from.is_aligned(4) || !guest::caches_on() {
            return None;
        }
        let pa = guest::translate(from, Intent::Read)?;
        let domain = self.0.domain.id.0;
        memory_map::pool()
            .belongs_at_once(pa, domain)
            .then(|| memory_map::read_word(pa))
    }

    fn write(&self, to: Va, bytes: &[u8]) -> Result<(), Errno> {
        let cached = guest::caches_on();
        if cached && is_in_a_page(to, bytes.len()) {
            memory_map::write_cached(self.piece(to, Intent::Write)?, bytes);
            return Ok(());
        }
        self.pieces(to, bytes.len(), Intent::Write, |pa, part| {
            if let Some(part) = bytes.get(part) {
                memory_map::write_cached(pa, part);
                if !cached {
                    cache::clean_invalidate(pa, part.len() as u64);
                }
            }
        })
    }
}

impl Host for Calling {
    fn upcall(&self, domain: DomainId, vcpu: VcpuId) {
        if domain == self.0.domain.id && vcpu.0 == self.0.id.get() {
            schedule::upcall(self.0);
        } else {
            Machine.upcall(domain, vcpu);
        }
    }

    fn wake(&self, domain: DomainId, vcpu: VcpuId) {
        Machine.wake(domain, vcpu);
    }

    fn peer(&self, id: DomainId) -> Option<&XenState> {
        Machine.peer(id)
    }

    #[inline(always)]
    fn granter(&self, id: DomainId) -> Option<&XenState> {
        if id == self.0.domain.id {
            return Some(&self.0.domain.xen);
        }
        Machine.granter(id)
    }

    fn frame(&self, domain: DomainId, gfn: u64) -> Option<Pa> {
        if domain == self.0.domain.id {
            return frames::frame(self.0.domain, gfn);
        }
        Machine.frame(domain, gfn)
    }

    fn owner(&self, frame: Pa) -> Option<DomainId> {
        Machine.owner(frame)
    }

    fn hold(&self, domain: DomainId, frame: Pa) -> Result<(), Errno> {
        Machine.hold(domain, frame)
    }

    #[inline(always)]
    fn hold_at(&self, domain: DomainId, gfn: u64) -> Result<Pa, Errno> {
        if domain == self.0.domain.id {
            return frames::hold_at(self.0.domain, gfn);
        }
        Machine.hold_at(domain, gfn)
    }

    #[inline(always)]
    fn release(&self, domain: DomainId, frame: Pa) {
        if domain == self.0.domain.id {
            return frames::release(self.0.domain, frame);
        }
        Machine.release(domain, frame);
    }

    fn replace_map(&self, domain: DomainId, gfn: u64, frame: Pa) -> Option<Pa> {
        Machine.replace_map(domain, gfn, frame)
    }

    fn console_write(&self, _domain: DomainId, bytes: &[u8]) {
        self.0.domain.speaks_by_uart.store(false, Ordering::Relaxed);
        console::write(self.0.domain.console, bytes);
    }

    fn console_has_room(&self, _domain: DomainId) -> bool {
        console::has_room(self.0.domain)
    }

    fn release_page(&self, domain: DomainId, page: &SharedPage) {
        Machine.release_page(domain, page);
    }

    fn serve_store(&self, domain: DomainId) -> bool {
        let more = store::serve(self, domain);
        if !more {
            lifecycle::look_whether_ready(self.0.domain);
        }
        more
    }

    fn condemn(&self, domain: DomainId) {
        Machine.condemn(domain);
    }

    #[inline(always)]
    fn is_traced(&self) -> bool {
        trace::is_on()
    }

    fn trace(&self, what: Traced) {
        trace::points::xen(what);
    }
}

/// What the Xen side is to know of what a mapping replaced.
fn replaced(kind: Option<Stage2Kind>) -> Replaced {
    match kind {
        Some(Stage2Kind::Shared) => Replaced::OwnPage,
        _ => Replaced::Nothing,
    }
}

impl Caller for Calling {
    #[inline]
    fn state(&self) -> &XenState {
        &self.0.domain.xen
    }

    #[inline]
    fn vcpu(&self) -> VcpuId {
        VcpuId(self.0.id.get())
    }

    fn now(&self) -> u64 {
        nanoseconds(arch::time::counter().wrapping_sub(self.0.domain.counter_offset()))
    }

    fn console_read(&self, buffer: &mut [u8]) -> usize {
        console::take_input(self.0.domain, buffer)
    }

    fn memory(&self) -> MemoryFigures {
        let domain = self.0.domain;
        let highest = domain
            .holdings
            .lock()
            .as_ref()
            .map_or(0, |held| held.highest_gfn);
        let frames = domain.frames.lock();
        MemoryFigures {
            maximum_ram_page: memory_map::highest_frame(),
            current: frames.mapped(),
            maximum: frames.most(),
            maximum_gfn: highest,
        }
    }

    fn ram_page(&self, gfn: u64) -> Result<SharedPage, Errno> {
        frames::keep(self.0.domain, gfn)
    }

    fn make_room(&self) {
        // If the pool has nothing left, what the heap has may do.
        let _ = memory_map::grow_heap();
    }

    fn new_page(&self) -> Option<SharedPage> {
        let mut holdings = self.0.domain.holdings.lock();
        let held = holdings.as_mut()?;
        // The list's room was reserved when the domain was built: pushing does not allocate.
        if held.used_pages >= MAX_SHARED_PAGES.min(held.pages.capacity()) {
            return None;
        }
        let words = match held.pages.get(held.used_pages) {
            // An earlier life of the domain had it.
            Some(page) => {
                page.words().clear();
                page.words()
            }
            None => {
                let page = Page::allocate()?;
                let words = page.words();
                held.pages.push(page);
                words
            }
        };
        held.used_pages += 1;
        cache::clean_invalidate(words.address(), PAGE_SIZE);
        Some(words)
    }

    fn map_page(&self, gfn: u64, page: &SharedPage) -> Result<(), Errno> {
        frames::put(self.0.domain, gfn, page.address(), Stage2Kind::Shared).map(|_| ())
    }

    fn remove_page(&self, gfn: u64) -> Result<(), Errno> {
        frames::take_away(self.0.domain, gfn, |_, _| true).map(|_| ())
    }

    fn give_up(&self, gfn: u64) -> Result<(), Errno> {
        frames::take_away(self.0.domain, gfn, |_, kind| kind == Stage2Kind::Ram).map(|_| ())
    }

    fn populate(&self, gfn: u64) -> Result<Replaced, Errno> {
        frames::populate(self.0.domain, gfn).map(replaced)
    }

    #[inline(always)]
    fn map_granted(&self, gfn: u64, frame: Pa, write: bool) -> Result<Replaced, Errno> {
        let kind = if write {
            Stage2Kind::Granted
        } else {
            Stage2Kind::GrantedReadOnly
        };
        if frames::put_granted(self.0.domain, gfn, frame, kind) {
            return Ok(Replaced::Nothing);
        }
        self.put_instead(gfn, frame, kind)
    }

    #[inline(always)]
    fn unmap_granted(&self, gfn: u64, frame: Pa) -> Result<(), Errno> {
        frames::take_granted(self.0.domain, gfn, frame)
    }

    fn copy(&self, from: Pa, to: Pa, length: u64) {
        let cached = guest::caches_on();
        if !cached {
            cache::clean_invalidate(from, length);
        }
        memory_map::copy(from, to, length);
        if !cached {
            cache::clean_invalidate(to, length);
        }
    }

    fn flush(&self, start: Pa, length: u64) {
        cache::clean_invalidate(start, length);
    }

    fn watchdog_changed(&self) {
        crate::timer::arm_watchdog(self.0.domain);
    }
}
