//! Messages that no honest player sends, by the thousand.

use proptest::prelude::*;

use super::super::guard::AHEAD_MAX;
use super::super::socket::QUEUE_MAX;
use super::super::wire::{Body, Input, Status};
use super::{Setup, Table, pack};

/// A number, mostly one of those at which something changes.
#[derive(Clone, Copy, Debug)]
enum Near {
    Victim(i32),
    Sender(i32),
    Any(i32),
}

impl Near {
    fn of(self, table: &Table) -> i32 {
        match self {
            Self::Victim(by) => table.victim.session.current_frame() + by,
            Self::Sender(by) => table.others[0].newest() + by,
            Self::Any(frame) => frame,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Everybody does what it should.
    Fair,
    /// The victim goes on without the others for so many ticks.
    Ticks(u8),
    /// The sender says what it should, as much of it as it likes.
    Ahead(u8),
    Input {
        statuses: Vec<(bool, Near)>,
        bye: bool,
        start: Near,
        ack: Near,
        bytes: Vec<u8>,
    },
    /// As it should be, with this instead of what the sender knows of the players.
    Claim(Vec<(bool, Near)>),
    Other(Body),
    /// Of so many frames from there on.
    Checksums(Near, u8),
    Depart(bool),
}

fn near() -> impl Strategy<Value = Near> {
    prop_oneof![
        4 => (-10..10).prop_map(Near::Victim),
        2 => (-AHEAD_MAX - 2..AHEAD_MAX + 2).prop_map(Near::Victim),
        4 => (-3..4).prop_map(Near::Sender),
        1 => (-200..200).prop_map(Near::Any),
        1 => prop_oneof![Just(i32::MIN), Just(i32::MAX), Just(-1), Just(0)].prop_map(Near::Any),
    ]
}

fn packed() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0..140_usize).prop_map(|count| pack(&[1, 0, 9].repeat(count))),
        1 => (0..40_usize, 0..3_u8).prop_map(|(count, len)| {
            let mut input = vec![len, 0];
            input.resize(2 + usize::from(len), 5);
            pack(&input.repeat(count))
        }),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let statuses = || prop::collection::vec((prop::bool::weighted(0.3), near()), 3);
    let any_statuses = || prop::collection::vec((any::<bool>(), near()), 0..5);
    let input = (any_statuses(), prop::bool::weighted(0.1), near(), near(), packed());
    let other = prop_oneof![
        any::<u32>().prop_map(|random| Body::SyncRequest { random }),
        any::<u32>().prop_map(|random| Body::SyncReply { random }),
        any::<i32>().prop_map(|ack_frame| Body::InputAck { ack_frame }),
        any::<(i16, u128)>()
            .prop_map(|(frame_advantage, ping)| Body::QualityReport { frame_advantage, ping }),
        prop_oneof![any::<u128>(), 0..9_u128].prop_map(|pong| Body::QualityReply { pong }),
        Just(Body::KeepAlive),
    ];
    prop_oneof![
        6 => Just(Step::Fair),
        3 => (1..4_u8).prop_map(Step::Ticks),
        1 => (1..50_u8).prop_map(Step::Ticks),
        3 => (0..70_u8).prop_map(Step::Ahead),
        4 => input.prop_map(|(statuses, bye, start, ack, bytes)| {
            Step::Input { statuses, bye, start, ack, bytes }
        }),
        4 => statuses().prop_map(Step::Claim),
        2 => other.prop_map(Step::Other),
        1 => (near(), 1..50_u8).prop_map(|(frame, count)| Step::Checksums(frame, count)),
        1 => prop::bool::weighted(0.7).prop_map(Step::Depart),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    let window = prop_oneof![1 => Just(0_usize), 1 => Just(2), 4 => Just(8), 1 => Just(20)];
    (0..4_usize, window, any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(delay, window, compares, sparse)| Setup { delay, window, compares, sparse })
}

impl Table {
    fn statuses(&self, claimed: &[(bool, Near)]) -> Vec<Status> {
        let status = |(disconnected, frame): &(bool, Near)| Status {
            disconnected: *disconnected,
            last_frame: frame.of(self),
        };
        claimed.iter().map(status).collect()
    }

    fn take(&mut self, step: &Step) {
        let packet = match step {
            Step::Fair => return self.tick(),
            Step::Ticks(count) => {
                for _ in 0..*count {
                    self.victim.tick();
                    self.carry();
                }
                return;
            }
            Step::Depart(departed) => {
                return self.victim.wire.lock().depart(self.others[0].id, *departed);
            }
            Step::Ahead(count) => {
                let sender = &mut self.others[0];
                // It keeps no more than what the victim may still want to know.
                let ahead = sender.newest() - sender.acked;
                sender.input((ahead < 200).then_some(0..*count).into_iter().flatten())
            }
            Step::Input { statuses, bye, start, ack, bytes } => {
                self.others[0].packet(Body::Input(Input {
                    statuses: self.statuses(statuses),
                    disconnect_requested: *bye,
                    start_frame: start.of(self),
                    ack_frame: ack.of(self),
                    bytes: bytes.clone(),
                }))
            }
            Step::Claim(claimed) => {
                let statuses = self.statuses(claimed);
                let mut packet = self.others[0].input([3]);
                if let Body::Input(input) = &mut packet.body {
                    input.statuses = statuses;
                }
                packet
            }
            Step::Other(body) => self.others[0].packet(body.clone()),
            Step::Checksums(frame, count) => {
                let first = frame.of(self);
                for frame in (0..i32::from(*count)).map(|after| first.wrapping_add(after)) {
                    let body = Body::ChecksumReport { checksum: 3, frame };
                    self.send(0, self.others[0].packet(body));
                }
                return;
            }
        };
        self.send(0, packet);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn nothing_that_a_player_sends_ends_the_game_of_another(
        setup in setup(),
        others in 1..3_usize,
        greeted in any::<bool>(),
        is_deaf in prop::bool::weighted(0.2),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut table = Table::new(setup, others);
        if greeted {
            table.play(10);
        }
        table.others[0].is_deaf = is_deaf;
        for step in &steps {
            table.take(step);
        }
        prop_assert!(table.victim.wire.lock().waiting() <= 2 * others * QUEUE_MAX);
    }
}
