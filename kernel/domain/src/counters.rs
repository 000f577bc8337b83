//! What is counted of every vCPU, always: why it left its guest, how often it was switched in, and how often it went
//! to another CPU. What it did with its time is Xen's runstate (`xen::XenState::runstate`); interrupts are counted where they
//! arrive (`vgic::Vgic::arrivals`).
//!
//! One CPU at a time counts for a vCPU: the one that has it loaded, or that moves it. So a count is a load, an
//! addition and a store, and who reads it from elsewhere gets some recent value.

use core::sync::atomic::{AtomicU64, Ordering};

/// Why a vCPU left its guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum ExitReason {
    /// HVC with Xen's immediate.
    Hypercall = 0,
    /// PSCI or SMCCC, by HVC or SMC.
    Firmware = 1,
    /// A physical interrupt.
    Interrupt = 2,
    /// WFI that trapped.
    WaitInterrupt = 3,
    /// WFE that trapped.
    WaitEvent = 4,
    /// A system register that traps.
    SystemRegister = 5,
    /// An emulated device: the interrupt controller or the UART.
    Device = 6,
    /// An access that its second stage refused, and that no device answers.
    Memory = 7,
    /// SError, or what is undefined here.
    Other = 8,
}

impl ExitReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Hypercall,
        Self::Firmware,
        Self::Interrupt,
        Self::WaitInterrupt,
        Self::WaitEvent,
        Self::SystemRegister,
        Self::Device,
        Self::Memory,
        Self::Other,
    ];

    /// A word for a table's head.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hypercall => "hypercall",
            Self::Firmware => "firmware",
            Self::Interrupt => "interrupt",
            Self::WaitInterrupt => "wfi",
            Self::WaitEvent => "wfe",
            Self::SystemRegister => "register",
            Self::Device => "device",
            Self::Memory => "memory",
            Self::Other => "other",
        }
    }
}

/// A count that one CPU at a time makes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// So many more.
    #[inline(always)]
    pub fn add(&self, more: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(more), Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a vCPU.
#[derive(Debug, Default)]
pub struct Counters {
    exits: [Count; ExitReason::ALL.len()],
    switches: Count,
    moves: Count,
}

impl Counters {
    /// Nothing counted yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            exits: [const { Count::new() }; ExitReason::ALL.len()],
            switches: Count::new(),
            moves: Count::new(),
        }
    }

    /// The vCPU left its guest.
    #[inline(always)]
    pub fn exit(&self, reason: ExitReason) {
        if let Some(count) = self.exits.get(reason as usize) {
            count.add(1);
        }
    }

    /// It was loaded on a CPU that had another one.
    #[inline(always)]
    pub fn switched_in(&self) {
        self.switches.add(1);
    }

    /// It went to another CPU.
    pub fn moved(&self) {
        self.moves.add(1);
    }

    /// What has been counted.
    #[must_use]
    pub fn read(&self) -> Figures {
        Figures {
            exits: self.exits.each_ref().map(Count::get),
            switches: self.switches.get(),
            moves: self.moves.get(),
        }
    }
}

/// What was counted of a vCPU up to some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Exits, in the order of [`ExitReason::ALL`].
    pub exits: [u64; ExitReason::ALL.len()],
    /// Times that it was switched in.
    pub switches: u64,
    /// Times that it went to another CPU.
    pub moves: u64,
}

impl Figures {
    /// Exits for one reason.
    #[must_use]
    pub fn exits_for(&self, reason: ExitReason) -> u64 {
        self.exits.get(reason as usize).copied().unwrap_or(0)
    }

    /// Exits for all reasons.
    #[must_use]
    pub fn all_exits(&self) -> u64 {
        self.exits
            .iter()
            .fold(0, |sum, &count| sum.wrapping_add(count))
    }
}

impl core::ops::Add for Figures {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (sum, more) in self.exits.iter_mut().zip(other.exits) {
            *sum = sum.wrapping_add(more);
        }
        self.switches = self.switches.wrapping_add(other.switches);
        self.moves = self.moves.wrapping_add(other.moves);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let counters = Counters::new();
        for (number, reason) in ExitReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            for _ in 0..=number {
                counters.exit(reason);
            }
        }
        counters.switched_in();
        let figures = counters.read();
        for (number, reason) in ExitReason::ALL.into_iter().enumerate() {
            assert_eq!(figures.exits_for(reason), number as u64 + 1);
        }
        assert_eq!(figures.all_exits(), 45);
        assert_eq!((figures.switches, figures.moves), (1, 0));
        assert_eq!((figures + figures).all_exits(), 90);
    }

    #[test]
    fn names_differ() {
        for (number, reason) in ExitReason::ALL.into_iter().enumerate() {
            let others = &ExitReason::ALL[..number];
            assert!(others.iter().all(|other| other.name() != reason.name()));
        }
    }
}
