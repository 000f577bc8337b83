//! What Linux loses to the hypervisor below it while it works: Debian's stress-ng and cyclictest on one
//! CPU under `-icount shift=0`, where a nanosecond of the guest's clock is one instruction, on the bare
//! machine, on Viaduct and on Debian's Xen. Instructions are not cycles: what a second stage of
//! translation costs at a TLB miss does not show.

use crate::bundle::Bundle;
use crate::console::{Console, seconds};
use crate::guest::Guest;
use crate::images::{self, Image};
use crate::lines;
use crate::machine::{Gic, Machine};

mod report;
pub use report::{Titled, distribution, json, table};

/// What is below the measured Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// Nothing.
    Machine,
    /// Viaduct.
    Viaduct,
    /// Debian's Xen of this version.
    Xen(&'static str),
}

/// A budget of real time for the measured Linux: half a CPU, every half millisecond.
const REAL_TIME: &str = "viaduct,period-us = <500>; viaduct,budget-us = <250>;";

/// Which Linux runs beside the measured one, three times, on the same CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// None.
    Nobody,
    /// Three that sleep.
    Idle,
    /// Three that never do.
    Busy,
    /// Three that never sleep, and the measured one has a budget of real time (Viaduct alone).
    BusyButRealTime,
}

/// Wake-ups of cyclictest: from the time asked for to the thread's first instruction, in instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Half are shorter.
    pub median: u64,
    /// 99 % are shorter.
    pub most: u64,
    /// 99.9 % are shorter.
    pub nearly_all: u64,
    /// The longest.
    pub maximum: u64,
    /// How many took from so many instructions on, by classes: 250 wide, and 32,000 from 32,000 on.
    pub counts: Vec<(u64, u64)>,
}

/// Instructions of each load, by name.
///
/// # Errors
/// Why there is no such Xen, or what the guest says against it.
pub fn loads(gic: Gic, below: Below) -> Result<Vec<(String, u64)>, String> {
    let mut console = start(gic, below, Beside::Nobody, "steady=all")?;
    console.expect("DONE", seconds(900));
    let found = console.lines_with("STEADY ");
    found
        .iter()
        .map(|line| {
            let words = line.split("STEADY ").nth(1).unwrap_or_default();
            let (name, count) = words.split_once(' ').ok_or(line.as_str())?;
            let count = count.trim().parse().map_err(|_| line.as_str())?;
            Ok((name.to_owned(), count))
        })
        .collect::<Result<_, &str>>()
        .map_err(str::to_owned)
}

/// How late cyclictest's thread, the most urgent of its Linux, is woken.
///
/// # Errors
/// Why there is no such Xen, or what the guest says against it.
pub fn latency(gic: Gic, below: Below, beside: Beside) -> Result<Latency, String> {
    let mut console = start(gic, below, beside, "latency=it")?;
    console.expect("DONE", seconds(900));
    let lines = console.lines_with("LATENCY ");
    let line = lines.first().cloned().unwrap_or_default();
    let others = console.lines_with("BESIDE").len();
    if beside != Beside::Nobody && others != 3 {
        return Err(format!("{others} of 3 other guests were up"));
    }
    let numbers = |line: &str| -> Vec<u64> {
        let words = line.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let classes = console.lines_with("WOKEN ");
    let counts = classes.iter().map(|line| match numbers(line).as_slice() {
        &[from, count] => Ok((from, count)),
        _ => Err(line.clone()),
    });
    let counts = counts.collect::<Result<_, _>>()?;
    let numbers = numbers(&line);
    match numbers.as_slice() {
        &[median, most, nearly_all, maximum] => Ok(Latency {
            median,
            most,
            nearly_all,
            maximum,
            counts,
        }),
        _ => Err(line),
    }
}

fn start(gic: Gic, below: Below, beside: Beside, work: &str) -> Result<Console, String> {
    let name = format!("steady-{gic:?}-{below:?}-{beside:?}-{work}")
        .to_lowercase()
        .replace(['(', ')', '"', '='], "-");
    let machine = Machine::virt(gic)
        .cpus(1)
        .memory_mib(2048)
        .cpu("cortex-a72,cntfrq=1000000000")
        .icount();
    // The same addresses on each: without it a bare kernel would move about.
    let words = |console: &str, work: &str| {
        format!("console={console} rdinit=/steady nokaslr norandmaps quiet {work}")
    };
    let linux = |name: &str, console: &str, work: &str| {
        Guest::new(name, images::linux_kernel())
            .ramdisk(images::linux_initramfs_with_loads())
            .memory_mib(256)
            .boot_arguments(&words(console, work))
    };
    let neighbour = match beside {
        Beside::Nobody => None,
        Beside::Idle => Some("steady=idle"),
        Beside::Busy | Beside::BusyButRealTime => Some("steady=busy"),
    };
    let neighbours = |console: &'static str| {
        (1..=3)
            .filter_map(move |index| Some(linux(&format!("beside-{index}"), console, neighbour?)))
    };
    let machine = match below {
        Below::Machine => machine
            .without_el2()
            .memory_mib(256)
            .image(Image::File(images::linux_kernel()))
            .bundle(images::linux_initramfs_with_loads())
            .argument(&words("ttyAMA0", work)),
        Below::Viaduct => {
            let mut measured = linux("linux", "hvc0", work);
            if beside == Beside::BusyButRealTime {
                measured = measured.extra(REAL_TIME);
            }
            let bundle = neighbours("hvc0").fold(Bundle::new(&name).guest(measured), Bundle::guest);
            machine.bundle(bundle.write()).argument(lines::POWER_OFF)
        }
        Below::Xen(version) => {
            let line = r#"xen,xen-bootargs = "console=dtuart dtuart=/pl011@9000000 bootscrub=0";"#;
            neighbours("ttyAMA0").map(Guest::vpl011).fold(
                machine
                    .image(images::xen(version)?)
                    .chosen(line)
                    .guest(linux("linux", "ttyAMA0", work).vpl011()),
                Machine::guest,
            )
        }
    };
    Ok(machine.start(&name))
}

/// Whether there is such a neighbourhood: none on a bare machine, and a budget of real time on Viaduct alone.
#[must_use]
pub fn is_possible(below: Below, beside: Beside) -> bool {
    match below {
        Below::Machine => beside == Beside::Nobody,
        Below::Viaduct => true,
        Below::Xen(_) => beside != Beside::BusyButRealTime,
    }
}

/// `count` in terms of `own`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
pub fn ratio(count: u64, own: u64) -> f64 {
    count as f64 / own as f64
}
