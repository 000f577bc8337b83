//! How guests begin, and what their ends lead to: start order, policies, watchdogs of guests and of the board.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use viaduct_tests::{Bundle, Console, Gic, Guest, Machine, lines, pi4_tree, scratch, seconds};

fn soon() -> Duration {
    seconds(60)
}

/// Where a line is among all that were said.
fn place(console: &Console, line: &str) -> usize {
    let lines = console.lines();
    let at = lines.iter().position(|said| said.contains(line));
    at.unwrap_or_else(|| console.fail(&format!("nobody said {line:?}")))
}

/// Who is to start after others does, and waits for nobody who is over, was left out, or waits for it.
fn order(name: &str, machine: Machine) {
    let beat = |name: &str, more: &str| {
        Guest::hello(name)
            .boot_arguments("period=20ms count=2")
            .extra(more)
    };
    let ready = Guest::probe("ready", "test=ready").enhanced(Some("enabled"));
    let bundle = Bundle::new(name)
        .guest(beat("last", "viaduct,after = \"second\", \"ready\";"))
        .guest(beat("second", "viaduct,after = \"ready\";"))
        .guest(ready.extra("viaduct,says-ready;"))
        // It never says so, and ends.
        .guest(beat("mute", "viaduct,says-ready;"))
        .guest(beat("heir", "viaduct,after = \"mute\", \"nobody\";"))
        .guest(beat("one", "viaduct,after = \"other\";"))
        .guest(beat("other", "viaduct,after = \"one\";"));
    let mut console = machine
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    let line = console.expect(lines::MEMORY_FREE, seconds(300));
    assert!(lines::all_is_free(&line), "{line}");
    for told in [
        "/chosen/heir: viaduct,after: found \"nobody\", expected the name of a guest that starts; ignored",
        "/chosen/one: viaduct,after: found \"other\", expected a guest that does not itself start after this one; ignored",
        "last: domain 1, starts after second, ready",
    ] {
        assert_eq!(console.lines_with(told).len(), 1, "{told}");
    }
    // The hypervisor's own lines: those of guests may come out later.
    for (first, then) in [
        ("viaduct| ready: is ready", "viaduct| second: runs"),
        ("viaduct| second: runs", "viaduct| last: runs"),
        ("viaduct| mute: stopped", "viaduct| heir: runs"),
        ("viaduct| one: domain", "viaduct| other: runs"),
    ] {
        assert!(
            place(&console, first) < place(&console, then),
            "{first}, {then}"
        );
    }
    for guest in ["last", "second", "heir", "one", "other"] {
        assert_eq!(
            console
                .lines_with(&format!("{guest}| hello: heartbeat 2 "))
                .len(),
            1
        );
    }
}

#[test]
fn guests_start_in_order_gicv3() {
    order("order-v3", Machine::virt(Gic::V3));
}

#[test]
fn guests_start_in_order_pi4() {
    order("order-pi4", Machine::pi4());
}

/// What ends of its own do, and what an operator's do, by policy.
#[test]
fn policies_and_the_operator() {
    let name = "policies";
    let policy = |word: &str, limit: u32| {
        format!(
            "viaduct,restart = \"{word}\"; viaduct,restart-limit = <{limit}>; viaduct,restart-backoff-ms = <10>;"
        )
    };
    let bundle = Bundle::new(name)
        // Whoever switches itself off is started again if that is asked for, and only then.
        .guest(Guest::probe("off-always", "test=poweroff").extra(&policy("always", 2)))
        .guest(Guest::probe("off-crash", "test=poweroff").extra(&policy("on-crash", 2)))
        .guest(Guest::probe("reboots", "test=reboot").extra(&policy("on-crash", 1)))
        .guest(Guest::probe("bites", "test=watchdog").extra(&policy("on-crash", 1)))
        // It never looks at its store.
        .guest(
            Guest::hello("deaf")
                .boot_arguments("period=200ms")
                .enhanced(Some("enabled"))
                .extra(&policy("always", 0)),
        )
        .guest(
            Guest::hello("gone")
                .boot_arguments("period=200ms")
                .extra(&policy("always", 0)),
        );
    let mut console = Machine::virt(Gic::V2)
        .bundle(bundle.write())
        .argument("conswitch=ax")
        .start(name);
    console.expect_each(
        &[
            "off-always: ended 2 times in a row; not started again",
            &lines::stopped("off-crash", "poweroff"),
            "reboots: ended 1 times in a row; not started again",
            "bites: ended 1 times in a row; not started again",
            "deaf| hello: heartbeat 1 ",
            "gone| hello: heartbeat 1 ",
        ],
        seconds(60),
    );
    for (line, times) in [
        ("off-always: ended (poweroff); restart ", 2),
        ("off-crash: ended (", 0),
        ("reboots: ended (reboot); restart ", 1),
        ("bites: ended (watchdog); restart ", 1),
    ] {
        assert_eq!(console.lines_with(line).len(), times, "{line}");
    }
    // What the operator ends stays so.
    assert!(console.operate("shutdown deaf 1", soon()).is_empty());
    console.expect_ever(&lines::stopped("deaf", "did not shut down in time"), soon());
    assert!(console.operate("destroy gone", soon()).is_empty());
    console.expect_ever(&lines::stopped("gone", "destroyed"), soon());
    for guest in ["deaf", "gone"] {
        assert!(
            console
                .lines_with(&format!("{guest}: runs again"))
                .is_empty()
        );
    }
    // And lives again if that is wanted; held, it does nothing, and goes on.
    assert!(console.operate("create deaf", soon()).is_empty());
    console.expect_ever("deaf: runs again", soon());
    console.expect("deaf| hello: heartbeat ", soon());
    assert!(console.operate("pause deaf", soon()).is_empty());
    assert_eq!(console.operate("shutdown deaf 1", soon()), ["it is paused"]);
    console.expect_silence("deaf| hello: heartbeat", seconds(2));
    assert!(console.operate("resume deaf", soon()).is_empty());
    console.expect("deaf| hello: heartbeat", soon());
    console.send("poweroff\r");
    assert_eq!(console.expect_exit(soon()), 0);
}

const STARTED: &str = "watchdog: the board starts again 10 s after the end of any of needed";

fn needed() -> Guest {
    Guest::hello("needed")
        .boot_arguments("period=500ms")
        .extra("viaduct,critical;")
}

/// `virt` has no watchdog that the hypervisor drives: it starts the board again itself, when a restart has not helped.
#[test]
fn a_board_without_a_watchdog_starts_again() {
    let name = "critical-v3";
    let crashes = Guest::probe("needed", "test=crash")
        .extra("viaduct,critical; viaduct,restart = \"on-crash\"; viaduct,restart-limit = <1>;");
    let bundle = Bundle::new(name)
        .guest(crashes)
        .guest(Guest::hello("beside").boot_arguments("period=500ms"));
    let mut console = Machine::virt(Gic::V3).bundle(bundle.write()).start(name);
    console.expect(
        "warning: watchdog: this board has none; the hypervisor starts it again 10 s after",
        soon(),
    );
    console.expect("needed: runs again", soon());
    console.expect(
        "error: watchdog: needed is critical and has ended; the board starts again in",
        soon(),
    );
    console.expect("error: watchdog: the board starts again", soon());
    assert_eq!(console.expect_exit(soon()), 0);
}

/// QEMU's block resets the board as soon as its watchdog is started, whatever time that has: so the registers are the
/// right ones, and firmware's reset follows.
#[test]
fn the_pis_watchdog_resets_the_board() {
    let name = "critical-pi4";
    let bundle = Bundle::new(name).guest(needed());
    let mut console = Machine::pi4().bundle(bundle.write()).start(name);
    console.expect(STARTED, soon());
    assert_eq!(console.expect_exit(soon()), 0);
}

/// The tree puts the watchdog where QEMU has a device that does nothing, and notes what is written to it: that is
/// written while the guest lives, and no more when it does not.
#[test]
fn the_watchdog_is_fed_while_the_guest_lives() {
    let name = "critical-fed";
    let tree = scratch().join("watchdog-nowhere.dtb");
    std::fs::copy(pi4_tree(), &tree).expect("a tree to edit");
    let words = "-t x /soc/watchdog@7e100000 reg 7e910000 114 7e00a000 24 7ec11000 20";
    let mut words: Vec<&str> = words.split(' ').collect();
    let path = tree.to_string_lossy().into_owned();
    words.insert(2, &path);
    let edited = Command::new("fdtput").args(words).status();
    assert!(edited.expect("fdtput (./setup installs it)").success());
    let log = scratch().join("watchdog-nowhere.txt");
    let _ = std::fs::remove_file(&log);
    let bundle = Bundle::new(name).guest(needed());
    let mut console = Machine::pi4()
        .tree(&tree)
        .bundle(bundle.write())
        .argument("conswitch=ax")
        .device(&format!("-d unimp -D {}", log.display()))
        .start(name);
    console.expect(STARTED, soon());
    // It is fed every two seconds; a board that others leave no time may stand still for long.
    let until = |console: &mut Console, wanted: usize| {
        let deadline = Instant::now() + seconds(300);
        while fed(&log) < wanted {
            if Instant::now() > deadline {
                console.fail(&format!("fed {} times, expected {wanted}", fed(&log)));
            }
            console.run_for(Duration::from_millis(100));
        }
    };
    until(&mut console, 3);
    assert!(console.operate("destroy needed", soon()).is_empty());
    console.expect_ever(
        "watchdog: needed is critical and has ended; the board starts again in",
        soon(),
    );
    let before = fed(&log);
    console.run_for(seconds(6));
    assert_eq!(fed(&log), before);
    assert!(console.operate("create needed", soon()).is_empty());
    console.expect_ever("watchdog: all critical guests are there again", soon());
    until(&mut console, before + 2);
}

/// How often ten seconds were written to the watchdog's time.
fn fed(log: &PathBuf) -> usize {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.matches("offset 0x0024, value 0x5a0a0000").count()
}
