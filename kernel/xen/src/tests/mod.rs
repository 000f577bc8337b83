//! Tests of the hypercalls as a guest makes them, on a machine made of vectors.

mod balloon;
mod boot;
mod console;
mod control;
mod coverage;
mod events;
mod events_model;
mod fifo;
mod grants;
mod grants_model;
mod hvm;
mod interdomain;
mod memory;
mod multicall;
mod one_grant;
mod policy;
mod races;
mod random;
mod restart;
mod sched;
mod vcpu;
mod version;
mod vpl011;

use crate::support;
