//! A timeline that standard viewers open (ui.perfetto.dev, chrome://tracing): the "Trace Event Format", as JSON, with a
//! track for each CPU and each vCPU.

use std::fmt::Write;

use crate::event::{Event, Who};
use crate::follow::{Activity, follow};
use crate::input::Trace;

/// Process numbers, which group tracks.
const CPUS: u32 = 1;
const VCPUS: u32 = 2;

/// The timeline of a trace.
#[must_use]
pub fn json(trace: &Trace) -> String {
    let mut out = Writer {
        text: String::from("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"),
        first: true,
    };
    let spans = follow(trace);
    out.name("process_name", CPUS, 0, "CPUs");
    out.name("process_name", VCPUS, 0, "vCPUs");
    for (cpu, spans) in &spans.cpus {
        let track = u32::from(*cpu);
        out.name("thread_name", CPUS, track, &format!("CPU {cpu}"));
        for span in spans {
            let (what, category) = match span.what {
                Activity::Guest(who) => (trace.name(who), "guest"),
                Activity::Hypervisor(Some((_, reason))) => (reason.to_string(), "hypervisor"),
                Activity::Hypervisor(None) => ("hypervisor".to_owned(), "hypervisor"),
                Activity::Idle => ("idle".to_owned(), "idle"),
            };
            out.span(CPUS, track, &what, category, span.start, span.length());
        }
    }
    for (who, spans) in &spans.vcpus {
        out.name("thread_name", VCPUS, track_of(*who), &trace.name(*who));
        for span in spans {
            let what = span.what.to_string();
            out.span(
                VCPUS,
                track_of(*who),
                &what,
                "state",
                span.start,
                span.length(),
            );
        }
    }
    for record in &trace.records {
        let at = trace.nanoseconds(record.ticks);
        let cpu = (CPUS, u32::from(record.cpu));
        let (process, track) = match record.event {
            Event::Inject(who, _) => (VCPUS, track_of(who)),
            Event::Interrupt(..)
            | Event::Send(..)
            | Event::Grant(_)
            | Event::Life(_)
            | Event::Lost(_)
            | Event::Unknown => cpu,
            // Those are spans.
            Event::Exit(..)
            | Event::Enter(_)
            | Event::Switch(..)
            | Event::State(..)
            | Event::Idle => continue,
        };
        out.instant(process, track, &record.text, at);
    }
    out.text.push_str("\n]}\n");
    out.text
}

fn track_of(who: Who) -> u32 {
    u32::from(who.domain) << 8 | u32::from(who.vcpu)
}

struct Writer {
    text: String,
    first: bool,
}

impl Writer {
    fn item(&mut self, item: &str) {
        if !self.first {
            self.text.push_str(",\n");
        }
        self.first = false;
        self.text.push_str(item);
    }

    fn name(&mut self, what: &str, process: u32, track: u32, name: &str) {
        let name = quoted(name);
        self.item(&format!(
            "{{\"ph\":\"M\",\"name\":\"{what}\",\"pid\":{process},\"tid\":{track},\"args\":{{\"name\":{name}}}}}"
        ));
    }

    fn span(
        &mut self,
        process: u32,
        track: u32,
        name: &str,
        category: &str,
        start: u64,
        length: u64,
    ) {
        let (name, start, length) = (quoted(name), micros(start), micros(length));
        self.item(&format!(
            "{{\"ph\":\"X\",\"name\":{name},\"cat\":\"{category}\",\"pid\":{process},\"tid\":{track},\"ts\":{start},\"dur\":{length}}}"
        ));
    }

    fn instant(&mut self, process: u32, track: u32, text: &str, at: u64) {
        let name = quoted(text.split_whitespace().next().unwrap_or_default());
        let (text, at) = (quoted(text), micros(at));
        self.item(&format!(
            "{{\"ph\":\"i\",\"s\":\"t\",\"name\":{name},\"pid\":{process},\"tid\":{track},\"ts\":{at},\"args\":{{\"record\":{text}}}}}"
        ));
    }
}

/// Nanoseconds as microseconds with three decimals.
fn micros(nanoseconds: u64) -> String {
    format!("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000)
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            character if u32::from(character) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::{micros, quoted};

    #[test]
    fn strings_and_numbers_are_json() {
        assert_eq!(quoted("a \"b\" \\ \n"), "\"a \\\"b\\\" \\\\ \\u000a\"");
        assert_eq!(micros(1_234_005), "1234.005");
    }
}
