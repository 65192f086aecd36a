//! The whole transition table, and the limits of time and count.

use core::fmt::Write;

use super::*;

const NOW: Now = Now::from_millis(1000);

fn at(ms: u64) -> Now {
    Now::from_millis(ms)
}

fn offer(attempt: u32) -> Input {
    Input::Signal(Signal { attempt, body: SignalBody::Offer { sdp: "o".into() } })
}

fn answer(attempt: u32) -> Input {
    Input::Signal(Signal { attempt, body: SignalBody::Answer { sdp: "a".into() } })
}

fn candidate_body() -> SignalBody {
    SignalBody::Candidate { candidate: "c".into(), mid: None, mline: None }
}

fn candidate(attempt: u32) -> Input {
    Input::Signal(Signal { attempt, body: candidate_body() })
}

fn bye(attempt: u32) -> Input {
    Input::Signal(Signal { attempt, body: SignalBody::Bye })
}

fn lost(attempt: u32) -> Input {
    Input::Signal(Signal { attempt, body: SignalBody::Lost })
}

fn withdraw(attempt: u32) -> Input {
    Input::Signal(Signal { attempt, body: SignalBody::Withdraw })
}

fn described(connection: ConnectionId) -> Input {
    Input::Driver(DriverEvent::Described { connection, sdp: "d".into() })
}

fn progress(connection: ConnectionId, phase: Phase) -> Input {
    Input::Driver(DriverEvent::Progress { connection, phase })
}

fn channels_open(connection: ConnectionId) -> Input {
    Input::Driver(DriverEvent::ChannelsOpen { connection })
}

fn failed(connection: ConnectionId) -> Input {
    Input::Driver(DriverEvent::Failed { connection, why: "test".into() })
}

/// Brings a fresh negotiation into each state, always in attempt 2 (but for `Idle`).
fn in_state(name: &str, offers_first: bool) -> Negotiation {
    let attempt = u32::from(name != "Idle");
    let mut n = Negotiation::new(offers_first, Previous { attempt, ..Previous::default() });
    let inputs: &[&str] = match name {
        "Idle" => &[],
        "Waiting" => &["offer", "failed"],
        "Offering" => &["retry"],
        "Answering" => &["offer"],
        "AwaitingAnswer" => &["retry", "described"],
        "Checking" => &["offer", "described"],
        "OpeningChannels" => &["offer", "described", "phase"],
        "Open" => &["offer", "described", "open"],
        "Ended" => &["close"],
        _ => unreachable!("no such state"),
    };
    if name != "Idle" {
        n.wait_for_offer(NOW);
    }
    for input in inputs {
        let connection = n.connection();
        let input = match *input {
            "offer" => offer(2),
            "described" => described(connection),
            "failed" => failed(connection),
            "phase" => progress(connection, Phase::OpeningChannels),
            "open" => channels_open(connection),
            "close" => Input::Close,
            // The deadline of `Waiting` makes us offer.
            _ => {
                let deadline = n.next_deadline().unwrap();
                n.handle(deadline, Input::Tick);
                continue;
            }
        };
        n.handle(NOW, input);
    }
    while n.poll_output().is_some() {}
    n
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Idle => "Idle",
        State::Waiting { .. } => "Waiting",
        State::Describing { role: Role::Offerer, .. } => "Offering",
        State::Describing { role: Role::Answerer, .. } => "Answering",
        State::AwaitingAnswer { .. } => "AwaitingAnswer",
        State::Connecting { phase: Phase::Checking, .. } => "Checking",
        State::Connecting { phase: Phase::Securing, .. } => "Securing",
        State::Connecting { phase: Phase::OpeningChannels, .. } => "OpeningChannels",
        State::Open => "Open",
        State::Ended => "Ended",
    }
}

fn output_name(output: &Output) -> String {
    match output {
        Output::Driver(DriverCommand::Offer { .. }) => "make-offer".into(),
        Output::Driver(DriverCommand::Answer { .. }) => "make-answer".into(),
        Output::Driver(DriverCommand::SetAnswer { .. }) => "set-answer".into(),
        Output::Driver(DriverCommand::AddCandidate { .. }) => "add-candidate".into(),
        Output::Driver(DriverCommand::Drop { .. }) => "drop".into(),
        Output::Signal(Signal { attempt, body }) => match body {
            SignalBody::Offer { .. } => format!("send-offer({attempt})"),
            SignalBody::Answer { .. } => format!("send-answer({attempt})"),
            SignalBody::Candidate { .. } => format!("send-candidate({attempt})"),
            SignalBody::Bye => format!("send-bye({attempt})"),
            SignalBody::Lost => format!("send-lost({attempt})"),
            SignalBody::Withdraw => format!("send-withdraw({attempt})"),
        },
        Output::Opened => "OPENED".into(),
        Output::Broken => "BROKEN".into(),
        Output::Bye => "BYE".into(),
        Output::GivenUp => "GIVEN-UP".into(),
        Output::TimedOut(step) => format!("TIMED-OUT({step:?})"),
        Output::TooManyOffers => "TOO-MANY-OFFERS".into(),
    }
}

/// An event by its name in the table, for the current attempt (2) and connection.
fn event_named(event: &str, n: &Negotiation) -> (Now, Input) {
    let connection = n.connection();
    let stale = ConnectionId(connection.0.wrapping_sub(1));
    let step = n.next_deadline().unwrap_or(NOW);
    match event {
        "start" => (NOW, Input::Start),
        "offer-older" => (NOW, offer(1)),
        "offer-same" => (NOW, offer(2)),
        "offer-newer" => (NOW, offer(3)),
        "answer-older" => (NOW, answer(1)),
        "answer-same" => (NOW, answer(2)),
        "candidate-older" => (NOW, candidate(1)),
        "candidate-same" => (NOW, candidate(2)),
        "bye-older" => (NOW, bye(1)),
        "bye-same" => (NOW, bye(2)),
        "lost-older" => (NOW, lost(1)),
        "lost-same" => (NOW, lost(2)),
        "withdraw-older" => (NOW, withdraw(1)),
        "withdraw-same" => (NOW, withdraw(2)),
        "described" => (NOW, described(connection)),
        "candidate" => {
            let candidate = candidate_body();
            (NOW, Input::Driver(DriverEvent::Candidate { connection, candidate }))
        }
        "securing" => (NOW, progress(connection, Phase::Securing)),
        "opening" => (NOW, progress(connection, Phase::OpeningChannels)),
        "channels-open" => (NOW, channels_open(connection)),
        "failed" => (NOW, failed(connection)),
        "stale-open" => (NOW, channels_open(stale)),
        "stale-failed" => (NOW, failed(stale)),
        "retry" => (NOW, Input::Retry),
        "close" => (NOW, Input::Close),
        "give-up" => (NOW, Input::GiveUp),
        "discard" => (NOW, Input::Discard),
        "tick-early" => (step - Duration::from_micros(1), Input::Tick),
        "tick-step" => (step, Input::Tick),
        _ => (NOW + LINK_DEADLINE, Input::Tick),
    }
}

/// Every state × every event × both sides of a glare, against the committed table. After a wanted
/// change: `UPDATE_TABLE=1 cargo test -p netplay_peer`, and read the difference.
#[test]
fn the_whole_transition_table_is_as_committed() {
    let states = [
        "Idle",
        "Waiting",
        "Offering",
        "Answering",
        "AwaitingAnswer",
        "Checking",
        "OpeningChannels",
        "Open",
        "Ended",
    ];
    let events = [
        "start",
        "offer-older",
        "offer-same",
        "offer-newer",
        "answer-older",
        "answer-same",
        "candidate-older",
        "candidate-same",
        "bye-older",
        "bye-same",
        "lost-older",
        "lost-same",
        "withdraw-older",
        "withdraw-same",
        "described",
        "candidate",
        "securing",
        "opening",
        "channels-open",
        "failed",
        "stale-open",
        "stale-failed",
        "retry",
        "close",
        "give-up",
        "discard",
        "tick-early",
        "tick-step",
        "tick-link",
    ];
    let mut table = String::new();
    for offers_first in [true, false] {
        for state in states {
            for event in events {
                let mut n = in_state(state, offers_first);
                assert_eq!(state_name(n.state()), state);
                let (now, input) = event_named(event, &n);
                n.handle(now, input);
                let outputs: Vec<_> =
                    core::iter::from_fn(|| n.poll_output()).map(|o| output_name(&o)).collect();
                let after = state_name(n.state());
                if after != state || !outputs.is_empty() {
                    let first = if offers_first { "first" } else { "second" };
                    writeln!(
                        table,
                        "{first:6} {state:15} + {event:15} -> {after:15} {}",
                        outputs.join(" ")
                    )
                    .unwrap();
                }
            }
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/link/negotiation/transitions.txt");
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap());
}

#[test]
fn candidates_wait_until_the_description_is_out() {
    let mut n = Negotiation::new(true, Previous::default());
    n.handle(NOW, Input::Start);
    let connection = n.connection();
    let early = DriverEvent::Candidate { connection, candidate: candidate_body() };
    n.handle(NOW, Input::Driver(early));
    n.handle(NOW, described(connection));
    let outputs: Vec<_> =
        core::iter::from_fn(|| n.poll_output()).map(|o| output_name(&o)).collect();
    assert_eq!(outputs, ["make-offer", "send-offer(1)", "send-candidate(1)"]);
}

#[test]
fn a_flood_of_candidates_is_cut() {
    let mut n = in_state("Checking", true);
    for _ in 0..1000 {
        n.handle(NOW, candidate(2));
    }
    assert_eq!(core::iter::from_fn(|| n.poll_output()).count(), CANDIDATES_MAX);
}

#[test]
fn a_flood_of_offers_ends_the_link() {
    let mut n = in_state("Waiting", false);
    for attempt in 3..100 {
        n.handle(NOW, offer(attempt));
    }
    assert!(core::iter::from_fn(|| n.poll_output()).any(|o| o == Output::TooManyOffers));
    assert_eq!(n.state(), State::Ended);
}

#[test]
fn an_attempt_number_at_the_end_of_its_range_does_not_overflow() {
    let mut n = in_state("Waiting", false);
    n.handle(NOW, offer(u32::MAX));
    n.handle(NOW, failed(n.connection()));
    let deadline = n.next_deadline().unwrap();
    n.handle(deadline, Input::Tick);
    assert_eq!(n.attempt(), u32::MAX);
}

#[test]
fn silence_ends_every_state_within_the_link_deadline() {
    for state in ["Waiting", "Offering", "Answering", "AwaitingAnswer", "Checking"] {
        for offers_first in [true, false] {
            let mut n = in_state(state, offers_first);
            let mut outputs = Vec::new();
            while let Some(deadline) = n.next_deadline() {
                n.handle(deadline, Input::Tick);
                outputs.extend(core::iter::from_fn(|| n.poll_output()));
                assert!(deadline <= NOW + LINK_DEADLINE);
            }
            assert!(
                outputs.iter().any(|output| matches!(output, Output::TimedOut(_))),
                "{state}: {outputs:?}"
            );
        }
    }
}

#[test]
fn the_side_that_offers_first_retries_first() {
    let mut first = Negotiation::new(true, Previous::default());
    let mut second = Negotiation::new(false, Previous::default());
    for n in [&mut first, &mut second] {
        n.handle(at(0), Input::Start);
    }
    second.handle(at(0), offer(1));
    first.handle(at(0), described(first.connection()));
    second.handle(at(0), described(second.connection()));
    first.handle(at(0), answer(1));
    assert!(first.next_deadline() < second.next_deadline());
}

#[test]
fn a_link_made_anew_offers_at_once_on_either_side() {
    for offers_first in [false, true] {
        let previous = Previous { attempt: 3, connection: ConnectionId(5) };
        let mut n = Negotiation::new(offers_first, previous);
        n.handle(NOW, Input::Start);
        let connection = ConnectionId(6);
        assert_eq!(n.poll_output(), Some(Output::Driver(DriverCommand::Offer { connection })));
        assert_eq!(n.attempt(), 4);
    }
}

#[test]
fn a_side_that_waits_for_an_offer_makes_its_own_after_three_seconds() {
    let mut told = Negotiation::new(false, Previous::default());
    told.handle(NOW, Input::Start);
    let mut waiting = Negotiation::new(true, Previous::default());
    waiting.wait_for_offer(NOW);
    for mut n in [told, waiting] {
        assert_eq!(n.next_deadline(), Some(NOW + Duration::from_secs(3)));
        n.handle(NOW + Duration::from_micros(2_999_999), Input::Tick);
        assert_eq!(n.poll_output(), None);
        n.handle(NOW + Duration::from_secs(3), Input::Tick);
        let connection = ConnectionId(1);
        assert_eq!(n.poll_output(), Some(Output::Driver(DriverCommand::Offer { connection })));
    }
}
