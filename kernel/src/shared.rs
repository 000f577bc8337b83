//! Memory that guests share because the device tree says so: the hypervisor's own, for good. The end of one guest
//! leaves the others theirs.

use alloc::string::String;
use alloc::vec::Vec;

use crate::say::error;
use ::memory::{MapError, PAGE_SIZE, PaRange, Pages, Stage2, Stage2Kind};
use devtree::guest::DomainConfig;
use devtree::plan;
use sync::Once;

use crate::memory_map;

/// Each shared memory by its id.
static SHARED: Once<Vec<(String, PaRange)>> = Once::new();

/// Finds a place for what has none, and zeroes all of it. What finds none is said, and guests that want it are left
/// out.
pub(crate) fn start(configs: &[DomainConfig]) {
    let mut all = Vec::new();
    for shared in plan::shared_memory(configs) {
        let size = shared.guest.size();
        match shared.host.or_else(|| allocate(size)) {
            Some(place) => {
                memory_map::scrub(place);
                all.push((shared.id.clone(), place));
            }
            None => error!("shared memory {}: no {} KiB free", shared.id, size >> 10),
        }
    }
    SHARED.call_once(|| all);
}

/// Memory of the heap, which is never given back.
fn allocate(size: u64) -> Option<PaRange> {
    memory_map::grow_heap_by(size);
    let pages = Pages::allocate(usize::try_from(size / PAGE_SIZE).ok()?)?;
    let place = PaRange::new(pages.address(), size);
    core::mem::forget(pages);
    place
}

/// Maps what a guest shares into its second stage: never executed, and not its own, so that it can neither grant it nor
/// give it up. `None` if there is no place for one.
pub(crate) fn map(config: &DomainConfig, stage2: &mut Stage2) -> Option<Result<(), MapError>> {
    for shared in &config.shared {
        let mut all = SHARED.get()?.iter();
        let (_, place) = all.find(|(id, _)| *id == shared.id)?;
        let mapped = stage2.map(shared.guest.start(), *place, Stage2Kind::Granted);
        if mapped.is_err() {
            return Some(mapped);
        }
    }
    Some(Ok(()))
}
