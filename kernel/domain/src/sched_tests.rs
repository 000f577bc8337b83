use super::*;
use proptest::prelude::*;

const SLICE: u64 = 1000;

fn queue(vcpus: u32) -> (RunQueue<u32>, Vec<Slot>) {
    let mut queue = RunQueue::new(0, SLICE);
    let slots = (0..vcpus)
        .map(|vcpu| queue.add(vcpu, Parameters::default()).unwrap())
        .collect();
    (queue, slots)
}

fn weight(weight: u16) -> Parameters {
    Parameters {
        weight,
        ..Parameters::default()
    }
}

fn real_time(period: u64, budget: u64) -> Parameters {
    Parameters {
        affinity: 1,
        class: Class::RealTime(Reservation { period, budget }),
        ..Parameters::default()
    }
}

/// Who runs, and until when.
fn pick(queue: &mut RunQueue<u32>, now: u64) -> (Option<u32>, Option<u64>) {
    let picked = queue.pick(now);
    (picked.next, picked.slice_end)
}

#[test]
fn ten_milliseconds_in_ticks() {
    assert_eq!(slice_ticks(62_500_000), 625_000);
    assert_eq!(slice_ticks(0), 0);
    assert_eq!(slice_ticks(u64::MAX), u64::MAX / 1000);
}

#[test]
fn nobody_runs_before_it_is_woken() {
    let (mut queue, slots) = queue(2);
    assert_eq!(pick(&mut queue, 0), (None, None));
    assert!(queue.wake(slots[1], 0));
    assert!(!queue.wake(slots[1], 0));
    assert_eq!(pick(&mut queue, 0), (Some(1), None));
    assert_eq!(queue.current(), Some(1));
}

#[test]
fn a_lone_vcpu_has_no_end_of_slice() {
    let (mut queue, slots) = queue(2);
    queue.wake(slots[0], 0);
    for now in [0, 1, SLICE, 1_000_000] {
        assert_eq!(pick(&mut queue, now), (Some(0), None));
        assert!(queue.is_alone());
    }
    // It yields to nobody.
    queue.yield_now();
    assert_eq!(pick(&mut queue, 1_000_001), (Some(0), None));
}

#[test]
fn who_slept_runs_at_once_and_others_in_turn() {
    let (mut queue, slots) = queue(2);
    queue.wake(slots[0], 0);
    queue.pick(0);
    // It woke a slice before the other, however long it slept.
    assert!(queue.wake(slots[1], 10 * SLICE));
    let end = 11 * SLICE;
    assert_eq!(pick(&mut queue, 10 * SLICE), (Some(1), Some(end)));
    assert_eq!(pick(&mut queue, end - 1), (Some(1), Some(end)));
    assert_eq!(pick(&mut queue, end), (Some(0), Some(end + SLICE)));
    assert_eq!(pick(&mut queue, end + SLICE).0, Some(1));
}

#[test]
fn who_wakes_beside_one_that_just_started_waits() {
    let (mut queue, slots) = queue(3);
    queue.wake(slots[0], 0);
    queue.pick(0);
    assert!(queue.wake(slots[1], 0), "a timer must be set now");
    assert_eq!(pick(&mut queue, 10), (Some(0), Some(SLICE)));
    assert!(!queue.wake(slots[2], 20), "the timer is set already");
    queue.block(slots[0], 20);
    assert_eq!(pick(&mut queue, 20), (Some(1), Some(20 + SLICE)));
    queue.yield_now();
    assert_eq!(pick(&mut queue, 30).0, Some(2));
}

#[test]
fn who_sleeps_and_wakes_all_the_time_gets_no_more_than_its_share() {
    let (mut queue, slots) = queue(2);
    queue.wake(slots[0], 0);
    queue.wake(slots[1], 0);
    let mut ran = [0, 0];
    let mut now = 0;
    // vCPU 1 sleeps for a tick after each hundred.
    while now < 100 * SLICE {
        let (next, end) = pick(&mut queue, now);
        let next = next.unwrap();
        let until = if next == 1 {
            now + 100
        } else {
            end.unwrap_or(now + 1).min(now + 100)
        };
        ran[next as usize] += until - now;
        now = until;
        if next == 1 {
            queue.block(slots[1], now);
            queue.pick(now);
            now += 1;
            ran[0] += 1;
            queue.wake(slots[1], now);
        }
    }
    assert!(ran[0].abs_diff(ran[1]) < 3 * SLICE, "{ran:?}");
}

#[test]
fn yielding_lets_everybody_go_first_and_costs_no_more_than_a_slice() {
    let (mut queue, slots) = queue(3);
    for slot in &slots {
        queue.wake(*slot, 0);
    }
    let mut order = Vec::new();
    for now in 0..9 {
        order.extend(pick(&mut queue, now).0);
        queue.yield_now();
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    queue.block(slots[2], 9);
    // One yields a thousand times while the other computes: then it has its half again.
    let mut now = 10;
    for _ in 0..1000 {
        if pick(&mut queue, now).0 == Some(0) {
            queue.yield_now();
        }
        now += 10;
    }
    let mut ran = [0, 0];
    for _ in 0..100 {
        let (next, end) = pick(&mut queue, now);
        let end = end.unwrap();
        ran[next.unwrap() as usize] += end - now;
        now = end;
    }
    assert!(ran[0].abs_diff(ran[1]) <= 2 * SLICE, "{ran:?}");
}

#[test]
fn a_waiting_vcpu_can_be_blocked_or_removed() {
    let (mut queue, slots) = queue(4);
    for slot in &slots {
        queue.wake(*slot, 0);
    }
    assert_eq!(queue.pick(0).next, Some(0));
    queue.block(slots[2], 0);
    queue.remove(slots[1]);
    assert_eq!(queue.pick(SLICE).next, Some(3));
    assert_eq!(queue.pick(2 * SLICE).next, Some(0));
    queue.remove(slots[0]);
    assert_eq!(pick(&mut queue, 2 * SLICE), (Some(3), None));
    // A free place is used again, and what is removed stays so.
    let again = queue.add(9, Parameters::default()).unwrap();
    assert!(again == slots[0] || again == slots[1]);
    let gone = if again == slots[0] {
        slots[1]
    } else {
        slots[0]
    };
    assert!(!queue.wake(gone, 0));
    queue.remove(gone);
    queue.block(gone, 0);
    assert!(!queue.waits(again) && queue.wake(again, 2 * SLICE) | queue.waits(again));
}

#[test]
fn a_place_removed_twice_is_given_out_once() {
    let (mut queue, slots) = queue(2);
    queue.remove(slots[0]);
    queue.remove(slots[0]);
    let first = queue.add(5, Parameters::default()).unwrap();
    let second = queue.add(6, Parameters::default()).unwrap();
    assert_ne!(first, second);
    assert_ne!(second, slots[1]);
}

#[test]
fn a_queue_has_an_end() {
    let mut queue = RunQueue::new(0, SLICE);
    for vcpu in 0..u32::from(u16::MAX) {
        queue.add(vcpu, Parameters::default()).unwrap();
    }
    assert_eq!(queue.add(0, Parameters::default()), Err(AddError::Full));
}

#[test]
fn real_time_comes_first_and_overruns_are_contained() {
    let mut queue = RunQueue::new(0, SLICE);
    let hog = queue.add(0, Parameters::default()).unwrap();
    let urgent = queue.add(1, real_time(1000, 200)).unwrap();
    queue.wake(hog, 0);
    queue.pick(0);
    assert!(queue.wake(urgent, 100));
    assert_eq!(pick(&mut queue, 100), (Some(1), Some(300)));
    assert!(!queue.is_alone());
    // It does not stop: the other goes on, as soon as it has used as much as that.
    assert_eq!(pick(&mut queue, 300).0, Some(0));
    // In its next period it has the CPU again, whoever has it.
    let (_, end) = pick(&mut queue, 1050);
    assert_eq!(end, Some(1100));
    assert_eq!(pick(&mut queue, 1100), (Some(1), Some(1300)));
    queue.block(urgent, 1150);
    assert_eq!(pick(&mut queue, 1150), (Some(0), None));
    assert!(queue.is_alone());
}

#[test]
fn a_real_time_vcpu_alone_needs_no_timer() {
    let mut queue = RunQueue::new(0, SLICE);
    let urgent = queue.add(1, real_time(1000, 200)).unwrap();
    queue.wake(urgent, 0);
    for now in [0, 150, 250, 900, 1100, 5000] {
        assert_eq!(pick(&mut queue, now), (Some(1), None));
        assert!(!queue.is_alone(), "its sleep must be seen");
    }
}

#[test]
fn the_earlier_deadline_goes_first() {
    let mut queue = RunQueue::new(0, SLICE);
    let slow = queue.add(0, real_time(1000, 500)).unwrap();
    let fast = queue.add(1, real_time(100, 20)).unwrap();
    queue.wake(slow, 0);
    assert_eq!(pick(&mut queue, 0).0, Some(0));
    assert!(queue.wake(fast, 10));
    assert_eq!(pick(&mut queue, 10), (Some(1), Some(30)));
    queue.block(fast, 20);
    assert_eq!(pick(&mut queue, 20).0, Some(0));
    // A yield gives up nothing.
    queue.yield_now();
    assert_eq!(pick(&mut queue, 25).0, Some(0));
}

#[test]
fn parameters_change_while_it_runs_waits_and_sleeps() {
    let (mut queue, slots) = queue(3);
    queue.wake(slots[0], 0);
    queue.wake(slots[1], 0);
    assert_eq!(queue.pick(0).next, Some(0));
    queue.set_parameters(slots[1], real_time(1000, 100), 10);
    assert_eq!(pick(&mut queue, 10), (Some(1), Some(110)));
    queue.set_parameters(slots[1], Parameters::default(), 50);
    queue.set_parameters(slots[2], weight(1024), 50);
    queue.wake(slots[2], 60);
    let mut ran = [0_u64; 3];
    let mut now = 60;
    while now < 300 * SLICE {
        let (next, end) = pick(&mut queue, now);
        ran[next.unwrap() as usize] += end.unwrap() - now;
        now = end.unwrap();
    }
    for (ran, share) in ran.iter().zip([50, 50, 200]) {
        assert!(ran.abs_diff(share * SLICE) <= 3 * SLICE, "{ran}");
    }
    // It may not run here any more: only if nobody else wants the CPU.
    let elsewhere = Parameters {
        affinity: 2,
        ..weight(1024)
    };
    queue.set_parameters(slots[2], elsewhere, now);
    for _ in 0..10 {
        let (next, end) = pick(&mut queue, now);
        assert_ne!(next, Some(2));
        now = end.unwrap();
    }
    assert_eq!(queue.stranger(|_| true), Some((slots[2], 2)));
    assert!(queue.take(slots[2], now).is_some() && queue.stranger(|_| true).is_none());
}

#[test]
fn a_new_weight_counts_at_once() {
    let (mut queue, slots) = queue(2);
    queue.set_parameters(slots[1], weight(1), 0);
    slots.iter().for_each(|slot| {
        queue.wake(*slot, 0);
    });
    let mut now = 0;
    let mut run = |queue: &mut RunQueue<u32>, slices: u64| {
        let (mut ran, end) = ([0, 0], now + slices * SLICE);
        while now < end {
            let (next, until) = pick(queue, now);
            let until = until.unwrap_or(end).min(end);
            ran[next.unwrap() as usize] += until - now;
            now = until;
        }
        (ran, now)
    };
    let (ran, now) = run(&mut queue, 20);
    assert!((1..=SLICE).contains(&ran[1]), "{ran:?}");
    queue.set_parameters(slots[1], Parameters::default(), now);
    let (ran, now) = run(&mut queue, 20);
    assert!(ran[0].abs_diff(ran[1]) <= 2 * SLICE, "{ran:?}");
    // And back.
    queue.set_parameters(slots[0], weight(1), now);
    let (ran, _) = run(&mut queue, 20);
    assert!(ran[0] <= 2 * SLICE, "{ran:?}");
}

proptest! {
    /// A clock that only the queue's own answers move: every vCPU that wants to run gets its share of the time.
    #[test]
    fn time_is_shared_by_weight(weights in prop::collection::vec(26_u16..2560, 2..6)) {
        let mut queue = RunQueue::new(0, SLICE);
        for (vcpu, &each) in weights.iter().enumerate() {
            let slot = queue.add(vcpu as u32, weight(each)).unwrap();
            queue.wake(slot, 0);
        }
        let all: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut ran = vec![0; weights.len()];
        let mut now = 0;
        while now < 2000 * SLICE {
            let (next, end) = pick(&mut queue, now);
            let end = end.unwrap();
            prop_assert!(end > now && end <= now + SLICE);
            ran[next.unwrap() as usize] += end - now;
            now = end;
            for (ran, &weight) in ran.iter().zip(&weights) {
                let share = now * u64::from(weight) / all;
                prop_assert!(ran.abs_diff(share) <= 6 * SLICE, "{ran} of {share}");
            }
        }
    }

    /// The short ways where nobody has a budget come to the same as the general ones.
    #[test]
    fn the_short_way_is_the_general_one(
        weights in prop::collection::vec((1_u16..1000, 1_u64..4), 4),
        steps in prop::collection::vec((0_usize..4, 0_u8..7, 0_u64..2 * SLICE), 1..300),
    ) {
        let mut queues = [RunQueue::new(0, SLICE), RunQueue::new(0, SLICE)];
        let mut slots = Vec::new();
        for queue in &mut queues {
            slots = weights
                .iter()
                .enumerate()
                .map(|(vcpu, &(share, affinity))| {
                    let parameters = Parameters { affinity, ..weight(share) };
                    queue.add(vcpu as u32, parameters).unwrap()
                })
                .collect();
        }
        queues[1].has_servers = true;
        let mut now = 0;
        for (vcpu, what, ticks) in steps {
            now += ticks;
            let slot = slots[vcpu];
            let seen = queues.each_mut().map(|queue| match what {
                0 | 1 => (queue.wake(slot, now), None, None),
                2 => {
                    queue.block(slot, now);
                    (false, None, None)
                }
                3 => {
                    queue.yield_now();
                    (false, Some(queue.pick(now)), None)
                }
                4 => (false, None, queue.least_time(now)),
                5 => (queue.receive(slot, VirtualTime(8 * ticks), now), None, None),
                _ => (false, Some(queue.pick(now)), None),
            });
            prop_assert_eq!(seen[0], seen[1]);
            let [one, other] = &queues;
            for &slot in &slots {
                prop_assert_eq!(one.time_of(slot), other.time_of(slot));
                prop_assert_eq!(one.waits(slot), other.waits(slot));
            }
            prop_assert_eq!((one.floor, one.current, one.wanted()), (other.floor, other.current, other.wanted()));
            prop_assert_eq!(one.is_alone(), other.is_alone());
        }
    }

    /// Whatever they do, nobody who could run waits for ever, and a look by somebody else costs nobody its turn.
    #[test]
    fn nobody_starves(
        steps in prop::collection::vec((0_usize..5, 0_u64..4, 1_u64..2 * SLICE), 1..400),
    ) {
        let (mut queue, slots) = queue(5);
        // Since when each has waited.
        let mut since = [None; 5];
        let mut now = 0;
        for (vcpu, what, ticks) in steps {
            match what {
                0 | 1 => {
                    queue.wake(slots[vcpu], now);
                    since[vcpu].get_or_insert(now);
                }
                2 => {
                    queue.block(slots[vcpu], now);
                    since[vcpu] = None;
                }
                _ => queue.yield_now(),
            }
            let target = now + ticks;
            loop {
                let (next, end) = pick(&mut queue, now);
                if let Some(next) = next {
                    since[next as usize] = Some(now);
                }
                for since in since.iter().flatten() {
                    prop_assert!(now - since <= 12 * SLICE, "waits since {since} at {now}");
                }
                now = end.unwrap_or(target).clamp(now, target);
                if let Some(next) = next {
                    since[next as usize] = Some(now);
                }
                if now >= target {
                    break;
                }
            }
        }
    }

    /// Periodic work within its budget is done by its deadline, whatever the others do: those that share burn every
    /// cycle, and one real-time vCPU never stops.
    #[test]
    fn deadlines_are_met(
        // Period in steps of 100, share of the CPU in percent, first release.
        tasks in prop::collection::vec((5_u64..50, 1_u64..30, 0_u64..5000), 1..4),
        rogue in (5_u64..50, 1_u64..10),
        hogs in 0_u32..3,
    ) {
        struct Task { slot: Slot, period: u64, budget: u64, release: u64, done: u64, busy: bool }
        let mut queue = RunQueue::new(0, SLICE);
        let mut tasks: Vec<Task> = tasks
            .into_iter()
            .enumerate()
            .map(|(number, (period, share, release))| {
                let (period, budget) = (period * 100, period * share);
                let slot = queue.add(number as u32, real_time(period, budget)).unwrap();
                Task { slot, period, budget, release, done: 0, busy: false }
            })
            .collect();
        let count = tasks.len() as u32;
        let (period, budget) = (rogue.0 * 100, rogue.0 * rogue.1);
        let never_stops = queue.add(count, real_time(period, budget)).unwrap();
        queue.wake(never_stops, 0);
        for hog in 0..hogs {
            let slot = queue.add(count + 1 + hog, Parameters::default()).unwrap();
            queue.wake(slot, 0);
        }
        let mut now = 0;
        let mut over = 0;
        while now < 100_000 {
            for task in tasks.iter_mut().filter(|task| !task.busy && task.release <= now) {
                queue.wake(task.slot, now);
                task.busy = true;
                task.done = 0;
            }
            let (next, end) = pick(&mut queue, now);
            // Until the queue wants a look, somebody is released, or the job is done.
            let mut until = tasks.iter().filter(|task| !task.busy).map(|task| task.release).min();
            until = until.into_iter().chain(end).min();
            let next = next.unwrap() as usize;
            if let Some(task) = tasks.get(next) {
                until = until.into_iter().chain([now + task.budget - task.done]).min();
            }
            let until = until.unwrap_or(now + 100);
            if next == count as usize {
                over += until - now;
            }
            if let Some(task) = tasks.get_mut(next) {
                task.done += until - now;
                if task.done == task.budget {
                    let deadline = task.release + task.period;
                    prop_assert!(until <= deadline, "task {next}: {until}, deadline {deadline}");
                    queue.block(task.slot, until);
                    task.busy = false;
                    task.release += task.period;
                }
            }
            now = until;
        }
        if hogs > 0 {
            // What it was promised, and its part of what is left to those who share.
            let promised: u64 = tasks.iter().map(|task| task.budget * 100 / task.period).sum();
            let mine = budget * 100 / period;
            let rest = (100 - promised - mine) / (u64::from(hogs) + 1);
            prop_assert!(over <= (mine + rest + 8) * 1000, "{over}");
            prop_assert!(over + 8000 >= mine * 1000, "{over}");
        }
    }
}
