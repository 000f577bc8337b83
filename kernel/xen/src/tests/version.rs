use super::support::{BASE, Machine, SCRATCH, SIZE};
use crate::Outcome;
use abi::hypercall::{self as number, XEN_VERSION};
use abi::version as command;

#[test]
fn version_is_4_20() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    assert_eq!(guest.returns(XEN_VERSION, &[0]), 0x0004_0014);
    // Garbage above the 32 bits of the command does not matter, nor does the buffer.
    assert_eq!(
        guest.returns(XEN_VERSION, &[0xdead_beef << 32, 8]),
        0x0004_0014
    );
}

#[test]
fn unknown_numbers_are_enosys() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let known = [12, 13, 17, 18, 20, 21, 24, 29, 32, 34];
    let denied = [7, 35, 36];
    for nr in (0..100).chain([u64::MAX, 1 << 32, 1 << 63 | 17]) {
        if known.contains(&nr) {
            continue;
        }
        let expected = match nr {
            _ if denied.contains(&nr) => continue,
            42 => -1,
            _ => -38,
        };
        assert_eq!(guest.returns(nr, &[1, SCRATCH, 1]), expected, "{nr}");
    }
    for nr in [6, 16, 19, 27, 33, 39, 41] {
        assert_eq!(guest.returns(nr, &[0; 5]), -38);
    }
}

#[test]
fn strings_are_written_in_full() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for (cmd, length, start) in [
        (command::EXTRAVERSION, 16, "-viaduct\0"),
        (command::COMPILE_INFO, 144, "rustc\0"),
        (command::CAPABILITIES, 1024, "xen-3.0-aarch64 \0"),
        (command::CHANGESET, 64, "viaduct "),
        (command::COMMANDLINE, 1024, "<denied>\0"),
        (command::PLATFORM_PARAMETERS, 8, "\0\0\0\0\0\0\0\0"),
        (
            command::GUEST_HANDLE,
            16,
            "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}",
        ),
    ] {
        guest.put(SCRATCH, &[0xaa_u8; 1100]);
        assert_eq!(guest.returns(XEN_VERSION, &[cmd, SCRATCH]), 0);
        let bytes: [u8; 1100] = guest.get(SCRATCH);
        assert!(bytes.starts_with(start.as_bytes()), "{cmd}");
        assert!(bytes[..length].iter().all(|byte| *byte != 0xaa), "{cmd}");
        assert!(bytes[length..].iter().all(|byte| *byte == 0xaa), "{cmd}");
        // A buffer that ends too early is a fault.
        let late = BASE + SIZE - length as u64 + 1;
        assert_eq!(guest.returns(XEN_VERSION, &[cmd, late]), -14);
    }
}

#[test]
fn features_are_those_of_a_domu() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let mut info = command::FeatureInfo::default();
    assert_eq!(guest.with(XEN_VERSION, command::GET_FEATURES, &mut info), 0);
    assert_eq!(info.bits, 0x0001_6005);
    info.index = 1;
    assert_eq!(
        guest.with(XEN_VERSION, command::GET_FEATURES, &mut info),
        -22
    );
    assert_eq!(guest.bad_pointer(XEN_VERSION, command::GET_FEATURES), -14);
}

#[test]
fn page_size_wants_no_buffer() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    assert_eq!(guest.returns(XEN_VERSION, &[command::PAGESIZE, 0]), 4096);
    assert_eq!(
        guest.returns(XEN_VERSION, &[command::PAGESIZE, SCRATCH]),
        -22
    );
}

#[test]
fn variable_strings_say_their_length() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    assert_eq!(guest.returns(XEN_VERSION, &[command::EXTRAVERSION2, 0]), 8);
    assert_eq!(guest.returns(XEN_VERSION, &[command::CAPABILITIES2, 0]), 16);
    assert!(guest.returns(XEN_VERSION, &[command::CHANGESET2, 0]) > 8);
    guest.put(SCRATCH, &7_u32);
    let call = [command::EXTRAVERSION2, SCRATCH];
    assert_eq!(guest.returns(XEN_VERSION, &call), -105);
    guest.put(SCRATCH, &8_u32);
    assert_eq!(guest.returns(XEN_VERSION, &call), 8);
    assert_eq!(&guest.get::<[u8; 8]>(SCRATCH + 4), b"-viaduct");
    assert_eq!(guest.bad_pointer(XEN_VERSION, command::CHANGESET2), -14);
    for denied in [command::BUILD_ID, command::COMMANDLINE2] {
        assert_eq!(guest.returns(XEN_VERSION, &[denied, 0]), -1);
    }
    assert_eq!(guest.returns(XEN_VERSION, &[15, SCRATCH]), -38);
}

#[test]
fn outcome_fits_in_two_registers() {
    assert_eq!(size_of::<Outcome>(), 16);
    assert_eq!(number::HVC_IMMEDIATE, 0xEA1);
}
