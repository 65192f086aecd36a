//! Many small experiments side by side: each *cell* is one connection with its own link, on which
//! both ends send messages at 60 Hz.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use netplay_simnet::Conditions;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Result;
use crate::delivery::{Arrivals, Ends, Site, Way};
use crate::forwarder::{Courier, Forwarder, Sent};
use crate::report::Progress;
use crate::stats::{percentile, rounded};

/// Between two messages of one end.
const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / 60);
/// The first messages of each end, a second of them, are not counted.
const WARM_UP: u32 = 60;
/// From closing to what comes next.
const CLOSE: Duration = Duration::from_millis(300);
/// How long one attempt to connect may take, on a link that loses nothing.
const CONNECT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
/// More at once would slow each other down.
const CONNECTING: usize = 8;
/// A machine that sends later than this spoils what it measures.
const DISTURBED_MS: f64 = 10.0;
/// Packets that are lost in a row in a burst, on average.
const BURST: f64 = 4.0;

/// How the lost packets are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Each on its own.
    Random,
    /// In bursts of [`BURST`] packets on average.
    Burst,
}

impl Pattern {
    /// Its name in a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Burst => "burst",
        }
    }
}

/// A link with a bottleneck.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thin {
    /// What passes, headers included.
    pub kbit_per_s: u32,
    /// How long a full queue takes to empty.
    pub queue_ms: u32,
}

/// One experiment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// What delivers.
    pub way: Way,
    /// Bytes of each message.
    pub size: usize,
    /// Packets that each message rides in, one after the other.
    pub copies: u32,
    /// Packets that are lost, each way.
    pub loss_pct: u32,
    /// How they are spread.
    pub pattern: Pattern,
    /// Delay of both ways together.
    pub rtt_ms: u32,
    /// The bottleneck, if there is one.
    pub thin: Option<Thin>,
    /// Which repeat of the experiment: each has a connection and luck of its own.
    pub repeat: u32,
}

impl Cell {
    fn clean(&self) -> Conditions {
        Conditions::perfect().with_delay(Duration::from_millis(self.rtt_ms.into()) / 2)
    }

    fn conditions(&self) -> Conditions {
        let loss = f64::from(self.loss_pct) / 100.0;
        let conditions = match self.pattern {
            Pattern::Random => self.clean().with_loss(loss),
            Pattern::Burst => {
                let leave = 1.0 / BURST;
                self.clean().with_bursts(leave * loss / (1.0 - loss), leave)
            }
        };
        match self.thin {
            Some(Thin { kbit_per_s, queue_ms }) => {
                let bytes = u64::from(kbit_per_s) * 1000 / 8;
                conditions.with_rate(bytes, bytes * u64::from(queue_ms) / 1000)
            }
            None => conditions,
        }
    }

    /// The same for all ways, so that each of them meets the same luck.
    fn seed(&self) -> u64 {
        [self.size as u64, self.copies.into(), self.loss_pct.into(), self.rtt_ms.into()]
            .into_iter()
            .chain([self.pattern as u64, u64::from(self.thin.map_or(0, |thin| thin.kbit_per_s))])
            .chain([self.repeat.into()])
            .fold(7, |seed: u64, part| seed.wrapping_mul(1_000_003).wrapping_add(part))
    }

    /// One line about it.
    pub fn describe(&self) -> String {
        let Self { way, size, loss_pct, pattern, rtt_ms, .. } = self;
        let (way, pattern) = (way.name(), pattern.name());
        format!("{way}, {size} B, {loss_pct} % {pattern}, {rtt_ms} ms")
    }
}

/// What a cell gave, both directions together.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One-way delay of what arrived; nothing if nothing did.
    pub p50_ms: Option<f64>,
    /// 90th percentile.
    pub p90_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// Messages that were counted.
    pub sent: u64,
    /// Messages that did not arrive.
    pub lost: u64,
    /// The most messages in a row that did not arrive.
    pub worst_gap: u64,
    /// UDP packets of both ends while the messages were sent.
    pub udp_packets: u64,
    /// Their bytes with the headers of IP and UDP.
    pub wire_bytes: u64,
}

impl Outcome {
    fn new(delays_ms: [&[Option<f64>]; 2], udp: Sent) -> Self {
        let mut arrived: Vec<f64> =
            delays_ms.iter().flat_map(|d| d.iter().flatten().copied()).collect();
        let sent = delays_ms.iter().map(|d| d.len() as u64).sum();
        let gaps =
            delays_ms.iter().flat_map(|d| d.split(Option::is_some)).map(|gap| gap.len() as u64);
        Self {
            worst_gap: gaps.max().unwrap_or(0),
            lost: sent - arrived.len() as u64,
            sent,
            p50_ms: percentile(&mut arrived, 50.0).map(rounded),
            p90_ms: percentile(&mut arrived, 90.0).map(rounded),
            p99_ms: percentile(&mut arrived, 99.0).map(rounded),
            udp_packets: udp.packets,
            wire_bytes: udp.bytes,
        }
    }

    /// Messages that arrived, of a hundred.
    pub fn delivered_pct(&self) -> f64 {
        rounded((self.sent - self.lost) as f64 * 100.0 / self.sent.max(1) as f64)
    }

    /// How long the messages of one end took to send.
    pub fn seconds(&self) -> f64 {
        self.sent as f64 / 2.0 * PERIOD.as_secs_f64()
    }
}

/// How much to measure, and how much of it at once.
#[derive(Clone, Copy)]
pub struct Amount {
    /// Messages of each end that are counted.
    pub messages: u32,
    /// Cells that run side by side.
    pub at_once: usize,
    /// What arrives later than this after the last message counts as lost.
    pub drain: Duration,
    /// How often a batch is run again that something else on the machine disturbed.
    pub retries: u32,
}

/// What the cells gave that did not fail.
pub struct Measured {
    /// In the order of the cells.
    pub rows: Vec<(Cell, Outcome)>,
    /// An error if any cell failed.
    pub result: Result<()>,
}

/// Runs all cells in batches.
///
/// # Errors
///
/// If the threads that all cells share cannot be started.
pub fn run(cells: &[Cell], amount: Amount) -> Result<Measured> {
    let lab = Lab::new()?;
    let mut progress = Progress::new(cells.len().div_ceil(amount.at_once) as u32);
    let mut rows = Vec::new();
    let mut failures = 0;
    for batch in cells.chunks(amount.at_once) {
        progress.begin(&format!("{} cells", batch.len()));
        let mut best = lab.run_watched(batch, amount, &progress);
        for _ in 0..amount.retries {
            if best.late_ms < DISTURBED_MS {
                break;
            }
            progress.say("something else kept the processors busy; the batch is run again");
            let again = lab.run_watched(batch, amount, &progress);
            if again.late_ms < best.late_ms {
                best = again;
            }
        }
        for (cell, outcome) in batch.iter().zip(best.outcomes) {
            match outcome {
                Ok(outcome) => rows.push((*cell, outcome)),
                Err(error) => {
                    failures += 1;
                    progress.say(&format!("error: {}: {error}", cell.describe()));
                }
            }
        }
    }
    progress.clear();
    let result = match failures {
        0 => Ok(()),
        n => Err(format!("{n} cells failed").into()),
    };
    Ok(Measured { rows, result })
}

/// What the cells of a batch gave, in their order.
struct Batch {
    outcomes: Vec<Result<Outcome>>,
    /// How late messages were sent; 99th percentile. What delays the sender delays the rest too.
    late_ms: f64,
}

/// What all cells share: a runtime for each end, and one for the links.
struct Lab {
    ends: [Runtime; 2],
    links: Runtime,
    courier: Courier,
}

/// A cell that is connected.
struct Running {
    cell: Cell,
    forwarder: Arc<Forwarder>,
    ends: Ends,
    arrivals: [Arrivals; 2],
    /// The message before, for the next packet.
    previous: [Vec<u8>; 2],
    before: Sent,
    after: Sent,
    failed: Option<crate::Error>,
}

impl Lab {
    fn new() -> Result<Self> {
        let runtime =
            || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self { ends: [runtime()?, runtime()?], links: runtime()?, courier: Courier::start()? })
    }

    /// Runs a batch and says how well the machine kept up.
    fn run_watched(&self, cells: &[Cell], amount: Amount, progress: &Progress) -> Batch {
        let (started, cpu) = (Instant::now(), cpu_time());
        let batch = self.run(cells, amount);
        if let (Some(before), Some(after)) = (cpu, cpu_time()) {
            let processors = (after - before).as_secs_f64() / started.elapsed().as_secs_f64();
            let late_ms = batch.late_ms;
            progress
                .say(&format!("{processors:.2} processors used, sent {late_ms:.1} ms late (p99)"));
        }
        batch
    }

    fn run(&self, cells: &[Cell], amount: Amount) -> Batch {
        let total = amount.messages + WARM_UP;
        let mut outcomes: HashMap<usize, Result<Outcome>> = HashMap::new();
        let mut running = Vec::new();
        for (index, connected) in self.links.block_on(self.connect(cells, total)) {
            match connected {
                Ok(cell) => running.push((index, cell)),
                Err(error) => drop(outcomes.insert(index, Err(error))),
            }
        }
        for (_, cell) in &running {
            cell.forwarder.set_conditions(&cell.cell.conditions());
        }
        let late_ms = play(running.iter_mut().map(|(_, cell)| cell).collect(), total);
        thread::sleep(amount.drain);
        for (index, cell) in running {
            outcomes.insert(index, cell.outcome());
        }
        // Connections close by themselves, and their last words shall not meet the next batch.
        thread::sleep(CLOSE);
        let missing = || Err("the task that connects ended".into());
        let outcomes =
            (0..cells.len()).map(|index| outcomes.remove(&index).unwrap_or_else(missing)).collect();
        Batch { outcomes, late_ms }
    }

    async fn connect(&self, cells: &[Cell], total: u32) -> Vec<(usize, Result<Running>)> {
        let turns = Arc::new(Semaphore::new(CONNECTING));
        let mut connecting = JoinSet::new();
        for (index, cell) in cells.iter().copied().enumerate() {
            let link = || {
                let links = self.links.handle().clone();
                Arc::new(self.courier.link(&cell.clean(), cell.seed(), links))
            };
            // A link for each attempt, so that none meets what another left behind.
            let links: Vec<_> = (0..ATTEMPTS).map(|_| link()).collect();
            let runtimes = self.ends.each_ref().map(|runtime| runtime.handle().clone());
            let turns = turns.clone();
            connecting.spawn(async move {
                let _turn = turns.acquire_owned().await;
                let mut result = Err("no attempt to connect was made".into());
                for forwarder in links {
                    result = Running::connect(cell, forwarder, &runtimes, total).await;
                    if result.is_ok() {
                        break;
                    }
                }
                (index, result)
            });
        }
        connecting.join_all().await
    }
}

impl Running {
    async fn connect(
        cell: Cell,
        forwarder: Arc<Forwarder>,
        runtimes: &[Handle; 2],
        total: u32,
    ) -> Result<Self> {
        let started = Instant::now();
        let arrivals = [(); 2].map(|()| Arrivals::new(started, cell.size, total as usize));
        let site =
            Site { forwarder: &forwarder, runtimes: runtimes.clone(), arrivals: arrivals.clone() };
        let ends = tokio::time::timeout(CONNECT, cell.way.connect(&site))
            .await
            .map_err(|_| format!("not connected within {:.0} s", CONNECT.as_secs_f64()))??;
        let (before, after) = (Sent::default(), Sent::default());
        let previous = [Vec::new(), Vec::new()];
        Ok(Self { cell, forwarder, ends, arrivals, previous, before, after, failed: None })
    }

    /// Sends the message with this number from both ends.
    fn tick(&mut self, number: u32) {
        if number == WARM_UP {
            self.before = self.forwarder.sent();
        }
        // What one end sends is noted at the other; the numbers are the same.
        for (end, (arrivals, previous)) in
            self.ends.iter_mut().zip(self.arrivals.iter().zip(&mut self.previous))
        {
            let message = arrivals.message(number.into());
            let mut packet = message.clone();
            if self.cell.copies > 1 {
                packet.extend_from_slice(previous);
                *previous = message;
            }
            if let Err(error) = end.send(packet) {
                self.failed.get_or_insert(error);
            }
        }
        self.after = self.forwarder.sent();
    }

    fn outcome(self) -> Result<Outcome> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let delays_ms = self.arrivals.each_ref().map(Arrivals::delays_ms);
        let counted = delays_ms.each_ref().map(|delays| &delays[WARM_UP as usize..]);
        let udp = Sent {
            packets: self.after.packets - self.before.packets,
            bytes: self.after.bytes - self.before.bytes,
        };
        Ok(Outcome::new(counted, udp))
    }
}

/// Is the game thread of all cells: each sends at 60 Hz, evenly spread over the period. Returns by
/// how many milliseconds it was late, 99th percentile.
fn play(mut cells: Vec<&mut Running>, total: u32) -> f64 {
    let started = Instant::now();
    let count = cells.len().max(1) as u32;
    let mut late_ms = Vec::with_capacity(cells.len() * total as usize);
    for number in 0..total {
        for (cell, index) in cells.iter_mut().zip(0..) {
            let due = started + PERIOD * number + PERIOD * index / count;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            late_ms.push(due.elapsed().as_secs_f64() * 1e3);
            cell.tick(number);
        }
    }
    percentile(&mut late_ms, 99.0).unwrap_or(0.0)
}

/// What all threads of this process have used.
#[cfg(target_os = "linux")]
fn cpu_time() -> Option<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;

    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Some(Duration::from_micros(u64::try_from(micros).ok()?))
}

#[cfg(not(target_os = "linux"))]
const fn cpu_time() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell {
        way: Way::QuinnStream,
        size: 100,
        copies: 1,
        loss_pct: 20,
        pattern: Pattern::Burst,
        rtt_ms: 30,
        thin: Some(Thin { kbit_per_s: 256, queue_ms: 250 }),
        repeat: 0,
    };

    #[test]
    fn a_cell_loses_what_it_says_in_either_pattern() {
        for pattern in [Pattern::Random, Pattern::Burst] {
            let mean = Cell { pattern, ..CELL }.conditions().mean_loss();
            assert!((mean - 0.2).abs() < 1e-9, "{pattern:?}: {mean}");
        }
    }

    #[test]
    fn ways_share_their_luck_and_conditions_do_not() {
        let other_way = Cell { way: Way::Rtp, ..CELL };
        assert_eq!(other_way.seed(), CELL.seed());
        assert_ne!(Cell { rtt_ms: 120, ..CELL }.seed(), CELL.seed());
        assert_ne!(Cell { repeat: 1, ..CELL }.seed(), CELL.seed());
        assert_ne!(Cell { pattern: Pattern::Random, ..CELL }.seed(), CELL.seed());
    }

    #[test]
    fn gaps_are_counted_per_direction() {
        let (some, none) = (Some(1.0), None);
        let outcome = Outcome::new([&[some, none, none], &[none, some, none]], Sent::default());
        assert_eq!((outcome.sent, outcome.lost, outcome.worst_gap), (6, 4, 2));
        assert_eq!(outcome.delivered_pct(), 33.33);
        assert_eq!(Outcome::new([&[none], &[none]], Sent::default()).p50_ms, None);
    }

    #[test]
    fn messages_arrive_over_a_link_with_delay() {
        let cell = Cell { loss_pct: 0, thin: None, ..CELL };
        let Measured { rows, result } = run(
            &[cell],
            Amount { messages: 30, at_once: 1, drain: Duration::from_millis(200), retries: 0 },
        )
        .unwrap();
        result.unwrap();
        let outcome = &rows[0].1;
        assert_eq!((outcome.sent, outcome.lost), (60, 0));
        assert!(outcome.p50_ms.unwrap() >= 15.0);
    }
}
