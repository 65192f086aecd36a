//! The life of one peer: lobby connection and peer links as pure state machines.
