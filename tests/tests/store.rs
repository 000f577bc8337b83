//! Xenstore: the probe's subjects, guests that share a node, Linux and Debian's own tools.

use viaduct_tests::{Bundle, Console, Gic, Guest, Image, Machine, lines, seconds};

/// A guest with a xenstore.
fn with_store(guest: Guest) -> Guest {
    guest.enhanced(Some("enabled"))
}

fn finishes(console: &mut Console, name: &str) {
    console.expect_ever(&format!("{name}| DONE"), seconds(300));
    let failed = console.lines_with(&format!("{name}| FAIL"));
    assert!(failed.is_empty(), "{failed:#?}");
}

fn probe(name: &str, machine: Machine, guests: &[Guest]) -> Console {
    let mut bundle = Bundle::new(name);
    for guest in guests {
        bundle = bundle.guest(guest.clone());
    }
    machine
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name)
}

fn passes(name: &str, machine: Machine) {
    let guest = with_store(Guest::probe("probe", "test=store"));
    let mut console = probe(name, machine, &[guest]);
    finishes(&mut console, "probe");
    assert_eq!(console.lines_with("probe| PASS store-").len(), 7);
    console.expect(&lines::stopped("probe", "poweroff"), seconds(60));
}

#[test]
fn gicv3() {
    passes("store-v3", Machine::virt(Gic::V3).cpus(1));
}

#[test]
fn gicv2() {
    passes("store-v2", Machine::virt(Gic::V2));
}

#[test]
fn raspi4b() {
    passes("store-pi4", Machine::pi4());
}

#[test]
fn gicv3_debug() {
    passes("store-debug", Machine::virt(Gic::V3).image(Image::Debug));
}

#[test]
fn only_who_asks_for_it_has_one() {
    let guests = [
        Guest::probe("without", "test=store-none"),
        Guest::probe("none", "test=store-none")
            .enhanced(Some("disabled"))
            .vpl011(),
        Guest::probe("legacy", "test=store-late").enhanced(Some("legacy")),
    ];
    for (name, guests, who) in [
        ("store-who", &guests[..2], &["without", "none"][..]),
        ("store-late", &guests[2..], &["legacy"]),
    ] {
        let mut console = probe(name, Machine::virt(Gic::V3), guests);
        for guest in who {
            finishes(&mut console, guest);
        }
    }
}

/// One sees of the other what is shown and no more, while a third does what it can to the store.
#[test]
fn guests_share_what_they_show_beside_a_hostile_one() {
    for (name, cpus) in [("store-share-1", 1), ("store-share-2", 2)] {
        let hostile = ["store-hostile,store-errors"; 20].join(",");
        let guests = [
            with_store(Guest::probe("owner", "test=store-owner peer=2"))
                .extra("viaduct,peers = \"reader\";"),
            with_store(Guest::probe("reader", "test=store-reader peer=1")),
            with_store(Guest::probe("hostile", &format!("test={hostile}"))),
        ];
        let mut console = probe(name, Machine::virt(Gic::V3).cpus(cpus), &guests);
        finishes(&mut console, "reader");
        finishes(&mut console, "hostile");
        assert!(console.lines_with("owner| FAIL").is_empty());
    }
}

/// A guest shows its nodes to one that the tree does not connect it with: in vain.
#[test]
fn strangers_see_nothing_of_each_other() {
    for (name, machine) in [
        ("store-strangers-v2", Machine::virt(Gic::V2)),
        ("store-strangers-v3", Machine::virt(Gic::V3).cpus(1)),
    ] {
        let guests = [
            with_store(Guest::probe("owner", "test=store-owner peer=2")),
            with_store(Guest::probe("hostile", "test=store-stranger peer=1")),
        ];
        let mut console = probe(name, machine, &guests);
        finishes(&mut console, "hostile");
        assert_eq!(console.lines_with("hostile| PASS store-stranger").len(), 1);
        assert!(console.lines_with("owner| FAIL").is_empty());
    }
}

/// Linux's own bus comes up, and Debian's tools talk to the store through it.
#[test]
fn linux_and_debians_tools() {
    let linux = with_store(Guest::linux("linux").cpus(2))
        .extra("viaduct,console-focus; viaduct,peers = \"owner\";");
    let other = with_store(Guest::probe("owner", "test=store-owner peer=1"));
    let mut console = probe("store-linux", Machine::virt(Gic::V3), &[linux, other]);
    console.expect("linux| This is a busybox shell", seconds(300));
    let mut ask = |command: &str| console.command("linux", command, seconds(60));
    ask("dmesg -n 1");
    let log = ask("dmesg");
    let has = |text: &str| log.iter().any(|line| line.contains(text));
    for bad in ["WARNING", "xenbus: failed", "xenbus_dev_error", "Error"] {
        assert!(!has(bad), "{bad} in {log:#?}");
    }
    // hvc0 has its interrupt by the bus, and the bus its own.
    let interrupts = ask("grep -c -E 'hvc_console|xenbus' /proc/interrupts");
    assert_eq!(interrupts, ["2"]);
    assert_eq!(ask("ls /dev/xen/xenbus"), ["/dev/xen/xenbus"]);
    assert_eq!(
        ask("xenstore-read domid name control/feature-poweroff"),
        ["1", "linux", "1"]
    );
    assert_eq!(ask("xenstore-read memory/target"), ["262144"]);
    let all = ask("xenstore-ls /local/domain/1");
    for line in ["name = \"linux\"", "domid = \"1\"", "control = \"\""] {
        assert!(
            all.iter().any(|found| found.contains(line)),
            "{line} in {all:#?}"
        );
    }
    assert_eq!(
        ask("xenstore-write data/a/b one && xenstore-read data/a/b"),
        ["one"]
    );
    assert_eq!(ask("xenstore-list data/a"), ["b"]);
    // A watch fires once when it is set.
    let watched = "xenstore-watch -n 3 data/w > /tmp/w & \
                   for i in $(seq 60); do [ -s /tmp/w ] && break; sleep 1; done; \
                   xenstore-write data/w/x 1; xenstore-write data/w/y 2; wait; cat /tmp/w";
    let events = ask(watched);
    for path in ["data/w", "data/w/x", "data/w/y"] {
        assert!(
            events.iter().any(|line| line == path),
            "{path} in {events:#?}"
        );
    }
    assert_eq!(
        ask("xenstore-rm data/a; xenstore-exists data/a || echo gone"),
        ["gone"]
    );
    let denied = ask(
        "xenstore-write name x 2>&1; xenstore-ls / 2>&1; xenstore-read /local/domain/2/data/hidden 2>&1; true",
    );
    assert!(denied.len() >= 3, "{denied:#?}");
    assert_eq!(ask("xenstore-read name"), ["linux"]);
    // The neighbour's node, which is shown to this one.
    let shown = ask("xenstore-read /local/domain/2/data/shown");
    assert!(shown[0].parse::<u32>().is_ok(), "{shown:?}");
    let large = "x=$(seq -s ' ' 450); xenstore-write data/long \"$x\"; [ \"$(xenstore-read data/long)\" = \"$x\" ] && echo same";
    assert_eq!(ask(large), ["same"]);
    console.send("poweroff\n");
    console.expect(&lines::stopped("linux", "poweroff"), seconds(60));
}
