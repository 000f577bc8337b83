//! Emulated devices of a guest: which address is which, and the access carried out.

use core::sync::atomic::Ordering;

use crate::say::warn;
use arch::context::{General, Registers};
use devtree::guest_tree::GuestGic;
use devtree::plan::GuestMachine;
use domain::exit::Abort;
use domain::mmio::{Access, Bus, Device};
use vgic::{AccessError, IntId, Notify, Region, Width};
use xen::{Vpl011, Wires};

use crate::assigned;
use crate::console;
use crate::machine::{Domain, Vcpu};
use crate::schedule;

/// A guest's SBSA UART and the console that it is wired to.
pub(crate) struct Uart {
    device: Vpl011,
    intid: IntId,
}

impl Uart {
    /// With its interrupt, which is Xen's if the number is none.
    pub(crate) fn new(intid: u32) -> Self {
        Self {
            device: Vpl011::new(),
            intid: IntId::new(intid).unwrap_or(IntId::VPL011),
        }
    }

    /// As at first: its domain begins anew.
    pub(crate) fn reset(&self) {
        self.device.reset();
    }

    /// Input arrives; the result is the number of bytes that found room.
    pub(crate) fn receive(&self, domain: &'static Domain, input: &[u8]) -> usize {
        self.device.receive(input, &mut UartWires(domain))
    }
}

/// What a guest's UART is wired to. Called with its lock held, so that levels arrive in the order in which
/// they came about.
struct UartWires(&'static Domain);

impl Wires for UartWires {
    fn transmit(&mut self, byte: u8) {
        self.0.speaks_by_uart.store(true, Ordering::Relaxed);
        console::write(self.0.console, &[byte]);
    }

    fn interrupt(&mut self, level: bool) {
        if let Some(uart) = &self.0.uart {
            schedule::set_line(self.0, uart.intid, level);
        }
    }
}

/// The devices of a guest. None overlap, and there is room for all. `linked`: it has interrupts of the board.
pub(crate) fn bus(machine: &GuestMachine, linked: bool) -> Bus {
    let mut bus = Bus::new();
    let mut attach = |range, device| {
        if let Err(error) = bus.attach(range, device) {
            warn!("device at {range}: {error}");
        }
    };
    match machine.gic {
        GuestGic::V2 { distributor, .. } => attach(distributor, Device::Distributor),
        GuestGic::V3 {
            distributor,
            redistributors,
        } => {
            attach(distributor, Device::Distributor);
            attach(redistributors, Device::Redistributor);
        }
    }
    if let Some((registers, _)) = machine.uart {
        attach(registers, Device::Vpl011);
    }
    if linked {
        // The board is told of what is written to it: see `gic`.
        bus.set_aside(Device::Distributor);
    }
    bus
}

/// Why an access was not carried out.
pub(crate) enum NotDone {
    /// The device refused it.
    Refused,
    /// Another CPU has not said yet what is to be read: the guest executes the instruction again.
    Again,
}

/// How often a CPU looks for another one's answer before it lets its guest go on. A look takes some 80 instructions:
/// no longer than EL2 may execute with interrupts masked. One that is in EL2 for longer takes note before its guest
/// goes on.
const PATIENCE: u32 = 200;

/// The other vCPUs of a domain, for the one that accesses the interrupt controller.
struct Neighbours(&'static Domain);

impl vgic::Others for Neighbours {
    fn notify(&self, vcpus: Notify) {
        schedule::notify_all(self.0, vcpus);
    }

    fn ask(&self, vcpus: Notify) {
        for vcpu in vcpus.filter_map(|id| self.0.vcpu(id)) {
            schedule::disturb(vcpu);
        }
    }

    fn wait(&self, turn: u32) -> bool {
        core::hint::spin_loop();
        turn < PATIENCE
    }
}

/// Carries out the access of a word to a device, if it is one of those that guests make most, and that take no more
/// than a look. `false`, and nothing done, if not.
#[inline(always)]
pub(crate) fn at_once(
    vcpu: &'static Vcpu,
    (device, offset): (Device, u32),
    abort: Abort,
    guest: &mut impl General,
) -> bool {
    let domain = vcpu.domain;
    let region = match device {
        Device::Distributor => Region::Distributor,
        Device::Redistributor => Region::Redistributor,
        Device::Vpl011 => {
            let flags = domain
                .uart
                .as_ref()
                .filter(|_| !abort.is_write())
                .and_then(|uart| uart.device.read_at_once(u64::from(offset)));
            return give(guest, abort, flags);
        }
    };
    if abort.is_write() {
        let value = guest.get(abort.register()) as u32;
        domain.vgic.write_at_once(vcpu.id, region, offset, value)
    } else {
        give(
            guest,
            abort,
            domain.vgic.read_at_once(vcpu.id, region, offset),
        )
    }
}

#[inline(always)]
fn give(guest: &mut impl General, abort: Abort, value: Option<u32>) -> bool {
    if let Some(value) = value {
        guest.set(abort.register(), u64::from(value));
    }
    value.is_some()
}

/// Carries out an access that hit a device; the guest's register is read or written.
#[inline]
pub(crate) fn access(
    vcpu: &'static Vcpu,
    device: Device,
    offset: u64,
    access: &Access,
    registers: &mut Registers,
) -> Result<(), NotDone> {
    match device {
        Device::Distributor => gic(vcpu, Region::Distributor, offset, access, registers),
        Device::Redistributor => gic(vcpu, Region::Redistributor, offset, access, registers),
        Device::Vpl011 => uart(vcpu, offset, access, registers),
    }
}

#[inline]
fn gic(
    vcpu: &'static Vcpu,
    region: Region,
    offset: u64,
    access: &Access,
    registers: &mut Registers,
) -> Result<(), NotDone> {
    let width = Width::from_bytes(access.width.bytes()).ok_or(NotDone::Refused)?;
    let vgic = &vcpu.domain.vgic;
    let here = schedule::here(vcpu);
    let others = Neighbours(vcpu.domain);
    let refused = |error| match error {
        AccessError::Unanswered => NotDone::Again,
        AccessError::Width | AccessError::Misaligned | AccessError::Outside => NotDone::Refused,
    };
    if access.write {
        let value = access.stored(registers.get(access.register));
        let written = vgic
            .write(here, region, offset, width, value, &others)
            .map_err(refused);
        // Few guests have devices; for the others this is the end of the way.
        if vcpu.domain.lines.is_empty() || region != Region::Distributor || written.is_err() {
            return written;
        }
        assigned::forward(vcpu.domain, offset);
        written
    } else {
        let raw = vgic
            .read(here, region, offset, width, &others)
            .map_err(refused)?;
        registers.set(access.register, access.loaded(raw));
        Ok(())
    }
}

fn uart(
    vcpu: &'static Vcpu,
    offset: u64,
    access: &Access,
    registers: &mut Registers,
) -> Result<(), NotDone> {
    let uart = vcpu.domain.uart.as_ref().ok_or(NotDone::Refused)?;
    let size = access.width.bytes() as u32;
    let mut wires = UartWires(vcpu.domain);
    let result = if access.write {
        let value = access.stored(registers.get(access.register));
        uart.device.write(offset, size, value, &mut wires)
    } else {
        uart.device.read(offset, size, &mut wires).map(|raw| {
            registers.set(access.register, access.loaded(raw));
        })
    };
    // Input may wait for the room that a read made.
    if !access.write {
        console::room(vcpu.domain);
    }
    result.map_err(|_| NotDone::Refused)
}
