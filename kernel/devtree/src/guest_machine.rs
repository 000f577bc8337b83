//! What a guest's machine is: Xen's map for guests, or the board's own addresses for one that is direct-mapped
//! (xen/arch/arm/domain.c, xen/arch/arm/dom0less-build.c).

use alloc::vec::Vec;

use abi::guest_layout as layout;
use memory::{CHUNK_SIZE, Ipa, IpaRange, PAGE_SIZE};

use crate::board::Gic;
use crate::guest::{DomainConfig, Enhanced};
use crate::guest_tree::{self, GuestGic, GuestTree, Hypervisor};
use crate::placement::{self, Banks, Extended, Placement};
use crate::plan::XEN_VERSION;
use crate::{Assignment, Board, Error};

/// SPIs of a guest whose description says nothing: one bank, in which the UART's is the first.
const DEFAULT_SPIS: u32 = 32;

/// What a guest's machine is, whatever runs on it.
#[derive(Clone, Debug)]
pub struct GuestMachine {
    /// RAM.
    pub banks: Banks,
    /// 2 MiB chunks of the board's memory that it takes.
    pub chunks: u64,
    /// Affinity of each vCPU.
    pub affinities: Vec<u64>,
    /// The interrupt controller.
    pub gic: GuestGic,
    /// Shared interrupts.
    pub spis: u32,
    /// Its UART's registers and INTID.
    pub uart: Option<(IpaRange, u32)>,
    /// It is told of the hypervisor, and has a PV console ring.
    pub enhanced: bool,
    /// Where it may map its grant table.
    pub grant_window: IpaRange,
    /// Pages that the hypervisor shares with it: the console ring, then xenstore's.
    pub magic: Ipa,
    /// Where it may map grants and foreign frames, besides the window of the grant table.
    pub extended_regions: Extended,
}

impl GuestMachine {
    /// The machine that a description asks for.
    pub fn new(board: &Board, config: &DomainConfig) -> Result<Self, Error> {
        let mut machine = Self {
            banks: placement::banks(config.memory).ok_or(Error::DoesNotFit("the memory"))?,
            chunks: config.memory.div_ceil(CHUNK_SIZE),
            affinities: (0..config.vcpus).map(layout::affinity_of).collect(),
            gic: gic(board, config.vcpus)?,
            spis: 0,
            uart: match config.vpl011 {
                true => Some((
                    range(layout::VPL011, layout::VPL011_SIZE)?,
                    layout::VPL011_INTID,
                )),
                false => None,
            },
            enhanced: config.enhanced != Enhanced::Off,
            grant_window: range(layout::GRANT_TABLE, layout::GRANT_TABLE_SIZE)?,
            magic: Ipa::new(layout::MAGIC),
            extended_regions: placement::extended_regions(config.memory),
        };
        if config.direct_map {
            machine.move_to_the_boards_addresses(board, config)?;
        }
        machine.share(config)?;
        // The UART's interrupt is among them: the first shared one, where the guest has Xen's map.
        let uart = machine
            .uart
            .map_or(0, |(_, intid)| intid.saturating_sub(31));
        machine.spis = config.spis.unwrap_or(DEFAULT_SPIS).max(uart);
        Ok(machine)
    }

    /// RAM, GIC and UART where the board has them, as on Xen. What the board has nothing of goes where neither RAM nor
    /// a device can be.
    fn move_to_the_boards_addresses(
        &mut self,
        board: &Board,
        config: &DomainConfig,
    ) -> Result<(), Error> {
        self.banks = config.banks();
        self.gic = match &board.gic {
            Gic::V2 {
                distributor,
                cpu_interface,
                ..
            } => GuestGic::V2 {
                distributor: range(distributor.start().get(), layout::GICV2_DISTRIBUTOR_SIZE)?,
                cpu_interface: range(
                    cpu_interface.start().get(),
                    layout::GICV2_CPU_INTERFACE_SIZE,
                )?,
            },
            Gic::V3 {
                distributor,
                redistributors,
                ..
            } => {
                let size = redistributors_of(config.vcpus)?;
                // One region, as the guest's tree has one.
                let mut regions = redistributors.iter();
                let region = regions.find(|region| region.size() >= size);
                let region = region.ok_or(Error::NoPlace("a redistributor for each vCPU"))?;
                GuestGic::V3 {
                    distributor: range(distributor.start().get(), layout::GICV3_DISTRIBUTOR_SIZE)?,
                    redistributors: range(region.start().get(), size)?,
                }
            }
        };
        if let Some((registers, intid)) = &mut self.uart
            && let Some(console) = &board.console
        {
            let start = console.registers.start().align_down(PAGE_SIZE);
            *registers = range(start.get(), layout::VPL011_SIZE)?;
            let interrupt = console.interrupt.map(|interrupt| interrupt.intid);
            *intid = interrupt.filter(|intid| *intid >= 32).unwrap_or(*intid);
        }
        let window = window(board)?;
        let start = window.start().get();
        self.grant_window = range(start, layout::GRANT_TABLE_SIZE)?;
        let magic = start.saturating_add(layout::GRANT_TABLE_SIZE);
        self.magic = Ipa::new(magic);
        let rest = magic.saturating_add(layout::MAGIC_SIZE);
        let rest = IpaRange::between(Ipa::new(rest), window.end());
        self.extended_regions = rest.into_iter().collect();
        Ok(())
    }

    /// Makes room for what the guest shares with others, where its description puts it.
    fn share(&mut self, config: &DomainConfig) -> Result<(), Error> {
        let own = self.occupied();
        for (number, shared) in config.shared.iter().enumerate() {
            if own.iter().any(|own| own.overlaps(shared.guest)) {
                return Err(Error::SharedPlace(number));
            }
        }
        let shared: Vec<IpaRange> = config.shared.iter().map(|shared| shared.guest).collect();
        let regions = core::mem::take(&mut self.extended_regions);
        self.extended_regions = placement::cut(regions.into_iter(), &shared);
        Ok(())
    }

    /// Makes room for the devices that it is given.
    pub(crate) fn assign(&mut self, assignment: &Assignment) {
        let seen = assignment.registers.iter();
        let seen = seen.filter_map(|(pages, at)| IpaRange::new(*at, pages.size()));
        let seen: Vec<IpaRange> = seen.collect();
        let regions = core::mem::take(&mut self.extended_regions);
        self.extended_regions = placement::cut(regions.into_iter(), &seen);
        let highest = assignment.interrupts.iter().map(|one| one.intid).max();
        let spis = highest.map_or(0, |highest| highest.saturating_sub(31));
        self.spis = self.spis.max(spis);
    }

    /// Where the guest's machine has something: RAM, devices, the hypervisor's windows.
    pub(crate) fn occupied(&self) -> Vec<IpaRange> {
        let mut ranges: Vec<IpaRange> = self.banks.iter().copied().collect();
        match self.gic {
            GuestGic::V2 {
                distributor,
                cpu_interface,
            } => ranges.extend([distributor, cpu_interface]),
            GuestGic::V3 {
                distributor,
                redistributors,
            } => ranges.extend([distributor, redistributors]),
        }
        ranges.extend(self.uart.map(|(registers, _)| registers));
        ranges.push(self.grant_window);
        ranges.extend(IpaRange::new(self.magic, layout::MAGIC_SIZE));
        ranges
    }

    /// What the guest's tree says.
    pub(crate) fn tree<'c>(
        &'c self,
        board: &'c Board,
        config: &'c DomainConfig,
        place: &Placement,
    ) -> GuestTree<'c> {
        GuestTree {
            affinities: &self.affinities,
            cpu_compatible: &board.cpu_compatible,
            memory: &self.banks,
            shared: &config.shared,
            gic: self.gic,
            timer_frequency: board.timer.frequency,
            timers: [
                layout::TIMER_SECURE_PHYSICAL_INTID,
                layout::TIMER_PHYSICAL_INTID,
                layout::TIMER_VIRTUAL_INTID,
                layout::TIMER_HYPERVISOR_INTID,
            ],
            uart: self.uart,
            hypervisor: self.enhanced.then_some(Hypervisor {
                version: XEN_VERSION,
                grant_window: self.grant_window,
                extended_regions: &self.extended_regions,
                upcall: layout::EVENT_INTID,
            }),
            initrd: place.initrd,
            bootargs: config.bootargs.as_deref(),
            gic_phandle: guest_tree::GIC,
            partial: None,
            hardware: None,
        }
    }
}

/// The interrupt controller where Xen's map has it.
fn gic(board: &Board, vcpus: u32) -> Result<GuestGic, Error> {
    Ok(match board.gic {
        Gic::V2 { .. } => GuestGic::V2 {
            distributor: range(layout::GICV2_DISTRIBUTOR, layout::GICV2_DISTRIBUTOR_SIZE)?,
            cpu_interface: range(
                layout::GICV2_CPU_INTERFACE,
                layout::GICV2_CPU_INTERFACE_SIZE,
            )?,
        },
        Gic::V3 { .. } => GuestGic::V3 {
            distributor: range(layout::GICV3_DISTRIBUTOR, layout::GICV3_DISTRIBUTOR_SIZE)?,
            redistributors: range(layout::GICV3_REDISTRIBUTORS, redistributors_of(vcpus)?)?,
        },
    })
}

fn redistributors_of(vcpus: u32) -> Result<u64, Error> {
    u64::from(vcpus)
        .checked_mul(layout::GICV3_REDISTRIBUTOR_STRIDE)
        .ok_or(Error::DoesNotFit("the redistributors"))
}

/// Addresses of a direct-mapped guest at which the board has nothing: 4 GiB above its RAM, and above the 4 GiB below
/// which boards have their devices. What lies higher still (PCIe windows) begins far above.
fn window(board: &Board) -> Result<IpaRange, Error> {
    const GIB: u64 = 1 << 30;
    const NONE: Error = Error::NoPlace("the grant table's window");
    let end = board.memory.iter().map(|ram| ram.end().get()).max();
    let end = end.unwrap_or(0).max(4 * GIB);
    let start = end.checked_next_multiple_of(GIB).ok_or(NONE)?;
    let window = range(start, 4 * GIB).map_err(|_| NONE)?;
    (window.end() <= placement::LIMIT)
        .then_some(window)
        .ok_or(NONE)
}

fn range(start: u64, size: u64) -> Result<IpaRange, Error> {
    IpaRange::new(Ipa::new(start), size).ok_or(Error::DoesNotFit("a device"))
}

#[cfg(test)]
#[path = "guest_machine_tests.rs"]
mod tests;
