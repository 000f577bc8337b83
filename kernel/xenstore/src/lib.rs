//! Xenstore (`docs/misc/xenstore.txt`, `xenstore-ring.txt`, `xen/include/public/io/xs_wire.h`): the tree of
//! names and values in which guests and hypervisor tell each other what they have.
//!
//! A [`Store`] serves all domains. Each has a ring in a page that it shares with the store, and may write there
//! what it likes at any time: what is read from the page is copied once, and a ring that makes no sense is left
//! alone until the guest asks for a new start. The hypervisor is a client as well, domain 0, by
//! [`Store::ask`]: privileged, and without a ring.
//!
//! **Memory.** All that a domain can make the store keep (nodes, values, watches, transactions, events that
//! wait) lies in blocks of 64 bytes, whose number is fixed when the domain is added: nothing is allocated
//! or freed afterwards, and one domain's blocks are no other's. A node is charged to the domain that
//! made it; what the hypervisor makes below `/local/domain/N`, to N.
//!
//! **Time.** Work is done in steps, [`Store::step`]. One moves at most a ring's worth of bytes each way, executes at
//! most one request, compares a change with some thirty watches, carries out a dozen changes of a transaction,
//! or frees some hundred nodes. A request is executed in one piece: nobody sees half of it. Nor half of a
//! transaction: once it has begun to be carried out, nothing else is done by anybody. The removal of a subtree
//! takes it out of sight at once, and its nodes are freed in steps, likewise before anything else. Watch
//! events are put into each receiver's own queue; where that is full, the watch itself remembers that it has
//! fired.
#![cfg_attr(not(any(test, fuzzing)), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(test, fuzzing)),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;

mod arena;
mod commit;
mod connection;
mod domains;
#[cfg(any(test, fuzzing))]
pub mod exercise;
mod list;
mod node;
mod path;
mod permissions;
mod request;
mod ring;
mod store;
#[cfg(any(test, fuzzing))]
#[path = "tests/support.rs"]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "fuzzing uses less of it than the tests")
)]
mod support;
#[cfg(test)]
mod tests;
mod transaction;
mod tree;
mod watch;

pub use domains::{AddError, Quota};
pub use ring::{Page, SharedPage};
pub use store::{Step, Store};
