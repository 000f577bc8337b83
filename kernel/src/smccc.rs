//! PSCI and SMCCC for guests: what `domain::psci` decides is carried out here, with the board's firmware where
//! that has something to offer.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::say::info;
use abi::VcpuId;
use abi::smccc::{TRNG_GET_UUID, TRNG_RND_64, TRNG_VERSION};
use arch::context::Arguments;
use arch::vectors::Resume;
use devtree::Board;
use domain::lifecycle::Power;
use domain::psci::{self, CpuOnError};
use domain::recent::Note;
use domain::speculation::{Cpu as Speculation, Flaw, Mitigation};
use platform::firmware::Firmware;
use sync::Once;

use crate::cpus::Cpu;
use crate::machine::{Start, Vcpu};
use crate::{lifecycle, power, schedule};

/// The board's firmware, if it has SMCCC 1.1.
static FIRMWARE: Once<Firmware> = Once::new();

/// Who makes random numbers, and its UUID; none if nobody does.
static ENTROPY: Once<(Entropy, [u32; 4])> = Once::new();

#[derive(Clone, Copy)]
enum Entropy {
    /// TRNG_RND64 of the firmware.
    Firmware(Firmware),
    /// `RNDRRS` of every CPU (FEAT_RNG).
    Cpu,
}

/// UUID of the CPU's own source: b6bd7c39-62a8-4d1e-9d7c-0c4fd3a95e21.
const CPU_UUID: [u32; 4] = [0x397c_bdb6, 0x1e4d_a862, 0x4f0c_7c9d, 0x215e_a9d3];

/// How each flaw is dealt with, on the worst of the CPUs.
static MITIGATIONS: [AtomicU8; 3] = [const { AtomicU8::new(0) }; 3];

/// Finds out what the firmware has. Where the tree has no PSCI nothing is asked: there SMC is UNDEFINED.
#[expect(unsafe_code, reason = "the conduit comes from the board's tree")]
pub(crate) fn start(board: &Board) {
    // SAFETY: the tree says that there is PSCI with this conduit.
    let found = power::conduit(board).and_then(|conduit| unsafe { Firmware::find(conduit) });
    if let Some(firmware) = found {
        FIRMWARE.call_once(|| firmware);
        let version = firmware.call(TRNG_VERSION, [0; 3])[0] as i32;
        if version >= 0x1_0000 {
            let uuid = firmware.call(TRNG_GET_UUID, [0; 3]).map(|word| word as u32);
            ENTROPY.call_once(|| (Entropy::Firmware(firmware), uuid));
        }
    }
    if ENTROPY.get().is_none() && arch::cpu::has_random() {
        ENTROPY.call_once(|| (Entropy::Cpu, CPU_UUID));
    }
    judge_cpu();
}

/// Books how the flaws of speculation are dealt with on the CPU that runs this.
pub(crate) fn judge_cpu() {
    let identity = arch::registers::identity;
    let cpu = Speculation {
        midr: arch::registers::main_identity(),
        pfr0: identity(4, 0),
        pfr1: identity(4, 1),
        mmfr1: identity(7, 1),
    };
    let ask = |function| {
        FIRMWARE
            .get()
            .map_or(-1, |firmware| firmware.features(function))
    };
    for (flaw, worst) in Flaw::ALL.into_iter().zip(&MITIGATIONS) {
        let mitigation = cpu.mitigation(flaw, ask);
        worst.fetch_max(mitigation as u8, Ordering::Relaxed);
    }
    // If it can be switched at all, it is on from here on.
    if let Some(firmware) = FIRMWARE.get()
        && ask(Flaw::StoreBypass.workaround()) == 0
    {
        firmware.call(Flaw::StoreBypass.workaround(), [1, 0, 0]);
    }
}

/// Says what guests are told, once all CPUs were judged.
pub(crate) fn report() {
    info!(
        "speculation: branch predictor {:?}, store bypass {:?}, branch history {:?}; random numbers: {}",
        mitigation(Flaw::BranchPredictor),
        mitigation(Flaw::StoreBypass),
        mitigation(Flaw::BranchHistory),
        match ENTROPY.get() {
            Some((Entropy::Firmware(_), _)) => "the firmware's",
            Some((Entropy::Cpu, _)) => "the CPU's",
            None => "none",
        }
    );
}

fn mitigation(flaw: Flaw) -> Mitigation {
    let [predictor, bypass, history] = &MITIGATIONS;
    let worst = match flaw {
        Flaw::BranchPredictor => predictor,
        Flaw::StoreBypass => bypass,
        Flaw::BranchHistory => history,
    };
    match worst.load(Ordering::Relaxed) {
        0 => Mitigation::NotRequired,
        1 => Mitigation::Available,
        _ => Mitigation::None,
    }
}

/// Another guest's vCPU comes on this CPU: it is not to find what the last one taught the branch predictor.
/// WORKAROUND_3 does what WORKAROUND_1 does, too (DEN 0028, 7.7).
pub(crate) fn between_guests() {
    if let Some(firmware) = FIRMWARE.get() {
        let of = |flaw: &Flaw| mitigation(*flaw) == Mitigation::Available;
        let flaws = [Flaw::BranchHistory, Flaw::BranchPredictor];
        if let Some(flaw) = flaws.into_iter().find(of) {
            firmware.call(flaw.workaround(), [0; 3]);
        }
    }
}

/// The domain, as PSCI sees it.
struct PsciMachine(&'static Vcpu);

impl psci::Machine for PsciMachine {
    fn vcpus(&self) -> u32 {
        self.0.domain.vcpus().len() as u32
    }

    fn caller(&self) -> VcpuId {
        VcpuId(self.0.id.get())
    }

    fn power(&self, vcpu: VcpuId) -> Power {
        vgic::VcpuId::new(vcpu.0)
            .and_then(|id| self.0.domain.vcpu(id))
            .map_or(Power::Off, |vcpu| vcpu.run.power())
    }

    fn cpu_on(&self, vcpu: VcpuId, entry: u64, context: u64) -> Result<(), CpuOnError> {
        let target = vgic::VcpuId::new(vcpu.0)
            .and_then(|id| self.0.domain.vcpu(id))
            .ok_or(CpuOnError::Internal)?;
        target.run.claim()?;
        // It is off, so it is loaded nowhere. Reset now, so that what is sent to it from here on stays.
        self.0.domain.vgic.reset_vcpu(target.id);
        target.start.set(Start {
            entry,
            argument: context,
        });
        if target.run.complete() {
            schedule::enqueue(target);
        }
        Ok(())
    }

    fn mitigation(&self, flaw: Flaw) -> Mitigation {
        mitigation(flaw)
    }

    fn work_around(&self, flaw: Flaw) {
        if let Some(firmware) = FIRMWARE.get() {
            firmware.call(flaw.workaround(), [0; 3]);
        }
    }

    fn entropy_source(&self) -> Option<[u32; 4]> {
        ENTROPY.get().map(|(_, uuid)| *uuid)
    }

    fn entropy(&self, bits: u32) -> Option<[u64; 3]> {
        match ENTROPY.get()?.0 {
            Entropy::Firmware(firmware) => {
                let [status, high, middle, low] =
                    firmware.call(TRNG_RND_64, [u64::from(bits), 0, 0]);
                (status == 0).then_some([low, middle, high])
            }
            Entropy::Cpu => {
                let mut words = [0; 3];
                for word in words.iter_mut().take(bits.div_ceil(64) as usize) {
                    *word = arch::cpu::random()?;
                }
                Some(words)
            }
        }
    }
}

/// The guest made a call, by HVC or SMC. Never inlined: its frame would be that of every call.
#[inline(never)]
pub(crate) fn call(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    // Not handed down: a call that is answered at once would carry it.
    let esr = arch::vectors::syndrome();
    let (pc, _) = arch::vectors::return_state();
    let (function, argument) = (guest.get::<0>(), guest.get::<1>());
    vcpu.recent.note(Note::call(esr, pc, function, argument));
    let arguments = [
        guest.get::<0>(),
        guest.get::<1>(),
        guest.get::<2>(),
        guest.get::<3>(),
    ];
    match psci::call(&PsciMachine(vcpu), arguments) {
        psci::Outcome::Value(value) => guest.set::<0>(value),
        psci::Outcome::Pair([x0, x1]) => {
            guest.set::<0>(x0);
            guest.set::<1>(x1);
        }
        psci::Outcome::Values([x0, x1, x2, x3]) => {
            guest.set::<0>(x0);
            guest.set::<1>(x1);
            guest.set::<2>(x2);
            guest.set::<3>(x3);
        }
        psci::Outcome::Unchanged => {}
        psci::Outcome::Suspend => {
            guest.set::<0>(0);
            return schedule::block(cpu, vcpu);
        }
        psci::Outcome::CpuOff => return schedule::power_off(cpu, vcpu),
        psci::Outcome::SystemSuspend { .. } => {
            guest.set::<0>(abi::psci::NOT_SUPPORTED as u64);
        }
        psci::Outcome::Shutdown(reason) => {
            lifecycle::end(vcpu.domain, reason);
            return schedule::next(cpu);
        }
    }
    schedule::leave(cpu, vcpu)
}
