//! Event channels (`xen/include/public/event_channel.h`, `xen/common/event_channel.c`), by the 2-level and
//! the FIFO ABI.
//!
//! * [`channel`]: what a port is bound to, packed into one atomic word, so that a sender needs no lock.
//! * [`table`]: the words of a domain and the lock under which they change.
//! * [`deliver`]: pending bits, selector, upcall: the 2-level ABI (`xen/common/event_2l.c`).
//! * [`fifo`]: words, queues and control blocks of the FIFO ABI; [`fifo_calls`]: its hypercalls.
//! * [`bind`]: making and closing ports, between two domains too.
//! * [`fixed`]: channels that the device tree makes.
//! * [`calls`]: the hypercall.

mod bind;
mod calls;
mod channel;
mod deliver;
mod fifo;
mod fifo_calls;
mod fixed;
mod table;

pub(crate) use calls::call;
pub use calls::{announce, begin_send, send_event, send_event_traced, send_port};
pub(crate) use channel::Binding;
pub use channel::Service;
pub use deliver::{Announcement, Begun};
pub use fifo::PAGES as FIFO_PAGES;
pub use fixed::StaticChannel;
pub(crate) use table::Events;
