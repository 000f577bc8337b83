//! The machine that the sessions are held on.

use super::*;

/// A machine of three guests, and what was done to it.
#[derive(Default)]
pub(super) struct Small {
    pub(super) now: u64,
    pub(super) store: BTreeMap<String, String>,
    pub(super) done: Vec<String>,
    pub(super) traced: Option<bool>,
    pub(super) prepared: usize,
    pub(super) refuses_from: Option<u32>,
}

pub(super) const NAMES: [&str; 3] = ["linux", "hello-1", "hello-2"];

fn walk<T: Copy>(items: &[(u32, T)], place: u32) -> Option<(Option<T>, u32)> {
    // Two places a look, so that some looks find nothing.
    let end = items.last().map_or(0, |(number, _)| number + 1);
    if place >= end {
        return None;
    }
    let found = items
        .iter()
        .find(|(number, _)| (place..place + 2).contains(number));
    Some(found.map_or((None, place + 2), |(number, item)| {
        (Some(*item), number + 1)
    }))
}

impl System for Small {
    fn now(&self) -> u64 {
        self.now
    }

    fn cpus(&self) -> usize {
        2
    }

    fn cpu(&self, index: usize) -> Option<(usize, u64)> {
        (index < 2).then_some((index, self.now / 2))
    }

    fn guests(&self) -> usize {
        NAMES.len()
    }

    fn name(&self, guest: GuestIndex) -> Option<(u16, &str)> {
        NAMES.get(guest).map(|name| (guest as u16 + 1, *name))
    }

    fn guest(&self, guest: GuestIndex) -> Option<Guest<'_>> {
        let (id, name) = self.name(guest)?;
        let over = guest == 2;
        Some(Guest {
            id,
            name,
            state: if over {
                GuestState::Stopped
            } else {
                GuestState::Running
            },
            vcpus: 2,
            memory: if over { 0 } else { 16 << 20 },
            age: if over { 0 } else { self.now },
            ran: self.now / 4,
            restarts: 1,
            last_stop: over.then(|| ArrayString::from("crash").unwrap()),
        })
    }

    fn details(&self, guest: GuestIndex) -> Option<Details> {
        (guest < NAMES.len()).then_some(Details {
            gic: 3,
            uart: false,
            console_ring: true,
            store: Some((40, 512)),
            pages: (4096, 4096),
        })
    }

    fn failure(&self, guest: GuestIndex, line: u32) -> Option<FailureLine> {
        let lines = ["vCPU 1: it says so", "vCPU 1: x0"];
        let line = lines.get(line as usize).filter(|_| guest == 2)?;
        Some(ArrayString::from(line).unwrap())
    }

    fn vcpu(&self, guest: GuestIndex, vcpu: u32) -> Option<Vcpu> {
        (guest < NAMES.len() && vcpu < 2).then_some(Vcpu {
            state: VcpuState::Blocked,
            cpu: 1,
            affinity: 0b10,
            ran: 3 * SECOND / 2,
            waited: SECOND / 10,
            exits: 1234,
            interrupts: 99,
            moves: 3,
        })
    }

    fn interrupt(&self, _: GuestIndex, place: u32) -> Option<(Option<Interrupt>, u32)> {
        let interrupt = |intid, pending| Interrupt {
            intid,
            vcpu: Some(0),
            priority: 0xa0,
            edge: intid < 16,
            enabled: true,
            pending,
            active: false,
            listed: false,
        };
        walk(&[(0, interrupt(0, false)), (5, interrupt(27, true))], place)
    }

    fn port(&self, _: GuestIndex, place: u32) -> Option<(Option<Port>, u32)> {
        let port = |port, bound| Port {
            port,
            bound,
            vcpu: 0,
            pending: Some(port == 1),
            masked: None,
        };
        let ports = [
            (1, port(1, Bound::Console)),
            (2, port(2, Bound::Interdomain(2, 7))),
            (9, port(9, Bound::Virq(0))),
        ];
        walk(&ports, place)
    }

    fn grant(&self, _: GuestIndex, place: u32) -> Option<(Option<Grant>, u32)> {
        let grant = Grant {
            reference: 8,
            frame: 0x4_0123,
            user: 2,
            readers: 0,
            writers: 1,
        };
        walk(&[(8, grant)], place)
    }

    fn memory(&self) -> Memory {
        Memory {
            pool: 1 << 30,
            free: 998 << 20,
            image: 600 << 10,
            heap_used: 300 << 10,
            heap: 2 << 20,
        }
    }

    fn store(&mut self, request: StoreRequest<'_>, reply: &mut [u8]) -> Result<usize, Refused> {
        let text = match request {
            StoreRequest::Directory(path) => {
                let below = format!("{}/", path.trim_end_matches('/'));
                let names = self.store.keys().filter_map(|key| key.strip_prefix(&below));
                names
                    .filter(|name| !name.contains('/'))
                    .fold(String::new(), |all, name| all + name + "\0")
            }
            StoreRequest::Read(path) => {
                let value = self.store.get(path);
                value.cloned().ok_or(Refused::by_store(b"ENOENT"))?
            }
            StoreRequest::Write(path, value) => {
                self.store.insert(path.to_owned(), value.to_owned());
                String::new()
            }
            StoreRequest::Remove(path) => {
                self.store.retain(|key, _| !key.starts_with(path));
                String::new()
            }
        };
        let count = text.len().min(reply.len());
        reply[..count].copy_from_slice(&text.as_bytes()[..count]);
        Ok(count)
    }

    fn log(&self, of: LogOf, position: u64) -> Option<(LogLine, u64)> {
        let text = format!("{of:?} line {position}");
        let line = text.bytes().collect();
        (position < 3).then_some((line, position + 1))
    }

    fn log_end(&self, _: LogOf) -> u64 {
        3
    }

    fn trace(&self) -> Trace {
        Trace {
            on: self.traced == Some(true),
            sent: self.prepared > 2,
            written: self.traced.map_or(0, |_| 7000),
            lost: 12,
            kept: 2047,
        }
    }

    fn set_trace(&mut self, on: bool) -> Result<bool, Refused> {
        // Two steps, and no memory the third time.
        self.prepared += usize::from(on);
        if self.prepared > 4 {
            return Err(Refused::because(&"no memory"));
        }
        let done = !on || self.prepared.is_multiple_of(2);
        if done {
            self.traced = Some(on);
        }
        Ok(done)
    }

    fn trace_line(&self, last: u32, place: TracePlace) -> Option<(Option<TraceLine>, TracePlace)> {
        let (part, left) = (place.part, u64::from(last));
        let next = TracePlace {
            part: part + 1,
            ..TracePlace::default()
        };
        match (part, place.left) {
            (0, _) => Some((Some(TraceLine::from("trace 80").unwrap()), next)),
            (1, 1) => Some((
                Some(cut(&format_args!("trace 00{:02x}", place.record))),
                next,
            )),
            (1, 0) => Some((
                None,
                TracePlace {
                    part,
                    record: 5,
                    left,
                },
            )),
            (1, left) => {
                let next = TracePlace {
                    part,
                    record: place.record + 1,
                    left: left - 1,
                };
                Some((
                    Some(cut(&format_args!("trace 00{:02x}", place.record))),
                    next,
                ))
            }
            _ => None,
        }
    }

    fn act(&mut self, guest: GuestIndex, action: Action) -> Result<(), Refused> {
        self.done.push(format!("{action:?} of {guest}"));
        if guest == 2 {
            return Err(Refused::because(&"it is stopped"));
        }
        Ok(())
    }

    fn settings(&self, guest: GuestIndex, vcpu: u32) -> Option<Settings> {
        (guest < NAMES.len() && vcpu < 2).then_some(Settings {
            weight: 512,
            affinity: if vcpu == 0 { u64::MAX } else { 0b10 },
            budget: (vcpu == 1).then_some((2_500, 10_000)),
        })
    }

    fn set(&mut self, guest: GuestIndex, vcpu: u32, setting: Setting) -> Result<(), Refused> {
        if self.refuses_from.is_some_and(|from| vcpu >= from) {
            return Err(Refused::because(&"CPU 1 has only 10.0 % left"));
        }
        self.done.push(format!("{setting:?} of {guest}.{vcpu}"));
        Ok(())
    }

    fn give_input(&mut self, guest: GuestIndex) -> Result<(), Refused> {
        if guest == 2 {
            return Err(Refused::because(&"it does not run"));
        }
        self.done.push(format!("input to {guest}"));
        Ok(())
    }

    fn power(&mut self, power: Power) {
        self.done.push(format!("{power:?}"));
    }
}
