//! The binary trace: how it stands, its switch, its last records.

use super::{Job, Progress};
use crate::command::TraceVerb;
use crate::system::{Output, System};

impl Job {
    pub(super) fn trace(
        &mut self,
        verb: TraceVerb,
        system: &mut dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        match verb {
            TraceVerb::Tell => self.tell_trace(system, output),
            TraceVerb::Set(on) => match system.set_trace(on) {
                Ok(true) => Progress::Done,
                Ok(false) => Progress::More,
                Err(refused) => {
                    output.line(format_args!("{refused}"));
                    Progress::Done
                }
            },
            TraceVerb::Tail(count) => self.trace_tail(count, system, output),
        }
    }

    fn tell_trace(&mut self, system: &dyn System, output: &mut dyn Output) -> Progress {
        let trace = system.trace();
        let state = if trace.on { "on" } else { "off" };
        let (written, lost, kept) = (trace.written, trace.lost, trace.kept);
        match self.item {
            0 => output.line(format_args!("trace     {state}; {written} records made")),
            1 if trace.sent => {
                output.line(format_args!(
                    "UART      {lost} overwritten before they were sent"
                ));
            }
            1 => output.line(format_args!("UART      none: they can be read here alone")),
            2 if trace.sent => output.line(format_args!("kept      the last {kept} of each CPU")),
            2 => output.line(format_args!(
                "kept      the last {kept} of each CPU; {lost} older ones are gone"
            )),
            _ => return Progress::Done,
        }
        self.item += 1;
        // There is no more to say of what never was.
        if written == 0 {
            Progress::Done
        } else {
            Progress::More
        }
    }

    fn trace_tail(&mut self, count: u32, system: &dyn System, output: &mut dyn Output) -> Progress {
        if system.trace().written == 0 {
            output.line(format_args!("there are no records (trace on makes some)"));
            return Progress::Done;
        }
        let Some((line, next)) = system.trace_line(count, self.traced) else {
            return Progress::Done;
        };
        self.traced = next;
        if let Some(line) = line {
            output.line(format_args!("{line}"));
        }
        Progress::More
    }
}
