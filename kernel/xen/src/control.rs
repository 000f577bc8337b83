//! `platform_op`, `sysctl`, `domctl`: the calls of a control domain, which no guest is. Each reads its whole
//! argument and looks at the version of the interface before it refuses, as Xen does
//! (`xen/common/sysctl.c`, `domctl.c`, `xen/arch/arm/platform_hypercall.c`).

use crate::{Caller, host};
use abi::{DomainId, Errno, control as op};
use memory::Va;

#[inline(never)]
pub(crate) fn platform<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    request::<C, { op::PLATFORM_SIZE }>(caller, argument, op::PLATFORM_VERSION)?;
    Err(Errno::Perm)
}

#[inline(never)]
pub(crate) fn sysctl<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    request::<C, { op::SYSCTL_SIZE }>(caller, argument, op::SYSCTL_VERSION)?;
    Err(Errno::Perm)
}

/// The domain that it is about is looked for first, but where it is one that is to be made.
#[inline(never)]
pub(crate) fn domctl<C: Caller>(caller: &C, argument: u64) -> Result<i64, Errno> {
    let request = request::<C, { op::DOMCTL_SIZE }>(caller, argument, op::DOMCTL_VERSION)?;
    if !op::DOMCTL_WITHOUT_DOMAIN.contains(&request.command) {
        real_domain(caller, request.domain)?;
    }
    Err(Errno::Perm)
}

/// Whether a domain has this number; no other name for it will do.
///
/// # Errors
/// [`Errno::NoSuchDomain`].
pub(crate) fn real_domain<C: Caller>(caller: &C, id: DomainId) -> Result<(), Errno> {
    match id {
        DomainId::SELF => Err(Errno::NoSuchDomain),
        _ => match host::own_domain(caller, id) {
            Err(Errno::NoSuchDomain) => Err(Errno::NoSuchDomain),
            _ => Ok(()),
        },
    }
}

fn request<C: Caller, const SIZE: usize>(
    caller: &C,
    argument: u64,
    version: u32,
) -> Result<op::Head, Errno> {
    let mut bytes = [0; SIZE];
    caller.read(Va::new(argument), &mut bytes)?;
    let (head, _) = zerocopy::FromBytes::read_from_prefix(&bytes).map_err(|_| Errno::Fault)?;
    let head: op::Head = head;
    if head.version != version {
        return Err(Errno::Access);
    }
    Ok(head)
}
