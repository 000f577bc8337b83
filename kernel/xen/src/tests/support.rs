//! A machine for the tests: domains, guest memory in a vector, and a record of what was asked of it.

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
        fn release(&self, _: memory::Pa) {}
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

    fn release(&self, frame: Pa) {
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

/// A vCPU that makes calls.
pub(super) struct Guest<'a> {
    pub(super) machine: &'a Machine,
    pub(super) state: &'a XenState,
    pub(super) physical: &'a Physical,
    pub(super) vcpu: VcpuId,
}

impl Guest<'_> {
    fn range(from: Va, length: usize) -> Result<std::ops::Range<usize>, Errno> {
        let start = from.get().checked_sub(BASE).ok_or(Errno::Fault)?;
        let end = start.checked_add(length as u64).ok_or(Errno::Fault)?;
        if end > SIZE {
            return Err(Errno::Fault);
        }
        Ok(start as usize..end as usize)
    }

    /// A hypercall until it does something else than to be restarted.
    pub(super) fn call(&self, nr: u64, arguments: &[u64]) -> Outcome {
        let mut registers = [0; 5];
        registers[..arguments.len()].copy_from_slice(arguments);
        for _ in 0..10_000 {
            match hypercall(self, nr, &mut registers) {
                Outcome::Restart => {}
                outcome => return outcome,
            }
        }
        panic!("hypercall {nr} does not end");
    }

    /// A hypercall that only returns.
    pub(super) fn returns(&self, nr: u64, arguments: &[u64]) -> i64 {
        match self.call(nr, arguments) {
            Outcome::Return(value) => value,
            other => panic!("hypercall {nr}: {other:?}"),
        }
    }

    pub(super) fn put<T: IntoBytes + Immutable>(&self, at: u64, value: &T) {
        self.write(Va::new(at), value.as_bytes()).unwrap();
    }

    pub(super) fn get<T: FromBytes + IntoBytes>(&self, at: u64) -> T {
        let mut value = T::new_zeroed();
        self.read(Va::new(at), value.as_mut_bytes()).unwrap();
        value
    }

    /// `nr(command, &argument, extra...)`, the argument being read back.
    pub(super) fn with<T: FromBytes + IntoBytes + Immutable>(
        &self,
        nr: u64,
        command: u64,
        argument: &mut T,
    ) -> i64 {
        self.put(SCRATCH, argument);
        let result = self.returns(nr, &[command, SCRATCH, 1]);
        *argument = self.get(SCRATCH);
        result
    }

    pub(super) fn event<T: FromBytes + IntoBytes + Immutable>(
        &self,
        command: u64,
        mut argument: T,
    ) -> Result<T, Errno> {
        match self.with(number::EVENT_CHANNEL_OP, command, &mut argument) {
            0 => Ok(argument),
            error => Err(Errno::from_return(error).unwrap()),
        }
    }

    pub(super) fn bad_pointer(&self, nr: u64, command: u64) -> i64 {
        self.returns(nr, &[command, 8, 1])
    }

    /// Whether a port's bit is set in a bit array of shared_info.
    pub(super) fn bit(&self, array: usize, port: u32) -> bool {
        let word = self.state.shared_info.u64(array + port as usize / 64 * 8);
        word.unwrap().load(std::sync::atomic::Ordering::SeqCst) >> (port % 64) & 1 != 0
    }

    pub(super) fn set_bit(&self, array: usize, port: u32, value: bool) {
        let word = self.state.shared_info.u64(array + port as usize / 64 * 8);
        let (word, bit) = (word.unwrap(), 1 << (port % 64));
        if value {
            word.fetch_or(bit, std::sync::atomic::Ordering::SeqCst);
        } else {
            word.fetch_and(!bit, std::sync::atomic::Ordering::SeqCst);
        }
    }
}

impl GuestMemory for Guest<'_> {
    fn read(&self, from: Va, buffer: &mut [u8]) -> Result<(), Errno> {
        let range = Self::range(from, buffer.len())?;
        buffer.copy_from_slice(&self.physical.memory.borrow()[range]);
        Ok(())
    }

    fn write(&self, to: Va, bytes: &[u8]) -> Result<(), Errno> {
        let range = Self::range(to, bytes.len())?;
        self.physical.memory.borrow_mut()[range].copy_from_slice(bytes);
        Ok(())
    }
}

impl Host for Guest<'_> {
    fn replace_map(&self, domain: DomainId, gfn: u64, frame: Pa) -> Option<Pa> {
        self.machine.replace_map(domain, gfn, frame)
    }
    fn serve_store(&self, domain: DomainId) -> bool {
        self.machine.serve_store(domain)
    }
    fn upcall(&self, domain: DomainId, vcpu: VcpuId) {
        self.machine.upcall(domain, vcpu);
    }
    fn wake(&self, domain: DomainId, vcpu: VcpuId) {
        self.machine.wake(domain, vcpu);
    }
    fn peer(&self, id: DomainId) -> Option<&XenState> {
        self.machine.peer(id)
    }
    fn granter(&self, id: DomainId) -> Option<&XenState> {
        self.machine.granter(id)
    }
    fn frame(&self, domain: DomainId, gfn: u64) -> Option<Pa> {
        self.machine.frame(domain, gfn)
    }
    fn owner(&self, frame: Pa) -> Option<DomainId> {
        self.machine.owner(frame)
    }
    fn hold(&self, domain: DomainId, frame: Pa) -> Result<(), Errno> {
        self.machine.hold(domain, frame)
    }
    fn release(&self, frame: Pa) {
        self.machine.release(frame);
    }
    fn console_has_room(&self, _: DomainId) -> bool {
        true
    }

    fn release_page(&self, domain: DomainId, page: &SharedPage) {
        self.machine.release_page(domain, page);
    }

    fn condemn(&self, domain: DomainId) {
        panic!("{domain:?} is condemned");
    }

    fn console_write(&self, domain: DomainId, bytes: &[u8]) {
        self.machine.console_write(domain, bytes);
    }
}

impl Caller for Guest<'_> {
    fn state(&self) -> &XenState {
        self.state
    }
    fn vcpu(&self) -> VcpuId {
        self.vcpu
    }
    fn now(&self) -> u64 {
        self.machine.now.get()
    }
    fn console_read(&self, buffer: &mut [u8]) -> usize {
        let mut input = self.physical.input.borrow_mut();
        let taken = buffer.len().min(input.len());
        for (slot, byte) in buffer.iter_mut().zip(input.drain(..taken)) {
            *slot = byte;
        }
        taken
    }
    fn memory(&self) -> MemoryFigures {
        MemoryFigures {
            maximum_ram_page: 0xf_ffff,
            current: 4096,
            maximum: 8192,
            maximum_gfn: RAM_GFN + RAM_PAGES - 1,
        }
    }
    fn ram_page(&self, gfn: u64) -> Result<SharedPage, Errno> {
        let address = self.physical.map.borrow().get(&gfn).copied();
        let address = address.ok_or(Errno::Invalid)?;
        let ram = self.physical.ram.borrow();
        let page = ram.iter().find(|page| page.address().get() == address);
        let page = page.copied().ok_or(Errno::Access)?;
        self.physical.kept.set(self.physical.kept.get() + 1);
        Ok(page)
    }
    fn new_page(&self) -> Option<SharedPage> {
        let made = self.physical.new_pages.get() + 1;
        self.physical.new_pages.set(made);
        Some(page())
    }
    fn map_page(&self, gfn: u64, page: &SharedPage) -> Result<(), Errno> {
        if gfn >= 1 << 28 {
            return Err(Errno::Invalid);
        }
        let address = page.address().get();
        self.physical.map.borrow_mut().insert(gfn, address);
        Ok(())
    }
    fn remove_page(&self, gfn: u64) -> Result<(), Errno> {
        let removed = self.physical.map.borrow_mut().remove(&gfn);
        removed.map(|_| ()).ok_or(Errno::NoEntry)
    }
    fn give_up(&self, gfn: u64) -> Result<(), Errno> {
        let address = self.physical.map.borrow().get(&gfn).copied();
        let address = address.ok_or(Errno::NoEntry)?;
        if !self.physical.is_ram(address) {
            return Err(Errno::Invalid);
        }
        self.remove_page(gfn)
    }
    fn populate(&self, gfn: u64) -> Result<Replaced, Errno> {
        if gfn >= 1 << 28 {
            return Err(Errno::Invalid);
        }
        let holds = self.machine.holds.borrow();
        let free = self.physical.free_ram(&holds).ok_or(Errno::NoMemory)?;
        for word in 0..512 {
            let word = free.u64(word * 8).unwrap();
            word.store(0, std::sync::atomic::Ordering::SeqCst);
        }
        let mut map = self.physical.map.borrow_mut();
        let before = map.insert(gfn, free.address().get());
        Ok(match before {
            Some(address) if !self.physical.is_ram(address) => Replaced::OwnPage,
            _ => Replaced::Nothing,
        })
    }
    fn map_granted(&self, gfn: u64, frame: Pa, write: bool) -> Result<Replaced, Errno> {
        if gfn >= 1 << 28 {
            return Err(Errno::Invalid);
        }
        assert!(
            self.machine.holds.borrow().contains_key(&frame.get()),
            "not held"
        );
        self.physical
            .granted
            .borrow_mut()
            .insert(gfn, (frame.get(), write));
        let before = self.physical.map.borrow_mut().remove(&gfn);
        Ok(match before {
            Some(address) if !self.physical.is_ram(address) => Replaced::OwnPage,
            _ => Replaced::Nothing,
        })
    }
    fn unmap_granted(&self, gfn: u64, frame: Pa) -> Result<(), Errno> {
        let mut granted = self.physical.granted.borrow_mut();
        match granted.get(&gfn) {
            Some((address, _)) if *address == frame.get() => {
                granted.remove(&gfn);
                Ok(())
            }
            _ => Err(Errno::NoEntry),
        }
    }
    fn copy(&self, from: Pa, to: Pa, length: u64) {
        let byte = |at: u64| {
            let (_, page) = self.machine.page(Pa::new(at & !0xfff)).unwrap();
            (page, (at & 0xfff) as usize)
        };
        for offset in 0..length {
            let (source, at) = byte(from.get() + offset);
            let value = source
                .u8(at)
                .unwrap()
                .load(std::sync::atomic::Ordering::SeqCst);
            let (dest, at) = byte(to.get() + offset);
            dest.u8(at)
                .unwrap()
                .store(value, std::sync::atomic::Ordering::SeqCst);
        }
    }
    fn flush(&self, start: Pa, length: u64) {
        self.machine
            .flushes
            .borrow_mut()
            .push((start.get(), length));
    }
    fn watchdog_changed(&self) {
        let changes = self.machine.watchdog_changes.get() + 1;
        self.machine.watchdog_changes.set(changes);
    }
}
