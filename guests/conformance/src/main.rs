//! Every sub-operation of every hypercall: its success, each of its errors, its edges. A line a case, `PASS SUBJECT: case`
//! or `FAIL SUBJECT: case: found, not wanted`; the subject is the operation's name in `docs/abi-coverage.md`, which a test
//! of `kernel/xen` compares with the names here.
//!
//! `stranger=ID` names a domain that lives and is no peer; `peer=ID` in its stead would change what is refused. At the end
//! comes `DONE`, and the guest records a crash and asks for power-off: it stops as crashed.

#![no_std]
#![no_main]

extern crate alloc;

mod control;
mod events;
mod fifo;
mod grants;
mod mapping;
mod memory;
mod params;
mod raw;
mod sched;
mod suite;
mod vcpu;
mod version;

use runtime::abi::DomainId;
use runtime::{arguments::arguments, println, xen};
use suite::Suite;

// What the heap leaves is RAM to give up and to grant.
runtime::entry!(main, heap = 1 << 20);

fn main() {
    let number = |name, default| arguments().number(name).unwrap_or(default) as u16;
    if !xen::present() {
        println!("FAIL there is no hypervisor");
        return;
    }
    let mut suite = Suite::new(grants::own_number(), DomainId(number("stranger", 0)));
    println!("conformance: {}", suite.own);
    version::run(&mut suite);
    control::run(&mut suite);
    params::run(&mut suite);
    memory::run(&mut suite);
    mapping::run(&mut suite);
    vcpu::run(&mut suite);
    events::run(&mut suite);
    fifo::run(&mut suite);
    grants::run(&mut suite);
    sched::run(&mut suite);
    println!(
        "conformance: {} passed, {} failed",
        suite.passed, suite.failed
    );
    println!("DONE");
    runtime::console::flush();
    sched::end(&mut suite);
}
