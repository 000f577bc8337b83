//! Memory at given places: what is taken, and every way to be wrong.

use super::tests::{KERNEL, guest, read_chosen, refusal};
use super::*;
use memory::Pa;

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa::new(start), size).unwrap()
}

#[test]
fn static_memory_is_read_with_the_cells_of_chosen() {
    let more = "xen,static-mem = <0 0x50000000 0 0x1800000>, <0 0x40000000 0 0x200000 0 0x60000000 0 0x600000>;
        direct-map; #address-cells = <1>; #size-cells = <1>;";
    let kernel = KERNEL.replace("0 0x48000000 0 0x10000", "0x48000000 0x10000");
    let (domains, problems) = read_chosen(&guest("good", &format!("{more} {kernel}")));
    assert_eq!(problems, []);
    assert!(domains[0].direct_map);
    assert_eq!(
        domains[0].static_memory,
        [
            range(0x5000_0000, 0x180_0000),
            range(0x4000_0000, 0x20_0000),
            range(0x6000_0000, 0x60_0000)
        ]
    );
}

#[test]
fn wrong_places_leave_the_guest_out() {
    let cases = [
        (
            "direct-map;",
            "direct-map: found no value, expected \"xen,static-mem\" beside it",
        ),
        (
            "xen,static-mem;",
            "expected 1 to 8 ranges, each 2 cell(s) of address and 2",
        ),
        (
            "xen,static-mem = <0x50000000 0x2000000>;",
            "expected 1 to 8 ranges",
        ),
        (
            "xen,static-mem = <0 0x50000000 0 0>;",
            "expected 1 to 8 ranges",
        ),
        (
            "xen,static-mem = <0 0x50000000 0 0x1000000>;",
            "found 0x4000 KiB, expected ranges of 0x8000 KiB, as \"memory\" says",
        ),
        (
            "xen,static-mem = <0 0x50100000 0 0x2000000>;",
            "found 0x50100000..0x52100000, expected start and size multiples of 2 MiB",
        ),
        (
            "xen,static-mem = <0 0x7f000000 0 0x2000000>;",
            "found 0x7f000000..0x81000000, expected a range inside the board's RAM",
        ),
        (
            "xen,static-mem = <0 0x40200000 0 0x2000000>;",
            "expected a range clear of 0x40200000..0x40300000, which is taken",
        ),
        (
            "xen,static-mem = <0 0x50000000 0 0x1000000 0 0x50000000 0 0x1000000>;",
            "expected a range clear of 0x50000000..0x51000000, another of its own",
        ),
        (
            "xen,static-mem = <0 0x47000000 0 0x2000000>;",
            "reg: found 0x48000000..0x48010000, expected a range clear of 0x47000000..0x49000000, static memory of bad",
        ),
    ];
    for (more, expected) in cases {
        let told = refusal(&guest("bad", &format!("{more} {KERNEL}")));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?} for {more}");
    }
}

#[test]
fn nothing_is_taken_twice() {
    let kernel = |at: &str| KERNEL.replace("0x48000000", at);
    let first = "xen,static-mem = <0 0x50000000 0 0x2000000>;";
    let first = guest("first", &format!("{first} {}", kernel("0x60000000")));
    let cases = [
        (
            guest(
                "bad",
                &format!("xen,static-mem = <0 0x51e00000 0 0x2000000>; {KERNEL}"),
            ),
            "/chosen/bad: xen,static-mem: found 0x51e00000..0x53e00000, expected a range clear of 0x50000000..0x52000000, static memory of first",
        ),
        (
            guest(
                "bad",
                &format!("xen,static-mem = <0 0x5fe00000 0 0x2000000>; {KERNEL}"),
            ),
            "expected a range clear of 0x60000000..0x60010000, a module of first",
        ),
        (
            guest("bad", &kernel("0x51fff000")),
            "reg: found 0x51fff000..0x5200f000, expected a range clear of 0x50000000..0x52000000, static memory of first",
        ),
    ];
    for (second, expected) in cases {
        let (domains, problems) = read_chosen(&format!("{first} {second}"));
        assert_eq!(domains.len(), 1);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let told = problems[0].to_string();
        assert!(told.contains(expected), "{told}");
    }
}
