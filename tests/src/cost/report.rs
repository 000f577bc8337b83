//! The costs as a table and as JSON.

use std::fmt::Write;

use super::{Costs, row};

/// A column: what ran, and what it cost.
#[derive(Clone, Debug)]
pub struct Column {
    /// `Viaduct GICv2`, `Xen 4.20 GICv3` ...
    pub title: String,
    /// The costs.
    pub costs: Costs,
}

impl Column {
    fn of(&self, name: &str) -> Option<f64> {
        let found = self.costs.iter().find(|(other, _)| other == name);
        found.map(|(_, cost)| *cost)
    }
}

/// One row for each that the first column has; a mark where any of the first `ours` columns is over the budget.
#[must_use]
pub fn table(columns: &[Column], ours: usize) -> String {
    let mut text = format!("{:<20} {:>10}", "", "budget");
    for column in columns {
        let _ = write!(text, " {:>17}", column.title);
    }
    text.push('\n');
    let Some(first) = columns.first() else {
        return text;
    };
    for (name, _) in &first.costs {
        let budget = row(name).map(|row| row.budget);
        let shown = budget.map_or(String::new(), |budget| format!("{budget:.0}"));
        let _ = write!(text, "{name:<20} {shown:>10}");
        for column in columns {
            let cell = column
                .of(name)
                .map_or(String::new(), |cost| format!("{cost:.1}"));
            let _ = write!(text, " {cell:>17}");
        }
        let mut own = columns
            .iter()
            .take(ours)
            .filter_map(|column| column.of(name));
        if budget.is_some_and(|budget| own.any(|cost| cost > budget)) {
            text.push_str("  over");
        }
        text.push('\n');
    }
    text
}

/// The same: an object with a member for each column, which has a member for each row.
#[must_use]
pub fn json(columns: &[Column]) -> String {
    let columns = columns.iter().map(|column| {
        let rows = column.costs.iter().filter(|(_, cost)| cost.is_finite());
        let rows: Vec<String> = rows
            .map(|(name, cost)| format!("    {name:?}: {cost}"))
            .collect();
        format!("  {:?}: {{\n{}\n  }}", column.title, rows.join(",\n"))
    });
    format!("{{\n{}\n}}\n", columns.collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_marks() {
        let column = |title: &str, cost| Column {
            title: title.to_owned(),
            costs: vec![
                ("null-hypercall".to_owned(), cost),
                ("empty-loop".to_owned(), 3.0),
            ],
        };
        let columns = [column("ours", 99.0), column("theirs", 400.0)];
        let text = table(&columns, 1);
        assert!(
            text.contains("null-hypercall") && !text.contains("over"),
            "{text}"
        );
        assert!(table(&columns, 2).contains("over"));
        let expected =
            "{\n  \"ours\": {\n    \"null-hypercall\": 99,\n    \"empty-loop\": 3\n  }\n}\n";
        assert_eq!(json(&columns[..1]), expected);
    }
}
