//! How long to wait before a server is tried again.

use core::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The first pause is anything up to this: players whose server has died spread their first wave over it,
/// and one whose own socket has died is back within a second if the server is less than 80 ms away.
pub(crate) const FIRST_SPREAD: Duration = Duration::from_millis(750);
/// What each later pause is a multiple of: doubles with each failure up to the cap.
pub(crate) const BACKOFF: Duration = Duration::from_millis(250);
/// Longest pause, half as much again at most: after a restart of the server everybody is back within
/// 7.5 s, and twenty thousand players do not come all at once.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Pauses that grow with each failure, and are spread over the players.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    rng: ChaCha8Rng,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The server was reached.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// It was not, or is away: the pause before the next try.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let share = f64::from(self.rng.next_u32()) / 4_294_967_296.0;
        let pause = if self.failures == 0 {
            FIRST_SPREAD.mul_f64(share)
        } else {
            // Half to one-and-a-half of the exponential pause, so that many players spread out.
            let pause = (BACKOFF * 2_u32.saturating_pow(self.failures.min(10))).min(BACKOFF_MAX);
            pause / 2 + pause.mul_f64(share)
        };
        self.failures = self.failures.saturating_add(1);
        pause
    }
}
