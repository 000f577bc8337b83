//! Durations by powers of two.

use std::fmt;

/// Classes: below 64 ns, and then twice as wide each, up to 0.5 s and more.
const CLASSES: usize = 24;
const FIRST: u64 = 64;
const BAR: u64 = 40;

/// How often durations were how long, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Histogram {
    classes: [u64; CLASSES],
    count: u64,
    sum: u64,
    longest: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&mut self, nanoseconds: u64) {
        let class = (nanoseconds / FIRST)
            .checked_ilog2()
            .map_or(0, |log| log + 1);
        let class = (class as usize).min(CLASSES - 1);
        if let Some(class) = self.classes.get_mut(class) {
            *class += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(nanoseconds);
        self.longest = self.longest.max(nanoseconds);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.sum / self.count.max(1)
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.longest
    }
}

/// A line a class that is not empty, with a bar.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.classes.iter().copied().max().unwrap_or(0).max(1);
        for (class, count) in self.classes.iter().enumerate() {
            if *count != 0 {
                let below = FIRST << class;
                let bar = "#".repeat((count * BAR).div_ceil(most) as usize);
                writeln!(f, "      < {:>9} ns {count:>8} {bar}", below)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn durations_fall_into_classes() {
        let mut histogram = Histogram::default();
        for duration in [0, 63, 64, 127, 128, u64::MAX / 2] {
            histogram.add(duration);
        }
        assert_eq!(histogram.count(), 6);
        assert_eq!(&histogram.classes[..3], [2, 2, 1]);
        assert_eq!(histogram.classes[23], 1);
        assert_eq!(histogram.longest(), u64::MAX / 2);
        let text = histogram.to_string();
        assert!(text.contains("<        64 ns        2 ####"), "{text}");
    }
}
