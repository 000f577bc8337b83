//! A machine for the tests: domains, guest memory in a vector, and a record of what was asked of it.

#[path = "support/guest.rs"]
mod guest;

pub(crate) use guest::Guest;

use crate::{
    Caller, Config, ConsoleConfig, GuestMemory, Host, MemoryFigures, Outcome, Replaced, SharedPage,
    XenState, hypercall,
};
use abi::{DomainId, DomainSet, Errno, VcpuId, hypercall as number};
use memory::{Pa, Pages, Va};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of a guest's memory; its virtual addresses start at [`BASE`].
pub(super) const SIZE: u64 = 0x1_0000;
/// First virtual address of a guest's memory.
pub(super) const BASE: u64 = 0x10_0000;
/// Where the structures of calls are put.
pub(super) const SCRATCH: u64 = BASE + 0x100;
/// Guest frame numbers of RAM.
pub(super) const RAM_GFN: u64 = 0x4_0000;
/// Pages of RAM that can be registered.
pub(super) const RAM_PAGES: u64 = 4;
/// Guest frame number of the console.
pub(super) const CONSOLE_GFN: u64 = abi::guest_layout::CONSOLE_GFN;

/// The physical address that the machine of the tests says a page has: as short as real ones are.
pub(super) fn physical_address(pointer: u64) -> u64 {
    pointer & ((1 << 44) - 1)
}

/// What a host says that has no memory to grant.
macro_rules! no_grants {
    () => {
        fn granter(&self, _: abi::DomainId) -> Option<&crate::XenState> {
            None
        }
        fn frame(&self, _: abi::DomainId, _: u64) -> Option<memory::Pa> {
            None
        }
        fn owner(&self, _: memory::Pa) -> Option<abi::DomainId> {
            None
        }
        fn hold(&self, _: abi::DomainId, _: memory::Pa) -> Result<(), abi::Errno> {
            Err(abi::Errno::Invalid)
        }
        fn release(&self, _: abi::DomainId, _: memory::Pa) {}
        fn replace_map(&self, _: abi::DomainId, _: u64, _: memory::Pa) -> Option<memory::Pa> {
            None
        }
    };
}
pub(super) use no_grants;

/// A zeroed page that lives as long as the test program.
pub(super) fn page() -> SharedPage {
    if cfg!(fuzzing) {
        return recycled::page();
    }
    let pages = Pages::allocate(1).unwrap();
    let words = pages.words();
    std::mem::forget(pages);
    words
}

/// For fuzzing, which makes machines without end, one at a time: the pages of the last one are used again.
mod recycled {
    use super::{Pages, SharedPage};
    use std::cell::RefCell;
    use std::sync::atomic::Ordering::Relaxed;

    thread_local! {
        /// All pages, and how many of them are in use.
        static POOL: RefCell<(Vec<Pages>, usize)> = const { RefCell::new((Vec::new(), 0)) };
    }

    pub(super) fn page() -> SharedPage {
        POOL.with_borrow_mut(|(pages, used)| {
            if *used == pages.len() {
                pages.push(Pages::allocate(1).unwrap());
            }
            let words = pages[*used].words();
            *used += 1;
            for offset in (0..4096).step_by(8) {
                words.u64(offset).unwrap().store(0, Relaxed);
            }
            words
        })
    }

    /// The last machine is gone.
    pub(super) fn start() {
        POOL.with_borrow_mut(|(_, used)| *used = 0);
    }
}

/// What the test machine holds of a domain besides its [`XenState`].
#[derive(Default)]
pub(super) struct Physical {
    pub(super) memory: RefCell<Vec<u8>>,
    pub(super) ram: RefCell<Vec<SharedPage>>,
    /// Guest frame number to address of the page.
    pub(super) map: RefCell<BTreeMap<u64, u64>>,
    /// Frames of others, by guest frame number: address, and whether it may be written.
    pub(super) granted: RefCell<BTreeMap<u64, (u64, bool)>>,
    pub(super) output: RefCell<Vec<u8>>,
    pub(super) input: RefCell<Vec<u8>>,
    pub(super) new_pages: Cell<u32>,
    /// How often room was asked for.
    pub(super) rooms: Cell<u32>,
    /// Pages that [`Caller::ram_page`] gave and nobody has given back.
    pub(super) kept: Cell<u32>,
}

impl Physical {
    /// The RAM that is mapped at a guest frame number.
    pub(super) fn frame(&self, gfn: u64) -> Option<Pa> {
        let address = self.map.borrow().get(&gfn).copied()?;
        self.is_ram(address)
            .then(|| Pa::new(physical_address(address)))
    }

    /// Whether a page is the domain's RAM.
    pub(super) fn is_ram(&self, address: u64) -> bool {
        let ram = self.ram.borrow();
        ram.iter().any(|page| page.address().get() == address)
    }

    /// A page of RAM that is neither mapped nor held.
    fn free_ram(&self, holds: &BTreeMap<u64, u32>) -> Option<SharedPage> {
        let map = self.map.borrow();
        let ram = self.ram.borrow();
        let free = |page: &&SharedPage| {
            let address = page.address().get();
            !holds.contains_key(&physical_address(address))
                && map.values().all(|mapped| *mapped != address)
        };
        ram.iter().find(free).copied()
    }
}

/// All domains, and what was asked of the machine.
pub(super) struct Machine {
    pub(super) domains: Vec<(XenState, Physical)>,
    pub(super) upcalls: RefCell<Vec<(u16, u32)>>,
    pub(super) wakes: RefCell<Vec<(u16, u32)>>,
    pub(super) now: Cell<u64>,
    pub(super) watchdog_changes: Cell<u32>,
    /// How often each frame is held.
    pub(super) holds: RefCell<BTreeMap<u64, u32>>,
    /// Frames that were flushed.
    pub(super) flushes: RefCell<Vec<(u64, u64)>>,
    /// Steps that xenstore has to do.
    pub(super) store_steps: Cell<u32>,
    /// A domain that [`Host::peer`] does not find.
    pub(super) dead: Cell<Option<DomainId>>,
}

impl Machine {
    /// Domains 1 to `domains`, each with a PV console.
    pub(super) fn new(domains: u16, vcpus: u32) -> Self {
        Self::with(domains, vcpus, |_| {})
    }

    pub(super) fn with(domains: u16, vcpus: u32, change: impl Fn(&mut Config<'_>)) -> Self {
        recycled::start();
        let domains = (1..=domains).map(|id| {
            let console = page();
            let mut config = Config::new(DomainId(id), vcpus, page(), page());
            config.console = Some(ConsoleConfig {
                page: console,
                gfn: CONSOLE_GFN,
            });
            config.handle = [id as u8; 16];
            config.peers = DomainSet::ALL;
            change(&mut config);
            let physical = Physical {
                memory: RefCell::new(vec![0; SIZE as usize]),
                ram: RefCell::new((0..RAM_PAGES).map(|_| page()).collect()),
                ..Physical::default()
            };
            for (index, page) in physical.ram.borrow().iter().enumerate() {
                let gfn = RAM_GFN + index as u64;
                physical.map.borrow_mut().insert(gfn, page.address().get());
            }
            (XenState::new(&config).unwrap(), physical)
        });
        Self {
            domains: domains.collect(),
            upcalls: RefCell::default(),
            wakes: RefCell::default(),
            now: Cell::new(1_000),
            watchdog_changes: Cell::new(0),
            holds: RefCell::default(),
            flushes: RefCell::default(),
            store_steps: Cell::new(0),
            dead: Cell::new(None),
        }
    }

    pub(super) fn guest(&self, domain: u16) -> Guest<'_> {
        self.vcpu(domain, 0)
    }

    pub(super) fn vcpu(&self, domain: u16, vcpu: u32) -> Guest<'_> {
        let (state, physical) = &self.domains[usize::from(domain) - 1];
        Guest {
            machine: self,
            state,
            physical,
            vcpu: VcpuId(vcpu),
        }
    }

    /// The page of RAM at an address, and whose it is.
    pub(super) fn page(&self, frame: Pa) -> Option<(DomainId, SharedPage)> {
        self.domains.iter().find_map(|(state, physical)| {
            let ram = physical.ram.borrow();
            let page = ram
                .iter()
                .find(|page| physical_address(page.address().get()) == frame.get())?;
            Some((state.id(), *page))
        })
    }

    /// The upcalls since the last time.
    pub(super) fn take_upcalls(&self) -> Vec<(u16, u32)> {
        self.upcalls.take()
    }
}

/// The frame that takes the place of one whose domain has ended.
pub(super) const EMPTY_FRAME: Pa = Pa::new(0xe_0000);

impl Host for Machine {
    fn replace_map(&self, domain: DomainId, gfn: u64, frame: Pa) -> Option<Pa> {
        let (_, physical) = &self.domains[usize::from(domain.0) - 1];
        let mut granted = physical.granted.borrow_mut();
        let there = granted.get_mut(&gfn)?;
        if there.0 != frame.get() {
            return None;
        }
        there.0 = EMPTY_FRAME.get();
        Some(EMPTY_FRAME)
    }

    fn serve_store(&self, _: DomainId) -> bool {
        let left = self.store_steps.get().saturating_sub(1);
        self.store_steps.set(left);
        left != 0
    }

    fn upcall(&self, domain: DomainId, vcpu: VcpuId) {
        self.upcalls.borrow_mut().push((domain.0, vcpu.0));
    }

    fn wake(&self, domain: DomainId, vcpu: VcpuId) {
        self.wakes.borrow_mut().push((domain.0, vcpu.0));
    }

    fn peer(&self, id: DomainId) -> Option<&XenState> {
        if self.dead.get() == Some(id) {
            return None;
        }
        let index = usize::from(id.0).checked_sub(1)?;
        self.domains.get(index).map(|(state, _)| state)
    }

    fn granter(&self, id: DomainId) -> Option<&XenState> {
        let index = usize::from(id.0).checked_sub(1)?;
        self.domains.get(index).map(|(state, _)| state)
    }

    fn frame(&self, domain: DomainId, gfn: u64) -> Option<Pa> {
        let index = usize::from(domain.0).checked_sub(1)?;
        self.domains.get(index)?.1.frame(gfn)
    }

    fn owner(&self, frame: Pa) -> Option<DomainId> {
        self.page(frame).map(|(owner, _)| owner)
    }

    fn hold(&self, domain: DomainId, frame: Pa) -> Result<(), Errno> {
        let mapped = |physical: &Physical| {
            let map = physical.map.borrow();
            map.values()
                .any(|address| physical_address(*address) == frame.get())
        };
        let (state, physical) = &self.domains[usize::from(domain.0) - 1];
        assert_eq!(
            self.owner(frame),
            Some(state.id()),
            "a foreign frame is held"
        );
        if !mapped(physical) {
            return Err(Errno::Invalid);
        }
        *self.holds.borrow_mut().entry(frame.get()).or_default() += 1;
        Ok(())
    }

    fn release(&self, domain: DomainId, frame: Pa) {
        assert_eq!(
            self.owner(frame),
            Some(domain),
            "a foreign frame is released"
        );
        let mut holds = self.holds.borrow_mut();
        let count = holds.get_mut(&frame.get()).expect("not held");
        *count -= 1;
        if *count == 0 {
            holds.remove(&frame.get());
        }
    }

    fn console_has_room(&self, _: DomainId) -> bool {
        true
    }

    fn condemn(&self, domain: DomainId) {
        panic!("{domain:?} is condemned");
    }

    fn release_page(&self, domain: DomainId, _: &SharedPage) {
        let physical = &self.domains[usize::from(domain.0) - 1].1;
        physical.kept.set(physical.kept.get() - 1);
    }

    fn console_write(&self, domain: DomainId, bytes: &[u8]) {
        let (_, physical) = &self.domains[usize::from(domain.0) - 1];
        physical.output.borrow_mut().extend_from_slice(bytes);
    }
}
