//! `hvm_op`: the parameters that tell a guest where its console and xenstore are
//! (`xen/include/public/hvm/params.h`). A guest reads them, and may write none.

use crate::{Caller, host};
use abi::{Errno, Port, hvm};
use core::sync::atomic::{AtomicU64, Ordering};

/// Greatest parameter number of Xen's, plus one.
const PARAMETERS: u32 = 39;

/// Parameters of a domain. 0 means "not there".
#[derive(Debug, Default)]
pub struct Parameters {
    store_gfn: AtomicU64,
    /// What `store_gfn` is to be once the guest has looked; 0 if it is that already.
    late_store_gfn: AtomicU64,
    store_port: AtomicU64,
    console_gfn: AtomicU64,
    console_port: AtomicU64,
}

impl Parameters {
    /// Where the xenstore page and its port are; `late` if the guest is told of the page after its first look.
    pub(crate) fn set_store(&self, gfn: u64, port: Port, late: bool) {
        let (now, later) = if late { (u64::MAX, gfn) } else { (gfn, 0) };
        self.store_port.store(u64::from(port.0), Ordering::Relaxed);
        self.late_store_gfn.store(later, Ordering::Relaxed);
        self.store_gfn.store(now, Ordering::Release);
    }

    /// Port of the xenstore; 0 if there is none.
    pub(crate) fn store_port(&self) -> Port {
        Port(self.store_port.load(Ordering::Relaxed) as u32)
    }

    /// Port of the console; 0 if there is none.
    pub(crate) fn console_port(&self) -> Port {
        Port(self.console_port.load(Ordering::Relaxed) as u32)
    }

    /// The guest has looked for the xenstore page; whether that is why it has one now.
    fn store_was_looked_for(&self) -> bool {
        let gfn = self.late_store_gfn.load(Ordering::Relaxed);
        if gfn == 0 || self.late_store_gfn.swap(0, Ordering::AcqRel) == 0 {
            return false;
        }
        self.store_gfn.store(gfn, Ordering::Release);
        true
    }

    pub(crate) fn set_console(&self, gfn: u64, port: Port) {
        self.console_port
            .store(u64::from(port.0), Ordering::Relaxed);
        self.console_gfn.store(gfn, Ordering::Release);
    }

    /// The value that a guest reads.
    ///
    /// # Errors
    /// [`Errno::Perm`] if it is not for guests, [`Errno::Invalid`] if there is no such parameter.
    pub fn get(&self, index: u32) -> Result<u64, Errno> {
        match index {
            // The device tree tells how events are delivered.
            hvm::PARAM_CALLBACK_IRQ => Ok(0),
            hvm::PARAM_STORE_PFN => Ok(self.store_gfn.load(Ordering::Acquire)),
            hvm::PARAM_STORE_EVTCHN => Ok(self.store_port.load(Ordering::Acquire)),
            hvm::PARAM_CONSOLE_PFN => Ok(self.console_gfn.load(Ordering::Acquire)),
            hvm::PARAM_CONSOLE_EVTCHN => Ok(self.console_port.load(Ordering::Acquire)),
            hvm::PARAM_MONITOR_RING_PFN => Err(Errno::Perm),
            _ => Err(Errno::Invalid),
        }
    }
}

#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, op: u64, buffer: u64) -> Result<i64, Errno> {
    match op {
        hvm::SET_PARAM | hvm::GET_PARAM => parameter(caller, op, buffer),
        // No monitor is attached, so nobody is told; only a null argument is right.
        hvm::GUEST_REQUEST_VM_EVENT if buffer == 0 => Ok(0),
        hvm::GUEST_REQUEST_VM_EVENT => Err(Errno::Invalid),
        _ => Err(Errno::NoSys),
    }
}

fn parameter<C: Caller>(caller: &C, op: u64, buffer: u64) -> Result<i64, Errno> {
    let mut param: hvm::Param = host::read(caller, buffer)?;
    if param.index >= PARAMETERS {
        return Err(Errno::Invalid);
    }
    host::own_domain(caller, param.domid)?;
    let value = caller.state().parameters().get(param.index)?;
    if op == hvm::SET_PARAM {
        // A parameter that can be read is set by the hypervisor alone.
        return Err(Errno::Perm);
    }
    param.value = value;
    host::write(caller, buffer, &param)?;
    if param.index == hvm::PARAM_STORE_PFN && caller.state().parameters().store_was_looked_for() {
        caller.state().notify_store(caller);
    }
    Ok(0)
}
