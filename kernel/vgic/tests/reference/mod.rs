//! The reference model: interrupts as the manuals' state machine has them (IHI0048B 3.2.4, IHI0069
//! 4.1.2), without list registers, bitmaps or marks.

use viaduct_vgic::Version;

/// vCPUs of the model.
pub(crate) const VCPUS: u32 = 2;
/// Words of 32 interrupts, the private one included.
pub(crate) const WORDS: u32 = 3;

#[derive(Clone, Default, Debug)]
struct Interrupt {
    enabled: bool,
    latch: bool,
    /// GICv2 SGIs: who sent them.
    sources: u8,
    level: bool,
    edge: bool,
    /// On which vCPU.
    active: Option<u32>,
    priority: u8,
    target: Option<u32>,
    /// vCPUs in whose list registers it may ever have been.
    homes: u32,
}

impl Interrupt {
    fn pending(&self) -> bool {
        self.latch || self.sources != 0 || self.level && !self.edge
    }
}

/// What the registers of 32 interrupts show.
#[derive(Default)]
pub(crate) struct Look {
    pub(crate) enabled: u32,
    pub(crate) pending: u32,
    pub(crate) active: u32,
}

pub(crate) struct Model {
    pub(crate) version: Version,
    pub(crate) on: bool,
    private: Vec<Vec<Interrupt>>,
    shared: Vec<Interrupt>,
    /// What each vCPU acknowledged and did not end, innermost last.
    pub(crate) stack: Vec<Vec<u32>>,
    /// What each vCPU ended without deactivating it (EOImode 1).
    pub(crate) dropped: Vec<Vec<u32>>,
}

impl Model {
    pub(crate) fn new(version: Version) -> Self {
        let private = (0..32)
            .map(|number| Interrupt {
                enabled: number < 16,
                edge: number < 16,
                ..Interrupt::default()
            })
            .collect();
        let shared = Interrupt {
            target: Some(0),
            homes: 1,
            ..Interrupt::default()
        };
        Self {
            version,
            on: false,
            private: vec![private; VCPUS as usize],
            shared: vec![shared; (WORDS as usize - 1) * 32],
            stack: vec![Vec::new(); VCPUS as usize],
            dropped: vec![Vec::new(); VCPUS as usize],
        }
    }

    fn at(&self, vcpu: u32, intid: u32) -> &Interrupt {
        match intid.checked_sub(32) {
            None => &self.private[vcpu as usize][intid as usize],
            Some(place) => &self.shared[place as usize],
        }
    }

    fn at_mut(&mut self, vcpu: u32, intid: u32) -> &mut Interrupt {
        match intid.checked_sub(32) {
            None => &mut self.private[vcpu as usize][intid as usize],
            Some(place) => &mut self.shared[place as usize],
        }
    }

    /// GICv2 SGIs: always enabled, their pending state not writable here.
    fn is_fixed(&self, intid: u32) -> bool {
        self.version == Version::V2 && intid < 16
    }

    pub(crate) fn enable(&mut self, by: u32, intid: u32, on: bool) {
        if !self.is_fixed(intid) {
            self.at_mut(by, intid).enabled = on;
        }
    }

    pub(crate) fn pend(&mut self, by: u32, intid: u32, on: bool) {
        if !self.is_fixed(intid) {
            self.at_mut(by, intid).latch = on;
        }
    }

    pub(crate) fn activate(&mut self, by: u32, intid: u32, on: bool) {
        let interrupt = self.at_mut(by, intid);
        if !on {
            interrupt.active = None;
        } else if interrupt.active.is_none() {
            let home = if intid < 32 {
                Some(by)
            } else {
                interrupt.target
            };
            interrupt.active = Some(home.unwrap_or(0));
        }
    }

    pub(crate) fn prioritise(&mut self, by: u32, intid: u32, priority: u8) {
        self.at_mut(by, intid).priority = priority;
    }

    pub(crate) fn route(&mut self, intid: u32, to: Option<u32>) {
        let interrupt = self.at_mut(0, intid);
        interrupt.target = to;
        interrupt.homes |= to.map_or(0, |to| 1 << to);
    }

    pub(crate) fn configure(&mut self, intid: u32, edge: bool) {
        self.at_mut(0, intid).edge = edge;
    }

    pub(crate) fn sgi(&mut self, by: u32, to: u32, number: u32) {
        match self.version {
            Version::V2 => self.at_mut(to, number).sources |= 1 << by,
            Version::V3 => self.at_mut(to, number).latch = true,
        }
    }

    pub(crate) fn source(&mut self, by: u32, number: u32, source: u32, on: bool) {
        let sources = &mut self.at_mut(by, number).sources;
        if on {
            *sources |= 1 << source;
        } else {
            *sources &= !(1 << source);
        }
    }

    pub(crate) fn pulse(&mut self, to: u32, intid: u32) {
        self.at_mut(to, intid).latch = true;
    }

    pub(crate) fn set_level(&mut self, intid: u32, high: bool) {
        let interrupt = self.at_mut(0, intid);
        if high && !interrupt.level && interrupt.edge {
            interrupt.latch = true;
        }
        interrupt.level = high;
    }

    pub(crate) fn timer(&mut self, of: u32, high: bool) {
        self.at_mut(of, 27).level = high;
    }

    pub(crate) fn timer_line(&self, of: u32) -> bool {
        self.at(of, 27).level
    }

    pub(crate) fn is_active(&self, vcpu: u32, intid: u32) -> bool {
        self.at(vcpu, intid).active.is_some()
    }

    pub(crate) fn is_active_on(&self, vcpu: u32, intid: u32) -> bool {
        self.at(vcpu, intid).active == Some(vcpu)
    }

    pub(crate) fn priority(&self, vcpu: u32, intid: u32) -> u8 {
        self.at(vcpu, intid).priority
    }

    pub(crate) fn is_deliverable(&self, vcpu: u32, intid: u32) -> bool {
        let interrupt = self.at(vcpu, intid);
        self.on
            && interrupt.enabled
            && interrupt.pending()
            && interrupt.active.is_none()
            && (intid < 32 || interrupt.target == Some(vcpu))
    }

    /// The most urgent interrupt that would be signalled to a vCPU that runs nothing.
    pub(crate) fn deliverable(&self, vcpu: u32) -> Option<u32> {
        (0..WORDS * 32)
            .filter(|&intid| self.is_deliverable(vcpu, intid))
            .min_by_key(|&intid| (self.priority(vcpu, intid), intid))
    }

    /// The same to one at a running priority.
    pub(crate) fn most_urgent(&self, vcpu: u32, running: u8) -> Option<u32> {
        self.deliverable(vcpu)
            .filter(|&intid| self.priority(vcpu, intid) < running)
    }

    pub(crate) fn acknowledge(&mut self, by: u32, intid: u32, source: u8) {
        let fixed = self.is_fixed(intid);
        self.stack[by as usize].push(intid);
        let interrupt = self.at_mut(by, intid);
        if fixed {
            assert!(
                interrupt.sources & (1 << source) != 0,
                "nobody sent {intid}"
            );
            interrupt.sources &= !(1 << source);
        }
        interrupt.latch = false;
        interrupt.active = Some(by);
    }

    /// Whether it was active there.
    pub(crate) fn end(&mut self, by: u32, intid: u32) -> bool {
        let interrupt = self.at_mut(by, intid);
        let active = interrupt.active == Some(by);
        if active {
            interrupt.active = None;
        }
        active
    }

    /// What the registers show to a vCPU.
    pub(crate) fn look(&self, vcpu: u32, word: u32) -> Look {
        let mut look = Look::default();
        for lane in 0..32 {
            let interrupt = self.at(vcpu, word * 32 + lane);
            look.enabled |= u32::from(interrupt.enabled) << lane;
            look.pending |= u32::from(interrupt.pending()) << lane;
            look.active |= u32::from(interrupt.active.is_some()) << lane;
        }
        look
    }

    /// An SPI that was routed to more than one vCPU.
    pub(crate) fn has_moved(&self, intid: u32) -> bool {
        let interrupt = self.at(0, intid);
        interrupt.target.map(|target| 1 << target) != Some(interrupt.homes)
    }
}
