//! Guests that fail are told of: with all registers, the faulting address, the last exits and the reason; in the
//! hypervisor's lines, and in `info` afterwards. Each in its own way, all at once, beside one that goes on.

use viaduct_tests::{Bundle, Console, Gic, Guest, Machine, lines, seconds};

/// The switch key, three times, to the shell and to no guest.
const SHELL_FIRST: &str = "conswitch=ax";

/// What the report of a guest has to have beside the registers.
fn reported(console: &Console, guest: &str, wanted: &[&str]) {
    let told: Vec<String> = console
        .lines_with(&format!("error: {guest}: vCPU "))
        .into_iter()
        .collect();
    let has = |text: &str| told.iter().any(|line| line.contains(text));
    for number in 0..31 {
        let register = format!("x{number:<2} 0x");
        assert!(has(&register), "{guest}: no {register}in {told:#?}");
    }
    for text in [
        "PC 0x",
        "PSTATE 0x",
        ", SP 0x",
        "last exception: ESR_EL1 0x",
        "TTBR0_EL1 0x",
        " exits",
    ]
    .iter()
    .chain(wanted)
    {
        assert!(has(text), "{guest}: no {text:?} in {told:#?}");
    }
}

/// The heartbeat goes on.
fn beats_on(console: &mut Console) {
    for _ in 0..3 {
        console.expect("good| hello: heartbeat", seconds(60));
    }
}

fn all_kinds(name: &str, machine: Machine) {
    let bad = |name: &str, cpus: u32| Guest::probe(name, &format!("test={name}")).cpus(cpus);
    let bundle = Bundle::new(name)
        .guest(Guest::hello("good").boot_arguments("period=100ms"))
        .guest(bad("vectors", 1))
        .guest(bad("watchdog", 1))
        .guest(bad("power", 2))
        // Each map invalidates TLBs everywhere, for which the emulator stops all its CPUs: not 262,144 of them.
        .guest(bad("exhaust", 1).extra("max_maptrack_frames = <4>;"))
        .guest(bad("calls", 1))
        .guest(bad("deaf", 1).enhanced(Some("")))
        .guest(bad("spin", 1))
        .write();
    let machine = machine.bundle(bundle).argument(SHELL_FIRST);
    let mut console = machine.start(name);
    console.expect_each(
        &[
            lines::stopped("vectors", "crash"),
            lines::stopped("watchdog", "watchdog"),
            lines::stopped("power", "crash"),
            lines::stopped("exhaust", "crash"),
        ],
        seconds(300),
    );
    reported(
        &console,
        "vectors",
        &[
            "crashed: its exception vectors are not in memory",
            "left by instruction fetch (Translation(",
            "FAR_EL2 0xdead000, HPFAR_EL2 0xdead0, IPA 0xdead000",
            "before, at 0xdead000: instruction fetch",
        ],
    );
    reported(
        &console,
        "watchdog",
        &[
            "its watchdog ran out; PC 0x",
            "ended from outside",
            // It set it: SCHEDOP_watchdog is 6, of hypercall 29.
            ": hypercall 29, argument 0x6",
        ],
    );
    reported(
        &console,
        "power",
        &["crashed: it says so", ": hypercall 29, argument 0x2"],
    );
    reported(
        &console,
        "exhaust",
        &["crashed: it says so", ": hypercall 20, argument 0x0"],
    );
    assert_eq!(console.lines_with("exhaust| NOTE exhaust ").len(), 1);
    beats_on(&mut console);

    // Those that go on are ended by the operator, who then sees where they were.
    console.operate("shutdown deaf 1", seconds(60));
    let late = lines::stopped("deaf", "did not shut down in time");
    console.expect_ever(&late, seconds(60));
    reported(
        &console,
        "deaf",
        &["it was asked to shut down, and did not; PC 0x"],
    );
    for (guest, last_exit) in [("calls", ": hypercall 17, argument 0x6"), ("spin", "")] {
        console.operate(&format!("destroy {guest}"), seconds(60));
        console.expect_ever(&lines::stopped(guest, "destroyed"), seconds(60));
        let info = console
            .operate(&format!("info {guest}"), seconds(60))
            .join("\n");
        for wanted in [
            "failure   vCPU 0: ended by the operator; PC 0x",
            "x29 0x",
            last_exit,
        ] {
            assert!(info.contains(wanted), "{name}: {guest}: {info}");
        }
    }
    beats_on(&mut console);
    console.expect_never(&["| FAIL", "good| guest panic"]);
}

#[test]
fn all_kinds_gicv2() {
    all_kinds("reports-v2", Machine::virt(Gic::V2).cpus(2));
}

#[test]
fn all_kinds_gicv3() {
    all_kinds("reports-v3", Machine::virt(Gic::V3).cpus(2));
}

#[test]
fn all_kinds_raspi4b() {
    all_kinds("reports-pi4", Machine::pi4());
}

/// A guest that lives again does not wait for its report, which comes all the same; the fourth in a row is short.
#[test]
fn a_restart_does_not_wait_for_the_report() {
    let name = "reports-again";
    let bundle = Bundle::new(name)
        .guest(Guest::probe("falls", "test=crash").cpus(2).extra(
            "viaduct,restart = \"always\"; viaduct,restart-limit = <4>; viaduct,restart-backoff-ms = <50>;",
        ))
        .write();
    let machine = Machine::virt(Gic::V3)
        .bundle(bundle)
        .argument(lines::POWER_OFF);
    let mut console = machine.start(name);
    console.expect(&lines::stopped("falls", "crash"), seconds(60));
    reported(&console, "falls", &["it says so", "left by HVC 0xea1"]);
    let count = |text: &str| console.lines_with(text).len();
    assert_eq!(count("crashed: it says so"), 5);
    assert_eq!(count("x0  0x"), 3, "{:#?}", console.lines());
}
