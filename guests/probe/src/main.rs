//! Test guests in one binary: the boot argument `test=NAME[,NAME...]` picks the subjects, `test=all` (or
//! nothing) every one that ends by itself, `test=store` those that need a xenstore. Each prints `PASS name`, `FAIL name why` or, where this
//! machine lacks what it needs, `SKIP name why`; then comes `DONE`, and the guest powers off.
//! `test=list` prints the names, `test=first` what the machine's counter said at the start.
//!
//! Names under [`hostile`] do harm on purpose: those that come back count as tests, the others end or
//! hang the guest.

#![no_std]
#![no_main]

extern crate alloc;

mod check;
mod count;
mod hostile;
mod latency;
mod raw;
mod tests;

use check::{Test, Trouble};
use runtime::{arguments::arguments, cpu, println, xen};

// The RAM that the heap leaves shows whether it was handed over zeroed.
runtime::entry!(main, heap = 1 << 20);

fn main() {
    let wanted = arguments().get("test").unwrap_or("all");
    if wanted == "first" {
        return count::first();
    }
    println!(
        "probe: {wanted}, {} CPUs, Xen {:#x}, console {}",
        cpu::count(),
        xen::version(),
        runtime::console::kind()
    );
    if wanted == "list" {
        for test in by_name() {
            println!("{}", test.name);
        }
    }
    let mut failed = 0;
    for name in wanted.split(',').filter(|name| *name != "list") {
        if name == "all" {
            failed += tests::ALL.iter().filter(|test| !run(test)).count();
        } else if name == "store" {
            failed += tests::store::ALL.iter().filter(|test| !run(test)).count();
        } else if let Some(test) = by_name().find(|test| test.name == name) {
            failed += usize::from(!run(test));
        } else {
            println!("FAIL {name} no such test");
            failed += 1;
        }
    }
    println!("probe: {failed} failed");
    println!("DONE");
}

/// Runs one test; false if it failed.
fn run(test: &Test) -> bool {
    let missing = if test.needs.hypervisor && !xen::present() {
        Some("no hypervisor")
    } else if cpu::count() < test.needs.cpus {
        Some("too few CPUs")
    } else {
        None
    };
    let outcome = match missing {
        Some(why) => Err(Trouble::Skip(why)),
        None => (test.run)(),
    };
    match outcome {
        Ok(()) => println!("PASS {}", test.name),
        Err(Trouble::Skip(why)) => println!("SKIP {} {why}", test.name),
        Err(Trouble::Fail(why)) => {
            println!("FAIL {} {why}", test.name);
            return false;
        }
    }
    true
}

/// Everything that has a name.
fn by_name() -> impl Iterator<Item = &'static Test> {
    tests::ALL
        .iter()
        .chain(tests::store::ALL)
        .chain(tests::store::BY_NAME)
        .chain(tests::BY_NAME)
        .chain(hostile::ALL)
}
