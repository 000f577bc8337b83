//! Commands that walk through what a guest has: interrupts, event channels, grants, the store, a log.

use super::{Job, Progress};
use crate::command::{StoreVerb, Word};
use crate::shell::Scratch;
use crate::system::{Bound, GuestIndex, LogOf, MAX_REPLY, Output, StoreRequest, System};

/// Bytes of a value that `store ls` shows.
const VALUE: usize = 120;

impl Job {
    pub(super) fn interrupts(
        &mut self,
        guest: GuestIndex,
        system: &dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        if self.head(output, "INTID VCPU TYPE  PRIORITY STATE") {
            return Progress::More;
        }
        let Some((found, next)) = system.interrupt(guest, self.item) else {
            return Progress::Done;
        };
        self.item = next;
        // SGIs are enabled always: nothing to tell.
        if let Some(found) = found
            && (found.intid >= 16 || found.pending || found.active || found.listed)
        {
            let kind = match (found.intid, found.edge) {
                (0..16, _) => "SGI",
                (_, true) => "edge",
                (_, false) => "level",
            };
            let word = |is: bool, word| if is { word } else { "" };
            output.line(format_args!(
                "{:>5} {:>4} {:<5} {:>8} {}{}{}{}",
                found.intid,
                OrDash(found.vcpu),
                kind,
                found.priority,
                if found.enabled { "enabled" } else { "disabled" },
                word(found.pending, ", pending"),
                word(found.active, ", active"),
                word(found.listed, ", in a list register"),
            ));
        }
        Progress::More
    }

    pub(super) fn events(
        &mut self,
        guest: GuestIndex,
        system: &dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        if self.head(output, " PORT VCPU PENDING MASKED BOUND TO") {
            return Progress::More;
        }
        let Some((found, next)) = system.port(guest, self.item) else {
            return Progress::Done;
        };
        self.item = next;
        if let Some(found) = found {
            let flag = |flag| match flag {
                Some(true) => "yes",
                Some(false) => "no",
                None => "?",
            };
            let (pending, masked) = (flag(found.pending), flag(found.masked));
            let start = format_args!(
                "{:>5} {:>4} {pending:<7} {masked:<6}",
                found.port, found.vcpu
            );
            match found.bound {
                Bound::Unbound(id) => output.line(format_args!("{start} waits for domain {id}")),
                Bound::Interdomain(id, port) => {
                    output.line(format_args!("{start} domain {id}, port {port}"));
                }
                Bound::Virq(number) => output.line(format_args!("{start} VIRQ {number}")),
                Bound::Ipi => output.line(format_args!("{start} its own vCPUs")),
                Bound::Console => output.line(format_args!("{start} console")),
                Bound::Store => output.line(format_args!("{start} xenstore")),
            }
        }
        Progress::More
    }

    pub(super) fn grants(
        &mut self,
        guest: GuestIndex,
        system: &dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        if self.head(output, "  REF      FRAME USER READERS WRITERS") {
            return Progress::More;
        }
        let Some((found, next)) = system.grant(guest, self.item) else {
            return Progress::Done;
        };
        self.item = next;
        if let Some(found) = found {
            output.line(format_args!(
                "{:>5} {:>#10x} {:>4} {:>7} {:>7}",
                found.reference, found.frame, found.user, found.readers, found.writers
            ));
        }
        Progress::More
    }

    pub(super) fn store(
        &mut self,
        verb: StoreVerb,
        path: &Word,
        value: &Word,
        scratch: &mut Scratch,
        system: &mut dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        let request = match verb {
            StoreVerb::List if self.begun => return self.child(path, scratch, system, output),
            StoreVerb::List => StoreRequest::Directory(path),
            StoreVerb::Read => StoreRequest::Read(path),
            StoreVerb::Write => StoreRequest::Write(path, value),
            StoreVerb::Remove => StoreRequest::Remove(path),
        };
        // Within what was reserved.
        scratch.reply.resize(MAX_REPLY, 0);
        match system.store(request, &mut scratch.reply) {
            Err(refused) => output.line(format_args!("{path}: {refused}")),
            Ok(length) if verb == StoreVerb::List => {
                self.begun = true;
                self.end = length as u64;
                return Progress::More;
            }
            Ok(length) if verb == StoreVerb::Read => {
                let reply = scratch.reply.get(..length).unwrap_or_default();
                output.line(format_args!("{}", reply.escape_ascii()));
            }
            Ok(_) => {}
        }
        Progress::Done
    }

    /// The next child of a node, of those whose names are in the reply.
    pub(super) fn child(
        &mut self,
        path: &Word,
        scratch: &Scratch,
        system: &mut dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        let names = scratch.reply.get(self.position as usize..self.end as usize);
        let name = names
            .unwrap_or_default()
            .split(|&byte| byte == 0)
            .next()
            .filter(|name| !name.is_empty());
        let Some(name) = name else {
            return Progress::Done;
        };
        self.position += name.len() as u64 + 1;
        let (name, mut value) = (str::from_utf8(name).unwrap_or("?"), [0; VALUE]);
        let mut full = arrayvec::ArrayString::<512>::new();
        let base = path.trim_end_matches('/');
        let built = [base, "/", name]
            .iter()
            .all(|part| full.try_push_str(part).is_ok());
        match system.store(StoreRequest::Read(&full), &mut value) {
            Ok(length) if built => output.line(format_args!(
                "{name} = \"{}\"",
                value.get(..length).unwrap_or_default().escape_ascii()
            )),
            _ => output.line(format_args!("{name}")),
        }
        Progress::More
    }

    pub(super) fn log(
        &mut self,
        of: LogOf,
        system: &dyn System,
        output: &mut dyn Output,
    ) -> Progress {
        if self.position >= self.end {
            return Progress::Done;
        }
        let Some((line, next)) = system.log(of, self.position) else {
            return Progress::Done;
        };
        self.position = next;
        // Under a mark, so that what a guest wrote cannot be taken for the shell's own words.
        match str::from_utf8(&line) {
            Ok(line) => output.line(format_args!("| {line}")),
            Err(_) => output.line(format_args!("| {}", line.escape_ascii())),
        }
        Progress::More
    }
}

/// A number, or that there is none.
struct OrDash(Option<u32>);

impl core::fmt::Display for OrDash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.pad("-"),
        }
    }
}
