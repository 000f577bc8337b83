//! The store that all guests share, in EL2: each guest's ring, its work when it sends an event, what it finds there
//! when it starts, and its end.
//!
//! A guest's work is done in steps inside its own `EVTCHNOP_send`, which is executed again until all is done: interrupts are
//! taken between steps, other guests have their turn at the lock, and a guest that asks for much keeps itself
//! busy.

use alloc::boxed::Box;
use alloc::format;

use ::memory::SharedMemory;
use abi::xenstore::{MKDIR, RING_EVENT_CHANNEL, SET_PERMS, WRITE};
use abi::{DomainId, Port};
use core::sync::atomic::Ordering;
use devtree::guest::DomainConfig;
use sync::{Once, SpinLock};
use xen::{Host, XenState};
use xenstore::{AddError, Page, Quota, Step, Store};

use crate::hypercalls::Machine;

static STORE: Once<SpinLock<Store>> = Once::new();

/// A guest's page.
struct Ring(SharedMemory);

impl Page for Ring {
    fn word(&self, offset: usize) -> u32 {
        self.0
            .u32(offset)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn set_word(&self, offset: usize, value: u32) {
        if let Some(word) = self.0.u32(offset) {
            word.store(value, Ordering::Release);
        }
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.0.read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.0.write(offset, from);
    }
}

/// Makes the store, for domains with numbers up to `last`.
pub(crate) fn start(last: u16) -> Result<(), AddError> {
    let store = Store::new(last).ok_or(AddError::NoMemory)?;
    STORE.call_once(|| SpinLock::new(store));
    Ok(())
}

/// Sends the events that a step asks for; whether there is more to do.
fn after<H: Host>(host: &H, step: Step) -> bool {
    for domain in step.notify() {
        if let Some(peer) = host.peer(domain) {
            peer.notify_store(host);
        }
    }
    step.more
}

/// A step of a guest's work: it has sent an event. Whether there is more to do.
#[cold]
pub(crate) fn serve<H: Host>(host: &H, domain: DomainId) -> bool {
    STORE.get().is_some_and(|store| {
        let step = store.lock().step(domain);
        after(host, step)
    })
}

/// Removes all that a guest has had: it has ended.
pub(crate) fn remove(domain: DomainId) {
    let Some(store) = STORE.get() else {
        return;
    };
    loop {
        let step = store.lock().remove_domain(domain);
        if !after(&Machine, step) {
            return;
        }
    }
}

/// Asks the store as the hypervisor: one request, and its watches told, to the end.
fn ask(kind: u32, payload: &[u8]) -> Result<(), AddError> {
    let store = STORE.get().ok_or(AddError::NoMemory)?;
    if !store.lock().ask(kind, payload) {
        return Err(AddError::NoMemory);
    }
    loop {
        let step = store.lock().step(DomainId(0));
        if !after(&Machine, step) {
            break;
        }
    }
    let store = store.lock();
    store.answer().map(|_| ()).map_err(|_| AddError::NoMemory)
}

/// Writes a node below a guest's home.
pub(crate) fn set(id: DomainId, key: &str, value: &str) -> Result<(), AddError> {
    let request = format!("/local/domain/{}/{key}\0{value}", id.0);
    ask(WRITE, request.as_bytes())
}

/// Gives a guest its place in the store, and what it expects to find there (what Xen's tools write for a
/// domain). `magic` is the frame number of its console's ring, which its store's follows.
pub(crate) fn add(
    id: DomainId,
    config: &DomainConfig,
    magic: u64,
    page: SharedMemory,
    xen: &XenState,
) -> Result<(), AddError> {
    let (Some(store), Some(port)) = (STORE.get(), xen.store_port()) else {
        return Err(AddError::NoMemory);
    };
    let ring = Box::new(Ring(page));
    ring.set_word(RING_EVENT_CHANNEL, port.0);
    let quota = Quota::guest(config.vcpus);
    store.lock().add(id, quota, xen.peers(), ring)?;
    seed(id, config, magic, port, xen.console_port())
}

fn seed(
    id: DomainId,
    config: &DomainConfig,
    magic: u64,
    store: Port,
    console: Option<Port>,
) -> Result<(), AddError> {
    let home = format!("/local/domain/{}", id.0);
    let write = |key: &str, value: &str| ask(WRITE, format!("{home}/{key}\0{value}").as_bytes());
    let kib = format!("{}", config.memory >> 10);
    write("name", &config.name)?;
    write("domid", &format!("{}", id.0))?;
    write("memory/static-max", &kib)?;
    write("memory/target", &kib)?;
    for vcpu in 0..config.vcpus {
        write(&format!("cpu/{vcpu}/availability"), "online")?;
    }
    write("store/ring-ref", &format!("{}", magic + 1))?;
    write("store/port", &format!("{}", store.0))?;
    if let Some(port) = console {
        write("console/ring-ref", &format!("{magic}"))?;
        write("console/port", &format!("{}", port.0))?;
        write("console/type", "xenconsoled")?;
    }
    write("control/platform-feature-multiprocessor-suspend", "1")?;
    write("control/platform-feature-xs_reset_watches", "1")?;
    ask(MKDIR, format!("{home}/device\0").as_bytes())?;
    // These are the guest's to write.
    for key in [
        "control/shutdown",
        "control/sysrq",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "data",
        "drivers",
        "feature",
        "attr",
        "error",
    ] {
        write(key, "")?;
        ask(SET_PERMS, format!("{home}/{key}\0n{}\0", id.0).as_bytes())?;
    }
    Ok(())
}
