//! Whatever the conditions and the times, nothing panics and no packet goes uncounted.

use core::time::Duration;

use netplay_protocol::Now;
use netplay_simnet::{Conditions, Jitter, Loss, Network, Pipe, PipeStats, Rate, Reorder, Surge};
use proptest::collection::vec;
use proptest::num::f64::ANY;
use proptest::prelude::*;

fn probability() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => 0.0..=1.0_f64,
        1 => ANY,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1.0]),
    ]
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => (0..200_000_u64).prop_map(Duration::from_micros),
        1 => any::<u64>().prop_map(Duration::from_secs),
        1 => Just(Duration::MAX),
    ]
}

fn jitter() -> impl Strategy<Value = Jitter> {
    prop_oneof![
        Just(Jitter::None),
        duration().prop_map(|max| Jitter::Independent { max }),
        (duration(), probability())
            .prop_map(|(max, correlation)| Jitter::Clumped { max, correlation }),
        duration().prop_map(|p95| Jitter::Queues { p95 }),
    ]
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::None),
        probability().prop_map(|probability| Loss::Random { probability }),
        (probability(), probability(), probability(), probability()).prop_map(
            |(enter, leave, loss_good, loss_bad)| Loss::Bursts {
                enter,
                leave,
                loss_good,
                loss_bad,
            }
        ),
    ]
}

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![0..200_000_u64, any::<u64>(), Just(u64::MAX)]
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let reorder =
        (probability(), duration()).prop_map(|(probability, extra)| Reorder { probability, extra });
    let rate = (bytes(), bytes())
        .prop_map(|(bytes_per_second, queue_bytes)| Rate { bytes_per_second, queue_bytes });
    let surge = (duration(), duration(), duration()).prop_map(|(every, lasts, max)| Surge {
        every,
        lasts,
        max,
    });
    let (reorder, rate, surge) =
        (prop::option::of(reorder), prop::option::of(rate), prop::option::of(surge));
    (duration(), jitter(), loss(), probability(), reorder, rate, surge).prop_map(
        |(delay, jitter, loss, duplicate, reorder, rate, surge)| Conditions {
            delay,
            jitter,
            loss,
            duplicate,
            reorder,
            rate,
            surge,
        },
    )
}

/// What a text can tell.
fn whole_microseconds(mut conditions: Conditions) -> Conditions {
    let cut = |duration: &mut Duration| {
        *duration = Duration::new(duration.as_secs(), duration.subsec_micros() * 1000);
    };
    cut(&mut conditions.delay);
    if let Jitter::Independent { max: time }
    | Jitter::Clumped { max: time, .. }
    | Jitter::Queues { p95: time } = &mut conditions.jitter
    {
        cut(time);
    }
    if let Some(Surge { every, lasts, max }) = &mut conditions.surge {
        [every, lasts, max].into_iter().for_each(cut);
    }
    if let Some(reorder) = &mut conditions.reorder {
        cut(&mut reorder.extra);
    }
    conditions
}

#[derive(Clone, Debug)]
enum Step {
    Send { now: u64, len: u64 },
    Poll { now: u64 },
    Change(Box<Conditions>),
    Cut,
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..1_000_000_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (time(), bytes()).prop_map(|(now, len)| Step::Send { now, len }),
        6 => time().prop_map(|now| Step::Poll { now }),
        1 => conditions().prop_map(|conditions| Step::Change(Box::new(conditions))),
        1 => Just(Step::Cut),
    ]
}

fn accounted(stats: PipeStats, in_flight: usize) -> bool {
    let ended = stats.delivered + stats.lost + stats.overflowed;
    ended + in_flight as u64 == stats.sent + stats.duplicated
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pipe_accounts_for_every_packet(
        conditions in conditions(),
        seed in any::<u64>(),
        steps in vec(step(), 0..120),
    ) {
        let mut pipe = Pipe::new(conditions, seed);
        let (mut sent, mut delivered) = (0, 0);
        for step in steps {
            match step {
                Step::Send { now, len } => {
                    pipe.send(Now::from_micros(now), len as usize, sent);
                    sent += 1;
                }
                Step::Poll { now } => {
                    while pipe.poll(Now::from_micros(now)).is_some() {
                        delivered += 1;
                    }
                    prop_assert!(pipe.next_deadline().is_none_or(|due| due.as_micros() > now));
                }
                Step::Change(conditions) => pipe.set_conditions(*conditions),
                Step::Cut => pipe.cut(),
            }
            let stats = pipe.stats();
            prop_assert!(accounted(stats, pipe.in_flight()), "{:?}", stats);
            prop_assert_eq!((stats.sent, stats.delivered), (sent, delivered));
            prop_assert_eq!(stats.in_flight(), pipe.in_flight() as u64);
            prop_assert_eq!(pipe.next_deadline().is_none(), pipe.in_flight() == 0);
            prop_assert!(pipe.bytes_in_flight() <= Pipe::<u64>::MAX_BYTES_IN_FLIGHT);
            prop_assert!(pipe.in_flight() > 0 || pipe.bytes_in_flight() == 0);
        }
    }

    #[test]
    fn a_network_accounts_for_every_packet(
        conditions in conditions(),
        seed in any::<u64>(),
        steps in vec((step(), 0..4_u8, 0..4_u8, any::<bool>()), 0..120),
    ) {
        let mut network = Network::new(conditions, seed, |node: u8| u64::from(node));
        for (step, from, to, blocked) in steps {
            match step {
                Step::Send { now, len } => {
                    network.send(Now::from_micros(now), from, to, len as usize, (from, to));
                }
                Step::Poll { now } => {
                    while let Some(delivery) = network.poll(Now::from_micros(now)) {
                        prop_assert_eq!((delivery.from, delivery.to), delivery.item);
                        prop_assert!(!network.is_blocked(delivery.from, delivery.to));
                    }
                }
                Step::Change(conditions) => network.set_conditions(from, to, *conditions),
                Step::Cut if from == to => network.remove(from),
                Step::Cut => network.block(from, to, blocked),
            }
            let stats = network.total_stats();
            prop_assert!(accounted(stats, network.in_flight()), "{:?}", stats);
        }
    }

    #[test]
    fn the_text_of_conditions_gives_the_same_conditions(conditions in conditions()) {
        let text = conditions.to_string();
        let parsed: Conditions = text.parse().expect("what is displayed is allowed");
        prop_assert_eq!(&parsed, &whole_microseconds(conditions.validated()), "{}", &text);
        prop_assert_eq!(parsed.to_string(), text);
    }

    #[test]
    fn any_text_is_conditions_or_an_error_that_names_a_part_of_it(
        text in prop_oneof![
            ".{0,40}",
            "((delay|jitter|loss|burst|duplicate|reorder|rate|wifi)(=[0-9.]{0,5}(%|ms|kB|/|e)?){0,2},?){0,6}",
        ],
    ) {
        match text.parse::<Conditions>() {
            Ok(conditions) => prop_assert_eq!(conditions.clone().validated(), conditions),
            Err(error) => {
                prop_assert!(text.contains(&error.part), "{}", error);
                prop_assert!(!error.allowed.is_empty());
            }
        }
    }

    #[test]
    fn bursts_of_a_mean_length_lose_what_they_are_asked_to(
        percent in 1..=50_u32,
        length in 1..=100_u32,
    ) {
        let text = format!("loss={percent}%,burst={length}");
        let conditions: Conditions = text.parse().expect("so much fits into bursts of any length");
        prop_assert!((conditions.mean_loss() - f64::from(percent) / 100.0).abs() < 1e-9);
    }

    #[test]
    fn validated_conditions_are_probabilities_and_stay_as_they_are(conditions in conditions()) {
        let validated = conditions.validated();
        prop_assert_eq!(validated.clone().validated(), validated.clone());
        prop_assert!((0.0..=1.0).contains(&validated.duplicate));
        prop_assert!((0.0..=1.0).contains(&validated.mean_loss()));
    }
}
