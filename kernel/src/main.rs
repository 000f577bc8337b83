//! Viaduct: a firmware-level hypervisor for Armv8-A. This file is the boot, in order.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod assigned;
mod building;
mod console;
mod cpus;
mod crash;
mod create;
mod crew;
mod devices;
mod ending;
mod exits;
mod failure;
#[cfg(feature = "faults")]
mod faults;
mod frames;
mod hypercalls;
mod interrupts;
mod jobs;
mod lifecycle;
mod load;
mod machine;
mod memory_map;
mod migration;
mod operator;
mod power;
mod registers;
mod say;
mod schedule;
mod serrors;
mod shared;
mod signal;
mod smccc;
mod statistics;
mod store;
mod stretch;
mod timer;
mod trace;
mod tuning;
mod watchdog;

use core::fmt::Write;

use crate::say::{error, info, warn};
use ::memory::{Pa, PaRange};
use alloc::vec::Vec;
use devtree::fit::Fit;
use devtree::guest::DomainConfig;
use devtree::plan::{self, Planner};
use devtree::tree::Node;
use devtree::{Board, Options, Problem, Tree};

arch::boot_entries! { boot: boot, refused: refused, secondary: cpus::secondary }

/// The boot CPU, MMU on, with nothing but the image and the tree mapped.
fn boot(tree: &'static [u8]) {
    arch::cpu::forget_header();
    arch::vectors::install();
    failure::set_tree(tree);
    #[cfg(feature = "faults")]
    faults::run_early(tree);
    let mut board = Board::empty();
    let read = Tree::new(tree).and_then(|tree| Ok((tree, board.fill(&tree)?)));
    // A tree that says too little of the board may still name a console.
    let console = match read {
        Ok(_) => board.console,
        Err(_) => devtree::early::console(tree),
    };
    console::start_early(console, |uart| {
        arch::entry::map_early_device(uart.registers)
    });
    info!("Viaduct {}", env!("CARGO_PKG_VERSION"));
    let started = match read {
        Ok((tree, chosen)) => start(tree, chosen, &mut board),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = started {
        error!("{error}");
        error!("cannot go on");
        signal::stop_early(tree, error.stop());
    }
    cpus::leave_boot()
}

/// Everything that can fail, in order.
fn start(
    tree: Tree<'static>,
    chosen: Option<Node<'static>>,
    board: &mut Board,
) -> Result<(), Error> {
    info!("board: {}", board.model);
    let mut told = arrayvec::ArrayVec::<(arrayvec::ArrayString<64>, &'static str), 8>::new();
    let options = Options::parse(&board.bootargs, |word, why| {
        let mut text = arrayvec::ArrayString::new();
        let end = (0..=word.len().min(64))
            .rev()
            .find(|end| word.is_char_boundary(*end));
        text.push_str(word.get(..end.unwrap_or(0)).unwrap_or(""));
        let _ = told.try_push((text, why));
    });
    log::set_max_level(options.log_level);
    for (word, why) in &told {
        warn!("boot argument {word}: {why}");
    }
    board.keeps_second_uart = options.trace;
    failure::set_action(options.on_panic);
    lifecycle::set_action(options.on_last_stop);

    let bytes = tree.bytes();
    let own_tree = PaRange::new(Pa::new(bytes.as_ptr().addr() as u64), bytes.len() as u64)
        .ok_or(Error::Missing("a device tree"))?;
    memory_map::start(board, own_tree)?;
    power::start(board);
    signal::start(board);
    smccc::start(board);
    console::start(options.console_switch);
    cpus::adopt_boot_cpu(board).ok_or(Error::Missing("memory for the boot CPU"))?;
    interrupts::start(board, &options)?;
    #[cfg(feature = "faults")]
    faults::run(options.fault);
    cpus::start(board).ok_or(Error::Missing("memory for the other CPUs"))?;
    trace::start(board, options.trace);
    stretch::start(options.longest_stretch);

    let mut problems: Vec<Problem> = Vec::new();
    let bundle = board
        .initrd
        .and_then(|range| match Fit::new(memory_map::bytes(range)) {
            Ok(bundle) => Some(bundle),
            Err(error) => {
                error!("bundle at {range}: {error}");
                None
            }
        });
    let mut planner = Planner::new(board, bundle).with_chosen(chosen);
    // Domains are built from their descriptions again and again.
    let configs: &'static [DomainConfig] = planner
        .describe(tree, &memory_map::taken(), &mut |problem| {
            problems.push(problem);
        })
        .leak();
    problems.iter().for_each(create::tell);
    let (kept, fixed) = (plan::kept(configs), plan::static_memory(configs));
    memory_map::fill_pool(board, &kept, &fixed)?;
    memory_map::grow_heap_by(plan::heap_for_hardware(&tree, configs));
    create::build_all(interrupts::virtual_of(board), planner, configs);
    if let Err(error) = interrupts::start_uart(board) {
        warn!("console input: {error}");
    }
    console::start_interrupts(board);
    lifecycle::start_those_after();
    watchdog::start(configs);
    operator::start();
    #[cfg(feature = "faults")]
    faults::run_late(options.fault);
    if machine::domains().is_empty() {
        lifecycle::last_stop();
        if board.console.is_none() {
            signal::stop(signal::Stop::NoGuest);
        }
    }
    Ok(())
}

/// Why the boot stopped.
#[derive(Debug)]
enum Error {
    Tree(devtree::Error),
    Memory(memory_map::Error),
    Interrupts(platform::gic::Error),
    Missing(&'static str),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Interrupts(error) => write!(f, "interrupt controller: {error}"),
            Self::Missing(what) => write!(f, "no {what}"),
        }
    }
}

impl Error {
    /// What the board's light tells of it.
    const fn stop(&self) -> signal::Stop {
        match self {
            Self::Tree(_) => signal::Stop::Tree,
            Self::Memory(_) | Self::Missing(_) => signal::Stop::Memory,
            Self::Interrupts(_) => signal::Stop::Interrupts,
        }
    }
}

impl From<devtree::Error> for Error {
    fn from(error: devtree::Error) -> Self {
        Self::Tree(error)
    }
}

impl From<memory_map::Error> for Error {
    fn from(error: memory_map::Error) -> Self {
        Self::Memory(error)
    }
}

impl From<platform::gic::Error> for Error {
    fn from(error: platform::gic::Error) -> Self {
        Self::Interrupts(error)
    }
}

/// Not at EL2, or loaded where no image may be: said with the MMU off, without atomics.
fn refused(tree: &'static [u8], level: u64, load_address: u64) {
    let Some(uart) = devtree::early::console(tree) else {
        signal::stop_unmapped(tree, signal::Stop::Entry);
    };
    let mut out = console::RawConsole::on(&uart);
    let _ = if level == 2 {
        writeln!(
            out,
            "viaduct: loaded at {load_address:#x}; it must be a multiple of 64 KiB"
        )
    } else {
        writeln!(
            out,
            "viaduct: started at EL{level}; it must be EL2 (QEMU: -M virt,virtualization=on)"
        )
    };
    signal::stop_unmapped(tree, signal::Stop::Entry)
}
