//! Parts of what is said of a guest.

use std::fmt::{self, Formatter};

use abi::guest_layout as layout;
use devtree::guest::{CpuSet, LifeConfig, ModuleSource, Restart, Scheduling};
use devtree::guest_tree::GuestGic;
use devtree::kernel::Kernel;
use devtree::plan::{GuestMachine, Plan};

use super::{list, row, virtual_one};
use crate::Guest;

/// How a vCPU is scheduled, if not as usual.
pub(super) fn scheduled(scheduling: &Scheduling) -> String {
    let usual = Scheduling::default();
    let weight = match scheduling.weight {
        weight if weight == usual.weight => String::new(),
        weight => format!(", weight {weight}"),
    };
    let promise = scheduling.reservation.map_or(String::new(), |reservation| {
        let (budget, period) = (reservation.budget, reservation.period);
        format!(", real time: {budget} of every {period} us, on this CPU alone")
    });
    weight + &promise
}

/// CPUs that a vCPU may run on, as `hard-affinity` lists them.
pub(super) fn allowed_cpus(set: CpuSet, cpus: usize) -> String {
    if set == CpuSet::ALL {
        return "may run on any CPU".into();
    }
    let cpus = (0..cpus as u32).filter(|cpu| set.contains(*cpu));
    format!("may run on CPU {}", list(cpus))
}

/// Where the files go.
pub(super) fn files(f: &mut Formatter<'_>, guest: &Guest<'_>, plan: &Plan<'_>) -> fmt::Result {
    let source = |source: &ModuleSource| match source {
        ModuleSource::Memory(range) => format!("the file at {range}"),
        ModuleSource::Image(name) => format!("image {name:?}"),
    };
    let format = match &plan.kernel {
        Kernel::Image(_) if guest.config.load_offset.is_some() => "raw binary".to_owned(),
        Kernel::Image(_) => "arm64 Image".to_owned(),
        Kernel::Packed(_) => "arm64 Image, packed by gzip".to_owned(),
        Kernel::Elf(elf) => format!("ELF, {} segments", elf.segments.len()),
    };
    let place = &plan.place;
    let kernel = source(&guest.config.kernel);
    let bytes = plan.kernel_file.len();
    row(
        f,
        "kernel",
        format_args!("{}: {kernel}, {bytes} bytes, {format}", place.kernel),
    )?;
    row(f, "entry", place.entry)?;
    if let (Some(range), Some(disk)) = (place.initrd, &guest.config.ramdisk) {
        row(
            f,
            "RAM disk",
            format_args!("{range}: {}, {} bytes", source(disk), range.size()),
        )?;
    }
    let bytes = plan.tree.len();
    row(f, "tree", format_args!("{}: {bytes} bytes", place.tree))
}

/// GIC, interrupts, consoles.
pub(super) fn devices(f: &mut Formatter<'_>, machine: &GuestMachine) -> fmt::Result {
    let spis = machine.spis;
    match machine.gic {
        GuestGic::V2 {
            distributor,
            cpu_interface,
        } => row(
            f,
            "GICv2",
            format_args!("GICD {distributor}, GICC {cpu_interface}, {spis} SPIs"),
        )?,
        GuestGic::V3 {
            distributor,
            redistributors,
        } => row(
            f,
            "GICv3",
            format_args!("GICD {distributor}, GICR {redistributors}, {spis} SPIs"),
        )?,
    }
    let always = [
        ("virtual timer", layout::TIMER_VIRTUAL_INTID),
        ("physical timer", layout::TIMER_PHYSICAL_INTID),
    ];
    let upcall = machine
        .enhanced
        .then_some(("event upcall", layout::EVENT_INTID));
    let uart = machine.uart.map(|(_, intid)| ("UART", intid));
    let mut label = "interrupts";
    for (name, intid) in always.into_iter().chain(upcall).chain(uart) {
        row(f, label, virtual_one(name, intid))?;
        label = "";
    }
    let ring = machine
        .enhanced
        .then(|| format!("PV ring at {} (hvc0)", machine.magic));
    let uart = machine
        .uart
        .map(|(registers, _)| format!("SBSA UART at {} (ttyAMA0)", registers.start()));
    let consoles: Vec<_> = ring.into_iter().chain(uart).collect();
    match consoles.is_empty() {
        true => row(f, "console", "console_io"),
        false => row(f, "console", list(consoles)),
    }
}

/// When a guest starts, and when it is started again.
pub(super) fn life(life: &LifeConfig, after: &[String]) -> String {
    let mut start = match life.manual_start {
        true => "started by a command; ".to_owned(),
        false => String::new(),
    };
    if !after.is_empty() {
        start += &format!("after {}; ", list(after.to_vec()));
    }
    if life.says_ready {
        start += "says when it is ready; ";
    }
    if life.critical {
        start += "critical; ";
    }
    let again = match life.restart {
        Restart::Never => return format!("{start}never started again"),
        Restart::OnCrash => "started again after a crash or a reboot",
        Restart::Always => "started again after every end",
    };
    let limit = match life.limit {
        0 => "without limit".to_owned(),
        limit => format!("at most {limit} times in a row"),
    };
    format!("{start}{again}, {limit}, after {} ms", life.backoff)
}
