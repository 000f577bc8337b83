//! How vCPUs are scheduled, changed while they run: the shell's `set`.

use std::time::Duration;

use viaduct_tests::{Bundle, Console, Gic, Guest, Machine, seconds};

fn soon() -> Duration {
    seconds(60)
}

/// What the guests had of the CPUs in a second, in per cent, by `top`.
fn top(console: &mut Console, guests: [&str; 2]) -> [f64; 2] {
    let lines = console.operate("top 1", soon());
    guests.map(|guest| {
        let line = lines
            .iter()
            .find(|line| line.split_whitespace().next() == Some(guest));
        let share = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
        share.unwrap_or_else(|| panic!("{guest}: {lines:?}"))
    })
}

/// Looks at seconds of a machine that has not a core for itself, until one is as it should be: how exact shares are others
/// measure (`scheduler`).
fn near(name: &str, console: &mut Console, guests: [&str; 2], expected: [f64; 2]) {
    let mut all = Vec::new();
    for _ in 0..10 {
        let found = top(console, guests);
        let mut pairs = found.iter().zip(expected);
        if pairs.all(|(found, expected)| (found - expected).abs() < 8.0) {
            return;
        }
        all.push(found);
    }
    panic!("{name}: {all:?}, expected {expected:?}");
}

/// Two that compute, on one CPU: what is set is what they have from then on.
fn shares(name: &str, gic: Gic) {
    let busy = |name| Guest::probe(name, "test=share seconds=1000");
    let bundle = Bundle::new(name).guest(busy("one")).guest(busy("two"));
    let mut console = Machine::virt(gic)
        .cpus(1)
        .bundle(bundle.write())
        .argument("conswitch=ax")
        .start(name);
    console.expect_each(&["one| probe: share", "two| probe: share"], soon());
    let both = ["one", "two"];
    near("equal", &mut console, both, [50.0, 50.0]);
    let quiet = |console: &mut Console, line| {
        assert_eq!(console.operate(line, soon()), [""; 0], "{line}");
    };
    quiet(&mut console, "set one weight 768");
    near("weights", &mut console, both, [75.0, 25.0]);
    quiet(&mut console, "set two weight 1");
    near("the least", &mut console, both, [100.0, 0.0]);
    // What a budget is good for is measured in `scheduler`.
    quiet(&mut console, "set two budget 5000 10000");
    let told = console.operate("set two", soon());
    assert_eq!(
        told,
        [
            "VCPU WEIGHT AFFINITY BUDGET",
            "   0      1 all      5000 of 10000 us"
        ]
    );
    for (line, answer) in [
        ("set one budget 7500 10000", "CPU 0 has only 40.0 % left"),
        ("set one weight 0", "weight 0: expected 1 to 65535"),
        ("set one weight 65536", "weight 65536: expected 1 to 65535"),
        (
            "set one budget 100 499",
            "period 499: expected 500 to 1000000 us",
        ),
        (
            "set one budget 49 500",
            "budget 49: expected 50 to 500 us, the period",
        ),
        ("set one affinity 0-1", "CPU 1: expected CPUs of 0"),
        ("set one weight 1 1", "vCPU 1: expected 0 to 0"),
    ] {
        assert_eq!(console.operate(line, soon()), [answer], "{line}");
    }
    // What was promised is free again.
    quiet(&mut console, "set two budget none");
    quiet(&mut console, "set two weight 768");
    near("as before", &mut console, both, [50.0, 50.0]);
    quiet(&mut console, "set one budget 9000 10000");
    console.send("poweroff\r");
    assert_eq!(console.expect_exit(soon()), 0);
}

#[test]
fn shares_change_at_once_gicv3() {
    shares("set-shares-v3", Gic::V3);
}

#[test]
fn shares_change_at_once_gicv2() {
    shares("set-shares-v2", Gic::V2);
}

/// Waits until a guest's vCPU is where it was sent.
fn is_on(console: &mut Console, guest: &str, cpu: &str) {
    for _ in 0..300 {
        let lines = console.operate(&format!("vcpus {guest}"), soon());
        let words: Vec<&str> = lines
            .last()
            .map_or(vec![], |line| line.split_whitespace().collect());
        if words.get(3) == Some(&cpu) {
            assert_eq!(words.get(4), Some(&cpu), "{lines:?}");
            return;
        }
        console.run_for(Duration::from_millis(100));
    }
    console.fail(&format!("{guest} does not go to CPU {cpu}"));
}

/// One that computes and one that sleeps go where they are sent, though nobody else wants their CPU.
fn moves(name: &str, machine: Machine) {
    let bundle = Bundle::new(name)
        .guest(Guest::probe("busy", "test=share seconds=1000"))
        .guest(Guest::hello("hello").boot_arguments("period=200ms"));
    let mut console = machine
        .bundle(bundle.write())
        .argument("conswitch=ax")
        .start(name);
    console.expect("hello| hello: heartbeat 1 ", soon());
    for (busy, hello) in [("0", "1"), ("1", "0"), ("0", "0"), ("1", "1"), ("0", "1")] {
        for (guest, cpu) in [("busy", busy), ("hello", hello)] {
            let line = format!("set {guest} affinity {cpu}");
            assert_eq!(console.operate(&line, soon()), [""; 0], "{line}");
            is_on(&mut console, guest, cpu);
        }
        console.expect("hello| hello: heartbeat", soon());
    }
    console.send("poweroff\r");
    assert_eq!(console.expect_exit(soon()), 0);
}

#[test]
fn guests_go_where_they_are_sent_gicv3() {
    moves("set-moves-v3", Machine::virt(Gic::V3).cpus(2));
}

#[test]
fn guests_go_where_they_are_sent_gicv2() {
    moves("set-moves-v2", Machine::virt(Gic::V2).cpus(2));
}

#[test]
fn guests_go_where_they_are_sent_pi4() {
    moves("set-moves-pi4", Machine::pi4());
}
