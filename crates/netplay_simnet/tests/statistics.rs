//! What a pipe does to many packets matches the numbers in its conditions.

use core::time::Duration;

use netplay_protocol::Now;
use netplay_simnet::{Conditions, Jitter, Loss, Pipe};

const SEEDS: [u64; 4] = [1, 2, 3, 0xdead_beef];
const PACKETS: u64 = 20_000;
const GAP: Duration = Duration::from_millis(1);
const LEN: usize = 100;

/// A packet's number, when it was sent and when it arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Arrival {
    number: u64,
    sent: Now,
    arrived: Now,
}

impl Arrival {
    fn took(&self) -> Duration {
        self.arrived.since(self.sent)
    }
}

/// Sends a packet every millisecond and returns the arrivals, in order.
fn run(conditions: Conditions, seed: u64) -> (Vec<Arrival>, Pipe<(u64, Now)>) {
    let mut pipe = Pipe::new(conditions, seed);
    let mut arrivals = Vec::new();
    let mut now = Now::ZERO;
    for number in 0..PACKETS {
        drain(&mut pipe, now, &mut arrivals);
        pipe.send(now, LEN, (number, now));
        now = now + GAP;
    }
    drain(&mut pipe, now + Duration::from_secs(60), &mut arrivals);
    assert_eq!(pipe.in_flight(), 0);
    (arrivals, pipe)
}

/// Takes what arrives until `end`, each packet at the moment it is due.
fn drain(pipe: &mut Pipe<(u64, Now)>, end: Now, arrivals: &mut Vec<Arrival>) {
    while let Some(due) = pipe.next_deadline().filter(|due| *due <= end) {
        assert!(
            due == Now::ZERO || pipe.poll(due - Duration::from_micros(1)).is_none(),
            "nothing arrives before its deadline"
        );
        let (number, sent) = pipe.poll(due).expect("the deadline has come");
        arrivals.push(Arrival { number, sent, arrived: due });
    }
}

fn is_in_order(arrivals: &[Arrival]) -> bool {
    arrivals.is_sorted_by_key(|arrival| arrival.number)
}

/// The lengths of the runs of lost packets, between packets that arrived.
fn loss_runs(arrivals: &[Arrival]) -> Vec<u64> {
    arrivals
        .windows(2)
        .map(|pair| pair[1].number - pair[0].number - 1)
        .filter(|length| *length > 0)
        .collect()
}

fn share(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}

fn assert_near(what: &str, measured: f64, expected: f64, tolerance: f64) {
    assert!(
        (measured - expected).abs() <= tolerance,
        "{what}: {measured} is not {expected} ± {tolerance}"
    );
}

#[test]
fn perfect_conditions_deliver_everything_at_once_and_in_order() {
    let (arrivals, pipe) = run(Conditions::perfect(), 1);
    assert_eq!(arrivals.len() as u64, PACKETS);
    assert!(is_in_order(&arrivals));
    assert!(arrivals.iter().all(|a| a.took().is_zero()));
    assert_eq!(pipe.stats().delivered, PACKETS);
}

#[test]
fn random_loss_is_as_frequent_as_asked() {
    for seed in SEEDS {
        println!("seed {seed}");
        let (arrivals, pipe) = run(Conditions::perfect().with_loss(0.05), seed);
        assert_near("loss", share(pipe.stats().lost, PACKETS), 0.05, 0.007);
        let runs = loss_runs(&arrivals);
        let mean = share(runs.iter().sum(), runs.len() as u64);
        assert_near("run of losses", mean, 1.0 / 0.95, 0.05);
    }
}

#[test]
fn burst_loss_matches_the_gilbert_elliott_model() {
    let (enter, leave) = (0.02, 0.2);
    for seed in SEEDS {
        println!("seed {seed}");
        let conditions = Conditions::perfect().with_bursts(enter, leave);
        let expected = conditions.mean_loss();
        let (arrivals, pipe) = run(conditions, seed);
        assert_near("loss", share(pipe.stats().lost, PACKETS), expected, expected * 0.15);
        let runs = loss_runs(&arrivals);
        let mean = share(runs.iter().sum(), runs.len() as u64);
        assert_near("burst", mean, 1.0 / leave, 0.15 / leave);
    }
}

#[test]
fn burst_loss_in_part_matches_its_mean() {
    for seed in SEEDS {
        println!("seed {seed}");
        let conditions = Conditions {
            loss: Loss::Bursts { enter: 0.05, leave: 0.25, loss_good: 0.01, loss_bad: 0.5 },
            ..Conditions::perfect()
        };
        let expected = conditions.mean_loss();
        let (_, pipe) = run(conditions, seed);
        assert_near("loss", share(pipe.stats().lost, PACKETS), expected, expected * 0.15);
    }
}

#[test]
fn independent_jitter_stays_in_bounds_is_uniform_and_overtakes() {
    let (delay, max) = (Duration::from_millis(30), Duration::from_millis(10));
    for seed in SEEDS {
        println!("seed {seed}");
        let conditions = Conditions::perfect().with_delay(delay).with_jitter(max);
        let (arrivals, _) = run(conditions, seed);
        assert_eq!(arrivals.len() as u64, PACKETS);
        assert!(arrivals.iter().all(|a| (delay..=delay + max).contains(&a.took())));
        let total: Duration = arrivals.iter().map(Arrival::took).sum();
        let mean_ms = total.as_secs_f64() * 1000.0 / PACKETS as f64;
        assert_near("mean delay in ms", mean_ms, 35.0, 0.2);
        assert!(!is_in_order(&arrivals));
    }
}

#[test]
fn queues_delay_95_of_100_packets_by_less_than_they_say() {
    for seed in SEEDS {
        let p95 = Duration::from_millis(20);
        let (arrivals, _) = run(Conditions::perfect().with_queues(p95), seed);
        let mut took: Vec<_> = arrivals.iter().map(Arrival::took).collect();
        took.sort();
        let at = |share: f64| took[(took.len() as f64 * share) as usize].as_secs_f64() * 1e3;
        // Quantiles of the gamma distribution of shape 2, in units of its scale.
        let scale = 20.0 / 4.744;
        for (share, expected) in [(0.05, 0.355), (0.5, 1.678), (0.95, 4.744), (0.999, 9.233)] {
            let expected = expected * scale;
            assert_near("quantile", at(share), expected, 0.1 * expected.max(5.0));
        }
    }
}

#[test]
fn surges_come_as_often_and_last_as_long_as_they_say() {
    let [every, lasts, max] = [500, 100, 80].map(Duration::from_millis);
    let conditions = Conditions::perfect().with_surges(every, lasts, max);
    let mut late = 0;
    for seed in SEEDS {
        let (arrivals, _) = run(conditions.clone(), seed);
        assert!(arrivals.iter().all(|arrival| arrival.took() <= max));
        late += arrivals.iter().filter(|arrival| !arrival.took().is_zero()).count() as u64;
    }
    // A surge begins 500 ms after the last one's end, on average.
    let of = PACKETS * SEEDS.len() as u64;
    assert_near("late", share(late, of), 100.0 / 600.0, 0.05);
}

#[test]
fn clumped_jitter_stays_in_bounds_keeps_order_and_arrives_in_clumps() {
    let (delay, max) = (Duration::from_millis(30), Duration::from_millis(10));
    for seed in SEEDS {
        println!("seed {seed}");
        let conditions = Conditions::perfect().with_delay(delay).with_clumped_jitter(max, 0.8);
        let (arrivals, _) = run(conditions, seed);
        assert_eq!(arrivals.len() as u64, PACKETS);
        assert!(arrivals.iter().all(|a| (delay..=delay + max).contains(&a.took())));
        assert!(is_in_order(&arrivals));
        let together =
            arrivals.windows(2).filter(|pair| pair[0].arrived == pair[1].arrived).count();
        assert!(together > 1000, "{together} arrived with the one before");
    }
}

#[test]
fn clumped_jitter_repeats_as_often_as_its_correlation_says() {
    for seed in SEEDS {
        println!("seed {seed}");
        // Below the gap of one millisecond no packet holds back another.
        let conditions = Conditions::perfect().with_clumped_jitter(Duration::from_micros(999), 0.7);
        let (arrivals, _) = run(conditions, seed);
        let same = arrivals.windows(2).filter(|pair| pair[0].took() == pair[1].took()).count();
        assert_near("repeats", share(same as u64, PACKETS), 0.7, 0.02);
    }
}

#[test]
fn duplicates_are_as_frequent_as_asked_and_arrive_after_the_original() {
    for seed in SEEDS {
        println!("seed {seed}");
        let (arrivals, pipe) = run(Conditions::perfect().with_duplicates(0.1), seed);
        let stats = pipe.stats();
        assert_near("duplicates", share(stats.duplicated, PACKETS), 0.1, 0.01);
        assert_eq!(stats.delivered, PACKETS + stats.duplicated);
        assert!(is_in_order(&arrivals));
        let twice = arrivals.windows(2).filter(|pair| pair[0].number == pair[1].number).count();
        assert_eq!(twice as u64, stats.duplicated);
    }
}

#[test]
fn held_back_packets_are_overtaken() {
    let (delay, extra) = (Duration::from_millis(10), Duration::from_micros(3_500));
    for seed in SEEDS {
        println!("seed {seed}");
        let conditions = Conditions::perfect().with_delay(delay).with_reorder(0.05, extra);
        let (arrivals, _) = run(conditions, seed);
        let held = arrivals.iter().filter(|a| a.took() == delay + extra).count();
        let straight = arrivals.iter().filter(|a| a.took() == delay).count();
        assert_eq!((held + straight) as u64, PACKETS);
        assert_near("held back", share(held as u64, PACKETS), 0.05, 0.007);
        let overtaken = arrivals.windows(2).filter(|pair| pair[0].number > pair[1].number).count();
        assert!(overtaken * 10 > held * 8, "{overtaken} of {held}");
    }
}

#[test]
fn order_is_kept_without_jitter() {
    for seed in SEEDS {
        println!("seed {seed}");
        let conditions = Conditions::perfect()
            .with_delay(Duration::from_millis(80))
            .with_loss(0.1)
            .with_duplicates(0.1)
            .with_rate(90_000, 10_000);
        let (arrivals, _) = run(conditions, seed);
        assert!(is_in_order(&arrivals));
    }
}

#[test]
fn rate_limits_throughput_and_drops_what_overflows() {
    let (rate, queue) = (50_000_u64, 10_000);
    // A packet of 100 bytes each millisecond is twice the rate.
    let (arrivals, pipe) = run(Conditions::perfect().with_rate(rate, queue), 1);
    let stats = pipe.stats();
    let (first, last) = (arrivals[0], arrivals[arrivals.len() - 1]);
    let seconds = last.arrived.since(first.arrived).as_secs_f64();
    let throughput = (arrivals.len() - 1) as f64 * LEN as f64 / seconds;
    assert_near("bytes per second", throughput, rate as f64, rate as f64 * 0.03);
    assert_eq!(stats.delivered + stats.overflowed, PACKETS);
    assert_near("overflow", share(stats.overflowed, PACKETS), 0.5, 0.03);
    // The queue holds 0.2 s of data, and that is the longest wait.
    let longest = arrivals.iter().map(Arrival::took).max();
    let longest = longest.expect("packets arrived").as_secs_f64();
    assert_near("longest wait in s", longest, 0.2, 0.006);
}

#[test]
fn a_rate_above_the_traffic_drops_nothing() {
    let (arrivals, pipe) = run(Conditions::perfect().with_rate(200_000, 0), 1);
    assert_eq!(pipe.stats().overflowed, 0);
    assert!(arrivals.iter().all(|a| a.took() == GAP / 2));
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for seed in SEEDS {
        println!("seed {seed}");
        let (first, pipe) = run(Conditions::bad_hotel(), seed);
        let (again, other_pipe) = run(Conditions::bad_hotel(), seed);
        assert_eq!(first, again);
        assert_eq!(pipe.stats(), other_pipe.stats());
        assert_ne!(first, run(Conditions::bad_hotel(), seed + 1).0);
    }
}

#[test]
fn a_change_of_delay_or_jitter_leaves_the_losses_alone() {
    let numbers = |conditions| {
        let (arrivals, _) = run(conditions, 9);
        let mut numbers: Vec<_> = arrivals.iter().map(|a| a.number).collect();
        numbers.sort_unstable();
        numbers
    };
    let quick = Conditions::perfect().with_loss(0.2).with_duplicates(0.1);
    let slow = quick
        .clone()
        .with_delay(Duration::from_millis(90))
        .with_jitter(Duration::from_millis(50))
        .with_reorder(0.5, Duration::from_millis(5));
    assert_eq!(numbers(quick), numbers(slow));
}

#[test]
fn a_change_of_conditions_holds_for_packets_sent_later() {
    let slow = Conditions::perfect().with_delay(Duration::from_millis(100));
    let mut pipe = Pipe::new(slow, 1);
    pipe.send(Now::ZERO, LEN, "early");
    pipe.set_conditions(Conditions::perfect().with_delay(Duration::from_millis(10)));
    pipe.send(Now::from_millis(1), LEN, "late");
    pipe.set_conditions(Conditions::perfect().with_loss(1.0));
    pipe.send(Now::from_millis(2), LEN, "lost");
    assert_eq!(pipe.next_deadline(), Some(Now::from_millis(11)));
    assert_eq!(pipe.poll(Now::from_millis(11)), Some("late"));
    assert_eq!(pipe.poll(Now::from_millis(99)), None);
    assert_eq!(pipe.poll(Now::from_millis(100)), Some("early"));
    assert_eq!(pipe.next_deadline(), None);
    assert_eq!(pipe.stats().lost, 1);
}

#[test]
fn setting_the_same_conditions_again_changes_nothing() {
    let seed = 6;
    println!("seed {seed}");
    let mut left_alone = Pipe::new(Conditions::bad_hotel(), seed);
    let mut set_again = Pipe::new(Conditions::bad_hotel(), seed);
    for number in 0..2000 {
        let now = Now::from_millis(number * 10);
        set_again.set_conditions(Conditions::bad_hotel());
        left_alone.send(now, LEN, number);
        set_again.send(now, LEN, number);
        assert_eq!(left_alone.next_deadline(), set_again.next_deadline());
        assert_eq!(left_alone.poll(now), set_again.poll(now));
    }
    assert_eq!(left_alone.stats(), set_again.stats());
}

#[test]
fn a_cut_loses_what_is_in_flight_and_nothing_later() {
    let mut pipe = Pipe::new(Conditions::bad_hotel().with_loss(0.0), 1);
    (0..50).for_each(|i| pipe.send(Now::ZERO, LEN, i));
    assert!(pipe.in_flight() >= 50);
    pipe.cut();
    assert_eq!((pipe.in_flight(), pipe.next_deadline()), (0, None));
    assert_eq!(pipe.stats().lost, 50 + pipe.stats().duplicated);
    pipe.send(Now::from_millis(1), LEN, 50);
    assert_eq!(pipe.poll(Now::from_millis(1000)), Some(50));
}

#[test]
fn a_cut_empties_the_queue_of_the_rate_limit() {
    let mut pipe = Pipe::new(Conditions::perfect().with_rate(1_000, 1_000), 1);
    (0..10).for_each(|i| pipe.send(Now::ZERO, LEN, i));
    pipe.cut();
    pipe.send(Now::ZERO, LEN, 10);
    assert_eq!(pipe.next_deadline(), Some(Now::from_millis(100)));
}

#[test]
fn a_change_of_conditions_or_a_cut_ends_a_clump() {
    let clumped =
        |millis| Conditions::perfect().with_clumped_jitter(Duration::from_millis(millis), 0.0);
    let mut pipe = Pipe::new(clumped(60_000), 1);
    pipe.send(Now::ZERO, LEN, 0);
    let late = pipe.next_deadline().expect("one packet is in flight");
    assert!(late > Now::from_millis(1));
    pipe.set_conditions(clumped(1));
    pipe.send(Now::ZERO, LEN, 1);
    assert!(pipe.next_deadline() <= Some(Now::from_millis(1)));

    let delayed = clumped(0).with_delay(Duration::from_secs(9));
    pipe.set_conditions(delayed);
    // The clock of a new connection may start again.
    pipe.send(Now::from_millis(5_000), LEN, 2);
    pipe.cut();
    pipe.send(Now::ZERO, LEN, 3);
    assert_eq!(pipe.next_deadline(), Some(Now::from_millis(9_000)));
}

#[test]
fn a_full_pipe_drops_the_newest_packets() {
    let limit = Pipe::<u64>::MAX_IN_FLIGHT;
    let conditions = Conditions::perfect().with_delay(Duration::MAX).with_duplicates(0.5);
    let mut pipe = Pipe::new(conditions, 1);
    (0..limit).for_each(|i| pipe.send(Now::ZERO, LEN, i));
    assert_eq!(pipe.in_flight() as u64, limit);
    assert_eq!(pipe.stats().overflowed, pipe.stats().duplicated);
    assert_eq!(pipe.poll(Now::from_micros(u64::MAX)), Some(0));
}

#[test]
fn a_pipe_that_holds_its_most_bytes_drops_the_newest_packets() {
    const LARGE: usize = 64 * 1024;
    let limit = Pipe::<u64>::MAX_BYTES_IN_FLIGHT;
    let fit = limit / LARGE as u64;
    let mut pipe = Pipe::new(Conditions::perfect().with_delay(Duration::from_secs(1)), 1);
    (0..fit + 3).for_each(|i| pipe.send(Now::ZERO, LARGE, i));
    assert_eq!((pipe.in_flight() as u64, pipe.stats().overflowed), (fit, 3));
    assert_eq!(pipe.bytes_in_flight(), limit);
    assert_eq!(pipe.poll(Now::from_millis(1000)), Some(0));
    pipe.send(Now::from_millis(1000), LARGE, fit);
    assert_eq!((pipe.bytes_in_flight(), pipe.stats().overflowed), (limit, 3));
    pipe.cut();
    assert_eq!(pipe.bytes_in_flight(), 0);
}

#[test]
fn presets_deliver_most_of_a_game_and_lose_what_they_say() {
    let presets = [
        ("lan", Conditions::lan()),
        ("wifi", Conditions::wifi()),
        ("mobile", Conditions::mobile()),
    ];
    for (name, preset) in presets {
        let expected = preset.mean_loss();
        assert!(!matches!(preset.jitter, Jitter::None));
        let (_, pipe) = run(preset, 4);
        let stats = pipe.stats();
        println!("{name}: {stats:?}");
        assert_eq!(stats.overflowed, 0, "{name}");
        assert_near(name, share(stats.lost, PACKETS), expected, 0.005);
    }
}
