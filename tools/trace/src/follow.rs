//! What each CPU and each vCPU did from when to when.

use std::collections::BTreeMap;

use crate::event::{Event, Reason, State, Who};
use crate::input::Trace;

/// What a CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activity {
    /// It runs a guest.
    Guest(Who),
    /// It runs the hypervisor, since a guest was left, or for its own sake.
    Hypervisor(Option<(Who, Reason)>),
    /// It sleeps.
    Idle,
}

/// Something that lasted, in nanoseconds since the trace's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<What> {
    /// When it began.
    pub start: u64,
    /// When it was over.
    pub end: u64,
    /// What it was.
    pub what: What,
}

impl<What> Span<What> {
    /// How long it lasted.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// All spans: of CPUs, and of vCPUs. Where records are lost there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// What each CPU did.
    pub cpus: BTreeMap<u8, Vec<Span<Activity>>>,
    /// What each vCPU did.
    pub vcpus: BTreeMap<Who, Vec<Span<State>>>,
}

/// Since when something goes on.
type Since<What> = Option<(u64, What)>;

/// Follows a trace from its first record to its last.
#[must_use]
pub fn follow(trace: &Trace) -> Spans {
    let mut spans = Spans::default();
    let mut cpus: BTreeMap<u8, Since<Activity>> = BTreeMap::new();
    let mut vcpus: BTreeMap<Who, Since<State>> = BTreeMap::new();
    for record in &trace.records {
        let now = trace.nanoseconds(record.ticks);
        let since = cpus.entry(record.cpu).or_default();
        let done = spans.cpus.entry(record.cpu).or_default();
        match record.event {
            Event::Exit(who, reason) => {
                change(
                    since,
                    done,
                    now,
                    Some(Activity::Hypervisor(Some((who, reason)))),
                );
            }
            Event::Interrupt(Some(who), _) => {
                let why = Some((who, Reason::Interrupt));
                change(since, done, now, Some(Activity::Hypervisor(why)));
            }
            Event::Enter(who) => change(since, done, now, Some(Activity::Guest(who))),
            Event::Idle => change(since, done, now, Some(Activity::Idle)),
            // It sleeps on if that is all.
            Event::Interrupt(None, _) | Event::Send(..) | Event::Grant(_) | Event::Life(_) => {}
            Event::Switch(..) | Event::Inject(..) => awake(since, done, now),
            Event::State(who, state) => {
                if state == State::Running {
                    awake(since, done, now);
                }
                let since = vcpus.entry(who).or_default();
                let done = spans.vcpus.entry(who).or_default();
                change(since, done, now, Some(state));
            }
            Event::Lost(_) => {
                change(since, done, now, None);
                // Any vCPU may have changed what it does.
                for (who, since) in &mut vcpus {
                    let done = spans.vcpus.entry(*who).or_default();
                    change(since, done, now, None);
                }
            }
            Event::Unknown => {}
        }
    }
    let end = trace.length();
    for (cpu, since) in &mut cpus {
        let done = spans.cpus.entry(*cpu).or_default();
        change(since, done, end, None);
    }
    for (who, since) in &mut vcpus {
        let done = spans.vcpus.entry(*who).or_default();
        change(since, done, end, None);
    }
    spans
}

fn change<What: Copy + PartialEq>(
    since: &mut Since<What>,
    done: &mut Vec<Span<What>>,
    now: u64,
    next: Option<What>,
) {
    if let (Some((_, what)), Some(next)) = (&since, next)
        && *what == next
    {
        return;
    }
    if let Some((start, what)) = since.take() {
        done.push(Span {
            start,
            end: now,
            what,
        });
    }
    *since = next.map(|next| (now, next));
}

/// A CPU that slept does something.
fn awake(since: &mut Since<Activity>, done: &mut Vec<Span<Activity>>, now: u64) {
    if matches!(since, Some((_, Activity::Idle)) | None) {
        change(since, done, now, Some(Activity::Hypervisor(None)));
    }
}
