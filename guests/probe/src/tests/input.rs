//! Console input: prints `READY input`, waits ten seconds for a line, and prints it as `GOT line`. `echo` does that for
//! ever, and shuts down when its `control/shutdown` says so.

use crate::check::{Outcome, check, fail};
use alloc::{string::String, vec::Vec};
use core::time::Duration;
use runtime::xenstore::Store;
use runtime::{console, println, psci, timer};

pub(crate) fn line() -> Outcome {
    println!("READY input");
    let Some(line) = console::read_line(Duration::from_secs(60)) else {
        fail!("no line came");
    };
    println!("GOT {line}");
    Ok(())
}

pub(crate) fn echo() -> Outcome {
    let mut store = Store::open();
    println!("READY echo");
    let mut line = Vec::new();
    for turn in 0_u32.. {
        let mut byte = [0];
        while console::read(&mut byte) != 0 {
            match byte {
                [b'\r' | b'\n'] => {
                    println!("GOT {}", String::from_utf8_lossy(&line));
                    line.clear();
                }
                [byte] => line.push(byte),
            }
        }
        timer::sleep(Duration::from_millis(5));
        // Ten times a second is often enough.
        if turn % 20 == 0
            && let Some(store) = &mut store
            && store
                .read("control/shutdown")
                .is_ok_and(|word| word == "poweroff")
        {
            let _ = store.write("control/shutdown", "");
            println!("SHUTTING DOWN");
            psci::system_off();
        }
    }
    Ok(())
}

/// Says after a while, in its xenstore, that it is ready.
pub(crate) fn ready() -> Outcome {
    let Some(mut store) = Store::open() else {
        fail!("no xenstore");
    };
    timer::sleep(Duration::from_millis(300));
    println!("READY");
    console::flush();
    let written = store.write("data/ready", "1");
    check!(written.is_ok(), "data/ready: {written:?}");
    timer::sleep(Duration::from_millis(300));
    Ok(())
}
