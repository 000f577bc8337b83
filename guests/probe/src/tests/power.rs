//! PSCI and SMCCC as a domU is given them (xen-arm-guest-environment sections 5 and 6).

use crate::check::{Outcome, check, equal};
use core::time::Duration;
use runtime::abi::{psci as id, smccc};
use runtime::psci::{self, Conduit, Error};
use runtime::{cpu, timer, xen};

pub(crate) fn version() -> Outcome {
    if xen::present() {
        equal!(psci::version(), 0x1_0001, "PSCI_VERSION");
    }
    check!(
        psci::version() >= 2,
        "PSCI_VERSION is {:#x}",
        psci::version()
    );
    Ok(())
}

pub(crate) fn features() -> Outcome {
    let there = [
        id::PSCI_VERSION,
        id::CPU_SUSPEND_32,
        id::CPU_SUSPEND_64,
        id::CPU_OFF,
        id::CPU_ON_32,
        id::CPU_ON_64,
        id::AFFINITY_INFO_32,
        id::AFFINITY_INFO_64,
        id::MIGRATE_INFO_TYPE,
        id::SYSTEM_OFF,
        id::SYSTEM_RESET,
        id::PSCI_FEATURES,
        smccc::SMCCC_VERSION,
    ];
    for function in there {
        equal!(
            psci::features(function),
            Ok(0),
            "PSCI_FEATURES of {function:#x}"
        );
    }
    let absent = [
        id::MIGRATE_32,
        id::MIGRATE_INFO_UP_CPU_32,
        id::CPU_FREEZE,
        id::NODE_HW_STATE_64,
        id::SYSTEM_RESET2_64,
        0x8400_00ff,
        0xdead_beef,
        0,
        u32::MAX,
    ];
    for function in absent {
        let answer = psci::features(function);
        equal!(
            answer,
            Err(Error::NotSupported),
            "PSCI_FEATURES of {function:#x}"
        );
    }
    Ok(())
}

pub(crate) fn affinity() -> Outcome {
    equal!(
        psci::affinity_info(cpu::own_affinity(), 0),
        Ok(0),
        "AFFINITY_INFO of this CPU"
    );
    for index in 1..cpu::count() {
        let target = cpu::affinity(index).unwrap_or(0);
        equal!(
            psci::affinity_info(target, 0),
            Ok(1),
            "AFFINITY_INFO of CPU {index}"
        );
    }
    if xen::present() {
        let unknown = psci::affinity_info(0x00ff_00ff, 0);
        // The specification has an error for it; Xen says "off".
        check!(
            [Ok(1), Err(Error::InvalidParameters)].contains(&unknown),
            "AFFINITY_INFO of nobody is {unknown:?}"
        );
        let level = psci::affinity_info(cpu::own_affinity(), 4);
        equal!(
            level,
            Err(Error::InvalidParameters),
            "AFFINITY_INFO with level 4"
        );
        equal!(
            psci::call(id::MIGRATE_INFO_TYPE, [0; 3]),
            2,
            "MIGRATE_INFO_TYPE"
        );
    }
    Ok(())
}

pub(crate) fn errors() -> Outcome {
    let entry = runtime::memory::image().start;
    let own = psci::cpu_on(cpu::own_affinity(), entry, 0);
    equal!(own, Err(Error::AlreadyOn), "CPU_ON of this CPU");
    let nobody = psci::cpu_on(0x00ff_00ff, entry, 0);
    equal!(nobody, Err(Error::InvalidParameters), "CPU_ON of nobody");
    if !xen::present() {
        return Ok(());
    }
    if cpu::count() > 1 {
        let odd = psci::cpu_on(cpu::affinity(1).unwrap_or(0), entry | 1, 0);
        equal!(odd, Err(Error::InvalidAddress), "CPU_ON with an odd entry");
    }
    for function in [
        id::MIGRATE_32,
        id::SYSTEM_RESET2_64,
        id::CPU_FREEZE,
        0x8400_00ff,
        0xc400_ffff,
    ] {
        equal!(
            psci::call(function, [0; 3]),
            -1,
            "unknown function {function:#x}"
        );
    }
    Ok(())
}

/// The other conduit is served alike.
pub(crate) fn smc() -> Outcome {
    let answer = psci::call_by(Conduit::Smc, u64::from(id::PSCI_VERSION), [0; 3]);
    equal!(answer[0], 0x1_0001, "PSCI_VERSION by SMC");
    let answer = psci::call_by(Conduit::Smc, u64::from(smccc::SMCCC_VERSION), [0; 3]);
    equal!(answer[0], smccc::VERSION_1_2, "SMCCC_VERSION by SMC");
    let answer = psci::call_by(Conduit::Smc, 0x8400_00ff, [1, 2, 3]);
    equal!(answer, [u64::MAX, 1, 2, 3], "unknown function by SMC");
    Ok(())
}

/// CPU_SUSPEND is a WFI: it comes back with the interrupt.
pub(crate) fn suspend() -> Outcome {
    let start = timer::now();
    let answer = cpu::masked(|| {
        timer::set_deadline(start + timer::ticks(Duration::from_millis(5)));
        psci::call(id::CPU_SUSPEND_64, [0, 0, 0])
    });
    timer::clear_deadline();
    equal!(answer, 0, "CPU_SUSPEND");
    Ok(())
}

pub(crate) fn smccc() -> Outcome {
    let call =
        |function: u32, arguments| psci::call_by(Conduit::Hvc, u64::from(function), arguments);
    equal!(
        call(smccc::SMCCC_VERSION, [0; 3])[0],
        smccc::VERSION_1_2,
        "SMCCC_VERSION"
    );
    let features =
        |function: u32| call(smccc::ARCH_FEATURES, [u64::from(function), 0, 0])[0] as i64;
    for function in [
        smccc::ARCH_FEATURES,
        smccc::ARCH_SOC_ID,
        smccc::TRNG_VERSION,
        0xc500_0020,
    ] {
        equal!(features(function), -1, "ARCH_FEATURES of {function:#x}");
    }
    for function in [
        smccc::ARCH_WORKAROUND_1,
        smccc::ARCH_WORKAROUND_2,
        smccc::ARCH_WORKAROUND_3,
    ] {
        let answer = features(function);
        check!(
            (-2..=1).contains(&answer),
            "ARCH_FEATURES of {function:#x} is {answer}"
        );
    }
    let uid = call(smccc::HYPERVISOR_UID, [0; 3]).map(|word| word as u32);
    equal!(uid, smccc::XEN_UID, "hypervisor UID");
    let count = call(smccc::HYPERVISOR_CALL_COUNT, [0; 3])[0];
    equal!(count, smccc::HYPERVISOR_CALLS, "hypervisor call count");
    let revision = call(smccc::HYPERVISOR_REVISION, [0; 3]);
    equal!(
        [revision[0], revision[1]],
        smccc::SERVICE_REVISION,
        "hypervisor revision"
    );
    for function in [
        0x8600_0000,
        0xc400_0020,
        0xc500_0021,
        0x8300_0000,
        0x0000_1234,
    ] {
        equal!(
            call(function, [1, 2, 3]),
            [u64::MAX, 1, 2, 3],
            "unknown function {function:#x}"
        );
    }
    Ok(())
}
