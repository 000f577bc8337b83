//! Sessions with the shell, on a machine of this file's own.

mod small;

use small::{NAMES, Small};

use std::collections::BTreeMap;
use std::fmt::Write;

use arrayvec::ArrayString;
use proptest::prelude::*;

use crate::{
    Action, Bound, Details, FailureLine, Grant, Guest, GuestIndex, GuestState, Interrupt, LogLine,
    LogOf, Memory, Next, Output, Port, Power, Refused, Setting, Settings, Shell, StoreRequest,
    System, Trace, TraceLine, TracePlace, Vcpu, VcpuState, cut,
};

const SECOND: u64 = 1_000_000_000;

/// What is on the screen.
#[derive(Default)]
struct Screen {
    lines: Vec<String>,
    last: String,
    most_at_once: usize,
    since: usize,
}

impl Output for Screen {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let mut text = String::new();
        write!(text, "{line}").unwrap();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        self.lines.push(text);
        self.last.clear();
        self.since += 1;
        self.most_at_once = self.most_at_once.max(self.since);
    }

    fn edit(&mut self, line: &[u8]) {
        self.last = String::from_utf8(line.to_vec()).unwrap();
    }
}

struct Session {
    shell: Shell,
    system: Small,
    screen: Screen,
}

impl Session {
    fn new() -> Self {
        let mut session = Self {
            shell: Shell::new(2 + NAMES.len()).unwrap(),
            system: Small {
                now: 10 * SECOND,
                ..Small::default()
            },
            screen: Screen::default(),
        };
        session.run();
        session
    }

    /// Until a key is wanted; time passes while the shell waits.
    fn run(&mut self) {
        for _ in 0..100_000 {
            self.screen.since = 0;
            match self.shell.step(&mut self.system, &mut self.screen) {
                Next::Idle => return,
                Next::Now => {}
                Next::At(time) => self.system.now = time,
            }
        }
        panic!("it never rests");
    }

    /// Types, and what is written because of it.
    fn types(&mut self, keys: &str) -> Vec<String> {
        let before = self.screen.lines.len();
        for key in keys.bytes() {
            self.shell.key(key);
            self.run();
        }
        self.screen.lines[before..].to_vec()
    }

    fn command(&mut self, line: &str) -> Vec<String> {
        let mut lines = self.types(&format!("{line}\r"));
        assert_eq!(lines.remove(0), format!("viaduct> {line}"));
        lines
    }
}

#[test]
fn the_prompt_is_there_before_and_after() {
    let mut session = Session::new();
    assert_eq!(session.screen.last, "viaduct> ");
    session.types("li");
    assert_eq!(session.screen.last, "viaduct> li");
    assert_eq!(session.types("\x7f\x7f\x7f\r"), ["viaduct> "]);
    session.types("junk\x03");
    assert_eq!(session.screen.lines.last().unwrap(), "viaduct> junk^C");
    assert_eq!(session.screen.last, "viaduct> ");
}

#[test]
fn tables() {
    let mut session = Session::new();
    assert_eq!(
        session.command("list"),
        [
            " ID NAME                 STATE       VCPUS  CPU %    MEMORY RESTARTS LAST STOP",
            "  1 linux                running         2   25.0    16 MiB        1 -",
            "  2 hello-1              running         2   25.0    16 MiB        1 -",
            "  3 hello-2              stopped         2      -     0 KiB        1 crash",
        ]
    );
    assert_eq!(
        session.command("vcpus hello-1"),
        [
            "NAME         VCPU STATE   CPU AFFINITY      RAN   WAITED    EXITS  INTRS MOVES",
            "hello-1         0 blocked   1 1           1.5 s    0.1 s     1234     99     3",
            "hello-1         1 blocked   1 1           1.5 s    0.1 s     1234     99     3",
        ]
    );
    assert_eq!(session.command("vcpus").len(), 7);
    assert_eq!(
        session.command("irqs 1")[1..],
        ["   27    0 level      160 enabled, pending"]
    );
    assert_eq!(
        session.command("events linux")[1..],
        [
            "    1    0 yes     ?      console",
            "    2    0 no      ?      domain 2, port 7",
            "    9    0 no      ?      VIRQ 0",
        ]
    );
    assert_eq!(
        session.command("grants linux")[1..],
        ["    8    0x40123    2       0       1"]
    );
    assert_eq!(session.command("info linux").len(), 6);
    assert_eq!(
        session.command("info hello-2")[6..],
        ["failure   vCPU 1: it says so", "          vCPU 1: x0"]
    );
    assert_eq!(
        session.command("mem"),
        [
            "for guests       1024 MiB, 998 MiB free",
            "hypervisor        600 KiB image, 2 MiB heap, 300 KiB of that in use",
            "linux              16 MiB",
            "hello-1            16 MiB",
        ]
    );
    assert!(session.screen.lines.iter().all(|line| line.len() <= 80));
}

#[test]
fn top_measures_what_was_done_meanwhile() {
    let mut session = Session::new();
    let lines = session.command("top 2");
    let round = [
        "NAME              STATE        CPU %",
        "CPU 0             idle          50.0",
        "CPU 1             idle          50.0",
        "linux             running       25.0",
        "hello-1           running       25.0",
    ];
    assert_eq!(lines, [round, round].concat());
    assert_eq!(session.system.now, 12 * SECOND);
    // Without a number it goes on until a key.
    for key in b"top\r" {
        session.shell.key(*key);
    }
    for _ in 0..1000 {
        if let Next::At(time) = session.shell.step(&mut session.system, &mut session.screen) {
            session.system.now = time;
        }
    }
    session.shell.key(b'q');
    session.run();
    assert_eq!(session.screen.last, "viaduct> ");
}

#[test]
fn the_store_is_read_and_written() {
    let mut session = Session::new();
    assert!(session.command("store write /a/b two  words ").is_empty());
    assert!(session.command("store write /a/c").is_empty());
    assert_eq!(session.command("store read /a/b"), ["two  words"]);
    assert_eq!(
        session.command("store ls /a"),
        ["b = \"two  words\"", "c = \"\""]
    );
    assert_eq!(
        session.command("store read /x"),
        ["/x: there is no such node"]
    );
    assert!(session.command("store rm /a").is_empty());
    assert!(session.command("store ls /a").is_empty());
    // What a guest wrote does nothing to the terminal.
    let wild = "\x1b[2Jx".to_owned();
    session.system.store.insert("/w".to_owned(), wild);
    assert_eq!(session.command("store read /w"), ["\\x1b[2Jx"]);
}

#[test]
fn deeds() {
    let mut session = Session::new();
    assert!(session.command("console linux").is_empty());
    assert_eq!(session.command("console 3"), ["it does not run"]);
    session.command("reboot");
    assert_eq!(
        session.command("poweroff"),
        ["there is no way to switch this board off"]
    );
    assert_eq!(session.system.done, ["input to 0", "Reboot", "Off"]);
    assert_eq!(
        session.command("log hello-1"),
        [0, 1, 2].map(|number| format!("| Guest(1) line {number}"))
    );
    assert_eq!(session.command("log").len(), 3);
}

#[test]
fn the_trace_is_switched_and_shown() {
    let mut session = Session::new();
    assert_eq!(session.command("trace"), ["trace     off; 0 records made"]);
    assert_eq!(
        session.command("trace tail"),
        ["there are no records (trace on makes some)"]
    );
    assert!(session.command("trace on").is_empty());
    assert_eq!(session.system.traced, Some(true));
    assert_eq!(
        session.command("trace"),
        [
            "trace     on; 7000 records made",
            "UART      none: they can be read here alone",
            "kept      the last 2047 of each CPU; 12 older ones are gone",
        ]
    );
    assert!(session.command("trace off").is_empty());
    assert_eq!(
        session.command("trace tail 3"),
        ["trace 80", "trace 0005", "trace 0006", "trace 0007"]
    );
    assert_eq!(session.command("trace tail").len(), 17);
    session.command("trace on");
    assert_eq!(
        session.command("trace")[1..],
        [
            "UART      12 overwritten before they were sent",
            "kept      the last 2047 of each CPU",
        ]
    );
    assert_eq!(session.command("trace on"), ["no memory"]);
    for line in ["trace up", "trace on 1", "trace tail 0", "trace tail 1 2"] {
        assert_eq!(
            session.command(line),
            ["usage: trace [on | off | tail [COUNT]]"]
        );
    }
    session.types("trace t\t");
    assert_eq!(session.screen.last, "viaduct> trace tail ");
}

#[test]
fn lives_are_changed() {
    let mut session = Session::new();
    for (line, done) in [
        ("pause linux", "Pause of 0"),
        ("resume 1", "Resume of 0"),
        ("shutdown hello-1", "Shutdown(30) of 1"),
        ("shutdown hello-1 5", "Shutdown(5) of 1"),
        ("destroy linux", "Destroy of 0"),
        ("restart linux", "Restart of 0"),
        ("create 2", "Create of 1"),
        ("virq linux", "Debug of 0"),
    ] {
        assert!(session.command(line).is_empty());
        assert_eq!(session.system.done.last().unwrap(), done);
    }
    assert_eq!(session.command("pause hello-2"), ["it is stopped"]);
    assert_eq!(
        session.command("shutdown linux soon"),
        ["usage: shutdown GUEST [SECONDS]"]
    );
}

#[test]
fn shares_are_shown_and_changed() {
    let mut session = Session::new();
    let table = [
        "VCPU WEIGHT AFFINITY BUDGET",
        "   0    512 all      none",
        "   1    512 1        2500 of 10000 us",
    ];
    assert_eq!(session.command("set linux"), table);
    assert_eq!(session.command("set linux 1"), [table[0], table[2]]);
    for (line, done) in [
        (
            "set linux weight 100",
            vec!["Weight(100) of 0.0", "Weight(100) of 0.1"],
        ),
        ("set 2 affinity 0-1,3 1", vec!["Affinity(11) of 1.1"]),
        (
            "set 2 affinity 0-63 0",
            vec!["Affinity(18446744073709551615) of 1.0"],
        ),
        (
            "set 2 affinity all 0",
            vec!["Affinity(18446744073709551615) of 1.0"],
        ),
        (
            "set linux budget 2500 10000 0",
            vec!["Budget(2500, 10000) of 0.0"],
        ),
        (
            "set linux budget none",
            vec!["NoBudget of 0.0", "NoBudget of 0.1"],
        ),
    ] {
        session.system.done.clear();
        assert!(session.command(line).is_empty(), "{line}");
        assert_eq!(session.system.done, done, "{line}");
    }
    session.system.done.clear();
    let usage =
        "usage: set GUEST [weight N | affinity CPUS | budget US PERIOD-US | budget none] [VCPU]";
    for (line, answer) in [
        ("set", usage),
        ("set linux weight", usage),
        ("set linux weight 1 0 0", usage),
        ("set linux budget 1", usage),
        ("set nobody", "no such guest: nobody (list shows them)"),
        ("set linux weight much", "much: expected a number"),
        ("set linux weight 1 7", "vCPU 7: expected 0 to 1"),
        ("set linux 2", "vCPU 2: expected 0 to 1"),
        (
            "set linux affinity 1-0",
            "1-0: expected CPUs like 0-1,3, or all",
        ),
        (
            "set linux affinity 64",
            "64: expected CPUs like 0-1,3, or all",
        ),
        (
            "set linux affinity ,",
            ",: expected CPUs like 0-1,3, or all",
        ),
        (
            "set linux wieght",
            "wieght: expected the number of a vCPU, or weight, affinity, budget",
        ),
    ] {
        assert_eq!(session.command(line), [answer], "{line}");
    }
    assert!(session.system.done.is_empty());
    // Where not all can have it, the line says who has.
    session.system.refuses_from = Some(1);
    let refused = "CPU 1 has only 10.0 % left";
    assert_eq!(
        session.command("set linux budget 500 1000"),
        [format!("vCPU 1: {refused}; those before it are changed")]
    );
    assert_eq!(session.command("set linux budget 500 1000 1"), [refused]);
}

#[test]
fn mistakes_are_explained() {
    let mut session = Session::new();
    for (line, answer) in [
        ("lst", "no such command: lst (help lists them)"),
        ("info", "usage: info GUEST"),
        ("info nobody", "no such guest: nobody (list shows them)"),
        ("list all", "usage: list"),
        ("top 0", "usage: top [ROUNDS]"),
        (
            "store",
            "usage: store ls PATH | read PATH | write PATH VALUE | rm PATH",
        ),
        ("help nonsense", "usage: help [COMMAND]"),
    ] {
        assert_eq!(session.command(line), [answer]);
    }
    assert_eq!(session.command("help info")[0], "usage: info GUEST");
}

#[test]
fn every_command_is_in_the_help() {
    let mut session = Session::new();
    let lines = session.command("help");
    for entry in &crate::command::COMMANDS {
        let line = lines
            .iter()
            .find(|line| line.split(' ').next() == Some(entry.name));
        assert!(line.is_some_and(|line| line.len() < 90), "{}", entry.name);
        assert!(entry.usage.starts_with(entry.name));
    }
}

#[test]
fn words_are_completed() {
    let mut session = Session::new();
    for (keys, line) in [
        ("inf\t", "info "),
        ("info l\t", "info linux "),
        ("info h\t", "info hello-"),
        ("store w\t", "store write "),
        ("set linux w\t", "set linux weight "),
        ("help gr\t", "help grants "),
        ("info linux x\t", "info linux x"),
        ("nonsense \t", "nonsense "),
        ("info x\x01\t", "info x\x1b[6D"),
    ] {
        session.types(keys);
        assert_eq!(session.screen.last, format!("viaduct> {line}"));
        session.types("\x05\x15");
    }
    assert_eq!(
        session.types("info hello-\t"),
        ["viaduct> info hello-", "hello-1  hello-2"]
    );
    assert_eq!(session.screen.last, "viaduct> info hello-");
}

#[test]
fn keys_wait_while_a_command_works() {
    let mut session = Session::new();
    for key in b"mem\rlist\r" {
        session.shell.key(*key);
    }
    session.run();
    let lines = &session.screen.lines;
    let at = |text: &str| lines.iter().position(|line| line == text).unwrap();
    assert!(at("viaduct> mem") < at("hello-1            16 MiB"));
    assert!(at("hello-1            16 MiB") < at("viaduct> list"));
    // Ctrl-C ends it, and what waited goes.
    let before = session.screen.lines.len();
    for key in b"list\r" {
        session.shell.key(*key);
        session.shell.step(&mut session.system, &mut session.screen);
    }
    session.shell.step(&mut session.system, &mut session.screen);
    for key in b"mem\r\x03" {
        session.shell.key(*key);
    }
    session.run();
    assert_eq!(session.screen.lines.len(), before + 2);
    assert_eq!(session.screen.last, "viaduct> ");
}

#[test]
fn no_step_writes_much() {
    let mut session = Session::new();
    for command in [
        "help",
        "list",
        "info linux",
        "vcpus",
        "mem",
        "help help",
        "log",
    ] {
        session.command(command);
    }
    session.types("\t\thello\r");
    assert!(session.screen.most_at_once <= 2);
}

proptest! {
    #[test]
    fn any_keys_do_no_harm(keys in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut session = Session::new();
        for key in keys {
            session.shell.key(key);
            // Top goes on for ever.
            for _ in 0..40 {
                if session.shell.step(&mut session.system, &mut session.screen) == Next::Idle {
                    break;
                }
            }
            prop_assert!(session.screen.last.len() < 96);
        }
    }
}
