//! `xen_version` (`xen/include/public/version.h`): what the hypervisor says of itself. A guest without
//! privileges may ask all but the command line and the build id.

use crate::{Caller, host};
use abi::{Errno, version as command};
use memory::Va;

/// Version of the ABI that we follow, major << 16 | minor: 4.20.
pub(crate) const VERSION: i64 = 4 << 16 | 20;

const EXTRAVERSION: &[u8] = b"-viaduct";
const CAPABILITIES: &[u8] = b"xen-3.0-aarch64 ";
const CHANGESET: &[u8] = concat!("viaduct ", env!("CARGO_PKG_VERSION")).as_bytes();
/// What an unprivileged guest reads in place of the command line.
const DENIED: &[u8] = b"<denied>";

const FEATURES: u32 = command::FEATURE_WRITABLE_PAGE_TABLES
    | command::FEATURE_AUTO_TRANSLATED_PHYSMAP
    | command::FEATURE_MEMORY_OP_VNODE
    | command::FEATURE_ARM_SMCCC;

/// `text`, followed by zeros.
const fn padded<const LENGTH: usize>(text: &[u8]) -> [u8; LENGTH] {
    let mut buffer = [0; LENGTH];
    let (start, _) = buffer.split_at_mut(text.len());
    start.copy_from_slice(text);
    buffer
}

static CAPABILITIES_BUFFER: [u8; command::CAPABILITIES_LENGTH] = padded(CAPABILITIES);
static DENIED_BUFFER: [u8; command::COMMANDLINE_LENGTH] = padded(DENIED);
static EXTRAVERSION_BUFFER: [u8; command::EXTRAVERSION_LENGTH] = padded(EXTRAVERSION);
static CHANGESET_BUFFER: [u8; command::CHANGESET_LENGTH] = padded(CHANGESET);
static COMPILE_INFO: command::CompileInfo = command::CompileInfo {
    compiler: padded(b"rustc"),
    by: padded(b"viaduct"),
    domain: [0; 32],
    date: [0; 32],
};

/// All commands; [`command::VERSION`] has been answered already on the hot path, but a multicall comes
/// here too.
#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, cmd: u32, buffer: u64) -> Result<i64, Errno> {
    let fixed = |bytes: &[u8]| caller.write(Va::new(buffer), bytes).map(|()| 0);
    match u64::from(cmd) {
        command::VERSION => Ok(VERSION),
        command::EXTRAVERSION => fixed(&EXTRAVERSION_BUFFER),
        command::COMPILE_INFO => host::write(caller, buffer, &COMPILE_INFO).map(|()| 0),
        command::CAPABILITIES => fixed(&CAPABILITIES_BUFFER),
        command::CHANGESET => fixed(&CHANGESET_BUFFER),
        command::PLATFORM_PARAMETERS => fixed(&0_u64.to_le_bytes()),
        command::GET_FEATURES => features(caller, buffer),
        command::PAGESIZE if buffer == 0 => Ok(abi::PAGE_SIZE as i64),
        command::PAGESIZE => Err(Errno::Invalid),
        command::GUEST_HANDLE => fixed(caller.state().handle()),
        command::COMMANDLINE => fixed(&DENIED_BUFFER),
        command::BUILD_ID | command::COMMANDLINE2 => Err(Errno::Perm),
        command::EXTRAVERSION2 => variable(caller, buffer, EXTRAVERSION),
        command::CAPABILITIES2 => variable(caller, buffer, CAPABILITIES),
        command::CHANGESET2 => variable(caller, buffer, CHANGESET),
        _ => Err(Errno::NoSys),
    }
}

fn features<C: Caller>(caller: &C, buffer: u64) -> Result<i64, Errno> {
    let mut info: command::FeatureInfo = host::read(caller, buffer)?;
    if info.index != 0 {
        return Err(Errno::Invalid);
    }
    info.bits = FEATURES | caller.state().mapping_feature();
    host::write(caller, buffer, &info)?;
    Ok(0)
}

/// A string in a buffer that says its own length. The result is the string's length; a null pointer asks
/// for that alone.
fn variable<C: Caller>(caller: &C, buffer: u64, text: &[u8]) -> Result<i64, Errno> {
    let length = text.len() as i64;
    if buffer == 0 {
        return Ok(length);
    }
    let header: command::VarBufferHeader = host::read(caller, buffer)?;
    if length > i64::from(header.length) {
        return Err(Errno::NoBuffer);
    }
    let bytes = Va::new(buffer)
        .checked_add(size_of::<command::VarBufferHeader>() as u64)
        .ok_or(Errno::Fault)?;
    caller.write(bytes, text)?;
    Ok(length)
}
