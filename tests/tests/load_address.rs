//! One image, anywhere: every multiple of 64 KiB will do.

use viaduct_tests::{Bundle, Gic, Guest, Machine, lines, seconds};

fn boots_at(name: &str, address: u64) {
    let hello = Guest::hello("hello").boot_arguments("period=20ms count=2");
    let bundle = Bundle::new(name).guest(hello).write();
    let machine = Machine::virt(Gic::V3)
        .bundle(bundle)
        .argument(lines::POWER_OFF);
    let mut console = machine.load_at(address).start(name);
    console.expect(lines::BANNER, seconds(60));
    console.expect("hello| hello: heartbeat 2", seconds(60));
    console.expect(lines::ALL_STOPPED, seconds(300));
    assert_eq!(console.expect_exit(seconds(60)), 0);
}

#[test]
fn the_next_64_kib() {
    boots_at("load-40010000", 0x4001_0000);
}

#[test]
fn where_a_pi_would_put_it() {
    boots_at("load-40080000", 0x4008_0000);
}

#[test]
fn across_a_2_mib_border() {
    boots_at("load-441f0000", 0x441f_0000);
}

#[test]
fn high_in_ram() {
    boots_at("load-7ff00000", 0x7f00_0000);
}

#[test]
#[ignore = "long"]
fn sixty_four_places() {
    // QEMU's own first instructions lie at the start of RAM.
    for step in 1..=64 {
        let address = 0x4000_0000 + step * 0x31_0000;
        if !(0x4ee0_0000..0x5a00_0000).contains(&address) {
            boots_at(&format!("load-{address:x}"), address);
        }
    }
}

#[test]
fn elsewhere_it_says_why_not() {
    let machine = Machine::virt(Gic::V3).load_at(0x4000_1000);
    let mut console = machine.start("load-40001000");
    console.expect("multiple of 64 KiB", seconds(60));
}
