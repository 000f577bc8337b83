//! What a Linux guest is asked at its busybox shell, and what a healthy one answers. `guest` is the
//! name that its lines carry; the console's input must be its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::{Bundle, Console, Guest, Machine, lines, scratch, seconds};

/// Signs of trouble in the kernel's messages.
const TROUBLE: [&str; 9] = [
    "BUG",
    "WARNING",
    "Call trace",
    "Oops",
    "detected stalls",
    "self-detected stall",
    "lockup",
    "blocked for more than",
    "clocksource: timekeeping watchdog",
];

/// What a kernel may say at level `warning` or above, and why. Anything else is a finding.
const ALLOWED: [(&str, &str); 3] = [
    (
        "KASLR disabled due to lack of seed",
        "Viaduct has no random numbers to give",
    ),
    ("Grant table initialized", "printed without a level"),
    (
        "hrtimer: interrupt took",
        "its vCPU waited for the CPU meanwhile",
    ),
];

/// Boots one Linux and a heartbeat beside it, and waits for the shell of `linux`.
#[must_use]
pub fn to_shell(name: &str, machine: Machine, linux: Guest) -> Console {
    let bundle = Bundle::new(name)
        .guest(linux.extra("viaduct,console-focus;"))
        .guest(Guest::hello("hello"))
        .write();
    let mut console = machine
        .bundle(bundle)
        .argument(lines::POWER_OFF)
        .start(name);
    at_the_shell(&mut console, "linux");
    console
}

/// Waits for the shell. From then on the kernel keeps its messages out of the commands' output.
#[track_caller]
pub fn at_the_shell(console: &mut Console, guest: &str) {
    console.expect(&format!("{guest}| This is a busybox shell"), seconds(300));
    console.command(guest, "dmesg -n 1", seconds(60));
}

/// All that can be asked of a Linux in a few seconds.
///
/// # Panics
/// When an answer is not that of a healthy kernel with `cpus` CPUs on Xen's interfaces.
#[track_caller]
pub fn looks_healthy(console: &mut Console, guest: &str, cpus: u32) {
    assert_eq!(
        console.command(guest, "nproc", seconds(60)),
        [cpus.to_string()]
    );
    assert_eq!(
        console.command(guest, "cat /sys/hypervisor/type", seconds(60)),
        ["xen"]
    );
    time_passes(console, guest);
    // Memory is memory.
    let sums = console.command(
        guest,
        "dd if=/dev/urandom of=/tmp/a bs=1M count=16 2>/dev/null; cp /tmp/a /tmp/b; cmp /tmp/a /tmp/b && echo same",
        seconds(60),
    );
    assert_eq!(sums, ["same"]);
    computes(console, guest, cpus);
    ticks_everywhere(console, guest, cpus);
    has_no_complaint(console, guest);
}

/// A second is neither half nor two.
#[track_caller]
fn time_passes(console: &mut Console, guest: &str) {
    let uptime = |console: &mut Console| {
        let answer = console.command(guest, "cut -d' ' -f1 /proc/uptime", seconds(60));
        answer
            .first()
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let before = uptime(console);
    console.command(guest, "sleep 2", seconds(60));
    let passed = uptime(console) - before;
    assert!((1.9..20.0).contains(&passed), "sleep 2 took {passed} s");
}

/// More processes than CPUs compute a number in which a single lost bit of a floating-point
/// register would show.
#[track_caller]
pub fn computes(console: &mut Console, guest: &str, cpus: u32) {
    const STEPS: u32 = 30_000;
    let expected = (0..STEPS).fold(0.5_f64, |x, _| 3.9 * x * (1.0 - x));
    let processes = cpus + 1;
    let command = format!(
        "for n in $(seq {processes}); do awk 'BEGIN {{ x = 0.5; for (i = 0; i < {STEPS}; i++) x = 3.9 * x * (1 - x); \
         printf \"x=%.17g\\n\", x }}' & done; wait"
    );
    let answer = console.command(guest, &command, seconds(300));
    let found: Vec<f64> = answer
        .iter()
        .filter_map(|line| line.strip_prefix("x=")?.parse().ok())
        .collect();
    assert!(
        found.len() == processes as usize
            && found.iter().all(|x| x.to_bits() == expected.to_bits()),
        "{processes} times {expected:.17} was expected: {answer:#?}"
    );
}

/// The timer's interrupt comes on every CPU that has something to do.
///
/// # Panics
/// When there is a CPU on which it does not.
#[track_caller]
pub fn ticks_everywhere(console: &mut Console, guest: &str, cpus: u32) {
    let timer = |line: &str| line.ends_with("arch_timer");
    let before = interrupts(console, guest, cpus, timer);
    let load =
        format!("for n in $(seq {cpus}); do timeout 2 sh -c 'while :; do :; done' & done; wait");
    let mut ticks = Vec::new();
    // Two seconds are few where the emulated CPUs stand still for a part of them.
    for _ in 0..5 {
        console.command(guest, &load, seconds(60));
        let after = interrupts(console, guest, cpus, timer);
        ticks = before.iter().zip(&after).map(|(b, a)| a - b).collect();
        if ticks.iter().all(|ticks| *ticks >= 20) {
            return;
        }
    }
    console.fail(&format!("{guest}: {ticks:?} ticks of its CPUs under load"));
}

/// CPUs but the first go off and come on again, `rounds` times, while there is more to do than
/// CPUs to do it; each CPU gets interrupts from the others meanwhile.
///
/// # Panics
/// When a CPU stays as it was, or hears nothing.
#[track_caller]
pub fn cpus_come_and_go(console: &mut Console, guest: &str, cpus: u32, rounds: u32) {
    let between_cpus = |line: &str| line.starts_with("IPI");
    let before = interrupts(console, guest, cpus, between_cpus);
    let last = cpus - 1;
    let command = format!(
        "for n in $(seq {cpus}); do (while :; do :; done) & done; \
         for n in $(seq {rounds}); do for c in $(seq {last}); do for on in 0 1; do \
         echo $on > /sys/devices/system/cpu/cpu$c/online && echo now $(nproc); done; done; done; kill $(jobs -p)"
    );
    let answer = console.command(guest, &command, seconds(300));
    let numbers: Vec<&str> = answer
        .iter()
        .filter_map(|line| line.strip_prefix("now "))
        .collect();
    let one_time = [last.to_string(), cpus.to_string()];
    let expected = one_time.iter().cycle().take((rounds * last * 2) as usize);
    assert!(numbers.iter().eq(expected), "{answer:#?}");
    let after = interrupts(console, guest, cpus, between_cpus);
    for (cpu, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(
            after > before,
            "CPU {cpu} of {guest} heard nothing of the others"
        );
    }
}

/// How often the interrupts in whose line `wanted` finds what it looks for came, on each CPU.
#[track_caller]
fn interrupts(
    console: &mut Console,
    guest: &str,
    cpus: u32,
    wanted: impl Fn(&str) -> bool,
) -> Vec<u64> {
    let table = console.command(guest, "cat /proc/interrupts", seconds(60));
    // A line of more than 80 columns is there twice if another guest wrote while it was unfinished: the last one is whole.
    let lines: BTreeMap<&str, &str> = table
        .iter()
        .map(|line| line.trim())
        .filter(|line| wanted(line))
        .filter_map(|line| line.split_once(':'))
        .collect();
    let mut sums = vec![0; cpus as usize];
    for (name, counts) in lines {
        for (sum, count) in sums.iter_mut().zip(counts.split_whitespace()) {
            *sum += count
                .parse::<u64>()
                .unwrap_or_else(|_| panic!("no number in {name}:{counts:?}"));
        }
    }
    sums
}

/// The kernel found Xen, and complains of nothing that it may not complain of.
///
/// # Panics
/// With the message.
#[track_caller]
pub fn has_no_complaint(console: &mut Console, guest: &str) {
    let log = console.command(guest, "dmesg -r", seconds(60));
    assert!(
        log.iter().any(|line| line.contains("Xen 4.")),
        "Linux did not find Xen: {log:#?}"
    );
    for line in &log {
        // The number is level + 8 * facility, the kernel's facility being 0.
        let level = line
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .and_then(|(number, _)| number.parse::<u32>().ok());
        let complaint = level.is_some_and(|level| level <= 4)
            && !ALLOWED.iter().any(|(text, _)| line.contains(text));
        let trouble = TROUBLE.iter().any(|text| line.contains(text));
        assert!(!complaint && !trouble, "{guest}: {line}\n{log:#?}");
    }
}

/// Hands the input on until `guest` has it.
///
/// # Panics
/// When it never does.
#[track_caller]
pub fn input_to(console: &mut Console, guest: &str) {
    const MOST_GUESTS: usize = 16;
    for _ in 0..MOST_GUESTS {
        console.send("\x01\x01\x01");
        let line = console.expect_that("who gets the input", seconds(60), |line| {
            line.contains("*** input goes to ") && line.ends_with(')')
        });
        if line.contains(&format!("input goes to {guest} ")) {
            return;
        }
    }
    console.fail(&format!("{guest} never got the input"));
}

/// It has moved to the FIFO events, its xenbus is up and served by the store, and console and bus have their interrupts.
///
/// # Panics
/// When something of that is missing. The guest must have a xenstore.
#[track_caller]
pub fn uses_all_of_xen(console: &mut Console, guest: &str) {
    let log = console.command(guest, "dmesg", seconds(60));
    let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("Using FIFO-based ABI"), 1, "{log:#?}");
    let failed = count("xenbus: failed") + count("xenbus_dev_error");
    assert_eq!(failed, 0, "{log:#?}");
    let interrupts = "grep -c -E 'hvc_console|xenbus' /proc/interrupts";
    assert_eq!(console.command(guest, interrupts, seconds(60)), ["2"]);
    let asked = "xenstore-write data/probe up && xenstore-read name data/probe";
    assert_eq!(console.command(guest, asked, seconds(60)), [guest, "up"]);
}

/// A file system of 16 MiB with one file in it.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn file_system(name: &str) -> PathBuf {
    let (tree, image) = (
        scratch().join(format!("{name}.files")),
        scratch().join(format!("{name}.ext4")),
    );
    let _ = std::fs::remove_file(&image);
    let written = std::fs::create_dir_all(&tree)
        .and_then(|()| std::fs::write(tree.join("greeting"), "a word from the disk\n"));
    if let Err(error) = written {
        panic!("{}: {error}", tree.display());
    }
    let made = Command::new("/sbin/mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .args([&tree, &image])
        .arg("16M")
        .status();
    assert!(made.is_ok_and(|status| status.success()), "mke2fs");
    image
}

/// Loads the drivers, waits for the disk, which they look for by themselves, mounts, reads and writes it.
#[track_caller]
pub fn uses_its_disk(console: &mut Console, guest: &str, disk: &str) {
    let load = "for m in $(cat /modules/order); do insmod /modules/$m.ko || echo no $m; done";
    let said = console.command(guest, load, seconds(300));
    assert!(said.iter().all(|line| !line.contains("no ")), "{said:?}");
    let there = format!("for i in $(seq 60); do [ -b {disk} ] && break; sleep 1; done");
    console.command(guest, &there, seconds(300));
    let mount = format!("mkdir -p /mnt && mount -t ext4 {disk} /mnt && cat /mnt/greeting");
    let said = console.command(guest, &mount, seconds(60));
    assert!(
        said.iter()
            .any(|line| line.contains("a word from the disk")),
        "{said:?}"
    );
    let write =
        "dd if=/dev/urandom of=/mnt/data bs=64k count=64 2>/dev/null; sync; md5sum < /mnt/data";
    let before = console.command(guest, write, seconds(60));
    let again = format!("umount /mnt && mount -t ext4 {disk} /mnt && md5sum < /mnt/data");
    let after = console.command(guest, &again, seconds(60));
    assert_eq!(before, after, "what was written is read");
}

/// Switches it off: it ends with that reason, and the heartbeat beside it goes on.
#[track_caller]
pub fn powers_off(console: &mut Console, guest: &str) {
    console.send("poweroff\n");
    console.expect(&lines::stopped(guest, "poweroff"), seconds(60));
    console.expect("hello| hello: heartbeat", seconds(60));
    console.expect("hello| hello: heartbeat", seconds(60));
}
