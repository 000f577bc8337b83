//! For tests and fuzzing only: everything that is done with bytes from outside, and what must hold of it whatever they
//! are. Nothing may panic, nothing may take long.

use std::string::ToString;
use std::time::{Duration, Instant};
use std::vec::Vec;

use memory::{Pa, PaRange};

use crate::fit::Fit;
use crate::guest::{self, Container, DomainConfig, Limits};
use crate::gzip::{Gunzip, STEP};
use crate::kernel::{self, Kernel};
use crate::placement::{self, TREE_SIZE};
use crate::plan::{self, Planner};
use crate::{Board, Error, Problem, Tree, early};

/// For one input; thousands of times what the slowest takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads the guests of a tree as the host's, or of a bundle, on a board with 1 GiB; gives what was told, too.
pub fn guests(container: &Container<'_>) -> (Vec<DomainConfig>, Vec<Problem>) {
    let ram = PaRange::new(Pa::new(0x4000_0000), 1 << 30);
    let limits = Limits {
        vcpus: 8,
        vcpus_because: "test",
        cpus: 4,
        memory: ram.as_slice(),
        taken: &[],
    };
    let (mut domains, mut problems) = (Vec::new(), Vec::new());
    guest::read(container, &limits, &mut domains, &mut |problem| {
        problems.push(problem);
    });
    (domains, problems)
}

/// The bytes of a tree or of a bundle.
pub fn tree(bytes: &[u8]) {
    let started = Instant::now();
    let _ = early::console(bytes);
    let board = Board::from_tree(bytes).map(|board| (std::format!("{board:?}"), board));
    let mut told = Vec::new();
    if let Ok(tree) = Tree::new(bytes) {
        let _ = tree.reservations().count();
        told.extend(guests(&Container::Host(tree)).1);
        if let Ok((_, board)) = &board {
            told.extend(plans(board, tree, None));
        }
    }
    if let Ok(fit) = Fit::new(bytes) {
        told.extend(guests(&Container::Bundle(fit)).1);
        for name in fit.names() {
            if let Ok(image) = fit.image(&name.to_string()) {
                let _ = image.verify();
                let _ = unpack(image.data);
            }
        }
    }
    for problem in told {
        assert!(!problem.to_string().contains('\n'), "{problem}");
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

/// Plans every guest; the modules of the host's tree are all the same few bytes.
fn plans(board: &Board, tree: Tree<'_>, bundle: Option<Fit<'_>>) -> Vec<Problem> {
    let mut planner = Planner::new(board, bundle);
    let mut told = Vec::new();
    let configs = planner.describe(tree, &[], &mut |problem| told.push(problem));
    for (number, config) in configs.iter().enumerate() {
        if let Err(error) = planner.plan(number, config, &|_| b"MZ") {
            told.push(plan::problem(config, &error));
        }
    }
    told
}

/// The bytes of a board's tree: a guest of the bundle of the tests has the devices. What it is given is neither the
/// hypervisor's nor RAM, and the tree that it gets is one, within its room. Whether it could be planned.
pub fn hardware(bytes: &[u8]) -> bool {
    const BUNDLE: &[u8] = include_bytes!("../tests/data/bundle.fit");
    let started = Instant::now();
    let board = Board::from_tree(bytes);
    let (Ok(board), Ok(tree), Ok(bundle)) = (board, Tree::new(bytes), Fit::new(BUNDLE)) else {
        return false;
    };
    let mut planner = Planner::new(&board, Some(bundle));
    let mut configs = planner.describe(tree, &[], &mut |_| {});
    let Some(config) = configs.last_mut() else {
        return false;
    };
    (config.hardware, config.direct_map) = (true, true);
    let ram = board.memory.first();
    let ram = ram.and_then(|ram| ram.align_inward(memory::CHUNK_SIZE));
    let ram = ram.and_then(|ram| PaRange::new(ram.start(), config.memory));
    config.static_memory = ram.into_iter().collect();
    let plan = planner.plan(0, config, &|_| b"MZ");
    for problem in planner.take_problems() {
        assert!(!problem.to_string().contains('\n'), "{problem}");
    }
    let done = plan.is_ok();
    if let Ok(plan) = plan {
        assert!(Tree::new(&plan.tree).is_ok());
        assert!(plan.tree.len() as u64 <= plan.place.tree.size());
        for (pages, at) in &plan.assignment.registers {
            assert_eq!(pages.start().get(), at.get());
            let mut kept = crate::assign::kept(&board).into_iter();
            assert!(kept.all(|(other, _)| !other.overlaps(*pages)), "{pages}");
        }
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    done
}

/// A kernel's file, packed or not: what it is, and all its bytes.
pub fn unpack(file: &[u8]) -> Result<(Kernel<'_>, Vec<u8>), Error> {
    let kernel = kernel::probe(file)?;
    if !matches!(kernel, Kernel::Packed(_)) {
        return Ok((kernel, file.to_vec()));
    }
    let mut unpacking = Gunzip::new(file)?;
    let mut out = Vec::new();
    while let Some(piece) = unpacking.step()? {
        assert!(piece.len() <= STEP);
        out.extend_from_slice(piece);
        assert!(out.len() as u64 <= unpacking.length());
    }
    assert_eq!(out.len() as u64, unpacking.length());
    Ok((kernel, out))
}

/// The bytes of a kernel's file. Whatever is placed lies in the guest's RAM, each part clear of the others, and each
/// byte that is copied inside the kernel's place.
pub fn file(bytes: &[u8]) {
    let started = Instant::now();
    if let Ok((kernel, data)) = unpack(bytes) {
        for (memory, tree, disk) in [
            (64, None, 0),
            (2, None, 5_000),
            (256, Some(0), 100 << 20),
            (4096, Some(64 << 20), 200 << 20),
        ] {
            let banks = placement::banks(memory << 20).unwrap_or_default();
            let Ok(place) = placement::place(&kernel, &banks, disk, TREE_SIZE, tree) else {
                continue;
            };
            let parts = [Some(place.kernel), Some(place.tree), place.initrd];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            for (number, part) in parts.iter().enumerate() {
                assert!(banks.iter().any(|bank| bank.contains_range(*part)));
                assert!(!parts[..number].iter().any(|other| other.overlaps(*part)));
            }
            assert_eq!(place.tree.size(), TREE_SIZE);
            match &kernel {
                Kernel::Image(_) | Kernel::Packed(_) => {
                    assert!(data.len() as u64 <= place.kernel.size());
                }
                Kernel::Elf(elf) => {
                    for segment in &elf.segments {
                        assert!(segment.data.len() as u64 <= segment.range.size());
                        assert!(place.kernel.contains_range(segment.range));
                    }
                }
            }
        }
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}
