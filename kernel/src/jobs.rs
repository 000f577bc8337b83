//! What the hypervisor has to do for a domain between two lives of it, and before the first: a job in steps. Each step
//! is bounded (some 20,000 instructions, 64 KiB of memory), and between two of them the CPU takes interrupts and looks
//! at its queue.
//!
//! A job is done where vCPU 0 of the domain would run, and in its time: the scheduler chooses that vCPU as it would if the
//! guest ran, with its affinity and its share. It sleeps when the job waits for somebody, and is kicked as ever.

use domain::lifecycle::{Block, RunState};

use crate::building::{self, Build};
use crate::cpus::Cpu;
use crate::ending::{self, End};
use crate::lifecycle;
use crate::machine::{Domain, Vcpu};
use crate::{schedule, stretch};

/// What there is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Job {
    /// Nothing.
    #[default]
    None,
    /// It has ended.
    End(End),
    /// It begins.
    Build(Build),
}

/// What a step came to.
pub(crate) enum Progress {
    /// This comes next.
    More(Job),
    /// This comes next, when somebody kicks vCPU 0 of the domain.
    Wait(Job),
    /// The guest runs from now on.
    Runs,
    /// The domain has ended for good.
    Stopped,
}

/// Gives a domain, which nobody has in a CPU's registers, a job.
pub(crate) fn begin(domain: &'static Domain, job: Job) {
    *domain.job.lock() = job;
    if let Some(first) = domain.vcpus().first() {
        first.run.revive();
        schedule::enqueue(first);
    }
}

/// Makes a job that waits look again.
pub(crate) fn kick(domain: &'static Domain) {
    if let Some(first) = domain.vcpus().first() {
        schedule::kick(first);
    }
}

/// A step.
fn step(cpu: &Cpu, domain: &'static Domain) -> Progress {
    let job = *domain.job.lock();
    stretch::step(cpu, domain, job);
    match job {
        Job::None => Progress::Stopped,
        Job::End(end) => ending::step(domain, end),
        Job::Build(build) => building::step(domain, build),
    }
}

/// A step of the job of `vcpu`'s domain, which this CPU has chosen.
pub(crate) fn run(cpu: &'static Cpu, vcpu: &'static Vcpu) {
    let domain = vcpu.domain;
    match step(cpu, domain) {
        Progress::More(job) => {
            *domain.job.lock() = job;
            put_back(cpu, vcpu, RunState::preempt);
        }
        // As for a guest: who finds it blocked puts it on the queue under the queue's lock.
        Progress::Wait(job) => {
            *domain.job.lock() = job;
            let woken = |run: &RunState| run.block() == Block::Woken && run.preempt();
            put_back(cpu, vcpu, woken);
        }
        Progress::Runs => {
            *domain.job.lock() = Job::None;
            // Whoever ends it next waits until its vCPU is the guest's.
            let mut life = domain.life.lock();
            lifecycle::begin(domain, &mut life);
            put_back(cpu, vcpu, RunState::end_work);
            drop(life);
            lifecycle::tell_begin(domain);
        }
        Progress::Stopped => {
            *domain.job.lock() = Job::None;
            put_back(cpu, vcpu, |run| {
                run.reset();
                false
            });
            // Whoever starts it next finds its vCPU off.
            lifecycle::stopped(domain);
        }
    }
}

/// Changes the vCPU's state under the lock of the queue, from which it is taken unless `stays` says so.
fn put_back(cpu: &Cpu, vcpu: &'static Vcpu, stays: impl FnOnce(&RunState) -> bool) {
    let mut queue = cpu.queue.lock();
    if !stays(&vcpu.run)
        && let Some(place) = vcpu.place(cpu.index)
    {
        queue.block(place.slot, arch::time::counter());
    }
}
