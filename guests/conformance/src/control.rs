//! The calling convention, calls that are not there, those of a control domain, and `multicall`.

use crate::raw::{call, pointer};
use crate::suite::{NOBODY, Suite};
use alloc::format;
use runtime::abi::Errno::{Access, Fault, Invalid, NoSuchDomain, NoSys, Perm};
use runtime::abi::{DomainId, console, control as op, hypercall as number, sched, version};

pub(crate) fn run(suite: &mut Suite) {
    absent(suite);
    privileged(suite);
    multicall(suite);
    console_io(suite);
}

fn absent(suite: &mut Suite) {
    suite.subject("others");
    let none = [
        0,
        1,
        2,
        3,
        4,
        5,
        8,
        9,
        10,
        11,
        14,
        15,
        22,
        23,
        25,
        26,
        28,
        30,
        31,
        37,
        38,
        40,
        43,
        48,
        55,
        56,
        63,
        64,
        1000,
        1 << 32 | 17,
        1 << 63,
        u64::MAX,
    ];
    for nr in none {
        suite.is(&format!("hypercall {nr:#x}"), call(nr, [0; 5]), NoSys);
    }
    for (name, nr) in [
        ("sched_op_compat", number::SCHED_OP_COMPAT),
        ("event_channel_op_compat", number::EVENT_CHANNEL_OP_COMPAT),
        ("physdev_op_compat", number::PHYSDEV_OP_COMPAT),
        ("xsm_op", number::XSM_OP),
        ("physdev_op", number::PHYSDEV_OP),
        ("argo_op", number::ARGO_OP),
        ("dm_op", number::DM_OP),
    ] {
        suite.subject(name);
        for command in [0, 1, 15, 25] {
            let answer = call(nr, [command, 8, 1, 0, 0]);
            suite.is(&format!("command {command}"), answer, NoSys);
        }
    }
    suite.subject("hypfs_op");
    suite.is("any", call(number::HYPFS_OP, [0; 5]), Perm);
}

fn privileged(suite: &mut Suite) {
    for (name, nr, version) in [
        ("platform_op", number::PLATFORM_OP, op::PLATFORM_VERSION),
        ("sysctl", number::SYSCTL, op::SYSCTL_VERSION),
        ("domctl", number::DOMCTL, op::DOMCTL_VERSION),
    ] {
        suite.subject(name);
        let ask = |command, version, domain| {
            let head = op::Head {
                command,
                version,
                domain,
                ..op::Head::default()
            };
            let mut argument = (head, [0_u64; 16]);
            call(nr, [pointer(&mut argument), 0, 0, 0, 0])
        };
        let own = suite.own;
        for command in [1, 5, 62, 1000] {
            let case = format!("command {command}");
            suite.is(&case, ask(command, version, own), Perm);
        }
        suite.is("wrong version", ask(5, version + 1, own), Access);
        suite.is("no version", ask(5, 0, own), Access);
        suite.faults(|bad| call(nr, [bad, 0, 0, 0, 0]));
    }
    let ask = |command, domain| {
        let version = op::DOMCTL_VERSION;
        let head = op::Head {
            command,
            version,
            domain,
            ..op::Head::default()
        };
        call(
            number::DOMCTL,
            [pointer(&mut (head, [0_u64; 16])), 0, 0, 0, 0],
        )
    };
    suite.is("of another", ask(5, suite.stranger), Perm);
    suite.is("of nobody", ask(5, NOBODY), NoSuchDomain);
    suite.is(
        "of SELF, which is no number",
        ask(5, DomainId::SELF),
        NoSuchDomain,
    );
    suite.is("of one that is to be made", ask(1, NOBODY), Perm);
}

fn multicall(suite: &mut Suite) {
    suite.subject("multicall");
    let entry = |op, command| number::MulticallEntry {
        op,
        result: 99,
        args: [command, 0, 0, 0, 0, 0],
    };
    let run = |list: &mut [number::MulticallEntry]| {
        let (at, count) = (list.as_mut_ptr() as u64, list.len() as u64);
        call(number::MULTICALL, [at, count, 0, 0, 0])
    };
    let mut list = [
        entry(number::XEN_VERSION, version::VERSION),
        entry(1000, 0),
        entry(number::SCHED_OP, sched::YIELD),
        entry(number::MULTICALL, 0),
        entry(number::EVENT_CHANNEL_OP, 99),
        entry(number::XEN_VERSION, version::PAGESIZE),
    ];
    suite.is("six calls", run(&mut list), 0);
    let version = call(number::XEN_VERSION, [version::VERSION, 0, 0, 0, 0]);
    suite.is("the first", list[0].result, version);
    suite.is("no such call", list[1].result, NoSys);
    suite.is("yield", list[2].result, 0);
    suite.is("nested", list[3].result, Invalid);
    suite.is("no such command", list[4].result, NoSys);
    suite.is("the last", list[5].result, 4096);
    let mut long = [entry(number::XEN_VERSION, version::PAGESIZE); 64];
    suite.is("64 calls", run(&mut long), 0);
    suite.that("all of them", long.iter().all(|entry| entry.result == 4096));
    suite.is("none", call(number::MULTICALL, [8, 0, 0, 0, 0]), 0);
    suite.faults(|bad| call(number::MULTICALL, [bad, 1, 0, 0, 0]));
}

fn console_io(suite: &mut Suite) {
    let ask = |command, count, at| call(number::CONSOLE_IO, [command, count, at, 0, 0]);
    suite.subject("console_io.write");
    let mut line = *b"a line by console_io\n";
    let length = line.len() as u64;
    suite.is("a line", ask(console::WRITE, length, pointer(&mut line)), 0);
    suite.is("nothing", ask(console::WRITE, 0, 8), 0);
    suite.faults(|bad| ask(console::WRITE, 16, bad));
    suite.subject("console_io.read");
    let mut buffer = [0xaa_u8; 16];
    suite.is("no input", ask(console::READ, 16, pointer(&mut buffer)), 0);
    suite.equal("buffer", buffer, [0xaa; 16]);
    suite.is(
        "2 GiB",
        ask(console::READ, 1 << 31, pointer(&mut buffer)),
        -7,
    );
    suite.is("no room", ask(console::READ, 0, 8), 0);
    suite.subject("console_io.others");
    suite.is("command 2", ask(2, 1, pointer(&mut buffer)), NoSys);
    suite.subject("convention");
    let mut bytes = [0_u8; 32];
    let at = pointer(&mut bytes);
    let features = |at| call(number::XEN_VERSION, [version::GET_FEATURES, at, 0, 0, 0]);
    suite.is("a pointer that is not aligned", features(at + 1), 0);
    suite.that("written there", bytes[5] != 0 && bytes[9..] == [0; 23]);
    suite.is("across the end of RAM", features(end_of_ram() - 4), Fault);
    suite.is("where nothing is", features(window()), Fault);
    suite.equal(
        "all registers but x0 to x4 and x16",
        crate::raw::changed_registers(),
        0,
    );
}

/// Where nothing is.
fn window() -> u64 {
    runtime::xen::window().map_or(8, |(base, _)| base)
}

fn end_of_ram() -> u64 {
    let banks = runtime::memory::banks();
    banks.map(|(base, size)| base + size).max().unwrap_or(0)
}
