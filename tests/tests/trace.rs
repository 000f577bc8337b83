//! The binary trace: what guests do is in it, whole and in order, and nothing else is on the UART that it has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use viaduct_tests::{Bundle, Gic, Guest, Image, Machine, lines, scratch, seconds, target};
use viaduct_trace_reader::{Event, Reason, State, Summary, Table, Trace, Who, timeline};

fn formats(elf: &str) -> Table {
    let _ = Image::Release.path();
    let elf = std::fs::read(target().join(elf)).expect("the image's ELF file");
    Table::parse(&elf).expect("formats").expect("formats")
}

/// Two heartbeats and a guest that tries events and grants: to their end.
fn run(name: &str, machine: Machine) {
    let bundle = Bundle::new(name)
        .guest(Guest::hello("hello-1").boot_arguments("count=5 period=20ms"))
        .guest(Guest::hello("hello-2").boot_arguments("count=5 period=20ms"))
        .guest(Guest::probe("probe", "test=count loops=10"))
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("probe| DONE", seconds(300));
    console.expect(lines::ALL_STOPPED, seconds(300));
    console.expect_exit(seconds(60));
}

fn read(path: &Path) -> Trace {
    let bytes = std::fs::read(path).expect("what the second UART sent");
    Trace::read(&bytes, &formats("viaduct.elf"))
}

fn tells_what_happened(name: &str, machine: Machine) {
    let path = scratch().join(format!("{name}.trace"));
    run(name, machine.traced(&path));
    let trace = read(&path);
    let text = trace.to_string();
    let tail = || text.lines().rev().take(40).collect::<Vec<_>>().join("\n");

    assert_eq!(trace.damaged, 0, "{}", tail());
    let names: Vec<&str> = trace.names.values().map(String::as_str).collect();
    assert_eq!(names, ["hello-1", "hello-2", "probe"]);
    // Some seconds at the most, and CPUs go forward.
    let length = trace.length();
    assert!(
        (100_000_000..600_000_000_000).contains(&length),
        "{length} ns"
    );
    let unknown = trace
        .records
        .iter()
        .find(|record| record.event == Event::Unknown);
    assert_eq!(unknown, None);

    let events: Vec<Event> = trace.records.iter().map(|record| record.event).collect();
    for domain in 1..=3 {
        let who = Who { domain, vcpu: 0 };
        let of =
            |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
        if trace.all_lost() == 0 {
            let hypercalls = of(
                &|event| matches!(event, Event::Exit(left, Reason::Hypercall(_)) if *left == who),
            );
            assert!(hypercalls > 0, "{who}: hypercalls: {}", tail());
            assert!(of(&|event| *event == Event::Enter(who)) > 0, "{who} enters");
            assert!(
                of(&|event| matches!(event, Event::Inject(to, _) if *to == who)) > 0,
                "{who}: injections"
            );
            assert!(
                of(&|event| matches!(event, Event::Switch(_, to) if *to == who)) > 0,
                "{who}: switches"
            );
            assert!(
                of(&|event| *event == Event::State(who, State::Running)) > 0,
                "{who} runs"
            );
            assert!(
                of(&|event| *event == Event::Life(domain)) >= 2,
                "{who}: ends"
            );
        }
    }
    if trace.all_lost() == 0 {
        let kinds: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(3))
            .collect();
        for kind in [
            "send",
            "map",
            "unmap",
            "interrupt",
            "returned",
            "ending",
            "ended",
        ] {
            assert!(kinds.contains(kind), "{kind}: {kinds:?}");
        }
        // Every exit has its entry: of one CPU, no two exits without one between.
        let cpus: BTreeSet<u8> = trace.records.iter().map(|record| record.cpu).collect();
        for cpu in cpus {
            let mut inside = None;
            for record in trace.records.iter().filter(|record| record.cpu == cpu) {
                match record.event {
                    Event::Exit(who, _) => {
                        assert!(inside.is_none() || inside == Some(who), "{record:?}");
                        inside = None;
                    }
                    Event::Enter(who) => inside = Some(who),
                    _ => {}
                }
            }
        }
    }
    let summary = Summary::of(&trace).to_string();
    assert!(
        summary.contains("hello-1 v0") && summary.contains("CPU 0:"),
        "{summary}"
    );
    assert!(timeline::json(&trace).contains("\"name\":\"hello-2 v0\""));
}

#[test]
fn gicv3() {
    tells_what_happened("trace-v3", Machine::virt(Gic::V3).cpus(2));
}

#[test]
fn gicv2() {
    tells_what_happened("trace-v2", Machine::virt(Gic::V2).cpus(1));
}

#[test]
fn raspberry_pi() {
    tells_what_happened("trace-pi4", Machine::pi4());
}

/// More than the UART takes: what is lost is counted, what is there is whole.
#[test]
fn what_is_lost_is_counted() {
    let path = scratch().join("trace-lost.trace");
    let bundle = Bundle::new("trace-lost")
        .guest(Guest::probe("probe", "test=count loops=2000"))
        .guest(Guest::probe("other", "test=count loops=2000"))
        .write();
    let machine = Machine::virt(Gic::V3).cpus(2).bundle(bundle);
    let mut console = machine
        .traced(&path)
        .argument(lines::POWER_OFF)
        .start("trace-lost");
    console.expect(lines::ALL_STOPPED, seconds(300));
    console.expect_exit(seconds(60));
    let trace = read(&path);
    assert_eq!(trace.damaged, 0);
    assert!(trace.all_lost() > 0, "{}", Summary::of(&trace));
    assert!(trace.records.len() > 1000, "{}", Summary::of(&trace));
}

#[test]
fn nothing_is_sent_while_it_is_off() {
    let path = scratch().join("trace-off.trace");
    run("trace-off", Machine::virt(Gic::V3).second_uart(&path));
    let sent = std::fs::metadata(&path)
        .expect("the second UART's file")
        .len();
    assert_eq!(sent, 0);
}

/// The last records are in the report of a failure, as text.
#[test]
fn a_failure_tells_the_last_records() {
    let bundle = Bundle::new("trace-failure")
        .guest(Guest::hello("hello"))
        .write();
    let log: PathBuf = scratch().join("trace-failure.log");
    let machine = Machine::virt(Gic::V3)
        .image(Image::Faults)
        .bundle(bundle)
        .argument("trace=on")
        .argument("fault=late")
        .argument(lines::EXIT_ON_FAILURE);
    let mut console = machine.start("trace-failure");
    console.failure_is_expected();
    assert_eq!(console.expect_exit(seconds(60)), lines::FAILURE_CODE);
    drop(console);
    let bytes = std::fs::read(log).expect("the console's log");
    let trace = Trace::read(&bytes, &formats("viaduct-faults.elf"));
    assert_eq!(trace.damaged, 0);
    assert!(
        !trace.records.is_empty(),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    assert_eq!(trace.names.get(&1).map(String::as_str), Some("hello"));
}

/// The operator switches it on, and reads the last records on a board that has no second UART.
fn by_the_shell(name: &str, machine: Machine) {
    let bundle = Bundle::new(name)
        .guest(Guest::hello("hello-1").boot_arguments("period=100ms"))
        .guest(Guest::hello("hello-2").boot_arguments("period=100ms"))
        .write();
    let mut console = machine.bundle(bundle).argument("conswitch=ax").start(name);
    console.expect("hello-2| hello: heartbeat 1 ", seconds(60));
    let mut ask = |command: &str| console.operate(command, seconds(60));
    assert_eq!(ask("trace"), ["trace     off; 0 records made"]);
    assert_eq!(
        ask("trace tail"),
        ["there are no records (trace on makes some)"]
    );
    assert_eq!(ask("trace on"), [""; 0]);
    // It takes some time, in which the guests beat.
    assert_eq!(ask("top 1").last().map(|line| &line[..7]), Some("hello-2"));
    assert_eq!(ask("trace off"), [""; 0]);
    // Other CPUs are told by an interrupt; a busy machine lets that take its time.
    let _ = ask("top 1");
    let status = ask("trace");
    let made = status[0].strip_prefix("trace     off; ");
    let made = made.and_then(|rest| rest.strip_suffix(" records made"));
    let made: u64 = made.and_then(|made| made.parse().ok()).unwrap();
    assert!(made > 20, "{status:?}");
    assert_eq!(status[1], "UART      none: they can be read here alone");
    // Off is off.
    assert_eq!(ask("trace"), status);
    let lines = ask("trace tail 500");
    assert_eq!(ask("trace tail 500"), lines);
    assert!(ask("trace tail 3").len() < 3 + 3 * 4);

    let text = lines.join("\n");
    let trace = Trace::read(text.as_bytes(), &formats("viaduct.elf"));
    assert_eq!((trace.damaged, trace.all_lost()), (0, 0), "{text}");
    let names: Vec<&str> = trace.names.values().map(String::as_str).collect();
    assert_eq!(names, ["hello-1", "hello-2"]);
    assert_eq!(trace.records.len() + 3, lines.len(), "{text}");
    for domain in 1..=2 {
        let enters = Event::Enter(Who { domain, vcpu: 0 });
        let found = trace.records.iter().any(|record| record.event == enters);
        assert!(found, "d{domain}v0 enters: {trace}");
    }
}

#[test]
fn the_shell_shows_it_gicv2() {
    by_the_shell("trace-shell-v2", Machine::virt(Gic::V2).cpus(2));
}

#[test]
fn the_shell_shows_it_gicv3() {
    by_the_shell("trace-shell-v3", Machine::virt(Gic::V3).cpus(1));
}

#[test]
fn the_shell_shows_it_raspberry_pi() {
    by_the_shell("trace-shell-pi4", Machine::pi4());
}

/// Where there is a second UART, it begins to send when the operator says so, what came before is not lost, and
/// nothing is sent any more once it is off.
#[test]
fn the_shell_starts_sending() {
    let (name, path) = ("trace-shell-uart", scratch().join("trace-shell-uart.trace"));
    let bundle = Bundle::new(name)
        .guest(Guest::hello("hello-1").boot_arguments("period=100ms"))
        .write();
    let mut console = Machine::virt(Gic::V3)
        .cpus(2)
        .bundle(bundle)
        .second_uart(&path)
        .argument("conswitch=ax")
        .start(name);
    console.expect("hello-1| hello: heartbeat 1 ", seconds(60));
    let mut ask = |command: &str| console.operate(command, seconds(60));
    let size = || std::fs::metadata(&path).expect("the UART's file").len();
    assert_eq!(size(), 0);
    ask("trace on");
    ask("top 1");
    let status = ask("trace");
    assert!(status[0].starts_with("trace     on; "), "{status:?}");
    assert_eq!(status[1], "UART      0 overwritten before they were sent");
    ask("trace off");
    ask("top 1");
    // What was recorded by then may still be on its way.
    let mut sent = 0;
    for _ in 0..20 {
        if size() == sent {
            break;
        }
        sent = size();
        ask("top 1");
    }
    assert!(sent > 1000, "{sent}");
    assert_eq!(size(), sent);
    let trace = read(&path);
    assert_eq!((trace.damaged, trace.all_lost()), (0, 0));
    let made = ask("trace")[0].clone();
    let all = format!("trace     off; {} records made", trace.records.len());
    assert_eq!(made, all);
}
