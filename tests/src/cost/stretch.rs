//! The longest stretch for which EL2 takes no interrupt, by its own measurement (`longest-stretch=on`), and its cause.

use crate::bundle::Bundle;
use crate::console::{Console, seconds};
use crate::guest::Guest;
use crate::lines;
use crate::linux;
use crate::machine::{Gic, Machine};

/// Instructions that a stretch may take.
pub const STRETCH: f64 = 20_000.0;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The run.
    pub run: &'static str,
    /// Instructions, to the next tick of the counter: 16.
    pub instructions: f64,
    /// What the CPU did meanwhile.
    pub cause: String,
}

/// Random hypercalls and accesses, while another guest's timer ticks.
#[must_use]
pub fn hostile(gic: Gic, seed: u64, rounds: u64) -> Stretch {
    let wild = format!("test=wild seed={seed} rounds={rounds}");
    let name = format!("stretch-hostile-{gic:?}").to_lowercase();
    let bundle = Bundle::new(&name)
        .guest(Guest::hello("good").boot_arguments("period=20ms count=50"))
        .guest(Guest::probe("bad", &wild));
    finish("hostile", start(gic, &name, bundle))
}

/// A guest that crashes and is restarted, three times, while another guest's timer ticks.
#[must_use]
pub fn restart(gic: Gic) -> Stretch {
    let policy = "viaduct,restart = \"on-crash\"; viaduct,restart-limit = <3>; viaduct,restart-backoff-ms = <1>;";
    let name = format!("stretch-restart-{gic:?}").to_lowercase();
    let bundle = Bundle::new(&name)
        .guest(Guest::hello("good").boot_arguments("period=20ms count=50"))
        .guest(Guest::probe("bad", "test=crash").cpus(2).extra(policy));
    finish("restart", start(gic, &name, bundle))
}

/// Linux from its first instruction to its end.
#[must_use]
pub fn linux(gic: Gic) -> Stretch {
    let name = format!("stretch-linux-{gic:?}").to_lowercase();
    let bundle = Bundle::new(&name).guest(Guest::linux("linux"));
    let mut console = start(gic, &name, bundle);
    linux::at_the_shell(&mut console, "linux");
    console.send("poweroff\n");
    finish("linux", console)
}

fn start(gic: Gic, name: &str, bundle: Bundle) -> Console {
    let machine = Machine::virt(gic).cpus(1).icount().bundle(bundle.write());
    let machine = machine.argument(lines::POWER_OFF);
    machine.argument("longest-stretch=on").start(name)
}

fn finish(run: &'static str, mut console: Console) -> Stretch {
    console.expect(lines::ALL_STOPPED, seconds(600));
    // What comes behind it: the line is whole then.
    console.expect(lines::MEMORY_FREE, seconds(30));
    let lines = console.lines_with("no interrupts for ");
    let line = lines.first().map_or("", String::as_str);
    let told = line.split_once("no interrupts for ");
    let (number, cause) = told
        .and_then(|(_, rest)| rest.split_once(" ns at most: "))
        .unwrap_or_default();
    Stretch {
        run,
        instructions: number.parse().unwrap_or(f64::NAN),
        cause: cause.to_owned(),
    }
}
