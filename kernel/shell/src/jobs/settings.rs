//! `set`: how vCPUs are scheduled, shown and changed, a vCPU a step.

use super::{Job, Progress};
use crate::command::Order;
use crate::format::Cpus;
use crate::system::{GuestIndex, Output, System};

impl Job {
    /// Of all vCPUs of a guest, or of one.
    pub(super) fn set(
        &mut self,
        guest: GuestIndex,
        order: Order,
        system: &mut dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        let vcpus = system.guest(guest).map_or(0, |guest| guest.vcpus);
        if let Some(only) = order.vcpu.filter(|only| *only >= vcpus) {
            let last = vcpus.saturating_sub(1);
            output.line(format_args!("vCPU {only}: expected 0 to {last}"));
            return Progress::Done;
        }
        let vcpu = order.vcpu.unwrap_or(self.item);
        let Some(setting) = order.setting else {
            return self.show_settings(guest, order, vcpu, system, output);
        };
        if vcpu >= vcpus {
            return Progress::Done;
        }
        if let Err(refused) = system.set(guest, vcpu, setting) {
            match self.item {
                0 => output.line(format_args!("{refused}")),
                // They have what was asked for, and keep it.
                done => output.line(format_args!(
                    "vCPU {done}: {refused}; those before it are changed"
                )),
            }
            return Progress::Done;
        }
        self.item += 1;
        match order.vcpu {
            Some(_) => Progress::Done,
            None => Progress::More,
        }
    }

    fn show_settings(
        &mut self,
        guest: GuestIndex,
        order: Order,
        vcpu: u32,
        system: &dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        if self.head(output, "VCPU WEIGHT AFFINITY BUDGET") {
            return Progress::More;
        }
        let Some(settings) = system.settings(guest, vcpu) else {
            return Progress::Done;
        };
        let (weight, count) = (settings.weight, system.cpus());
        let affinity = Cpus {
            mask: settings.affinity,
            count,
        };
        match settings.budget {
            None => output.line(format_args!("{vcpu:>4} {weight:>6} {affinity:<8} none")),
            Some((budget, period)) => output.line(format_args!(
                "{vcpu:>4} {weight:>6} {affinity:<8} {budget} of {period} us"
            )),
        }
        self.item += 1;
        match order.vcpu {
            Some(_) => Progress::Done,
            None => Progress::More,
        }
    }
}
