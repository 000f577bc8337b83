//! What Linux loses to the hypervisor below it: as good as nothing, and less than to Xen.

use viaduct_tests::Gic;
use viaduct_tests::steady::{Below, Beside, is_possible, latency, loads, ratio};

#[test]
#[ignore = "three Linux and 8 loads under icount: minutes"]
fn work_costs_what_it_costs_bare() -> Result<(), String> {
    let bare = loads(Gic::V3, Below::Machine)?;
    let ours = loads(Gic::V3, Below::Viaduct)?;
    let xen = loads(Gic::V3, Below::Xen("4.20"))?;
    assert_eq!((bare.len(), ours.len(), xen.len()), (8, 8, 8));
    for (((name, bare), (_, ours)), (_, xen)) in bare.iter().zip(&ours).zip(&xen) {
        assert!(
            ratio(*ours, *bare) < 1.01,
            "{name}: {ours} instructions, {bare} on the bare machine"
        );
        assert!(ours < xen, "{name}: {ours} instructions, {xen} on Xen");
    }
    Ok(())
}

#[test]
#[ignore = "seven Linux under icount: minutes"]
fn linux_is_woken_in_time() -> Result<(), String> {
    for beside in [Beside::Nobody, Beside::Idle, Beside::BusyButRealTime] {
        let ours = latency(Gic::V3, Below::Viaduct, beside)?;
        let bare = latency(Gic::V3, Below::Machine, Beside::Nobody)?;
        // Two switches of vCPUs and a timer are some thousand instructions.
        assert!(
            ours.nearly_all < bare.nearly_all + 10_000,
            "{beside:?}: {ours:?}, {bare:?} on the bare machine"
        );
    }
    for beside in [Beside::Nobody, Beside::Idle, Beside::Busy] {
        assert!(is_possible(Below::Xen("4.20"), beside));
        let ours = latency(Gic::V3, Below::Viaduct, beside)?;
        let xen = latency(Gic::V3, Below::Xen("4.20"), beside)?;
        assert!(
            ours.median < xen.median && ours.most <= xen.most,
            "{beside:?}: {ours:?}, {xen:?} on Xen"
        );
    }
    Ok(())
}
