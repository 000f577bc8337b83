//! Memory at boot: the heap's first bytes, the final map, the pool for guests.
//!
//! What is taken and what is left is decided in `devtree::own_memory`; from the heap's first range the final map is
//! built, and put into force.

use crate::say::info;
use ::memory::{
    CHUNK_SIZE, ChunkPool, Heap, MapError, Owner, PAGE_SIZE, Pa, PaRange, SharedMemory, Stage1,
    Stage1Kind,
};
use arch::{cache, entry, mmu, tlb};
use core::sync::atomic::{AtomicU64, Ordering};
use devtree::Board;
use devtree::board::StartMethod;
use devtree::free::Free;
use devtree::own_memory::{self, FirstHeap, Taken};
use sync::{Once, SpinLock};

use crate::interrupts;

/// The heap grows by a block when a domain is about to be created and less than this is free.
const HEAP_RESERVE: u64 = 512 * 1024;

#[global_allocator]
static HEAP: Heap = Heap::new();

static POOL: ChunkPool = ChunkPool::new();
static MAP: Once<SpinLock<Stage1>> = Once::new();
static TAKEN: Once<Taken> = Once::new();
static HIGHEST: AtomicU64 = AtomicU64::new(0);
/// Chunks of the pool that became the heap's.
static GROWN: AtomicU64 = AtomicU64::new(0);
/// Bytes of the image that became the heap's.
static TAKEN_BACK: AtomicU64 = AtomicU64::new(0);

/// Why memory could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Error {
    /// Too much is reserved, or nothing is left for the heap.
    Own(devtree::Error),
    /// No memory for the heap, or for the map.
    NoMemory,
    /// The final map refused a range.
    Map(MapError, &'static str),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Own(error) => error.fmt(f),
            Self::NoMemory => f.write_str("no memory for the hypervisor itself"),
            Self::Map(error, what) => write!(f, "cannot map {what}: {error}"),
        }
    }
}

impl From<devtree::Error> for Error {
    fn from(error: devtree::Error) -> Self {
        Self::Own(error)
    }
}

/// The pool of memory for guests.
pub(crate) fn pool() -> &'static ChunkPool {
    &POOL
}

/// Bytes of the pool that are for guests: all that the heap has not taken.
pub(crate) fn for_guests() -> u64 {
    let chunks = POOL.total().saturating_sub(GROWN.load(Ordering::Relaxed));
    chunks.saturating_mul(CHUNK_SIZE)
}

/// Bytes that the hypervisor itself has in use: its image and its heap.
pub(crate) fn own_usage() -> u64 {
    let image = entry::image().map_or(0, PaRange::size);
    image
        .saturating_sub(TAKEN_BACK.load(Ordering::Relaxed))
        .saturating_add(HEAP.usage().1 as u64)
}

/// Bytes of the heap, and of it in use.
pub(crate) fn heap_usage() -> (u64, u64) {
    let (total, used) = HEAP.usage();
    (total as u64, used as u64)
}

/// Makes sure that the heap has room: before a domain is created, and when there was none for what a guest
/// does within its bounds.
pub(crate) fn grow_heap() -> Option<()> {
    let (total, used) = HEAP.usage();
    if total.saturating_sub(used) as u64 >= HEAP_RESERVE {
        return Some(());
    }
    let chunk = POOL.allocate_one(Owner {
        domain: Owner::HYPERVISOR,
        slot: 0,
    })?;
    give_to_heap(PaRange::new(chunk, CHUNK_SIZE)?);
    GROWN.fetch_add(1, Ordering::Relaxed);
    Some(())
}

/// Gives the heap chunks for one piece of so many bytes, if it is too large to be found there anyway.
pub(crate) fn grow_heap_by(bytes: u64) {
    if bytes <= HEAP_RESERVE / 2 {
        return;
    }
    // The heap deals in powers of two.
    let chunks = bytes.next_power_of_two().div_ceil(CHUNK_SIZE);
    let pieces = POOL.allocate(chunks, Owner::HYPERVISOR);
    for piece in pieces.into_iter().flatten() {
        give_to_heap(piece);
        GROWN.fetch_add(piece.size() / CHUNK_SIZE, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "the ranges were just taken from what is free")]
fn give_to_heap(range: PaRange) {
    // SAFETY: the callers took the range out of the free memory, and it is mapped.
    unsafe { HEAP.add(range) }
}

#[expect(unsafe_code, reason = "the map was made for this")]
fn enforce(root: ::memory::Pa) {
    // SAFETY: the map holds the image, the stack, the heap, the tree and the console.
    unsafe { mmu::switch(root.get()) }
}

/// Sets up the heap and the final map.
pub(crate) fn start(board: &Board, tree: PaRange) -> Result<(), Error> {
    let image = entry::image().ok_or(Error::NoMemory)?;
    let mut taken = own_memory::taken(board, image, tree)?;
    let heap = own_memory::first_heap(board, image, &mut taken)?;
    let first = heap.range();
    if matches!(heap, FirstHeap::Apart(_)) && !entry::map_early_memory(first) {
        return Err(Error::NoMemory);
    }
    give_to_heap(first);

    let map = build_map(board, first)?;
    let root = map.root();
    MAP.call_once(|| SpinLock::new(map));
    enforce(root);
    TAKEN.call_once(|| taken);
    Ok(())
}

/// What no guest's module may overlap, and no guest be given.
pub(crate) fn taken() -> Taken {
    TAKEN.get().cloned().unwrap_or_default()
}

/// Gives the free memory to the pool: all but what is taken, and what is `kept`. `fixed` is what guests have by its
/// place.
pub(crate) fn fill_pool(board: &Board, kept: &[PaRange], fixed: &[PaRange]) -> Result<(), Error> {
    let left = own_memory::left(board, &taken(), &[kept, fixed].concat());
    POOL.fill(&left.ranges, fixed);
    let highest = board
        .memory
        .iter()
        .map(|range| range.end().frame_number())
        .max();
    HIGHEST.store(highest.unwrap_or(0), Ordering::Relaxed);
    info!(
        "memory: {} MiB, {} MiB free for guests",
        board
            .memory
            .iter()
            .map(|range| range.size() >> 20)
            .sum::<u64>(),
        (POOL.free() * CHUNK_SIZE) >> 20,
    );
    Ok(())
}

/// The final map: all memory that may be mapped, the image's parts with their rights, devices.
fn build_map(board: &Board, heap: PaRange) -> Result<Stage1, Error> {
    let mut map = Stage1::new().ok_or(Error::NoMemory)?;
    let parts = entry::image_parts().ok_or(Error::NoMemory)?;
    let mut apart = Taken::new();
    let no_map = board.reserved.iter().filter(|reserved| reserved.no_map);
    for range in parts
        .iter()
        .map(|part| part.0)
        .chain(no_map.map(|reserved| reserved.range))
        .chain([heap])
    {
        apart
            .try_push(range)
            .map_err(|_| devtree::Error::TooMany("reserved ranges"))?;
    }
    for range in &Free::new(&board.memory, &apart, PAGE_SIZE).ranges {
        map.map(*range, Stage1Kind::Data)
            .map_err(|error| Error::Map(error, "memory"))?;
    }
    map.map_pages(heap, Stage1Kind::Data)
        .map_err(|error| Error::Map(error, "the heap"))?;
    for (range, kind) in parts {
        map.map(range, kind)
            .map_err(|error| Error::Map(error, "the image"))?;
    }
    let uarts = [&board.console, &board.second_uart];
    let uarts = uarts
        .into_iter()
        .flatten()
        .map(|uart| (uart.registers, "the UART"));
    let gic = interrupts::regions(board).map(|range| (range, "the interrupt controller"));
    let watchdog = board.watchdog.map(|range| (range, "the watchdog"));
    let light = board
        .led
        .map(|led| (led.registers, "the light's GPIO block"));
    for (range, what) in uarts.chain(gic).chain(watchdog).chain(light) {
        let pages = range.align_outward(PAGE_SIZE).ok_or(Error::NoMemory)?;
        match map.map(pages, Stage1Kind::Device) {
            // Two devices may share a page.
            Ok(()) | Err(MapError::Occupied) => {}
            Err(error) => return Err(Error::Map(error, what)),
        }
    }
    // Where firmware lets the other CPUs spin, their release words are written.
    for cpu in &board.cpus {
        if let StartMethod::SpinTable(word) = cpu.start {
            let page = word.align_down(PAGE_SIZE);
            let page = PaRange::new(page, PAGE_SIZE).ok_or(Error::NoMemory)?;
            match map.map(page, Stage1Kind::Data) {
                Ok(()) | Err(MapError::Occupied) => {}
                Err(error) => return Err(Error::Map(error, "the spin table")),
            }
        }
    }
    let guard = entry::boot_stack_guard().ok_or(Error::NoMemory)?;
    map.unmap(guard, &tlb::Stage1)
        .map_err(|error| Error::Map(error, "around the guard page"))?;
    Ok(map)
}

/// Takes the page at `guard` out of EL2's map: an access to it is a fault from now on.
pub(crate) fn make_guard(guard: PaRange) -> Result<(), Error> {
    let map = MAP.get().ok_or(Error::NoMemory)?;
    map.lock()
        .unmap(guard, &tlb::Stage1)
        .map_err(|error| Error::Map(error, "around a guard page"))
}

/// Gives the heap what only the boot needed ([`entry::boot_memory`]): nobody is on its stack any more, and no CPU has
/// its map.
pub(crate) fn take_back_boot_memory() -> Result<(), Error> {
    let boot = entry::boot_memory().ok_or(Error::NoMemory)?;
    let guard = entry::boot_stack_guard().ok_or(Error::NoMemory)?;
    let map = MAP.get().ok_or(Error::NoMemory)?;
    map.lock()
        .map(guard, Stage1Kind::Data)
        .map_err(|error| Error::Map(error, "what the boot needed"))?;
    tlb::publish();
    give_to_heap(boot);
    TAKEN_BACK.fetch_add(boot.size(), Ordering::Relaxed);
    Ok(())
}

/// The root of the final map, for CPUs that start.
pub(crate) fn root() -> Option<::memory::Pa> {
    MAP.get().map(|map| map.lock().root())
}

/// Number of the machine's highest frame of RAM, plus one.
pub(crate) fn highest_frame() -> u64 {
    HIGHEST.load(Ordering::Relaxed)
}

/// A range of RAM that is reserved while it is read: a bundle, a module.
#[expect(unsafe_code, reason = "reserved memory is nobody else's")]
pub(crate) fn bytes(range: PaRange) -> &'static [u8] {
    // SAFETY: the range is RAM by the tree, mapped, and kept out of the pool; firmware wrote it before we
    // ran, and nobody writes it since.
    unsafe { core::slice::from_raw_parts(range.start().get() as *const u8, range.size() as usize) }
}

/// Zeroes memory that is about to become a guest's, down to the point of coherency: whole pages.
#[expect(unsafe_code, reason = "chunks of the pool are nobody's")]
pub(crate) fn scrub(chunk: PaRange) {
    // SAFETY: it was just taken out of the pool, or out of what its domain has given up, is mapped, and is
    // whole pages.
    unsafe { cache::scrub(chunk) }
}

/// Writes memory of a guest that does not run yet, down to the point of coherency.
pub(crate) fn write(to: Pa, bytes: &[u8]) {
    write_cached(to, bytes);
    cache::clean_invalidate(to, bytes.len() as u64);
}

/// Writes guest memory. The caller checked that it is one guest's.
#[expect(unsafe_code, reason = "guest RAM is never referenced")]
pub(crate) fn write_cached(to: Pa, bytes: &[u8]) {
    // SAFETY: guest RAM is mapped as Normal memory, and no reference of ours points there.
    unsafe { arch::guest::write(to, bytes) }
}

/// Reads guest memory. The caller checked that it is one guest's.
#[expect(unsafe_code, reason = "guest RAM is never referenced")]
pub(crate) fn read(from: Pa, into: &mut [u8]) {
    // SAFETY: as for writing.
    unsafe { arch::guest::read(from, into) }
}

/// [`read`] and [`write_cached`] for an item of a list, whose size is known where this is called: inlined there.
#[expect(unsafe_code, reason = "guest RAM is never referenced")]
#[inline]
pub(crate) fn read_item(from: Pa, into: &mut [u8]) {
    // SAFETY: as for reading.
    unsafe { arch::guest::read_item(from, into) }
}

/// See [`read_item`].
#[expect(unsafe_code, reason = "guest RAM is never referenced")]
#[inline]
pub(crate) fn write_item(to: Pa, bytes: &[u8]) {
    // SAFETY: as for writing.
    unsafe { arch::guest::write_item(to, bytes) }
}

/// Copies from guest memory to guest memory. The caller knows whose both are, and that they stay so.
#[expect(unsafe_code, reason = "guest RAM is never referenced")]
pub(crate) fn copy(from: Pa, to: Pa, size: u64) {
    // SAFETY: as for reading and writing.
    unsafe { arch::guest::copy(from, to, size) }
}

/// Reads an aligned word of guest memory. The caller checked that it is one guest's.
#[expect(unsafe_code, reason = "guest RAM is never referenced")]
#[inline]
pub(crate) fn read_word(from: Pa) -> u32 {
    // SAFETY: as for reading; aligned.
    unsafe { arch::guest::read_word(from) }
}

/// A page of guest RAM as words that the guest writes at the same time.
#[expect(unsafe_code, reason = "guest RAM is never referenced but by atomics")]
pub(crate) fn shared_page(page: Pa) -> Option<SharedMemory> {
    // SAFETY: guest RAM is mapped as Normal memory; RAM that a guest registered with the hypervisor stays
    // with it until its domain ends, and nobody uses the page after that.
    unsafe { SharedMemory::new(page, PAGE_SIZE as usize) }
}
