//! `hvm_op` and `vm_assist`.

use crate::raw::{call, with};
use crate::suite::{NOBODY, Suite};
use alloc::format;
use runtime::abi::Errno::{Invalid, NoSuchDomain, NoSys, Perm};
use runtime::abi::{DomainId, hvm as op, hypercall as number, vcpu};

fn ask(operation: u64, domid: DomainId, index: u32, value: u64) -> (i64, u64) {
    let mut argument = op::Param {
        domid,
        reserved: 0,
        index,
        value,
    };
    let answer = with(number::HVM_OP, operation, &mut argument, 0);
    (answer, argument.value)
}

pub(crate) fn run(suite: &mut Suite) {
    let own = suite.own;
    suite.subject("hvm_op.get_param");
    for index in [
        op::PARAM_CALLBACK_IRQ,
        op::PARAM_STORE_PFN,
        op::PARAM_STORE_EVTCHN,
        op::PARAM_CONSOLE_PFN,
        op::PARAM_CONSOLE_EVTCHN,
    ] {
        let (answer, value) = ask(op::GET_PARAM, DomainId::SELF, index, u64::MAX - 9);
        suite.is(&format!("parameter {index}"), answer, 0);
        suite.that("a value", value != u64::MAX - 9);
        suite.equal("by number", ask(op::GET_PARAM, own, index, 1), (0, value));
    }
    let value = |index| ask(op::GET_PARAM, DomainId::SELF, index, 0).1;
    let console = value(op::PARAM_CONSOLE_PFN) != 0;
    suite.equal(
        "page and port",
        value(op::PARAM_CONSOLE_EVTCHN) != 0,
        console,
    );
    refused(suite, op::GET_PARAM);
    suite.subject("hvm_op.set_param");
    for index in [0, 1, 2, 17, 18] {
        let answer = ask(op::SET_PARAM, DomainId::SELF, index, 1).0;
        suite.is(&format!("parameter {index}"), answer, Perm);
    }
    refused(suite, op::SET_PARAM);
    suite.subject("hvm_op.guest_request_vm_event");
    let event = |at| call(number::HVM_OP, [op::GUEST_REQUEST_VM_EVENT, at, 0, 0, 0]);
    suite.is("without argument", event(0), 0);
    suite.is("with one", event(8), Invalid);
    suite.subject("hvm_op.others");
    for operation in [2, 3, 5, 15, 23, 25, 99, 1 << 32, 1 << 32 | 1] {
        let answer = call(number::HVM_OP, [operation, 8, 0, 0, 0]);
        suite.is(&format!("operation {operation:#x}"), answer, NoSys);
    }
    assist(suite);
}

fn refused(suite: &mut Suite, operation: u64) {
    let own = DomainId::SELF;
    suite.is("monitor's ring", ask(operation, own, 28, 0).0, Perm);
    for index in [3, 4, 16, 19, 27, 38, 39, 99, u32::MAX] {
        let answer = ask(operation, own, index, 0).0;
        suite.is(&format!("parameter {index}"), answer, Invalid);
    }
    suite.is("another's", ask(operation, suite.stranger, 17, 0).0, Perm);
    suite.is("nobody's", ask(operation, NOBODY, 17, 0).0, NoSuchDomain);
    suite.is(
        "the number is looked at first",
        ask(operation, NOBODY, 99, 0).0,
        Invalid,
    );
    suite.faults(|bad| call(number::HVM_OP, [operation, bad, 0, 0, 0]));
}

fn assist(suite: &mut Suite) {
    let ask = |command, kind| call(number::VM_ASSIST, [command, kind, 0, 0, 0]);
    let flag = vcpu::VMASST_RUNSTATE_UPDATE_FLAG;
    suite.subject("vm_assist.enable");
    suite.is("runstate's flag", ask(vcpu::VMASST_CMD_ENABLE, flag), 0);
    for kind in [0, 3, 4, 6, 31, 32, 37, 0xffff_ffff] {
        let answer = ask(vcpu::VMASST_CMD_ENABLE, kind);
        suite.is(&format!("type {kind}"), answer, Invalid);
    }
    suite.subject("vm_assist.disable");
    suite.is("runstate's flag", ask(vcpu::VMASST_CMD_DISABLE, flag), 0);
    suite.is("once more", ask(vcpu::VMASST_CMD_DISABLE, flag), 0);
    suite.is("type 4", ask(vcpu::VMASST_CMD_DISABLE, 4), Invalid);
    suite.subject("vm_assist.others");
    suite.is("command 2", ask(2, flag), NoSys);
    suite.is("command 2, type 4", ask(2, 4), Invalid);
}
