//! The steps of the 2-level protocol and of a poll, taken by two threads at once: no event is lost.

use super::support::page;
use crate::{Config, Host, SharedPage, XenState};
use abi::shared_info::{SHARED_INFO_EVTCHN_MASK as MASK, SHARED_INFO_EVTCHN_PENDING as PENDING};
use abi::{DomainId, VcpuId};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

const EVENTS: u32 = 5_000;

#[derive(Default)]
struct Counts {
    upcalls: AtomicU32,
    wakes: AtomicU32,
}

impl Host for Counts {
    fn upcall(&self, _: DomainId, _: VcpuId) {
        self.upcalls.fetch_add(1, SeqCst);
    }
    fn wake(&self, _: DomainId, _: VcpuId) {
        self.wakes.fetch_add(1, SeqCst);
    }
    fn peer(&self, _: DomainId) -> Option<&XenState> {
        None
    }
    super::support::no_grants!();
    fn console_write(&self, _: DomainId, _: &[u8]) {}
    fn condemn(&self, _: DomainId) {}
    fn release_page(&self, _: DomainId, _: &SharedPage) {}
    fn serve_store(&self, _: DomainId) -> bool {
        false
    }
    fn console_has_room(&self, _: DomainId) -> bool {
        true
    }
}

fn state() -> XenState {
    XenState::new(&Config::new(DomainId(1), 2, page(), page())).unwrap()
}

/// Spins until `done`, or fails after a time in which any machine gets there.
fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "lost: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn every_event_is_announced() {
    let (state, counts, work) = (state(), Counts::default(), AtomicU32::new(0));
    let port = state.bind_ipi(0).unwrap();
    let word = |array: usize| {
        state
            .shared_info
            .u64(array + port as usize / 64 * 8)
            .unwrap()
    };
    let bit = 1_u64 << (port % 64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..EVENTS {
                work.fetch_add(1, SeqCst);
                state.send(&counts, port).unwrap();
            }
        });
        // The guest: it sleeps until an upcall, masks while it handles, and unmasks by hypercall.
        let (mut seen, mut upcalls) = (0, 0);
        while seen < EVENTS {
            wait("upcall", || counts.upcalls.load(SeqCst) != upcalls);
            upcalls = counts.upcalls.load(SeqCst);
            state.shared_info.u8(0).unwrap().store(0, SeqCst);
            state.shared_info.u64(8).unwrap().swap(0, SeqCst);
            if word(PENDING).load(SeqCst) & bit != 0 && word(MASK).load(SeqCst) & bit == 0 {
                word(MASK).fetch_or(bit, SeqCst);
                word(PENDING).fetch_and(!bit, SeqCst);
                seen = work.load(SeqCst);
                state.unmask(&counts, port).unwrap();
            }
        }
    });
}

#[test]
fn every_poll_ends() {
    let (state, counts, round) = (state(), Counts::default(), AtomicU32::new(0));
    let port = state.bind_ipi(0).unwrap();
    let (id, vcpu) = state.vcpu(1).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 1..=EVENTS {
                wait("round", || round.load(SeqCst) == turn);
                state.send(&counts, port).unwrap();
            }
        });
        for turn in 1..=EVENTS {
            round.store(turn, SeqCst);
            state.start_poll(vcpu, &[port]);
            if !state.is_pending(port) {
                wait("wake", || !state.is_polling(id));
            }
            state.end_poll(id);
            wait("event", || state.is_pending(port));
            state.clear_pending(port);
        }
    });
    assert_eq!(state.events.pollers.load(SeqCst), 0);
    assert!(counts.wakes.load(SeqCst) <= EVENTS);
}
