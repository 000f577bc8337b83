//! The hypervisor's binary trace, read on a workstation.
//!
//! What the machine sent, or lines of hexadecimal digits among other text, become [`Record`]s by the format strings in
//! the hypervisor's ELF file. From them: text, a [`Summary`], and a timeline ([`timeline`]).

#![forbid(unsafe_code)]

mod event;
mod follow;
mod histogram;
mod input;
pub mod settings;
mod summary;
pub mod timeline;

pub use defmt_decoder::Table;
pub use event::{Event, Reason, State, Who};
pub use follow::{Activity, Span, follow};
pub use histogram::Histogram;
pub use input::{Record, Trace};
pub use summary::Summary;
