//! The domains that were built, and which one has an id.

use alloc::vec::Vec;

use abi::DomainId;
use sync::Once;

use super::Domain;

/// All domains, in the order of their ids, which begin at 1.
static DOMAINS: Once<Vec<&'static Domain>> = Once::new();

/// Makes the domains known; from then on they can be found.
pub(crate) fn publish(domains: Vec<&'static Domain>) {
    DOMAINS.call_once(|| domains);
}

/// All domains that were built.
pub(crate) fn domains() -> &'static [&'static Domain] {
    DOMAINS.get().map_or(&[], |domains| domains.as_slice())
}

/// The domain with this id. Ids have gaps where a description was left out; where there is none before it, the
/// domain is in the place of its id.
#[inline]
pub(crate) fn find(id: DomainId) -> Option<&'static Domain> {
    match domains().get(usize::from(id.0).wrapping_sub(1)) {
        Some(domain) if domain.id == id => Some(domain),
        _ => find_after_gap(id),
    }
}

#[inline(never)]
fn find_after_gap(id: DomainId) -> Option<&'static Domain> {
    let domains = domains();
    let at = domains.binary_search_by_key(&id, |domain| domain.id).ok()?;
    domains.get(at).copied()
}
