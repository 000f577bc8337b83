//! What operations cost, in instructions: one CPU under `-icount shift=0`, where a nanosecond of
//! virtual time is one instruction, the same every run. Path lengths are not cycles, but they repeat
//! to the digit.

mod baseline;
mod report;
pub mod stretch;
mod trace;

pub use baseline::{Baseline, ROWS, Row, row};
pub use report::{Column, json, table};
pub use trace::{POINT, RECORD, RECORDED, Recorded, added, operations_traced, operations_untraced};

use crate::bundle::Bundle;
use crate::console::seconds;
use crate::guest::Guest;
use crate::images::{self, Image};
use crate::lines;
use crate::machine::{Gic, Machine};

/// Instructions per operation, the guest's own loop included, by name.
pub type Costs = Vec<(String, f64)>;

/// Measures everything.
#[must_use]
pub fn measure(gic: Gic) -> Costs {
    let mut costs = operations(gic);
    let (one, three) = (boot(gic, 1, 16), boot(gic, 3, 16));
    let mut push = |name: &str, cost| costs.push((name.to_owned(), cost));
    push("boot-16-mib", one.instructions);
    push(
        "boot-16-mib-more",
        (three.instructions - one.instructions) / 2.0,
    );
    for (name, guests, mib) in [
        ("boot-16-guests", 16, 16),
        ("boot-64-guests", 64, 16),
        ("boot-250-of-4-mib", 250, 4),
    ] {
        push(name, boot(gic, guests, mib).instructions);
    }
    let most = restarts(gic, 10, false).into_iter().reduce(f64::max);
    push("restart-16-mib", most.unwrap_or(f64::NAN));
    push("wake-of-2", wake(gic, 1));
    push("wake-of-250", wake(gic, 249));
    push("memory-kib", one.memory_kib);
    // The least that a tree can say is 1 KiB.
    let least = memory_kib(gic, "least", 3, |guest| {
        guest.extra("viaduct,scroll-back = <1>;")
    });
    let scroll_back = (three.memory_kib - least) / 3.0 + 1.0;
    let more = (three.memory_kib - one.memory_kib) / 2.0;
    push("memory-kib-more", more - scroll_back);
    push("memory-kib-scroll-back", scroll_back);
    let eight = memory_kib(gic, "vcpus", 1, |guest| guest.cpus(8));
    push("memory-kib-more-vcpu", (eight - one.memory_kib) / 7.0);
    let image = std::fs::metadata(Image::Release.path());
    push(
        "image-kib",
        image.map_or(f64::NAN, |file| file.len() as f64 / 1024.0),
    );
    costs
}

/// What the probe's `count` says.
#[must_use]
pub fn operations(gic: Gic) -> Costs {
    operations_of(gic, Image::Release, "")
}

/// The same on another image, or with other boot arguments.
fn operations_of(gic: Gic, image: Image, arguments: &str) -> Costs {
    let kind = format!("{image:?}{}", arguments.replace('=', "-"));
    let name = format!("cost-{gic:?}-{kind}").to_lowercase();
    let bundle = Bundle::new(&name)
        .guest(Guest::probe("probe", "test=count,latency").cpus(2).vpl011())
        .write();
    let machine = Machine::virt(gic).image(image).argument(arguments);
    counts(machine.bundle(bundle), &name)
}

/// The same guest as Xen's, described in the host tree as Xen wants it.
///
/// # Errors
/// Why there is no such Xen.
pub fn operations_on_xen(gic: Gic, version: &str) -> Result<Costs, String> {
    let name = format!("cost-xen-{version}-{gic:?}").to_lowercase();
    let guest = Guest::probe("probe", "test=count,latency console=uart loops=2000")
        .kernel(images::guest_image("probe"))
        .cpus(2)
        .vpl011();
    let mut costs = counts(xen(gic, version)?.guest(guest), &name);
    let one = boot_of_xen(gic, version, 1)?;
    let three = boot_of_xen(gic, version, 3)?;
    let mut push = |name: &str, cost| costs.push((name.to_owned(), cost));
    push("boot-16-mib", one);
    push("boot-16-mib-more", (three - one) / 2.0);
    for (name, guests) in [("boot-16-guests", 16), ("boot-64-guests", 64)] {
        push(name, boot_of_xen(gic, version, guests)?);
    }
    let image = std::fs::metadata(images::xen(version)?.path());
    push(
        "image-kib",
        image.map_or(f64::NAN, |file| file.len() as f64 / 1024.0),
    );
    Ok(costs)
}

/// Instructions from reset to the main function of the first guest of so many that runs, each with 16 MiB.
fn boot_of_xen(gic: Gic, version: &str, guests: u32) -> Result<f64, String> {
    let name = format!("cost-xen-{version}-{gic:?}-boot-{guests}").to_lowercase();
    let machine = (1..=guests).fold(xen(gic, version)?.memory_mib(2048), |machine, index| {
        let guest = Guest::probe(&format!("g{index}"), "test=first console=uart");
        let guest = guest.kernel(images::guest_image("probe")).memory_mib(16);
        machine.guest(guest.vpl011())
    });
    let first = counts(machine, &name).first().map(|(_, cost)| *cost);
    Ok(first.unwrap_or(f64::NAN))
}

/// A machine with Debian's Xen of this version.
fn xen(gic: Gic, version: &str) -> Result<Machine, String> {
    let line = r#"xen,xen-bootargs = "console=dtuart dtuart=/pl011@9000000 bootscrub=0";"#;
    let machine = Machine::virt(gic).image(images::xen(version)?);
    Ok(machine.chosen(line))
}

/// The guest's own share of what is asynchronous: the same guest with no hypervisor below it.
#[must_use]
pub fn own_share(gic: Gic) -> Costs {
    let name = format!("cost-bare-{gic:?}").to_lowercase();
    let image = Image::File(images::guest_image("probe"));
    let machine = Machine::virt(gic).without_el2().image(image);
    counts(machine.argument("test=latency console=uart"), &name)
}

/// What the probe says of costs on a machine with one CPU, whose counter ticks once an instruction.
fn counts(machine: Machine, name: &str) -> Costs {
    let machine = machine.cpu("cortex-a72,cntfrq=1000000000");
    let mut console = machine.cpus(1).icount().start(name);
    console.expect("DONE", seconds(300));
    let counts = console.lines_with("COUNT ");
    counts
        .iter()
        .filter_map(|line| {
            let mut words = line.split("COUNT ").nth(1)?.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

/// What a boot takes.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// From reset to the first instruction of the first guest.
    pub instructions: f64,
    /// What the hypervisor uses for itself and its guests' books, without their RAM.
    pub memory_kib: f64,
}

/// Boots so many guests of so many MiB each, on a board with 2 GiB if they need it.
#[must_use]
pub fn boot(gic: Gic, guests: u32, mib: u64) -> Boot {
    let name = format!("cost-boot-{gic:?}-{guests}").to_lowercase();
    boot_on(Machine::virt(gic).cpus(1).icount(), &name, guests, mib)
}

/// Milliseconds of the workstation's clock from reset to the first instruction of a guest, of 64 that have 16 MiB each:
/// how much sooner it comes if several CPUs build them.
#[must_use]
pub fn boot_in_real_time(cpus: u32) -> f64 {
    let name = format!("cost-boot-{cpus}-cpus");
    boot_on(Machine::virt(Gic::V3).cpus(cpus), &name, 64, 16).instructions / 1e6
}

fn boot_on(machine: Machine, name: &str, guests: u32, mib: u64) -> Boot {
    let mut bundle = Bundle::new(name).hash(None);
    for index in 1..=guests {
        let guest = Guest::hello(&format!("hello-{index}")).memory_mib(mib);
        bundle = bundle.guest(guest.boot_arguments("count=1 period=1ms"));
    }
    let board_mib = match u64::from(guests) * mib > 512 {
        true => 2048,
        false => 1024,
    };
    let machine = machine.memory_mib(board_mib).bundle(bundle.write());
    let mut console = machine.argument(lines::POWER_OFF).start(name);
    let line = console.expect_that("the line on the guests' start", seconds(60), |line| {
        line.contains(lines::GUESTS_START) && line.ends_with(" us ago")
    });
    let microseconds = number_before(&line, "us");
    let used = console.lines_with("the hypervisor uses");
    let memory = used
        .first()
        .map_or(f64::NAN, |line| number_before(line, "KiB"));
    Boot {
        instructions: microseconds * 1000.0,
        memory_kib: memory,
    }
}

/// KiB that the hypervisor uses with so many guests of 16 MiB, changed in some way.
fn memory_kib(gic: Gic, what: &str, guests: u32, change: fn(Guest) -> Guest) -> f64 {
    let name = format!("cost-memory-{gic:?}-{what}").to_lowercase();
    let mut bundle = Bundle::new(&name).hash(None);
    for index in 1..=guests {
        let guest = Guest::hello(&format!("hello-{index}"));
        bundle = bundle.guest(change(guest.boot_arguments("count=1 period=1ms")));
    }
    let machine = Machine::virt(gic).cpus(1).icount().bundle(bundle.write());
    let mut console = machine.argument(lines::POWER_OFF).start(&name);
    let line = console.expect_that("what the hypervisor uses", seconds(60), |line| {
        line.contains("the hypervisor uses") && line.ends_with(" KiB")
    });
    number_before(&line, "KiB")
}

/// The number that stands before the last `unit` of a line.
fn number_before(line: &str, unit: &str) -> f64 {
    let mut words = line
        .split_whitespace()
        .rev()
        .skip_while(|word| *word != unit);
    words
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(f64::NAN)
}

/// From the end of a guest with 16 MiB, a crash, to the first instruction of its next life, so many times in a row.
/// Others have ended or wait, but for a guest that computes all the time and has the same share of the CPU, if it is
/// there.
#[must_use]
pub fn restarts(gic: Gic, count: u32, beside: bool) -> Vec<f64> {
    let name = format!("cost-restart-{gic:?}-{count}-{beside}").to_lowercase();
    let policy = format!(
        "viaduct,restart = \"on-crash\"; viaduct,restart-limit = <{count}>; viaduct,restart-backoff-ms = <0>;"
    );
    let guest = Guest::probe("probe", "test=crash").extra(&policy);
    let mut bundle = Bundle::new(&name).hash(None).guest(guest);
    if beside {
        bundle = bundle.guest(Guest::probe("busy", "test=spin"));
    }
    let mut console = Machine::virt(gic)
        .cpus(1)
        .icount()
        .bundle(bundle.write())
        .start(&name);
    for number in 1..=count {
        console.expect_that(&format!("life {number}"), seconds(300), |line| {
            lines::restarted("probe", line).is_some()
        });
    }
    let times = console.lines();
    let times = times
        .iter()
        .filter_map(|line| lines::restarted("probe", line));
    times.map(|microseconds| microseconds * 1000.0).collect()
}

/// From a guest's timer to its handler's first instruction, out of WFI and with another vCPU to switch out, when so many
/// other guests wait as well, each for a timer that is far away.
#[must_use]
pub fn wake(gic: Gic, others: u32) -> f64 {
    let name = format!("cost-wake-{gic:?}-{others}").to_lowercase();
    let mut bundle = Bundle::new(&name).hash(None);
    for index in 1..=others {
        let guest = Guest::hello(&format!("g{index}")).memory_mib(4);
        bundle = bundle.guest(guest.boot_arguments("period=3600s"));
    }
    // Twice: when it is measured the second time all others have come to rest.
    let bundle = bundle
        .guest(Guest::probe("probe", "test=latency,latency").cpus(2))
        .write();
    let costs = counts(Machine::virt(gic).memory_mib(2048).bundle(bundle), &name);
    let of = |(name, cost): &(String, f64)| (name == "timer-wfi-switch").then_some(*cost);
    costs.iter().rev().find_map(of).unwrap_or(f64::NAN)
}
