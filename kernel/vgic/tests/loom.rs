//! Two vCPUs on two CPUs that want to know of each other's list registers at the same time, or change what is
//! there: both get on, and both get the truth. And a vCPU that comes to a CPU while another sends it an interrupt, where the
//! look of the first is without the lock. Run with
//! `RUSTFLAGS="--cfg loom" cargo test -p viaduct-vgic --features model --release --test loom`.
#![cfg(all(loom, feature = "model"))]

mod common;

use common::{Cpu, vcpu};
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use viaduct_vgic::{Here, Notify, Others, Region, Sent, Version, Vgic, Width};

/// What is under way to a CPU.
#[derive(Default)]
struct Mail {
    /// EL2's SGI.
    look: bool,
    /// The other has got on.
    done: bool,
}

/// What the two CPUs share.
struct Machine {
    vgic: Vgic,
    mail: [(Mutex<Mail>, Condvar); 2],
}

impl Machine {
    fn new() -> Self {
        Self {
            vgic: Vgic::new(Version::V3, 2, 32).unwrap(),
            mail: Default::default(),
        }
    }

    fn poke(&self, vcpus: Notify) {
        for number in 0..2 {
            if vcpus.contains(vcpu(number)) {
                self.send(number, |mail| mail.look = true);
            }
        }
    }

    fn send(&self, to: u32, what: impl FnOnce(&mut Mail)) {
        let (mail, arrived) = &self.mail[to as usize];
        what(&mut mail.lock().unwrap());
        arrived.notify_one();
    }
}

impl Others for &Machine {
    fn notify(&self, vcpus: Notify) {
        self.poke(vcpus);
    }

    fn ask(&self, vcpus: Notify) {
        self.poke(vcpus);
    }

    fn wait(&self, _: u32) -> bool {
        thread::yield_now();
        true
    }
}

/// One CPU, with the vCPU of the same number.
struct Core<'a> {
    machine: &'a Machine,
    number: u32,
    cpu: Cpu,
}

impl<'a> Core<'a> {
    fn new(machine: &'a Machine, number: u32) -> Self {
        let cpu = Cpu::new(Version::V3, 2);
        let core = Self {
            machine,
            number,
            cpu,
        };
        machine.poke(machine.vgic.restore(core.here()));
        core
    }

    fn here(&self) -> Here<'_, Cpu> {
        Here {
            vcpu: vcpu(self.number),
            lists: &self.cpu,
        }
    }

    fn read(&self, offset: u64) -> u64 {
        let width = Width::Word;
        let vgic = &self.machine.vgic;
        vgic.read(
            self.here(),
            Region::Redistributor,
            offset,
            width,
            &self.machine,
        )
        .unwrap()
    }

    fn write(&self, region: Region, offset: u64, value: u64) {
        let width = Width::Word;
        let vgic = &self.machine.vgic;
        vgic.write(self.here(), region, offset, width, value, &self.machine)
            .unwrap();
    }

    /// The guest runs for as long as the other wants something of it: its CPU takes the SGIs.
    fn run_on(&self) {
        let (mail, arrived) = &self.machine.mail[self.number as usize];
        loop {
            let mut now = mail.lock().unwrap();
            while !now.look && !now.done {
                now = arrived.wait(now).unwrap();
            }
            if now.done {
                return;
            }
            now.look = false;
            drop(now);
            self.machine
                .poke(self.machine.vgic.enter_if_needed(self.here()));
        }
    }

    /// SGI 1 came, and the guest is in its handler: only the list register says so.
    fn in_handler(&self) {
        let (vgic, value) = (&self.machine.vgic, 1 << 24 | 1 << self.number);
        if !vgic.write_sgi1r_at_once(self.here(), value) {
            self.machine.poke(vgic.write_sgi1r(self.here(), value));
        }
        self.machine
            .poke(self.machine.vgic.enter_if_needed(self.here()));
        assert_eq!(self.cpu.acknowledge(), Some((1, 0)));
    }
}

const ACTIVE: u64 = 0x1_0300;
const CLEAR_ACTIVE: u64 = 0x1_0380;

fn machine() -> Arc<Machine> {
    Arc::new(Machine::new())
}

/// Each core does its part, then runs on until both are done.
fn both(limit: usize, part: fn(&Core<'_>)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(limit);
    model.max_branches = 20_000;
    model.check(move || {
        let machine = machine();
        let run = move |machine: &Machine, number: u32| {
            let core = Core::new(machine, number);
            core.write(Region::Distributor, 0, 3);
            core.in_handler();
            part(&core);
            machine.send(1 - number, |mail| mail.done = true);
            core.run_on();
            machine.poke(machine.vgic.save(core.here()).notify);
        };
        let other = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || run(&machine, 1))
        };
        run(&machine, 0);
        other.join().unwrap();
    });
}

/// Both are in a handler and look whether the other is: neither waits for ever.
#[test]
fn two_that_ask_each_other_are_answered() {
    both(2, |core| {
        let other = u64::from(1 - core.number) * 0x2_0000;
        let active = core.read(other + ACTIVE);
        assert!(active == 0 || active == 2);
        assert_eq!(core.read(u64::from(core.number) * 0x2_0000 + ACTIVE), 2);
    });
}

/// A write that takes the active state off is done when it returns.
#[test]
fn a_write_has_taken_effect() {
    both(2, |core| {
        if core.number == 0 {
            core.write(Region::Redistributor, 0x2_0000 + CLEAR_ACTIVE, 2);
            let pending = core.machine.vgic.is_dirty(vcpu(1));
            assert!(!pending || core.read(0x2_0000 + ACTIVE) == 0);
        }
    });
}

/// One vCPU comes to a CPU, with nothing to be restored, while one on another CPU sends it SGI 1: it is there when the first
/// runs, or its CPU gets an SGI of EL2's. The run state is as `domain::lifecycle::RunState` has it: both sides write it
/// by one atomic operation, the one before it looks, the other after it has marked.
#[test]
fn who_comes_sees_what_was_sent_or_is_disturbed() {
    const RUNS: u32 = 1;
    for short in [false, true] {
        loom::model(move || {
            let vgic = Arc::new(Vgic::new(Version::V3, 2, 32).unwrap());
            let state = Arc::new(AtomicU32::new(0));
            let disturbed = Arc::new(AtomicU32::new(0));
            {
                // The guest has enabled its distributor; nothing was ever listed.
                let cpu = Cpu::new(Version::V3, 2);
                let here = Here {
                    vcpu: vcpu(1),
                    lists: &cpu,
                };
                let _ = vgic.restore(here);
                let _ = vgic.write(
                    here,
                    Region::Distributor,
                    0,
                    Width::Word,
                    3,
                    &&Machine::new(),
                );
                let _ = vgic.enter_if_needed(here);
                let _ = vgic.save(here);
            }
            let sender = {
                let (vgic, state, disturbed) = (vgic.clone(), state.clone(), disturbed.clone());
                thread::spawn(move || {
                    let cpu = Cpu::new(Version::V3, 2);
                    let here = Here {
                        vcpu: vcpu(0),
                        lists: &cpu,
                    };
                    let value = 1 << 24 | 1 << 1;
                    let kick = if short {
                        vgic.write_sgi1r_to_one(vcpu(0), value) == Sent::Kick(vcpu(1))
                    } else {
                        vgic.write_sgi1r(here, value).contains(vcpu(1))
                    };
                    assert!(kick);
                    if state.fetch_or(0, Ordering::AcqRel) == RUNS {
                        disturbed.store(1, Ordering::Release);
                    }
                })
            };
            let cpu = Cpu::new(Version::V3, 2);
            let here = Here {
                vcpu: vcpu(1),
                lists: &cpu,
            };
            state.fetch_or(RUNS, Ordering::AcqRel);
            let _ = vgic.restore(here);
            let got = cpu.acknowledge().is_some();
            sender.join().unwrap();
            if !got {
                assert_eq!(disturbed.load(Ordering::Acquire), 1, "nobody told it");
                let _ = vgic.enter_if_needed(here);
                assert_eq!(cpu.acknowledge(), Some((1, 0)));
            }
        });
    }
}
