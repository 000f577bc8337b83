//! A CPU's list registers and virtual CPU interface, as much of them as a guest's acknowledge and end
//! of interrupt need (IHI0048B 5.2, IHI0069 4.8, 5.2).
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this module"
)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use viaduct_vgic::{
    AccessError, Here, IntId, Link, ListRegister, ListRegisters, Maintenance, Notify, Others,
    Region, SGIR, Sent, VcpuId, Version, Vgic, Width,
};

/// One CPU.
pub(crate) struct Cpu {
    pub(crate) version: Version,
    pub(crate) lists: RefCell<Vec<u64>>,
    pub(crate) maintenance: Cell<Maintenance>,
    pub(crate) end_count: Cell<u32>,
    /// Physical interrupts that are active: a hardware-linked end or a call deactivates them.
    pub(crate) physically_active: RefCell<BTreeSet<u32>>,
    /// Lines of physical interrupts that are low.
    pub(crate) low: RefCell<BTreeSet<u32>>,
    /// Priorities of the interrupts that the guest has acknowledged and not dropped.
    pub(crate) running: RefCell<Vec<u8>>,
}

impl Cpu {
    pub(crate) fn new(version: Version, count: usize) -> Self {
        Self {
            version,
            lists: RefCell::new(vec![0; count]),
            maintenance: Cell::new(Maintenance::NONE),
            end_count: Cell::new(0),
            physically_active: RefCell::default(),
            low: RefCell::default(),
            running: RefCell::default(),
        }
    }

    pub(crate) fn decode(&self, raw: u64) -> Option<ListRegister> {
        ListRegister::decode(raw, self.version).filter(|list| list.pending || list.active)
    }

    /// What the list registers hold, with their places.
    pub(crate) fn held(&self) -> Vec<(usize, ListRegister)> {
        let lists = self.lists.borrow();
        lists
            .iter()
            .enumerate()
            .filter_map(|(place, &raw)| Some((place, self.decode(raw)?)))
            .collect()
    }

    pub(crate) fn find(&self, intid: u32) -> Option<ListRegister> {
        self.held()
            .into_iter()
            .map(|(_, list)| list)
            .find(|list| list.intid.get() == intid)
    }

    fn set_state(&self, place: usize, pending: bool, active: bool) {
        let shift = match self.version {
            Version::V2 => 28,
            Version::V3 => 62,
        };
        let state = u64::from(pending) | (u64::from(active) << 1);
        let raw = &mut self.lists.borrow_mut()[place];
        *raw = (*raw & !(3 << shift)) | (state << shift);
    }

    /// What an acknowledge would return: the most urgent pending one above the running priority.
    pub(crate) fn signalled(&self) -> Option<(usize, ListRegister)> {
        let running = self.running.borrow().last().copied().unwrap_or(0xff);
        self.held()
            .into_iter()
            .filter(|(_, list)| list.pending && !list.active && list.priority < running)
            .min_by_key(|(_, list)| (list.priority, list.intid))
    }

    /// The guest reads IAR: number and source.
    pub(crate) fn acknowledge(&self) -> Option<(u32, u8)> {
        let (place, list) = self.signalled()?;
        self.set_state(place, false, true);
        self.running.borrow_mut().push(list.priority);
        let source = match list.link {
            Link::Software { source, .. } => source,
            Link::Hardware(_) => 0,
        };
        Some((list.intid.get(), source))
    }

    /// The guest drops its running priority: EOIR with EOImode 1, or the first half of one without.
    pub(crate) fn drop_priority(&self) {
        self.running.borrow_mut().pop();
    }

    /// The guest deactivates: DIR, or the second half of EOIR.
    pub(crate) fn deactivate_virtual(&self, intid: u32) {
        let held = self.held();
        let Some((place, list)) = held
            .iter()
            .find(|(_, list)| list.intid.get() == intid && list.active)
        else {
            self.end_count.set(self.end_count.get() + 1);
            return;
        };
        self.set_state(*place, list.pending, false);
        if let Link::Hardware(physical) = list.link {
            assert!(self.physically_active.borrow_mut().remove(&physical.get()));
        }
    }

    /// The guest writes EOIR, EOImode 0.
    pub(crate) fn end(&self, intid: u32) {
        self.drop_priority();
        self.deactivate_virtual(intid);
    }

    /// Whether the maintenance interrupt is raised.
    pub(crate) fn wants_maintenance(&self) -> bool {
        let wanted = self.maintenance.get();
        let none_pending = !self
            .held()
            .iter()
            .any(|(_, list)| list.pending && !list.active);
        let ended = self.lists.borrow().iter().any(|&raw| {
            let list = ListRegister::decode(raw, self.version);
            list.is_some_and(|list| {
                let notice = matches!(
                    list.link,
                    Link::Software {
                        end_notice: true,
                        ..
                    }
                );
                notice && !list.pending && !list.active
            })
        });
        ended
            || wanted.contains(Maintenance::NONE_PENDING) && none_pending
            || wanted.contains(Maintenance::UNLISTED_END) && self.end_count.get() != 0
    }
}

impl ListRegisters for Cpu {
    fn count(&self) -> usize {
        self.lists.borrow().len()
    }

    fn read(&self, index: usize) -> u64 {
        self.lists.borrow()[index]
    }

    fn write(&self, index: usize, raw: u64) {
        if let Some(list) = ListRegister::decode(raw, self.version) {
            let linked = matches!(list.link, Link::Hardware(_));
            assert!(
                !(linked && list.pending && list.active),
                "a hardware-linked list register may not be pending and active"
            );
        }
        self.lists.borrow_mut()[index] = raw;
    }

    fn empty(&self) -> u32 {
        let mut empty = (1 << self.count()) - 1;
        for (place, &raw) in self.lists.borrow().iter().enumerate() {
            let Some(list) = ListRegister::decode(raw, self.version) else {
                continue;
            };
            let notice = matches!(
                list.link,
                Link::Software {
                    end_notice: true,
                    ..
                }
            );
            if list.pending || list.active || notice {
                empty &= !(1 << place);
            }
        }
        empty
    }

    fn set_maintenance(&self, wanted: Maintenance) {
        self.maintenance.set(wanted);
    }

    fn take_end_count(&self) -> u32 {
        self.end_count.replace(0)
    }

    fn deactivate(&self, physical: IntId) {
        assert!(
            self.physically_active.borrow_mut().remove(&physical.get()),
            "{physical} deactivated, but it is not active"
        );
    }

    fn is_asserted(&self, physical: IntId) -> bool {
        !self.low.borrow().contains(&physical.get())
    }
}

/// For calls from a CPU where no vCPU of the domain is loaded.
pub(crate) const NOWHERE: Option<Here<'static, Cpu>> = None;

pub(crate) fn vcpu(number: u32) -> VcpuId {
    VcpuId::new(number).unwrap()
}

pub(crate) fn intid(number: u32) -> IntId {
    IntId::new(number).unwrap()
}

/// What the image keeps for a vCPU while no CPU has it: the active state and the line of its timer, and the
/// active priorities of its CPU interface.
#[derive(Default)]
struct Parked {
    physically_active: BTreeSet<u32>,
    low: BTreeSet<u32>,
    running: Vec<u8>,
}

/// A domain. At first vCPU n is loaded on CPU n; there may be more CPUs.
pub(crate) struct Domain {
    pub(crate) vgic: Vgic,
    pub(crate) cpus: Vec<Cpu>,
    /// Where each vCPU is loaded.
    at: Vec<Cell<Option<usize>>>,
    parked: Vec<RefCell<Parked>>,
}

/// The other vCPUs of one that accesses a register: those told or asked pass an exit while it waits.
struct Neighbours<'a> {
    domain: &'a Domain,
    me: u32,
    told: Cell<Notify>,
    asked: Cell<Notify>,
}

impl Others for Neighbours<'_> {
    fn notify(&self, vcpus: Notify) {
        self.told.set(self.told.get().union(vcpus));
    }

    fn ask(&self, vcpus: Notify) {
        self.asked.set(self.asked.get().union(vcpus));
    }

    fn wait(&self, turn: u32) -> bool {
        assert!(turn < 10, "an answer that does not come");
        for number in self.told.get().union(self.asked.get()) {
            if number != vcpu(self.me) && self.domain.is_loaded(number.get()) {
                let here = self.domain.here(number.get());
                self.notify(self.domain.vgic.enter(here));
            }
        }
        true
    }
}

impl Domain {
    pub(crate) fn new(version: Version, vcpus: u32, spis: u32, lists: usize) -> Self {
        Self::on(version, vcpus, spis, lists, vcpus as usize)
    }

    /// With so many CPUs.
    pub(crate) fn on(version: Version, vcpus: u32, spis: u32, lists: usize, cpus: usize) -> Self {
        let domain = Self {
            vgic: Vgic::new(version, vcpus, spis).unwrap(),
            cpus: (0..cpus).map(|_| Cpu::new(version, lists)).collect(),
            at: (0..vcpus).map(|_| Cell::new(None)).collect(),
            parked: (0..vcpus).map(|_| RefCell::default()).collect(),
        };
        for number in 0..vcpus {
            assert!(domain.arrive(number, number as usize).is_empty());
        }
        domain
    }

    pub(crate) fn is_loaded(&self, number: u32) -> bool {
        self.at[number as usize].get().is_some()
    }

    /// Whether no vCPU is loaded on this CPU.
    pub(crate) fn is_free(&self, cpu: usize) -> bool {
        self.at.iter().all(|at| at.get() != Some(cpu))
    }

    /// The CPU that has this vCPU.
    pub(crate) fn cpu(&self, number: u32) -> &Cpu {
        &self.cpus[self.at[number as usize].get().expect("not loaded")]
    }

    /// The vCPU comes to a CPU.
    pub(crate) fn arrive(&self, number: u32, cpu: usize) -> Notify {
        self.at[number as usize].set(Some(cpu));
        let cpu = self.cpu(number);
        let parked = self.parked[number as usize].take();
        cpu.physically_active.replace(parked.physically_active);
        cpu.low.replace(parked.low);
        cpu.running.replace(parked.running);
        self.vgic.restore(self.here(number))
    }

    /// The vCPU leaves its CPU.
    pub(crate) fn leave(&self, number: u32) -> Notify {
        let cpu = self.cpu(number);
        let saved = self.vgic.save(self.here(number));
        assert!(cpu.held().is_empty());
        let is_active = cpu.physically_active.borrow().range(..32).next().is_some();
        assert!(saved.is_linked || !is_active, "active, and nobody is told");
        self.parked[number as usize].replace(Parked {
            physically_active: cpu.physically_active.take(),
            low: cpu.low.take(),
            running: cpu.running.take(),
        });
        self.at[number as usize].set(None);
        saved.notify
    }

    /// The same, distributor on, the first `words` words of 32 interrupts enabled at priority 0xa0.
    pub(crate) fn ready(version: Version, vcpus: u32, spis: u32, lists: usize, words: u32) -> Self {
        let domain = Self::new(version, vcpus, spis, lists);
        domain.write(0, Region::Distributor, 0, 3);
        for number in 0..vcpus {
            for word in 0..words {
                domain.write_word(number, word, 0x100, u32::MAX);
                for place in 0..8 {
                    let (region, offset) = domain.place(number, word, 0x400, 32);
                    domain.write(number, region, offset + place * 4, 0xa0a0_a0a0);
                }
            }
        }
        domain.enter_dirty();
        domain
    }

    pub(crate) fn here(&self, number: u32) -> Here<'_, Cpu> {
        Here {
            vcpu: vcpu(number),
            lists: self.cpu(number),
        }
    }

    fn neighbours(&self, number: u32) -> Neighbours<'_> {
        Neighbours {
            domain: self,
            me: number,
            told: Cell::new(Notify::NONE),
            asked: Cell::new(Notify::NONE),
        }
    }

    /// A guest's read, and the answers that it takes.
    pub(crate) fn access(
        &self,
        number: u32,
        region: Region,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        let others = self.neighbours(number);
        self.vgic
            .read(self.here(number), region, offset, width, &others)
    }

    /// A guest's write, and whom it concerns.
    pub(crate) fn put(
        &self,
        number: u32,
        region: Region,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Notify, AccessError> {
        let others = self.neighbours(number);
        let here = self.here(number);
        self.vgic
            .write(here, region, offset, width, value, &others)
            .map(|()| others.told.get())
    }

    /// Where the register of a word of interrupts is that starts at `base` and has `bytes` for each
    /// word.
    pub(crate) fn place(&self, number: u32, word: u32, base: u64, bytes: u64) -> (Region, u64) {
        if word == 0 && self.vgic.version() == Version::V3 {
            let frame = u64::from(number) * 0x2_0000 + 0x1_0000;
            (Region::Redistributor, frame + base)
        } else {
            (Region::Distributor, base + u64::from(word) * bytes)
        }
    }

    /// A guest's write of the word of interrupts at `base`, and whom it concerns.
    pub(crate) fn tell_word(&self, number: u32, word: u32, base: u64, value: u32) -> Notify {
        let (region, offset) = self.place(number, word, base, 4);
        self.tell(number, region, offset, value)
    }

    pub(crate) fn write_word(&self, number: u32, word: u32, base: u64, value: u32) {
        let _ = self.tell_word(number, word, base, value);
    }

    pub(crate) fn read_word(&self, number: u32, word: u32, base: u64) -> u32 {
        let (region, offset) = self.place(number, word, base, 4);
        self.read(number, region, offset)
    }

    pub(crate) fn write(&self, number: u32, region: Region, offset: u64, value: u32) {
        let _ = self.tell(number, region, offset, value);
    }

    /// A write of GICD_SGIR, as `send_sgi1r`.
    pub(crate) fn send_sgir(&self, number: u32, value: u32) -> Notify {
        if value & 1 == 0 {
            match self.vgic.write_sgir_to_one(vcpu(number), value) {
                Sent::Done => return Notify::NONE,
                Sent::Kick(other) => return Notify::from(other),
                Sent::NotDone => {}
            }
        }
        self.tell(number, Region::Distributor, 0xf00, value)
    }

    /// A guest's write of ICC_SGI1R_EL1, by the short way first, as EL2 does it.
    pub(crate) fn send_sgi1r(&self, number: u32, value: u64) -> Notify {
        if self.vgic.write_sgi1r_at_once(self.here(number), value) {
            return Notify::NONE;
        }
        // Even numbers take the short way, where there is one; odd ones the general way.
        if value & 1 << 24 == 0 {
            match self.vgic.write_sgi1r_to_one(vcpu(number), value) {
                Sent::Done => return Notify::NONE,
                Sent::Kick(other) => return Notify::from(other),
                Sent::NotDone => {}
            }
        }
        self.vgic.write_sgi1r(self.here(number), value)
    }

    /// A guest's write of a word, and whom it concerns. A GICv2's SGI goes by the short way first, as EL2 does it.
    pub(crate) fn tell(&self, number: u32, region: Region, offset: u64, value: u32) -> Notify {
        if (region, offset) == (Region::Distributor, u64::from(SGIR))
            && self.vgic.send_at_once(self.here(number), value)
        {
            return Notify::NONE;
        }
        self.put(number, region, offset, Width::Word, u64::from(value))
            .unwrap()
    }

    pub(crate) fn read(&self, number: u32, region: Region, offset: u64) -> u32 {
        let value = self.access(number, region, offset, Width::Word);
        u32::try_from(value.unwrap()).unwrap()
    }

    /// Every vCPU with something to do passes an exit and an entry.
    pub(crate) fn enter_dirty(&self) {
        loop {
            let mut again = false;
            for number in (0..self.vgic.vcpu_count()).filter(|&number| self.is_loaded(number)) {
                let cpu = self.cpu(number);
                if self.vgic.is_dirty(vcpu(number)) || cpu.wants_maintenance() {
                    let _ = self.vgic.enter(self.here(number));
                    again = true;
                    assert!(!cpu.wants_maintenance(), "a maintenance interrupt storm");
                }
            }
            if !again {
                return;
            }
        }
    }

    /// The guest acknowledges on this vCPU after everything settled.
    pub(crate) fn acknowledge(&self, number: u32) -> Option<u32> {
        self.enter_dirty();
        let acknowledged = self.cpus[number as usize].acknowledge();
        self.enter_dirty();
        acknowledged.map(|(intid, _)| intid)
    }

    pub(crate) fn end(&self, number: u32, intid: u32) {
        self.cpus[number as usize].end(intid);
        self.enter_dirty();
    }
}
