//! The report for people. Lines that the hypervisor prints too are worded by the same code, and begin as they do
//! on its console: `error: `, `warning: `.

mod guest;

use guest::{allowed_cpus, devices, files, life, scheduled};

use std::fmt::{self, Display, Formatter};

use abi::guest_layout as layout;
use devtree::board::{Gic, Interrupt, StartMethod};
use devtree::guest::{CpuSet, LifeConfig};
use devtree::guest_tree::interrupt_cells;
use devtree::plan::{self, GuestMachine};
use devtree::{Severity, UartKind};
use memory::CHUNK_SIZE;

use crate::{Fate, Guest, Report};

/// Free chunks at the end below which a heap that grows may leave out a guest: the heap takes one at a time.
const TIGHT: u64 = 2;

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.board(f)?;
        if !self.lines.is_empty() || !self.problems.is_empty() {
            writeln!(f)?;
        }
        for (severity, line) in &self.lines {
            tell(f, *severity, line)?;
        }
        for problem in &self.problems {
            tell(f, problem.severity, problem)?;
        }
        for guest in &self.guests {
            writeln!(f)?;
            self.guest(f, guest)?;
        }
        writeln!(f)?;
        self.end(f)
    }
}

fn tell(f: &mut Formatter<'_>, severity: Severity, line: impl Display) -> fmt::Result {
    let prefix = match severity {
        Severity::Note => "",
        Severity::Warning => "warning: ",
        Severity::Refused => "error: ",
    };
    writeln!(f, "{prefix}{line}")
}

/// A row of a table: what, and then the text. Rows without a label go on with the one above.
fn row(f: &mut Formatter<'_>, label: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "  {label:<13} {text}")
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

/// Which kind of interrupt it is, and its number there, which is the one that a tree says.
fn kind(intid: u32) -> String {
    let [shared, number, _] = interrupt_cells(intid);
    format!("{} {number}", if shared == 0 { "SPI" } else { "PPI" })
}

/// One of the board's.
fn physical(interrupt: Interrupt) -> String {
    let [kind_of, number, _] = interrupt_cells(interrupt.intid);
    format!(
        "INTID {} = {}, in the tree <{kind_of} {number} ...>, {}",
        interrupt.intid,
        kind(interrupt.intid),
        if interrupt.edge { "edge" } else { "level" }
    )
}

/// One of a guest's.
fn virtual_one(name: &str, intid: u32) -> String {
    let [kind_of, number, flags] = interrupt_cells(intid);
    let kind = kind(intid);
    format!("{name:<14} INTID {intid} = {kind}, in its tree <{kind_of} {number} {flags:#x}>")
}

impl Report<'_> {
    fn board(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let board = &self.board;
        writeln!(f, "board: {}", board.model)?;
        let all = board.cpus.len() + board.cpus_left_out;
        row(f, "CPUs", format_args!("{} of {all} up", self.cpus.len()))?;
        for (number, cpu) in board.cpus.iter().enumerate() {
            let start = match cpu.start {
                _ if number == 0 => "taken for the one that boots".to_owned(),
                _ if !self.cpus.contains(&number) => {
                    "does not start: no way that is known".to_owned()
                }
                StartMethod::SpinTable(word) => format!("starts by the spin table at {word}"),
                _ => "starts by PSCI".to_owned(),
            };
            row(
                f,
                "",
                format_args!("CPU {number}: MPIDR {:#x}, {start}", cpu.mpidr),
            )?;
        }
        row(f, "RAM", list(&board.memory))?;
        for reserved in &board.reserved {
            let how = if reserved.no_map {
                ", not even mapped"
            } else {
                ""
            };
            row(f, "", format_args!("{} reserved{how}", reserved.range))?;
        }
        row(
            f,
            "hypervisor",
            format_args!("image {} (taken for its place)", self.image),
        )?;
        row(f, "", format_args!("heap {}, at first", self.heap.range()))?;
        row(
            f,
            "",
            format_args!("tree {} (taken for its place)", self.tree),
        )?;
        if let Some(bundle) = board.initrd {
            row(f, "", format_args!("bundle {bundle}"))?;
        }
        self.interrupts(f)?;
        if let Some(uart) = &board.console {
            let kind = match uart.kind {
                UartKind::Pl011 => "PL011",
                UartKind::MiniUart => "mini UART",
            };
            row(f, "console", format_args!("{kind} at {}", uart.registers))?;
            let interrupt = uart
                .interrupt
                .map_or("no interrupt: no input".into(), physical);
            row(f, "", interrupt)?;
        } else {
            row(f, "console", "none")?;
        }
        if !board.bootargs.is_empty() {
            row(
                f,
                "command line",
                format_args!("{:?}", board.bootargs.as_str()),
            )?;
        }
        let total: u64 = board.memory.iter().map(|range| range.size() >> 20).sum();
        let free = self.free[0] >> 20;
        writeln!(f, "memory: {total} MiB, {free} MiB free for guests")
    }

    fn interrupts(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let board = &self.board;
        let maintenance = match &board.gic {
            Gic::V2 {
                distributor,
                cpu_interface,
                hypervisor_interface,
                virtual_cpu_interface,
                maintenance,
            } => {
                row(
                    f,
                    "GICv2",
                    format_args!("GICD {distributor}, GICC {cpu_interface}"),
                )?;
                let rest = (hypervisor_interface, virtual_cpu_interface);
                row(f, "", format_args!("GICH {}, GICV {}", rest.0, rest.1))?;
                maintenance
            }
            Gic::V3 {
                distributor,
                redistributors,
                maintenance,
            } => {
                let redistributors = list(redistributors);
                row(
                    f,
                    "GICv3",
                    format_args!("GICD {distributor}, GICR {redistributors}"),
                )?;
                maintenance
            }
        };
        row(
            f,
            "interrupts",
            format_args!("maintenance    {}", physical(*maintenance)),
        )?;
        for (name, interrupt) in [
            ("virtual timer", board.timer.virtual_timer),
            ("physical timer", board.timer.physical),
            ("EL2's timer", board.timer.hypervisor),
        ] {
            row(f, "", format_args!("{name:<14} {}", physical(interrupt)))?;
        }
        Ok(())
    }

    fn guest(&self, f: &mut Formatter<'_>, guest: &Guest<'_>) -> fmt::Result {
        let config = &guest.config;
        let name = &config.name;
        match &guest.fate {
            Fate::LeftOut(error) => {
                return tell(f, Severity::Refused, plan::problem(config, error));
            }
            Fate::Built(plan) => {
                writeln!(f, "{}", plan.line(config, guest.homes.iter().copied()))?;
            }
            Fate::Unchecked(files) => {
                let (mib, vcpus) = (config.memory >> 20, config.vcpus);
                writeln!(
                    f,
                    "{name}: {mib} MiB, {vcpus} vCPUs; as far as can be told without its files"
                )?;
                for file in files {
                    row(
                        f,
                        "not checked",
                        format_args!("the file at {file}: give module@{}=FILE", file.start()),
                    )?;
                }
            }
        }
        for (range, size) in &guest.sizes {
            let line = format_args!(
                "{name}: reg: found {} bytes, expected {size}: the file's size",
                range.size()
            );
            tell(f, Severity::Warning, line)?;
        }
        // One that is built has room for its devices.
        let machine = match (&guest.fate, &guest.machine) {
            (Fate::Built(plan), _) => &plan.machine,
            (_, Ok(machine)) => machine,
            (_, Err(_)) => return Ok(()),
        };
        if !machine.enhanced && machine.uart.is_none() {
            let line =
                format_args!("{name}: no console but console_io: neither xen,enhanced nor vpl011");
            tell(f, Severity::Warning, line)?;
        }
        row(f, "RAM", list(&machine.banks))?;
        if config.direct_map {
            row(f, "", "direct-mapped: the board's own addresses")?;
        } else if !config.static_memory.is_empty() {
            row(
                f,
                "",
                format_args!("in the board's {}", list(&config.static_memory)),
            )?;
        }
        if let Fate::Built(plan) = &guest.fate {
            for (pages, at) in &plan.assignment.registers {
                row(f, "registers", format_args!("{at}: the board's {pages}"))?;
            }
            for device in &plan.assignment.devices {
                row(f, "device", device)?;
            }
            let intids = plan.assignment.interrupts.iter().map(|one| kind(one.intid));
            let intids: Vec<_> = intids.collect();
            if !intids.is_empty() {
                row(f, "given", list(intids))?;
            }
        }
        for shared in &config.shared {
            let place = shared
                .host
                .map_or("anywhere".into(), |host| format!("the board's {host}"));
            let line = format_args!("{}: {:?}, {place}", shared.guest, shared.id);
            row(f, "shared", line)?;
        }
        if let Fate::Built(plan) = &guest.fate {
            files(f, guest, plan)?;
        }
        for (number, affinity) in machine.affinities.iter().enumerate() {
            let home = guest
                .homes
                .get(number)
                .map_or(String::new(), |home| format!(" on CPU {home},"));
            let allowed = config.affinity.get(number).copied().unwrap_or(CpuSet::ALL);
            let allowed = allowed_cpus(allowed, self.board.cpus.len());
            let mpidr = layout::MPIDR_RES1 | affinity;
            let scheduling = config
                .scheduling
                .get(number)
                .map_or(String::new(), scheduled);
            row(
                f,
                &format!("vCPU {number}"),
                format_args!("MPIDR {mpidr:#x},{home} {allowed}{scheduling}"),
            )?;
        }
        devices(f, machine)?;
        if let Some(line) = &config.bootargs {
            row(f, "command line", format_args!("{line:?}"))?;
        }
        if config.life != LifeConfig::default() {
            row(f, "life", life(&config.life, &config.after))?;
        }
        let defaults = self.defaults(guest, machine);
        if !defaults.is_empty() {
            row(f, "by default", list(defaults))?;
        }
        Ok(())
    }

    /// What a guest has because its node says nothing.
    fn defaults(&self, guest: &Guest<'_>, machine: &GuestMachine) -> Vec<String> {
        let (config, path) = (&guest.config, format!("/chosen/{}", guest.config.name));
        let node = self.containers.iter().find_map(|tree| {
            tree.find(&path)
                .filter(|node| node.is_compatible(&["xen,domain"]))
        });
        let Some(node) = node else {
            return Vec::new();
        };
        let all = [
            ("nr_spis", format!("<{}>", machine.spis)),
            (
                "trap-unmapped-accesses",
                format!("<{}>", u32::from(config.trap_unmapped)),
            ),
            ("max_grant_version", format!("<{}>", config.grants.version)),
            ("max_grant_frames", format!("<{}>", config.grants.frames)),
            (
                "max_maptrack_frames",
                format!("<{}>", config.grants.maptrack_frames),
            ),
        ];
        let numbers = all
            .into_iter()
            .map(|(name, value)| (name, format!("{name} {value}")));
        let absent = ["vpl011", "xen,enhanced", "viaduct,console-focus"];
        let absent = absent.into_iter().map(|name| (name, format!("no {name}")));
        numbers
            .chain(absent)
            .filter(|(name, _)| node.property(name).is_none())
            .map(|(_, text)| text)
            .collect()
    }

    fn end(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(focus) = &self.focus {
            writeln!(f, "input goes to {focus}")?;
        }
        let [before, after] = self.free.map(|bytes| bytes >> 20);
        writeln!(f, "memory for guests: {before} MiB, {after} MiB left")?;
        let taken = self.free[0] != self.free[1];
        if taken && self.free[1] < TIGHT * CHUNK_SIZE {
            let line = "memory: the hypervisor's heap grows in steps of 2 MiB, and what is left may be too little";
            tell(f, Severity::Warning, line)?;
        }
        let left_out: Vec<_> = self.left_out().collect();
        let built = self.guests.len()
            - self
                .guests
                .iter()
                .filter(|guest| guest.is_left_out())
                .count();
        if !left_out.is_empty() {
            writeln!(f, "left out: {}", list(left_out))?;
        }
        match built {
            0 => writeln!(f, "no guest to run"),
            1 => writeln!(f, "1 guest is built"),
            _ => writeln!(f, "{built} guests are built"),
        }
    }

    /// Names of the guests that are left out, those whose descriptions are wrong first.
    fn left_out(&self) -> impl Iterator<Item = &str> {
        let refused = self
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Refused);
        let mut described: Vec<&str> = refused
            .filter_map(|problem| problem.node.strip_prefix("/chosen/")?.split('/').next())
            .collect();
        described.dedup();
        // What was planned has its own line.
        let planned = |name: &&str| self.guests.iter().all(|guest| guest.config.name != **name);
        described.retain(planned);
        let built = self.guests.iter().filter(|guest| guest.is_left_out());
        described
            .into_iter()
            .chain(built.map(|guest| guest.config.name.as_str()))
    }
}

impl Guest<'_> {
    fn is_left_out(&self) -> bool {
        matches!(self.fate, Fate::LeftOut(_))
    }
}
