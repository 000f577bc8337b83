//! The hypercall convention and errors, xen_version, multicall, console_io (xen-arm-hypercalls
//! sections 1 to 6 and 15).

use crate::check::{Outcome, check, equal};
use crate::raw::{hypercall, pointer};
use runtime::abi::Errno::{self, Access, Fault, Invalid, NoSys, Perm, TooBig};
use runtime::abi::{console, hvm, hypercall as number, memory_op, version};

const NO_ARGUMENTS: [u64; 5] = [0; 5];

/// Addresses that no output may be written to: unmapped, outside the address space, wrapping.
pub(crate) const BAD_POINTERS: [u64; 5] = [
    0,
    0x10,
    0x7f_ffff_f000,
    0xffff_ffff_ffff_f000,
    0x8000_0000_0000_0000,
];

pub(crate) fn unknown() -> Outcome {
    let none = [
        0, 1, 5, 8, 10, 14, 15, 22, 23, 25, 26, 28, 30, 31, 37, 38, 40, 48, 55,
    ];
    let beyond = [
        6,
        16,
        19,
        27,
        33,
        56,
        63,
        64,
        1000,
        0x1_0000_0011,
        u64::MAX,
        1 << 63,
    ];
    for call in none.into_iter().chain(beyond) {
        let answer = hypercall(call, NO_ARGUMENTS);
        equal!(answer, NoSys.as_return(), "hypercall {call}");
    }
    Ok(())
}

pub(crate) fn pointers() -> Outcome {
    for bad in BAD_POINTERS {
        let calls = [
            (number::XEN_VERSION, version::EXTRAVERSION, 0),
            (number::XEN_VERSION, version::CAPABILITIES, 0),
            (number::XEN_VERSION, version::GET_FEATURES, 0),
            (number::MEMORY_OP, memory_op::ADD_TO_PHYSMAP, 0),
            (
                number::EVENT_CHANNEL_OP,
                runtime::abi::event_channel::ALLOC_UNBOUND,
                0,
            ),
            (number::HVM_OP, hvm::GET_PARAM, 0),
            (number::SCHED_OP, runtime::abi::sched::POLL, 0),
            (
                number::GRANT_TABLE_OP,
                runtime::abi::grant_table::QUERY_SIZE,
                1,
            ),
        ];
        for (call, command, count) in calls {
            let answer = hypercall(call, [command, bad, count, 0, 0]);
            equal!(
                answer,
                Fault.as_return(),
                "hypercall {call}, {command} at {bad:#x}"
            );
        }
    }
    Ok(())
}

pub(crate) fn registers() -> Outcome {
    equal!(
        crate::raw::changed_by_hypercall(),
        0,
        "registers changed, a bit each"
    );
    Ok(())
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    core::str::from_utf8(&bytes[..end]).unwrap_or("")
}

pub(crate) fn version() -> Outcome {
    let call = |command: u64, at: u64| hypercall(number::XEN_VERSION, [command, at, 0, 0, 0]);
    let both = call(version::VERSION, 0);
    check!(both >> 16 >= 4, "version {both:#x}");
    equal!(
        call(version::VERSION, u64::MAX),
        both,
        "version with a bad pointer"
    );

    let mut extra = [0xffu8; version::EXTRAVERSION_LENGTH];
    equal!(
        call(version::EXTRAVERSION, pointer(&mut extra)),
        0,
        "extraversion"
    );
    check!(extra.contains(&0), "extraversion without an end");

    let mut capabilities = [0xffu8; version::CAPABILITIES_LENGTH];
    equal!(
        call(version::CAPABILITIES, pointer(&mut capabilities)),
        0,
        "capabilities"
    );
    check!(
        text(&capabilities).contains("xen-3.0-aarch64"),
        "capabilities {}",
        text(&capabilities)
    );
    equal!(capabilities[1023], 0, "last byte of the capabilities");

    let mut changeset = [0xffu8; version::CHANGESET_LENGTH];
    equal!(
        call(version::CHANGESET, pointer(&mut changeset)),
        0,
        "changeset"
    );
    let mut info = [0xffu8; 144];
    equal!(
        call(version::COMPILE_INFO, pointer(&mut info)),
        0,
        "compile info"
    );
    let mut platform = u64::MAX;
    equal!(
        call(version::PLATFORM_PARAMETERS, pointer(&mut platform)),
        0,
        "platform parameters"
    );
    equal!(platform, 0, "virt_start");
    let mut handle = [0u8; version::GUEST_HANDLE_LENGTH];
    equal!(
        call(version::GUEST_HANDLE, pointer(&mut handle)),
        0,
        "guest handle"
    );

    let mut features = version::FeatureInfo { index: 0, bits: 0 };
    equal!(
        call(version::GET_FEATURES, pointer(&mut features)),
        0,
        "features"
    );
    let wanted = version::FEATURE_WRITABLE_PAGE_TABLES
        | version::FEATURE_AUTO_TRANSLATED_PHYSMAP
        | version::FEATURE_MEMORY_OP_VNODE
        | version::FEATURE_ARM_SMCCC
        | version::FEATURE_NOT_DIRECT_MAPPED;
    equal!(
        features.bits & !version::FEATURE_RUNSTATE_PHYS_AREA,
        wanted,
        "features"
    );
    features.index = 1;
    equal!(
        call(version::GET_FEATURES, pointer(&mut features)),
        Invalid.as_return(),
        "features 1"
    );

    equal!(call(version::PAGESIZE, 0), 4096, "page size");
    equal!(
        call(version::PAGESIZE, pointer(&mut features)),
        Invalid.as_return(),
        "page size at a pointer"
    );
    let mut line = [0xffu8; version::COMMANDLINE_LENGTH];
    equal!(
        call(version::COMMANDLINE, pointer(&mut line)),
        0,
        "command line"
    );
    equal!(call(version::BUILD_ID, 0), Perm.as_return(), "build id");
    equal!(call(99, 0), NoSys.as_return(), "unknown sub-operation");
    Ok(())
}

pub(crate) fn privileged() -> Outcome {
    let mut words = [0u32; 64];
    for (call, interface) in [(number::DOMCTL, 0x18), (number::SYSCTL, 0x16)] {
        words[0] = 1;
        words[1] = interface;
        let answer = hypercall(call, [pointer(&mut words), 0, 0, 0, 0]);
        check!(
            [Perm, Access, NoSys]
                .map(Errno::as_return)
                .contains(&answer),
            "hypercall {call} is {answer}"
        );
    }
    Ok(())
}

pub(crate) fn multicall() -> Outcome {
    let entry = |op, args| number::MulticallEntry {
        op,
        result: 99,
        args,
    };
    let mut calls = [
        entry(number::XEN_VERSION, [version::VERSION, 0, 0, 0, 0, 0]),
        entry(1000, [0; 6]),
        entry(
            number::SCHED_OP,
            [runtime::abi::sched::YIELD, 0, 0, 0, 0, 0],
        ),
        entry(number::MULTICALL, [0; 6]),
    ];
    let answer = hypercall(number::MULTICALL, [pointer(&mut calls), 4, 0, 0, 0]);
    equal!(answer, 0, "multicall");
    check!(
        calls[0].result >> 16 >= 4,
        "xen_version inside is {:#x}",
        calls[0].result
    );
    equal!(calls[1].result, NoSys.as_return(), "unknown call inside");
    equal!(calls[2].result, 0, "yield inside");
    equal!(calls[3].result, Invalid.as_return(), "multicall inside");
    let answer = hypercall(number::MULTICALL, [0x10, 2, 0, 0, 0]);
    equal!(answer, Fault.as_return(), "multicall at a bad pointer");
    Ok(())
}

pub(crate) fn console_io() -> Outcome {
    let call = |command, count, at| hypercall(number::CONSOLE_IO, [command, count, at, 0, 0]);
    let mut line = *b"NOTE console-io by hypercall\n";
    equal!(
        call(console::WRITE, line.len() as u64, pointer(&mut line)),
        0,
        "write"
    );
    equal!(
        call(console::WRITE, 16, 0x10),
        Fault.as_return(),
        "write at a bad pointer"
    );
    let mut buffer = [0u8; 16];
    let read = call(console::READ, 16, pointer(&mut buffer));
    check!((0..=16).contains(&read), "read is {read}");
    equal!(
        call(console::READ, 1 << 31, pointer(&mut buffer)),
        TooBig.as_return(),
        "read of 2 GiB"
    );
    equal!(
        call(9, 1, pointer(&mut buffer)),
        NoSys.as_return(),
        "unknown command"
    );
    Ok(())
}
