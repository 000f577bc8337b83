//! Who gets how much of the CPUs: shares by weight, and real-time guests beside those that burn every cycle.

use viaduct_tests::{Bundle, Console, Gic, Guest, Machine, lines, seconds};

/// What a guest says that it ran, in microseconds, and of how many.
fn share(console: &Console, name: &str) -> (f64, f64) {
    let notes = console.lines_with(&format!("{name}| NOTE share "));
    let numbers: Vec<f64> = notes
        .iter()
        .flat_map(|line| line.split_whitespace())
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [ran, window] => (ran, window),
        _ => panic!("{name}: {notes:?}"),
    }
}

/// Guests that compute, with these weights; each one's part of all that there is to share, against what it is to be, in
/// CPUs.
fn shares(name: &str, machine: Machine, cpus: f64, weights: &[u32], within: f64) {
    let mut bundle = Bundle::new(name);
    for (number, weight) in weights.iter().enumerate() {
        let guest = Guest::probe(&format!("busy-{number}"), "test=share seconds=10");
        bundle = bundle.guest(guest.extra(&format!("viaduct,weight = <{weight}>;")));
    }
    let mut console = machine
        .alone()
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect(lines::ALL_STOPPED, seconds(120));
    let all: u32 = weights.iter().sum();
    for (number, &weight) in weights.iter().enumerate() {
        let (ran, window) = share(&console, &format!("busy-{number}"));
        let (found, expected) = (ran / window, cpus * f64::from(weight) / f64::from(all));
        assert!(
            (found / expected - 1.0).abs() <= within,
            "{name}: guest {number} had {found:.4} of a CPU, expected {expected:.4}"
        );
    }
}

#[test]
fn five_guests_share_two_cpus() {
    shares(
        "five-v3",
        Machine::virt(Gic::V3).cpus(2),
        2.0,
        &[256; 5],
        0.02,
    );
}

#[test]
fn weights_are_honoured() {
    let weights = [256, 256, 512, 512, 1024];
    shares(
        "weights-v2",
        Machine::virt(Gic::V2).cpus(2),
        2.0,
        &weights,
        0.02,
    );
}

#[test]
#[ignore = "as the others, on a third machine"]
fn weights_are_honoured_on_raspi4b() {
    let weights = [256, 256, 512, 512, 256, 1024];
    shares("weights-pi4", Machine::pi4(), 4.0, &weights, 0.05);
}

/// Deterministic: on one CPU, counted in instructions. What is promised stands in the tree, or is `typed` in the shell.
fn deadlines(name: &str, gic: Gic, typed: bool) {
    let promise = "viaduct,period-us = <10000>; viaduct,budget-us = <2500>;";
    let urgent = "test=deadlines period=10ms work=2ms jobs=130";
    // It never stops, and is held to what it was promised.
    let rogue = "viaduct,period-us = <5000>; viaduct,budget-us = <1500>; viaduct,weight = <1>;";
    let busy = |name: &str| Guest::probe(name, "test=share seconds=1 begin=300ms");
    let by_hand = if typed { "viaduct,manual-start;" } else { "" };
    let (promise, rogue) = match typed {
        true => (by_hand, by_hand),
        false => (promise, rogue),
    };
    let bundle = Bundle::new(name)
        .guest(Guest::probe("urgent", urgent).extra(promise))
        .guest(busy("rogue").extra(rogue))
        .guest(busy("busy-1").extra(by_hand))
        .guest(busy("busy-2").extra(by_hand));
    let mut console = Machine::virt(gic)
        .cpus(1)
        .icount()
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .argument("conswitch=ax")
        .start(name);
    if typed {
        // Guests that are not there yet have settings already.
        console.expect("viaduct| busy-2: domain 4", seconds(60));
        for line in [
            "set rogue weight 1",
            "set rogue budget 1500 5000",
            "set urgent budget 2500 10000",
            "create rogue",
            "create busy-1",
            "create busy-2",
            "create urgent",
        ] {
            assert_eq!(console.operate(line, seconds(60)), [""; 0], "{line}");
        }
    }
    console.expect(lines::ALL_STOPPED, seconds(300));
    let passed = console.lines_with("urgent| PASS deadlines");
    assert_eq!(passed.len(), 1, "{:#?}", console.lines_with("urgent| "));
    // The other real-time guest has 30 % and hardly more.
    let (ran, window) = share(&console, "rogue");
    let part = ran / window;
    assert!(
        (0.29..0.33).contains(&part),
        "{name}: the rogue had {part:.3}"
    );
    let parts = ["busy-1", "busy-2"].map(|name| share(&console, name).0 / window);
    assert!((parts[0] / parts[1] - 1.0).abs() < 0.1, "{name}: {parts:?}");
}

#[test]
fn deadlines_are_met_gicv2() {
    deadlines("deadlines-v2", Gic::V2, false);
}

#[test]
fn deadlines_are_met_that_were_typed_gicv3() {
    deadlines("deadlines-v3", Gic::V3, true);
}

/// What cannot be promised leaves out the guest that asks for it.
#[test]
fn promises_are_checked() {
    let promise =
        |budget: u32| format!("viaduct,period-us = <10000>; viaduct,budget-us = <{budget}>;");
    let guest = |name: &str, budget| Guest::hello(name).extra(&promise(budget));
    let bundle = Bundle::new("promises")
        .guest(guest("first", 6000).boot_arguments("count=1 period=1ms"))
        .guest(guest("second", 4000));
    let mut console = Machine::virt(Gic::V3)
        .cpus(1)
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start("promises");
    console.expect(
        "error: /chosen/second: viaduct,budget-us: found 4000 of 10000 us for vCPU 0, \
         expected at most 3000 us",
        seconds(30),
    );
    console.expect(lines::ALL_STOPPED, seconds(30));
}
