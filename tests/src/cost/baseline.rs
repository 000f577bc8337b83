//! What each row may cost: a budget, and what it cost when that was last recorded (`tests/baseline.tsv`).

use std::fmt::Write;
use std::path::PathBuf;

use super::Costs;
use crate::paths::root;

/// What is measured, and its budget.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in tables.
    pub name: &'static str,
    /// What it is to cost at most.
    pub budget: f64,
}

const fn to(name: &'static str, budget: u32) -> Row {
    Row {
        name,
        budget: budget as f64,
    }
}

/// Every row.
pub const ROWS: [Row; 34] = [
    to("null-hypercall", 100),
    to("unknown-hypercall", 90),
    to("psci-version-hvc", 100),
    to("psci-version-smc", 100),
    to("smccc-version-hvc", 100),
    to("id-register", 120),
    to("yield", 120),
    to("gicd-typer", 150),
    to("isenabler-read", 180),
    to("isenabler-write", 200),
    to("uart-flags", 150),
    to("event-send-masked", 150),
    to("grant-copy-4k", 900),
    to("grant-map-unmap", 900),
    to("self-sgi-handler", 190),
    to("self-sgi-end", 260),
    to("timer-busy", 180),
    to("timer-wfi", 180),
    to("event-to-self", 380),
    to("two-switches", 1_200),
    to("timer-wfi-switch", 900),
    to("sgi-ping-pong", 2_000),
    to("boot-16-mib", 1_400_000),
    to("boot-16-mib-more", 950_000),
    // The first guest and each further one, as above.
    to("boot-16-guests", 15_650_000),
    to("boot-64-guests", 61_250_000),
    // The same, without the scrub of the 12 MiB that each has less.
    to("boot-250-of-4-mib", 90_500_000),
    to("restart-16-mib", 1_200_000),
    to("wake-of-2", 900),
    to("wake-of-250", 900),
    to("memory-kib", 1_024),
    // Of a guest of 16 MiB, without its console's scroll-back, which the tree can say otherwise; each further vCPU of
    // eight.
    to("memory-kib-more", 64),
    to("memory-kib-scroll-back", 16),
    to("memory-kib-more-vcpu", 4),
];

/// The row of that name.
#[must_use]
pub fn row(name: &str) -> Option<Row> {
    ROWS.into_iter().find(|row| row.name == name)
}

/// What a row may grow by until the growth is an error: for code that only moved.
const TOLERANCE: f64 = 1.02;

/// The recorded costs, on GICv2 and GICv3.
#[derive(Clone, Debug)]
pub struct Baseline(Vec<(String, [f64; 2])>);

const HEAD: &str = "# What `just bench record=yes` measured: instructions, or KiB. A test fails where a row grows by more than 2 %,\n\
                    # or passes a budget that it had kept.\n\
                    # row\tGICv2\tGICv3\n";

fn path() -> PathBuf {
    root().join("tests/baseline.tsv")
}

impl Baseline {
    /// What is recorded.
    ///
    /// # Errors
    /// The line that is not a row, or why the file cannot be read.
    pub fn read() -> Result<Self, String> {
        let text = std::fs::read_to_string(path()).map_err(|error| error.to_string())?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let rows = lines.map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let [name, v2, v3] = cells[..] else {
                return Err(line.to_owned());
            };
            let number = |cell: &str| cell.parse::<f64>().map_err(|_| line.to_owned());
            Ok((name.to_owned(), [number(v2)?, number(v3)?]))
        });
        rows.collect::<Result<_, _>>().map(Self)
    }

    /// Writes new ones.
    ///
    /// # Errors
    /// Why the file cannot be written.
    pub fn record(v2: &Costs, v3: &Costs) -> Result<(), String> {
        let mut text = String::from(HEAD);
        for (name, on_v3) in v3 {
            let on_v2 = v2.iter().find(|(other, _)| other == name);
            let on_v2 = on_v2.map_or(f64::NAN, |(_, cost)| *cost);
            let _ = writeln!(text, "{name}\t{on_v2:.2}\t{on_v3:.2}");
        }
        std::fs::write(path(), text).map_err(|error| error.to_string())
    }

    /// What is wrong with costs measured on GICv2 (`column` 0) or GICv3 (1): rows that grew, passed their budget,
    /// or are missing.
    #[must_use]
    pub fn complaints(&self, costs: &Costs, column: usize) -> Vec<String> {
        let mut complaints = Vec::new();
        for row in ROWS {
            let name = row.name;
            let recorded = self.0.iter().find(|(other, _)| other == name);
            let Some(recorded) = recorded.and_then(|(_, costs)| costs.get(column)) else {
                complaints.push(format!("{name}: not recorded"));
                continue;
            };
            let Some((_, cost)) = costs.iter().find(|(other, _)| other == name) else {
                complaints.push(format!("{name}: not measured"));
                continue;
            };
            if !cost.is_finite() {
                complaints.push(format!("{name}: not measured"));
            } else if *cost > recorded * TOLERANCE {
                complaints.push(format!("{name}: {cost:.2}, recorded {recorded:.2}"));
            } else if *recorded <= row.budget && *cost > row.budget {
                complaints.push(format!("{name}: {cost:.2}, budget {}", row.budget));
            }
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_budgets_are_seen() {
        let mut text = String::from(HEAD);
        for row in ROWS {
            let _ = writeln!(
                text,
                "{}\t{}\t{}",
                row.name,
                row.budget * 0.99,
                row.budget * 2.0
            );
        }
        let baseline = Baseline::parse(&text).unwrap();
        let times = |factor: f64| -> Costs {
            let costs = ROWS
                .iter()
                .map(|row| (row.name.to_owned(), row.budget * factor));
            costs.collect()
        };
        assert!(baseline.complaints(&times(0.98), 0).is_empty());
        // Within 2 %, and past the budget.
        assert_eq!(baseline.complaints(&times(1.005), 0).len(), ROWS.len());
        // Over its budget already, and within 2 %.
        assert!(baseline.complaints(&times(2.03), 1).is_empty());
        assert_eq!(baseline.complaints(&times(2.05), 1).len(), ROWS.len());
        let mut less = times(0.5).split_off(1);
        less[0].1 = f64::NAN;
        assert_eq!(
            baseline.complaints(&less, 1),
            [
                "null-hypercall: not measured",
                "unknown-hypercall: not measured"
            ]
        );
    }

    #[test]
    fn what_is_recorded_can_be_read() {
        assert!(Baseline::parse("a\t1\n").is_err());
        let read = Baseline::read().unwrap();
        assert!(
            ROWS.iter()
                .all(|row| read.0.iter().any(|(name, _)| name == row.name))
        );
    }
}
