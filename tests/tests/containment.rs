//! Guests that misbehave end alone: with a reason, and with the others' heartbeats going on.

use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

/// How a guest that misbehaves ends.
enum End {
    /// For this reason.
    Reason(&'static str),
    /// Not at all.
    Never,
}

/// Runs the probe's hostile test `subject` beside a heartbeat on each machine.
fn contained(subject: &str, end: &End) {
    for (name, machine) in [
        (format!("contain-{subject}-v2"), Machine::virt(Gic::V2)),
        (
            format!("contain-{subject}-v3"),
            Machine::virt(Gic::V3).cpus(1),
        ),
        (format!("contain-{subject}-pi4"), Machine::pi4()),
    ] {
        let bundle = Bundle::new(&name)
            .guest(Guest::hello("good").boot_arguments("period=100ms"))
            .guest(Guest::probe("bad", &format!("test={subject}")).cpus(2))
            .write();
        let mut console = machine.bundle(bundle).start(&name);
        console.expect(&format!("bad| BEGIN {subject}"), seconds(30));
        if let End::Reason(reason) = end {
            console.expect(&lines::stopped("bad", reason), seconds(30));
            // Where it was, what its EL1 noted last, and what it did.
            let told = console.lines_with("last exception: ESR_EL1").len();
            let exits = console.lines_with(" exits").len();
            let wanted = usize::from(*reason == "crash");
            assert!(told >= wanted && exits >= wanted, "{name}: no report");
        }
        let beat = console.expect_that("a heartbeat", seconds(20), |line| {
            line.starts_with("good| hello: heartbeat") && line.ends_with(" ms")
        });
        let number = |line: &str| {
            let word = line
                .split_whitespace()
                .skip_while(|word| *word != "heartbeat")
                .nth(1);
            word.and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
        };
        // Ten beats more, each in its turn.
        let first = number(&beat);
        for next in first + 1..=first + 10 {
            console.expect(&format!("good| hello: heartbeat {next} "), seconds(20));
        }
        console.expect_never(&["bad| FAIL"]);
    }
}

#[test]
fn a_fault_in_its_fault_handler() {
    contained("fault", &End::Never);
}

#[test]
fn a_jump_to_nowhere() {
    contained("fault-jump", &End::Never);
}

#[test]
fn a_spin_with_interrupts_masked() {
    contained("spin", &End::Never);
}

#[test]
fn a_spin_on_every_cpu() {
    contained("spin-all", &End::Never);
}

#[test]
fn a_crash() {
    contained("crash", &End::Reason("crash"));
}

#[test]
fn a_panic() {
    contained("panic", &End::Reason("crash"));
}

#[test]
fn a_reboot() {
    contained("reboot", &End::Reason("reboot"));
}

#[test]
fn a_poweroff() {
    contained("poweroff", &End::Reason("poweroff"));
}

#[test]
fn an_end_while_cpus_go_on_and_off() {
    contained("power-race", &End::Reason("poweroff"));
}

/// Many such ends, of guests with more vCPUs than there are CPUs.
#[test]
fn many_ends_while_cpus_go_on_and_off() {
    for (name, machine) in [
        ("races-1", Machine::virt(Gic::V2).cpus(1)),
        ("races-2", Machine::virt(Gic::V3).cpus(2)),
        ("races-pi4", Machine::pi4()),
    ] {
        let mut bundle = Bundle::new(name);
        for number in 0..6 {
            bundle =
                bundle.guest(Guest::probe(&format!("race{number}"), "test=power-race").cpus(4));
        }
        let mut console = machine
            .bundle(bundle.write())
            .argument(lines::POWER_OFF)
            .start(name);
        console.expect("all guests have stopped:", seconds(120));
        for number in 0..6 {
            console.expect(&format!("race{number}: poweroff"), seconds(20));
        }
    }
}

#[test]
fn a_flood_of_lines() {
    contained("flood", &End::Never);
}

/// Random hypercalls and accesses, from a seed.
fn wild(name: &str, machine: Machine, seed: u64, count: u64) {
    let line = format!("test=wild seed={seed} rounds={count}");
    let bundle = Bundle::new(name)
        .guest(Guest::hello("good").boot_arguments("period=100ms"))
        .guest(Guest::probe("bad", &line))
        .write();
    let mut console = machine.bundle(bundle).start(name);
    console.expect("bad| BEGIN wild", seconds(30));
    let over = [
        "bad| PASS wild".to_owned(),
        "viaduct| bad: stopped".to_owned(),
    ];
    console.expect_that("the end of the storm", seconds(600), |line| {
        over.iter().any(|end| line.contains(end))
    });
    console.expect("good| hello: heartbeat", seconds(20));
    console.expect_never(&["bad| FAIL", "good| guest panic", "viaduct| good: stopped"]);
}

#[test]
fn a_short_storm() {
    wild("wild-v2", Machine::virt(Gic::V2), 1, 20_000);
    wild("wild-v3", Machine::virt(Gic::V3), 2, 20_000);
}

#[test]
#[ignore = "long"]
fn a_long_storm() {
    for seed in 10..15 {
        wild(
            &format!("wild-long-v2-{seed}"),
            Machine::virt(Gic::V2),
            seed,
            1_000_000,
        );
        wild(
            &format!("wild-long-v3-{seed}"),
            Machine::virt(Gic::V3),
            seed,
            1_000_000,
        );
    }
}

/// Two guests that do all they can to and with each other, on every CPU, beside a heartbeat that goes on. It ends after so
/// many `beats`, and then every frame is free; for ever if that is 0.
fn collude(name: &str, machine: Machine, seed: u64, rounds: u64, beats: u32) {
    let guest = |name: &str, peer: u32| {
        let line = format!("test=collude peer={peer} seed={seed} rounds={rounds}");
        Guest::probe(name, &line).cpus(2).enhanced(Some("enabled"))
    };
    let mut heartbeat = String::from("period=100ms");
    if beats != 0 {
        heartbeat.push_str(&format!(" count={beats}"));
    }
    let bundle = Bundle::new(name)
        .guest(guest("one", 2).extra("viaduct,peers = \"two\";"))
        .guest(guest("two", 1))
        .guest(Guest::hello("good").boot_arguments(&heartbeat))
        .write();
    let mut console = machine
        .cpus(2)
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect_each(
        &[
            &lines::stopped("one", "poweroff"),
            &lines::stopped("two", "poweroff"),
        ],
        seconds(60 + rounds / 50),
    );
    for guest in ["one", "two"] {
        let passed = console.lines_with(&format!("{guest}| PASS collude"));
        assert_eq!(passed.len(), 1, "{name}: {guest}");
    }
    if beats == 0 {
        console.expect("good| hello: heartbeat", seconds(20));
        console.expect_never(&["good| guest panic", "viaduct| good: stopped"]);
        return;
    }
    console.expect(&format!("good| hello: heartbeat {beats} "), seconds(60));
    let line = console.expect(lines::MEMORY_FREE, seconds(20));
    assert!(lines::all_is_free(&line), "{name}: {line}");
    let beats_seen = console.lines_with("good| hello: heartbeat").len();
    assert_eq!(beats_seen, beats as usize, "{name}");
}

#[test]
fn two_that_collude() {
    collude("collude-v2", Machine::virt(Gic::V2), 1, 5_000, 100);
    collude("collude-v3", Machine::virt(Gic::V3), 2, 5_000, 100);
}

/// Ten million turns.
#[test]
#[ignore = "long"]
fn two_that_collude_for_long() {
    for seed in 10..15 {
        for (suffix, machine) in [
            ("v2", Machine::virt(Gic::V2)),
            ("v3", Machine::virt(Gic::V3)),
        ] {
            let name = format!("collude-long-{suffix}-{seed}");
            collude(&name, machine, seed, 250_000, 0);
        }
    }
}
