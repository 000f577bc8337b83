use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const SLICE: u64 = 1000;

fn queue(vcpus: u32) -> (RunQueue<u32>, Vec<Slot>) {
    let mut queue = RunQueue::new(SLICE);
    let slots = (0..vcpus)
        .map(|vcpu| queue.add(vcpu, Parameters::default()).unwrap())
        .collect();
    (queue, slots)
}

fn pick(next: impl Into<Option<u32>>, slice_end: impl Into<Option<u64>>) -> Pick<u32> {
    Pick {
        next: next.into(),
        slice_end: slice_end.into(),
    }
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
    assert_eq!(queue.pick(0), pick(None, None));
    assert!(queue.wake(slots[1]));
    assert!(!queue.wake(slots[1]));
    assert_eq!(queue.pick(0), pick(1, None));
    assert_eq!(queue.current(), Some(1));
}

#[test]
fn a_lone_vcpu_has_no_end_of_slice() {
    let (mut queue, slots) = queue(2);
    queue.wake(slots[0]);
    for now in [0, 1, SLICE, 1_000_000] {
        assert_eq!(queue.pick(now), pick(0, None));
        assert!(queue.is_alone());
    }
    // It yields to nobody.
    queue.yield_now();
    assert_eq!(queue.pick(1_000_001), pick(0, None));
}

#[test]
fn who_wakes_beside_one_that_ran_for_long_runs_at_once() {
    let (mut queue, slots) = queue(2);
    queue.wake(slots[0]);
    queue.pick(0);
    assert!(queue.wake(slots[1]));
    assert_eq!(queue.pick(SLICE), pick(1, 2 * SLICE));
    assert_eq!(queue.pick(2 * SLICE - 1), pick(1, 2 * SLICE));
    assert_eq!(queue.pick(2 * SLICE), pick(0, 3 * SLICE));
}

#[test]
fn who_wakes_beside_one_that_just_started_waits() {
    let (mut queue, slots) = queue(3);
    queue.wake(slots[0]);
    queue.pick(0);
    assert!(queue.wake(slots[1]), "a timer must be set now");
    assert_eq!(queue.pick(10), pick(0, SLICE));
    assert!(!queue.wake(slots[2]), "the timer is set already");
    queue.block(slots[0]);
    assert_eq!(queue.pick(20), pick(1, 20 + SLICE));
    queue.yield_now();
    assert_eq!(queue.pick(30), pick(2, 30 + SLICE));
}

#[test]
fn a_waiting_vcpu_can_be_blocked_or_removed() {
    let (mut queue, slots) = queue(4);
    for slot in &slots {
        queue.wake(*slot);
    }
    assert_eq!(queue.pick(0).next, Some(0));
    queue.block(slots[2]);
    queue.remove(slots[1]);
    assert_eq!(queue.pick(SLICE).next, Some(3));
    assert_eq!(queue.pick(2 * SLICE).next, Some(0));
    queue.remove(slots[0]);
    assert_eq!(queue.pick(2 * SLICE), pick(3, None));
    // A free place is used again, and what is removed stays so.
    let again = queue.add(9, Parameters::default()).unwrap();
    assert!(again == slots[0] || again == slots[1]);
    let gone = if again == slots[0] {
        slots[1]
    } else {
        slots[0]
    };
    assert!(!queue.wake(gone));
    queue.remove(gone);
    queue.block(gone);
    assert!(queue.wake(again));
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
    let mut queue = RunQueue::new(SLICE);
    for vcpu in 0..u32::from(u16::MAX) {
        queue.add(vcpu, Parameters::default()).unwrap();
    }
    assert_eq!(queue.add(0, Parameters::default()), Err(AddError::Full));
}

#[test]
fn weights_scale_slices_within_bounds() {
    for (weight, slice) in [
        (0, SLICE / 10),
        (128, SLICE / 2),
        (256, SLICE),
        (512, 2 * SLICE),
        (u16::MAX, 10 * SLICE),
    ] {
        let (mut queue, slots) = queue(2);
        let parameters = Parameters {
            weight,
            ..Parameters::default()
        };
        queue.set_parameters(slots[0], parameters);
        queue.wake(slots[0]);
        queue.wake(slots[1]);
        assert_eq!(queue.pick(0), pick(0, slice), "{weight}");
        assert_eq!(queue.pick(slice), pick(1, slice + SLICE), "{weight}");
    }
}

#[test]
fn no_length_of_slice_does_harm() {
    for slice in [0, 1, u64::MAX] {
        let mut queue = RunQueue::new(slice);
        let slots = [0, 1].map(|vcpu| queue.add(vcpu, Parameters::default()).unwrap());
        for slot in slots {
            queue.wake(slot);
        }
        for now in [0, 1, u64::MAX - 1, u64::MAX] {
            assert!(queue.pick(now).slice_end.is_some());
        }
    }
}

#[test]
fn vcpus_are_placed_where_there_is_room() {
    assert_eq!(place(&[1, 0, 0], u64::MAX), Some(1));
    assert_eq!(place(&[1, 0, 0], 0b101), Some(2));
    assert_eq!(place(&[3, 2], 0b1), Some(0));
    assert_eq!(place(&[0, 0], 0), None);
    assert_eq!(place(&[0, 0], 0b100), None);
    assert_eq!(place(&[1; 100], u64::MAX), Some(0));
    assert_eq!(place(&[], u64::MAX), None);
}

/// What the queue is to do, in the plainest words.
struct Model {
    waiting: VecDeque<usize>,
    current: Option<usize>,
    started: u64,
}

impl Model {
    fn pick(&mut self, now: u64) -> Option<usize> {
        if let Some(vcpu) = self.current {
            if self.waiting.is_empty() || now < self.started + SLICE {
                return self.current;
            }
            self.waiting.push_back(vcpu);
        }
        self.current = self.waiting.pop_front();
        self.started = now;
        self.current
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wake(usize),
    Block(usize),
    BlockCurrent,
    Yield,
    Pick,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..6).prop_map(Step::Wake),
        (0_usize..6).prop_map(Step::Block),
        Just(Step::BlockCurrent),
        Just(Step::Yield),
        Just(Step::Pick),
        (0..2 * SLICE).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn it_does_as_the_model(steps in prop::collection::vec(step(), 0..300)) {
        let (mut queue, slots) = queue(6);
        let mut model = Model { waiting: VecDeque::new(), current: None, started: 0 };
        let mut now = 0;
        for step in steps {
            match step {
                Step::Wake(vcpu) => {
                    let known = model.current == Some(vcpu) || model.waiting.contains(&vcpu);
                    let must_pick = !known && model.waiting.is_empty();
                    if !known {
                        model.waiting.push_back(vcpu);
                    }
                    prop_assert_eq!(queue.wake(slots[vcpu]), must_pick);
                }
                Step::Block(vcpu) => {
                    model.waiting.retain(|other| *other != vcpu);
                    model.current = model.current.filter(|other| *other != vcpu);
                    queue.block(slots[vcpu]);
                }
                Step::BlockCurrent => {
                    if let Some(vcpu) = model.current.take() {
                        queue.block(slots[vcpu]);
                    }
                }
                Step::Yield => {
                    model.waiting.extend(model.current.take());
                    queue.yield_now();
                }
                Step::Pick => {
                    let picked = queue.pick(now);
                    prop_assert_eq!(picked.next, model.pick(now).map(|vcpu| vcpu as u32));
                    let end = (!model.waiting.is_empty()).then_some(model.started + SLICE);
                    prop_assert_eq!(picked.slice_end, end.filter(|_| picked.next.is_some()));
                }
                Step::Wait(ticks) => now += ticks,
            }
            prop_assert_eq!(queue.is_alone(), model.waiting.is_empty());
            prop_assert_eq!(queue.current(), model.current.map(|vcpu| vcpu as u32));
        }
    }

    /// A clock that only the queue's own answers move: every vCPU that wants to run gets its share of the
    /// time, to within a slice, and none waits longer than a slice of each other.
    #[test]
    fn time_is_shared_by_weight(weights in prop::collection::vec(26_u16..2560, 2..6)) {
        let mut queue = RunQueue::new(SLICE);
        for (vcpu, weight) in weights.iter().enumerate() {
            let parameters = Parameters { weight: *weight, ..Parameters::default() };
            let slot = queue.add(vcpu, parameters).unwrap();
            queue.wake(slot);
        }
        let slices: Vec<u64> = weights
            .iter()
            .map(|weight| (SLICE * u64::from(*weight) / 256).clamp(SLICE / 10, SLICE * 10))
            .collect();
        let round: u64 = slices.iter().sum();
        let mut ran = vec![0; weights.len()];
        let mut last_ran = vec![0; weights.len()];
        let mut now = 0;
        while now < 20 * round {
            let picked = queue.pick(now);
            let (vcpu, end) = (picked.next.unwrap(), picked.slice_end.unwrap());
            prop_assert!(end > now && now - last_ran[vcpu] <= round);
            ran[vcpu] += end - now;
            now = end;
            last_ran[vcpu] = now;
        }
        for (ran, slice) in ran.iter().zip(&slices) {
            prop_assert!(ran.abs_diff(20 * slice) <= *slice);
        }
    }
}
