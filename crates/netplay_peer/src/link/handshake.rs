//! The exchange on channel 0 before any game message: are we the same game?
//!
//! Both sides send [`Hello`] as soon as the channels are open, and [`Control::Accept`] once the
//! other's suits them. A side is established when it has accepted *and* was accepted: so nobody
//! receives a game message before it has checked the sender. Where the hashes of the message types
//! differ, both send their tables first, so that both can name the difference.

use netplay_protocol::control::{Control, Hello, Mismatch};
use netplay_protocol::schema::{Schema, SchemaDifference};

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// Both sides agree.
    Established,
    /// The two games do not fit.
    Refused(Mismatch),
    /// The other side refuses, and we do not see why.
    RefusedByPeer(String),
    /// A message that cannot come now.
    Violation(&'static str),
}

/// One side of the exchange.
#[derive(Debug)]
pub struct Handshake {
    hello: Hello,
    schema: Schema,
    accepted: bool,
    was_accepted: bool,
    awaiting_schema: bool,
}

impl Handshake {
    /// A handshake for a game with these message types; `hello` carries their hash.
    pub const fn new(hello: Hello, schema: Schema) -> Self {
        Self { hello, schema, accepted: false, was_accepted: false, awaiting_schema: false }
    }

    /// What to say first.
    pub fn hello(&self) -> Control {
        Control::Hello(self.hello.clone())
    }

    /// Whether the other side's hello suits us.
    pub const fn accepted(&self) -> bool {
        self.accepted
    }

    /// A game packet arrived: the other side sends these only once it has accepted us, so it stands
    /// in for an accept that is still on its way on channel 0.
    pub fn game_packet(&mut self) -> Outcome {
        self.was_accepted = true;
        self.outcome()
    }

    /// Takes a message of the handshake and says what to answer, if anything.
    pub fn handle(&mut self, message: Control) -> (Outcome, Option<Control>) {
        match message {
            Control::Hello(theirs) if !self.accepted && !self.awaiting_schema => {
                if let Some(mismatch) = self.hello.mismatch(&theirs) {
                    return refuse(mismatch);
                }
                if theirs.schema_hash != self.hello.schema_hash {
                    self.awaiting_schema = true;
                    return (Outcome::Pending, Some(Control::Schema(self.schema.clone())));
                }
                self.accepted = true;
                (self.outcome(), Some(Control::Accept))
            }
            Control::HelloOfVersion(theirs) => {
                refuse(Mismatch::Version { ours: self.hello.version, theirs })
            }
            Control::Schema(theirs) if self.awaiting_schema => {
                // Equal tables with unequal hashes: a forged hash. Nothing to name, but no match.
                let difference = self.schema.difference(&theirs);
                refuse(Mismatch::Schema(difference.unwrap_or_else(SchemaDifference::default)))
            }
            Control::Accept => {
                self.was_accepted = true;
                (self.outcome(), None)
            }
            Control::Refuse(text) => (Outcome::RefusedByPeer(text), None),
            Control::Hello(_) => (Outcome::Violation("a second hello"), None),
            Control::Schema(_) => (Outcome::Violation("a schema that was not asked for"), None),
            Control::Credit(_) | Control::Bye(_) => (Outcome::Pending, None),
        }
    }

    const fn outcome(&self) -> Outcome {
        if self.accepted && self.was_accepted { Outcome::Established } else { Outcome::Pending }
    }
}

fn refuse(mismatch: Mismatch) -> (Outcome, Option<Control>) {
    let text = Control::Refuse(mismatch.to_string());
    (Outcome::Refused(mismatch), Some(text))
}

#[cfg(test)]
mod tests {
    use netplay_protocol::control::lane_table;
    use netplay_protocol::schema::SchemaEntry;
    use netplay_protocol::{BuildId, GameId, Lane};

    use super::*;

    fn side(build: &str, messages: &[&str]) -> Handshake {
        let entries = messages.iter();
        let entries =
            entries.map(|name| SchemaEntry { name: (*name).into(), lane: Lane::Reliable });
        let schema = Schema::new(entries.collect()).unwrap();
        let hello = Hello {
            version: 1,
            codec: 1,
            game: GameId::new("g").unwrap(),
            build: BuildId::new(build).unwrap(),
            schema_hash: schema.hash(),
            lanes: lane_table(),
        };
        Handshake::new(hello, schema)
    }

    /// Runs both sides to the end and returns their last outcomes.
    fn run(a: &mut Handshake, b: &mut Handshake) -> (Outcome, Outcome) {
        let mut to_b = vec![a.hello()];
        let mut to_a = vec![b.hello()];
        let (mut end_a, mut end_b) = (Outcome::Pending, Outcome::Pending);
        while !to_a.is_empty() || !to_b.is_empty() {
            for message in core::mem::take(&mut to_a) {
                let (outcome, answer) = a.handle(message);
                to_b.extend(answer);
                // A refusal of ours is final; what follows from the other side does not change it.
                if !matches!(end_a, Outcome::Refused(_)) {
                    end_a = outcome;
                }
            }
            for message in core::mem::take(&mut to_b) {
                let (outcome, answer) = b.handle(message);
                to_a.extend(answer);
                if !matches!(end_b, Outcome::Refused(_)) {
                    end_b = outcome;
                }
            }
        }
        (end_a, end_b)
    }

    #[test]
    fn equal_games_establish() {
        let (mut a, mut b) = (side("1", &["m"]), side("1", &["m"]));
        assert_eq!(run(&mut a, &mut b), (Outcome::Established, Outcome::Established));
    }

    #[test]
    fn other_builds_are_named_on_both_sides() {
        let (mut a, mut b) = (side("1", &["m"]), side("2", &["m"]));
        let (end_a, end_b) = run(&mut a, &mut b);
        let build = |text: &str| BuildId::new(text).unwrap();
        assert_eq!(
            end_a,
            Outcome::Refused(Mismatch::Build { ours: build("1"), theirs: build("2") })
        );
        assert_eq!(
            end_b,
            Outcome::Refused(Mismatch::Build { ours: build("2"), theirs: build("1") })
        );
    }

    #[test]
    fn other_message_types_are_named_on_both_sides() {
        let (mut a, mut b) = (side("1", &["m", "new"]), side("1", &["m", "old"]));
        let (end_a, end_b) = run(&mut a, &mut b);
        let Outcome::Refused(Mismatch::Schema(difference)) = end_a else { panic!("{end_a:?}") };
        assert_eq!(difference.only_ours, ["new"]);
        assert_eq!(difference.only_theirs, ["old"]);
        let Outcome::Refused(Mismatch::Schema(difference)) = end_b else { panic!("{end_b:?}") };
        assert_eq!(difference.only_ours, ["old"]);
        assert_eq!(difference.only_theirs, ["new"]);
    }

    #[test]
    fn another_version_is_named() {
        let (outcome, answer) = side("1", &[]).handle(Control::HelloOfVersion(9));
        assert_eq!(outcome, Outcome::Refused(Mismatch::Version { ours: 1, theirs: 9 }));
        assert!(matches!(answer, Some(Control::Refuse(_))));
    }

    #[test]
    fn messages_out_of_place_are_violations() {
        let mut a = side("1", &[]);
        let schema = Control::Schema(Schema::default());
        assert!(matches!(a.handle(schema).0, Outcome::Violation(_)));
        let hello = side("1", &[]).hello();
        a.handle(hello.clone());
        assert!(matches!(a.handle(hello).0, Outcome::Violation(_)));
    }

    #[test]
    fn a_game_packet_stands_in_for_a_late_accept() {
        let mut a = side("1", &[]);
        assert_eq!(a.game_packet(), Outcome::Pending);
        let mut a = side("1", &[]);
        a.handle(side("1", &[]).hello());
        assert_eq!(a.game_packet(), Outcome::Established);
    }
}
