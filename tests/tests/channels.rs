//! Event channels between guests: what the tree connects works, what it does not is out of reach.

use viaduct_tests::linux::input_to;
use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

/// Boots the guests on each kind of machine, and waits until each has passed its subject.
fn pass(name: &str, guests: &[Guest], passes: &[&str]) {
    for (suffix, machine) in [
        ("v2", Machine::virt(Gic::V2).cpus(1)),
        ("v3", Machine::virt(Gic::V3)),
        ("pi4", Machine::pi4()),
    ] {
        let name = format!("{name}-{suffix}");
        let mut bundle = Bundle::new(&name);
        for guest in guests {
            bundle = bundle.guest(guest.clone());
        }
        let mut console = machine
            .bundle(bundle.write())
            .argument(lines::POWER_OFF)
            .start(&name);
        console.expect_each(passes, seconds(300));
        assert!(console.lines_with("| FAIL").is_empty(), "{name}");
    }
}

/// A guest that the tree connects with nobody reaches nobody.
#[test]
fn strangers_are_out_of_reach() {
    let bad = Guest::probe("bad", "test=reach own=2 others=3");
    pass(
        "reach",
        &[
            // They live on: a guest that has ended is a domain that is not there.
            Guest::hello("first").extra("viaduct,peers = \"third\";"),
            bad,
            Guest::hello("third"),
        ],
        &["bad| PASS reach"],
    );
}

/// `xen,evtchn-v1`: the channel is there from the start, on the ports that the tree says.
#[test]
fn channels_of_the_tree_are_there_from_the_start() {
    let end = |name: &str, port: u32, label: &str, other: &str| {
        Guest::probe(name, &format!("test=channel-fixed port={port}")).extra(&format!(
            "{label}: channel {{ compatible = \"xen,evtchn-v1\"; xen,evtchn = <{port} &{other}>; }};"
        ))
    };
    pass(
        "fixed",
        &[
            end("one", 10, "first", "second"),
            end("two", 1, "second", "first"),
        ],
        &["one| PASS channel-fixed", "two| PASS channel-fixed"],
    );
}

/// `viaduct,peers`: the guests connect by themselves, each with events by the ABI that it has chosen.
fn peers_connect(name: &str, fifo: [&str; 2]) {
    let [one, two] = fifo;
    pass(
        name,
        &[
            Guest::probe("one", &format!("test=channel-peers peer=2 offers=1 {one}")),
            Guest::probe("two", &format!("test=channel-peers peer=1 {two}"))
                .extra("viaduct,peers = \"one\";"),
        ],
        &["one| PASS channel-peers", "two| PASS channel-peers"],
    );
}

#[test]
fn peers_connect_by_themselves() {
    peers_connect("peers", ["", ""]);
}

#[test]
fn peers_connect_by_the_fifo_abi() {
    peers_connect("peers-fifo", ["fifo=1", "fifo=1"]);
}

#[test]
fn peers_connect_by_different_abis() {
    peers_connect("peers-both", ["fifo=1", ""]);
}

/// `VIRQ_DEBUG`, which the operator raises, comes to who has bound it, on each vCPU.
#[test]
fn the_operator_raises_the_debug_interrupt() {
    for (name, machine) in [
        ("virq-v2", Machine::virt(Gic::V2).cpus(1)),
        ("virq-v3", Machine::virt(Gic::V3)),
    ] {
        let bundle = Bundle::new(name)
            .guest(Guest::probe("asks", "test=virq-debug").cpus(2))
            .guest(Guest::hello("has-not").boot_arguments("period=60s"));
        let mut console = machine.bundle(bundle.write()).start(name);
        console.expect("asks| READY virq-debug", seconds(60));
        input_to(&mut console, "the shell");
        // Who has not bound it hears nothing.
        let said = console.operate("virq has-not", seconds(60));
        assert!(said.is_empty(), "{said:?}");
        console.operate("virq asks", seconds(60));
        console.expect_ever("asks| PASS virq-debug", seconds(60));
    }
}
