//! A machine of CPUs with a simulated clock, whose vCPUs wake, sleep and use up their slices: whatever the order,
//! once every CPU has looked that was told to, nobody waits whom an idle CPU could run.

use super::*;
use crate::sched::{DEFAULT_WEIGHT, Parameters};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

const SLICE: u64 = 1000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Blocked,
    Ready,
    Running,
}

struct Vcpu {
    state: Cell<State>,
    affinity: u64,
    home: Cell<usize>,
    loaded: Cell<bool>,
}

struct Core {
    queue: RefCell<RunQueue<usize>>,
    wanted: AtomicU64,
    look: Cell<bool>,
    /// Whose registers it has.
    loaded: Cell<Option<usize>>,
    /// Sleeps.
    idle: Cell<bool>,
    /// Its vCPU's WFI does not trap.
    native: Cell<bool>,
    /// When its timer goes off.
    end: Cell<Option<u64>>,
}

struct Machine {
    load: Load,
    cores: Vec<Core>,
    vcpus: Vec<Vcpu>,
    slots: Vec<Vec<Slot>>,
    now: Cell<u64>,
    /// A vCPU went to another CPU.
    moves: Cell<u32>,
}

impl Cpus for Machine {
    type Vcpu = usize;

    fn count(&self) -> usize {
        self.cores.len()
    }

    fn load(&self) -> &Load {
        &self.load
    }

    fn queue<R>(&self, cpu: usize, operation: impl FnOnce(&mut RunQueue<usize>) -> R) -> Option<R> {
        let queue = &self.cores.get(cpu)?.queue;
        Some(operation(&mut queue.borrow_mut()))
    }

    fn wanted(&self, cpu: usize) -> Option<&AtomicU64> {
        Some(&self.cores.get(cpu)?.wanted)
    }

    fn slot(&self, vcpu: usize, cpu: usize) -> Option<Slot> {
        Some(self.slots[vcpu][cpu])
    }

    fn affinity(&self, vcpu: usize) -> u64 {
        self.vcpus[vcpu].affinity
    }

    fn home(&self, vcpu: usize) -> usize {
        self.vcpus[vcpu].home.get()
    }

    fn set_home(&self, vcpu: usize, cpu: usize) {
        assert!(!self.vcpus[vcpu].loaded.get(), "moved while it is loaded");
        assert_ne!(
            self.vcpus[vcpu].affinity & bit(cpu),
            0,
            "outside its affinity"
        );
        self.vcpus[vcpu].home.set(cpu);
        self.moves.set(self.moves.get() + 1);
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn is_loaded(&self, vcpu: usize) -> bool {
        self.vcpus[vcpu].loaded.get()
    }

    fn look(&self, cpu: usize) {
        self.cores[cpu].look.set(true);
    }
}

impl Machine {
    fn new(cpus: usize, affinities: &[u64]) -> Self {
        Self::with_weights(cpus, affinities, &[])
    }

    /// Those without a weight have the usual one.
    fn with_weights(cpus: usize, affinities: &[u64], weights: &[u16]) -> Self {
        let all = bit(cpus) - 1;
        let vcpus: Vec<Vcpu> = affinities
            .iter()
            .map(|&wish| {
                let affinity = if wish & all == 0 { all } else { wish & all };
                Vcpu {
                    state: Cell::new(State::Blocked),
                    affinity,
                    home: Cell::new(affinity.trailing_zeros() as usize),
                    loaded: Cell::new(false),
                }
            })
            .collect();
        let cores: Vec<Core> = (0..cpus)
            .map(|cpu| Core {
                queue: RefCell::new(RunQueue::new(cpu, SLICE)),
                wanted: AtomicU64::new(0),
                look: Cell::new(true),
                loaded: Cell::new(None),
                idle: Cell::new(false),
                native: Cell::new(false),
                end: Cell::new(None),
            })
            .collect();
        let add = |vcpu: usize| {
            let parameters = Parameters {
                affinity: vcpus[vcpu].affinity,
                weight: weights.get(vcpu).copied().unwrap_or(DEFAULT_WEIGHT),
                ..Parameters::default()
            };
            let place = |core: &Core| core.queue.borrow_mut().add(vcpu, parameters);
            cores.iter().map(|core| place(core).unwrap()).collect()
        };
        let slots = (0..vcpus.len()).map(add).collect();
        Self {
            load: Load::new(),
            cores,
            vcpus,
            slots,
            now: Cell::new(0),
            moves: Cell::new(0),
        }
    }

    fn running(&self, cpu: usize) -> Option<usize> {
        let core = &self.cores[cpu];
        if core.idle.get() {
            return None;
        }
        core.queue.borrow().current()
    }

    fn wake(&self, vcpu: usize) {
        if self.vcpus[vcpu].state.get() == State::Blocked {
            self.vcpus[vcpu].state.set(State::Ready);
            enqueue(self, vcpu);
        }
    }

    /// The vCPU that runs on a CPU sleeps; a WFI that is not trapped keeps the CPU.
    fn sleep(&self, cpu: usize) {
        if self.cores[cpu].native.get() {
            return;
        }
        if let Some(vcpu) = self.running(cpu) {
            self.vcpus[vcpu].state.set(State::Blocked);
            let slot = self.slots[vcpu][cpu];
            let now = self.now.get();
            self.cores[cpu].queue.borrow_mut().block(slot, now);
            self.next(cpu);
        }
    }

    /// As the image does it (`kernel/src/schedule.rs`). `halfway` is called where the CPU has chosen, and has not
    /// stored the registers of whom it ran.
    fn next_with(&self, cpu: usize, halfway: impl FnOnce()) {
        let core = &self.cores[cpu];
        core.look.set(false);
        let idled = core.idle.replace(false);
        let loaded = core.loaded.get();
        let pick = {
            let mut queue = core.queue.borrow_mut();
            if let Some(vcpu) = loaded
                && self.vcpus[vcpu].state.get() == State::Running
            {
                self.vcpus[vcpu].state.set(State::Ready);
            }
            let pick = queue.pick(self.now.get());
            settle(self, cpu, &queue);
            pick
        };
        let Some(vcpu) = pick.next else {
            if steal(self, cpu) {
                core.idle.set(true);
                return self.next_with(cpu, halfway);
            }
            core.idle.set(true);
            core.end.set(None);
            return;
        };
        assert_eq!(self.vcpus[vcpu].state.replace(State::Running), State::Ready);
        assert_eq!(self.vcpus[vcpu].home.get(), cpu);
        halfway();
        if loaded != Some(vcpu) {
            assert!(!self.vcpus[vcpu].loaded.replace(true), "loaded twice");
            core.loaded.set(Some(vcpu));
            if let Some(before) = loaded {
                self.vcpus[before].loaded.set(false);
            }
        }
        let alone = core.queue.borrow().is_alone();
        core.native.set(is_alone(self, cpu, alone));
        offer(self, cpu, idled);
        if pick.crowded {
            balance(self, cpu);
        }
        core.end.set(pick.slice_end);
    }

    fn next(&self, cpu: usize) {
        self.next_with(cpu, || {});
    }

    /// Every CPU that was told to look does.
    fn quiesce(&self, from: usize) {
        for _ in 0..1000 {
            let told = (0..self.count())
                .map(|cpu| (cpu + from) % self.count())
                .find(|&cpu| self.cores[cpu].look.get());
            match told {
                Some(cpu) => self.next(cpu),
                None => return,
            }
        }
        panic!("the CPUs never come to rest");
    }

    /// Lets time pass, with every CPU's timer, and adds up who ran how long.
    fn pass(&self, until: u64, ran: &mut [u64]) {
        self.quiesce(0);
        while self.now.get() < until {
            let ends = self.cores.iter().filter_map(|core| core.end.get());
            let now = self.now.get();
            let next = ends.chain([until]).min().unwrap_or(until).max(now);
            for cpu in 0..self.count() {
                if let Some(vcpu) = self.running(cpu) {
                    ran[vcpu] += next - now;
                }
            }
            self.now.set(next);
            for cpu in 0..self.count() {
                if self.cores[cpu].end.get().is_some_and(|end| end <= next) {
                    self.next(cpu);
                }
            }
            self.quiesce(0);
        }
    }

    fn check(&self) {
        for (cpu, core) in self.cores.iter().enumerate() {
            let queue = core.queue.borrow();
            let waits = |vcpu: usize| queue.waits(self.slots[vcpu][cpu]);
            for (number, vcpu) in self.vcpus.iter().enumerate() {
                let here = vcpu.home.get() == cpu;
                let ready = vcpu.state.get() == State::Ready;
                assert_eq!(here && ready, waits(number), "vCPU {number} on CPU {cpu}");
            }
            for vcpu in (0..self.vcpus.len()).filter(|&vcpu| waits(vcpu)) {
                let affinity = self.vcpus[vcpu].affinity;
                for (other, could) in self.cores.iter().enumerate() {
                    if affinity & bit(other) != 0 {
                        assert!(!could.idle.get(), "vCPU {vcpu} waits, CPU {other} idles");
                        let unseen = could.native.get() && other != cpu;
                        assert!(!unseen, "vCPU {vcpu} waits, CPU {other} might sleep unseen");
                    }
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wake(usize),
    Sleep(usize),
    /// The clock of a CPU goes off.
    Tick(usize, u64),
    /// It switches, and somebody wakes in the middle.
    WakeHalfway(usize, usize),
    /// A CPU looks before others that were told earlier.
    Look(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cpu = || 0_usize..4;
    let vcpu = || 0_usize..8;
    prop::collection::vec(
        prop_oneof![
            4 => vcpu().prop_map(Step::Wake),
            4 => cpu().prop_map(Step::Sleep),
            2 => (cpu(), 1..3 * SLICE / 2).prop_map(|(cpu, ticks)| Step::Tick(cpu, ticks)),
            2 => (cpu(), vcpu()).prop_map(|(cpu, vcpu)| Step::WakeHalfway(cpu, vcpu)),
            2 => cpu().prop_map(Step::Look),
        ],
        1..100,
    )
}

proptest! {
    #[test]
    fn nobody_waits_for_nothing(
        cpus in 1_usize..=4,
        affinities in prop::collection::vec(0_u64..16, 8),
        // How many steps are taken between two rests.
        haste in 1_usize..6,
        steps in steps(),
    ) {
        let machine = Machine::new(cpus, &affinities);
        machine.quiesce(0);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wake(vcpu) => machine.wake(vcpu),
                Step::Sleep(cpu) => machine.sleep(cpu % cpus),
                Step::Tick(cpu, ticks) => {
                    machine.now.set(machine.now.get() + ticks);
                    machine.next(cpu % cpus);
                }
                Step::WakeHalfway(cpu, vcpu) => {
                    machine.now.set(machine.now.get() + SLICE);
                    machine.next_with(cpu % cpus, || machine.wake(vcpu));
                }
                Step::Look(cpu) => machine.next(cpu % cpus),
            }
            if number % haste == 0 {
                machine.quiesce(number);
                machine.check();
            }
        }
    }
}

#[test]
fn a_vcpu_that_wakes_beside_a_busy_one_goes_to_an_idle_cpu() {
    let machine = Machine::new(2, &[1, 3]);
    machine.quiesce(0);
    machine.wake(0);
    machine.wake(1);
    machine.quiesce(0);
    assert_eq!((machine.running(0), machine.running(1)), (Some(0), Some(1)));
    assert_eq!(machine.moves.get(), 1);
    // Once there it stays: it wakes where it slept.
    machine.cores[1].native.set(false);
    machine.sleep(1);
    machine.wake(1);
    machine.quiesce(0);
    assert_eq!((machine.running(1), machine.moves.get()), (Some(1), 1));
}

#[test]
fn who_sleeps_unseen_on_a_cpu_of_its_own_makes_room() {
    let machine = Machine::new(2, &[1, 2, 3]);
    machine.quiesce(0);
    (0..2).for_each(|vcpu| machine.wake(vcpu));
    machine.quiesce(0);
    assert!(machine.cores[0].native.get() && machine.cores[1].native.get());
    machine.wake(2);
    machine.quiesce(0);
    // It waits on CPU 0, and CPU 1 would now be seen to sleep.
    assert!(!machine.cores[1].native.get());
    machine.sleep(1);
    machine.quiesce(0);
    assert_eq!(machine.running(1), Some(2));
    // When it looks next, the other CPU can leave its vCPU's WFI alone again.
    machine.next(0);
    assert!(machine.cores[0].native.get());
}

/// Everything busy for so long: what each ran.
fn all_busy(cpus: usize, affinities: &[u64], weights: &[u16], long: u64) -> Vec<u64> {
    let machine = Machine::with_weights(cpus, affinities, weights);
    machine.quiesce(0);
    (0..affinities.len()).for_each(|vcpu| machine.wake(vcpu));
    let mut ran = vec![0; affinities.len()];
    machine.pass(long, &mut ran);
    machine.check();
    ran
}

#[test]
fn five_share_two_cpus() {
    // A slice is ten milliseconds: ten seconds.
    let long = 1000 * SLICE;
    let ran = all_busy(2, &[3; 5], &[], long);
    for ran in &ran {
        assert!(ran.abs_diff(long * 2 / 5) <= long * 2 / 500, "{ran}");
    }
    let weights = [256, 256, 512, 512, 1024];
    let ran = all_busy(2, &[3; 5], &weights, long);
    for (ran, weight) in ran.iter().zip(weights) {
        let share = long * 2 * u64::from(weight) / 2560;
        assert!(ran.abs_diff(share) <= long * 2 / 200, "{ran} of {share}");
    }
}

#[test]
fn who_may_run_everywhere_makes_up_for_who_may_not() {
    let long = 1000 * SLICE;
    // Two on CPU 0, one on CPU 1, and one on both: it belongs with the one.
    let ran = all_busy(2, &[1, 1, 2, 3], &[], long);
    for ran in &ran {
        assert!(ran.abs_diff(long / 2) <= long / 50, "{ran}");
    }
    // One on each and one on both: all get two thirds.
    let ran = all_busy(2, &[1, 2, 3], &[], long);
    for ran in &ran {
        assert!(ran.abs_diff(long * 2 / 3) <= long / 50, "{ran}");
    }
    // More than a CPU is nobody's share.
    let ran = all_busy(2, &[3; 3], &[5120, 256, 256], long);
    assert!(ran[0] >= long * 98 / 100, "{ran:?}");
    assert!(ran[1].abs_diff(ran[2]) <= long / 50, "{ran:?}");
}

#[test]
fn who_comes_late_to_an_idle_cpu_is_joined_by_others() {
    let long = 1000 * SLICE;
    let machine = Machine::new(2, &[1, 3, 2, 3]);
    machine.quiesce(0);
    // CPU 1 sleeps for most of the time: its virtual clock stands.
    machine.wake(0);
    let mut ran = vec![0; 4];
    machine.pass(long, &mut ran);
    (1..4).for_each(|vcpu| machine.wake(vcpu));
    machine.pass(2 * long, &mut ran);
    ran[0] -= long;
    for ran in &ran {
        assert!(ran.abs_diff(long / 2) <= long / 40, "{ran}");
    }
}

proptest! {
    /// On any number of CPUs those that want nothing but compute get what their weights say, as long as that is not
    /// more than a CPU for one of them.
    #[test]
    fn shares_are_of_all_cpus(cpus in 1_usize..=4, weights in prop::collection::vec(128_u16..=512, 2..9)) {
        let all: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let share = |weight: u16| 2000 * SLICE * cpus as u64 * u64::from(weight) / all;
        prop_assume!(weights.iter().all(|&weight| share(weight) <= 1900 * SLICE));
        let ran = all_busy(cpus, &vec![15; weights.len()], &weights, 2000 * SLICE);
        for (ran, &weight) in ran.iter().zip(&weights) {
            let share = share(weight);
            prop_assert!(ran.abs_diff(share) <= share / 50 + 4 * SLICE, "{ran} of {share}");
        }
    }
}
