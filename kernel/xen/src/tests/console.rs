use super::support::{BASE, Machine, SCRATCH, SIZE, page};
use crate::ConsoleRing;
use abi::console as op;
use abi::event_channel as event;
use abi::hypercall::CONSOLE_IO;
use abi::shared_info::SHARED_INFO_EVTCHN_PENDING as PENDING;
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn console_io_writes_and_reads() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let text: Vec<u8> = (0..5000).map(|index| index as u8).collect();
    guest
        .physical
        .memory
        .borrow_mut()
        .splice(0..5000, text.clone());
    assert_eq!(guest.returns(CONSOLE_IO, &[op::WRITE, 5000, BASE]), 0);
    assert_eq!(guest.physical.output.take(), text);
    assert_eq!(guest.returns(CONSOLE_IO, &[op::WRITE, 0, 8]), 0);
    assert_eq!(
        guest.returns(CONSOLE_IO, &[op::WRITE, 200, BASE + SIZE - 100]),
        -14
    );
    assert_eq!(guest.returns(CONSOLE_IO, &[op::WRITE, 1, u64::MAX]), -14);

    assert_eq!(guest.returns(CONSOLE_IO, &[op::READ, 10, SCRATCH]), 0);
    guest
        .physical
        .input
        .borrow_mut()
        .extend_from_slice(b"hello");
    assert_eq!(guest.returns(CONSOLE_IO, &[op::READ, 3, SCRATCH]), 3);
    assert_eq!(&guest.get::<[u8; 3]>(SCRATCH), b"hel");
    assert_eq!(guest.returns(CONSOLE_IO, &[op::READ, 1 << 30, SCRATCH]), 2);
    assert_eq!(guest.returns(CONSOLE_IO, &[op::READ, 1 << 31, SCRATCH]), -7);
    guest.physical.input.borrow_mut().push(1);
    assert_eq!(guest.returns(CONSOLE_IO, &[op::READ, 1, 8]), -14);
    assert_eq!(guest.returns(CONSOLE_IO, &[2, 1, SCRATCH]), -38);
}

#[test]
fn console_io_is_a_right() {
    let machine = Machine::with(1, 1, |config| config.console_io = false);
    let guest = machine.guest(1);
    for cmd in 0..3 {
        assert_eq!(guest.returns(CONSOLE_IO, &[cmd, 1, SCRATCH]), -1);
    }
}

/// The guest's end of a console ring.
struct Front(crate::SharedPage);

impl Front {
    fn index(&self, offset: usize) -> u32 {
        self.0.u32(offset).unwrap().load(SeqCst)
    }

    fn set(&self, offset: usize, value: u32) {
        self.0.u32(offset).unwrap().store(value, SeqCst);
    }

    fn write(&self, bytes: &[u8]) -> usize {
        let (cons, mut prod) = (self.index(op::RING_OUT_CONS), self.index(op::RING_OUT_PROD));
        let room = op::RING_OUT_SIZE - prod.wrapping_sub(cons) as usize;
        let taken = room.min(bytes.len());
        for byte in &bytes[..taken] {
            let at = op::RING_OUT + prod as usize % op::RING_OUT_SIZE;
            self.0.u8(at).unwrap().store(*byte, SeqCst);
            prod = prod.wrapping_add(1);
        }
        self.set(op::RING_OUT_PROD, prod);
        taken
    }

    fn read(&self) -> Vec<u8> {
        let (mut cons, prod) = (self.index(op::RING_IN_CONS), self.index(op::RING_IN_PROD));
        let mut bytes = Vec::new();
        while cons != prod {
            let at = op::RING_IN + cons as usize % op::RING_IN_SIZE;
            bytes.push(self.0.u8(at).unwrap().load(SeqCst));
            cons = cons.wrapping_add(1);
        }
        self.set(op::RING_IN_CONS, cons);
        bytes
    }
}

fn drain(ring: &ConsoleRing) -> (Vec<u8>, crate::Drained) {
    let (mut output, mut corrupted) = (Vec::new(), false);
    loop {
        let mut drained = ring.drain(|bytes| output.extend_from_slice(bytes));
        corrupted |= drained.corrupted;
        if !drained.more {
            drained.corrupted = corrupted;
            return (output, drained);
        }
        assert!(drained.bytes >= 128, "more only when the step is full");
    }
}

#[test]
fn a_sent_event_drains_the_ring_and_is_answered() {
    let machine = Machine::with(1, 1, |config| config.max_port = 1);
    let guest = machine.guest(1);
    let port = guest.state.console_port().unwrap();
    let _: &ConsoleRing = guest.state.console_ring().unwrap();
    guest.event(event::SEND, port).unwrap();
    assert!(machine.take_upcalls().is_empty(), "nothing moved");
    assert_eq!(guest.state.console_input(&machine, b"ls\n"), 3);
    assert!(guest.bit(PENDING, port.0));
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
    assert_eq!(guest.state.console_input(&machine, b""), 0);
    assert_eq!(guest.state.console_input(&machine, &[7; 2000]), 1021);
    assert_eq!(guest.state.console_input(&machine, b"x"), 0, "full");
}

#[test]
fn output_reaches_the_console() {
    let machine = Machine::new(1, 1);
    let shared = page();
    let front = Front(shared);
    let other = Machine::with(1, 1, |config| {
        config.console = Some(crate::ConsoleConfig {
            page: shared,
            gfn: 1,
        });
    });
    drop(machine);
    let guest = other.guest(1);
    let port = guest.state.console_port().unwrap();
    front.write(b"hello\n");
    guest.event(event::SEND, port).unwrap();
    assert_eq!(guest.physical.output.take(), b"hello\n");
    assert_eq!(other.take_upcalls(), [(1, 0)]);
    assert_eq!(front.index(op::RING_OUT_CONS), 6);
    // A full ring takes several steps, and each tells the guest.
    assert_eq!(front.write(&[b'x'; 3000]), 2048);
    guest.event(event::SEND, port).unwrap();
    assert_eq!(guest.physical.output.take(), [b'x'; 2048]);
    assert_eq!(front.index(op::RING_OUT_CONS), 2054);
}

#[test]
fn a_domain_without_a_console_has_none() {
    let machine = Machine::with(1, 1, |config| config.console = None);
    let state = machine.guest(1).state;
    assert_eq!(state.console_port(), None);
    assert!(state.console_ring().is_none());
    assert_eq!(state.console_input(&machine, b"x"), 0);
    state.serve_console(&machine);
    assert_eq!(state.parameters().get(abi::hvm::PARAM_CONSOLE_PFN), Ok(0));
}

#[test]
fn nonsense_indices_are_skipped() {
    let shared = page();
    let (ring, front) = (ConsoleRing::new(shared), Front(shared));
    front.set(op::RING_OUT_PROD, 2049);
    let (output, drained) = drain(&ring);
    assert!(output.is_empty() && drained.corrupted && drained.moved());
    assert_eq!(front.index(op::RING_OUT_CONS), 2049);
    assert_eq!(front.write(b"again"), 5);
    assert_eq!(drain(&ring).0, b"again");
    // The backend's own index is not taken from the page.
    front.set(op::RING_OUT_CONS, 77);
    assert!(!drain(&ring).1.moved());

    front.set(op::RING_IN_CONS, 5000);
    assert_eq!(ring.fill(b"in"), 2);
    assert_eq!(front.read(), b"in");
    front.set(op::RING_IN_PROD, 0);
    assert_eq!(ring.fill(b"put"), 3);
    assert_eq!(front.read(), b"put");
}

proptest! {
    #[test]
    fn both_directions_keep_order_across_the_end(
        start in prop_oneof![Just(0_u32), Just(u32::MAX - 700)],
        steps in proptest::collection::vec((any::<bool>(), 0_usize..900), 1..60),
    ) {
        let shared = page();
        let front = Front(shared);
        let ring = ConsoleRing::new(shared);
        // Both sides start at an index that nobody promised to be 0.
        front.set(op::RING_OUT_PROD, start);
        drain(&ring);
        front.set(op::RING_IN_CONS, start);
        front.set(op::RING_IN_PROD, start);
        ring.fill(&[0]);
        front.read();
        let (mut next, mut wrote, mut got) = (0_u8, Vec::new(), Vec::new());
        let (mut put, mut read) = (Vec::new(), Vec::new());
        for (out, count) in steps {
            let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
            if out {
                let taken = front.write(&bytes);
                wrote.extend_from_slice(&bytes[..taken]);
                if count % 3 != 0 {
                    let (output, drained) = drain(&ring);
                    prop_assert!(!drained.corrupted);
                    got.extend(output);
                }
            } else {
                let taken = ring.fill(&bytes);
                put.extend_from_slice(&bytes[..taken]);
                if count % 3 != 0 {
                    read.extend(front.read());
                }
            }
        }
        got.extend(drain(&ring).0);
        read.extend(front.read());
        prop_assert_eq!(wrote, got);
        prop_assert_eq!(put, read);
    }

    #[test]
    fn random_indices_never_harm(values in proptest::collection::vec((0_usize..4, any::<u32>()), 1..40)) {
        let shared = page();
        let front = Front(shared);
        let ring = ConsoleRing::new(shared);
        for (which, value) in values {
            front.set(op::RING_IN_CONS + which * 4, value);
            prop_assert!(drain(&ring).0.len() <= op::RING_OUT_SIZE);
            prop_assert!(ring.fill(&[1; 3000]) <= op::RING_IN_SIZE);
        }
    }
}
