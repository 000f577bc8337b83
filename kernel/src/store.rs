//! The store that all guests share, in EL2: each guest's ring, its work when it sends an event, what it finds there
//! when it starts, and its end.
//!
//! A guest's work is done in steps inside its own `EVTCHNOP_send`, which is executed again until all is done: interrupts are
//! taken between steps, other guests have their turn at the lock, and a guest that asks for much keeps itself
//! busy.

use alloc::boxed::Box;

use ::memory::{PAGE_SIZE, SharedMemory};
use abi::xenstore::{
    DIRECTORY, MKDIR, PAYLOAD_MAX, READ, RING_EVENT_CHANNEL, RM, SET_PERMS, WRITE,
};
use abi::{DomainId, Port};
use arch::cache;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::Write;
use core::sync::atomic::Ordering;
use shell::{Refused, StoreRequest};
use sync::{Once, SpinLock};
use xen::Host;
use xenstore::{AddError, Page, Quota, Step, Store};

use crate::hypercalls::Machine;
use crate::machine::Domain;

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

/// Removes something of what a guest has had, which has ended; whether there is more.
pub(crate) fn remove_some(domain: DomainId) -> bool {
    STORE.get().is_some_and(|store| {
        let step = store.lock().remove_domain(domain);
        after(&Machine, step)
    })
}

/// A step of what the hypervisor itself has asked for; whether there is more.
pub(crate) fn serve_own() -> bool {
    serve(&Machine, DomainId(0))
}

/// Asks the store as the hypervisor, which has one request under way at a time: if there is another, a step of that is
/// done, whoever asked. `false` then: it is to be asked again.
fn ask(kind: u32, payload: &[u8]) -> bool {
    let Some(store) = STORE.get() else {
        return true;
    };
    // One that is too long is never taken.
    let asked = payload.len() > PAYLOAD_MAX || store.lock().ask(kind, payload);
    if !asked {
        serve_own();
    }
    asked
}

/// Steps under one lock that a request of the operator's may take; and those that what is under way may take before.
const STEPS: u32 = 64;

/// Asks for the operator's shell: the reply, as much of it as fits, and its length.
pub(crate) fn query(request: StoreRequest<'_>, reply: &mut [u8]) -> Result<usize, Refused> {
    let store = STORE
        .get()
        .ok_or_else(|| Refused::because(&"there is no store"))?;
    let (kind, path, value) = match request {
        StoreRequest::Directory(path) => (DIRECTORY, path, ""),
        StoreRequest::Read(path) => (READ, path, ""),
        StoreRequest::Write(path, value) => (WRITE, path, value),
        StoreRequest::Remove(path) => (RM, path, ""),
    };
    let mut payload = ArrayVec::<u8, 700>::new();
    for piece in [path.as_bytes(), b"\0", value.as_bytes()] {
        let fits = payload.try_extend_from_slice(piece);
        fits.map_err(|_| Refused::because(&"that is too long"))?;
    }
    for _ in 0..STEPS {
        if !serve_own() {
            break;
        }
    }
    // The lock is held from the question to the answer, so that it is this one's. Who is told, is told afterwards.
    let (answered, step) = {
        let mut store = store.lock();
        if !store.ask(kind, &payload) {
            return Err(Refused::by_store(b"EBUSY"));
        }
        let mut step = store.step(DomainId(0));
        for _ in 0..STEPS {
            if store.answer() != Err(b"EBUSY") || step.notify().next().is_some() || !step.more {
                break;
            }
            step = store.step(DomainId(0));
        }
        let answered = match store.answer() {
            Ok(bytes) => {
                let count = bytes.len().min(reply.len());
                if let (Some(into), Some(from)) = (reply.get_mut(..count), bytes.get(..count)) {
                    into.copy_from_slice(from);
                }
                Ok(count)
            }
            Err(name) => Err(Refused::by_store(name)),
        };
        (answered, step)
    };
    if after(&Machine, step) {
        while serve_own() {}
    }
    answered
}

/// Blocks of the store that a guest uses, of all that it may.
pub(crate) fn usage(domain: DomainId) -> Option<(u16, u16)> {
    STORE.get()?.lock().usage(domain)
}

/// Writes a node below a guest's home, and tells who watches it.
pub(crate) fn set(id: DomainId, key: &str, value: &str) {
    let mut request: Request = ArrayString::new();
    if write!(request, "/local/domain/{}/{key}\0{value}", id.0).is_ok() {
        while !ask(WRITE, request.as_bytes()) {}
        while serve_own() {}
    }
}

/// Whether there is a node below a guest's home.
pub(crate) fn has(id: DomainId, key: &str) -> bool {
    let mut path: Request = ArrayString::new();
    write!(path, "/local/domain/{}/{key}", id.0).is_ok()
        && query(StoreRequest::Read(&path), &mut []).is_ok()
}

/// Says to those who watch for it that a domain has come: when that is under way `true`, and [`serve_own`] does it.
pub(crate) fn introduce() -> bool {
    let Some(store) = STORE.get() else {
        return true;
    };
    let begun = store.lock().introduce();
    if !begun {
        serve_own();
    }
    begun
}

/// Gives a guest its place in the store; `false` if it is to have none.
pub(crate) fn enter(domain: &'static Domain) -> Result<bool, AddError> {
    let page = domain
        .holdings
        .lock()
        .as_ref()
        .and_then(|held| Some((held.store_page?, held.pages.iter())))
        .and_then(|(wanted, mut pages)| pages.find(|page| page.address() == wanted))
        .map(::memory::Page::words);
    let (Some(page), Some(port)) = (page, domain.xen.store_port()) else {
        return Ok(false);
    };
    let mut store = STORE.get().ok_or(AddError::NoMemory)?.lock();
    let ring = Ring(page);
    ring.set_word(RING_EVENT_CHANNEL, port.0);
    if domain.has_lived.load(Ordering::Relaxed) {
        store.add_again(domain.id)?;
    } else {
        let quota = Quota::guest(domain.recipe.config.vcpus);
        let peers = domain.xen.peers();
        store.add(domain.id, quota, peers, Box::new(ring))?;
    }
    cache::clean_invalidate(page.address(), PAGE_SIZE);
    Ok(true)
}

/// A request of the hypervisor's.
type Request = ArrayString<512>;

/// What is written for a guest and is the hypervisor's: a key and its value.
fn item(domain: &Domain, number: usize) -> Option<(ArrayString<64>, ArrayString<256>)> {
    let config = domain.recipe.config;
    let (mut key, mut value) = (ArrayString::new(), ArrayString::new());
    let xen = &domain.xen;
    let console = xen.console_port();
    let store = xen.store_port().unwrap_or(Port(0));
    // The frame number of its console's ring, which its store's follows.
    let magic = domain.recipe.plan.machine.magic.frame_number();
    let mut put = |name: &str, text: core::fmt::Arguments<'_>| {
        let _ = key.write_str(name);
        // A name that is too long is cut.
        let _ = value.write_fmt(text);
    };
    match number {
        0 => put("name", format_args!("{}", config.name)),
        1 => put("domid", format_args!("{}", domain.id.0)),
        2 => put("memory/static-max", format_args!("{}", config.memory >> 10)),
        3 => put("memory/target", format_args!("{}", config.memory >> 10)),
        4 => put("store/ring-ref", format_args!("{}", magic + 1)),
        5 => put("store/port", format_args!("{}", store.0)),
        6 => put(
            "control/platform-feature-multiprocessor-suspend",
            format_args!("1"),
        ),
        7 => put(
            "control/platform-feature-xs_reset_watches",
            format_args!("1"),
        ),
        8..=10 => {
            let port = console?.0;
            match number {
                8 => put("console/ring-ref", format_args!("{magic}")),
                9 => put("console/port", format_args!("{port}")),
                _ => put("console/type", format_args!("xenconsoled")),
            }
        }
        _ => {
            let _ = write!(
                key,
                "cpu/{}/availability",
                number.saturating_sub(FIXED_ITEMS)
            );
            let _ = value.write_str("online");
        }
    }
    Some((key, value))
}

/// Items that every guest has; those of its vCPUs follow.
const FIXED_ITEMS: usize = 11;

/// These are the guest's to write.
const OWN_KEYS: [&str; 10] = [
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
];

/// Writes item number `number` of what a guest finds (what Xen's tools write for a domain); the next, or `None` when
/// all are asked for.
pub(crate) fn seed(domain: &'static Domain, number: usize) -> Option<usize> {
    let items = FIXED_ITEMS + domain.recipe.config.vcpus as usize;
    let mut request: Request = ArrayString::new();
    let id = domain.id.0;
    let kind = match number.checked_sub(items) {
        None => {
            let Some((key, value)) = item(domain, number) else {
                return Some(number + 1);
            };
            let _ = write!(request, "/local/domain/{id}/{key}\0{value}");
            WRITE
        }
        Some(0) => {
            let _ = write!(request, "/local/domain/{id}/device\0");
            MKDIR
        }
        // Each is written, and then given to the guest.
        Some(rest) => {
            let key = OWN_KEYS.get((rest - 1) / 2)?;
            let _ = write!(request, "/local/domain/{id}/{key}\0");
            if rest % 2 == 1 {
                WRITE
            } else {
                let _ = write!(request, "n{id}\0");
                SET_PERMS
            }
        }
    };
    Some(match ask(kind, request.as_bytes()) {
        true => number + 1,
        false => number,
    })
}
