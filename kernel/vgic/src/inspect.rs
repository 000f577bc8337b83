//! A look at the interrupts from outside, for an operator: nothing changes by it.

use crate::identity::{Bits, IntId, VcpuId};
use crate::state::Word;
use crate::vgic::Vgic;

/// Interrupts in a bank.
const BANK: u32 = 32;

/// An interrupt that is enabled, pending or active, as far as it is known here: what a list register holds is known
/// to the CPU alone that has its vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspected {
    /// Which.
    pub intid: IntId,
    /// Whose it is; of a shared one, where it goes.
    pub vcpu: Option<VcpuId>,
    /// Its priority.
    pub priority: u8,
    /// Edge-triggered.
    pub edge: bool,
    /// Enabled.
    pub enabled: bool,
    /// Pending.
    pub pending: bool,
    /// Active.
    pub active: bool,
    /// In a list register.
    pub listed: bool,
}

impl Vgic {
    /// The first such interrupt of the bank that `place` is in, at or behind `place`, and the place where the next look
    /// begins; `None` behind the last. Places number the private interrupts vCPU by vCPU, 32 each, then the shared ones.
    #[must_use]
    pub fn inspect(&self, place: u32) -> Option<(Option<Inspected>, u32)> {
        let (bank, first) = (place / BANK, place % BANK);
        let vcpus = self.vcpu_count();
        let (word, start) = match bank.checked_sub(vcpus) {
            None => (Word::Private(VcpuId::new(bank)?), 0),
            Some(shared) => (
                Word::Shared(shared as usize),
                BANK.checked_mul(shared.checked_add(1)?)?,
            ),
        };
        let (found, _) = self.work(None, |work| {
            let bank = work.bank(word)?;
            let there = bank.enabled | bank.pending() | bank.active | bank.listed;
            let lane = Bits(there & u32::MAX.wrapping_shl(first)).next();
            Some(lane.and_then(|lane| {
                let is = |bits: u32| bits.wrapping_shr(lane) & 1 != 0;
                let intid = IntId::new(start.checked_add(lane)?)?;
                Some((
                    Inspected {
                        intid,
                        vcpu: match word {
                            Word::Private(vcpu) => Some(vcpu),
                            Word::Shared(_) => work.owner(VcpuId::BOOT, intid),
                        },
                        priority: bank.priority(lane),
                        edge: is(bank.edge),
                        enabled: is(bank.enabled),
                        pending: is(bank.pending()),
                        active: is(bank.active),
                        listed: is(bank.listed),
                    },
                    lane,
                ))
            }))
        });
        let base = bank.checked_mul(BANK)?;
        Some(match found? {
            Some((interrupt, lane)) => (Some(interrupt), base.checked_add(lane.checked_add(1)?)?),
            None => (None, base.checked_add(BANK)?),
        })
    }
}
