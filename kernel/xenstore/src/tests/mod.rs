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
