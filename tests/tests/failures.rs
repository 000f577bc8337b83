//! The hypervisor's own failures, in a build that fails on purpose: what is known is printed, the
//! other CPUs stop, and the boot argument decides what follows.

use viaduct_tests::{Bundle, Console, Gic, Guest, Image, Machine, lines, seconds};

fn fails(name: &str, machine: Machine, fault: &str) -> Console {
    let machine = machine
        .image(Image::Faults)
        .argument(&format!("fault={fault}"));
    let mut console = machine.start(name);
    console.failure_is_expected();
    console.expect(&format!("failing on purpose: {fault}"), seconds(60));
    console
}

/// The report has a CPU and a backtrace with something in it.
fn reports(console: &mut Console) {
    console.expect_each(&["CPU 0", "backtrace"], seconds(60));
}

#[test]
fn a_panic() {
    for (name, machine) in [
        ("panic-v2", Machine::virt(Gic::V2)),
        ("panic-v3", Machine::virt(Gic::V3)),
        ("panic-pi4", Machine::pi4()),
    ] {
        let mut console = fails(name, machine, "panic");
        console.expect("on purpose", seconds(60));
        reports(&mut console);
        console.expect(lines::HALTED, seconds(60));
        assert!(console.is_running(), "it halts unless told otherwise");
    }
}

/// Before the board is read: the report finds a console of its own.
#[test]
fn a_panic_before_there_is_a_console() {
    for (name, machine) in [
        ("early-panic-v3", Machine::virt(Gic::V3)),
        ("early-panic-pi4", Machine::pi4()),
    ] {
        let machine = machine.image(Image::Faults).argument("fault=early");
        let mut console = machine.start(name);
        console.failure_is_expected();
        console.expect_each(
            &[
                "PANIC",
                "on purpose",
                "CPU not yet up",
                "backtrace (image +): 0x",
            ],
            seconds(60),
        );
        console.expect(lines::HALTED, seconds(60));
    }
}

#[test]
fn the_stack_overflows_into_its_guard_page() {
    for (name, machine) in [
        ("stack-v3", Machine::virt(Gic::V3)),
        ("stack-pi4", Machine::pi4()),
    ] {
        let mut console = fails(name, machine.argument(lines::EXIT_ON_FAILURE), "stack");
        console.expect("FAULT in EL2: data abort", seconds(60));
        console.expect("the stack overflowed into its guard page", seconds(60));
        reports(&mut console);
        assert_eq!(console.expect_exit(seconds(60)), lines::FAILURE_CODE);
    }
}

#[test]
fn an_access_to_nothing() {
    let mut console = fails("fault-data", Machine::virt(Gic::V3), "data");
    console.expect("FAULT in EL2: data abort", seconds(60));
    reports(&mut console);
}

/// No failure at all: the hypervisor copies, moves and fills as it should.
#[test]
fn bytes_are_what_they_should_be() {
    for (name, machine) in [
        ("bytes-v3", Machine::virt(Gic::V3)),
        ("bytes-pi4", Machine::pi4()),
    ] {
        let mut console = fails(name, machine, "bytes");
        console.expect("bytes: 0 times not what they should be", seconds(120));
    }
}

/// W^X: code is not written, data is not executed.
#[test]
fn code_is_not_written() {
    let mut console = fails("fault-write-code", Machine::virt(Gic::V3), "write-code");
    console.expect("FAULT in EL2: data abort", seconds(60));
}

#[test]
fn data_is_not_executed() {
    let mut console = fails("fault-execute", Machine::virt(Gic::V3), "execute-data");
    console.expect("FAULT in EL2: instruction abort", seconds(60));
}

#[test]
fn a_failure_may_power_off() {
    let machine = Machine::virt(Gic::V3).argument("on-panic=poweroff");
    let mut console = fails("panic-poweroff", machine, "panic");
    assert_eq!(console.expect_exit(seconds(60)), 0);
}

/// The same build without the argument is an ordinary one.
#[test]
fn nothing_fails_unasked() {
    let hello = Guest::hello("hello").boot_arguments("period=20ms count=2");
    let bundle = Bundle::new("no-fault").guest(hello).write();
    let machine = Machine::virt(Gic::V3).image(Image::Faults).bundle(bundle);
    let mut console = machine.argument(lines::POWER_OFF).start("no-fault");
    console.expect("hello| hello: heartbeat 2", seconds(60));
    assert_eq!(console.expect_exit(seconds(60)), 0);
}
