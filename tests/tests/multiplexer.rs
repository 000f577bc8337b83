//! One console, many guests: whole lines under their names, input to one of them.

use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

#[test]
fn lines_come_out_whole() {
    let mut bundle = Bundle::new("whole-lines");
    for index in 1..=4 {
        let guest = Guest::hello(&format!("hello-{index}")).boot_arguments("period=1ms count=200");
        bundle = bundle.guest(guest);
    }
    let machine = Machine::virt(Gic::V3)
        .cpus(4)
        .bundle(bundle.write())
        .argument(lines::POWER_OFF);
    let mut console = machine.start("whole-lines");
    console.expect(lines::ALL_STOPPED, seconds(300));
    for line in console
        .lines()
        .iter()
        .filter(|line| line.contains("heartbeat"))
    {
        let (name, rest) = line.split_once("| ").unwrap_or(("", line));
        assert!(name.starts_with("hello-") && name.len() == 7, "{line:?}");
        assert!(
            rest.starts_with("hello: heartbeat ") && rest.ends_with(" ms"),
            "{line:?}"
        );
        assert_eq!(line.matches("heartbeat").count(), 1, "{line:?}");
    }
}

/// Who floods its UART loses lines of its own at most: those of others are all there, and all are whole.
#[test]
fn a_flood_by_the_uart_takes_nothing_from_others() {
    let name = "uart-flood";
    let flood = Guest::probe("flood", "test=flood").vpl011().enhanced(None);
    let bundle = Bundle::new(name)
        .guest(flood.extra("viaduct,scroll-back = <4>;"))
        .guest(Guest::hello("ring").boot_arguments("period=5ms count=200"))
        .guest(
            Guest::hello("uart")
                .boot_arguments("period=5ms count=200")
                .vpl011()
                .enhanced(None),
        );
    let machine = Machine::virt(Gic::V3).bundle(bundle.write());
    let mut console = machine.argument("conswitch=ax").start(name);
    console.expect_each(
        &[
            &lines::stopped("ring", "poweroff"),
            &lines::stopped("uart", "poweroff"),
        ],
        seconds(300),
    );
    for guest in ["ring", "uart"] {
        for number in 1..=200 {
            let line = format!("{guest}| hello: heartbeat {number} at ");
            assert_eq!(console.lines_with(&line).len(), 1, "{line}");
        }
    }
    let floods = console.lines_with("flood| flood ");
    let (_, all_but_last) = floods.split_last().expect("some lines");
    assert!(all_but_last.len() > 100, "{}", all_but_last.len());
    assert!(all_but_last.iter().all(|line| line.ends_with("0123456789")));
    // Of its last lines it keeps what there is room for: less than it has printed, and than others keep.
    assert!(console.operate("destroy flood", seconds(60)).is_empty());
    let log = console.operate("log flood", seconds(60));
    let kept: usize = log.iter().map(String::len).sum();
    assert!((3 << 10..5 << 10).contains(&kept), "{kept}");
}

/// Ctrl-A three times hands the input on.
#[test]
fn input_goes_where_it_was_switched_to() {
    let machine = Machine::virt(Gic::V3).bundle(
        Bundle::new("switch")
            .guest(Guest::linux("first").extra("viaduct,console-focus;"))
            .guest(Guest::linux("second"))
            .write(),
    );
    let mut console = machine.start("switch");
    console.expect_each(
        &[
            "first| This is a busybox shell",
            "second| This is a busybox shell",
        ],
        seconds(300),
    );
    assert_eq!(
        console.command("first", "hostname one; hostname", seconds(60)),
        ["one"]
    );
    console.send("\x01\x01\x01");
    console.expect("*** input goes to second ", seconds(60));
    assert_eq!(
        console.command("second", "hostname", seconds(60)),
        ["linux"]
    );
}

/// A long line, pasted: nothing of it is lost on the way through a FIFO of 32 bytes.
#[test]
fn a_pasted_line_arrives_whole() {
    for (name, guest) in [
        ("paste-ring", Guest::probe("probe", "test=input")),
        (
            "paste-uart",
            Guest::probe("probe", "test=input").vpl011().enhanced(None),
        ),
    ] {
        let bundle = Bundle::new(name)
            .guest(guest.extra("viaduct,console-focus;"))
            .write();
        let mut console = Machine::virt(Gic::V3).bundle(bundle).start(name);
        console.expect("probe| READY input", seconds(60));
        let line: String = (0..60).map(|number| format!("{number:03}.")).collect();
        console.send(&format!("{line}\r"));
        console.expect(&format!("probe| GOT {line}"), seconds(60));
    }
}
