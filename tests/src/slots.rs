//! At most two QEMUs at once on two cores, over all tests and test binaries: a slot is a locked
//! file, which the kernel unlocks when its holder ends, whatever way.

use std::fs::File;
use std::time::Duration;

use crate::paths::scratch;

/// The right to run one QEMU.
#[derive(Debug)]
pub(crate) struct Slot {
    _file: File,
}

const SLOTS: usize = 2;

/// Waits for a free slot. `exclusive` takes all of them: for runs whose timing matters.
pub(crate) fn take(exclusive: bool) -> Vec<Slot> {
    // One at a time asks, so that one who wants all slots is not starved.
    let queue = open("qemu-queue.lock");
    if let Err(error) = queue.lock() {
        panic!("cannot wait for a QEMU slot: {error}");
    }
    let wanted = if exclusive { SLOTS } else { 1 };
    let mut held = Vec::new();
    loop {
        for index in 0..SLOTS {
            if held.len() == wanted {
                return held;
            }
            let file = open(&format!("qemu-slot-{index}.lock"));
            if file.try_lock().is_ok() {
                held.push(Slot { _file: file });
            }
        }
        if held.len() == wanted {
            return held;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn open(name: &str) -> File {
    let path = scratch().join(name);
    match File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
    {
        Ok(file) => file,
        Err(error) => panic!("cannot open {}: {error}", path.display()),
    }
}
