//! The EL1 physical timer of a vCPU, emulated (Arm DDI 0487, D12.2). The counter itself is read without a
//! trap and has no offset, so the compare value is one of the real counter; the virtual timer is the
//! guest's own and not here.

/// Which register of the timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerRegister {
    /// `CNTP_TVAL_EL0`: ticks until the compare value, 32 bits, signed.
    Value,
    /// `CNTP_CTL_EL0`.
    Control,
    /// `CNTP_CVAL_EL0`: the compare value.
    Compare,
}

/// `CNTP_CTL_EL0`: the timer is on.
const ENABLE: u64 = 1 << 0;
/// `CNTP_CTL_EL0`: its interrupt is not signalled.
const IMASK: u64 = 1 << 1;
/// `CNTP_CTL_EL0`: the condition is met; read only.
const ISTATUS: u64 = 1 << 2;

/// State of one vCPU's physical timer. Off at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PhysicalTimer {
    control: u64,
    compare: u64,
}

impl PhysicalTimer {
    /// Off.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            control: 0,
            compare: 0,
        }
    }

    /// What the guest reads at counter value `now`.
    #[must_use]
    pub const fn read(&self, register: TimerRegister, now: u64) -> u64 {
        match register {
            TimerRegister::Value => self.compare.wrapping_sub(now) & 0xffff_ffff,
            TimerRegister::Control if self.is_met(now) => self.control | ISTATUS,
            TimerRegister::Control => self.control,
            TimerRegister::Compare => self.compare,
        }
    }

    /// The guest writes at counter value `now`. The interrupt's [`line`](Self::line) and the
    /// [`deadline`](Self::deadline) may be others afterwards.
    pub const fn write(&mut self, register: TimerRegister, value: u64, now: u64) {
        match register {
            TimerRegister::Value => self.compare = now.wrapping_add(value as i32 as u64),
            TimerRegister::Control => self.control = value & (ENABLE | IMASK),
            TimerRegister::Compare => self.compare = value,
        }
    }

    /// Level of its interrupt at counter value `now`.
    #[must_use]
    pub const fn line(&self, now: u64) -> bool {
        self.is_met(now) && self.control & IMASK == 0
    }

    /// Counter value at which the line rises, or has risen; `None` if it does not.
    #[must_use]
    pub const fn deadline(&self) -> Option<u64> {
        if self.control & (ENABLE | IMASK) == ENABLE {
            Some(self.compare)
        } else {
            None
        }
    }

    const fn is_met(&self, now: u64) -> bool {
        self.control & ENABLE != 0 && now >= self.compare
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_counts_down_and_fires() {
        let mut timer = PhysicalTimer::new();
        assert_eq!((timer.deadline(), timer.line(u64::MAX)), (None, false));
        timer.write(TimerRegister::Value, 100, 1000);
        timer.write(TimerRegister::Control, ENABLE, 1000);
        assert_eq!(timer.deadline(), Some(1100));
        assert_eq!(timer.read(TimerRegister::Value, 1040), 60);
        assert!(!timer.line(1099) && timer.line(1100));
        assert_eq!(timer.read(TimerRegister::Control, 1099), ENABLE);
        assert_eq!(timer.read(TimerRegister::Control, 1100), ENABLE | ISTATUS);
        assert_eq!(timer.read(TimerRegister::Value, 1101), 0xffff_ffff);
    }

    #[test]
    fn the_mask_hides_the_line_and_not_the_status() {
        let mut timer = PhysicalTimer::new();
        timer.write(TimerRegister::Control, u64::MAX, 0);
        assert_eq!(
            timer.read(TimerRegister::Control, 5),
            ENABLE | IMASK | ISTATUS
        );
        assert_eq!((timer.line(5), timer.deadline()), (false, None));
    }

    #[test]
    fn a_negative_value_is_in_the_past() {
        let mut timer = PhysicalTimer::new();
        timer.write(TimerRegister::Control, ENABLE, 0);
        timer.write(TimerRegister::Value, 0xffff_ffff, 1000);
        assert_eq!(timer.read(TimerRegister::Compare, 1000), 999);
        assert!(timer.line(1000));
    }

    proptest! {
        #[test]
        fn anything_may_be_written(
            value in any::<u64>(), control in any::<u64>(), now in any::<u64>(), later in any::<u64>(),
        ) {
            let mut timer = PhysicalTimer::new();
            timer.write(TimerRegister::Control, control, now);
            timer.write(TimerRegister::Value, value, now);
            prop_assert_eq!(timer.read(TimerRegister::Value, now), value & 0xffff_ffff);
            timer.write(TimerRegister::Compare, value, now);
            prop_assert_eq!(timer.line(later), timer.deadline().is_some_and(|deadline| later >= deadline));
        }
    }
}
