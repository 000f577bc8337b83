//! The walk that fills a [`Board`].

use arrayvec::{ArrayString, ArrayVec};
use memory::{PAGE_SIZE, Pa, PaRange};

use super::devices::{self, GicNode};
use super::{Board, Conduit, Cpu, MAX_CPUS, MAX_MEMORY, MAX_RESERVED, Reserved, StartMethod};
use crate::device::Device;
use crate::tree::{Node, Property};
use crate::uart::{self, Uart};
use crate::walk::{Visit, Walk};
use crate::{Error, Tree, early};

const MAX_UARTS: usize = 8;
const MAX_CLOCKS: usize = 16;
/// Aff3, Aff2, Aff1, Aff0.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// What the child of the root that the walk is below says about its own children.
#[derive(Clone, Copy, Default)]
enum Top {
    Cpus,
    ReservedMemory,
    #[default]
    Other,
}

#[derive(Default)]
struct Reader<'a> {
    memory: ArrayVec<PaRange, MAX_MEMORY>,
    reserved: ArrayVec<Reserved, MAX_RESERVED>,
    cpus: ArrayVec<Cpu, MAX_CPUS>,
    cpus_left_out: usize,
    cpu_compatible: &'a str,
    enable_method: Option<Property<'a>>,
    psci: Option<Conduit>,
    gic: Option<GicNode<'a>>,
    timer: Option<Visit<'a>>,
    uarts: ArrayVec<(Uart, Visit<'a>), MAX_UARTS>,
    clocks: ArrayVec<(u32, u32), MAX_CLOCKS>,
    watchdog: Option<PaRange>,
    chosen: Option<Node<'a>>,
    aliases: Option<Node<'a>>,
    top: Top,
}

impl Board {
    /// Reads the board from the bytes of its tree. What Viaduct cannot do without is RAM, a CPU and a GIC
    /// with virtualization; anything else may be missing.
    pub fn from_tree(tree: &[u8]) -> Result<Self, Error> {
        let tree = Tree::new(tree)?;
        let root = tree.root();
        let mut reader = Reader::default();
        for range in tree.reservations() {
            reader.reserve(range, false)?;
        }
        let mut walk = Walk::new(&tree);
        while let Some(visit) = walk.next() {
            reader.visit(&walk, &visit)?;
        }
        let gic = reader
            .gic
            .as_ref()
            .ok_or(Error::Missing("interrupt controller (GICv2 or GICv3)"))?;
        if reader.memory.is_empty() {
            return Err(Error::Missing("memory"));
        }
        if reader.cpus.is_empty() {
            return Err(Error::Missing("CPU"));
        }
        let chosen = reader.chosen;
        let console = early::find(&tree, chosen, || reader.aliases);
        let is_console =
            |uart: &Uart| console.is_some_and(|console| console.registers == uart.registers);
        let with_interrupt = |(uart, visit): &(Uart, Visit<'_>)| Uart {
            interrupt: gic.interrupt(visit, 0),
            clock: uart.clock.or_else(|| reader.clock_of(visit)),
            ..*uart
        };
        let is_free = |visit: &Visit<'_>| visit.node.children().next().is_none();
        let mut uarts = reader.uarts.iter();
        let second = uarts.find(|(uart, visit)| !is_console(uart) && is_free(visit));
        let mut uarts = reader.uarts.iter();
        let console_with_interrupt = uarts.find(|(uart, _)| is_console(uart)).map(with_interrupt);
        let model = root
            .str("model")
            .or_else(|| root.property("compatible")?.strings().next());
        let number = |name| {
            chosen
                .and_then(|chosen| chosen.property(name)?.number())
                .map(Pa::new)
        };
        let line = chosen.and_then(|chosen| {
            chosen
                .str("xen,xen-bootargs")
                .or_else(|| chosen.str("bootargs"))
        });
        let initrd = number("linux,initrd-start").zip(number("linux,initrd-end"));
        Ok(Self {
            model: cut(model.unwrap_or_default()),
            memory: merge(reader.memory.clone()),
            reserved: reader.reserved.clone(),
            cpus: reader.cpus.clone(),
            cpus_left_out: reader.cpus_left_out,
            cpu_compatible: cut(reader.cpu_compatible),
            psci: reader.psci,
            gic: gic.finish()?,
            timer: devices::timer(gic, reader.timer.as_ref()),
            console: console_with_interrupt.or(console),
            second_uart: second.map(with_interrupt),
            watchdog: reader.watchdog,
            initrd: initrd
                .and_then(|(start, end)| PaRange::between(start, end))
                .filter(|range| !range.is_empty()),
            bootargs: cut(line.unwrap_or_default()),
        })
    }
}

impl<'a> Reader<'a> {
    fn visit(&mut self, walk: &Walk<'a>, visit: &Visit<'a>) -> Result<(), Error> {
        if visit.depth == 1 {
            self.top = Top::Other;
            match visit.node.name().base {
                "cpus" => {
                    self.top = Top::Cpus;
                    self.enable_method = visit.node.property("enable-method");
                }
                "reserved-memory" => self.top = Top::ReservedMemory,
                "chosen" => self.chosen = self.chosen.or(Some(visit.node)),
                "aliases" => self.aliases = self.aliases.or(Some(visit.node)),
                _ if visit.device_type == Some("memory") => {
                    return if visit.enabled {
                        self.memory(walk, visit)
                    } else {
                        Ok(())
                    };
                }
                _ => {}
            }
        }
        match self.top {
            Top::Cpus if visit.depth == 2 => self.cpu(walk, visit),
            Top::ReservedMemory if visit.depth == 2 => self.reserved_memory(walk, visit),
            _ => {
                self.device(walk, visit);
                Ok(())
            }
        }
    }

    fn memory(&mut self, walk: &Walk<'a>, visit: &Visit<'a>) -> Result<(), Error> {
        for index in 0..walk.registers(visit) {
            // Empty ones are what firmware was to fill in.
            let Some(range) = walk
                .register(visit, index)
                .filter(|range| !range.is_empty())
            else {
                continue;
            };
            self.memory
                .try_push(range)
                .map_err(|_| Error::TooMany("memory ranges"))?;
        }
        Ok(())
    }

    /// Lost reservations would be handed out as free memory, so too many are an error.
    fn reserve(&mut self, range: PaRange, no_map: bool) -> Result<(), Error> {
        let entry = Reserved { range, no_map };
        if range.is_empty() || self.reserved.contains(&entry) {
            return Ok(());
        }
        self.reserved
            .try_push(entry)
            .map_err(|_| Error::TooMany("reserved ranges"))
    }

    fn reserved_memory(&mut self, walk: &Walk<'a>, visit: &Visit<'a>) -> Result<(), Error> {
        // Nodes without `reg` ask the operating system to find room: nothing of theirs is in use.
        if !visit.enabled {
            return Ok(());
        }
        let no_map = visit.node.property("no-map").is_some();
        for index in 0..walk.registers(visit) {
            // Some trees forget `ranges` in /reserved-memory; the addresses are the CPU's all the same.
            let raw = || {
                let (start, size) = walk.raw_register(visit, index)?;
                PaRange::new(Pa::new(start), size)
            };
            if let Some(range) = walk.register(visit, index).or_else(raw) {
                self.reserve(range, no_map)?;
            }
        }
        Ok(())
    }

    fn cpu(&mut self, walk: &Walk<'a>, visit: &Visit<'a>) -> Result<(), Error> {
        if visit.device_type != Some("cpu") || !visit.enabled {
            return Ok(());
        }
        let (_, size_cells) = walk.cells(visit);
        let register = walk.raw_register(visit, 0).filter(|_| size_cells == 0);
        let Some((mpidr, _)) = register else {
            return Ok(());
        };
        let method = visit.node.property("enable-method").or(self.enable_method);
        let release = visit
            .node
            .property("cpu-release-addr")
            .and_then(|address| address.number());
        let start = match (method.and_then(|method| method.strings().next()), release) {
            (Some("psci"), _) => StartMethod::Psci,
            (Some("spin-table"), Some(address)) if address.is_multiple_of(8) => {
                let page = Pa::new(address).align_down(PAGE_SIZE);
                if let Some(page) = PaRange::new(page, PAGE_SIZE) {
                    self.reserve(page, false)?;
                }
                StartMethod::SpinTable(Pa::new(address))
            }
            _ => StartMethod::Unknown,
        };
        if self.cpus.is_empty() {
            self.cpu_compatible = visit
                .compatible
                .and_then(|list| list.strings().next())
                .unwrap_or_default();
        }
        if self
            .cpus
            .try_push(Cpu {
                mpidr: mpidr & AFFINITY,
                start,
            })
            .is_err()
        {
            self.cpus_left_out += 1;
        }
        Ok(())
    }

    fn device(&mut self, walk: &Walk<'a>, visit: &Visit<'a>) {
        let Some(device) = visit.device().filter(|_| visit.enabled) else {
            return;
        };
        match device {
            Device::Pl011 | Device::MiniUart => {
                // More UARTs than there is room for are of no use.
                if let Some(uart) = uart::recognise(walk, visit, Some(device))
                    && !self.uarts.is_full()
                {
                    self.uarts.push((uart, *visit));
                }
            }
            Device::GicV2 | Device::GicV3 if self.gic.is_none() => {
                self.gic = GicNode::read(walk, visit, device == Device::GicV3);
            }
            Device::GicV2 | Device::GicV3 => {}
            Device::Timer => self.timer = Some(*visit),
            Device::Psci => {
                self.psci = match visit.node.str("method") {
                    Some("smc") => Some(Conduit::Smc),
                    Some("hvc") => Some(Conduit::Hvc),
                    _ => None,
                };
            }
            Device::PowerManagement => self.watchdog = walk.register(visit, 0),
            Device::FixedClock => {
                let clock = visit.phandle.zip(visit.node.u32("clock-frequency"));
                let _ = clock.map(|clock| self.clocks.try_push(clock));
            }
        }
    }

    /// Frequency of a node's first clock, if that is a fixed one.
    fn clock_of(&self, visit: &Visit<'_>) -> Option<u32> {
        let wanted = visit.node.property("clocks")?.cells().next()?;
        let clock = self.clocks.iter().find(|(phandle, _)| *phandle == wanted);
        clock.map(|&(_, frequency)| frequency)
    }
}

/// The start of `text`, as much of it as there is room for.
fn cut<const SIZE: usize>(text: &str) -> ArrayString<SIZE> {
    let mut string = ArrayString::new();
    for letter in text.chars() {
        if string.try_push(letter).is_err() {
            break;
        }
    }
    string
}

/// Sorted, and what touches or overlaps made one.
fn merge(mut ranges: ArrayVec<PaRange, MAX_MEMORY>) -> ArrayVec<PaRange, MAX_MEMORY> {
    ranges.sort_unstable_by_key(|range| range.start());
    let mut merged = ArrayVec::<PaRange, MAX_MEMORY>::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start() <= last.end() => {
                let end = range.end().max(last.end());
                *last = PaRange::between(last.start(), end).unwrap_or(*last);
            }
            // As many places as there were ranges.
            _ => merged.push(range),
        }
    }
    merged
}
