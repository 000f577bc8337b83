//! The guests (xen-arm-hypercalls section 16): `zephyr` (`drivers/xen`, `arch/arm64/core/xen`), `uboot` (`drivers/xen`),
//! `unikraft` (`plat/xen`), `minios` (`arch/arm`).

use crate::calls;
use crate::interrupt::Controller;
use crate::machine::{self, PAGE, Page, find, load, store};
use abi::shared_info::{
    SHARED_INFO_EVTCHN_MASK, SHARED_INFO_EVTCHN_PENDING, VCPU_INFO_PENDING_SEL,
    VCPU_INFO_UPCALL_PENDING,
};
use abi::{DomainId, Errno, Port, event_channel, guest_layout, hvm, memory_op, sched, version};
use core::fmt::Debug;

/// RAM that shared_info is mapped over.
static SHARED: Page = Page::new();
/// RAM that frames of the grant table are mapped over.
static FRAMES: [Page; 4] = [const { Page::new() }; 4];
/// RAM that has a vcpu_info.
static INFO: Page = Page::new();

struct Guest {
    name: &'static str,
    tree: &'static [u8],
}

pub(crate) fn run(tree: &'static [u8]) -> ! {
    let wanted = find(tree, "early=").unwrap_or_default();
    let guests = ["zephyr", "uboot", "unikraft", "minios"];
    let name = guests
        .into_iter()
        .find(|name| wanted.starts_with(name.as_bytes()));
    let Some(name) = name else {
        panic!("early= names none of {guests:?}");
    };
    let guest = Guest { name, tree };
    match name {
        "zephyr" => guest.zephyr(),
        "uboot" => guest.uboot(),
        "unikraft" => guest.unikraft(),
        _ => guest.minios(),
    }
    machine::print(format_args!("DONE"));
    calls::shutdown(sched::SHUTDOWN_POWEROFF)
}

impl Guest {
    /// A step whose failure stops the guest.
    fn is<T: PartialEq + Debug>(&self, step: &str, found: T, wanted: T) {
        let name = self.name;
        if found == wanted {
            machine::print(format_args!("PASS {name}: {step}"));
        } else {
            panic!("{name}: {step}: {found:x?}, not {wanted:x?}");
        }
    }

    fn map_shared_info(&self) {
        let mapped = calls::add_to_physmap(memory_op::SPACE_SHARED_INFO, 0, SHARED.gfn());
        self.is("shared_info", mapped, 0);
        let word = |offset: usize| load(SHARED.address() + offset as u64);
        self.is("no event", word(SHARED_INFO_EVTCHN_PENDING), 0);
        self.is("nothing masked", word(SHARED_INFO_EVTCHN_MASK), 0);
    }

    fn parameters(&self, indexes: &[u32]) {
        for index in indexes {
            self.is("parameter", calls::parameter(*index).0, 0);
        }
    }

    fn map_frames(&self, count: u64) {
        // The highest first: the table grows by the first call.
        for index in (0..count).rev() {
            let gfn = FRAMES[index as usize].gfn();
            let mapped = calls::add_to_physmap(memory_op::SPACE_GRANT_TABLE, index, gfn);
            self.is("a grant frame", mapped, 0);
        }
        let (status, frames, limit) = calls::query_size();
        self.is("query_size", status, 0);
        self.is("frames", frames >= count as u32 && limit >= frames, true);
        // Entries of the console and of xenstore are filled; all others are zero, and to be written.
        let entry = FRAMES[count as usize - 1].address() + PAGE - 8;
        self.is("the last entry", load(entry), 0);
        store(entry, 0x1234);
        self.is("written", load(entry), 0x1234);
        store(entry, 0);
    }

    /// Two events over a port connected with itself, each one interrupt and no more.
    fn events(&self, controller: Controller, send: Port, receive: Port, flags: u64) {
        let shared = SHARED.address();
        let (word, bit) = (u64::from(receive.0 / 64) * 8, 1 << (receive.0 % 64));
        let pending = shared + SHARED_INFO_EVTCHN_PENDING as u64 + word;
        for _ in 0..2 {
            self.is("send", calls::send(send), 0);
            self.is("its interrupt", controller.take(), 31);
            let upcall = flags + VCPU_INFO_UPCALL_PENDING as u64;
            self.is("the flag", load(upcall) & 0xff, 1);
            store(upcall, load(upcall) & !0xff);
            let selector = load(flags + VCPU_INFO_PENDING_SEL as u64);
            self.is("the selector", selector & 1 << (receive.0 / 64) != 0, true);
            store(flags + VCPU_INFO_PENDING_SEL as u64, 0);
            self.is("the event", load(pending) & bit, bit);
            store(pending, load(pending) & !bit);
            self.is("no interrupt more", Controller::is_pending(), false);
        }
    }

    /// A port connected with itself; its first event is taken.
    fn loopback(&self) -> (Port, Port) {
        let (answer, offered) = calls::alloc_unbound(DomainId::SELF);
        self.is("alloc_unbound", answer, 0);
        let (answer, port) = calls::bind_interdomain(DomainId::SELF, offered);
        self.is("bind_interdomain", answer, 0);
        self.is(
            "status",
            calls::status(port),
            (0, event_channel::STATUS_INTERDOMAIN),
        );
        (offered, port)
    }

    /// Takes what waits.
    fn drain(&self, controller: Controller, flags: u64) {
        let pending = SHARED.address() + SHARED_INFO_EVTCHN_PENDING as u64;
        self.is("its first event", controller.take(), 31);
        store(flags, load(flags) & !0xff);
        store(flags + VCPU_INFO_PENDING_SEL as u64, 0);
        store(pending, 0);
    }

    /// 2-level events with an edge, frames from the highest index, memory taken out and put back around grants.
    fn zephyr(&self) {
        self.map_shared_info();
        self.parameters(&[hvm::PARAM_CONSOLE_EVTCHN, hvm::PARAM_CONSOLE_PFN]);
        self.is("query_size", calls::query_size().0, 0);
        self.map_frames(4);
        let controller = Controller::new(self.tree, true);
        let (offered, port) = self.loopback();
        self.drain(controller, SHARED.address());
        let priority = calls::set_priority(port, 0);
        self.is(
            "set_priority of the other ABI",
            priority,
            Errno::NoSys.as_return(),
        );
        self.events(controller, offered, port, SHARED.address());
        self.is("close", (calls::close(port), calls::close(offered)), (0, 0));
        self.is("yield", calls::sched_yield(), 0);
        self.is("watchdog", calls::watchdog(0, 60), 1);
        self.is("watchdog off", calls::watchdog(1, 0), 0);
        self.is("a page out", calls::remove_from_physmap(INFO.gfn()), 0);
        self.is("and in", calls::populate(INFO.gfn()), 1);
        self.is("zero", load(INFO.address()), 0);
    }

    /// Parameters before caches are on; on leaving everything is given back, and the next kernel starts afresh.
    fn uboot(&self) {
        self.parameters(&[hvm::PARAM_CONSOLE_PFN, hvm::PARAM_STORE_PFN]);
        let (_, console) = calls::parameter(hvm::PARAM_CONSOLE_PFN);
        self.is("a console", console, guest_layout::CONSOLE_GFN);
        self.map_shared_info();
        self.parameters(&[hvm::PARAM_STORE_EVTCHN, hvm::PARAM_STORE_PFN]);
        let frame = FRAMES[0].gfn();
        let mapped = calls::add_to_physmap(memory_op::SPACE_GRANT_TABLE, 0, frame);
        self.is("grant frame 0", mapped, 0);
        self.is("entry 0", load(FRAMES[0].address()) & 0xffff, 1);
        let (answer, port) = calls::alloc_unbound(DomainId::SELF);
        self.is("alloc_unbound", answer, 0);
        self.is("send to nobody", calls::send(port), 0);
        self.is("yield", calls::sched_yield(), 0);
        self.is("close", calls::close(port), 0);
        self.is("grant frame back", calls::remove_from_physmap(frame), 0);
        self.is(
            "shared_info back",
            calls::remove_from_physmap(SHARED.gfn()),
            0,
        );
        self.is("RAM in its place", calls::populate(SHARED.gfn()), 1);
        self.is("zero", load(SHARED.address()), 0);
        store(SHARED.address(), 7);
        self.is("to be written", load(SHARED.address()), 7);
        // The next kernel, as Linux: shared_info elsewhere, vcpu_info once, events by level.
        let elsewhere = guest_layout::GRANT_TABLE / PAGE + 0x100;
        let mapped = calls::add_to_physmap(memory_op::SPACE_SHARED_INFO, 0, elsewhere);
        self.is("shared_info of the next kernel", mapped, 0);
        let mapped = calls::add_to_physmap(memory_op::SPACE_SHARED_INFO, 0, elsewhere + 1);
        self.is("a second place", mapped, Errno::Busy.as_return());
        self.is("vcpu_info", calls::register_vcpu_info(INFO.gfn(), 64), 0);
        let again = calls::register_vcpu_info(INFO.gfn(), 128);
        self.is("a second registration", again, Errno::Busy.as_return());
        let flags = INFO.address() + 64;
        let controller = Controller::new(self.tree, false);
        self.is("the upcall that it starts with", controller.take(), 31);
        self.is("the flag", load(flags) & 0xff, 1);
        self.is("the selector", load(flags + 8), u64::MAX);
        store(flags, 0);
        store(flags + 8, 0);
        let mapped = calls::remove_from_physmap(elsewhere);
        self.is("shared_info away from there", mapped, 0);
        self.map_shared_info();
        let (offered, port) = self.loopback();
        self.drain(controller, flags);
        self.events(controller, offered, port, flags);
    }

    /// It prints from its first instructions, and crashes without the debug interrupt.
    fn unikraft(&self) {
        self.map_shared_info();
        let (answer, port) = calls::bind_virq(event_channel::VIRQ_DEBUG);
        self.is("bind_virq debug", answer, 0);
        self.is("unmask", calls::unmask(port), 0);
        let controller = Controller::new(self.tree, false);
        self.parameters(&[
            hvm::PARAM_CONSOLE_EVTCHN,
            hvm::PARAM_CONSOLE_PFN,
            hvm::PARAM_STORE_EVTCHN,
            hvm::PARAM_STORE_PFN,
        ]);
        self.map_frames(4);
        let (offered, port) = self.loopback();
        self.drain(controller, SHARED.address());
        self.events(controller, offered, port, SHARED.address());
        self.is("setup_table of none", calls::setup_table(&mut []), 0);
    }

    /// As Unikraft, and it looks at the features and at where its grant frames are.
    fn minios(&self) {
        let (answer, features) = calls::features();
        self.is("features", answer, 0);
        let translated = features & version::FEATURE_AUTO_TRANSLATED_PHYSMAP;
        self.is("translated", translated != 0, true);
        self.unikraft();
        let mut list = [0; 4];
        self.is("setup_table", calls::setup_table(&mut list), 0);
        let gfns = [0, 1, 2, 3].map(|index: usize| FRAMES[index].gfn());
        self.is("where the frames are", list, gfns);
    }
}
