//! Random numbers that are the same on every machine, and again in a tick that is run again.

use core::convert::Infallible;

use bevy_ecs::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng, TryRng};
use serde::{Deserialize, Serialize};

/// A random number generator for the simulation; rolled back.
///
/// In a match it begins with a seed that all machines have; else with 0. It is a generator of `rand_core`
/// 0.10 (ChaCha with 8 rounds), so that `rand` 0.10 works with it. Draw in the same order on every machine:
/// in systems that have an order, and for entities sorted by [`RollbackId`](super::RollbackId).
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_netplay::rollback::TickRng;
/// fn weather(mut rng: ResMut<TickRng>) {
///     if rng.below(600) == 0 {
///         // Lightning, once in ten seconds or so.
///     }
/// }
/// ```
#[derive(Resource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickRng(ChaCha8Rng);

impl Default for TickRng {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl TickRng {
    /// A generator with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `end`, each with the same chance but for 2⁻³²; 0 if `end` is 0.
    pub fn below(&mut self, end: u32) -> u32 {
        let product = u64::from(self.0.next_u32()) * u64::from(end);
        (product >> 32) as u32
    }

    /// A number from 0 to below 1, in steps of 2⁻²⁴.
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1_u32 << 24) as f32
    }
}

impl TryRng for TickRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_everywhere_and_in_their_range() {
        let mut rng = TickRng::seeded(7);
        let first: Vec<u32> = (0..4).map(|_| rng.below(1000)).collect();
        // Written down: another machine, or a later version, has to draw the same.
        assert_eq!(first, [140, 157, 182, 167]);
        assert!((0..1000).all(|_| rng.below(6) < 6 && (0.0..1.0).contains(&rng.unit())));
        assert_eq!(rng.below(0), 0);
    }
}
