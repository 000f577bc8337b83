//! The harness itself, with a bare Linux in the hypervisor's place.

use viaduct_tests::{Gic, Image, Machine, linux_initramfs, linux_kernel, seconds};

fn bare_linux() -> Machine {
    Machine::virt(Gic::V3)
        .image(Image::File(linux_kernel()))
        .bundle(linux_initramfs())
        .argument("console=ttyAMA0")
        .argument("quiet")
        .without_el2()
}

#[test]
fn commands_are_typed_answered_and_ended() {
    let mut console = bare_linux().start("harness-commands");
    console.expect("This is a busybox shell", seconds(300));
    let answer = console.command("", "nproc; echo one two", seconds(60));
    assert_eq!(answer, ["2", "one two"]);
    console.send("poweroff -f\n");
    assert_eq!(console.expect_exit(seconds(60)), 0);
}

#[test]
fn an_image_is_loaded_where_the_test_says() {
    let mut console = bare_linux().load_at(0x4420_0000).start("harness-load");
    console.expect("This is a busybox shell", seconds(300));
    let code = console.command("", "grep -i 'kernel code' /proc/iomem", seconds(60));
    assert!(code[0].trim_start().starts_with("442"), "{code:?}");
}

#[test]
#[should_panic(expected = "the time is over while waiting for \"no such line\"")]
fn a_wait_has_an_end() {
    let mut console = bare_linux().start("harness-deadline");
    console.expect("no such line", seconds(1));
}
