//! How late threads are woken, as a table of numbers, as a distribution, and as JSON.

use std::fmt::Write;

use super::Latency;

/// A measurement and its title.
pub type Titled = (String, Latency);

/// One line each: what half, nearly all and all of the wake-ups took at most.
#[must_use]
pub fn table(found: &[Titled]) -> String {
    let title = "instructions until woken";
    let mut text = format!(
        "{title:<32} {:>9} {:>9} {:>9} {:>9}\n",
        "median", "99 %", "99.9 %", "most"
    );
    for (title, latency) in found {
        let _ = writeln!(
            text,
            "{title:<32} {:>9} {:>9} {:>9} {:>9}",
            latency.median, latency.most, latency.nearly_all, latency.maximum
        );
    }
    text
}

/// How many wake-ups took from a line's number of instructions up to the next line's: a column for each measurement.
/// Lines are 1,000 apart up to 24,000, and then double.
#[must_use]
pub fn distribution(found: &[Titled]) -> String {
    let mut lines: Vec<u64> = found
        .iter()
        .flat_map(|(_, latency)| latency.counts.iter().map(|(from, _)| line_of(*from)))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    let mut text = format!("{:>9}", "from");
    for number in 1..=found.len() {
        let _ = write!(text, " {:>6}", format!("({number})"));
    }
    text.push('\n');
    for line in lines {
        let _ = write!(text, "{line:>9}");
        for (_, latency) in found {
            let here = latency.counts.iter();
            let count: u64 = here
                .filter(|(from, _)| line_of(*from) == line)
                .map(|(_, count)| count)
                .sum();
            let shown = if count == 0 {
                String::new()
            } else {
                count.to_string()
            };
            let _ = write!(text, " {shown:>6}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for (number, (title, _)) in found.iter().enumerate() {
        let _ = writeln!(text, "({}) {title}", number.saturating_add(1));
    }
    text
}

/// The line of [`distribution`] that a number of instructions is counted in.
const fn line_of(instructions: u64) -> u64 {
    const EVEN: u64 = 24_000;
    if instructions < EVEN {
        return instructions - instructions % 1000;
    }
    let mut line = EVEN;
    while line * 2 <= instructions {
        line *= 2;
    }
    line
}

/// A member for each measurement: where each class begins, and how many wake-ups are in it, as the guest counted them.
#[must_use]
pub fn json(loads: &[(String, Vec<(String, u64)>)], woken: &[Titled]) -> String {
    let object = |members: Vec<String>| format!("{{{}}}", members.join(", "));
    let loads = loads.iter().map(|(title, loads)| {
        let loads = loads
            .iter()
            .map(|(name, count)| format!("{name:?}: {count}"));
        format!("    {title:?}: {}", object(loads.collect()))
    });
    let woken = woken.iter().map(|(title, latency)| {
        let counts = latency.counts.iter();
        let counts = counts.map(|(from, count)| format!("\"{from}\": {count}"));
        format!("    {title:?}: {}", object(counts.collect()))
    });
    format!(
        "{{\n  \"loads\": {{\n{}\n  }},\n  \"woken\": {{\n{}\n  }}\n}}\n",
        loads.collect::<Vec<_>>().join(",\n"),
        woken.collect::<Vec<_>>().join(",\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(counts: &[(u64, u64)]) -> Latency {
        Latency {
            median: 1,
            most: 2,
            nearly_all: 3,
            maximum: 4,
            counts: counts.to_vec(),
        }
    }

    #[test]
    fn classes_join_into_lines() {
        let one = ("bare".to_owned(), latency(&[(13_500, 2), (13_750, 3)]));
        let other = (
            "below".to_owned(),
            latency(&[(23_750, 1), (96_000, 9), (160_000, 1)]),
        );
        let text = distribution(&[one, other]);
        let expected = "     from    (1)    (2)\n    13000      5\n    23000             1\n    96000            10\n(1) bare\n(2) below\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_class_is_in_the_json() {
        let loads = [("bare".to_owned(), vec![("fork".to_owned(), 7)])];
        let woken = [("bare".to_owned(), latency(&[(500, 2), (750, 1)]))];
        let text = json(&loads, &woken);
        assert!(text.contains(r#""bare": {"fork": 7}"#));
        assert!(text.contains(r#""bare": {"500": 2, "750": 1}"#));
    }
}
