//! `xen_version`.

use crate::raw::{call, pointer};
use crate::suite::Suite;
use alloc::format;
use runtime::abi::Errno::{Fault, Invalid, NoBuffer, NoSys, Perm};
use runtime::abi::{hypercall as number, version as op};

fn ask(command: u64, at: u64) -> i64 {
    call(number::XEN_VERSION, [command, at, 0, 0, 0])
}

/// A buffer that is written in full, up to its last byte and no further.
fn fixed<const LENGTH: usize>(suite: &mut Suite, command: u64) -> [u8; LENGTH] {
    let mut buffer = [[0xaa_u8; LENGTH]; 2];
    suite.is("answer", ask(command, pointer(&mut buffer)), 0);
    let [text, behind] = buffer;
    suite.that("written to its end", text[LENGTH - 1] != 0xaa);
    suite.that("not beyond", behind == [0xaa; LENGTH]);
    suite.faults(|bad| ask(command, bad));
    text
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

pub(crate) fn run(suite: &mut Suite) {
    suite.subject("xen_version.version");
    let version = ask(op::VERSION, 0);
    suite.that("4 or later", version >> 16 >= 4);
    suite.is(
        "the pointer is not looked at",
        ask(op::VERSION, u64::MAX),
        version,
    );
    suite.is(
        "upper half of the command",
        ask(1 << 32 | op::VERSION, 0),
        version,
    );

    suite.subject("xen_version.extraversion");
    let extra = fixed::<{ op::EXTRAVERSION_LENGTH }>(suite, op::EXTRAVERSION);
    suite.subject("xen_version.compile_info");
    fixed::<144>(suite, op::COMPILE_INFO);
    suite.subject("xen_version.capabilities");
    let capabilities = fixed::<{ op::CAPABILITIES_LENGTH }>(suite, op::CAPABILITIES);
    suite.that("AArch64", has(&capabilities, b"xen-3.0-aarch64 "));
    suite.subject("xen_version.changeset");
    let changeset = fixed::<{ op::CHANGESET_LENGTH }>(suite, op::CHANGESET);
    suite.subject("xen_version.platform_parameters");
    let value = fixed::<8>(suite, op::PLATFORM_PARAMETERS);
    suite.equal("value", value, [0; 8]);

    suite.subject("xen_version.get_features");
    let mut info = op::FeatureInfo::default();
    suite.is("word 0", ask(op::GET_FEATURES, pointer(&mut info)), 0);
    let wanted = op::FEATURE_WRITABLE_PAGE_TABLES
        | op::FEATURE_AUTO_TRANSLATED_PHYSMAP
        | op::FEATURE_MEMORY_OP_VNODE
        | op::FEATURE_ARM_SMCCC
        | op::FEATURE_NOT_DIRECT_MAPPED;
    suite.equal("bits", info.bits & !op::FEATURE_RUNSTATE_PHYS_AREA, wanted);
    for index in [1, 2, u32::MAX] {
        let mut info = op::FeatureInfo { index, bits: 7 };
        let answer = ask(op::GET_FEATURES, pointer(&mut info));
        suite.is(&format!("word {index}"), answer, Invalid);
        suite.equal("unchanged", info.bits, 7);
    }
    suite.faults(|bad| ask(op::GET_FEATURES, bad));

    suite.subject("xen_version.pagesize");
    suite.is("size", ask(op::PAGESIZE, 0), 4096);
    suite.is(
        "with a pointer",
        ask(op::PAGESIZE, pointer(&mut info)),
        Invalid,
    );
    suite.subject("xen_version.guest_handle");
    let handle = fixed::<{ op::GUEST_HANDLE_LENGTH }>(suite, op::GUEST_HANDLE);
    suite.that("not null", handle != [0; op::GUEST_HANDLE_LENGTH]);
    suite.subject("xen_version.commandline");
    let line = fixed::<{ op::COMMANDLINE_LENGTH }>(suite, op::COMMANDLINE);
    suite.that("nothing of it", !has(&line, b"="));

    for (name, command) in [
        ("xen_version.build_id", op::BUILD_ID),
        ("xen_version.commandline2", op::COMMANDLINE2),
    ] {
        suite.subject(name);
        suite.is("length", ask(command, 0), Perm);
        suite.is("text", ask(command, pointer(&mut info)), Perm);
    }
    variable(
        suite,
        "xen_version.extraversion2",
        op::EXTRAVERSION2,
        &extra,
    );
    variable(
        suite,
        "xen_version.capabilities2",
        op::CAPABILITIES2,
        &capabilities,
    );
    variable(suite, "xen_version.changeset2", op::CHANGESET2, &changeset);

    suite.subject("xen_version.others");
    for command in [15, 16, 99, 0xffff_ffff] {
        suite.is(&format!("command {command}"), ask(command, 0), NoSys);
    }
}

fn variable(suite: &mut Suite, name: &'static str, command: u64, text: &[u8]) {
    suite.subject(name);
    let length = text
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(text.len());
    suite.is("length", ask(command, 0), length as i64);
    let mut buffer = [0xaa_u8; 128];
    buffer[..4].copy_from_slice(&(length as u32).to_le_bytes());
    suite.is("text", ask(command, pointer(&mut buffer)), length as i64);
    suite.that("as the fixed one", buffer[4..4 + length] == text[..length]);
    suite.that("not beyond", buffer[4 + length] == 0xaa);
    buffer[..4].copy_from_slice(&(length as u32 - 1).to_le_bytes());
    suite.is(
        "a byte too short",
        ask(command, pointer(&mut buffer)),
        NoBuffer,
    );
    suite.is("nowhere", ask(command, 8), Fault);
}
