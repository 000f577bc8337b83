//! At most two QEMUs at once on two cores, over all tests and test binaries: a slot is a locked
//! file, which the kernel unlocks when its holder ends, whatever way.

use std::fs::File;
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use crate::paths::scratch;

/// The right to run one QEMU.
#[derive(Debug)]
pub(crate) struct Slot {
    _file: File,
    holder: ThreadId,
}

const SLOTS: usize = 2;

/// Who holds a slot, once for each.
static HOLDERS: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());

impl Slot {
    fn new(file: File) -> Self {
        let holder = std::thread::current().id();
        holders(|all| all.push(holder));
        Self {
            _file: file,
            holder,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        holders(|all| {
            if let Some(at) = all.iter().position(|holder| *holder == self.holder) {
                all.swap_remove(at);
            }
        });
    }
}

fn holders<R>(with: impl FnOnce(&mut Vec<ThreadId>) -> R) -> R {
    with(&mut HOLDERS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Waits for a free slot. `exclusive` takes all of them: for runs whose timing matters.
///
/// # Panics
/// When the caller holds one already: two such, or one beside a run that wants all, would wait for each other.
pub(crate) fn take(exclusive: bool) -> Vec<Slot> {
    let own = std::thread::current().id();
    assert!(
        !holders(|all| all.contains(&own)),
        "a machine of this test still runs: drop its console first"
    );
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
                held.push(Slot::new(file));
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
