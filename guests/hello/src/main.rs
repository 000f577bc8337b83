//! A unikernel that prints a heartbeat.
//!
//! Boot arguments: `name=TEXT`, `period=250ms` (default one second), `count=N` (default for ever; then
//! the guest powers off).

#![no_std]
#![no_main]

use core::time::Duration;
use runtime::{arguments::arguments, println, timer};

runtime::entry!(main);

fn main() {
    let name = arguments().get("name").unwrap_or("hello");
    let period = arguments()
        .duration("period")
        .unwrap_or(Duration::from_secs(1));
    let count = arguments().number("count").unwrap_or(u64::MAX);
    println!("hello from {name}");

    let step = timer::ticks(period);
    let mut next = timer::now();
    for beat in 1..=count {
        next += step;
        timer::sleep_until(next);
        println!(
            "{name}: heartbeat {beat} at {} ms",
            timer::uptime().as_millis()
        );
    }
}
