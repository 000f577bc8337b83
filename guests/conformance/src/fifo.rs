//! `event_channel_op`: the calls of the FIFO ABI.

use crate::events::{ask, at};
use crate::suite::Suite;
use alloc::format;
use runtime::abi::Errno::{Invalid, NoEntry, NoSpace, NoSys, NotSupported};
use runtime::abi::{Port, event_channel as op};
use runtime::{event, memory};

fn control(control_gfn: u64, offset: u32, vcpu: u32) -> i64 {
    let request = op::InitControl {
        control_gfn,
        offset,
        vcpu,
        ..Default::default()
    };
    ask(op::INIT_CONTROL, request).0
}

fn expand(array_gfn: u64) -> i64 {
    ask(op::EXPAND_ARRAY, op::ExpandArray { array_gfn }).0
}

fn priority(port: Port, priority: u32) -> i64 {
    ask(op::SET_PRIORITY, op::SetPriority { port, priority }).0
}

pub(crate) fn run(suite: &mut Suite) {
    let port = event::bind_ipi(0).unwrap_or_default();
    suite.subject("event_channel_op.set_priority");
    suite.is("by the 2-level ABI", priority(port, 3), NoSys);
    suite.is("port 1024", priority(Port(1024), 3), Invalid);
    suite.faults(|bad| at(op::SET_PRIORITY, bad));
    suite.subject("event_channel_op.expand_array");
    suite.is("first of all", expand(0), NotSupported);
    suite.faults(|bad| at(op::EXPAND_ARRAY, bad));
    suite.subject("event_channel_op.init_control");
    let page = memory::spare().start.div_ceil(memory::PAGE);
    for offset in [1, 4, 4028, 4032, 4096, u32::MAX, u32::MAX - 7] {
        let answer = control(page, offset, 0);
        suite.is(&format!("offset {offset}"), answer, Invalid);
    }
    for bad in [0, 0x300_2000 / memory::PAGE, 1 << 28, u64::MAX] {
        suite.is(&format!("frame {bad:#x}"), control(bad, 0, 0), Invalid);
    }
    suite.is("vCPU 2", control(page, 0, 2), NoEntry);
    suite.faults(|bad| at(op::INIT_CONTROL, bad));
    suite.is("none of these began it", priority(port, 3), NoSys);

    suite.that("of every vCPU", event::use_fifo().is_ok());
    suite.is("a second time", control(page, 0, 0), Invalid);
    suite.subject("event_channel_op.expand_array");
    suite.is("beyond the last port", expand(page), NoSpace);
    suite.subject("event_channel_op.set_priority");
    for level in [0, 7, 15] {
        suite.is(&format!("priority {level}"), priority(port, level), 0);
    }
    suite.is("priority 16", priority(port, 16), Invalid);
    suite.is("port 1024", priority(Port(1024), 3), Invalid);
    event::mask(port);
    let _ = event::send(port);
    suite.that("an event", event::take(port));
    suite.subject("event_channel_op.reset");
    suite.that("back to the 2-level ABI", event::use_2level().is_ok());
    suite.is("it is", priority(port, 3), NoSys);
}
