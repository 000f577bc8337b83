use super::*;
use proptest::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::AtomicU32 as Counter;

fn running() -> RunState {
    let state = RunState::new();
    state.claim().unwrap();
    assert!(state.complete());
    assert!(state.start());
    state
}

#[test]
fn a_vcpu_is_switched_on_and_off() {
    let state = RunState::new();
    assert_eq!(state.power(), Power::Off);
    assert_eq!(state.claim(), Ok(()));
    assert_eq!(state.claim(), Err(ClaimError::OnPending));
    assert!(!state.start());
    assert!(state.complete());
    assert_eq!(state.claim(), Err(ClaimError::AlreadyOn));
    assert!(state.start());
    assert_eq!(state.claim(), Err(ClaimError::AlreadyOn));
    state.stop();
    // Its registers are still in the machine.
    assert_eq!(state.claim(), Err(ClaimError::AlreadyOn));
    state.stopped();
    assert_eq!(state.claim(), Ok(()));
    state.fail();
    assert_eq!(state.power(), Power::Off);
}

#[test]
fn a_dead_vcpu_works_for_its_domain_and_lives_again() {
    let state = running();
    assert_eq!(state.wake(), Wake::Kick);
    assert_eq!(state.hold(), Hold::Kick);
    state.revive();
    assert!(!state.is_held());
    assert_eq!(state.start_for(), Some(For::Hypervisor));
    assert_eq!(state.block(), Block::Blocked, "an old token");
    assert_eq!(state.wake(), Wake::Enqueue);
    assert_eq!(state.start_for(), Some(For::Hypervisor));
    assert!(state.preempt());
    assert_eq!(state.start_for(), Some(For::Hypervisor));
    assert!(state.end_work());
    assert_eq!(state.start_for(), Some(For::Guest));
    let _ = state.hold();
    state.reset();
    assert_eq!((state.power(), state.is_held()), (Power::Off, false));
    assert_eq!(state.claim(), Ok(()));
}

#[test]
fn a_wake_up_before_the_block_is_not_lost() {
    let state = running();
    assert_eq!(state.wake(), Wake::Kick);
    assert_eq!(state.block(), Block::Woken);
    // The token is used up.
    assert_eq!(state.block(), Block::Blocked);
    assert_eq!(state.wake(), Wake::Enqueue);
    assert_eq!(state.wake(), Wake::Nothing);
    assert!(state.start());
    // A wake-up while it was ready leaves no token: it looks for work after it was started.
    assert_eq!(state.block(), Block::Blocked);
}

#[test]
fn a_token_does_not_outlive_its_vcpu() {
    let state = running();
    assert_eq!(state.wake(), Wake::Kick);
    state.stop();
    state.stopped();
    assert_eq!(state.wake(), Wake::Nothing);
    state.claim().unwrap();
    assert!(state.complete() && state.start());
    assert_eq!(state.block(), Block::Blocked);
}

#[test]
fn a_held_vcpu_does_not_run() {
    let state = running();
    assert_eq!(state.hold(), Hold::Kick);
    assert!(state.is_held());
    assert!(!state.preempt());
    assert!(!state.start());
    assert!(state.release());
    assert!(state.start());
    assert!(state.preempt());
    assert_eq!(state.hold(), Hold::Dequeue);
    assert!(state.release() && state.start());

    assert_eq!(state.block(), Block::Blocked);
    assert_eq!(state.hold(), Hold::Nothing);
    assert_eq!(state.wake(), Wake::Nothing);
    assert!(state.release());
    assert!(!state.release());
}

#[test]
fn a_vcpu_that_is_switched_on_while_held_waits() {
    let state = RunState::new();
    assert_eq!(state.hold(), Hold::Nothing);
    state.claim().unwrap();
    assert!(!state.complete());
    assert!(state.release());
    assert_eq!(format!("{state:?}"), "RunState(Ready)");
}

#[test]
fn one_of_many_starts_it() {
    for _ in 0..200 {
        let state = RunState::new();
        let barrier = Barrier::new(4);
        let won = Counter::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    if state.claim().is_ok() {
                        won.fetch_add(1, Ordering::Relaxed);
                        assert!(state.complete());
                    }
                });
            }
        });
        assert_eq!(won.load(Ordering::Relaxed), 1);
        assert_eq!(state.power(), Power::Ready);
    }
}

#[test]
fn the_first_reason_counts() {
    let shutdown = Shutdown::new();
    assert_eq!(shutdown.reason(), None);
    assert!(shutdown.begin(ShutdownReason::Crash));
    assert!(!shutdown.begin(ShutdownReason::PowerOff));
    assert_eq!(shutdown.reason(), Some(ShutdownReason::Crash));
    shutdown.clear();
    assert_eq!(shutdown.reason(), None);
}

#[test]
fn reasons_have_numbers_and_names() {
    let names: Vec<String> = (0..=abi::sched::SHUTDOWN_MAX)
        .map(|number| {
            let reason = ShutdownReason::from_number(number).unwrap();
            assert_eq!(reason.number(), number);
            reason.to_string()
        })
        .collect();
    assert_eq!(
        names,
        [
            "poweroff",
            "reboot",
            "suspend",
            "crash",
            "watchdog",
            "soft reset"
        ]
    );
    assert_eq!(ShutdownReason::from_number(6), None);
    assert_eq!(ShutdownReason::from_number(u32::MAX), None);
}

proptest! {
    /// Any order of calls leaves a state that the next call understands, and only legal steps are taken.
    #[test]
    fn only_legal_steps_are_taken(calls in prop::collection::vec(0_u8..11, 0..200)) {
        let state = RunState::new();
        for call in calls {
            let before = state.power();
            let held = state.is_held();
            match call {
                0 => {
                    let expected = match before {
                        Power::Off => Ok(()),
                        Power::Starting => Err(ClaimError::OnPending),
                        _ => Err(ClaimError::AlreadyOn),
                    };
                    prop_assert_eq!(state.claim(), expected);
                }
                1 => prop_assert_eq!(state.complete(), before == Power::Starting && !held),
                2 => state.fail(),
                3 => prop_assert_eq!(state.start(), before == Power::Ready && !held),
                4 => prop_assert_eq!(state.preempt(), before == Power::Running && !held),
                5 => {
                    let blocked = state.block() == Block::Blocked;
                    prop_assert!(!blocked || before == Power::Running);
                }
                6 => prop_assert_eq!(
                    state.wake() == Wake::Enqueue, before == Power::Blocked && !held
                ),
                7 => state.stop(),
                8 => state.stopped(),
                9 => {
                    let _ = state.hold();
                    prop_assert!(state.is_held());
                }
                _ => prop_assert_eq!(state.release(), held && before == Power::Ready),
            }
            let after = state.power();
            let legal = before == after || matches!(
                (before, after),
                (Power::Off, Power::Starting)
                    | (Power::Starting, Power::Off | Power::Ready)
                    | (Power::Ready, Power::Running)
                    | (Power::Running, Power::Ready | Power::Blocked | Power::Stopping)
                    | (Power::Blocked, Power::Ready)
                    | (Power::Stopping, Power::Off)
            );
            prop_assert!(legal, "{:?} to {:?}", before, after);
        }
    }
}
