//! Ticks of the system counter as nanoseconds, without a division: a switch asks for it twice.

/// Bits after the point of a [`Clock`].
const BITS: u32 = 48;
const NANOSECONDS: u64 = 1_000_000_000;

/// How long a tick is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock(u64);

impl Clock {
    /// The clock of a counter of this many Hz, 16,000 or more (they have 1 MHz to 1 GHz). It is never
    /// slow, and for rounding at most a nanosecond fast in 2^48 ticks.
    #[must_use]
    pub const fn new(frequency: u64) -> Self {
        let frequency = if frequency == 0 { 1 } else { frequency };
        let scaled = ((NANOSECONDS as u128) << BITS).div_ceil(frequency as u128);
        Self(if scaled > u64::MAX as u128 {
            u64::MAX
        } else {
            scaled as u64
        })
    }

    /// What [`to_word`](Self::to_word) gave.
    #[inline]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// A word to keep it in, which is not 0.
    #[inline]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// Nanoseconds of this many ticks: no less than there are, so that a deadline in ticks that was rounded up is not
    /// early.
    #[inline]
    #[must_use]
    pub const fn nanoseconds(self, ticks: u64) -> u64 {
        // Two factors of 64 bits fit.
        ((ticks as u128).wrapping_mul(self.0 as u128) >> BITS) as u64
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_frequencies_are_exact() {
        for (frequency, tick) in [(1_000_000, 1000), (62_500_000, 16), (1_000_000_000, 1)] {
            let clock = Clock::new(frequency);
            for ticks in [0, 1, 12_345, 1 << 50] {
                assert_eq!(clock.nanoseconds(ticks), ticks * tick);
            }
            assert_ne!(clock.to_word(), 0);
            assert_eq!(Clock::from_word(clock.to_word()), clock);
        }
        // Nonsense does not panic.
        let _ = Clock::new(0).nanoseconds(u64::MAX);
    }

    proptest! {
        #[test]
        fn it_is_never_slow_and_hardly_fast(
            frequency in 1_000_000_u64..=1_000_000_000,
            seconds in 0_u64..366 * 86_400,
            more in 0_u64..1_000_000,
        ) {
            let ticks = seconds * frequency + more;
            let exact = u128::from(ticks) * u128::from(NANOSECONDS) / u128::from(frequency);
            let found = u128::from(Clock::new(frequency).nanoseconds(ticks));
            let most = exact + 1 + u128::from(ticks >> BITS);
            prop_assert!(exact <= found && found <= most);
        }

        #[test]
        fn a_deadline_that_was_rounded_up_is_not_early(
            frequency in 1_000_000_u64..=1_000_000_000,
            deadline in 0_u64..1 << 60,
        ) {
            let ticks = (u128::from(deadline) * u128::from(frequency)).div_ceil(u128::from(NANOSECONDS));
            let clock = Clock::new(frequency);
            prop_assert!(clock.nanoseconds(u64::try_from(ticks).unwrap()) >= deadline);
        }
    }
}
