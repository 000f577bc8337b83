//! A vCPU of the machine that tests are run on, and its calls.

use super::*;

/// A vCPU that makes calls.
pub(crate) struct Guest<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) state: &'a XenState,
    pub(crate) physical: &'a Physical,
    pub(crate) vcpu: VcpuId,
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
    pub(crate) fn call(&self, nr: u64, arguments: &[u64]) -> Outcome {
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
    pub(crate) fn returns(&self, nr: u64, arguments: &[u64]) -> i64 {
        match self.call(nr, arguments) {
            Outcome::Return(value) => value,
            other => panic!("hypercall {nr}: {other:?}"),
        }
    }

    pub(crate) fn put<T: IntoBytes + Immutable>(&self, at: u64, value: &T) {
        self.write(Va::new(at), value.as_bytes()).unwrap();
    }

    pub(crate) fn get<T: FromBytes + IntoBytes>(&self, at: u64) -> T {
        let mut value = T::new_zeroed();
        self.read(Va::new(at), value.as_mut_bytes()).unwrap();
        value
    }

    /// `nr(command, &argument, extra...)`, the argument being read back.
    pub(crate) fn with<T: FromBytes + IntoBytes + Immutable>(
        &self,
        nr: u64,
        command: u64,
        argument: &mut T,
    ) -> i64 {
        self.put(SCRATCH, argument);
        let one = crate::OneGrant::of(command, 1);
        let result = match one.filter(|_| nr == number::GRANT_TABLE_OP && goes_short()) {
            Some(one) => one
                .serve(self, SCRATCH)
                .map_or_else(Errno::as_return, |()| 0),
            None => self.returns(nr, &[command, SCRATCH, 1]),
        };
        *argument = self.get(SCRATCH);
        result
    }

    pub(crate) fn event<T: FromBytes + IntoBytes + Immutable>(
        &self,
        command: u64,
        mut argument: T,
    ) -> Result<T, Errno> {
        match self.with(number::EVENT_CHANNEL_OP, command, &mut argument) {
            0 => Ok(argument),
            error => Err(Errno::from_return(error).unwrap()),
        }
    }

    pub(crate) fn bad_pointer(&self, nr: u64, command: u64) -> i64 {
        self.returns(nr, &[command, 8, 1])
    }

    /// Whether a port's bit is set in a bit array of shared_info.
    pub(crate) fn bit(&self, array: usize, port: u32) -> bool {
        let word = self.state.shared_info.u64(array + port as usize / 64 * 8);
        word.unwrap().load(std::sync::atomic::Ordering::SeqCst) >> (port % 64) & 1 != 0
    }

    pub(crate) fn set_bit(&self, array: usize, port: u32, value: bool) {
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

    /// Its address itself stands for it.
    fn place(&self, at: Va, length: usize) -> Result<Option<Pa>, Errno> {
        let room = 4096 - at.get() as usize % 4096;
        if length > room || !at.is_aligned(8) {
            return Ok(None);
        }
        Self::range(at, length).map(|_| Some(Pa::new(at.get())))
    }

    fn read_place(&self, place: Pa, buffer: &mut [u8]) {
        self.read(Va::new(place.get()), buffer).unwrap();
    }

    fn write_place(&self, place: Pa, bytes: &[u8]) {
        self.write(Va::new(place.get()), bytes).unwrap();
    }
}

/// Whether the next hypercall of one grant goes the short way, of all that a thread makes: every other one.
fn goes_short() -> bool {
    thread_local! {
        static SHORT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    SHORT.replace(!SHORT.get())
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
    fn release(&self, domain: DomainId, frame: Pa) {
        self.machine.release(domain, frame);
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
    fn make_room(&self) {
        let asked = self.physical.rooms.get() + 1;
        self.physical.rooms.set(asked);
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
