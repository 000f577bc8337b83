//! Guests that are started again: what they had is given back each time, and who deals with them sees them come and go.

use viaduct_tests::{Bundle, Gic, Guest, Image, Machine, Spread, lines, seconds};

/// A victim that ends at seeded moments, while a keeper has its pages mapped and its ports bound.
fn lives(name: &str, machine: Machine, lives: u32, seed: u32, limit: u64) {
    let channel = |other: &str| {
        format!("end {{ compatible = \"xen,evtchn-v1\"; xen,evtchn = <20 &{other}>; }};")
    };
    let restart = "viaduct,restart = \"on-crash\"; viaduct,restart-limit = <0>; viaduct,restart-backoff-ms = <0>;";
    let bundle = Bundle::new(name)
        .guest(
            Guest::probe("keeper", &format!("test=keep lives={lives} seed={seed}")).extra(
                &format!("viaduct,peers = \"victim\"; one: {}", channel("two")),
            ),
        )
        .guest(
            Guest::probe("victim", "test=live")
                .cpus(2)
                .enhanced(Some("enabled"))
                .extra(&format!("{restart} two: {}", channel("one"))),
        )
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .argument("loglvl=debug")
        .start(name);
    let line = console.expect(lines::MEMORY_FREE, seconds(limit));
    assert!(lines::all_is_free(&line), "{name}: {line}");
    for said in ["keeper| DONE", &lines::stopped("victim", "poweroff")] {
        assert_eq!(console.lines_with(said).len(), 1, "{name}: {said}");
    }
    for guest in ["keeper", "victim"] {
        let failed = console.lines_with(&format!("{guest}| FAIL"));
        assert!(failed.is_empty(), "{name}: {failed:#?}");
    }
    let told = console.lines();
    let times = told
        .iter()
        .filter_map(|line| lines::restarted("victim", line));
    let times = Spread::of(times);
    println!("{name}: microseconds from an end to the next life: {times}");
    let restarts = times.count();
    assert!(restarts >= lives as usize, "{name}: {restarts} restarts");
    // The first lives take what all others use again.
    let used = console.lines_with("the hypervisor uses");
    let used: Vec<&str> = used
        .iter()
        .filter_map(|line| line.split("uses ").nth(1))
        .collect();
    let (settled, last) = (used.get(used.len() / 2), used.last());
    assert_eq!(settled, last, "{name}: it grows: {used:?}");
}

/// The stacks are enough for a build that is not optimised.
#[test]
fn ten_lives_debug() {
    let machine = Machine::virt(Gic::V3).image(Image::Debug);
    lives("lives-debug", machine, 10, 5, 600);
}

#[test]
fn fifty_lives_gicv3() {
    lives("lives-v3", Machine::virt(Gic::V3).cpus(2), 50, 1, 600);
}

#[test]
fn lives_gicv2_one_cpu() {
    lives("lives-v2", Machine::virt(Gic::V2).cpus(1), 10, 2, 300);
}

#[test]
fn lives_raspi4b() {
    lives("lives-pi4", Machine::pi4(), 10, 3, 300);
}

/// Minutes, or an hour on a machine that has other work.
#[test]
#[ignore = "long"]
fn a_thousand_lives() {
    for (name, gic, seed) in [("lives-long-v3", Gic::V3, 4), ("lives-long-v2", Gic::V2, 5)] {
        lives(name, Machine::virt(gic).cpus(4), 1000, seed, 3600);
    }
}

/// A guest that crashes at once, each time: it waits longer before each restart, and stays stopped in the end.
#[test]
fn a_row_of_crashes_has_an_end() {
    let name = "restart-limit";
    let bundle = Bundle::new(name)
        .guest(
            Guest::probe("falls", "test=crash").extra(
                "viaduct,restart = \"always\"; viaduct,restart-limit = <3>; viaduct,restart-backoff-ms = <50>;",
            ),
        )
        .write();
    let mut console = Machine::virt(Gic::V2)
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect(&lines::stopped("falls", "crash"), seconds(60));
    let line = console.expect(lines::MEMORY_FREE, seconds(300));
    assert!(lines::all_is_free(&line), "{line}");
    let again = console.lines_with("falls: runs again");
    let waited: Vec<u64> = again
        .iter()
        .filter_map(|line| line.split(", ").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(waited.len(), 3, "{again:?}");
    for (waited, wanted) in waited.iter().zip([50_000, 100_000, 200_000]) {
        assert!(*waited >= wanted, "{again:?}");
    }
}
