//! How a guest's vCPUs are scheduled: `viaduct,weight`, `viaduct,period-us` and `viaduct,budget-us`, in the guest's node
//! for all of its vCPUs, or in an `xen,vcpu` node for one.

use alloc::format;
use alloc::string::ToString;

use super::node::Context;
use crate::properties::Properties;
use crate::tree::Property;

/// The weight of who has none in the tree, as in Xen.
pub(super) const DEFAULT_WEIGHT: u16 = 256;
/// The weights that there are.
pub const WEIGHTS: core::ops::RangeInclusive<u16> = 1..=u16::MAX;
/// Shortest and longest period of a real-time vCPU, in microseconds.
pub const PERIODS: core::ops::RangeInclusive<u32> = 500..=1_000_000;
/// The least budget, in microseconds.
pub const LEAST_BUDGET: u32 = 50;

/// How a vCPU is scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scheduling {
    /// Its share of what is left to those that share (`viaduct,weight`).
    pub weight: u16,
    /// It is a real-time vCPU.
    pub reservation: Option<Reservation>,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            weight: DEFAULT_WEIGHT,
            reservation: None,
        }
    }
}

/// So much of a CPU, before all that share: `budget` of every `period`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Microseconds (`viaduct,period-us`), 500 to 1,000,000.
    pub period: u32,
    /// Microseconds (`viaduct,budget-us`), at least 50 and at most the period.
    pub budget: u32,
}

impl Reservation {
    /// If both are in their ranges.
    #[must_use]
    pub fn new(period: u32, budget: u32) -> Option<Self> {
        let sound = PERIODS.contains(&period) && (LEAST_BUDGET..=period).contains(&budget);
        sound.then_some(Self { period, budget })
    }

    /// The part of a CPU that it is, in millionths, rounded up.
    #[must_use]
    pub fn share(self) -> u32 {
        let budget = u64::from(self.budget).saturating_mul(1_000_000);
        budget.div_ceil(u64::from(self.period.max(1))) as u32
    }
}

/// Whether a property is one of these.
pub(super) fn is_known(name: &str) -> bool {
    matches!(
        name,
        "viaduct,weight" | "viaduct,period-us" | "viaduct,budget-us"
    )
}

/// Reads what a node, the guest's or one `below` it, says; `usual` is what holds where it says nothing.
pub(super) fn read(
    context: &mut Context<'_>,
    node: &Properties<'_>,
    below: &str,
    usual: Scheduling,
) -> Scheduling {
    let mut scheduling = usual;
    if let Some(property) = node.property("viaduct,weight") {
        match property.u32().and_then(|weight| u16::try_from(weight).ok()) {
            Some(weight) if WEIGHTS.contains(&weight) => scheduling.weight = weight,
            _ => {
                let expected = format!("one cell: {} to {}", WEIGHTS.start(), WEIGHTS.end());
                context.refuse(below, property.name, property, expected);
            }
        }
    }
    let period = node.property("viaduct,period-us");
    let budget = node.property("viaduct,budget-us");
    match (period, budget) {
        (None, None) => {}
        (Some(period), Some(budget)) => {
            scheduling.reservation = reservation(context, below, &period, &budget);
        }
        (Some(_), None) => missing(context, below, "viaduct,budget-us", "viaduct,period-us"),
        (None, Some(_)) => missing(context, below, "viaduct,period-us", "viaduct,budget-us"),
    }
    scheduling
}

fn missing(context: &mut Context<'_>, below: &str, property: &str, other: &str) {
    let expected = format!("one cell, with {other}");
    context.refuse(below, property, "nothing", expected);
}

fn reservation(
    context: &mut Context<'_>,
    below: &str,
    period: &Property<'_>,
    budget: &Property<'_>,
) -> Option<Reservation> {
    let (least, most) = (PERIODS.start(), PERIODS.end());
    let Some(length) = period.u32().filter(|length| PERIODS.contains(length)) else {
        let expected = format!("one cell: {least} to {most} microseconds");
        context.refuse(below, period.name, period.to_string(), expected);
        return None;
    };
    let found = budget
        .u32()
        .and_then(|budget| Reservation::new(length, budget));
    if found.is_none() {
        let expected = format!("one cell: {LEAST_BUDGET} to {length} microseconds, the period");
        context.refuse(below, budget.name, budget.to_string(), expected);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KERNEL, guest, read_chosen};
    use super::*;

    #[test]
    fn a_vcpu_has_what_its_guest_has_unless_it_says_otherwise() {
        let more = format!(
            "viaduct,weight = <512>; viaduct,period-us = <10000>; viaduct,budget-us = <2500>; {KERNEL}
             one {{ compatible = \"xen,vcpu\"; id = <1>; viaduct,weight = <100>;
                viaduct,period-us = <1000>; viaduct,budget-us = <1>; }};"
        );
        let more = more.replace("<1>; };", "<333>; };");
        let (domains, problems) = read_chosen(&guest("rt", &more));
        assert_eq!(problems, []);
        let of = |weight, period, budget| Scheduling {
            weight,
            reservation: Reservation::new(period, budget),
        };
        let all = [of(512, 10_000, 2_500), of(100, 1_000, 333)];
        assert_eq!(domains[0].scheduling, all);
        assert_eq!(Reservation::new(1_000, 333).unwrap().share(), 333_000);
        assert_eq!(Reservation::new(3_000, 1_000).unwrap().share(), 333_334);
    }

    #[test]
    fn what_makes_no_sense_leaves_out_the_guest() {
        for (more, property, expected) in [
            ("viaduct,weight = <0>;", "viaduct,weight", "1 to 65535"),
            ("viaduct,weight = <65536>;", "viaduct,weight", "1 to 65535"),
            (
                "viaduct,period-us = <1000>;",
                "viaduct,budget-us",
                "with viaduct,period-us",
            ),
            (
                "viaduct,budget-us = <1000>;",
                "viaduct,period-us",
                "with viaduct,budget-us",
            ),
            (
                "viaduct,period-us = <1>; viaduct,budget-us = <1>;",
                "viaduct,period-us",
                "500 to 1000000",
            ),
            (
                "viaduct,period-us = <1000>; viaduct,budget-us = <1001>;",
                "viaduct,budget-us",
                "50 to 1000 microseconds, the period",
            ),
        ] {
            let (domains, problems) = read_chosen(&guest("rt", &format!("{more} {KERNEL}")));
            assert!(domains.is_empty(), "{more}");
            let told = problems[0].to_string();
            let start = format!("/chosen/rt: {property}: found ");
            assert!(
                told.starts_with(&start) && told.contains(expected),
                "{told}"
            );
        }
    }
}
