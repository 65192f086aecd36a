//! What clients do.

use proptest::prelude::*;

use super::CLIENTS;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Connect,
    ConnectAfresh,
    /// The game is started anew.
    Restart,
    /// The server is started anew, with its key.
    ServerRestart,
    Drop,
    Deliver(u8),
    Create {
        capacity: u8,
        public: bool,
    },
    Quick {
        capacity: u8,
    },
    Join {
        whose: usize,
        spectate: bool,
        invited: bool,
    },
    List,
    Leave,
    Signal {
        to: usize,
    },
    ReportLost {
        whom: usize,
    },
    Hosting(Hosting, usize),
    KeepAlive,
    Malformed,
    Goodbye,
    Wait {
        millis: u64,
    },
}

/// What members do in a lobby, and to whom.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hosting {
    Update { capacity: u8, visibility: u8, locked: bool, password: bool },
    SetData { key: u8, tier: Option<u8>, known: bool },
    SetMemberData { key: u8, set: bool },
    Place { slot: Option<u8> },
    Ready(bool),
    ReadyCheck,
    Countdown,
    Cancel,
    Playing(bool),
    Kick(u8),
    Unban,
    Promote,
    Reserve,
    Invite,
    Chat,
}

fn hosting() -> impl Strategy<Value = Hosting> {
    prop_oneof![
        2 => (0..5u8, 0..3u8, any::<bool>(), any::<bool>()).prop_map(
            |(capacity, visibility, locked, password)| Hosting::Update { capacity, visibility, locked, password }
        ),
        4 => (0..3u8, prop::option::of(0..3u8), any::<bool>())
            .prop_map(|(key, tier, known)| Hosting::SetData { key, tier, known }),
        2 => (0..3u8, any::<bool>()).prop_map(|(key, set)| Hosting::SetMemberData { key, set }),
        3 => prop::option::of(0..5u8).prop_map(|slot| Hosting::Place { slot }),
        6 => any::<bool>().prop_map(Hosting::Ready),
        2 => Just(Hosting::ReadyCheck),
        2 => Just(Hosting::Countdown),
        1 => Just(Hosting::Cancel),
        1 => any::<bool>().prop_map(Hosting::Playing),
        2 => (0..3u8).prop_map(Hosting::Kick),
        1 => Just(Hosting::Unban),
        2 => Just(Hosting::Promote),
        2 => Just(Hosting::Reserve),
        2 => Just(Hosting::Invite),
        1 => Just(Hosting::Chat),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let whom = 0..CLIENTS;
    prop_oneof![
        6 => Just(Step::Connect),
        1 => Just(Step::ConnectAfresh),
        2 => Just(Step::Restart),
        1 => Just(Step::ServerRestart),
        3 => Just(Step::Drop),
        8 => (0..8u8).prop_map(Step::Deliver),
        2 => (1..5u8, any::<bool>()).prop_map(|(capacity, public)| Step::Create { capacity, public }),
        4 => (2..4u8).prop_map(|capacity| Step::Quick { capacity }),
        5 => (whom.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(whose, spectate, invited)| Step::Join { whose, spectate, invited }),
        16 => (hosting(), whom.clone()).prop_map(|(what, whom)| Step::Hosting(what, whom)),
        1 => Just(Step::List),
        2 => Just(Step::Leave),
        4 => whom.clone().prop_map(|to| Step::Signal { to }),
        3 => whom.prop_map(|whom| Step::ReportLost { whom }),
        4 => Just(Step::KeepAlive),
        1 => Just(Step::Malformed),
        1 => Just(Step::Goodbye),
        3 => (0..12_000u64).prop_map(|millis| Step::Wait { millis }),
    ]
}
