//! gdb's commands that look into a running hypervisor (`tools/gdb/`), in batch mode.

use viaduct_tests::{Bundle, Gic, Guest, Image, Machine, gdb, guest_elf, lines, scratch, seconds};

fn session(name: &str, machine: Machine) {
    let _ = guest_elf("probe");
    let bundle = Bundle::new(name)
        .guest(Guest::hello("hello").boot_arguments("period=100ms"))
        .guest(Guest::probe("spins", "test=spin-all").cpus(2))
        .write();
    let socket = scratch().join(format!("{name}.gdb"));
    let machine = machine
        .image(Image::Debug)
        .bundle(bundle)
        .device(&gdb::listen(&socket).join(" "));
    let mut console = machine.start(name);
    console.expect("spins| BEGIN spin-all", seconds(60));
    console.expect("hello| hello: heartbeat 2 ", seconds(60));

    let probe = gdb::guest_symbols("probe");
    let mut command = gdb::command(&socket, &Image::Debug, &[probe]).expect("files");
    command.args(["-batch", "-nx"]);
    for words in [
        "viaduct domains",
        "viaduct cpus",
        "viaduct vcpus",
        "viaduct vcpu spins 0",
        "viaduct walk spins 0x40080000",
        "viaduct walk spins 0x10",
        "viaduct walk nobody 0",
        "viaduct queues",
        "detach",
    ] {
        command.args(["-ex", &format!("echo \\n= {words}\\n"), "-ex", words]);
    }
    let output = command
        .output()
        .expect("gdb-multiarch, which ./setup installs");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let part = |words: &str| -> String {
        let from = text.split(&format!("= {words}\n")).nth(1).unwrap_or("");
        from.split("\n= ").next().unwrap_or("").to_owned()
    };
    for (words, wanted) in [
        ("viaduct domains", &["hello", "spins", "Running", "2 "][..]),
        ("viaduct cpus", &["CPU 0: EL", "loaded"]),
        (
            "viaduct vcpus",
            &["hello/0", "spins/0", "spins/1", "running"],
        ),
        ("viaduct vcpu spins 0", &["spins/0: ", "pc  0x", "x30 0x"]),
        (
            "viaduct walk spins 0x40080000",
            &["level 1: table 0x", "0x40080000 -> 0x", "MiB, rwx, Normal"],
        ),
        ("viaduct walk spins 0x10", &["0x10: nothing is mapped"]),
        (
            "viaduct queues",
            &["CPU 0: ", " runs; ", " waits", "spins/"],
        ),
    ] {
        let part = part(words);
        for wanted in wanted {
            assert!(
                part.contains(wanted),
                "{words}: no {wanted:?} in {part}\nall: {text}"
            );
        }
    }
    assert!(text.contains("there is no domain nobody"), "{text}");
    // It goes on when gdb has gone.
    console.expect("hello| hello: heartbeat", seconds(60));
    console.expect("hello| hello: heartbeat", seconds(60));
    console.expect_never(&lines::FAILURES);
}

#[test]
fn the_commands_look_into_virt() {
    session("gdb-v3", Machine::virt(Gic::V3).cpus(2));
}
