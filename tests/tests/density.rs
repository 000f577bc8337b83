//! Many small guests on one board: all of them answer, and those that wait cost nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use viaduct_tests::{Bundle, Console, Gic, Guest, Machine, lines, seconds};

/// Guests, and what each has.
const GUESTS: usize = 250;
const MIB: u64 = 4;
const CPUS: u32 = 2;

fn names() -> impl Iterator<Item = String> {
    (1..=GUESTS).map(|number| format!("g{number}"))
}

fn within() -> Duration {
    seconds(300)
}

/// Exits to the hypervisor of every guest that waits, as the shell has them. Who was the last on a CPU waits there, and
/// has the interrupts that come meanwhile, the console's among them: it counts as running, and is left out.
fn exits(console: &mut Console) -> BTreeMap<String, u64> {
    let table = console.operate("vcpus", within());
    let rows = table.iter().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Columns before this one have several words.
        let exits = words.iter().rev().nth(2);
        match (&words[..], exits.and_then(|exits| exits.parse().ok())) {
            ([_, _, "running", ..], _) => None,
            ([name, _, "blocked", ..], Some(exits)) => Some(((*name).to_owned(), exits)),
            _ => console.fail(&format!("no row of a vCPU that waits: {line:?}")),
        }
    });
    let rows: BTreeMap<String, u64> = rows.collect();
    assert!(rows.len() >= GUESTS - CPUS as usize, "{} wait", rows.len());
    rows
}

/// They start, wait for a minute, and each wakes up by its own timer.
fn all_answer(name: &str, machine: Machine) {
    let bundle = names().fold(Bundle::new(name).hash(None), |bundle, name| {
        let guest = Guest::hello(&name).memory_mib(MIB);
        bundle.guest(guest.boot_arguments("count=1 period=60s"))
    });
    let mut console = machine
        .memory_mib(2048)
        .bundle(bundle.write())
        .argument("conswitch=ax")
        .argument(lines::POWER_OFF)
        .start(name);
    let each = |said: &str| {
        names()
            .map(|name| format!("{name}| {said}"))
            .collect::<Vec<_>>()
    };
    let hello = each("hello from ");
    let hello: Vec<&str> = hello.iter().map(String::as_str).collect();
    console.expect_each(&hello, within());

    // Nobody's timer is near: no exit, and the CPUs sleep.
    let before = exits(&mut console);
    let top = console.operate("top 1", within());
    let after = exits(&mut console);
    console.expect_never(&["heartbeat"]);
    let changed = before
        .iter()
        .filter(|(name, exits)| after.get(*name).is_some_and(|now| now != *exits));
    assert_eq!(changed.count(), 0, "{before:?} then {after:?}");
    let shares = top.iter().filter(|line| line.starts_with('g'));
    let none = shares.filter(|line| line.ends_with(" 0.0")).count();
    assert!(none >= GUESTS - CPUS as usize, "{none} of {top:?}");

    let beats = each("hello: heartbeat 1 ");
    let beats: Vec<&str> = beats.iter().map(String::as_str).collect();
    console.expect_each(&beats, within());
    console.expect(lines::ALL_STOPPED, within());
    console.expect_exit(within());
}

#[test]
#[ignore = "long"]
fn gicv2() {
    all_answer("density-v2", Machine::virt(Gic::V2).cpus(CPUS));
}

#[test]
#[ignore = "long"]
fn gicv3() {
    all_answer("density-v3", Machine::virt(Gic::V3).cpus(CPUS));
}
