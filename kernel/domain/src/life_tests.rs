use super::*;
use proptest::prelude::*;

const CRASH: Cause = Cause::Guest(ShutdownReason::Crash);
const POWER_OFF: Cause = Cause::Guest(ShutdownReason::PowerOff);
const REBOOT: Cause = Cause::Guest(ShutdownReason::Reboot);

fn running(policy: Policy, now: u64) -> Life {
    let mut life = Life::new(policy);
    life.start().unwrap();
    life.built(now);
    assert_eq!(life.state(), State::Running);
    life
}

fn policy(restart: Restart) -> Policy {
    Policy {
        restart,
        ..Policy::default()
    }
}

/// Ends a life, and says what follows.
fn ended(life: &mut Life, cause: Cause, now: u64) -> Next {
    assert!(life.end(cause) && life.unloaded());
    life.released(now)
}

#[test]
fn who_lives_again() {
    let again = |restart, cause| {
        let next = ended(&mut running(policy(restart), 0), cause, 5);
        matches!(next, Next::Again { .. })
    };
    for cause in [POWER_OFF, REBOOT, CRASH] {
        assert!(!again(Restart::Never, cause));
        assert!(again(Restart::Always, cause));
    }
    assert!(!again(Restart::OnCrash, POWER_OFF));
    assert!(again(Restart::OnCrash, REBOOT) && again(Restart::OnCrash, CRASH));
    let watchdog = Cause::Guest(ShutdownReason::Watchdog);
    assert!(again(Restart::OnCrash, watchdog));
    for restart in [Restart::Never, Restart::OnCrash, Restart::Always] {
        assert!(!again(restart, Cause::Destroyed));
        assert!(again(restart, Cause::Restarted));
    }
}

#[test]
fn restarts_in_a_row_wait_longer_each_time_and_have_a_limit() {
    let limited = Policy {
        restart: Restart::OnCrash,
        limit: 3,
        back_off: 100,
    };
    let mut life = running(limited, 0);
    let mut now = 0;
    for delay in [100, 200, 400] {
        now += 10;
        assert_eq!(
            ended(&mut life, CRASH, now),
            Next::Again { at: now + delay }
        );
        now += delay;
        life.start().unwrap();
        life.built(now);
    }
    // It has lived long enough for a new row.
    now += STEADY;
    assert_eq!(ended(&mut life, CRASH, now), Next::Again { at: now + 100 });
    for _ in 0..2 {
        life.start().unwrap();
        life.built(now);
        assert!(matches!(ended(&mut life, CRASH, now), Next::Again { .. }));
    }
    life.start().unwrap();
    life.built(now);
    assert_eq!(ended(&mut life, CRASH, now), Next::GaveUp);
    assert_eq!((life.state(), life.restarts()), (State::Stopped, 6));
}

#[test]
fn what_the_operator_wants_counts_more_than_the_policy() {
    let mut life = running(policy(Restart::Always), 0);
    life.ask(Then::Stay).unwrap();
    assert_eq!(life.asked(), Some(Then::Stay));
    assert_eq!(ended(&mut life, POWER_OFF, 1), Next::Stay);
    let mut life = running(policy(Restart::Never), 0);
    life.ask(Then::Again).unwrap();
    assert_eq!(ended(&mut life, Cause::NoAnswer, 1), Next::Again { at: 1 });
    // Asked for once, it is not asked for in the next life.
    life.start().unwrap();
    life.built(2);
    assert_eq!((life.asked(), life.restarts()), (None, 1));
}

#[test]
fn destroying_stops_a_restart_on_its_way() {
    let mut life = running(policy(Restart::Always), 0);
    assert!(life.end(CRASH));
    assert_eq!(life.destroy(), Ok(false));
    assert!(life.unloaded());
    assert_eq!(life.released(1), Next::Stay);
    let mut life = running(policy(Restart::Always), 0);
    assert!(matches!(ended(&mut life, CRASH, 1), Next::Again { .. }));
    assert_eq!(life.destroy(), Ok(false));
    assert_eq!(life.released(2), Next::Stay);
    assert_eq!(life.destroy(), Err(Refusal::Is(State::Stopped)));
    life.start().unwrap();
}

#[test]
fn delays_have_an_upper_bound() {
    let slow = Policy {
        back_off: u32::MAX,
        ..Policy::default()
    };
    assert_eq!(slow.delay(u32::MAX), LONGEST_DELAY);
    assert_eq!(slow.delay(0), LONGEST_DELAY);
    let none = Policy {
        back_off: 0,
        ..Policy::default()
    };
    assert_eq!(none.delay(9), 0);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    Built,
    Failed,
    Pause,
    Resume,
    Ask(bool),
    End(bool),
    Restart,
    Destroy,
    Unloaded,
    Released,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Start),
        Just(Step::Built),
        Just(Step::Failed),
        Just(Step::Pause),
        Just(Step::Resume),
        any::<bool>().prop_map(Step::Ask),
        any::<bool>().prop_map(Step::End),
        Just(Step::Restart),
        Just(Step::Destroy),
        Just(Step::Unloaded),
        Just(Step::Released),
    ]
}

proptest! {
    /// In whatever order things are asked for: each life begins with a build, ends once, is released once, and
    /// nobody lives again more often in a row than the policy lets them.
    #[test]
    fn lives_do_not_overlap(
        steps in prop::collection::vec((step(), 0_u64..200), 1..200),
        limit in 1_u32..4,
        always in any::<bool>(),
    ) {
        let restart = if always { Restart::Always } else { Restart::OnCrash };
        let mut life = Life::new(Policy { restart, limit, back_off: 10 });
        let (mut alive, mut dying) = (false, false);
        let (mut now, mut ordered) = (0, false);
        let mut by_itself = 0;
        for (step, passed) in steps {
            now += passed;
            let before = life;
            match step {
                Step::Start => if life.start().is_ok() {
                    prop_assert!(!alive && !dying);
                    if !matches!(before.state(), State::Delayed { .. }) {
                        by_itself = 0;
                    }
                },
                Step::Built => {
                    life.built(now);
                    if before.state() == State::Building {
                        alive = true;
                    }
                }
                Step::Failed => {
                    life.failed();
                    if before.state() == State::Building {
                        (dying, ordered) = (true, true);
                    }
                }
                Step::Pause => prop_assert_eq!(life.pause().is_ok(), before.state() == State::Running),
                Step::Resume => prop_assert_eq!(life.resume().is_ok(), before.state() == State::Paused),
                Step::Ask(stay) => {
                    let _ = life.ask(if stay { Then::Stay } else { Then::Again });
                }
                Step::End(crash) => if life.end(if crash { CRASH } else { POWER_OFF }) {
                    prop_assert!(alive);
                    ordered = before.asked().is_some();
                    (alive, dying) = (false, true);
                },
                Step::Restart => if life.end(Cause::Restarted) {
                    prop_assert!(alive);
                    (alive, dying, ordered) = (false, true, true);
                },
                Step::Destroy => if let Ok(begins) = life.destroy() {
                    prop_assert_eq!(begins, alive);
                    (alive, dying, ordered) = (false, true, true);
                },
                Step::Unloaded => {
                    let _ = life.unloaded();
                }
                Step::Released => {
                    let next = life.released(now);
                    if before.state() == State::Releasing {
                        prop_assert!(dying);
                        dying = false;
                        match next {
                            Next::Again { at } => {
                                prop_assert!(at >= now);
                                by_itself = if ordered { by_itself } else { by_itself + 1 };
                                prop_assert_eq!(life.state(), State::Delayed { until: at });
                            }
                            Next::Stay | Next::GaveUp => prop_assert_eq!(life.state(), State::Stopped),
                        }
                    } else {
                        prop_assert_eq!(next, Next::Stay);
                        prop_assert_eq!(life, before);
                    }
                }
            }
            prop_assert_eq!(life.state().is_alive(), alive);
            // Lives are far shorter than what ends a row.
            prop_assert!(by_itself <= limit || now >= STEADY);
        }
    }
}
