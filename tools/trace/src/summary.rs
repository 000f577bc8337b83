//! Counts, latencies and shares.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::{Event, Reason, State, Who};
use crate::follow::{Activity, Spans, follow};
use crate::histogram::Histogram;
use crate::input::Trace;

/// What a trace comes to.
#[derive(Clone, Debug)]
pub struct Summary<'t> {
    trace: &'t Trace,
    spans: Spans,
    /// Exits of each vCPU by reason.
    pub exits: BTreeMap<Who, BTreeMap<Reason, u64>>,
    /// Interrupts put into list registers of each vCPU.
    pub injections: BTreeMap<Who, u64>,
    /// Events that each domain sent.
    pub sends: BTreeMap<u16, u64>,
    /// Switches to each vCPU.
    pub switches: BTreeMap<Who, u64>,
    /// From an exit to the entry of the same guest, by reason, where no other ran and the CPU did not sleep.
    pub times: BTreeMap<Reason, Histogram>,
    /// From the moment when a vCPU could run to when it ran.
    pub wakes: BTreeMap<Who, Histogram>,
}

impl<'t> Summary<'t> {
    /// Sums a trace up.
    #[must_use]
    pub fn of(trace: &'t Trace) -> Self {
        let mut summary = Self {
            trace,
            spans: follow(trace),
            exits: BTreeMap::new(),
            injections: BTreeMap::new(),
            sends: BTreeMap::new(),
            switches: BTreeMap::new(),
            times: BTreeMap::new(),
            wakes: BTreeMap::new(),
        };
        for record in &trace.records {
            summary.count(record.event);
        }
        for spans in summary.spans.cpus.values() {
            for pair in spans.windows(2) {
                if let [left, entered] = pair
                    && let Activity::Hypervisor(Some((who, reason))) = left.what
                    && entered.what == Activity::Guest(who)
                {
                    summary.times.entry(reason).or_default().add(left.length());
                }
            }
        }
        for (who, spans) in &summary.spans.vcpus {
            for pair in spans.windows(2) {
                if let [waits, runs] = pair
                    && (waits.what, runs.what) == (State::Runnable, State::Running)
                {
                    summary.wakes.entry(*who).or_default().add(waits.length());
                }
            }
        }
        summary
    }

    fn count(&mut self, event: Event) {
        match event {
            Event::Exit(who, reason) => {
                let exits = self.exits.entry(who).or_default();
                *exits.entry(reason).or_default() += 1;
            }
            Event::Interrupt(Some(who), _) => {
                let exits = self.exits.entry(who).or_default();
                *exits.entry(Reason::Interrupt).or_default() += 1;
            }
            Event::Inject(who, _) => *self.injections.entry(who).or_default() += 1,
            Event::Send(domain, _) => *self.sends.entry(domain).or_default() += 1,
            Event::Switch(_, to) => *self.switches.entry(to).or_default() += 1,
            _ => {}
        }
    }

    fn shares(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.trace.length().max(1);
        writeln!(f, "CPU shares")?;
        for (cpu, spans) in &self.spans.cpus {
            let mut sums: BTreeMap<String, u64> = BTreeMap::new();
            for span in spans {
                let what = match span.what {
                    Activity::Guest(who) => self.trace.name(who),
                    Activity::Hypervisor(_) => "hypervisor".to_owned(),
                    Activity::Idle => "idle".to_owned(),
                };
                *sums.entry(what).or_default() += span.length();
            }
            let known: u64 = sums.values().sum();
            sums.insert("not known".to_owned(), whole.saturating_sub(known));
            write!(f, "  CPU {cpu}:")?;
            for (what, sum) in sums.iter().filter(|(_, sum)| **sum != 0) {
                write!(f, "  {what} {}", percent(*sum, whole))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "vCPU states")?;
        for (who, spans) in &self.spans.vcpus {
            let mut sums: BTreeMap<State, u64> = BTreeMap::new();
            for span in spans {
                *sums.entry(span.what).or_default() += span.length();
            }
            write!(f, "  {}:", self.trace.name(*who))?;
            for (what, sum) in &sums {
                write!(f, "  {what} {}", percent(*sum, whole))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = self.trace;
        writeln!(
            f,
            "{} records in {} us, {} lost, {} damaged",
            trace.records.len(),
            trace.length() / 1000,
            trace.all_lost(),
            trace.damaged
        )?;
        for (cpu, lost) in &trace.lost {
            writeln!(f, "  CPU {cpu}: {lost} lost")?;
        }
        writeln!(f, "exits")?;
        for (who, reasons) in &self.exits {
            let all: u64 = reasons.values().sum();
            write!(f, "  {}: {all}:", trace.name(*who))?;
            for (reason, count) in reasons {
                write!(f, "  {reason} {count}")?;
            }
            writeln!(f)?;
        }
        let by_vcpu = |f: &mut fmt::Formatter<'_>, title: &str, counts: &BTreeMap<Who, u64>| {
            write!(f, "{title}:")?;
            for (who, count) in counts {
                write!(f, "  {} {count}", trace.name(*who))?;
            }
            writeln!(f)
        };
        by_vcpu(f, "interrupts given", &self.injections)?;
        by_vcpu(f, "switches to", &self.switches)?;
        write!(f, "events sent:")?;
        for (domain, count) in &self.sends {
            match trace.names.get(domain) {
                Some(name) => write!(f, "  {name} {count}")?,
                None => write!(f, "  d{domain} {count}")?,
            }
        }
        writeln!(f)?;
        self.shares(f)?;
        writeln!(f, "from exit to entry, where nothing came between")?;
        for (reason, histogram) in &self.times {
            title(f, &reason.to_string(), histogram)?;
        }
        writeln!(f, "from runnable to running")?;
        for (who, histogram) in &self.wakes {
            title(f, &trace.name(*who), histogram)?;
        }
        Ok(())
    }
}

fn title(f: &mut fmt::Formatter<'_>, name: &str, histogram: &Histogram) -> fmt::Result {
    writeln!(
        f,
        "  {name}: {} times, mean {} ns, longest {} ns",
        histogram.count(),
        histogram.mean(),
        histogram.longest()
    )?;
    write!(f, "{histogram}")
}
