//! How values lie: least, median, 90th and 99th of a hundred, most.

use std::fmt;

/// Values in order, of which some are told.
#[derive(Clone, Debug)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// Of these values, at least one.
    ///
    /// # Panics
    /// There is none, or one that is no number.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "nothing was measured");
        assert!(values.iter().all(|value| value.is_finite()), "{values:?}");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The least value that `per_cent` of all do not exceed (the nearest rank).
    #[must_use]
    pub fn at(&self, per_cent: usize) -> f64 {
        let rank = (self.0.len() * per_cent).div_ceil(100).max(1);
        self.0[rank.min(self.0.len()) - 1]
    }

    /// The most.
    #[must_use]
    pub fn most(&self) -> f64 {
        self.at(100)
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} values: least {:.0}, median {:.0}, 90 % {:.0}, 99 % {:.0}, most {:.0}",
            self.count(),
            self.at(0),
            self.at(50),
            self.at(90),
            self.at(99),
            self.most()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn ranks_are_those_of_the_values() {
        let spread = Spread::of((1..=200).rev().map(f64::from));
        let said = "200 values: least 1, median 100, 90 % 180, 99 % 198, most 200";
        assert_eq!(spread.to_string(), said);
        let one = Spread::of([7.0]);
        assert_eq!([one.at(0), one.at(50), one.at(99), one.most()], [7.0; 4]);
    }
}
