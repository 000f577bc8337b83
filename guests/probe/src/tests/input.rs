//! Console input: prints `READY input`, waits ten seconds for a line, and prints it as `GOT line`.

use crate::check::{Outcome, fail};
use core::time::Duration;
use runtime::{console, println};

pub(crate) fn line() -> Outcome {
    println!("READY input");
    let Some(line) = console::read_line(Duration::from_secs(10)) else {
        fail!("no line came");
    };
    println!("GOT {line}");
    Ok(())
}
