//! A domain node.
use super::{Container, DomainConfig, Limits};
use crate::Problem;
use alloc::vec::Vec;
pub(super) fn read(
    _: &Container<'_>,
    _: &Limits<'_>,
    _: &mut Vec<DomainConfig>,
    _: &mut dyn FnMut(Problem),
) {
}
