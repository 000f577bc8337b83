//! Memory at a place that the description names: static memory, direct-mapped guests, and memory that guests share.

use viaduct_tests::linux::{looks_healthy, powers_off, to_shell};
use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

const BEAT: &str = "period=20ms count=2";

/// A guest that has the board's memory at these MiB, and finds itself there if it is direct-mapped.
fn fixed(name: &str, subject: &str, mib: u64, size: u64, more: &str) -> Guest {
    let (start, bytes) = (mib << 20, size << 20);
    Guest::probe(name, subject)
        .memory_mib(size)
        .extra(&format!("xen,static-mem = <{start:#x} {bytes:#x}>; {more}"))
}

/// The probe is linked for 1 GiB: on QEMU's `virt` that is the start of RAM, so the hypervisor lies elsewhere.
fn direct(name: &str, machine: Machine) {
    let subject = "test=direct-map,balloon-under-a-page,grant-map,grant-share,event-ipi,timer-wfi,sgi-self ram=1024";
    let guest = fixed("direct", subject, 1024, 32, "direct-map;").vpl011();
    let bundle = Bundle::new(name)
        .guest(guest)
        .guest(Guest::hello("other").boot_arguments(BEAT));
    let mut console = machine
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("direct| DONE", seconds(300));
    console.expect(lines::ALL_STOPPED, seconds(300));
    assert!(console.lines_with("| FAIL").is_empty(), "{name}");
    assert_eq!(console.lines_with("direct| PASS").len(), 7, "{name}");
}

#[test]
fn a_direct_mapped_guest_on_gicv2() {
    direct("direct-v2", Machine::virt(Gic::V2).load_at(0x5800_0000));
}

#[test]
fn a_direct_mapped_guest_on_gicv3() {
    direct("direct-v3", Machine::virt(Gic::V3).load_at(0x5800_0000));
}

/// Linux goes wherever its memory is. Told that it is direct-mapped, it sets up its buffers for DMA.
#[test]
fn a_direct_mapped_linux_on_the_pi() {
    let linux = Guest::linux("linux")
        .cpus(2)
        .extra("xen,static-mem = <0x10000000 0x10000000>; direct-map;");
    let mut console = to_shell("direct-linux-pi4", Machine::pi4(), linux);
    looks_healthy(&mut console, "linux", 2);
    let ram = console.command("linux", "grep RAM /proc/iomem", seconds(60));
    assert!(ram.iter().any(|line| line.contains("10000000-")), "{ram:?}");
    powers_off(&mut console, "linux");
}

/// Static memory is its guest's alone: another that wants it is left out, and what is dealt out keeps clear of it. All
/// that was dealt out is free in the end.
#[test]
fn static_memory_has_one_owner() {
    let name = "static";
    let bundle = Bundle::new(name)
        .guest(fixed(
            "one",
            "test=balloon-chunks,entry-memory",
            1536,
            32,
            "",
        ))
        .guest(fixed("twin", "test=entry-memory", 1550, 16, ""))
        .guest(Guest::hello("large").memory_mib(400).boot_arguments(BEAT));
    let mut console = Machine::virt(Gic::V3)
        .bundle(bundle.write())
        .argument(lines::POWER_OFF)
        .start(name);
    console.expect("one| DONE", seconds(300));
    console.expect(lines::ALL_STOPPED, seconds(300));
    assert!(console.lines_with("| FAIL").is_empty());
    let refused = console.lines_with("/chosen/twin: xen,static-mem");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("static memory of one"), "{refused:?}");
    let free = console.expect(lines::MEMORY_FREE, seconds(300));
    let numbers: Vec<&str> = free.split_whitespace().collect();
    let at = numbers.iter().position(|word| *word == "of").unwrap();
    let (free, total): (u64, u64) = (
        numbers[at - 1].parse().unwrap(),
        numbers[at + 1].parse().unwrap(),
    );
    assert!(total - free < 16 << 10, "{free} of {total} KiB");
}

/// Two guests count up in turn in a page that both have.
#[test]
fn guests_share_a_page() {
    for (suffix, host, machine) in [
        ("v2", "", Machine::virt(Gic::V2).cpus(1)),
        ("v3", "0 0x70001000", Machine::virt(Gic::V3)),
        ("pi4", "", Machine::pi4()),
    ] {
        let name = format!("shared-{suffix}");
        let guest = |name: &str, subject: &str, at: &str, role: &str| {
            Guest::probe(name, &format!("test=shared-memory {subject}")).extra(&format!(
                "shm {{ compatible = \"xen,domain-shared-memory-v1\"; xen,shm-id = \"mailbox\"; {role}
                 xen,shared-mem = <{host} 0 {at} 0 0x1000>; }};"
            ))
        };
        let one = guest("one", "first=1", "0x60000000", "role = \"owner\";");
        let two = guest("two", "", "0x50200000", "").enhanced(None).vpl011();
        let bundle = Bundle::new(&name).guest(one).guest(two);
        let mut console = machine
            .bundle(bundle.write())
            .argument(lines::POWER_OFF)
            .start(&name);
        console.expect_each(
            &["one| PASS shared-memory", "two| PASS shared-memory"],
            seconds(60),
        );
        console.expect(lines::ALL_STOPPED, seconds(300));
    }
}
