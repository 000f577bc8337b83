//! The store over the wire: every test is a client.

mod errors;
mod hostile;
mod model;
mod policy;
mod requests;
mod rings;
mod transactions;
mod watches;

use crate::support;

/// Cases of a property: as many as there are anywhere, ten times that without debug assertions.
fn cases() -> u32 {
    let usual = proptest::test_runner::Config::default().cases;
    usual.saturating_mul(if cfg!(debug_assertions) { 1 } else { 10 })
}
