//! Guests that misbehave end alone: with a reason, and with the others' heartbeats going on.

use viaduct_tests::{Bundle, Console, Gic, Guest, Machine, lines, seconds};

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
        console.expect(&format!("bad| BEGIN {subject}"), seconds(60));
        if let End::Reason(reason) = end {
            console.expect(&lines::stopped("bad", reason), seconds(60));
            // Where it was, what its EL1 noted last, and what it did.
            let told = console.lines_with("last exception: ESR_EL1").len();
            let exits = console.lines_with(" exits").len();
            let wanted = usize::from(*reason == "crash");
            assert!(told >= wanted && exits >= wanted, "{name}: no report");
        }
        let beat = console.expect_that("a heartbeat", seconds(60), |line| {
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
            console.expect(&format!("good| hello: heartbeat {next} "), seconds(60));
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
        console.expect("all guests have stopped:", seconds(300));
        for number in 0..6 {
            console.expect(&format!("race{number}: poweroff"), seconds(60));
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
    console.expect("bad| BEGIN wild", seconds(60));
    let over = [
        "bad| PASS wild".to_owned(),
        "viaduct| bad: stopped".to_owned(),
    ];
    console.expect_that("the end of the storm", seconds(600), |line| {
        over.iter().any(|end| line.contains(end))
    });
    console.expect("good| hello: heartbeat", seconds(60));
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

/// Two guests of two vCPUs that do all they can to and with each other, until they have made so many hypercalls together.
/// A third goes on meanwhile, and its memory stays what it is; the
/// lines about the two are few; and in the end every frame is free.
fn collude(name: &str, machine: Machine, seed: u64, calls: u64) {
    let guest = |name: &str, peer: u32| {
        let line = format!("test=collude peer={peer} seed={seed} calls={}", calls / 2);
        Guest::probe(name, &line).cpus(2).enhanced(Some("enabled"))
    };
    let bundle = Bundle::new(name)
        .guest(guest("one", 2).extra("viaduct,peers = \"two\";"))
        .guest(guest("two", 1))
        .guest(Guest::probe("good", "test=witness").extra("viaduct,console-focus;"))
        .write();
    let mut console = machine
        .cpus(2)
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("good| READY witness", seconds(60));
    let started = console.age();
    // It goes on: a line a second, with more patience for a busy workstation, until both have stopped.
    // The reason may be any: the first one that a guest notes is told, and these note what they like.
    let both = ["one", "two"].map(|guest| format!("viaduct| {guest}: stopped ("));
    let end = started + seconds(300 + calls / 200);
    while both.iter().any(|line| console.lines_with(line).is_empty()) {
        console.expect("good| NOTE witness beat", seconds(60));
        if console.age() > end {
            console.fail("the time is over");
        }
    }
    let made: u64 = ["one", "two"]
        .iter()
        .map(|guest| {
            assert_eq!(
                console.lines_with(&format!("{guest}| PASS collude")).len(),
                1,
                "{name}: {guest}"
            );
            hypercalls(&console, guest)
        })
        .sum();
    let took = console.age() - started;
    console.send("\n");
    console.expect("good| PASS witness", seconds(60));
    let witness = console.lines_with("at most").concat();
    println!(
        "{name}: {made} hypercalls in {:.0} s; {witness}",
        took.as_secs_f64()
    );
    assert!(made >= calls, "{name}: {made} of {calls} hypercalls");
    for guest in ["one", "two"] {
        let told = console.lines_with(&format!("viaduct| {guest}: ")).len();
        assert!(told < 100, "{name}: {told} lines about {guest}");
    }
    let line = console.expect(lines::MEMORY_FREE, seconds(300));
    assert!(lines::all_is_free(&line), "{name}: {line}");
}

/// How many hypercalls a colluding guest says that it has made.
fn hypercalls(console: &Console, guest: &str) -> u64 {
    let start = format!("{guest}| NOTE collude made ");
    let all = console.lines_with(&start);
    let number = all
        .iter()
        .find_map(|line| line.strip_prefix(&start)?.split(' ').next()?.parse().ok());
    number.unwrap_or_else(|| console.fail(&format!("{guest} tells no number")))
}

#[test]
fn two_that_collude() {
    collude("collude-v2", Machine::virt(Gic::V2), 1, 60_000);
    collude("collude-v3", Machine::virt(Gic::V3), 2, 60_000);
}

/// Ten million hypercalls.
#[test]
#[ignore = "long"]
fn two_that_collude_for_long() {
    for seed in 10..15 {
        for (suffix, machine) in [
            ("v2", Machine::virt(Gic::V2)),
            ("v3", Machine::virt(Gic::V3)),
        ] {
            let name = format!("collude-long-{suffix}-{seed}");
            collude(&name, machine, seed, 1_000_000);
        }
    }
}
