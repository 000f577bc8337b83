//! What the hot paths may cost, in instructions, which repeat to the digit.

use viaduct_tests::{Gic, cost};

fn below_the_ceilings(gic: Gic) {
    let costs = cost::measure(gic);
    for limit in cost::LIMITS {
        let known = costs.iter().any(|(name, _)| name == limit.name);
        assert!(known, "{gic:?}: {} was not measured: {costs:?}", limit.name);
    }
    let over: Vec<String> = costs
        .iter()
        .filter_map(|(name, cost)| {
            let limit = cost::limit_of(name)?;
            (*cost > limit.ceiling).then(|| format!("{name}: {cost}, ceiling {}", limit.ceiling))
        })
        .collect();
    assert!(over.is_empty(), "{gic:?}: {over:#?}");
}

#[test]
fn gicv2() {
    below_the_ceilings(Gic::V2);
}

#[test]
fn gicv3() {
    below_the_ceilings(Gic::V3);
    assert_eq!(
        cost::operations(Gic::V3),
        cost::operations(Gic::V3),
        "the same every run"
    );
}
