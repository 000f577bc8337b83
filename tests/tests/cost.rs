//! What the hot paths may cost, in instructions, which repeat to the digit.

use viaduct_tests::cost::stretch::{self, Stretch};
use viaduct_tests::cost::{self, Baseline};
use viaduct_tests::{Gic, XEN};

fn within_the_baseline(gic: Gic, column: usize) {
    let costs = cost::measure(gic);
    let complaints = Baseline::read().unwrap().complaints(&costs, column);
    assert!(complaints.is_empty(), "{gic:?}: {complaints:#?}");

    // Who waits is not looked at: the wake-up of one of many is that of one of two, but for the depth of a heap.
    let of = |wanted: &str| {
        let found = costs.iter().find(|(name, _)| name == wanted);
        found.map_or(f64::NAN, |(_, cost)| *cost)
    };
    let (two, many) = (of("wake-of-2"), of("wake-of-250"));
    assert!(many - two < 60.0, "{gic:?}: {two} of two, {many} of 250");
}

#[test]
fn gicv2() {
    within_the_baseline(Gic::V2, 0);
}

#[test]
fn gicv3() {
    within_the_baseline(Gic::V3, 1);
    let ours = cost::operations(Gic::V3);
    assert_eq!(ours, cost::operations(Gic::V3), "the same every run");

    let on = cost::operations_traced(Gic::V3);
    for operation in cost::RECORDED {
        let each = cost::added(&on, &ours, operation.name) / f64::from(operation.records);
        assert!(
            (1.0..=cost::RECORD).contains(&each),
            "{}: {each} instructions a record of the trace",
            operation.name
        );
    }

    // The guest that measures runs on Xen as it is, and nothing costs more here than there.
    let (version, ..) = XEN[1];
    let theirs = cost::operations_on_xen(Gic::V3, version).unwrap();
    for (name, cost) in ours.iter().filter(|(name, _)| name != "empty-loop") {
        let xen = theirs.iter().find(|(other, _)| other == name);
        let (_, xen) = xen.unwrap_or_else(|| panic!("{name} was not measured on Xen"));
        assert!(cost < xen, "{name}: {cost}, Xen {version}: {xen}");
    }
}

/// Interrupts are looked for often enough, whatever guests do.
fn no_stretch_is_too_long(found: &[Stretch]) {
    for Stretch {
        run,
        instructions,
        cause,
    } in found
    {
        // Something was measured, and it was not too long.
        assert!(
            (100.0..=stretch::STRETCH).contains(instructions),
            "{run}: {instructions} instructions: {cause}"
        );
    }
}

#[test]
fn interrupts_are_taken_in_time_gicv2() {
    no_stretch_is_too_long(&[
        stretch::hostile(Gic::V2, 1, 5_000),
        stretch::restart(Gic::V2),
    ]);
}

#[test]
fn interrupts_are_taken_in_time_gicv3() {
    no_stretch_is_too_long(&[
        stretch::hostile(Gic::V3, 2, 5_000),
        stretch::restart(Gic::V3),
    ]);
}

#[test]
#[ignore = "Linux under icount, and long storms"]
fn interrupts_are_taken_in_time_for_long() {
    for gic in [Gic::V2, Gic::V3] {
        no_stretch_is_too_long(&[stretch::linux(gic), stretch::hostile(gic, 3, 100_000)]);
    }
}

/// What the trace adds while it is off, beside an image without it. In the long run, for the sake of that image.
#[test]
#[ignore = "builds an image of its own"]
fn a_trace_that_is_off_costs_next_to_nothing() {
    let with = cost::operations(Gic::V3);
    let without = cost::operations_untraced(Gic::V3);
    for operation in cost::RECORDED {
        let added = cost::added(&with, &without, operation.name);
        assert!(
            added <= cost::POINT * f64::from(operation.points),
            "{}: {added} instructions for {} points",
            operation.name,
            operation.points
        );
    }
}
