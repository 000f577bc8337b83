//! What a run queue keeps of a vCPU.

use super::server::Server;
use super::{Class, DEFAULT_WEIGHT, Parameters, Slot};

/// Bits after the point of an [`Entry`]'s pace.
const PACE_BITS: u32 = 16;

/// All bits of it.
const fn product(one: u64, other: u64) -> u128 {
    (one as u128).wrapping_mul(other as u128)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The slot is nobody's; the next free one is this.
    Free(Option<Slot>),
    /// Cannot run.
    Blocked,
    /// Waits, in the tree of its class.
    Waiting,
    /// Was picked.
    Current,
}

pub(super) struct Entry<T> {
    /// `None` when the slot is free.
    pub(super) vcpu: Option<T>,
    pub(super) state: State,
    pub(super) affinity: u64,
    /// Virtual time that passes in a tick of the vCPU's, times 2 to the power of [`PACE_BITS`].
    pub(super) pace: u64,
    pub(super) virtual_time: u64,
    /// Behind the point of it.
    pub(super) rest: u16,
    pub(super) server: Option<Server>,
}

impl<T> Entry<T> {
    /// Whether it comes before all that share.
    pub(super) fn is_urgent(&self) -> bool {
        self.server.is_some_and(|server| !server.is_exhausted())
    }

    /// Virtual time for so many ticks.
    pub(super) fn passed(&self, ticks: u64) -> u64 {
        (product(ticks, self.pace) >> PACE_BITS) as u64
    }

    /// Ticks in which so much virtual time passes.
    pub(super) fn ticks(&self, time: u64) -> u64 {
        let ticks = (u128::from(time) << PACE_BITS).checked_div(u128::from(self.pace));
        ticks
            .and_then(|ticks| u64::try_from(ticks).ok())
            .unwrap_or(u64::MAX)
    }

    /// It ran for so many ticks. What is less than one of virtual time is kept: none is free however short it is.
    pub(super) fn run(&mut self, ticks: u64) {
        // Two factors of 64 bits leave room for 16 bits more.
        let passed = product(ticks, self.pace).wrapping_add(u128::from(self.rest));
        self.rest = passed as u16;
        let passed = (passed >> PACE_BITS) as u64;
        self.virtual_time = self.virtual_time.wrapping_add(passed);
    }

    pub(super) fn set(&mut self, parameters: Parameters) {
        self.affinity = parameters.affinity;
        self.pace = (u64::from(DEFAULT_WEIGHT) << PACE_BITS)
            .checked_div(u64::from(parameters.weight.max(1)))
            .unwrap_or(1);
        self.server = match parameters.class {
            Class::Shared => None,
            Class::RealTime(reservation) => Some(Server::new(reservation)),
        };
    }
}
