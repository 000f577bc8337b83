//! Power and other firmware calls (Arm DEN 0022, DEN 0028), by the conduit that the tree names.

use crate::{entry, sync::Once};
use abi::psci;
use core::fmt;

/// Why PSCI refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// -1
    NotSupported,
    /// -2
    InvalidParameters,
    /// -3
    Denied,
    /// -4
    AlreadyOn,
    /// -5
    OnPending,
    /// -9
    InvalidAddress,
    /// Any other negative number.
    Other(i64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported => f.write_str("not supported"),
            Self::InvalidParameters => f.write_str("invalid parameters"),
            Self::Denied => f.write_str("denied"),
            Self::AlreadyOn => f.write_str("already on"),
            Self::OnPending => f.write_str("on pending"),
            Self::InvalidAddress => f.write_str("invalid address"),
            Self::Other(code) => write!(f, "PSCI error {code}"),
        }
    }
}

fn result(code: i64) -> Result<u64, Error> {
    // PSCI's own codes are 32 bits wide; 32-bit calls may come back not sign-extended.
    let code = if code >> 32 == 0 {
        i64::from(code as i32)
    } else {
        code
    };
    match code {
        0.. => Ok(code as u64),
        psci::NOT_SUPPORTED => Err(Error::NotSupported),
        psci::INVALID_PARAMETERS => Err(Error::InvalidParameters),
        psci::DENIED => Err(Error::Denied),
        psci::ALREADY_ON => Err(Error::AlreadyOn),
        psci::ON_PENDING => Err(Error::OnPending),
        psci::INVALID_ADDRESS => Err(Error::InvalidAddress),
        other => Err(Error::Other(other)),
    }
}

/// How firmware is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `hvc #0`
    Hvc,
    /// `smc #0`
    Smc,
}

/// The conduit that the tree's PSCI node names; HVC where there is none.
pub fn conduit() -> Conduit {
    static CONDUIT: Once<Conduit> = Once::new();
    if let Some(known) = CONDUIT.get() {
        return *known;
    }
    let method = entry::tree()
        .and_then(|tree| tree.find("/psci"))
        .and_then(|node| node.text("method"));
    let found = if method == Some("smc") {
        Conduit::Smc
    } else {
        Conduit::Hvc
    };
    CONDUIT.set(found);
    found
}

/// Calls `function` with up to three arguments and returns x0 to x3.
pub fn call_by(conduit: Conduit, function: u64, arguments: [u64; 3]) -> [u64; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = [function, arguments[0], arguments[1], arguments[2]];
    macro_rules! by {
        ($instruction:literal) => {
            // SAFETY: the SMC calling convention: x0 to x17 may change, nothing else; a call that
            // stops this CPU does not return, and one that starts code gets it from this crate.
            unsafe {
                core::arch::asm!(
                    $instruction,
                    inlateout("x0") x0, inlateout("x1") x1, inlateout("x2") x2, inlateout("x3") x3,
                    clobber_abi("C"), options(nostack),
                )
            }
        };
    }
    match conduit {
        Conduit::Hvc => by!("hvc #0"),
        Conduit::Smc => by!("smc #0"),
    }
    [x0, x1, x2, x3]
}

/// Calls `function` by the tree's conduit and returns x0.
pub fn call(function: u32, arguments: [u64; 3]) -> i64 {
    call_by(conduit(), u64::from(function), arguments)[0] as i64
}

/// The PSCI version, major in the upper half.
pub fn version() -> u32 {
    call(psci::PSCI_VERSION, [0; 3]) as u32
}

/// Whether `function` is there, and its flags.
///
/// # Errors
/// Not supported.
pub fn features(function: u32) -> Result<u64, Error> {
    result(call(psci::PSCI_FEATURES, [u64::from(function), 0, 0]))
}

/// Starts the CPU with affinity `target` at `entry`, MMU off, `context` in x0. [`crate::cpu::start`] is
/// the comfortable way.
///
/// # Errors
/// As PSCI says.
pub fn cpu_on(target: u64, entry: u64, context: u64) -> Result<(), Error> {
    result(call(psci::CPU_ON_64, [target, entry, context])).map(|_| ())
}

/// The state of the CPU with affinity `target`: 0 on, 1 off, 2 on its way.
///
/// # Errors
/// As PSCI says.
pub fn affinity_info(target: u64, level: u64) -> Result<u64, Error> {
    result(call(psci::AFFINITY_INFO_64, [target, level, 0]))
}

/// Switches this CPU off.
pub fn cpu_off() -> ! {
    call(psci::CPU_OFF, [0; 3]);
    stop()
}

/// Ends the guest: power off.
pub fn system_off() -> ! {
    crate::console::flush();
    call(psci::SYSTEM_OFF, [0; 3]);
    stop()
}

/// Ends the guest: asks to be started anew.
pub fn system_reset() -> ! {
    crate::console::flush();
    call(psci::SYSTEM_RESET, [0; 3]);
    stop()
}

fn stop() -> ! {
    loop {
        crate::cpu::wait_for_interrupt();
    }
}
