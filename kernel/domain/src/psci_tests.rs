use super::*;
use crate::lifecycle::RunState;
use proptest::prelude::*;
use std::cell::RefCell;

/// A domain that writes down what is asked of it.
struct Domain {
    states: Vec<RunState>,
    started: RefCell<Vec<(u32, u64, u64)>>,
    suspend: bool,
    mitigation: Mitigation,
    worked_around: RefCell<Vec<Flaw>>,
    entropy: Option<[u64; 3]>,
    source: Option<[u32; 4]>,
    memory: bool,
}

impl Domain {
    /// vCPU 0 on, the others off.
    fn new(vcpus: usize) -> Self {
        let states: Vec<RunState> = (0..vcpus).map(|_| RunState::new()).collect();
        states[0].claim().unwrap();
        assert!(states[0].complete() && states[0].start());
        Self {
            states,
            started: RefCell::new(Vec::new()),
            suspend: false,
            mitigation: Mitigation::None,
            worked_around: RefCell::new(Vec::new()),
            entropy: None,
            source: None,
            memory: true,
        }
    }

    fn call(&self, arguments: [u64; 4]) -> Outcome {
        call(self, arguments)
    }

    fn code(&self, arguments: [u64; 4]) -> i64 {
        match self.call(arguments) {
            Outcome::Value(value) => value as i64,
            other => panic!("{other:?}"),
        }
    }
}

impl Machine for Domain {
    fn vcpus(&self) -> u32 {
        self.states.len() as u32
    }

    fn caller(&self) -> VcpuId {
        VcpuId(0)
    }

    fn power(&self, vcpu: VcpuId) -> Power {
        self.states[vcpu.0 as usize].power()
    }

    fn cpu_on(&self, vcpu: VcpuId, entry: u64, context: u64) -> Result<(), CpuOnError> {
        let state = &self.states[vcpu.0 as usize];
        state.claim()?;
        if !self.memory {
            state.fail();
            return Err(CpuOnError::Denied);
        }
        self.started.borrow_mut().push((vcpu.0, entry, context));
        assert!(state.complete());
        Ok(())
    }

    fn can_suspend(&self) -> bool {
        self.suspend
    }

    fn mitigation(&self, _flaw: Flaw) -> Mitigation {
        self.mitigation
    }

    fn work_around(&self, flaw: Flaw) {
        self.worked_around.borrow_mut().push(flaw);
    }

    fn entropy_source(&self) -> Option<[u32; 4]> {
        self.source
    }

    fn entropy(&self, bits: u32) -> Option<[u64; 3]> {
        assert!((1..=192).contains(&bits));
        self.entropy
    }
}

const ON_32: u64 = psci::CPU_ON_32 as u64;
const ON_64: u64 = psci::CPU_ON_64 as u64;
const INFO: u64 = psci::AFFINITY_INFO_64 as u64;
const ENTRY: u64 = 0x4008_0000;

#[test]
fn functions_without_arguments_answer() {
    let domain = Domain::new(2);
    for (function, outcome) in [
        (0x8400_0000, Outcome::Value(0x1_0001)),
        (0x8000_0000, Outcome::Value(0x1_0002)),
        (0x8400_0001, Outcome::Suspend),
        (0xc400_0001, Outcome::Suspend),
        (0x8400_0002, Outcome::CpuOff),
        (1, Outcome::CpuOff),
        (0x8400_0006, Outcome::Value(2)),
        (0x8400_0008, Outcome::Shutdown(ShutdownReason::PowerOff)),
        (0x8400_0009, Outcome::Shutdown(ShutdownReason::Reboot)),
        (0x8000_8000, Outcome::Unchanged),
        (0x8000_3fff, Outcome::Unchanged),
        (0x8000_7fff, Outcome::Unchanged),
        (0x8600_ff00, Outcome::Value(3)),
        (
            0x8600_ff01,
            Outcome::Values([0xdc12_18a7, 0x6943_98c6, 0xd179_cf9a, 0x67e6_de8d]),
        ),
        (0x8600_ff03, Outcome::Pair([0, 1])),
        (0x8400_ff00, Outcome::Value(15)),
        (
            0x8400_ff01,
            Outcome::Values([0x6f38_63f8, 0xbd4c_394b, 0x16ce_2092, 0x6f9f_e541]),
        ),
        (0x8400_ff03, Outcome::Pair([0, 1])),
    ] {
        assert_eq!(domain.call([function, 0, 0, 0]), outcome, "{function:#x}");
        // Only w0 is the function.
        let dirty = function | 0xffff_ffff_0000_0000;
        assert_eq!(domain.call([dirty, 0, 0, 0]), outcome, "{dirty:#x}");
    }
}

#[test]
fn what_is_not_there_is_minus_one_in_64_bits() {
    let domain = Domain::new(2);
    for function in [
        0_u64,
        3,
        0xc400_0000,
        0xc400_0002,
        0x8400_0005,
        0xc400_0005,
        0x8400_0007,
        0x8400_000b,
        0x8400_000c,
        0x8400_000d,
        0x8400_000e,
        0xc400_000e,
        0x8400_000f,
        0x8400_0010,
        0x8400_0012,
        0xc400_0012,
        0x8400_0013,
        0x8400_0050,
        0xc400_0053,
        0x8400_0060,
        0x8400_008e,
        0x8000_0002,
        0xc400_0020,
        0xc500_0020,
        0x8600_0000,
        0xc600_ff01,
        0x8200_0000,
        0xffff_ffff,
    ] {
        assert_eq!(
            domain.call([function, 1, ENTRY, 3]),
            Outcome::Value(u64::MAX),
            "{function:#x}"
        );
    }
    assert!(domain.started.borrow().is_empty());
}

#[test]
fn cpu_on_starts_its_target() {
    for (function, target, entry, context, started) in [
        (ON_64, 1, ENTRY, 7, (1, ENTRY, 7)),
        (
            ON_64,
            0x101,
            0xff_ffff_fffc,
            u64::MAX,
            (17, 0xff_ffff_fffc, u64::MAX),
        ),
        // The whole of MPIDR, as some callers pass it.
        (ON_64, 0x8000_0102, ENTRY, 0, (18, ENTRY, 0)),
        // 32-bit arguments: what lies above does not count.
        (
            ON_32,
            0xdead_0000_0001,
            0xbeef_4008_0000,
            0xcafe_0000_0009,
            (1, ENTRY, 9),
        ),
        (2, 1, ENTRY, 7, (1, ENTRY, 0)),
    ] {
        let domain = Domain::new(20);
        assert_eq!(domain.code([function, target, entry, context]), 0);
        assert_eq!(*domain.started.borrow(), [started]);
    }
}

#[test]
fn cpu_on_refuses() {
    for (function, target, entry, code) in [
        (ON_64, 0, ENTRY, -4),
        (ON_64, 2, ENTRY, -2),
        (ON_64, 0x100, ENTRY, -2),
        (ON_64, 0x10, ENTRY, -2),
        (ON_64, 1 << 16, ENTRY, -2),
        (ON_64, 1 << 32 | 1, ENTRY, -2),
        (ON_64, u64::MAX, ENTRY, -2),
        (ON_64, 1, ENTRY | 1, -9),
        (ON_64, 1, ENTRY | 2, -9),
        // The target is looked at first.
        (ON_64, 2, ENTRY | 1, -2),
        (2, 0, ENTRY, -2),
        (2, 9, ENTRY, -2),
        (2, 1, ENTRY | 1, -2),
    ] {
        let domain = Domain::new(2);
        assert_eq!(
            domain.code([function, target, entry, 0]),
            code,
            "{target:#x}"
        );
        assert!(domain.started.borrow().is_empty());
    }
    let domain = Domain {
        memory: false,
        ..Domain::new(2)
    };
    assert_eq!(domain.code([ON_64, 1, ENTRY, 0]), -3);
    assert_eq!(domain.code([INFO, 1, 0, 0]), 1);
}

#[test]
fn cpu_on_and_cpu_off_meet() {
    let domain = Domain::new(2);
    let target = &domain.states[1];
    // Another CPU is starting it.
    target.claim().unwrap();
    assert_eq!(domain.code([ON_64, 1, ENTRY, 0]), -5);
    assert_eq!(domain.code([INFO, 1, 0, 0]), 2);
    assert!(target.complete());
    for _ in 0..2 {
        assert_eq!(domain.code([ON_64, 1, ENTRY, 0]), -4);
        assert_eq!(domain.code([INFO, 1, 0, 0]), 0);
        let _ = target.start();
    }
    // It has called CPU_OFF, and is off only when it is unloaded.
    target.stop();
    assert_eq!(domain.code([ON_64, 1, ENTRY, 0]), -4);
    assert_eq!(domain.code([INFO, 1, 0, 0]), 0);
    target.stopped();
    assert_eq!(domain.code([INFO, 1, 0, 0]), 1);
    assert_eq!(domain.code([ON_64, 1, ENTRY, 5]), 0);
    assert_eq!(*domain.started.borrow(), [(1, ENTRY, 5)]);
}

#[test]
fn affinity_info_looks_at_nodes() {
    let domain = Domain::new(33);
    for (target, level, code) in [
        (0, 0, 0),
        (1, 0, 1),
        (0, 1, 0),
        (0x100, 1, 1),
        (0x200, 1, 1),
        (0x300, 1, -2),
        (0, 2, 0),
        (0x700, 3, 0),
        (1 << 32, 3, -2),
        (0x8000_0001, 0, 1),
        (33, 0, -2),
        (0, 4, -2),
        (0, u64::MAX, -2),
    ] {
        assert_eq!(
            domain.code([INFO, target, level, 0]),
            code,
            "{target:#x} {level}"
        );
    }
    domain.states[20].claim().unwrap();
    assert_eq!(domain.code([INFO, 0x100, 1, 0]), 2);
    assert_eq!(domain.code([INFO, 0x200, 1, 0]), 1);
}

#[test]
fn system_suspend_wants_the_others_off() {
    let suspend = [u64::from(psci::SYSTEM_SUSPEND_64), ENTRY, 7, 0];
    let domain = Domain::new(2);
    assert_eq!(domain.code(suspend), -1);
    let domain = Domain {
        suspend: true,
        ..Domain::new(2)
    };
    assert_eq!(
        domain.call(suspend),
        Outcome::SystemSuspend {
            entry: ENTRY,
            context: 7
        }
    );
    assert_eq!(domain.code([suspend[0], ENTRY | 1, 7, 0]), -9);
    domain.states[1].claim().unwrap();
    assert_eq!(domain.code(suspend), -3);
}

#[test]
fn features_are_those_that_work() {
    let features = |suspend| {
        let domain = Domain {
            suspend,
            ..Domain::new(1)
        };
        let known = move |function: u64| match domain.code([
            u64::from(psci::PSCI_FEATURES),
            function,
            0,
            0,
        ]) {
            0 => true,
            -1 => false,
            other => panic!("{other}"),
        };
        (0..0x20)
            .flat_map(|number| [0x8400_0000 | number, 0xc400_0000 | number])
            .chain([0x8000_0000, 0x8000_0001, 0x8600_ff01, 1, 2])
            .filter(|function| known(*function))
            .collect::<Vec<u64>>()
    };
    let always = [
        0x8400_0000,
        0x8400_0001,
        0xc400_0001,
        0x8400_0002,
        0x8400_0003,
        0xc400_0003,
        0x8400_0004,
        0xc400_0004,
        0x8400_0006,
        0x8400_0008,
        0x8400_0009,
        0x8400_000a,
    ];
    assert_eq!(features(false), [&always[..], &[0x8000_0000]].concat());
    assert_eq!(
        features(true),
        [&always[..], &[0x8400_000e, 0xc400_000e, 0x8000_0000]].concat()
    );
}

#[test]
fn workarounds_are_as_the_machine_says() {
    const FLAWS: [u64; 3] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];
    for (mitigation, codes) in [
        (Mitigation::None, [-1, -1, -1]),
        (Mitigation::NotRequired, [1, -2, 1]),
        (Mitigation::Available, [0, 0, 0]),
    ] {
        let domain = Domain {
            mitigation,
            ..Domain::new(1)
        };
        let ask = |function| domain.code([u64::from(smccc::ARCH_FEATURES), function, 0, 0]);
        assert_eq!(FLAWS.map(ask), codes);
        for other in [
            0x8000_0000,
            0x8000_0001,
            0x8000_0002,
            0xc500_0020,
            0x8400_0050,
        ] {
            assert_eq!(ask(other), -1);
        }
        for flaw in FLAWS {
            assert_eq!(domain.call([flaw, 1, 0, 0]), Outcome::Unchanged);
        }
        let made: &[Flaw] = if mitigation == Mitigation::Available {
            &[Flaw::BranchPredictor, Flaw::BranchHistory]
        } else {
            &[]
        };
        assert_eq!(*domain.worked_around.borrow(), made);
    }
}

#[test]
fn random_numbers_are_as_many_as_were_asked_for() {
    const UUID: [u32; 4] = [1, 2, 3, 4];
    const ALL: u64 = u64::MAX;
    const RND_32: u64 = 0x8400_0053;
    const RND_64: u64 = 0xc400_0053;
    let domain = Domain {
        source: Some(UUID),
        entropy: Some([ALL; 3]),
        ..Domain::new(1)
    };
    assert_eq!(domain.code([0x8400_0050, 0, 0, 0]), 0x1_0000);
    assert_eq!(
        domain.call([0x8400_0052, 0, 0, 0]),
        Outcome::Values([1, 2, 3, 4])
    );
    assert_eq!(domain.code([0x8400_ff00, 0, 0, 0]), 20);
    for (function, code) in [
        (0x8400_0050, 0),
        (0x8400_0051, 0),
        (0x8400_0052, 0),
        (RND_32, 0),
        (RND_64, 0),
        (0x8400_0054, -1),
        (0xc400_0050, -1),
    ] {
        assert_eq!(domain.code([0x8400_0051, function, 0, 0]), code);
    }
    for (function, bits, [high, middle, low]) in [
        (RND_64, 1, [0, 0, 1]),
        (RND_64, 64, [0, 0, ALL]),
        (RND_64, 65, [0, 1, ALL]),
        (RND_64, 191, [ALL >> 1, ALL, ALL]),
        (RND_64, 192, [ALL; 3]),
        (RND_32, 31, [0, 0, 0x7fff_ffff]),
        (RND_32, 33, [0, 1, 0xffff_ffff]),
        (RND_32, 96, [0xffff_ffff; 3]),
        // 32-bit argument.
        (RND_32, 1 << 32 | 4, [0, 0, 15]),
    ] {
        assert_eq!(
            domain.call([function, bits, 0, 0]),
            Outcome::Values([0, high, middle, low]),
            "{bits} of {function:#x}"
        );
    }
    for (function, bits) in [
        (RND_64, 0),
        (RND_64, 193),
        (RND_64, 0xffff_ffff),
        (RND_32, 97),
    ] {
        assert_eq!(domain.code([function, bits, 0, 0]), -2, "{bits}");
    }
    let exhausted = Domain {
        entropy: None,
        ..domain
    };
    assert_eq!(exhausted.code([RND_64, 64, 0, 0]), -3);
}

proptest! {
    #[test]
    fn any_call_is_answered(
        function in prop_oneof![
            any::<u64>(),
            0x8400_0000_u64..0x8400_0020,
            0xc400_0000_u64..0xc400_0020,
            0x8000_0000_u64..0x8000_0004,
        ],
        arguments in any::<[u64; 3]>(),
        vcpus in 1_usize..=128,
    ) {
        let domain = Domain::new(vcpus);
        let [first, second, third] = arguments;
        let _ = domain.call([function, first, second, third]);
        for (vcpu, entry, _) in domain.started.borrow().iter() {
            prop_assert!((*vcpu as usize) < vcpus && *vcpu != 0 && entry % 4 == 0);
        }
    }
}
