//! What guests do most of what traps, and what takes no more than a look: an ID register is read, an SGI goes to the
//! sender itself, a word of the interrupt controller or the UART's flags are read, enable bits are written.
//!
//! Each way is a function of its own where it needs a place on the stack, and the last thing that is called; vCPU and CPU
//! stand in the order in which the vectors have them, so that they stay in their registers.

use arch::context::{Arguments, General, Registers};
use arch::vectors::{self, Served};
use domain::counters::ExitReason;
use domain::exit::{self, Abort, SystemRegister, fault_ipa};
use domain::mmio::Device;
use domain::sysreg::SystemRegisters;
use vgic::{Notify, Sent};

use crate::cpus::Cpu;
use crate::machine::Vcpu;
use crate::{devices, schedule};

/// A trapped register, with the general registers that are at hand. [`Served::NOT_DONE`] if it is none of those, or needs
/// another.
pub(crate) fn register(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Arguments,
    esr: u64,
) -> Served {
    any_register(vcpu, cpu, guest, esr)
}

/// The same of a data abort.
pub(crate) fn abort(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Arguments,
    esr: u64,
) -> Served {
    device(vcpu, cpu, guest, esr)
}

/// The same with all registers, for an exit that they left undone: if it needs one that was not at hand then.
#[inline]
pub(super) fn serve_rest(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Registers,
    esr: u64,
) -> Served {
    match exit::class(esr) {
        exit::CLASS_SYSTEM_REGISTER
            if !Arguments::at_hand(SystemRegister::from_syndrome(esr as u32).register()) =>
        {
            any_register(vcpu, cpu, guest, esr)
        }
        exit::CLASS_DATA_ABORT
            if !Arguments::at_hand(Abort::from_syndrome(esr as u32).register()) =>
        {
            device(vcpu, cpu, guest, esr)
        }
        _ => Served::NOT_DONE,
    }
}

#[inline(always)]
fn any_register<G: General>(
    vcpu: &'static Vcpu,
    cpu: &'static Cpu,
    guest: &mut G,
    esr: u64,
) -> Served {
    let access = SystemRegister::from_syndrome(esr as u32);
    let number = access.register();
    if !guest.holds(number) || !vectors::is_kernel() {
        return Served::NOT_DONE;
    }
    if let Some(value) = vcpu.domain.registers.at_once(access) {
        guest.set(number, value);
        return register_done(vcpu, cpu);
    }
    if SystemRegisters::is_sgi(access) {
        return send_sgi1r(vcpu, cpu, guest.get(number));
    }
    Served::NOT_DONE
}

#[inline(always)]
fn register_done(vcpu: &'static Vcpu, cpu: &'static Cpu) -> Served {
    vcpu.counters.exit(ExitReason::SystemRegister);
    vectors::skip_long_instruction();
    schedule::leave(cpu, vcpu).into()
}

/// A GICv3's SGI.
#[inline(never)]
fn send_sgi1r(vcpu: &'static Vcpu, cpu: &'static Cpu, value: u64) -> Served {
    let here = schedule::here(vcpu);
    if vcpu.domain.vgic.write_sgi1r_at_once(here, value) {
        return register_done(vcpu, cpu);
    }
    send_sgi1r_to_others(vcpu, cpu, value)
}

/// Tells whom an SGI to others concerns; by the general way if the short one did not send it.
#[inline(always)]
fn announce_sgi(vcpu: &'static Vcpu, sent: Sent, send: impl FnOnce() -> Notify) {
    match sent {
        Sent::NotDone => schedule::notify_all(vcpu.domain, send()),
        Sent::Done => {}
        Sent::Kick(other) => schedule::kick_other(vcpu.domain, other),
    }
}

#[inline(never)]
fn send_sgi1r_to_others(vcpu: &'static Vcpu, cpu: &'static Cpu, value: u64) -> Served {
    let vgic = &vcpu.domain.vgic;
    if vgic.version() != vgic::Version::V3 {
        return Served::NOT_DONE;
    }
    let sent = vgic.write_sgi1r_to_one(vcpu.id, value);
    announce_sgi(vcpu, sent, || vgic.write_sgi1r(schedule::here(vcpu), value));
    register_done(vcpu, cpu)
}

#[inline(always)]
fn device<G: General>(vcpu: &'static Vcpu, cpu: &'static Cpu, guest: &mut G, esr: u64) -> Served {
    let abort = Abort::from_syndrome(esr as u32);
    if !abort.is_plain_word() || !guest.holds(abort.register()) || !vectors::is_aarch64() {
        return Served::NOT_DONE;
    }
    let (far, hpfar) = vectors::fault_address();
    let Some(word) = vcpu.domain.bus.find_word(fault_ipa(hpfar, far)) else {
        return Served::NOT_DONE;
    };
    if word == (Device::Distributor, vgic::SGIR) && abort.is_write() {
        return send_sgi(vcpu, cpu, guest.get(abort.register()) as u32);
    }
    if devices::at_once(vcpu, word, abort, guest) {
        return device_done(vcpu, cpu);
    }
    Served::NOT_DONE
}

#[inline(always)]
fn device_done(vcpu: &'static Vcpu, cpu: &'static Cpu) -> Served {
    vcpu.counters.exit(ExitReason::Device);
    vectors::skip_long_instruction();
    schedule::leave(cpu, vcpu).into()
}

/// A GICv2's SGI.
#[inline(never)]
fn send_sgi(vcpu: &'static Vcpu, cpu: &'static Cpu, value: u32) -> Served {
    let here = schedule::here(vcpu);
    if vcpu.domain.vgic.send_at_once(here, value) {
        return device_done(vcpu, cpu);
    }
    send_sgi_to_others(vcpu, cpu, value)
}

#[inline(never)]
fn send_sgi_to_others(vcpu: &'static Vcpu, cpu: &'static Cpu, value: u32) -> Served {
    let vgic = &vcpu.domain.vgic;
    let sent = vgic.write_sgir_to_one(vcpu.id, value);
    announce_sgi(vcpu, sent, || vgic.write_sgir(schedule::here(vcpu), value));
    device_done(vcpu, cpu)
}
