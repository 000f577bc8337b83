//! What the hot paths may cost, in instructions, which repeat to the digit.

use viaduct_tests::Gic;
use viaduct_tests::cost::{self, Baseline};

fn within_the_baseline(gic: Gic, column: usize) {
    let costs = cost::measure(gic);
    let complaints = Baseline::read().unwrap().complaints(&costs, column);
    assert!(complaints.is_empty(), "{gic:?}: {complaints:#?}");
}

#[test]
fn gicv2() {
    within_the_baseline(Gic::V2, 0);
}

#[test]
fn gicv3() {
    within_the_baseline(Gic::V3, 1);
    assert_eq!(
        cost::operations(Gic::V3),
        cost::operations(Gic::V3),
        "the same every run"
    );
}
