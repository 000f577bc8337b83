//! Static shared memory: what is taken, and every way to be wrong.

use super::tests::{KERNEL, guest, read_chosen, refusal};
use super::*;
use memory::Pa;

fn host(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa::new(start), size).unwrap()
}

fn shm(name: &str, properties: &str) -> String {
    format!("{name} {{ compatible = \"xen,domain-shared-memory-v1\"; {properties} }};")
}

/// A guest whose module is its own.
fn with(name: &str, nodes: &str) -> String {
    guest(name, &format!("{KERNEL} {nodes}"))
}

#[test]
fn owner_and_borrower() {
    let place = "xen,shm-id = \"mailbox\"; xen,shared-mem = <0 0x70001000 0 0x90000000 0 0x3000>;";
    let other = "xen,shm-id = \"ring\"; xen,shared-mem = <0 0x80000000 0 0x1000>;";
    let first = format!(
        "{} {}",
        shm("a", &format!("role = \"owner\"; {place}")),
        shm("b", other)
    );
    let place = place.replace("0x90000000", "0xa0000000");
    let second = format!("{} {}", shm("x", &place), shm("y", other));
    let (domains, problems) =
        read_chosen(&format!("{} {}", with("one", &first), with("two", &second)));
    assert_eq!(problems, []);
    let [mailbox, ring] = &domains[0].shared[..] else {
        panic!("{:?}", domains[0].shared);
    };
    assert_eq!(
        (&*mailbox.node, &*mailbox.id, mailbox.owner),
        ("a", "mailbox", true)
    );
    assert_eq!(mailbox.host, Some(host(0x7000_1000, 0x3000)));
    assert_eq!(mailbox.guest.start(), Ipa::new(0x9000_0000));
    assert_eq!((ring.host, ring.guest.size()), (None, 0x1000));
    assert_eq!(domains[1].shared[0].guest.start(), Ipa::new(0xa000_0000));
    assert!(!domains[1].shared[0].owner);
    let all = crate::plan::shared_memory(&domains);
    assert_eq!(all.len(), 2);
    assert!(crate::plan::kept(&domains).contains(&host(0x7000_1000, 0x3000)));
}

#[test]
fn wrong_windows_leave_the_guest_out() {
    let id = "xen,shm-id = \"a\";";
    let one = |place: &str| shm("s", &format!("{id} xen,shared-mem = <{place}>;"));
    let two = |first: &str, second: &str| {
        let second = format!("xen,shm-id = \"b\"; xen,shared-mem = <{second}>;");
        format!("{} {}", one(first), shm("t", &second))
    };
    let cases = [
        (
            shm("s", "xen,shared-mem = <0 0x80000000 0 0x1000>;"),
            "s: xen,shm-id: found nothing",
        ),
        (
            shm("s", id),
            "s: xen,shared-mem: found nothing, expected the guest's address",
        ),
        (
            shm(
                "s",
                "xen,shm-id = \"sixteen-letters-\"; xen,shared-mem = <0 0x80000000 0 0x1000>;",
            ),
            "expected one string of 1 to 15 bytes",
        ),
        (
            shm(
                "s",
                &format!("{id} role = \"both\"; xen,shared-mem = <0 0x80000000 0 0x1000>;"),
            ),
            "role: found \"both\", expected \"owner\" or \"borrower\"",
        ),
        (
            one("0x80000000 0x1000"),
            "expected 2 cell(s) of the board's address, which may be",
        ),
        (
            one("0 0x80000000 0 0"),
            "expected a size above 0, and all of it multiples of 4 KiB",
        ),
        (one("0 0x80000800 0 0x1000"), "multiples of 4 KiB"),
        (
            one("0 0x70000800 0 0x80000000 0 0x1000"),
            "multiples of 4 KiB",
        ),
        (
            one("0xff 0xfffff000 0 0x2000"),
            "expected ends within 40 bits",
        ),
        (
            one("0 0x41fff000 0 0x2000"),
            "expected addresses clear of 0x40000000..0x42000000, the guest's RAM",
        ),
        (
            one("0 0x7ffff000 0 0x90000000 0 0x2000"),
            "found 0x7ffff000..0x80001000, expected a range inside the board's RAM",
        ),
        (
            one("0 0x402ff000 0 0x90000000 0 0x2000"),
            "expected a range clear of 0x40200000..0x40300000, which is taken",
        ),
        (
            one("0 0x4800f000 0 0x90000000 0 0x2000"),
            "expected a range clear of 0x48000000..0x48010000, a module of bad",
        ),
        (
            two("0 0x80000000 0 0x2000", "0 0x80001000 0 0x1000"),
            "t: xen,shared-mem: found 0x80001000..0x80002000, expected addresses clear of 0x80000000..0x80002000, where s is",
        ),
        (
            two(
                "0 0x60000000 0 0x80000000 0 0x2000",
                "0 0x60001000 0 0x90000000 0 0x1000",
            ),
            "expected a range clear of 0x60000000..0x60002000, shared memory of bad",
        ),
        (
            format!(
                "{} {}",
                one("0 0x80000000 0 0x1000"),
                one("0 0x90000000 0 0x1000")
            ),
            "xen,shm-id: found \"a\", expected an id that s does not have",
        ),
    ];
    for (nodes, expected) in cases {
        let told = refusal(&with("bad", &nodes));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?} for {nodes}");
    }
}

#[test]
fn the_same_id_is_the_same_memory() {
    let first = "role = \"owner\"; xen,shm-id = \"a\"; xen,shared-mem = <0 0x60000000 0 0x80000000 0 0x2000>;";
    let first = with("first", &shm("s", first));
    let cases = [
        (
            "role = \"owner\"; xen,shm-id = \"a\"; xen,shared-mem = <0 0x60000000 0 0x80000000 0 0x2000>;",
            "role: found \"owner\", expected \"borrower\": first is the owner",
        ),
        (
            "xen,shm-id = \"a\"; xen,shared-mem = <0 0x60000000 0 0x80000000 0 0x1000>;",
            "found memory at 0x60000000..0x60001000, expected memory at 0x60000000..0x60002000, as first has it",
        ),
        (
            "xen,shm-id = \"a\"; xen,shared-mem = <0 0x80000000 0 0x2000>;",
            "found 0x2000 bytes anywhere, expected memory at 0x60000000..0x60002000, as first",
        ),
        (
            "xen,shm-id = \"b\"; xen,shared-mem = <0 0x60001000 0 0x80000000 0 0x2000>;",
            "expected a range clear of 0x60000000..0x60002000, shared memory of first",
        ),
    ];
    for (second, expected) in cases {
        let second = with("second", &shm("s", second));
        let (domains, problems) = read_chosen(&format!("{first} {second}"));
        assert_eq!(domains.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains(expected), "{problems:?}");
    }
    // Nor may a module, or static memory, lie there.
    for bad in [
        guest("bad", &KERNEL.replace("0x48000000", "0x60001000")),
        guest(
            "bad",
            &format!("xen,static-mem = <0 0x5f000000 0 0x2000000>; {KERNEL}"),
        ),
    ] {
        let (domains, problems) = read_chosen(&format!("{first} {bad}"));
        assert_eq!(domains.len(), 1);
        let expected = "a range clear of 0x60000000..0x60002000, shared memory of first";
        assert!(problems[0].to_string().contains(expected), "{problems:?}");
    }
}
