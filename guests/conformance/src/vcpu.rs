//! `vcpu_op`.

use crate::raw::{call, pointer};
use crate::suite::Suite;
use alloc::format;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::Errno::{Busy, Fault, Invalid, NoEntry, NoSuchAddress};
use runtime::abi::{hypercall as number, vcpu as op};
use runtime::{memory, timer};

fn ask(command: u64, vcpu: u64, at: u64) -> i64 {
    call(number::VCPU_OP, [command, vcpu, at, 0, 0])
}

pub(crate) fn run(suite: &mut Suite) {
    info(suite);
    runstate(suite);
    suite.subject("vcpu_op.others");
    let mut words = [0_u64; 16];
    for command in [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 99] {
        let answer = ask(command, 0, pointer(&mut words));
        suite.is(&format!("command {command}"), answer, Invalid);
        let answer = ask(command, 1000, pointer(&mut words));
        suite.is(&format!("command {command} of vCPU 1000"), answer, NoEntry);
    }
}

/// Of vCPU 1, which is off; vCPU 0 keeps what is in shared_info, as the runtime wants it.
fn info(suite: &mut Suite) {
    suite.subject("vcpu_op.register_vcpu_info");
    let gfn = memory::spare().start.div_ceil(memory::PAGE);
    let register = |vcpu, gfn, offset| {
        let mut argument = op::RegisterVcpuInfo {
            gfn,
            offset,
            reserved: 0,
        };
        ask(op::REGISTER_VCPU_INFO, vcpu, pointer(&mut argument))
    };
    for offset in [1, 4, 4, 4052, 4056, 4095, 4096, u32::MAX, u32::MAX - 7] {
        let answer = register(1, gfn, offset);
        suite.is(&format!("offset {offset}"), answer, NoSuchAddress);
    }
    for bad in [0, 0x300_2000 / memory::PAGE, 1 << 27, 1 << 40, u64::MAX] {
        let answer = register(1, bad, 0);
        suite.that(&format!("frame {bad:#x}"), answer == -22 || answer == -13);
    }
    suite.is("vCPU 1000", register(1000, gfn, 0), NoEntry);
    suite.is("at the page's end", register(1, gfn, 4096 - 48), 0);
    let at = gfn * memory::PAGE + 4096 - 48;
    let flag = crate::raw::load(at).map(|word| word & 0xff);
    suite.equal("upcall pending", flag, Some(1));
    suite.equal("selector", crate::raw::load(at + 8), Some(u64::MAX));
    suite.is("a second time", register(1, gfn, 0), Busy);
    suite.faults(|bad| ask(op::REGISTER_VCPU_INFO, 1, bad));
}

static AREA: [AtomicU64; 8] = [const { AtomicU64::new(u64::MAX) }; 8];

fn runstate(suite: &mut Suite) {
    suite.subject("vcpu_op.register_runstate_memory_area");
    let register = |vcpu, address| {
        let mut argument = op::RegisterRunstateArea { address };
        ask(
            op::REGISTER_RUNSTATE_MEMORY_AREA,
            vcpu,
            pointer(&mut argument),
        )
    };
    let area = AREA.as_ptr() as u64;
    suite.is("an area", register(0, area), 0);
    suite.equal("running", AREA[0].load(SeqCst) as u32, op::RUNSTATE_RUNNING);
    suite.that("since when", AREA[1].load(SeqCst) != u64::MAX);
    suite.equal("not beyond", AREA[6].load(SeqCst), u64::MAX);
    let blocked = AREA[4].load(SeqCst);
    timer::sleep(Duration::from_millis(30));
    suite.that(
        "it goes on",
        AREA[1].load(SeqCst) & op::RUNSTATE_UPDATE == 0,
    );
    // A vCPU that is alone sleeps in its own WFI, which nobody sees.
    suite.that("never less", AREA[4].load(SeqCst) >= blocked);
    suite.is("no more", register(0, 0), 0);
    suite.is("of a vCPU that is off", register(1, area), 0);
    suite.equal("offline", AREA[0].load(SeqCst) as u32, op::RUNSTATE_OFFLINE);
    suite.is("no more of it", register(1, 0), 0);
    suite.is("vCPU 1000", register(1000, area), NoEntry);
    suite.is("nowhere", register(0, 8), Fault);
    suite.faults(|bad| ask(op::REGISTER_RUNSTATE_MEMORY_AREA, 0, bad));
}
