use super::support::{BASE, Guest, Machine, SCRATCH, SIZE};
use crate::Outcome;
use abi::hypercall::{
    CONSOLE_IO, EVENT_CHANNEL_OP, MULTICALL, MulticallEntry, SCHED_OP, XEN_VERSION,
};
use abi::{event_channel as event, sched};

const LIST: u64 = BASE + 0x4000;

fn entry(op: u64, args: &[u64]) -> MulticallEntry {
    let mut entry = MulticallEntry {
        op,
        result: 0x77,
        args: [0; 6],
    };
    entry.args[..args.len()].copy_from_slice(args);
    entry
}

fn run(guest: &Guest, entries: &[MulticallEntry]) -> (Outcome, Vec<i64>) {
    for (index, entry) in entries.iter().enumerate() {
        guest.put(LIST + index as u64 * 64, entry);
    }
    let outcome = guest.call(MULTICALL, &[LIST, entries.len() as u64]);
    let results = (0..entries.len()).map(|index| {
        let entry: MulticallEntry = guest.get(LIST + index as u64 * 64);
        entry.result
    });
    (outcome, results.collect())
}

#[test]
fn results_go_into_the_list() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let entries = [
        entry(XEN_VERSION, &[0]),
        entry(99, &[]),
        entry(MULTICALL, &[LIST, 1]),
        entry(XEN_VERSION, &[6, 8]),
    ];
    let (outcome, results) = run(&guest, &entries);
    assert_eq!(outcome, Outcome::Return(0));
    assert_eq!(results, [0x4_0014, -38, -22, -14]);
    assert_eq!(guest.returns(MULTICALL, &[8, 0]), 0);
    assert_eq!(guest.returns(MULTICALL, &[8, 1]), -14);
}

#[test]
fn a_long_list_goes_on_after_each_step() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let (outcome, results) = run(&guest, &[entry(XEN_VERSION, &[0]); 100]);
    assert_eq!(outcome, Outcome::Return(0));
    assert_eq!(results, [0x4_0014; 100]);
    // A list that ends in nothing: what was done is done.
    let near_end = BASE + SIZE - 640;
    assert_eq!(
        guest.returns(MULTICALL, &[near_end, u64::from(u32::MAX)]),
        -14
    );
}

#[test]
fn a_nested_call_that_is_restarted_goes_on_from_where_it_was() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let write = entry(CONSOLE_IO, &[0, 9000, BASE]);
    let (outcome, results) = run(&guest, &[entry(XEN_VERSION, &[0]), write, write]);
    assert_eq!(
        (outcome, results),
        (Outcome::Return(0), vec![0x4_0014, 0, 0])
    );
    assert_eq!(guest.physical.output.borrow().len(), 18_000);
}

#[test]
fn the_cpu_is_given_up_at_the_end_alone() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let pause = entry(SCHED_OP, &[sched::YIELD]);
    let version = entry(XEN_VERSION, &[0]);
    let (outcome, results) = run(&guest, &[pause, version]);
    assert_eq!((outcome, results), (Outcome::Return(0), vec![0, 0x4_0014]));
    let (outcome, results) = run(&guest, &[version, pause]);
    assert_eq!((outcome, results), (Outcome::Yield, vec![0x4_0014, 0]));

    guest.put(SCRATCH, &sched::Poll::default());
    let poll = entry(SCHED_OP, &[sched::POLL, SCRATCH]);
    let (outcome, results) = run(&guest, &[poll, version]);
    assert_eq!((outcome, results), (Outcome::Return(0), vec![0, 0x4_0014]));
    assert!(!guest.state.is_polling(guest.vcpu));
    let (outcome, results) = run(&guest, &[poll]);
    assert_eq!((outcome, results), (Outcome::Poll(None), vec![0]));
    assert!(guest.state.is_polling(guest.vcpu));
}

#[test]
fn a_shutdown_ends_the_list() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    guest.put(SCRATCH, &1_u32);
    let shutdown = entry(SCHED_OP, &[sched::SHUTDOWN, SCRATCH]);
    let (outcome, results) = run(&guest, &[shutdown, entry(XEN_VERSION, &[0])]);
    assert_eq!((outcome, results), (Outcome::Shutdown(1), vec![0, 0x77]));
}

#[test]
fn events_can_be_sent_in_a_list() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let port = guest.event(event::BIND_IPI, event::BindIpi::default());
    guest.put(SCRATCH, &port.unwrap().port);
    let send = entry(EVENT_CHANNEL_OP, &[event::SEND, SCRATCH]);
    let (outcome, results) = run(&guest, &[send; 9]);
    assert_eq!((outcome, results), (Outcome::Return(0), vec![0; 9]));
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
}
