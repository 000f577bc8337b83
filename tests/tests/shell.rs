//! The operator's shell on the console.

use std::time::Duration;

use viaduct_tests::{Bundle, Console, Gic, Guest, Machine, lines, seconds};

/// The switch key, three times.
const SWITCH: &str = "\x01\x01\x01";

fn soon() -> Duration {
    seconds(60)
}

/// Two heartbeats, one of which never looks at its store, and a guest that answers; the shell has the input.
fn start(name: &str, machine: Machine) -> Console {
    let beat = |name| Guest::hello(name).boot_arguments("period=500ms");
    let bundle = Bundle::new(name)
        .guest(beat("hello-1"))
        .guest(beat("hello-2").cpus(2).enhanced(Some("")))
        .guest(Guest::probe("echo", "test=echo").enhanced(Some("")))
        .write();
    let machine = machine.bundle(bundle).argument("conswitch=ax");
    let mut console = machine.start(name);
    console.expect_each(
        &[
            "hello-1| hello: heartbeat 1 ",
            "hello-2| hello: heartbeat 1 ",
            "echo| READY echo",
        ],
        seconds(60),
    );
    console
}

/// A line of `list` about a guest: its state, and what is behind.
fn listed(console: &mut Console, guest: &str) -> (String, String) {
    let lines = console.operate("list", soon());
    let line = lines
        .iter()
        .find(|line| line.split_whitespace().nth(1) == Some(guest));
    let words: Vec<&str> = line.map_or(vec![], |line| line.split_whitespace().collect());
    match words[..] {
        [_, _, state, _, _, _, _, _, ref stop @ ..] => (state.to_owned(), stop.join(" ")),
        _ => console.fail(&format!("{guest} is not in {lines:?}")),
    }
}

/// Commands that look.
fn looks(console: &mut Console) {
    let (state, stop) = listed(console, "hello-1");
    assert!(state == "running" || state == "waiting", "{state}");
    assert_eq!(stop, "-");

    let info = console.operate("info echo", soon()).join("\n");
    assert!(info.contains("name      echo (domain 3)"), "{info}");
    assert!(info.contains("PV console: yes"), "{info}");
    assert!(info.contains("store     /local/domain/3"), "{info}");

    let vcpus = console.operate("vcpus", soon());
    assert_eq!(vcpus.len(), 5, "{vcpus:?}");
    assert!(vcpus.iter().all(|line| line.len() <= 80), "{vcpus:?}");
    assert_eq!(console.operate("vcpus hello-2", soon()).len(), 3);

    let memory = console.operate("mem", soon());
    assert!(
        memory[0].starts_with("for guests ") && memory[0].ends_with(" free"),
        "{memory:?}"
    );
    assert!(
        memory
            .iter()
            .any(|line| line.starts_with("hello-1 ") && line.ends_with(" 16 MiB"))
    );

    let interrupts = console.operate("irqs hello-1", soon());
    let timer = interrupts
        .iter()
        .find(|line| line.trim().starts_with("27 "));
    assert!(
        timer.is_some_and(|line| line.contains("level") && line.contains("enabled")),
        "{interrupts:?}"
    );

    let events = console.operate("events echo", soon()).join("\n");
    assert!(
        events.contains(" console") && events.contains(" xenstore"),
        "{events}"
    );
    assert_eq!(console.operate("grants echo", soon()).len(), 1);

    let top = console.operate("top 1", soon());
    assert!(top.iter().any(|line| line.starts_with("CPU 0 ")), "{top:?}");
    assert!(
        top.iter().any(|line| line.starts_with("hello-2 ")),
        "{top:?}"
    );

    let log = console.operate("log", soon()).join("\n");
    assert!(log.contains("| echo: domain 3, 16 MiB"), "{log}");
    assert!(console.operate("help", soon()).len() > 15);
    let wrong = console.operate("lst", soon());
    assert_eq!(wrong, ["no such command: lst (help lists them)"]);
}

/// What is typed: corrected, completed, recalled.
fn keys(console: &mut Console) {
    console.send("xinfo\x1b[Hy\x1b[3~\x7f\x1b[F ec\t\r");
    assert_eq!(console.operated("info echo ", soon()).len(), 6);
    console.send("he\t\x15\x1b[A\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x0bhello-2\r");
    assert_eq!(console.operated("info hello-2", soon()).len(), 6);
    console.send("info h\t\t");
    console.expect("hello-1  hello-2", soon());
    console.send("1\r");
    assert_eq!(console.operated("info hello-1", soon()).len(), 6);
    console.send("\x10\x10\r");
    assert_eq!(console.operated("info hello-2", soon()).len(), 6);
    // Typed ahead.
    console.send("mem\rvcpus hello-2\r");
    assert!(console.operated("mem", soon()).len() > 3);
    assert_eq!(console.operated("vcpus hello-2", soon()).len(), 3);
    // A table that never ends does at a key.
    console.send("top\r");
    console.expect("viaduct> top", soon());
    console.expect("any key ends this", soon());
    console.send("q");
    assert_eq!(console.operate("help help", soon()).len(), 2);
}

/// To a guest and back, and what it wrote meanwhile.
fn switching(console: &mut Console) {
    console.send("console echo\r");
    console.expect("*** input goes to echo ", soon());
    console.send("good morning\r");
    console.expect("echo| GOT good morning", soon());
    console.send(SWITCH);
    console.expect(lines::INPUT_TO_SHELL, soon());
    let log = console.operate("log echo", soon());
    assert!(
        log.iter().any(|line| line == "| GOT good morning"),
        "{log:?}"
    );
    let log = console.operate("log hello-1", soon());
    assert!(
        log.iter()
            .any(|line| line.starts_with("| hello: heartbeat 1 ")),
        "{log:?}"
    );
}

/// The store, with the hypervisor's rights.
fn store(console: &mut Console) {
    assert_eq!(
        console.operate("store read /local/domain/3/name", soon()),
        ["echo"]
    );
    let home = console
        .operate("store ls /local/domain/3", soon())
        .join("\n");
    assert!(
        home.contains("name = \"echo\"") && home.contains("domid = \"3\""),
        "{home}"
    );
    assert!(
        console
            .operate("store write /tool/note by hand", soon())
            .is_empty()
    );
    assert_eq!(
        console.operate("store read /tool/note", soon()),
        ["by hand"]
    );
    assert!(console.operate("store rm /tool/note", soon()).is_empty());
    let gone = console.operate("store read /tool/note", soon());
    assert_eq!(gone, ["/tool/note: there is no such node"]);
}

/// Types a command, and waits for what comes of it.
fn then(console: &mut Console, command: &str, line: &str) {
    console.send(&format!("{command}\r"));
    console.expect(line, soon());
}

/// Guests are held, let go, asked to end, and ended.
fn lives(console: &mut Console) {
    assert!(console.operate("pause hello-1", soon()).is_empty());
    assert_eq!(listed(console, "hello-1").0, "paused");
    console.expect_silence("hello-1| hello: heartbeat", seconds(2));
    assert_eq!(console.operate("pause hello-1", soon()), ["it is paused"]);
    then(console, "resume hello-1", "hello-1| hello: heartbeat");

    let refused = console.operate("shutdown hello-1", soon());
    assert_eq!(refused, ["it has no xenstore, so it cannot be asked"]);
    then(console, "shutdown echo", "echo| SHUTTING DOWN");
    console.expect(&lines::stopped("echo", "poweroff"), soon());
    then(console, "shutdown hello-2 1", "viaduct| hello-2: stopped (");
    let (state, stop) = listed(console, "hello-2");
    assert_eq!((&*state, &*stop), ("stopped", "did not shut down in time"));
    then(
        console,
        "destroy hello-1",
        &lines::stopped("hello-1", "destroyed"),
    );
    let memory = console.operate("mem", soon());
    assert_eq!(memory.len(), 2, "{memory:?}");
}

fn session(name: &str, machine: Machine) {
    let mut console = start(name, machine);
    looks(&mut console);
    keys(&mut console);
    switching(&mut console);
    store(&mut console);
    lives(&mut console);
    console.send("poweroff\r");
    assert_eq!(console.expect_exit(soon()), 0);
}

#[test]
fn a_session_gicv3() {
    session("shell-v3", Machine::virt(Gic::V3).cpus(2));
}

#[test]
fn a_session_gicv2() {
    session("shell-v2", Machine::virt(Gic::V2).cpus(2));
}

#[test]
fn a_session_pi4() {
    session("shell-pi4", Machine::pi4());
}

/// While a guest writes without end, the shell answers, and the others' lines are whole.
#[test]
fn the_shell_answers_in_a_flood() {
    let bundle = Bundle::new("shell-flood")
        .guest(Guest::probe("flood", "test=flood"))
        .guest(Guest::hello("hello").boot_arguments("period=500ms"))
        .write();
    let machine = Machine::virt(Gic::V3).cpus(2).bundle(bundle);
    let mut console = machine.argument("conswitch=ax").start("shell-flood");
    console.expect("flood| flood 100 ", seconds(60));
    for _ in 0..3 {
        let (state, _) = listed(&mut console, "flood");
        assert!(state == "running" || state == "waiting", "{state}");
    }
    console.expect("hello| hello: heartbeat", soon());
    assert!(console.operate("destroy flood", soon()).is_empty());
    console.expect_ever("viaduct| flood: stopped (destroyed)", soon());
    assert_eq!(
        listed(&mut console, "flood"),
        ("stopped".to_owned(), "destroyed".to_owned())
    );
}

/// The operating guide's session: what it shows is what one sees.
#[test]
fn the_guide_tells_the_truth() {
    let guide = viaduct_tests::root().join("docs/operating.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let session: Vec<&str> = guide
        .split("## A session")
        .nth(1)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    let mut console = start("shell-guide", Machine::virt(Gic::V3).cpus(2));
    let mut seen = String::new();
    let mut same = true;
    let mut commands = 0;
    let mut rest = session.into_iter().peekable();
    while let Some(line) = rest.next() {
        let command = line
            .strip_prefix(lines::PROMPT)
            .unwrap_or_else(|| panic!("{line:?}"));
        let mut told = Vec::new();
        while let Some(line) = rest.next_if(|line| !line.starts_with(lines::PROMPT)) {
            told.push(shape(line));
        }
        commands += 1;
        if rest.peek().is_none() {
            console.send(&format!("{command}\r"));
            seen.push_str(&format!("    {line}\n"));
            break;
        }
        let answer = console.operate(command, soon());
        seen.push_str(&format!("    {line}\n"));
        answer
            .iter()
            .for_each(|line| seen.push_str(&format!("    {line}\n")));
        same &= answer.iter().map(|line| shape(line)).eq(told);
    }
    assert_eq!(console.expect_exit(soon()), 0);
    assert!(same && commands > 10, "the guide should show:\n{seen}");
}

/// A line but for what differs from run to run: numbers, what a guest does at that moment, and the space between.
fn shape(line: &str) -> String {
    let is_interrupt = ["level", "edge", "SGI"]
        .iter()
        .any(|kind| line.contains(kind));
    let line = match line.split_once(", ") {
        Some((enabled, _)) if is_interrupt => enabled,
        _ => line,
    };
    let words = line.split_whitespace().map(|word| match word {
        "running" | "waiting" | "blocked" | "ready" => "state".to_owned(),
        "yes" | "no" => "flag".to_owned(),
        word => {
            let mut shape = String::new();
            for character in word.chars() {
                let character = if character.is_ascii_digit() {
                    '#'
                } else {
                    character
                };
                if character != '#' || !shape.ends_with(['#', '.']) {
                    shape.push(character);
                }
            }
            shape
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
