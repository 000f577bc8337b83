//! Races between the CPU that runs a vCPU and the others, tried one by one on loom's model of the memory.
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p viaduct-domain --release --test loom`.
#![cfg(loom)]

mod presence;

use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use viaduct_domain::lifecycle::{Block, For, Power, RunState, Wake};
use viaduct_domain::migration::{self, Cpus, Load};
use viaduct_domain::sched::{Parameters, RunQueue, Slot};

/// One CPU's queue with one vCPU in it, and an interrupt that is pending for the vCPU or not.
struct Cpu {
    state: RunState,
    pending: AtomicBool,
    queue: Mutex<RunQueue<u32>>,
    slot: Slot,
}

impl Cpu {
    /// With the vCPU running.
    fn new() -> Arc<Self> {
        let mut queue = RunQueue::new(0, 1000);
        let slot = queue.add(0, Parameters::default()).unwrap();
        let state = RunState::new();
        state.claim().unwrap();
        assert!(state.complete());
        queue.wake(slot, 0);
        assert_eq!(queue.pick(0).next, Some(0));
        assert!(state.start());
        Arc::new(Self {
            state,
            pending: AtomicBool::new(false),
            queue: Mutex::new(queue),
            slot,
        })
    }

    /// Another CPU makes an interrupt pending, and wakes the vCPU as the documentation of `lifecycle` says.
    fn interrupt(&self) {
        self.pending.store(true, Ordering::Relaxed);
        if self.state.wake() == Wake::Enqueue {
            self.queue.lock().unwrap().wake(self.slot, 0);
        }
    }

    /// The guest executes WFI: whether it is taken off the CPU.
    fn wait(&self) -> bool {
        loop {
            if self.pending.load(Ordering::Relaxed) {
                return false;
            }
            let mut queue = self.queue.lock().unwrap();
            if self.state.block() == Block::Blocked {
                queue.block(self.slot, 0);
                return true;
            }
        }
    }

    /// The CPU looks for work: whether the vCPU runs.
    fn schedule(&self) -> bool {
        let mut queue = self.queue.lock().unwrap();
        match queue.pick(0).next {
            Some(_) if self.state.start() => true,
            Some(_) => {
                queue.block(self.slot, 0);
                false
            }
            None => false,
        }
    }
}

#[test]
fn a_wake_up_is_never_lost() {
    loom::model(|| {
        let cpu = Cpu::new();
        let other = {
            let cpu = Arc::clone(&cpu);
            thread::spawn(move || cpu.interrupt())
        };
        let blocked = cpu.wait();
        other.join().unwrap();
        // Whatever the order: it runs on, or the queue has it.
        assert!(!blocked || cpu.schedule());
        assert_eq!(cpu.state.power(), Power::Running);
        assert!(!cpu.wait());
    });
}

#[test]
fn two_wake_ups_enqueue_once() {
    loom::model(|| {
        let cpu = Cpu::new();
        assert!(cpu.wait());
        let enqueued = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (cpu, enqueued) = (Arc::clone(&cpu), Arc::clone(&enqueued));
                thread::spawn(move || {
                    if cpu.state.wake() == Wake::Enqueue {
                        enqueued.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(enqueued.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn one_of_two_cpu_on_wins_after_cpu_off() {
    loom::model(|| {
        let state = Arc::new(RunState::new());
        state.claim().unwrap();
        assert!(state.complete() && state.start());
        // The context: 1 while the CPU that runs the vCPU still saves to it.
        let context = Arc::new(AtomicU32::new(1));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (state, context) = (Arc::clone(&state), Arc::clone(&context));
                thread::spawn(move || {
                    let won = state.claim().is_ok();
                    if won {
                        assert_eq!(context.load(Ordering::Relaxed), 0, "still in use");
                        context.store(2, Ordering::Relaxed);
                        assert!(state.complete());
                    }
                    won
                })
            })
            .collect();
        state.stop();
        context.store(0, Ordering::Relaxed);
        state.stopped();
        let winners = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .filter(|won| *won)
            .count();
        assert!(winners <= 1);
        let expected = if winners == 1 {
            Power::Ready
        } else {
            Power::Off
        };
        assert_eq!(state.power(), expected);
    });
}

#[test]
fn a_vcpu_held_and_released_while_it_is_preempted_is_not_lost() {
    loom::model(|| {
        let cpu = Cpu::new();
        let other = {
            let cpu = Arc::clone(&cpu);
            thread::spawn(move || {
                let _ = cpu.state.hold();
                if cpu.state.release() {
                    cpu.queue.lock().unwrap().wake(cpu.slot, 0);
                }
            })
        };
        {
            let mut queue = cpu.queue.lock().unwrap();
            if cpu.state.preempt() {
                queue.yield_now();
            } else {
                queue.block(cpu.slot, 0);
            }
        }
        other.join().unwrap();
        assert!(cpu.schedule());
    });
}

/// Two CPUs. vCPU 0 may run on the first alone, vCPU 1 on both; both vCPUs begin at home on the first.
struct Pair {
    load: Load,
    queues: [Mutex<RunQueue<usize>>; 2],
    wanted: [AtomicU64; 2],
    look: [AtomicBool; 2],
    slots: [Slot; 2],
    states: [RunState; 2],
    home: AtomicUsize,
    /// The registers of vCPU 1 are still in CPU 0.
    loaded: AtomicBool,
}

impl Cpus for Pair {
    type Vcpu = usize;

    fn count(&self) -> usize {
        2
    }

    fn load(&self) -> &Load {
        &self.load
    }

    fn queue<R>(&self, cpu: usize, operation: impl FnOnce(&mut RunQueue<usize>) -> R) -> Option<R> {
        Some(operation(&mut self.queues[cpu].lock().unwrap()))
    }

    fn wanted(&self, cpu: usize) -> Option<&AtomicU64> {
        Some(&self.wanted[cpu])
    }

    fn slot(&self, vcpu: usize, _: usize) -> Option<Slot> {
        Some(self.slots[vcpu])
    }

    fn affinity(&self, vcpu: usize) -> u64 {
        [1, 3][vcpu]
    }

    fn home(&self, vcpu: usize) -> usize {
        [0, self.home.load(Ordering::Relaxed)][vcpu]
    }

    fn set_home(&self, vcpu: usize, cpu: usize) {
        assert_eq!(vcpu, 1);
        assert!(
            !self.loaded.load(Ordering::Acquire),
            "moved while it is loaded"
        );
        self.home.store(cpu, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        0
    }

    fn is_loaded(&self, vcpu: usize) -> bool {
        vcpu == 1 && self.loaded.load(Ordering::Acquire)
    }

    fn look(&self, cpu: usize) {
        self.look[cpu].store(true, Ordering::Release);
    }
}

fn parameters(vcpu: usize) -> Parameters {
    Parameters {
        affinity: [1, 3][vcpu],
        ..Parameters::default()
    }
}

impl Pair {
    /// `running` runs on CPU 0, the other is blocked.
    fn new(running: usize) -> Arc<Self> {
        let mut queues = [RunQueue::new(0, 10), RunQueue::new(1, 10)];
        let mut slot = |vcpu| {
            let slots = queues
                .each_mut()
                .map(|queue| queue.add(vcpu, parameters(vcpu)).unwrap());
            assert_eq!(slots[0], slots[1]);
            slots[0]
        };
        let slots = [slot(0), slot(1)];
        let states = [RunState::new(), RunState::new()];
        for (vcpu, state) in states.iter().enumerate() {
            state.claim().unwrap();
            assert!(state.complete() && state.start());
            if vcpu != running {
                assert_eq!(state.block(), Block::Blocked);
            }
        }
        queues[0].wake(slots[running], 0);
        assert_eq!(queues[0].pick(0).next, Some(running));
        Arc::new(Self {
            load: Load::default(),
            queues: queues.map(Mutex::new),
            wanted: Default::default(),
            look: Default::default(),
            slots,
            states,
            home: AtomicUsize::new(0),
            loaded: AtomicBool::new(running == 1),
        })
    }

    fn wake(&self, vcpu: usize) {
        if self.states[vcpu].wake() == Wake::Enqueue {
            migration::enqueue(self, vcpu);
        }
    }

    /// CPU 1, which has nothing of its own, looks: whether vCPU 1 runs there now.
    fn take(&self) -> bool {
        migration::steal(self, 1) && {
            let next = self.queues[1].lock().unwrap().pick(0).next;
            migration::offer(self, 1, true);
            next == Some(1) && self.states[1].start()
        }
    }

    /// Whatever the order was: vCPU 1 runs on CPU 1, or that CPU was told to look and then takes it.
    fn ends_well(&self, taken: bool) {
        if !taken {
            assert!(
                self.look[1].load(Ordering::Acquire),
                "nobody tells the idle CPU"
            );
            let next = self.queues[1].lock().unwrap().pick(0).next;
            assert!(next == Some(1) && self.states[1].start() || self.take());
        }
        assert_eq!(self.home(1), 1);
        assert!(self.queues[0].lock().unwrap().is_alone());
    }
}

#[test]
fn a_cpu_that_goes_idle_does_not_miss_who_wakes_elsewhere() {
    loom::model(|| {
        let pair = Pair::new(0);
        let idle = {
            let pair = Arc::clone(&pair);
            thread::spawn(move || pair.take())
        };
        pair.wake(1);
        let taken = idle.join().unwrap();
        pair.ends_well(taken);
    });
}

#[test]
fn a_cpu_that_goes_idle_does_not_miss_who_has_just_lost_its_cpu() {
    loom::model(|| {
        let pair = Pair::new(1);
        let idle = {
            let pair = Arc::clone(&pair);
            thread::spawn(move || pair.take())
        };
        // CPU 0: vCPU 0 wakes there, and gets the CPU.
        pair.wake(0);
        {
            let mut queue = pair.queues[0].lock().unwrap();
            assert!(pair.states[1].preempt());
            assert_eq!(queue.pick(100).next, Some(0));
            migration::settle(&*pair, 0, &queue);
            assert!(pair.states[0].start());
        }
        // The registers are stored.
        pair.loaded.store(false, Ordering::Release);
        migration::offer(&*pair, 0, false);
        let taken = idle.join().unwrap();
        pair.ends_well(taken);
    });
}

#[test]
fn a_vcpu_switched_on_while_its_domain_ends_never_runs() {
    loom::model(|| {
        let cpu = Cpu::new();
        cpu.state.stop();
        cpu.queue.lock().unwrap().block(cpu.slot, 0);
        cpu.state.stopped();
        let other = {
            let cpu = Arc::clone(&cpu);
            thread::spawn(move || {
                cpu.state.claim().unwrap();
                if cpu.state.complete() {
                    cpu.queue.lock().unwrap().wake(cpu.slot, 0);
                }
            })
        };
        let _ = cpu.state.hold();
        cpu.queue.lock().unwrap().block(cpu.slot, 0);
        other.join().unwrap();
        assert!(!cpu.schedule());
        // And is out of the queue.
        assert!(!cpu.schedule());
    });
}

#[test]
fn a_wake_up_that_meets_cpu_off_wakes_nobody() {
    loom::model(|| {
        let cpu = Cpu::new();
        let other = {
            let cpu = Arc::clone(&cpu);
            thread::spawn(move || cpu.interrupt())
        };
        cpu.state.stop();
        cpu.queue.lock().unwrap().block(cpu.slot, 0);
        cpu.state.stopped();
        other.join().unwrap();
        assert_eq!(cpu.state.power(), Power::Off);
        assert!(!cpu.schedule());
        // Nor is it left for the next life.
        cpu.state.claim().unwrap();
        assert!(cpu.state.complete());
        cpu.queue.lock().unwrap().wake(cpu.slot, 0);
        assert!(cpu.schedule());
        assert_eq!(cpu.state.block(), Block::Blocked);
    });
}

#[test]
fn who_is_told_that_a_vcpu_is_off_finds_its_context_free() {
    loom::model(|| {
        let state = Arc::new(RunState::new());
        state.claim().unwrap();
        assert!(state.complete() && state.start());
        let context = Arc::new(AtomicU32::new(1));
        let other = {
            let (state, context) = (Arc::clone(&state), Arc::clone(&context));
            thread::spawn(move || {
                // AFFINITY_INFO, polled: on, until it is off for good.
                let seen = [state.power(), state.power()];
                match seen {
                    [Power::Off, last] => {
                        assert_eq!(last, Power::Off);
                        assert_eq!(context.load(Ordering::Relaxed), 0);
                    }
                    [Power::Stopping, last] => assert_ne!(last, Power::Running),
                    [first, _] => assert_eq!(first, Power::Running),
                }
            })
        };
        state.stop();
        context.store(0, Ordering::Relaxed);
        state.stopped();
        other.join().unwrap();
    });
}

#[test]
fn two_cpu_on_of_a_vcpu_that_is_off_start_it_once() {
    loom::model(|| {
        let state = Arc::new(RunState::new());
        let started = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (state, started) = (Arc::clone(&state), Arc::clone(&started));
                thread::spawn(move || match state.claim() {
                    Ok(()) => {
                        started.fetch_add(1, Ordering::Relaxed);
                        assert!(state.complete());
                    }
                    // On its way, or on: never off again.
                    Err(_) => assert_ne!(state.power(), Power::Off),
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(started.load(Ordering::Relaxed), 1);
        assert_eq!(state.power(), Power::Ready);
    });
}

/// A CPU is about to run a vCPU whose domain ends on another: the hypervisor's work for the domain is done once, by a
/// CPU that knows what it does.
#[test]
fn work_for_a_dead_domain_is_begun_once() {
    loom::model(|| {
        let state = Arc::new(RunState::new());
        state.claim().unwrap();
        assert!(state.complete());
        let other = {
            let state = Arc::clone(&state);
            thread::spawn(move || state.start_for())
        };
        let _ = state.hold();
        state.revive();
        let here = state.start_for();
        let there = other.join().unwrap();
        let works = |run_for| run_for == Some(For::Hypervisor);
        assert!(works(here) != works(there), "{here:?} {there:?}");
        assert_ne!(here, Some(For::Guest));
        assert_eq!(state.power(), Power::Running);
        assert!(state.end_work() && state.start_for() == Some(For::Guest));
    });
}
