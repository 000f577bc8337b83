//! What operations cost, in instructions: one CPU under `-icount shift=0`, where a nanosecond of
//! virtual time is one instruction, the same every run. Path lengths are not cycles, but they repeat
//! to the digit.

use crate::bundle::Bundle;
use crate::console::seconds;
use crate::guest::Guest;
use crate::lines;
use crate::machine::{Gic, Machine};

/// Instructions per operation, the guest's own loop included, by name.
pub type Costs = Vec<(String, f64)>;

/// An operation that has a budget.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What is measured.
    pub name: &'static str,
    /// What it should cost at most.
    pub budget: f64,
    /// What it may cost today: a test fails above. It only ever comes down, to the budget in the end.
    pub ceiling: f64,
}

const fn limit(name: &'static str, budget: u32, ceiling: u32) -> Limit {
    Limit {
        name,
        budget: budget as f64,
        ceiling: ceiling as f64,
    }
}

/// All limits.
pub const LIMITS: [Limit; 16] = [
    limit("null-hypercall", 100, 78),
    limit("unknown-hypercall", 90, 78),
    limit("psci-version-hvc", 100, 86),
    limit("psci-version-smc", 100, 87),
    limit("smccc-version-hvc", 100, 85),
    limit("id-register", 120, 118),
    limit("yield", 120, 180),
    limit("gicd-typer", 150, 150),
    limit("isenabler-read", 180, 180),
    limit("isenabler-write", 200, 200),
    limit("uart-flags", 150, 166),
    limit("event-send-masked", 150, 275),
    limit("grant-copy-4k", 900, 1_530),
    limit("grant-map-unmap", 900, 2_275),
    limit("boot-16-mib", 1_400_000, 1_990_000),
    limit("boot-16-mib-more", 950_000, 1_175_000),
];

/// The limit of an operation, where it has one.
#[must_use]
pub fn limit_of(name: &str) -> Option<Limit> {
    LIMITS.into_iter().find(|limit| limit.name == name)
}

/// Measures everything.
#[must_use]
pub fn measure(gic: Gic) -> Costs {
    let mut costs = operations(gic);
    let one = boot(gic, 1);
    let three = boot(gic, 3);
    costs.push(("boot-16-mib".to_owned(), one));
    costs.push(("boot-16-mib-more".to_owned(), (three - one) / 2.0));
    costs
}

/// What the probe's `count` says.
#[must_use]
pub fn operations(gic: Gic) -> Costs {
    let name = format!("cost-{gic:?}").to_lowercase();
    let bundle = Bundle::new(&name)
        .guest(Guest::probe("probe", "test=count").vpl011())
        .write();
    let mut console = Machine::virt(gic)
        .cpus(1)
        .icount()
        .bundle(bundle)
        .start(&name);
    console.expect("probe| DONE", seconds(120));
    let counts = console.lines_with("probe| COUNT ");
    counts
        .iter()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

/// From reset to the first instruction of the first of `guests` guests with 16 MiB each.
#[must_use]
pub fn boot(gic: Gic, guests: u32) -> f64 {
    let name = format!("cost-boot-{gic:?}-{guests}").to_lowercase();
    let mut bundle = Bundle::new(&name).hash(None);
    for index in 1..=guests {
        let guest = Guest::hello(&format!("hello-{index}")).boot_arguments("count=1 period=1ms");
        bundle = bundle.guest(guest);
    }
    let machine = Machine::virt(gic).cpus(1).icount().bundle(bundle.write());
    let mut console = machine.argument(lines::POWER_OFF).start(&name);
    let line = console.expect_that("the line on the guests' start", seconds(60), |line| {
        line.contains(lines::GUESTS_START) && line.ends_with(" us ago")
    });
    let microseconds = line
        .split_whitespace()
        .rev()
        .nth(2)
        .and_then(|word| word.parse::<f64>().ok());
    microseconds.unwrap_or(f64::NAN) * 1000.0
}
