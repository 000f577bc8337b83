use super::*;
use proptest::prelude::*;

const CLASS_SYSTEM_REGISTER: u64 = 0x18 << 26;
const CLASS_DATA_ABORT: u64 = 0x24 << 26;

#[test]
fn classes_are_told_apart() {
    for (esr, exit) in [
        (0x0600_0000, Exit::Wait(Wait::Interrupt)),
        (0x0600_0001, Exit::Wait(Wait::Event)),
        (0x0600_0002, Exit::Wait(Wait::InterruptOrTime)),
        (0x0600_0003, Exit::Wait(Wait::EventOrTime)),
        (0x1e00_0000, Exit::FloatingPoint),
        (0x3a00_0000, Exit::IllegalState),
        (ESR_HYPERCALL, Exit::Hvc { immediate: 0xea1 }),
        (ESR_HVC_SMCCC, Exit::Hvc { immediate: 0 }),
        (ESR_SMC_SMCCC, Exit::Smc { immediate: 0 }),
        (0x5a00_ffff, Exit::Hvc { immediate: 0xffff }),
        (0x6600_0000, Exit::Sve),
        (0xbe00_0011, Exit::SError { syndrome: 0x11 }),
        (0, Exit::Other { class: 0 }),
        (u64::MAX, Exit::Other { class: 0x3f }),
    ] {
        assert_eq!(Exit::decode(esr), exit, "{esr:#x}");
    }
}

/// The short way for WFI takes what the decoder calls so, and nothing else.
#[test]
fn waits_for_an_interrupt() {
    for esr in 0x0600_0000..0x0600_0004 {
        let is_one = matches!(
            Exit::decode(esr),
            Exit::Wait(Wait::Interrupt | Wait::InterruptOrTime)
        );
        assert_eq!(class(esr), CLASS_WAIT);
        assert_eq!(is_interrupt_wait(esr), is_one);
    }
}

#[test]
fn a_system_register_access_is_taken_apart() {
    // mrs x5, ID_AA64PFR0_EL1
    let esr = CLASS_SYSTEM_REGISTER | 1 << 25 | 3 << 20 | 5 << 5 | 4 << 1 | 1;
    let Exit::SystemRegister(access) = Exit::decode(esr) else {
        panic!("{esr:#x}");
    };
    assert_eq!(access.encoding(), Encoding::new(3, 0, 0, 4, 0));
    assert_eq!((access.register(), access.is_write()), (5, false));
    assert_eq!(format!("{access:?}"), "read S3_0_C0_C4_0 x5");
    assert_eq!(instruction_length(esr), 4);
}

#[test]
fn a_data_abort_is_taken_apart() {
    // ldrsh w7, [..]: ISV, size 1, sign extension, translation fault at level 3.
    let esr = CLASS_DATA_ABORT | 1 << 25 | 1 << 24 | 1 << 22 | 1 << 21 | 7 << 16 | 7;
    let Exit::DataAbort(abort) = Exit::decode(esr) else {
        panic!("{esr:#x}");
    };
    assert_eq!(abort.fault(), Fault::Translation(3));
    assert!(abort.has_ipa() && abort.has_address() && !abort.is_write());
    let ipa = Ipa::new(0x2200_0018);
    assert_eq!(
        abort.access(ipa),
        Some(Access {
            ipa,
            width: Width::Half,
            write: false,
            register: 7,
            sign_extend: true,
            sixty_four: false,
        })
    );
}

#[test]
fn an_access_that_is_not_described_is_not_emulated() {
    let ipa = Ipa::new(0);
    let valid = CLASS_DATA_ABORT | 1 << 24 | 7;
    for (esr, described) in [
        (valid, true),
        (valid & !(1 << 24), false),
        // Stage-1 table walk; cache maintenance.
        (valid | 1 << 7, false),
        (valid | 1 << 8, false),
    ] {
        let Exit::DataAbort(abort) = Exit::decode(esr) else {
            panic!("{esr:#x}");
        };
        assert_eq!(abort.access(ipa).is_some(), described, "{esr:#x}");
    }
}

#[test]
fn status_codes_have_their_meaning() {
    for (status, fault, has_ipa) in [
        (0x00, Fault::AddressSize(0), true),
        (0x06, Fault::Translation(2), true),
        (0x09, Fault::AccessFlag(1), true),
        (0x0f, Fault::Permission(3), false),
        (0x8f, Fault::Permission(3), true),
        (0x10, Fault::External, false),
        (0x18, Fault::External, false),
        (0x17, Fault::ExternalOnWalk(3), false),
        (0x1c, Fault::ExternalOnWalk(0), false),
        (0x21, Fault::Alignment, false),
        (0x30, Fault::TlbConflict, false),
        (0x35, Fault::UnsupportedExclusive, false),
        (0x3f, Fault::Other(0x3f), false),
    ] {
        let Exit::InstructionAbort(abort) = Exit::decode(0x20 << 26 | status) else {
            panic!("{status:#x}");
        };
        assert_eq!((abort.fault(), abort.has_ipa()), (fault, has_ipa));
    }
}

#[test]
fn the_fault_address_is_put_together() {
    let ipa = fault_ipa(0x0022_0000, 0xffff_8000_1234_5018);
    assert_eq!(ipa, Ipa::new(0x2200_0018));
    assert_eq!(fault_ipa(u64::MAX, u64::MAX), Ipa::new(0xffff_ffff_ffff));
}

proptest! {
    #[test]
    fn every_syndrome_is_taken_apart(esr in any::<u64>(), class in 0_u64..64, address in any::<u64>()) {
        for esr in [esr, esr & !(0x3f << 26) | class << 26] {
            let exit = Exit::decode(esr);
            let _ = format!("{exit:?}");
            prop_assert!(matches!(instruction_length(esr), 2 | 4));
            match exit {
                Exit::Hvc { immediate } | Exit::Smc { immediate } => {
                    prop_assert_eq!(u64::from(immediate), esr & 0xffff);
                }
                Exit::SystemRegister(access) => {
                    prop_assert!(access.register() < 32);
                    let encoding = access.encoding();
                    let again = Encoding::new(
                        encoding.op0(), encoding.op1(), encoding.crn(), encoding.crm(), encoding.op2(),
                    );
                    prop_assert_eq!(encoding, again);
                }
                Exit::DataAbort(abort) | Exit::InstructionAbort(abort) => {
                    if let Some(access) = abort.access(fault_ipa(address, esr)) {
                        prop_assert!(access.register < 32);
                        prop_assert_eq!(access.stored(address) & !access.width.mask(), 0);
                        let loaded = access.loaded(address);
                        prop_assert_eq!(loaded & access.width.mask(), address & access.width.mask());
                        prop_assert!(access.sixty_four || access.width == Width::Double || loaded >> 32 == 0);
                    }
                }
                _ => {}
            }
            // All we look at lies in the lower half: what newer CPUs put above changes nothing.
            prop_assert_eq!(Exit::decode(esr & 0xffff_ffff), exit);
        }
    }
}

#[test]
fn a_plain_word_is_what_its_access_says() {
    let ipa = Ipa::new(0);
    let check = |iss: u32| {
        let abort = Abort::from_syndrome(iss);
        if abort.is_plain_word() {
            let access = abort.access(ipa).expect("described");
            assert!(abort.has_ipa() && access.width == Width::Word && !access.sign_extend);
            assert_eq!(
                (access.register, access.write),
                (abort.register(), abort.is_write())
            );
        }
        abort.is_plain_word()
    };
    // ldr w7; str w7; at level 1.
    assert!(check(1 << 24 | 2 << 22 | 7 << 16 | 7));
    assert!(check(1 << 24 | 2 << 22 | 7 << 16 | 1 << 6 | 5));
    // Not described; a byte; sign extended; a permission fault; a table walk; cache maintenance.
    let plain = 1 << 24 | 2 << 22 | 7;
    for other in [1 << 24, 2 << 22, 1 << 21, 0x08, 1 << 7, 1 << 8] {
        assert!(!check(plain ^ other), "{other:#x}");
    }
    for bits in 0..1 << 13 {
        // ISV to SSE, CM to WnR, and DFSC.
        check((bits & 0xf) << 21 | (bits >> 4 & 7) << 6 | bits >> 7 & 0x3f);
    }
}
