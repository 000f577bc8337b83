//! What is not there: the guest's own handler gets the abort, with the right address.

use crate::check::{Outcome, Trouble, check, equal, fail};
use crate::raw;
use runtime::abi::guest_layout;
use runtime::exception::{self, Fault};
use runtime::{entry, memory, xen};

const DATA_ABORT: u64 = 0x25;
const UNDEFINED: u64 = 0;
/// Given by nobody.
const NOWHERE: u64 = 0x3000_0000;

fn aborted<T: core::fmt::Debug>(what: &str, address: u64, result: Result<T, Fault>) -> Outcome {
    match result {
        Ok(value) => fail!("{what} at {address:#x} worked: {value:x?}"),
        Err(fault) => {
            equal!(
                fault.class(),
                DATA_ABORT,
                "exception class of a {what} at {address:#x}"
            );
            equal!(fault.far, address, "FAR of a {what}");
            Ok(())
        }
    }
}

/// Mapped by the guest as device memory, given by nobody.
pub(crate) fn unmapped() -> Outcome {
    memory::map_device(NOWHERE, memory::PAGE);
    for address in [NOWHERE, NOWHERE + 0x1238, NOWHERE + 0x1f_fff8] {
        aborted("8-bit load", address, exception::load8(address))?;
        aborted("16-bit load", address, exception::load16(address))?;
        aborted("32-bit load", address, exception::load32(address))?;
        aborted("64-bit load", address, exception::load64(address))?;
        aborted("8-bit store", address, raw::store8(address, 1))?;
        aborted("16-bit store", address, raw::store16(address, 1))?;
        aborted("32-bit store", address, raw::store32(address, 1))?;
        aborted("64-bit store", address, raw::store64(address, 1))?;
    }
    Ok(())
}

/// The syndrome says what a real abort would: a write or a read, a translation fault.
pub(crate) fn syndrome() -> Outcome {
    const WRITE: u64 = 1 << 6;
    memory::map_device(NOWHERE, memory::PAGE);
    match (exception::load64(NOWHERE), raw::store64(NOWHERE, 1)) {
        (Err(load), Err(store)) => {
            equal!(load.esr & WRITE, 0, "WnR of a load, ESR {:#x}", load.esr);
            equal!(
                store.esr & WRITE,
                WRITE,
                "WnR of a store, ESR {:#x}",
                store.esr
            );
            Ok(())
        }
        worked => fail!("worked: {worked:x?}"),
    }
}

/// The grant window has nothing behind it before something is mapped there.
pub(crate) fn window() -> Outcome {
    let Some((base, size)) = xen::window() else {
        return Err(Trouble::Skip("no window"));
    };
    let address = base + size / 2;
    aborted("load", address, exception::load64(address))?;
    aborted("store", address, raw::store64(address, 1))
}

/// The emulated UART's corners (section 4).
pub(crate) fn uart() -> Outcome {
    let node = entry::tree().and_then(|tree| tree.compatible("arm,sbsa-uart"));
    let Some((base, size)) = node.and_then(|node| node.reg().next()) else {
        return Err(Trouble::Skip("no UART in the tree"));
    };
    equal!(base, guest_layout::VPL011, "address");
    memory::map_device(base, size);
    let load = |offset: u64| exception::load32(base + offset);
    check!(
        load(0x18).is_ok_and(|flags| flags & 1 << 5 == 0),
        "FR is {:x?}",
        load(0x18)
    );
    equal!(
        exception::load8(base + 0x18).map(u32::from),
        load(0x18).map(|flags| flags & 0xff),
        "FR as a byte"
    );
    equal!(load(0x04), Ok(0), "RSR");
    let before = load(0x38);
    equal!(raw::store32(base + 0x38, 0x10), Ok(()), "store to IMSC");
    equal!(load(0x38), Ok(0x10), "IMSC");
    let _ = raw::store32(base + 0x38, before.unwrap_or(0));
    for offset in [0x24, 0x28, 0x2c, 0x30, 0x34] {
        equal!(
            raw::store32(base + offset, 0x301),
            Ok(()),
            "store at {offset:#x}"
        );
        check!(load(offset).is_ok(), "load at {offset:#x}");
    }
    aborted("load of ICR", base + 0x44, load(0x44))?;
    aborted("64-bit load", base + 0x18, exception::load64(base + 0x18))
}

/// A load with write-back has no syndrome: emulated or aborted, never more.
pub(crate) fn no_syndrome() -> Outcome {
    const LDR_POST_INDEX: u32 = 0xb840_4401; // ldr w1, [x0], #4
    let address = guest_layout::GICV3_DISTRIBUTOR + 4;
    match raw::execute(LDR_POST_INDEX, address) {
        Ok(next) => equal!(next, address + 4, "base after write-back"),
        Err(fault) => equal!(fault.class(), DATA_ABORT, "exception class"),
    }
    Ok(())
}

/// HVC and SMC with an immediate that means nothing are undefined instructions.
pub(crate) fn immediate() -> Outcome {
    for instruction in [
        raw::hvc(1),
        raw::hvc(0xea2),
        raw::hvc(0x7fff),
        raw::smc(1),
        raw::smc(0xffff),
    ] {
        match raw::execute(instruction, 0) {
            Err(fault) => equal!(
                fault.class(),
                UNDEFINED,
                "exception class of {instruction:#x}"
            ),
            Ok(_) => fail!("{instruction:#x} did something"),
        }
    }
    Ok(())
}
