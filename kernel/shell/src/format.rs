//! Figures as people read them.

use core::fmt;

/// Bytes, in KiB or MiB, whichever is whole.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = if self.0 != 0 && self.0.is_multiple_of(1 << 20) {
            (self.0 >> 20, "MiB")
        } else {
            (self.0 >> 10, "KiB")
        };
        let mut text = arrayvec::ArrayString::<32>::new();
        let _ = fmt::write(&mut text, format_args!("{count} {unit}"));
        f.pad(&text)
    }
}

/// Nanoseconds, in seconds with a tenth.
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 / 100_000_000;
        let mut text = arrayvec::ArrayString::<32>::new();
        let _ = fmt::write(&mut text, format_args!("{}.{} s", tenths / 10, tenths % 10));
        f.pad(&text)
    }
}

/// A share of a time, in per cent with a tenth: more than 100 if several vCPUs had their part in it.
pub(crate) struct Percent {
    pub(crate) part: u64,
    pub(crate) whole: u64,
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded; 64 bits of nanoseconds times a thousand need more than 64.
        let whole = u128::from(self.whole.max(1));
        let tenths = (u128::from(self.part) * 1000 + whole / 2) / whole;
        let mut text = arrayvec::ArrayString::<48>::new();
        let _ = fmt::write(&mut text, format_args!("{}.{}", tenths / 10, tenths % 10));
        f.pad(&text)
    }
}

/// The CPUs of a mask, as a list of numbers and ranges; `all` if it has all of so many.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// A bit for each CPU.
    pub mask: u64,
    /// How many CPUs there are: bits from this one on do not count.
    pub count: usize,
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = 1_u64
            .checked_shl(self.count as u32)
            .map_or(u64::MAX, |bit| bit - 1);
        let mask = self.mask & there;
        if mask == there {
            return f.pad("all");
        }
        let mut text = arrayvec::ArrayString::<64>::new();
        let mut first = 0;
        while first < 64 {
            if mask >> first & 1 == 0 {
                first += 1;
                continue;
            }
            let run = (mask >> first).trailing_ones();
            let comma = if text.is_empty() { "" } else { "," };
            // Masks of many CPUs may not fit: then it ends early.
            let _ = match run {
                1 => fmt::write(&mut text, format_args!("{comma}{first}")),
                _ => fmt::write(
                    &mut text,
                    format_args!("{comma}{first}-{}", first + run - 1),
                ),
            };
            first += run;
        }
        f.pad(if text.is_empty() { "none" } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(format!("{:>8}", Size(16 << 20)), "  16 MiB");
        assert_eq!(Size(300 << 10).to_string(), "300 KiB");
        assert_eq!(Size(0).to_string(), "0 KiB");
        assert_eq!(Seconds(12_345_678_901).to_string(), "12.3 s");
        let percent = |part, whole| Percent { part, whole }.to_string();
        assert_eq!(percent(1, 3), "33.3");
        assert_eq!(percent(2, 3), "66.7");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0");
        assert_eq!(percent(5, 0), "500.0");
    }

    #[test]
    fn sets_of_cpus() {
        let cpus = |mask, count| Cpus { mask, count }.to_string();
        assert_eq!(cpus(u64::MAX, 4), "all");
        assert_eq!(cpus(0b1011, 4), "0-1,3");
        assert_eq!(cpus(0b0100, 4), "2");
        assert_eq!(cpus(0, 4), "none");
        assert_eq!(cpus(u64::MAX, 64), "all");
        assert_eq!(cpus(1 << 63, 64), "63");
    }
}
