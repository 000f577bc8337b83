//! The store over the wire: every test is a client.

mod errors;
mod hostile;
mod model;
mod policy;
mod requests;
mod rings;
mod support;
mod transactions;
mod watches;
