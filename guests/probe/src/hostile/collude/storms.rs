//! Storms of a colluder: interrupts of its own, in every state that a distributor has, and events.

use super::{Colluder, FEW};
use crate::raw::hypercall;
use runtime::abi::{Port, event_channel as event, hypercall as number};
use runtime::gic::{self, Target};

/// SGIs, PPIs and the first SPIs.
const INTERRUPTS: u64 = 64;

impl Colluder {
    /// What nobody asked for is taken, disabled and ended by the runtime: so each is enabled first.
    pub(super) fn interrupts(&mut self) {
        let action = self.random.below(8);
        for _ in 0..self.random.below(24) {
            let intid = self.random.below(INTERRUPTS) as u32;
            match action {
                0..3 => {
                    let target = match self.random.below(3) {
                        0 => Target::Myself,
                        1 => Target::Others,
                        _ => Target::Cpu(self.random.below(2) as usize),
                    };
                    gic::enable(intid % 16);
                    gic::send(intid % 16, target);
                }
                3 => {
                    gic::enable(intid);
                    gic::set_pending(intid);
                }
                4 => gic::set_active(intid),
                5 => gic::clear_active(intid),
                6 => {
                    gic::set_priority(intid, self.random.next() as u8);
                    gic::set_edge(intid.max(16), self.random.below(2) == 0);
                }
                _ => {
                    gic::disable(intid);
                    gic::clear_pending(intid);
                }
            }
        }
    }

    /// One port, as often as it goes.
    pub(super) fn events(&mut self) {
        let mut port = Port(1 + self.random.below(FEW) as u32);
        let at = crate::raw::pointer(&mut port);
        for _ in 0..64 {
            hypercall(number::EVENT_CHANNEL_OP, [event::SEND, at, 0, 0, 0]);
        }
    }
}
