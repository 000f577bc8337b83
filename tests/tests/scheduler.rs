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

/// What is promised: over ten seconds each one's share of what all had is what its weight says, within so much.
const WITHIN: f64 = 0.02;
/// What the guests have together: what is missing is the hypervisor's, on an emulator whose processor others use as well.
const AT_LEAST: f64 = 0.95 * 2.0;

/// Guests that compute, with these weights, on the first two CPUs.
fn shares(name: &str, machine: Machine, weights: &[u32]) {
    let pinned = "vcpu0 { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"0-1\"; };";
    let mut bundle = Bundle::new(name);
    for (number, weight) in weights.iter().enumerate() {
        let guest = Guest::probe(&format!("busy-{number}"), "test=share seconds=10");
        bundle = bundle.guest(guest.extra(&format!("viaduct,weight = <{weight}>; {pinned}")));
    }
    let mut console = machine
        .alone()
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect(lines::ALL_STOPPED, seconds(300));
    let had: Vec<f64> = (0..weights.len())
        .map(|number| share(&console, &format!("busy-{number}")))
        .map(|(ran, window)| ran / window)
        .collect();
    let (together, all) = (had.iter().sum::<f64>(), weights.iter().sum::<u32>());
    println!("{name}: {had:.4?} of a CPU, {together:.4} together");
    assert!(together >= AT_LEAST, "{name}: {had:?}");
    for (had, &weight) in had.iter().zip(weights) {
        let (found, expected) = (had / together, f64::from(weight) / f64::from(all));
        assert!(
            (found / expected - 1.0).abs() <= WITHIN,
            "{name}: {found:.4} of all, expected {expected:.4}"
        );
    }
}

/// The last of them is to have nearly one CPU, which is the most that a vCPU can have.
const WEIGHTS: [u32; 5] = [256, 256, 512, 512, 1024];

#[test]
fn five_guests_share_two_cpus() {
    shares("five-v3", Machine::virt(Gic::V3).cpus(2), &[256; 5]);
}

#[test]
fn weights_are_honoured() {
    shares("weights-v2", Machine::virt(Gic::V2).cpus(2), &WEIGHTS);
}

#[test]
fn weights_are_honoured_on_raspi4b() {
    shares("weights-pi4", Machine::pi4(), &WEIGHTS);
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
        seconds(60),
    );
    console.expect(lines::ALL_STOPPED, seconds(300));
}

/// Two guests that compute, and how often the hypervisor's own timer went off on each CPU.
fn alarms(name: &str, machine: Machine, guests: u32) -> (Console, Vec<u64>) {
    let mut bundle = Bundle::new(name);
    for number in 0..guests {
        let guest = Guest::probe(
            &format!("busy-{number}"),
            "test=share seconds=1 begin=500ms",
        );
        bundle = bundle.guest(guest);
    }
    let mut console = machine
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .argument("loglvl=debug")
        .start(name);
    console.expect(lines::ALL_STOPPED, seconds(300));
    console.expect(lines::MEMORY_FREE, seconds(300));
    let told = console.lines_with("its timer went off ");
    let count = |line: &String| {
        let number = line.split("went off ").nth(1)?.split(' ').next()?;
        number.parse().ok()
    };
    let counts: Vec<u64> = told.iter().filter_map(count).collect();
    assert_eq!(counts.len(), 2, "{told:?}");
    (console, counts)
}

/// With `sched=null` a vCPU has a CPU for itself, and the hypervisor needs no timer; who finds none left is told.
#[test]
fn one_vcpu_a_cpu_needs_no_timer() {
    let machine = || Machine::virt(Gic::V3).cpus(2);
    let (console, counts) = alarms("null-v3", machine().argument("sched=null"), 3);
    assert_eq!(counts, [0, 0]);
    let refused = "error: /chosen/busy-2: cpus: found vCPU 0, and every CPU that it may run on has one, expected no more \
                   vCPUs than CPUs, with sched=null; guest left out";
    assert_eq!(
        console.lines_with(refused).len(),
        1,
        "{:#?}",
        console.lines_with("busy-2")
    );
    for number in 0..2 {
        let (ran, window) = share(&console, &format!("busy-{number}"));
        assert!(ran / window > 0.99, "{ran} of {window}");
    }
    // Who holds a machine and asks for another may wait for ever for one who wants all.
    drop(console);
    // The same three where they share: each end of a slice is one.
    let (_, counts) = alarms("null-not-v3", machine(), 3);
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}
