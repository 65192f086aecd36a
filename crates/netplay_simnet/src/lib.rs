//! A seeded virtual network on a virtual clock.
//!
//! | type | what it simulates |
//! |---|---|
//! | [`Conditions`] | what one direction of one path does to packets: plain numbers |
//! | [`Pipe`] | one direction of one path for datagrams, with those conditions |
//! | [`OrderedPipe`] | one direction of a reliable ordered stream: a delay and nothing else |
//! | [`Network`] | every direction between any number of nodes, delivered in one global order |
//! | [`DriftingClock`] | what a node takes for the time: an offset, a drift, pauses |
//!
//! [`Conditions`] have a text form, for flags: `wifi`, or `delay=40ms,loss=5%`; see
//! [`Conditions::from_str`](Conditions#impl-FromStr-for-Conditions).
//!
//! All are driven the same way: `send(now, …)`, then `poll(now)` until it returns `None`, then wait
//! until `next_deadline()`. Time is whatever the caller passes: a test jumps from deadline to
//! deadline, a game passes its real clock.
//!
//! Guaranteed: the same seed and the same calls give the same run, on every platform; no value of
//! [`Conditions`] and no order of times panics; once warm, sending and polling allocate nothing.
//! Nothing here reads a clock or draws from a random source other than the seed.
//! Not guaranteed: that the same seed gives the same run in another version of this crate, or that
//! the model is a faithful copy of any real network. Corruption, fragmentation, address translation
//! and congestion shared between paths are not modelled.
//!
//! # Examples
//!
//! ```
//! use core::time::Duration;
//! use netplay_protocol::Now;
//! use netplay_simnet::{Conditions, Network};
//!
//! let conditions = Conditions::perfect().with_delay(Duration::from_millis(30));
//! let mut network = Network::new(conditions, 7, |node: u32| u64::from(node));
//! network.send(Now::ZERO, 1, 2, 4, "ping");
//!
//! let due = network.next_deadline().expect("one packet is in flight");
//! assert_eq!(due, Now::from_millis(30));
//! let delivery = network.poll(due).expect("the packet is due");
//! assert_eq!((delivery.from, delivery.to, delivery.item), (1, 2, "ping"));
//! ```

#![forbid(unsafe_code)]

mod clock;
mod conditions;
mod network;
mod ordered;
mod path;
mod pipe;
mod queue;
mod spec;

pub use clock::DriftingClock;
pub use conditions::{Conditions, Jitter, Loss, Rate, Reorder, Surge};
pub use network::{Delivery, Network, mix_seed};
pub use ordered::OrderedPipe;
pub use path::PipeStats;
pub use pipe::Pipe;
pub use spec::InvalidConditions;
