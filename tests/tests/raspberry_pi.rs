//! What of a Raspberry Pi 4 an emulator can show beside the card: the trees of its family as firmware hands them
//! over, the light that speaks where no UART does, and that the guide says what is true.

use std::process::Command;
use std::time::{Duration, Instant};

use viaduct_inspect::{Fate, Inputs, Report, image_size};
use viaduct_tests::demo::Contents;
use viaduct_tests::family::{edited, family};
use viaduct_tests::{Bundle, Guest, Image, Machine, Monitor, pi4_tree, root, seconds};

/// Every tree of the family with every size of memory: all of it is found, and the demo's unikernels are built
/// clear of firmware, image and bundle.
#[test]
fn every_board_of_the_family_gets_its_guests() {
    let bundle = Contents::Unikernels.bundle(None, None).unwrap();
    let bundle = std::fs::read(bundle).unwrap();
    for (board, mib, tree) in family(bundle.len()) {
        let tree = std::fs::read(tree).unwrap();
        let report = Report::new(&Inputs {
            tree: &tree,
            bundle: Some(&bundle),
            image_size: image_size(&Image::Release.path()).unwrap(),
            modules: &[],
        });
        let report = report.unwrap();
        assert!(report.all_well(), "{board}, {mib} MiB: {report}");
        let found: u64 = report.board.memory.iter().map(|range| range.size()).sum();
        assert_eq!(found >> 20, mib, "{board}: {report}");
        assert_eq!(report.cpus.len(), 4, "{board}: {report}");
        assert!(
            report.board.console.is_some() && report.board.led.is_some(),
            "{board}"
        );
        let built = |guest: &&viaduct_inspect::Guest<'_>| matches!(guest.fate, Fate::Built(_));
        assert_eq!(
            report.guests.iter().filter(built).count(),
            2,
            "{board}: {report}"
        );
    }
}

/// `dtoverlay=disable-bt`: what the overlay changes in the tree, and the console is the PL011.
#[test]
fn the_console_may_be_the_pl011() {
    let edits: [&[&str]; 4] = [
        &["-t", "s", "/chosen", "stdout-path", "serial1:115200n8"],
        &["-t", "s", "/aliases", "serial1", "/soc/serial@7e201000"],
        &["-r", "/soc/serial@7e201000/bluetooth"],
        &["-t", "s", "/soc/serial@7e215040", "status", "disabled"],
    ];
    let tree = edited(&pi4_tree(), "pl011.dtb", &edits);
    let bundle = Contents::Unikernels.bundle(None, None).unwrap();
    let machine = Machine::pi4().tree(tree).bundle(bundle).on_first_uart();
    let mut console = machine.start("pi4-pl011");
    let beats = [
        "hello-1| hello: heartbeat 1 ",
        "hello-2| hello: heartbeat 1 ",
    ];
    console.expect_each(&beats, seconds(60));
}

/// Six guests of 256 MiB do not fit into the first GiB: RAM above it is found and used. (QEMU replaces nodes named
/// `memory`, so this one has another name; what counts is its `device_type`.)
#[test]
fn memory_above_1_gib_is_given_to_guests() {
    let high = [
        "-t",
        "x",
        "/upper@40000000",
        "reg",
        "0",
        "40000000",
        "40000000",
    ];
    let edits: [&[&str]; 3] = [
        &["-c", "/upper@40000000"],
        &["-t", "s", "/upper@40000000", "device_type", "memory"],
        &high,
    ];
    let tree = edited(&pi4_tree(), "high-memory.dtb", &edits);
    let mut bundle = Bundle::new("high-memory");
    for number in 1..=6 {
        bundle = bundle.guest(Guest::hello(&format!("hello-{number}")).memory_mib(256));
    }
    let machine = Machine::pi4().tree(tree).bundle(bundle.write());
    let mut console = machine.start("pi4-high-memory");
    let beats = [1, 2, 3, 4, 5, 6].map(|number| format!("hello-{number}| hello: heartbeat 1 "));
    console.expect_each(&beats, seconds(300));
    assert!(console.lines_with("viaduct| error").is_empty());
}

/// Reset by the watchdog: a QEMU that may not reboot ends.
#[test]
fn the_watchdog_resets_the_board() {
    let bundle = Bundle::new("pi4-reset")
        .guest(Guest::hello("hello").boot_arguments("count=1 period=1ms"))
        .write();
    let machine = Machine::pi4()
        .bundle(bundle)
        .argument("on-last-stop=reboot");
    let mut console = machine.start("pi4-reset");
    console.expect("all guests have stopped", seconds(300));
    assert_eq!(console.expect_exit(seconds(60)), 0);
}

/// GPLEV1, the levels of pins 32 to 57, and the light's pin 42 in it.
const LEVELS: u64 = 0xfe20_0038;
const LIGHT: u32 = 1 << 10;

/// How often the light of the machine that runs as `name` flashes between two pauses of a second or more: two groups in a
/// row have to agree, since a flash is missed where looking takes too long.
fn flashes(name: &str) -> u32 {
    let mut monitor = Monitor::of(name);
    // The first group may have begun before we looked.
    let (mut was_lit, mut count, mut before) = (false, 0, 0);
    let mut dark_since = Instant::now();
    let deadline = Instant::now() + seconds(300);
    while Instant::now() < deadline {
        let lit = monitor.word(LEVELS) & LIGHT != 0;
        if lit && !was_lit {
            if dark_since.elapsed() > Duration::from_secs(1) {
                if count > 0 && count == before {
                    return count;
                }
                before = count;
                count = 0;
            }
            count += 1;
        }
        if !lit && was_lit {
            dark_since = Instant::now();
        }
        was_lit = lit;
        std::thread::sleep(Duration::from_millis(15));
    }
    panic!("{name}: no two groups of flashes agree");
}

const NO_UART: [&[&str]; 5] = [
    &["-t", "s", "/soc/serial@7e215040", "status", "disabled"],
    &["-t", "s", "/soc/serial@7e201000", "status", "disabled"],
    &["-t", "s", "/soc/serial@7e201400", "status", "disabled"],
    &["-t", "s", "/soc/serial@7e201600", "status", "disabled"],
    &["-t", "s", "/soc/serial@7e201800", "status", "disabled"],
];

#[test]
fn the_light_tells_that_no_guest_could_be_built() {
    let tree = edited(&pi4_tree(), "light-no-guest.dtb", &NO_UART);
    let name = "light-no-guest";
    let _console = Machine::pi4().tree(tree).monitored().start(name);
    assert_eq!(flashes(name), 5);
}

#[test]
fn the_light_tells_of_a_tree_without_interrupt_controller() {
    let edits: [&[&str]; 1] = [&["-r", "/soc/interrupt-controller@40041000"]];
    let tree = edited(&pi4_tree(), "light-no-gic.dtb", &edits);
    let name = "light-no-gic";
    let mut console = Machine::pi4().tree(tree).monitored().start(name);
    console.expect("cannot go on", seconds(60));
    assert_eq!(flashes(name), 2);
}

/// With guests and no UART the light is lit and stays so.
#[test]
fn the_light_is_lit_where_guests_run_unheard() {
    let tree = edited(&pi4_tree(), "light-guests.dtb", &NO_UART);
    let name = "light-guests";
    let bundle = Contents::Unikernels.bundle(None, None).unwrap();
    let _console = Machine::pi4()
        .tree(tree)
        .bundle(bundle)
        .monitored()
        .start(name);
    let mut monitor = Monitor::of(name);
    let deadline = Instant::now() + seconds(60);
    while monitor.word(LEVELS) & LIGHT == 0 {
        assert!(Instant::now() < deadline, "it was never lit");
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..60 {
        std::thread::sleep(Duration::from_millis(50));
        assert_ne!(monitor.word(LEVELS) & LIGHT, 0, "it went out");
    }
}

/// Each row of the review names a file and words that stand in it.
#[test]
fn what_the_review_points_to_is_there() {
    let mut rows = 0;
    for page in ["docs/raspberry-pi-4.md", "docs/security.md"] {
        let path = root().join(page);
        let text = std::fs::read_to_string(&path).unwrap();
        for part in text.split("](").skip(1) {
            let (target, rest) = part.split_once(')').expect("a link ends");
            let target = target.split('#').next().unwrap_or_default();
            let file = path.with_file_name("").join(target);
            assert!(file.exists(), "{page} points to {target}");
            let Some((words, _)) = rest
                .strip_prefix(": `")
                .and_then(|rest| rest.split_once('`'))
            else {
                continue;
            };
            let source = std::fs::read_to_string(&file).unwrap();
            assert!(source.contains(words), "{page}: {target} has no {words:?}");
            rows += 1;
        }
    }
    assert!(rows > 20, "{rows} rows");
}

#[test]
fn the_guide_s_question_is_answered() {
    let bundle = Contents::Demo.bundle(None, None).unwrap();
    let output = Command::new("just")
        .current_dir(root())
        .arg("inspect")
        .arg(bundle)
        .arg("machine=raspi4b")
        .output()
        .expect("just (./setup installs it)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("3 guests are built"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Commands of the guide, and the tests that run them.
const COMMANDS: [(&str, &str); 5] = [
    ("./setup", ".ci/run"),
    ("just sdcard", "tests/tests/sdcard.rs"),
    ("just sdcard bundle=mine.itb", "tests/tests/sdcard.rs"),
    (
        "just inspect target/demo.itb machine=raspi4b",
        "tests/tests/raspberry_pi.rs",
    ),
    ("just run machine=raspi4b", "tests/tests/boot.rs"),
];

#[test]
fn each_command_of_the_guide_is_known() {
    let text = std::fs::read_to_string(root().join("docs/raspberry-pi-4.md")).unwrap();
    let blocks = text.lines().filter(|line| line.starts_with("        "));
    let inline = text.split('`').skip(1).step_by(2);
    let said: Vec<&str> = blocks
        .map(str::trim)
        .chain(inline)
        .filter(|words| words.starts_with("just ") || words.starts_with("./"))
        .filter(|words| !words.starts_with("just system"))
        .collect();
    for words in &said {
        let known = COMMANDS.iter().find(|(command, _)| command == words);
        let (_, test) =
            known.unwrap_or_else(|| panic!("the guide says {words:?}, which no test runs"));
        assert!(root().join(test).exists(), "{test}");
    }
    for (command, _) in COMMANDS {
        assert!(
            said.contains(&command),
            "the guide does not say {command:?} any more"
        );
    }
}
