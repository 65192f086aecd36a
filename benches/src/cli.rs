//! The command line, and what each bench does by default.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cells::Amount;
use crate::harness::{self, Bench, Plan};
use crate::link::{self, Link};
use crate::pinger;
use crate::stacks::{Setup, StackId};
use crate::{Result, carriers, clock, lanes, rollback, states};

/// A datagram that comes later is of no use to anybody.
const CARRIERS_DRAIN: Duration = Duration::from_secs(3);
/// A reliable stream that has stalled needs its time.
const LANES_DRAIN: Duration = Duration::from_secs(15);

const LATENCY_HELP: &str = "\
Columns:
  stack    what was measured
  p50_us   microseconds; median round trip of 64 bytes
  p99_us   microseconds; 99th percentile of the round trips
  samples  round trips measured, all repeats together
  repeats  repeats that gave a result
  lost     pings without a reply within 100 ms, all repeats together
  x_raw    p50_us divided by the p50_us of raw_udp in this call

The next ping leaves when the reply has arrived. Percentiles are taken per repeat; a column shows
the median over the repeats.

All processes share one processor (Linux). With --spread they use all, as two programs do: then most
of each figure is the time in which a sleeping processor wakes, about 20 us each in a virtual machine,
and all stacks look more alike than they are.

Stacks:
  raw_udp   a tokio UDP socket at both ends
  webrtc    the `webrtc` library with its default settings, unreliable unordered channel
  matchbox  matchbox_socket, unreliable channel
  netplay   netplay_transport, unreliable lane: from game thread to game thread and back, each
            message flushed at once
  netplay_net  the same library's own ping (16 bytes): answered by the other side's network thread,
            seen by this side's game thread";

const CONNECT_HELP: &str = "\
Columns:
  stack         what was measured
  p50_ms        milliseconds from both sides ready (processes up, signaling connected, runtimes
                warm) to the first application message at the measuring side; median
  p90_ms        milliseconds, 90th percentile of the same
  kib_per_peer  KiB; growth of the measuring process's resident memory for each connected peer
  connects      connections that were measured, all repeats together
  failed        connections that were not made within 15 s, all repeats together
  repeats       repeats that gave a result
  x_matchbox    p50_ms divided by the p50_ms of matchbox in this call

Connections are made one after another and kept open. Percentiles are taken per repeat; a column
shows the median over the repeats.";

const CARRIERS_HELP: &str = "\
Columns:
  carrier   what carries the messages, all with the `webrtc` library:
            dc_no_retransmits       unordered data channel, no retransmissions
            dc_lifetime_40          unordered data channel, messages live for 40 ms
            dc_lifetime_40_mtu_4000 the same, SCTP packets of up to 4000 bytes
            rtp                     RTP packets on a local track
  size      bytes of a message
  copies    packets that each message rides in, one after the other
  loss_pct  per cent of UDP packets lost, each way
  pattern   random: each on its own; burst: four in a row on average (Gilbert-Elliott)
  rtt_ms    milliseconds; delay of the link, both ways together
  rate_kbit kbit/s that pass each way, headers included, behind a queue of 250 ms; - for no limit
  p50_ms    milliseconds from handing over to receive queue, of what arrived; median
  p90_ms    milliseconds, 90th percentile of the same
  p99_ms    milliseconds, 99th percentile of the same
  delivered_pct  per cent of messages that arrived, at most 3 s after the last was sent
  worst_gap the most messages in a row that did not arrive
  udp_packets_per_msg  UDP packets of both ends, divided by their messages

Both ends send at 60 Hz and are in one process, so that one clock measures. Cells run side by side.
Connections are made while the link loses nothing; the first second of messages is not counted.";

const LANES_HELP: &str = "\
Columns:
  stack     what was measured
  loss_pct  per cent of UDP packets lost, each way
  pattern   random: each on its own; burst: four in a row on average (Gilbert-Elliott)
  rtt_ms    milliseconds; delay of the link, both ways together
  size      bytes of a message
  p50_ms    milliseconds from handing over to receive queue, of what arrived; median
  p99_ms    milliseconds, 99th percentile of the same
  delivered_pct  per cent of messages that arrived, at most 15 s after the last was sent
  lost      messages that did not arrive, both directions and all repeats together
  udp_packets_per_s  UDP packets that one end sent in a second, mean of both
  wire_bytes_per_s   bytes that one end sent in a second with the headers of IP and UDP, mean of both
  repeats   connections that were measured; all other figures are medians over them

Both ends send the same at 60 Hz, and figures are of both directions together. They are in one
process, so that one clock measures. Cells run side by side, all on loopback through one UDP
forwarder each. Connections are made while the link loses nothing; the first second of messages is
not counted.

Stacks:
  webrtc_reliable    the `webrtc` library with its default settings, reliable ordered channel
  webrtc_unreliable  the same, unreliable unordered channel
  matchbox_reliable  matchbox_socket, reliable channel
  quinn_stream       quinn with its default settings, one long-lived stream in each direction";

const PROFILES_HELP: &str = "\
Profiles (one-way delays; queues are gamma distributed with shape 2):
  lan               0.3 ms, up to 0.2 ms of jitter
  zero              no delay at all
  rtt60_j20         30 ms each way, queues below 20 ms in 95 of 100 packets
  rtt80_bursty      40 ms, queues of 8 ms, and every 3 s for 0.3 s up to 180 ms more
  rtt120_j50_loss5  60 ms, queues of 50 ms, 5 % loss";

const CLOCK_HELP: &str = "\
Columns:
  profile    the path, see below
  algorithm  netplay: one-way minima over 10 s; last_ping; ema: smoothed by 1/8; ntp8: the shortest of
             eight; slippi: mean of the middle third of 30; ggpo: last packet plus a whole round trip
  p95_ms     milliseconds; error about the other player's clock, 95th percentile
  p999_ms    milliseconds; 99.9th percentile of the same
  runs       runs of a minute; the first ten seconds are not counted

Two players with clocks that drift apart by 100 ppm send 60 packets a second to each other; all
algorithms get the same packets, more than most of them ask for.";

const PACING_HELP: &str = "\
Columns:
  profile    the path, see below
  algorithm  netplay: mesh clock and pacer; slippi, ggpo: as these do it; last_ping, ema, ntp8: that
             estimate with a proportional slew of 1 % (5 % in the first 5 s)
  p95_ms     milliseconds; how far the two games are apart, 95th percentile
  p999_ms    milliseconds; 99.9th percentile of the same
  skips      frames left out or repeated in a run, both players together
  max_speed_change_pct  per cent; the largest change of speed between two frames
  runs       runs of two minutes; the first five seconds are not counted

The games begin 50 ms apart, and their clocks drift apart by 100 ppm.";

const INPUTS_HELP: &str = "\
Columns:
  stack          netplay: session and links, with all headers but those of WebRTC; ggrs: its messages in
                 the encoding that matchbox uses
  players        in the match, each at its own peer
  one_way_ms     milliseconds; delay of the path in each direction
  input          active: a byte that changes every ten ticks; idle: one that never does
  packets_per_s  messages on the data channel in a second, from one player to another
  bytes_per_s    bytes of them
  x_ggrs         bytes_per_s divided by those of ggrs in this call

60 ticks a second, nothing is lost. ggrs reads the system's clock and plays in real time.";

const LEDGER_HELP: &str = "\
Columns:
  stack              netplay: measured here; fortress: as fortress-rollback 0.12 publishes it
  players            in the match, each at its own peer
  path               its name there
  loss_pct           per cent of packets lost, each way
  rtt_ms             milliseconds; delay both ways together
  jitter_ms          milliseconds; added to each packet's delay, uniform from zero to this
  rollbacks_per_100  times that a player goes back, in a hundred ticks
  p99_depth          ticks that are run again at once, 99th percentile
  kib_per_s          KiB that a player sends in a second, to all others together, without the headers of
                     WebRTC, UDP and IP (fortress: without UDP and IP)
  lag_mean           ticks from the newest final one to the newest that was run, mean
  lag_max            the same, largest
  stalls_per_min     ticks in a minute at which a player could not go on

Inputs of four bytes that change at every tick, as in fortress's sweep; no input delay, eight ticks of
prediction. Simulated links, the players' clocks up to 1 ms apart.";

const ROLLBACK_HELP: &str = "\
Columns:
  stack         netplay: saved states without the session; bevy_ggrs: its schedules SaveWorld, LoadWorld
                and AdvanceWorld, without the session of ggrs
  entities      in the world
  changing_pct  per cent of them that change in a tick
  kind          plain: three components of 12, 12 and 4 bytes; heap: one with 64 numbers on the heap
  save_us       microseconds to keep the state; median
  load_us       microseconds to go back eight ticks; median
  rollback8_us  microseconds of a rollback of eight ticks: the load and eight saves, without the game's
                own systems; median
  allocations   times that a save asks for memory, mean of 60; counted apart from the times
  x_save        save_us of bevy_ggrs, divided by ours, in this call
  x_load        the same of load_us
  x_rollback8   the same of rollback8_us

Second table, in the JSON `churn`: 1000 plain entities that all move; in each tick 100 come and 100 go, with
the despawn_rollback of each stack. Each stack plays alone, since the growing one takes the caches of the other.
  tick          of the game; times are medians of the 20 ticks up to it
  save_us       microseconds to keep the state
  rollback8_us  microseconds of a rollback of eight ticks, with the game's own systems
  live_mib      MiB on the heap, all of the world; counted apart from the times

Third, in the JSON `despawned`: 1000 entities, most of which were despawned in the ticks that are rolled back.
  entities      that were despawned
  rollback8_us  microseconds, as in the second table
  ggrs_rollback8_us  the same of bevy_ggrs
  x_rollback8   the second divided by the first

Fourth, in the JSON `types`: a game of ours outside of a match, with no entity and no system.
  registered    types of components
  us_per_tick   microseconds of a tick with them, all of FixedMain; median
  us_per_type   microseconds that each adds to a tick

One process, one thread, a round of each side in turn. In the end both worlds have the same values.";

const TOP_HELP: &str = "`netplay-bench NAME --help` names every column of a table and its unit.
With --json the last line of the output is one object: {\"bench\":NAME,\"rows\":[{...},...]}";

/// Netplay's transport beside what games use today: two processes, loopback.
#[derive(Parser)]
#[command(name = "netplay-bench", version, after_help = TOP_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Round-trip time of a 64-byte message, one at a time
    #[command(after_help = LATENCY_HELP)]
    Latency(Options),
    /// Time to connect two peers, and the memory a connected peer costs
    #[command(after_help = CONNECT_HELP)]
    Connect(Options),
    /// What carries datagrams best on a bad link, within WebRTC
    #[command(after_help = CARRIERS_HELP)]
    Carriers(LinkOptions),
    /// One-way delay and loss of a 60 Hz stream on a bad link
    #[command(after_help = LANES_HELP)]
    Lanes(LanesOptions),
    /// How well a player knows another's clock, beside other algorithms (simulated)
    #[command(after_help = format!("{CLOCK_HELP}\n\n{PROFILES_HELP}"))]
    Clock(SimulatedOptions),
    /// How well two games keep together, beside other algorithms (simulated)
    #[command(after_help = format!("{PACING_HELP}\n\n{PROFILES_HELP}"))]
    Pacing(SimulatedOptions),
    /// What a rollback session sends, beside ggrs (simulated network)
    #[command(after_help = INPUTS_HELP)]
    Inputs(SessionOptions),
    /// How a rollback session fares on bad paths, beside the figures that fortress-rollback publishes
    #[command(after_help = LEDGER_HELP)]
    Ledger(SessionOptions),
    /// What it costs to keep the state of a world and to go back to it, beside bevy_ggrs
    #[command(after_help = ROLLBACK_HELP)]
    Rollback(RollbackOptions),
    /// The lobby server under load, beside matchbox's and a bare relay
    #[command(after_help = netplay_load::HELP)]
    Lobby(netplay_load::Options),
    /// A process of `lobby`
    #[command(name = netplay_load::ROLE, hide = true)]
    LobbyRole(netplay_load::Role),
    /// The measuring process of one job
    #[command(hide = true)]
    Pinger(Role),
    /// The answering process of one job
    #[command(hide = true)]
    Peer(Role),
}

#[derive(Args)]
struct Options {
    /// Take fewer samples and end within 120 s
    #[arg(long)]
    quick: bool,
    /// Print the rows as JSON on the last line
    #[arg(long)]
    json: bool,
    /// Let the processes use all processors, whose wake-up is measured too
    #[arg(long)]
    spread: bool,
    /// How often every stack is measured
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repeats: Option<u32>,
    /// Round trips or connections per repeat
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rounds: Option<u32>,
}

#[derive(Args)]
struct LinkOptions {
    /// Take fewer links and end within 120 s
    #[arg(long)]
    quick: bool,
    /// Print the rows as JSON on the last line
    #[arg(long)]
    json: bool,
    /// Messages of each end in a cell; 60 are a second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: Option<u32>,
    /// Cells side by side: more take less time, until the processor is the limit
    #[arg(long, default_value_t = 28, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    at_once: u32,
}

#[derive(Args)]
struct SimulatedOptions {
    /// Take fewer runs
    #[arg(long)]
    quick: bool,
    /// Print the rows as JSON on the last line
    #[arg(long)]
    json: bool,
    /// Runs per profile, each with a seed of its own
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    runs: Option<u64>,
}

#[derive(Args)]
struct SessionOptions {
    /// Play for a shorter time
    #[arg(long)]
    quick: bool,
    /// Print the rows as JSON on the last line
    #[arg(long)]
    json: bool,
    /// Seconds of play in each match
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seconds: Option<u64>,
}

#[derive(Args)]
struct RollbackOptions {
    /// Take fewer rounds
    #[arg(long)]
    quick: bool,
    /// Print the rows as JSON on the last line
    #[arg(long)]
    json: bool,
    /// Rollbacks of each side in every row
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
}

#[derive(Args)]
struct LanesOptions {
    #[command(flatten)]
    link: LinkOptions,
    /// Connections for each stack and link; a reliable stream under loss varies from one to the next
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repeats: Option<u32>,
}

impl LinkOptions {
    fn amount(&self, messages: u32, drain: Duration) -> Amount {
        let messages = self.messages.unwrap_or(messages);
        // Quick means no second try.
        let retries = if self.quick { 0 } else { 2 };
        Amount { messages, at_once: self.at_once as usize, drain, retries }
    }
}

#[derive(Args)]
struct Role {
    /// Which stack to use
    #[arg(long)]
    stack: StackId,
    /// URL of the stack's signaling server
    #[arg(long)]
    lobby: Option<String>,
}

/// Does what the command line says.
///
/// # Errors
///
/// If a stack could not be measured, or a child process failed.
pub fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Latency(options) => {
            if !options.spread {
                share_one_processor();
            }
            harness::latency(&plan(Bench::Latency, &options))
        }
        Command::Connect(options) => harness::connect(&plan(Bench::Connect, &options)),
        Command::Carriers(options) => {
            let amount = options.amount(1_500, CARRIERS_DRAIN);
            carriers::run(options.quick, options.json, amount)
        }
        Command::Lanes(LanesOptions { link, repeats }) => {
            let amount = link.amount(2_700, LANES_DRAIN);
            let repeats = repeats.unwrap_or(if link.quick { 1 } else { 5 });
            lanes::run(link.quick, link.json, repeats, amount)
        }
        Command::Clock(options) => clock::clock(options.quick, options.json, options.runs),
        Command::Pacing(options) => clock::pacing(options.quick, options.json, options.runs),
        Command::Inputs(options) => rollback::inputs(options.quick, options.json, options.seconds),
        Command::Ledger(options) => rollback::ledger(options.quick, options.json, options.seconds),
        Command::Rollback(options) => states::states(options.quick, options.json, options.rounds),
        Command::Lobby(options) => netplay_load::run(&options),
        Command::LobbyRole(role) => netplay_load::play(role),
        Command::Pinger(role) => pinger::run(role.stack, role.lobby, Link::to_parent()?),
        Command::Peer(role) => {
            let setup = Setup { link: Link::to_parent()?, lobby_url: role.lobby };
            role.stack.stack().peer(setup)
        }
    }
}

/// Binds this process, and with it those it starts, to the first processor it may use.
#[cfg(target_os = "linux")]
fn share_one_processor() {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    let this = Pid::from_raw(0);
    let one = sched_getaffinity(this).and_then(|allowed| {
        let mut one = CpuSet::new();
        let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true));
        one.set(first.unwrap_or(0))?;
        sched_setaffinity(this, &one)
    });
    if let Err(error) = one {
        eprintln!("The processes use all processors, because: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
const fn share_one_processor() {}

/// The arguments that make this executable play a role for `stack`.
pub fn role_arguments(role: link::Role, stack: StackId, lobby_url: Option<&str>) -> Vec<String> {
    let name = match role {
        link::Role::Pinger => "pinger",
        link::Role::Peer => "peer",
    };
    let mut arguments = vec![name.to_owned(), "--stack".to_owned(), stack.to_string()];
    if let Some(url) = lobby_url {
        arguments.extend(["--lobby".to_owned(), url.to_owned()]);
    }
    arguments
}

fn plan(bench: Bench, options: &Options) -> Plan {
    let (repeats, rounds) = match (bench, options.quick) {
        (Bench::Latency, false) => (5, 20_000),
        (Bench::Latency, true) => (3, 5_000),
        (Bench::Connect, false) => (5, 10),
        // Eight held connections are the fewest whose memory stands out of the noise.
        (Bench::Connect, true) => (3, 8),
    };
    Plan {
        bench,
        quick: options.quick,
        json: options.json,
        repeats: options.repeats.unwrap_or(repeats),
        rounds: options.rounds.unwrap_or(rounds),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_child_understands_the_arguments_it_is_given() {
        for stack in StackId::ALL {
            let arguments = role_arguments(link::Role::Peer, *stack, Some("ws://127.0.0.1:1/"));
            let cli = Cli::try_parse_from(std::iter::once("bench".to_owned()).chain(arguments));
            let Command::Peer(role) = cli.unwrap().command else { panic!("not a peer") };
            assert_eq!(role.stack, *stack);
            assert_eq!(role.lobby.as_deref(), Some("ws://127.0.0.1:1/"));
        }
    }

    #[test]
    fn every_column_is_explained() {
        use crate::carriers::CarrierRow;
        use crate::clock::{ClockRow, PacingRow};
        use crate::lanes::LaneRow;
        use crate::report::{ConnectRow, LatencyRow, Row};
        use crate::rollback::{InputsRow, LedgerRow};
        use crate::states::{ChurnRow, DespawnedRow, StatesRow, TypesRow};
        for (columns, help) in [
            (LatencyRow::COLUMNS, LATENCY_HELP),
            (ConnectRow::COLUMNS, CONNECT_HELP),
            (CarrierRow::COLUMNS, CARRIERS_HELP),
            (LaneRow::COLUMNS, LANES_HELP),
            (ClockRow::COLUMNS, CLOCK_HELP),
            (PacingRow::COLUMNS, PACING_HELP),
            (InputsRow::COLUMNS, INPUTS_HELP),
            (LedgerRow::COLUMNS, LEDGER_HELP),
            (StatesRow::COLUMNS, ROLLBACK_HELP),
            (ChurnRow::COLUMNS, ROLLBACK_HELP),
            (DespawnedRow::COLUMNS, ROLLBACK_HELP),
            (TypesRow::COLUMNS, ROLLBACK_HELP),
        ] {
            for column in columns {
                assert!(help.contains(&format!("\n  {column} ")), "{column} is not in the help");
            }
        }
    }
}
