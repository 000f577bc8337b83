//! Failing on purpose, in a build for that: what the tests of the failure path boot.

use log::info;

/// Fails in the way that the boot argument `fault=` asks for.
pub(crate) fn run(kind: Option<&str>) {
    let Some(kind) = kind else { return };
    info!("failing on purpose: {kind}");
    match kind {
        "panic" => panic!("on purpose"),
        "stack" => {
            info!("{}", arch::vectors::overflow_stack(0));
        }
        "data" => arch::vectors::fault_on(arch::vectors::Fault::Data),
        "write-code" => arch::vectors::fault_on(arch::vectors::Fault::WriteCode),
        "execute-data" => arch::vectors::fault_on(arch::vectors::Fault::ExecuteData),
        // Below.
        "late" => {}
        _ => info!("no such fault"),
    }
}

/// The same when everything is built.
pub(crate) fn run_late(kind: Option<&str>) {
    if kind == Some("late") {
        panic!("on purpose");
    }
}
