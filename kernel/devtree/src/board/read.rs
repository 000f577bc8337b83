//! The walk that fills a [`Board`].

use arrayvec::{ArrayString, ArrayVec};
use memory::{PAGE_SIZE, Pa, PaRange};

use super::devices::{self, GicNode};
use super::{Board, Conduit, Cpu, Reserved, StartMethod};
use crate::device::Device;
use crate::tree::{Node, Property};
use crate::uart::{self, Uart};
use crate::walk::{Visit, Walk, Wiring};
use crate::{Error, Tree, early, led};

const MAX_UARTS: usize = 8;
const MAX_CLOCKS: usize = 16;
/// Letters of a UART's path by which it is known again.
const MAX_PATH: usize = 64;
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

/// A UART, what it is wired to, and its clock.
struct FoundUart<'a> {
    uart: Uart,
    wiring: Wiring<'a>,
    clock: Option<u32>,
    is_free: bool,
    /// Empty if it is too long.
    path: ArrayString<MAX_PATH>,
}

/// What cannot be understood before the walk is over. All else goes into the board at once: this runs on a small
/// stack.
struct Reader<'a, 'b> {
    board: &'b mut Board,
    gic: Option<GicNode<'a>>,
    timer: Option<(Node<'a>, Wiring<'a>)>,
    uarts: ArrayVec<FoundUart<'a>, MAX_UARTS>,
    clocks: ArrayVec<(u32, u32), MAX_CLOCKS>,
    chosen: Option<Node<'a>>,
    aliases: Option<Node<'a>>,
    enable_method: Option<Property<'a>>,
    light: led::Finder,
    top: Top,
}

/// Fills an empty board. Returns `/chosen`.
pub(super) fn fill<'a>(board: &mut Board, tree: &Tree<'a>) -> Result<Option<Node<'a>>, Error> {
    let mut reader = Reader {
        board,
        gic: None,
        timer: None,
        uarts: ArrayVec::new(),
        clocks: ArrayVec::new(),
        chosen: None,
        aliases: None,
        enable_method: None,
        light: led::Finder::default(),
        top: Top::Other,
    };
    for range in tree.reservations() {
        reader.reserve(range, false)?;
    }
    reader.walk(tree)?;
    reader.conclude(tree)
}

impl<'a> Reader<'a, '_> {
    /// Apart from the rest, so that the walk's own stack is gone when the console is looked for.
    #[inline(never)]
    fn walk(&mut self, tree: &Tree<'a>) -> Result<(), Error> {
        let mut walk = Walk::new(tree);
        while let Some(visit) = walk.next() {
            self.visit(&walk, &visit)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn conclude(self, tree: &Tree<'a>) -> Result<Option<Node<'a>>, Error> {
        const NO_GIC: Error = Error::Missing("interrupt controller (GICv2 or GICv3)");
        let board = self.board;
        let gic = self.gic.as_ref().ok_or(NO_GIC)?;
        if board.memory.is_empty() {
            return Err(Error::Missing("memory"));
        }
        if board.cpus.is_empty() {
            return Err(Error::Missing("CPU"));
        }
        let remain = memory::merge(&mut board.memory);
        board.memory.truncate(remain);
        board.gic = gic.finish()?;
        board.timer = devices::timer(gic, self.timer);

        let described = |found: &FoundUart<'_>| {
            let wanted = |clock: &&(u32, u32)| Some(clock.0) == found.clock;
            let fixed = self.clocks.iter().find(wanted).map(|clock| clock.1);
            let clock = found.uart.clock.or(fixed);
            let interrupt = gic.interrupt(&found.wiring, 0);
            Uart {
                interrupt,
                clock,
                ..found.uart
            }
        };
        let met = |path: &str| {
            let mut uarts = self.uarts.iter();
            uarts
                .find(|found| found.path == *path)
                .map(|found| found.uart)
        };
        board.console = early::find(tree, self.chosen, || self.aliases, met);
        let console = board.console.map(|console| console.registers);
        for found in &self.uarts {
            if Some(found.uart.registers) == console {
                board.console = Some(described(found));
            } else if found.is_free && board.second_uart.is_none() {
                board.second_uart = Some(described(found));
            }
        }

        board.led = self.light.found();

        let root = tree.root();
        let model = root
            .str("model")
            .or_else(|| root.property("compatible")?.strings().next());
        copy(model.unwrap_or_default(), &mut board.model);
        let Some(chosen) = self.chosen else {
            return Ok(None);
        };
        let number = |name| chosen.property(name)?.number().map(Pa::new);
        let initrd = number("linux,initrd-start").zip(number("linux,initrd-end"));
        let initrd = initrd.and_then(|(start, end)| PaRange::between(start, end));
        board.initrd = initrd.filter(|range| !range.is_empty());
        let line = chosen
            .str("xen,xen-bootargs")
            .or_else(|| chosen.str("bootargs"));
        copy(line.unwrap_or_default(), &mut board.bootargs);
        Ok(Some(chosen))
    }

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
            self.board
                .memory
                .try_push(range)
                .map_err(|_| Error::TooMany("memory ranges"))?;
        }
        Ok(())
    }

    /// Lost reservations would be handed out as free memory, so too many are an error.
    fn reserve(&mut self, range: PaRange, no_map: bool) -> Result<(), Error> {
        let entry = Reserved { range, no_map };
        if range.is_empty() || self.board.reserved.contains(&entry) {
            return Ok(());
        }
        self.board
            .reserved
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
        if self.board.cpus.is_empty() {
            let first = visit.compatible.and_then(|list| list.strings().next());
            copy(first.unwrap_or_default(), &mut self.board.cpu_compatible);
        }
        if self
            .board
            .cpus
            .try_push(Cpu {
                mpidr: mpidr & AFFINITY,
                start,
            })
            .is_err()
        {
            self.board.cpus_left_out += 1;
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
                    self.uarts.push(FoundUart {
                        uart,
                        wiring: visit.wiring,
                        clock: visit
                            .node
                            .property("clocks")
                            .and_then(|clocks| clocks.cells().next()),
                        is_free: visit.node.children().next().is_none(),
                        path: walk.path().unwrap_or_default(),
                    });
                }
            }
            Device::GicV2 | Device::GicV3 if self.gic.is_none() => {
                self.gic = GicNode::read(walk, visit, device == Device::GicV3);
            }
            Device::GicV2 | Device::GicV3 => {}
            Device::Timer => self.timer = Some((visit.node, visit.wiring)),
            Device::Psci => {
                self.board.psci = match visit.node.str("method") {
                    Some("smc") => Some(Conduit::Smc),
                    Some("hvc") => Some(Conduit::Hvc),
                    _ => None,
                };
            }
            Device::Gpio | Device::Leds => self.light.visit(walk, visit, device),
            Device::PowerManagement => self.board.watchdog = walk.register(visit, 0),
            Device::FixedClock => {
                let clock = visit.phandle.zip(visit.node.u32("clock-frequency"));
                let _ = clock.map(|clock| self.clocks.try_push(clock));
            }
        }
    }
}

/// Puts the start of `text` into `place`, as much of it as there is room for.
fn copy<const SIZE: usize>(text: &str, place: &mut ArrayString<SIZE>) {
    place.clear();
    for letter in text.chars() {
        if place.try_push(letter).is_err() {
            break;
        }
    }
}
