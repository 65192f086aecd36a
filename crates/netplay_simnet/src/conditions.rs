//! What one direction of one path does to packets.
//!
//! Guaranteed: [`Conditions::validated`] makes any value usable, and everything that takes
//! [`Conditions`] applies it. Not guaranteed: that a value survives that unchanged.

use core::time::Duration;

/// What one direction of one path does to packets.
///
/// A packet meets the parts in this order: rate, loss, duplication, then delay, jitter and reordering
/// for each copy. All times are for one direction: a round trip pays both.
///
/// Probabilities are 0 to 1. Durations count in whole microseconds; the rest is cut off.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// How long every packet travels at least.
    pub delay: Duration,
    /// What is added to the delay of some packets.
    pub jitter: Jitter,
    /// Which packets never arrive.
    pub loss: Loss,
    /// The probability that a packet that is not lost arrives twice.
    ///
    /// The copy draws its own jitter and reordering, and takes nothing from the rate.
    pub duplicate: f64,
    /// Packets that are held back so that later ones overtake them. `None`: no packet is.
    pub reorder: Option<Reorder>,
    /// How many bytes pass in a second. `None`: without limit.
    pub rate: Option<Rate>,
    /// Times in which everything is late. `None`: there are none.
    pub surge: Option<Surge>,
}

/// What is added to the delay of some packets.
#[derive(Clone, Debug, PartialEq)]
pub enum Jitter {
    /// Nothing: packets arrive in the order they were sent.
    None,
    /// Each packet gets its own extra delay, so packets may overtake each other.
    Independent {
        /// The largest extra delay; it is uniform from zero to this.
        max: Duration,
    },
    /// Neighbours share an extra delay, and a late packet holds back those behind it, as on a radio
    /// link that retransmits: packets arrive in clumps but do not overtake each other.
    Clumped {
        /// The largest extra delay; a new one is uniform from zero to this.
        max: Duration,
        /// The probability that a packet takes the extra delay of the packet before it.
        correlation: f64,
    },
    /// Each packet gets its own extra delay, as from the queues on a long way: never below zero, mostly
    /// small, at times long (a gamma distribution of shape 2).
    Queues {
        /// 95 of 100 packets are delayed by less; one in a thousand by twice as much.
        p95: Duration,
    },
}

/// Which packets never arrive.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// All arrive.
    None,
    /// Each packet is lost on its own.
    Random {
        /// The probability that a packet is lost.
        probability: f64,
    },
    /// The Gilbert–Elliott model: the path is in a good or a bad state, starts good, and may change
    /// state before each packet.
    Bursts {
        /// The probability to go from good to bad.
        enter: f64,
        /// The probability to go from bad to good: the bad state lasts `1 / leave` packets on average.
        leave: f64,
        /// The probability that a packet is lost in the good state.
        loss_good: f64,
        /// The probability that a packet is lost in the bad state.
        loss_bad: f64,
    },
}

/// Packets that are held back so that later ones overtake them.
#[derive(Clone, Debug, PartialEq)]
pub struct Reorder {
    /// The probability that a packet is held back.
    pub probability: f64,
    /// How much later than otherwise it arrives.
    pub extra: Duration,
}

/// Times in which everything is late: somebody else fills the queue of the access link.
#[derive(Clone, Debug, PartialEq)]
pub struct Surge {
    /// Mean time from one beginning to the next, exponentially distributed.
    pub every: Duration,
    /// How long each lasts.
    pub lasts: Duration,
    /// The largest extra delay; each surge has its own, uniform from zero to this.
    pub max: Duration,
}

/// A bottleneck that sends one packet after another, with a queue in front of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// How many bytes pass in a second. At zero every packet overflows.
    pub bytes_per_second: u64,
    /// How many bytes may wait, with what remains of the packet that is being sent.
    ///
    /// A packet that does not fit is dropped. One that finds the bottleneck idle always passes,
    /// however large.
    pub queue_bytes: u64,
}

impl Conditions {
    /// Every packet arrives once and at once.
    pub const fn perfect() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Jitter::None,
            loss: Loss::None,
            duplicate: 0.0,
            reorder: None,
            rate: None,
            surge: None,
        }
    }

    /// A wired local network: 0.3 ms, 0.2 ms of independent jitter, no loss, no rate limit.
    ///
    /// The numbers of all presets are chosen as plausible, not measured.
    pub const fn lan() -> Self {
        Self {
            delay: Duration::from_micros(300),
            jitter: Jitter::Independent { max: Duration::from_micros(200) },
            ..Self::perfect()
        }
    }

    /// Home Wi-Fi, then the internet within a country.
    ///
    /// 15 ms, up to 10 ms of clumped jitter (correlation 0.6), 0.4 % loss in bursts (enter 0.002,
    /// leave 0.3, loss 0 and 0.6), 2 500 000 bytes per second (20 Mbit/s) with a queue of 128 000
    /// bytes (51 ms).
    pub const fn wifi() -> Self {
        Self {
            delay: Duration::from_millis(15),
            jitter: Jitter::Clumped { max: Duration::from_millis(10), correlation: 0.6 },
            loss: Loss::Bursts { enter: 0.002, leave: 0.3, loss_good: 0.0, loss_bad: 0.6 },
            rate: Some(Rate { bytes_per_second: 2_500_000, queue_bytes: 128_000 }),
            ..Self::perfect()
        }
    }

    /// A phone on a mobile network.
    ///
    /// 45 ms, up to 40 ms of clumped jitter (correlation 0.8), 1.4 % loss in bursts (enter 0.005,
    /// leave 0.2, loss 0.002 and 0.5), 0.2 % of packets held back by 20 ms, 500 000 bytes per
    /// second (4 Mbit/s) with a queue of 100 000 bytes (200 ms).
    pub const fn mobile() -> Self {
        Self {
            delay: Duration::from_millis(45),
            jitter: Jitter::Clumped { max: Duration::from_millis(40), correlation: 0.8 },
            loss: Loss::Bursts { enter: 0.005, leave: 0.2, loss_good: 0.002, loss_bad: 0.5 },
            duplicate: 0.0,
            reorder: Some(Reorder { probability: 0.002, extra: Duration::from_millis(20) }),
            rate: Some(Rate { bytes_per_second: 500_000, queue_bytes: 100_000 }),
            surge: None,
        }
    }

    /// The crowded Wi-Fi of a bad hotel: about the worst that a game should survive.
    ///
    /// 80 ms, up to 120 ms of clumped jitter (correlation 0.85), 5.5 % loss in bursts (enter 0.02,
    /// leave 0.2, loss 0.01 and 0.5), 0.5 % duplicates, 1 % of packets held back by 40 ms, 60 000
    /// bytes per second (480 kbit/s) with a queue of 30 000 bytes (500 ms).
    pub const fn bad_hotel() -> Self {
        Self {
            delay: Duration::from_millis(80),
            jitter: Jitter::Clumped { max: Duration::from_millis(120), correlation: 0.85 },
            loss: Loss::Bursts { enter: 0.02, leave: 0.2, loss_good: 0.01, loss_bad: 0.5 },
            duplicate: 0.005,
            reorder: Some(Reorder { probability: 0.01, extra: Duration::from_millis(40) }),
            rate: Some(Rate { bytes_per_second: 60_000, queue_bytes: 30_000 }),
            surge: None,
        }
    }

    /// The presets with the names by which [`str::parse`] knows them, the best first.
    pub const PRESETS: [(&'static str, Self); 5] = [
        ("perfect", Self::perfect()),
        ("lan", Self::lan()),
        ("wifi", Self::wifi()),
        ("mobile", Self::mobile()),
        ("bad-hotel", Self::bad_hotel()),
    ];

    /// Paths on which clock filters are compared, with their names: a local network, no delay at all,
    /// a round trip of 60 ms with queues of 20 ms, one of 80 ms with surges of up to 180 ms, and one of
    /// 120 ms with queues of 50 ms and 5 % loss.
    pub const CLOCK_PROFILES: [(&'static str, Self); 5] = {
        [
            ("lan", Self::lan()),
            ("zero", Self::perfect()),
            (
                "rtt60_j20",
                Self::perfect()
                    .with_delay(Duration::from_millis(30))
                    .with_queues(Duration::from_millis(20)),
            ),
            (
                "rtt80_bursty",
                Self::perfect()
                    .with_delay(Duration::from_millis(40))
                    .with_queues(Duration::from_millis(8))
                    .with_surges(
                        Duration::from_millis(3000),
                        Duration::from_millis(300),
                        Duration::from_millis(180),
                    ),
            ),
            (
                "rtt120_j50_loss5",
                Self::perfect()
                    .with_delay(Duration::from_millis(60))
                    .with_queues(Duration::from_millis(50))
                    .with_loss(0.05),
            ),
        ]
    };

    /// Sets the delay of every packet.
    #[must_use]
    pub const fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets an extra delay of zero to `max`, drawn for each packet on its own.
    #[must_use]
    pub const fn with_jitter(mut self, max: Duration) -> Self {
        self.jitter = Jitter::Independent { max };
        self
    }

    /// Sets an extra delay of zero to `max` that a packet shares with the one before it with the
    /// probability `correlation`; see [`Jitter::Clumped`].
    #[must_use]
    pub const fn with_clumped_jitter(mut self, max: Duration, correlation: f64) -> Self {
        self.jitter = Jitter::Clumped { max, correlation };
        self
    }

    /// Sets an extra delay as from queues; see [`Jitter::Queues`].
    #[must_use]
    pub const fn with_queues(mut self, p95: Duration) -> Self {
        self.jitter = Jitter::Queues { p95 };
        self
    }

    /// Makes everything late now and then; see [`Surge`].
    #[must_use]
    pub const fn with_surges(mut self, every: Duration, lasts: Duration, max: Duration) -> Self {
        self.surge = Some(Surge { every, lasts, max });
        self
    }

    /// Loses each packet on its own with this probability.
    #[must_use]
    pub const fn with_loss(mut self, probability: f64) -> Self {
        self.loss = Loss::Random { probability };
        self
    }

    /// Loses nothing in the good state and everything in the bad one; see [`Loss::Bursts`].
    #[must_use]
    pub const fn with_bursts(mut self, enter: f64, leave: f64) -> Self {
        self.loss = Loss::Bursts { enter, leave, loss_good: 0.0, loss_bad: 1.0 };
        self
    }

    /// Delivers a packet twice with this probability.
    #[must_use]
    pub const fn with_duplicates(mut self, probability: f64) -> Self {
        self.duplicate = probability;
        self
    }

    /// Holds a packet back by `extra` with this probability.
    #[must_use]
    pub const fn with_reorder(mut self, probability: f64, extra: Duration) -> Self {
        self.reorder = Some(Reorder { probability, extra });
        self
    }

    /// Limits the rate; `queue_bytes` may wait, the rest is dropped. See [`Rate`].
    #[must_use]
    pub const fn with_rate(mut self, bytes_per_second: u64, queue_bytes: u64) -> Self {
        self.rate = Some(Rate { bytes_per_second, queue_bytes });
        self
    }

    /// The same with every probability clamped to 0 to 1, and 0 where it was not a number.
    #[must_use]
    pub fn validated(mut self) -> Self {
        if let Jitter::Clumped { correlation, .. } = &mut self.jitter {
            clamp(correlation);
        }
        match &mut self.loss {
            Loss::None => {}
            Loss::Random { probability } => clamp(probability),
            Loss::Bursts { enter, leave, loss_good, loss_bad } => {
                [enter, leave, loss_good, loss_bad].into_iter().for_each(clamp);
            }
        }
        clamp(&mut self.duplicate);
        if let Some(reorder) = &mut self.reorder {
            clamp(&mut reorder.probability);
        }
        self
    }

    /// The share of packets that the loss model loses in the long run, 0 to 1.
    ///
    /// What overflows a rate limit comes on top.
    pub fn mean_loss(&self) -> f64 {
        match self.clone().validated().loss {
            Loss::None => 0.0,
            Loss::Random { probability } => probability,
            // The path starts good and never leaves it.
            Loss::Bursts { enter: 0.0, loss_good, .. } => loss_good,
            Loss::Bursts { enter, leave, loss_good, loss_bad } => {
                (enter * loss_bad + leave * loss_good) / (enter + leave)
            }
        }
    }
}

impl Default for Conditions {
    /// [`Conditions::perfect`].
    fn default() -> Self {
        Self::perfect()
    }
}

fn clamp(probability: &mut f64) {
    *probability = if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_clamps_every_probability() {
        let wild = Conditions {
            jitter: Jitter::Clumped { max: Duration::MAX, correlation: f64::INFINITY },
            loss: Loss::Bursts {
                enter: f64::NAN,
                leave: -1.0,
                loss_good: 2.0,
                loss_bad: f64::NEG_INFINITY,
            },
            ..Conditions::perfect().with_duplicates(f64::NAN).with_reorder(7.0, Duration::MAX)
        };
        let tame = Conditions {
            jitter: Jitter::Clumped { max: Duration::MAX, correlation: 1.0 },
            loss: Loss::Bursts { enter: 0.0, leave: 0.0, loss_good: 1.0, loss_bad: 0.0 },
            ..Conditions::perfect().with_reorder(1.0, Duration::MAX)
        };
        assert_eq!(wild.validated(), tame);
        let random = Conditions::perfect().with_loss(f64::NAN).validated();
        assert_eq!(random, Conditions::perfect().with_loss(0.0));
    }

    #[test]
    fn presets_are_valid_and_lose_what_their_documentation_says() {
        let presets = [
            ("perfect", 0.0),
            ("lan", 0.0),
            ("wifi", 0.004),
            ("mobile", 0.014),
            ("bad-hotel", 0.055),
        ];
        for ((name, loss), (preset_name, preset)) in presets.into_iter().zip(Conditions::PRESETS) {
            assert_eq!(name, preset_name);
            assert_eq!(preset.clone().validated(), preset);
            assert!((preset.mean_loss() - loss).abs() < 0.0006, "{preset:?}");
        }
    }

    #[test]
    fn mean_loss_is_a_number_when_the_path_never_changes_state() {
        assert_eq!(Conditions::perfect().with_bursts(0.0, 0.0).mean_loss(), 0.0);
        assert_eq!(Conditions::perfect().with_bursts(0.1, 0.0).mean_loss(), 1.0);
    }
}
