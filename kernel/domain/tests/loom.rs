//! Races between the CPU that runs a vCPU and the others, tried one by one on loom's model of the memory.
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p viaduct-domain --release --test loom`.
#![cfg(loom)]

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use viaduct_domain::lifecycle::{Block, Power, RunState, Wake};
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
        let mut queue = RunQueue::new(1000);
        let slot = queue.add(0, Parameters::default()).unwrap();
        let state = RunState::new();
        state.claim().unwrap();
        assert!(state.complete());
        queue.wake(slot);
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
            self.queue.lock().unwrap().wake(self.slot);
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
                queue.block(self.slot);
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
                queue.block(self.slot);
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
                    cpu.queue.lock().unwrap().wake(cpu.slot);
                }
            })
        };
        {
            let mut queue = cpu.queue.lock().unwrap();
            if cpu.state.preempt() {
                queue.yield_now();
            } else {
                queue.block(cpu.slot);
            }
        }
        other.join().unwrap();
        assert!(cpu.schedule());
    });
}
