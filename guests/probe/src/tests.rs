//! The tests that end by themselves, by subject.

mod balloon;
mod channels;
mod clocks;
mod controller;
pub(crate) mod devices;
mod encodings;
mod entry;
mod events;
mod faults;
mod fifo;
mod floating;
pub(crate) mod grants;
mod identity;
mod injected;
mod input;
mod interrupts;
mod lives;
mod moving;
mod places;
mod power;
mod programs;
mod remote;
mod shares;
mod sharing;
pub(crate) mod smp;
pub(crate) mod store;
pub(crate) mod storm;
mod timers;
mod witness;

use crate::check::{BARE, TWO, Test, XEN, XEN_TWO};

/// All of them; `test=all` runs them in this order.
pub(crate) const ALL: &[Test] = &[
    Test::new("entry-state", BARE, entry::state),
    Test::new("entry-memory", BARE, entry::memory),
    Test::new("entry-tree", BARE, entry::tree),
    Test::new("ram-edges", BARE, entry::ram_edges),
    Test::new("psci-version", BARE, power::version),
    Test::new("psci-features", XEN, power::features),
    Test::new("psci-affinity", BARE, power::affinity),
    Test::new("psci-errors", BARE, power::errors),
    Test::new("psci-smc", XEN, power::smc),
    Test::new("psci-suspend", BARE, power::suspend),
    Test::new("smccc", XEN, power::smccc),
    Test::new("smp-start", TWO, smp::start),
    Test::new("smp-again", TWO, smp::again),
    Test::new("smp-storm", TWO, storm::storm),
    Test::new("smp-ipi", TWO, smp::ipi),
    Test::new("smp-broadcast", TWO, smp::broadcast),
    Test::new("smp-atomics", TWO, smp::atomics),
    Test::new("smp-timer", TWO, smp::timer),
    Test::new("counter", BARE, timers::counter),
    Test::new("timer-accuracy", BARE, timers::accuracy),
    Test::new("timer-wfi", BARE, timers::wfi),
    Test::new("timer-rearm", BARE, timers::rearm),
    Test::new("timer-compare-only", BARE, timers::compare_only),
    Test::new("timer-masked", BARE, timers::masked),
    Test::new("timer-imask", BARE, timers::imask),
    Test::new("timer-withdraw", BARE, timers::withdraw),
    Test::new("timer-past", BARE, timers::past),
    Test::new("timer-physical", BARE, timers::physical),
    Test::new("sgi-self", BARE, interrupts::sgi_self),
    Test::new("wfi-wake", BARE, interrupts::wfi_wake),
    Test::new("gic-identity", BARE, interrupts::identity),
    Test::new("gic-enable", BARE, interrupts::enable),
    Test::new("gic-priority", BARE, interrupts::priority),
    Test::new("gic-priority-mask", BARE, interrupts::priority_mask),
    Test::new("gic-order", BARE, interrupts::order),
    Test::new("gic-many", BARE, interrupts::many),
    Test::new("gic-pending", BARE, interrupts::pending),
    Test::new("gic-active", BARE, interrupts::active),
    Test::new("gic-route", TWO, interrupts::route),
    Test::new("gic-preemption", BARE, controller::preemption),
    Test::new("gic-binary-point", BARE, controller::binary_point),
    Test::new("gic-split-end", BARE, controller::split_end),
    Test::new("gic-split-many", BARE, controller::split_many),
    Test::new("gic-many-in-order", BARE, controller::many_in_order),
    Test::new("gic-nested", BARE, controller::nested),
    Test::new("gic-active-register", BARE, controller::active_by_register),
    Test::new("gic-edge-again", BARE, controller::edge_again),
    Test::new("gic-level-virtual", BARE, controller::level_virtual_timer),
    Test::new("gic-level-physical", BARE, controller::level_physical_timer),
    Test::new("gic-latch-virtual", BARE, controller::latch_virtual_timer),
    Test::new("gic-latch-physical", BARE, controller::latch_physical_timer),
    Test::new("gic-widths", XEN, controller::widths),
    Test::new("gic-sources", TWO, remote::sources),
    Test::new("gic-remote", TWO, remote::state),
    Test::new("gic-crossed", TWO, remote::crossed),
    Test::new("timer-corners", BARE, clocks::corners),
    Test::new("timer-busy", BARE, clocks::busy),
    Test::new("id-registers", XEN, identity::registers),
    Test::new("id-space", BARE, identity::space),
    Test::new("system-registers", XEN, identity::trapped),
    Test::new("trapped-read-switched", TWO, identity::switched),
    Test::new("set-way", BARE, identity::set_way),
    Test::new("set-way-caches", BARE, identity::set_way_caches),
    Test::new("program-calls", XEN, programs::calls),
    Test::new("program-aarch32", XEN, programs::aarch32),
    Test::new("aarch32-timers", BARE, programs::aarch32_timers),
    Test::new("aarch32-debug", XEN, programs::aarch32_debug),
    Test::new("fp-alone", BARE, floating::alone),
    Test::new("fp-smp", TWO, floating::smp),
    Test::new("fault-unmapped", XEN, faults::unmapped),
    Test::new("fault-syndrome", XEN, faults::syndrome),
    Test::new("fault-window", XEN, faults::window),
    Test::new("fault-uart", XEN, faults::uart),
    Test::new("fault-no-syndrome", XEN, faults::no_syndrome),
    Test::new("hvc-immediate", XEN, faults::immediate),
    Test::new("injected-state", XEN, injected::state),
    Test::new("balloon-pages", XEN, balloon::pages),
    Test::new("balloon-chunks", XEN, balloon::chunks),
    Test::new("balloon-errors", XEN, balloon::errors),
    Test::new("balloon-under-a-page", XEN, balloon::under_a_page),
    Test::new("balloon-race", XEN_TWO, balloon::race),
    Test::new("memory-batch", XEN, balloon::batch),
    Test::new("grant-map", XEN, grants::map),
    Test::new("grant-entries", XEN, grants::entries),
    Test::new("grant-share", XEN, sharing::maps),
    Test::new("grant-read-only", XEN, sharing::read_only),
    Test::new("grant-over-ram", XEN, sharing::over_ram),
    Test::new("grant-copy", XEN, sharing::copies),
    Test::new("grant-copy-edges", XEN, sharing::copy_edges),
    Test::new("grant-refusals", XEN, sharing::refusals),
    Test::new("grant-lists", XEN, sharing::lists),
    Test::new("grant-others", XEN, sharing::others),
    Test::new("grant-race", XEN_TWO, sharing::race),
    Test::new("event-ipi", XEN, events::ipi),
    Test::new("event-loopback", XEN, events::loopback),
    Test::new("event-mask", XEN, events::mask),
    Test::new("event-poll", XEN, events::poll),
    Test::new("event-wfi", XEN, events::wfi),
    Test::new("event-status", XEN, events::status),
    Test::new("event-exhaust", XEN, events::exhaust),
    Test::new("event-smp", XEN_TWO, events::smp),
    Test::new("event-fifo", XEN, fifo::all),
];

/// Tests that need somebody at the console or other guests, that are measurements, or that take long: never part of
/// `all`.
pub(crate) const BY_NAME: &[Test] = &[
    Test::new("input", BARE, input::line),
    Test::new("virq-debug", XEN, channels::debug),
    Test::new("echo", BARE, input::echo),
    Test::new("witness", BARE, witness::watch),
    Test::new("ready", XEN, input::ready),
    Test::new("grant-give", XEN, sharing::give),
    Test::new("grant-use", XEN, sharing::use_grants),
    Test::new("keep", XEN, lives::keep),
    Test::new("live", XEN_TWO, lives::live),
    Test::new("space", XEN, encodings::kernel),
    Test::new("space-el0", XEN, encodings::program),
    Test::new("count", XEN, crate::count::run),
    Test::new("latency", BARE, crate::latency::run),
    Test::new("moves", XEN, moving::moves),
    Test::new("share", XEN, shares::share),
    Test::new("deadlines", XEN, shares::deadlines),
    Test::new("reach", XEN, channels::reach),
    Test::new("channel-fixed", XEN, channels::fixed),
    Test::new("channel-peers", XEN, channels::peers),
    Test::new("rtc", BARE, devices::rtc),
    Test::new("direct-map", XEN, places::direct),
    Test::new("shared-memory", BARE, places::shared),
];
