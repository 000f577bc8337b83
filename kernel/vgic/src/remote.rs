//! What sits in the list registers of another CPU: only that CPU can say how it stands, or change it.
//!
//! Whoever needs to know *asks*: it marks the vCPUs concerned, has their CPUs pass an exit, and waits until
//! each has folded its list registers since, or has left its CPU. Meanwhile it serves whoever asks for
//! its own, so two that ask each other both get their answer (`tests/loom.rs`). The wait ends with the image's
//! patience: then the guest executes its instruction again, which asks anew, and can be interrupted in between.
//!
//! A register write is done when the vCPUs that had the interrupt listed have taken note: what the guest
//! does next on any CPU comes after it.

use crate::access::AccessError;
use crate::identity::{Bits, Notify, VcpuId};
use crate::list::{Here, ListRegisters};
use crate::registers::Width;
use crate::state::{Word, Work};
use crate::vgic::Vgic;
use crate::words;

/// What the EL2 image does about the other vCPUs of the domain while one of them accesses a register.
pub trait Others {
    /// These must be kicked, or woken if they sleep.
    fn notify(&self, vcpus: Notify);

    /// The CPUs that have one of these loaded, running or asleep, must call [`Vgic::enter`] for it
    /// soon. None is to be woken.
    fn ask(&self, vcpus: Notify);

    /// Called again and again while answers are missing, counted from 0: a pause. `false` if this has taken
    /// too long.
    fn wait(&self, turn: u32) -> bool;
}

/// A question: who has to answer, and the time since when an answer counts.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) who: Notify,
    since: u64,
}

impl Work<'_> {
    /// The vCPUs on other CPUs whose list registers hold some of these interrupts.
    pub(crate) fn holders(&self, word: Word, lanes: u32) -> Notify {
        let mut holders = Notify::NONE;
        match word {
            Word::Private(vcpu) => {
                let held = self
                    .private(vcpu)
                    .filter(|private| private.loaded)
                    .map_or(0, |private| private.bank.listed | private.bank.hardware);
                if held & lanes != 0 {
                    holders.insert(vcpu);
                }
            }
            Word::Shared(index) => {
                if let Some(shared) = self.state.shared.get(index) {
                    for owner in
                        Bits(shared.bank.listed & lanes).filter_map(|lane| shared.owner(lane))
                    {
                        holders.insert(owner);
                    }
                }
            }
        }
        self.here.map_or(holders, |here| holders.without(here))
    }

    /// Asks these vCPUs.
    pub(crate) fn question(&mut self, who: Notify) -> Question {
        if !who.is_empty() {
            self.state.clock = self.state.clock.wrapping_add(1);
        }
        for vcpu in who {
            self.mark_quietly(vcpu);
        }
        Question {
            who,
            since: self.state.clock,
        }
    }

    /// Whether all have answered, or have nothing in list registers any more.
    fn is_answered(&self, question: Question) -> bool {
        question.who.into_iter().all(|vcpu| {
            self.private(vcpu)
                .is_none_or(|private| !private.loaded || private.folded >= question.since)
        })
    }

    /// The vCPU comes to a CPU, or leaves it.
    pub(crate) fn set_loaded(&mut self, vcpu: VcpuId, loaded: bool) {
        if let Some(private) = self.private_mut(vcpu) {
            private.loaded = loaded;
        }
    }

    /// The list registers of a vCPU are about to be looked at, or are empty: that answers whoever asked.
    pub(crate) fn answer(&mut self, vcpu: VcpuId) {
        let clock = self.state.clock;
        if let Some(private) = self.private_mut(vcpu) {
            private.folded = clock;
        }
    }
}

impl Vgic {
    /// Reads one of the registers of 32 interrupts.
    pub(crate) fn read_word<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        others: &impl Others,
        word: Word,
        offset: u32,
        width: Width,
    ) -> Result<u64, AccessError> {
        let look = |work: &mut Work<'_>| words::read(work, here, word, offset, width);
        let (result, _) = self.work(Some(here.vcpu), |work| {
            let who = if words::is_state(offset) {
                work.holders(word, u32::MAX)
            } else {
                Notify::NONE
            };
            if who.is_empty() {
                Ok(look(work))
            } else {
                Err(work.question(who))
            }
        });
        result.unwrap_or_else(|question| {
            others.ask(question.who);
            if !self.wait_for(here, question, others) {
                return Err(AccessError::Unanswered);
            }
            self.work(Some(here.vcpu), look).0
        })
    }

    /// Carries out a register write and waits until those who have to take note of it have.
    pub(crate) fn change<L: ListRegisters + ?Sized, R>(
        &self,
        here: Here<'_, L>,
        others: &impl Others,
        operation: impl FnOnce(&mut Work<'_>) -> R,
    ) -> R {
        let ((result, question), notify) = self.work(Some(here.vcpu), |work| {
            let result = operation(work);
            (result, work.question(work.holding))
        });
        if !notify.is_empty() {
            others.notify(notify);
        }
        // Those who hold it are notified too. One that does not come in time takes note a little later.
        let _ = question.who.is_empty() || self.wait_for(here, question, others);
        result
    }

    /// Waits, and answers meanwhile. Whether all answers are there.
    #[cold]
    fn wait_for<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        question: Question,
        others: &impl Others,
    ) -> bool {
        let mut turn = 0_u32;
        loop {
            let (answered, _) = self.work(None, |work| work.is_answered(question));
            if answered {
                return true;
            }
            if self.is_dirty(here.vcpu) {
                let notify = self.enter(here);
                if !notify.is_empty() {
                    others.notify(notify);
                }
            }
            if !others.wait(turn) {
                return false;
            }
            turn = turn.saturating_add(1);
        }
    }
}
