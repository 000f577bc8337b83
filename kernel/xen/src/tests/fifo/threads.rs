//! FIFO events while vCPUs run at the same time: none is lost, and no call waits for a guest.

use super::*;

#[derive(Default)]
struct Counts(AtomicU32);

impl Host for Counts {
    fn upcall(&self, _: DomainId, _: VcpuId) {
        self.0.fetch_add(1, SeqCst);
    }
    fn wake(&self, _: DomainId, _: VcpuId) {}
    fn peer(&self, _: DomainId) -> Option<&XenState> {
        None
    }
    crate::support::no_grants!();
    fn console_write(&self, _: DomainId, _: &[u8]) {}
    fn serve_store(&self, _: DomainId) -> bool {
        false
    }
    fn condemn(&self, _: DomainId) {}
    fn release_page(&self, _: DomainId, _: &SharedPage) {}
    fn console_has_room(&self, _: DomainId) -> bool {
        true
    }
}

/// A domain on the FIFO ABI, and its consumer.
fn threaded() -> (XenState, Consumer) {
    let state = XenState::new(&Config::new(DomainId(1), 1, page(), page())).unwrap();
    let (control, words) = (page(), page());
    let mut fifo = state.events.fifo.lock();
    assert_eq!(fifo.set_control(0, control, 0), Ok(true));
    fifo.add_page(words).unwrap();
    drop(fifo);
    state.events.uses_fifo.store(true, SeqCst);
    (state, Consumer::new(control, 0, words))
}

#[test]
fn no_event_is_lost_between_threads() {
    const EVENTS: u32 = 3_000;
    const PORTS: u32 = 6;
    let (state, mut consumer) = threaded();
    let counts = Counts::default();
    let work: Vec<AtomicU32> = (0..PORTS).map(|_| AtomicU32::new(0)).collect();
    let ports: Vec<u32> = (0..PORTS).map(|_| state.bind_ipi(0).unwrap()).collect();
    for (port, priority) in ports.iter().zip([7, 7, 7, 0, 0, 15]) {
        state.set_priority(*port, priority).unwrap();
    }
    std::thread::scope(|scope| {
        for sender in 0..2 {
            let (work, ports, state, counts) = (&work, &ports, &state, &counts);
            scope.spawn(move || {
                for turn in 0..EVENTS {
                    let at = ((turn * 2 + sender) % PORTS) as usize;
                    work[at].fetch_add(1, SeqCst);
                    state.send(counts, ports[at]).unwrap();
                    if turn % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut seen = vec![0; PORTS as usize];
        let (mut upcalls, start, mut turn) = (0, Instant::now(), 0_u32);
        while seen.iter().sum::<u32>() < 2 * EVENTS {
            while counts.0.load(SeqCst) == upcalls {
                assert!(start.elapsed() < Duration::from_secs(20), "lost: {seen:?}");
                std::thread::yield_now();
            }
            upcalls = counts.0.load(SeqCst);
            state.shared_info.u8(0).unwrap().store(0, SeqCst);
            while let Some(taken) = consumer.take() {
                let Some(port) = taken else { continue };
                let at = ports.iter().position(|own| *own == port).unwrap();
                // Some are masked while they are handled.
                turn += 1;
                let mask = turn % 3 == 0;
                if mask {
                    consumer.word(port).fetch_or(op::FIFO_MASKED, SeqCst);
                }
                seen[at] = work[at].load(SeqCst);
                if mask && !consumer.clear_masked(port) {
                    state.unmask(&counts, port).unwrap();
                }
            }
        }
    });
}

#[test]
fn every_call_ends_while_the_guest_writes_without_pause() {
    let (state, consumer) = threaded();
    let (counts, stop) = (Counts::default(), AtomicU32::new(0));
    let ports: Vec<u32> = (0..4).map(|_| state.bind_ipi(0).unwrap()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 1_u32;
            while stop.load(SeqCst) == 0 {
                value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                consumer.word(value >> 8 & 7).store(value, SeqCst);
                consumer
                    .control((value >> 16 & 15) as usize * 4)
                    .store(value, SeqCst);
            }
        });
        for turn in 0..20_000 {
            let _ = state.send(&counts, ports[turn % ports.len()]);
        }
        stop.store(1, SeqCst);
    });
}
