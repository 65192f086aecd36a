//! A seeded virtual network with a virtual clock.
