//! A vCPU leaves a CPU, comes to one, or is about to sleep there: what its list registers hold goes to memory and back, and
//! mostly there is nothing to be done.

use crate::attention::Attention;
use crate::identity::{Bits, Notify, VcpuId};
use crate::list::{Here, ListRegisters, Maintenance};
use crate::primitives::Ordering;
use crate::vgic::{Saved, Vgic};

impl Vgic {
    /// Whether [`save`](Self::save) and [`restore`](Self::restore) have nothing to do for a vCPU: two loads, and no lock.
    #[inline(always)]
    fn is_at_rest(&self, vcpu: VcpuId) -> bool {
        let attention = self.attention.get(vcpu.index());
        attention.is_none_or(Attention::is_at_rest)
    }

    /// The short way of [`save`](Self::save), for a vCPU of which nothing is pending, active or left out, and what was
    /// listed has ended: no list register needs to change. `false`, and nothing done, if there is something.
    #[inline(never)]
    fn leave_quietly<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> bool {
        let Here { vcpu, lists } = here;
        let mut state = self.state.lock();
        let busy = state.busy;
        let Some(private) = state.private.get_mut(vcpu.index()) else {
            return false;
        };
        let is_empty = private.is_empty(busy)
            && (private.used == 0 || private.forget_ended(self.version, lists.empty()));
        if is_empty {
            private.loaded = false;
            if let Some(attention) = self.attention.get(vcpu.index()) {
                attention.rest();
            }
        }
        is_empty
    }

    /// The vCPU leaves this CPU: all that its list registers hold is taken into memory and they are
    /// emptied. To be called before the active state of physical interrupts is saved and cleared.
    #[inline]
    pub fn save<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Saved {
        if self.is_at_rest(here.vcpu) || self.leave_quietly(here) {
            return Saved {
                notify: Notify::NONE,
                is_linked: false,
            };
        }
        self.save_slowly(here)
    }

    #[inline(never)]
    fn save_slowly<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Saved {
        let Here { vcpu, lists } = here;
        let (is_linked, notify) = self.work(Some(vcpu), |work| {
            work.set_loaded(vcpu, false);
            if work.is_quiet(vcpu) {
                return false;
            }
            let used = work.private(vcpu).map_or(0, |private| private.used);
            work.fold_all(vcpu, lists);
            for slot in Bits(used) {
                lists.write(slot as usize, 0);
            }
            work.set_maintenance(vcpu, Maintenance::NONE, lists);
            if !work.is_quiet(vcpu) {
                // What is in the banks now wants in again at the next restore.
                work.mark_quietly(vcpu);
            }
            work.private(vcpu)
                .is_some_and(|private| private.bank.hardware != 0)
        });
        Saved { notify, is_linked }
    }

    /// The vCPU comes to this CPU, whose list registers are empty: they are filled. To be called
    /// after the vCPU's timer registers and the active state of its physical interrupts are back.
    #[inline]
    pub fn restore<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Notify {
        if self.is_at_rest(here.vcpu) || self.restore_one(here) {
            return Notify::NONE;
        }
        self.restore_slowly(here)
    }

    /// The short way of [`restore`](Self::restore) where one private interrupt waits and nothing else is to be done.
    #[inline(never)]
    fn restore_one<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> bool {
        let Some(attention) = self.attention.get(here.vcpu.index()) else {
            return false;
        };
        let mut state = self.state.lock();
        let listed = state.list_only(self.version, here.vcpu, here.lists);
        if listed {
            attention.flags.store(0, Ordering::Relaxed);
            attention.engage();
        }
        listed
    }

    #[inline(never)]
    fn restore_slowly<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>) -> Notify {
        let Here { vcpu, lists } = here;
        let ((), notify) = self.work(Some(vcpu), |work| {
            work.set_loaded(vcpu, true);
            if !work.is_quiet(vcpu) {
                work.fill(vcpu, 0, lists);
            }
        });
        notify
    }

    /// Whether an interrupt waits that would end a WFI of this vCPU: pending, enabled, forwarded, not
    /// active. The priority mask and PSTATE are not considered (a WFI may always end early). With
    /// `here` the list registers are asked too, without it the vCPU must be saved.
    ///
    /// A scheduler that blocks asks again after it has made itself known as blocked: whoever raises
    /// an interrupt then either is seen here, or sees the block and wakes.
    #[must_use]
    pub fn has_deliverable<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuId,
        here: Option<Here<'_, L>>,
    ) -> bool {
        let lists = here.filter(|here| here.vcpu == vcpu).map(|here| here.lists);
        if let Some(lists) = lists
            && (self.is_at_rest(vcpu) || self.is_idle(vcpu, lists))
        {
            return false;
        }
        let (found, _) = self.work(None, |work| {
            work.waits(vcpu) || lists.is_some_and(|lists| work.signals(vcpu, lists))
        });
        found
    }

    /// The short way of [`has_deliverable`](Self::has_deliverable) to "no": the vCPU here has nothing, but for what
    /// has ended in its list registers.
    #[inline]
    fn is_idle<L: ListRegisters + ?Sized>(&self, vcpu: VcpuId, lists: &L) -> bool {
        let mut state = self.state.lock();
        let busy = state.busy;
        let Some(private) = state.private.get_mut(vcpu.index()) else {
            return false;
        };
        let is_idle = private.is_empty(busy)
            && (private.used == 0 || private.forget_ended(self.version, lists.empty()));
        if is_idle && let Some(attention) = self.attention.get(vcpu.index()) {
            // The flags stay: somebody may have asked.
            attention.disengage();
        }
        is_idle
    }
}
