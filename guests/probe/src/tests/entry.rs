//! What the guest finds at its first instruction, and the tree it is given
//! (xen-arm-guest-environment sections 2 and 3).

use crate::check::{Outcome, check, equal, fail};
use crate::raw;
use runtime::{cpu, entry, exception, memory, xen};

const SCTLR_AT_RESET: u64 = 0x00c5_0078;

pub(crate) fn state() -> Outcome {
    let state = entry::state();
    equal!(state.current_el >> 2, 1, "exception level");
    equal!(state.daif, 0x3c0, "DAIF");
    equal!(state.stack_select, 1, "SPSel");
    equal!(state.sctlr & (1 | 1 << 2 | 1 << 12), 0, "MMU and caches");
    equal!(state.arguments, 0, "x1 | x2 | x3");
    equal!(state.tree % 8, 0, "tree alignment");
    equal!(state.virtual_timer & 1, 0, "virtual timer on");
    if xen::present() {
        equal!(state.sctlr, SCTLR_AT_RESET, "SCTLR_EL1");
        equal!(state.others, 0, "x4 | .. | x30");
        equal!(state.cpacr >> 20 & 3, 0, "CPACR_EL1.FPEN");
    }
    let in_ram = memory::banks().any(|(base, size)| (base..base + size).contains(&state.tree));
    check!(in_ram, "the tree at {:#x} is not in RAM", state.tree);
    Ok(())
}

/// One word of every free page, at a place that moves through the page.
pub(crate) fn memory() -> Outcome {
    let spare = memory::spare();
    check!(
        spare.end - spare.start >= 64 * memory::PAGE,
        "too little free RAM: {spare:x?}"
    );
    for (number, page) in spare.clone().step_by(memory::PAGE as usize).enumerate() {
        let address = page + (number as u64 * 264) % memory::PAGE;
        match exception::load64(address) {
            Ok(0) => {}
            Ok(value) => fail!("{address:#x} holds {value:#x}"),
            Err(fault) => fail!("{address:#x}: {fault}"),
        }
    }
    Ok(())
}

/// First and last word of the free RAM and of every 2 MiB in it can be written and read back, and the
/// last word of every bank can be read.
pub(crate) fn ram_edges() -> Outcome {
    let spare = memory::spare();
    let start = spare.start.next_multiple_of(8);
    let blocks = (start.next_multiple_of(2 << 20)..spare.end).step_by(2 << 20);
    let places = blocks.chain([start, spare.end - 8]);
    for address in places.clone() {
        if let Err(fault) = raw::store64(address, !address) {
            fail!("store at {address:#x}: {fault}");
        }
    }
    for address in places {
        match exception::load64(address) {
            Ok(value) => equal!(value, !address, "at {address:#x}"),
            Err(fault) => fail!("load at {address:#x}: {fault}"),
        }
        let _ = raw::store64(address, 0);
    }
    for (base, size) in memory::banks() {
        for address in [base, base + size - 8] {
            if let Err(fault) = exception::load64(address) {
                fail!("load at {address:#x}, an edge of its bank: {fault}");
            }
        }
    }
    Ok(())
}

pub(crate) fn tree() -> Outcome {
    let Some(tree) = entry::tree() else {
        fail!("no tree")
    };
    check!(memory::banks().count() > 0, "no memory node");
    check!(tree.find("/cpus").is_some(), "no /cpus");
    check!(cpu::affinity(0).is_some(), "no CPU in /cpus");
    check!(tree.find("/psci").is_some(), "no /psci");
    let Some(timer) = tree.compatible("arm,armv8-timer") else {
        fail!("no timer node")
    };
    check!(
        timer.interrupts().count() >= 3,
        "the timer has too few interrupts"
    );
    if !xen::present() {
        return Ok(());
    }
    let chosen = tree.find("/chosen");
    check!(
        chosen.is_some_and(|node| node.text("stdout-path").is_some()),
        "no stdout-path"
    );
    equal!(
        timer.interrupts().nth(2),
        Some(27),
        "virtual timer interrupt"
    );
    let Some(node) = tree.nodes().find(|node| node.is_compatible("xen,xen")) else {
        fail!("no hypervisor node");
    };
    equal!(node.name, "hypervisor", "name of the hypervisor node");
    equal!(node.depth, 1, "depth of the hypervisor node");
    let first = node.text("compatible").unwrap_or_default();
    check!(
        first.starts_with("xen,xen-"),
        "its first compatible string is {first}"
    );
    equal!(node.interrupts().next(), Some(31), "event interrupt");
    equal!(
        tree.find("/psci").and_then(|node| node.text("method")),
        Some("hvc"),
        "PSCI method"
    );
    equal!(
        cpu::affinity(0),
        Some(cpu::own_affinity()),
        "affinity of CPU 0"
    );
    Ok(())
}
