//! The exchange on channel 0 before any game message: are we the same game?
//!
//! Both sides send [`Hello`], and [`Control::Accept`] once the other's suits them. The side that
//! answered the offer speaks first, because its SCTP association is established last: the WebRTC
//! library loses a message that arrives before its own side has opened the channel, and then never
//! opens it (`webrtc` 0.21.1). Now and then the other side opens it later all the same, and the hello is
//! lost: who has spoken first and hears nothing says it again. A side is established when it has accepted *and* was accepted: so nobody
//! receives a game message before it has checked the sender. Where the hashes of the message types
//! differ, both send their tables first, so that both can name the difference.
//!
//! Each also says for which link the connection is: a new one, or one that goes on.

use core::time::Duration;

use netplay_protocol::control::{Control, Hello, LinkPoint, Mismatch};
use netplay_protocol::schema::Schema;

/// From open channels to a completed handshake; then a fresh attempt.
pub const HANDSHAKE: Duration = Duration::from_secs(3);
/// A hello that nobody answers is said again.
pub const SAY_AGAIN: Duration = Duration::from_millis(250);

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
    /// The link that we wanted to go on with is gone on the other side.
    LinkGone,
    /// A message that cannot come now.
    Violation(&'static str),
}

/// One side of the exchange.
#[derive(Debug)]
pub struct Handshake {
    hello: Hello,
    schema: Schema,
    said_hello: bool,
    accepted: bool,
    was_accepted: bool,
    awaiting_schema: bool,
    their_carriers: u8,
    /// The number of the other side's link, if this connection is to go on with one.
    goes_on_with: Option<u64>,
    their_hello: Option<Hello>,
    their_link: LinkPoint,
}

impl Handshake {
    /// A handshake for a game with these message types; `hello` carries their hash. `goes_on_with` is
    /// the number of the other side's link, if ours had another connection before.
    pub const fn new(hello: Hello, schema: Schema, goes_on_with: Option<u64>) -> Self {
        Self {
            hello,
            schema,
            said_hello: false,
            accepted: false,
            was_accepted: false,
            awaiting_schema: false,
            their_carriers: 0,
            goes_on_with,
            their_hello: None,
            their_link: LinkPoint { ours: 0, theirs: 0, stream: 0, control: 0 },
        }
    }

    /// What the other side's hello says of its link.
    pub const fn their_link(&self) -> LinkPoint {
        self.their_link
    }

    /// Where our link stands, for a hello that is not out yet.
    pub const fn set_link(&mut self, link: LinkPoint) {
        if !self.said_hello {
            self.hello.link = link;
        }
    }

    /// Our hello, if it is out and nothing has come back.
    pub fn unanswered(&self) -> Option<Control> {
        let silent = self.said_hello && self.their_hello.is_none() && !self.was_accepted;
        silent.then(|| Control::Hello(self.hello.clone()))
    }

    /// Whether our hello is out.
    pub const fn has_spoken(&self) -> bool {
        self.said_hello
    }

    /// What the side says that speaks first.
    pub fn speak_first(&mut self) -> Control {
        self.said_hello = true;
        Control::Hello(self.hello.clone())
    }

    /// Whether the other side's hello suits us.
    pub const fn accepted(&self) -> bool {
        self.accepted
    }

    /// Whether both sides can carry datagrams this way.
    pub const fn both_have(&self, carrier: u8) -> bool {
        self.hello.carriers & self.their_carriers & carrier != 0
    }

    /// A game packet arrived: the other side sends these only once it has accepted us, so it stands
    /// in for an accept that is still on its way on channel 0.
    pub fn game_packet(&mut self) -> Outcome {
        self.was_accepted = true;
        self.outcome()
    }

    /// Takes a message of the handshake and says what to answer.
    pub fn handle(&mut self, message: Control) -> (Outcome, Vec<Control>) {
        let mut answers = Vec::new();
        if !self.said_hello {
            answers.push(self.speak_first());
        }
        let outcome = self.judge(message, &mut answers);
        if let Outcome::Refused(mismatch) = &outcome {
            answers.push(Control::Refuse(mismatch.to_string()));
        }
        (outcome, answers)
    }

    fn judge(&mut self, message: Control, answers: &mut Vec<Control>) -> Outcome {
        match message {
            Control::Hello(theirs) if !self.accepted && !self.awaiting_schema => {
                if let Some(mismatch) = self.hello.mismatch(&theirs) {
                    return Outcome::Refused(mismatch);
                }
                self.their_hello = Some(theirs.clone());
                self.their_carriers = theirs.carriers;
                self.their_link = theirs.link;
                let knows_ours = [0, self.hello.link.ours].contains(&theirs.link.theirs);
                match self.goes_on_with {
                    Some(number) if number != theirs.link.ours || !knows_ours => {
                        return Outcome::LinkGone;
                    }
                    // It learns from our hello that its link has no other end any more.
                    None if !knows_ours => return Outcome::Pending,
                    _ => {}
                }
                if theirs.schema_hash == self.hello.schema_hash {
                    self.accepted = true;
                    answers.push(Control::Accept);
                } else {
                    self.awaiting_schema = true;
                    answers.push(Control::Schema(self.schema.clone()));
                }
                self.outcome()
            }
            Control::HelloOfVersion(theirs) => {
                Outcome::Refused(Mismatch::Version { ours: self.hello.version, theirs })
            }
            Control::Schema(theirs) if self.awaiting_schema => {
                // Equal tables with unequal hashes: a forged hash. Nothing to name, but no match.
                let difference = self.schema.difference(&theirs);
                Outcome::Refused(Mismatch::Schema(difference.unwrap_or_default()))
            }
            Control::Accept => {
                self.was_accepted = true;
                self.outcome()
            }
            Control::Refuse(text) => Outcome::RefusedByPeer(text),
            // It has not heard us, or had not when it said it.
            Control::Hello(theirs) if self.their_hello.as_ref() == Some(&theirs) => {
                Outcome::Pending
            }
            Control::Hello(_) => Outcome::Violation("a second hello"),
            Control::Schema(_) => Outcome::Violation("a schema that was not asked for"),
            Control::Credit { .. } | Control::Bye(_) | Control::Start(_) | Control::Pause(_) => {
                Outcome::Pending
            }
        }
    }

    const fn outcome(&self) -> Outcome {
        if self.accepted && self.was_accepted { Outcome::Established } else { Outcome::Pending }
    }
}

#[cfg(test)]
mod tests {
    use netplay_protocol::control::{carriers, lane_entries};
    use netplay_protocol::schema::SchemaEntry;
    use netplay_protocol::{BuildId, GameId, Lane, LaneTable};

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
            lanes: lane_entries(&LaneTable::default()),
            carriers: carriers::DATA_CHANNEL,
            link: LinkPoint::default(),
        };
        Handshake::new(hello, schema, None)
    }

    /// The same game with a link of this number that goes on with the one of that number.
    fn goes_on(ours: u64, theirs: u64) -> Handshake {
        let Handshake { mut hello, schema, .. } = side("1", &["m"]);
        hello.link = LinkPoint { ours, theirs, stream: ours, control: 0 };
        Handshake::new(hello, schema, (theirs != 0).then_some(theirs))
    }

    /// Runs both sides to the end and returns their last outcomes.
    fn run(a: &mut Handshake, b: &mut Handshake) -> (Outcome, Outcome) {
        let mut to_b = vec![a.speak_first()];
        let mut to_a = Vec::new();
        let (mut end_a, mut end_b) = (Outcome::Pending, Outcome::Pending);
        while !to_a.is_empty() || !to_b.is_empty() {
            for message in core::mem::take(&mut to_a) {
                let (outcome, answers) = a.handle(message);
                to_b.extend(answers);
                // A refusal of ours is final; what follows from the other side does not change it.
                if !matches!(end_a, Outcome::Refused(_)) {
                    end_a = outcome;
                }
            }
            for message in core::mem::take(&mut to_b) {
                let (outcome, answers) = b.handle(message);
                to_a.extend(answers);
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
        let (outcome, answers) = side("1", &[]).handle(Control::HelloOfVersion(9));
        assert_eq!(outcome, Outcome::Refused(Mismatch::Version { ours: 1, theirs: 9 }));
        assert!(matches!(&answers[..], [Control::Hello(_), Control::Refuse(_)]));
    }

    #[test]
    fn messages_out_of_place_are_violations() {
        let mut a = side("1", &[]);
        let schema = Control::Schema(Schema::default());
        assert!(matches!(a.handle(schema).0, Outcome::Violation(_)));
        a.handle(side("1", &[]).speak_first());
        assert!(matches!(a.handle(side("2", &[]).speak_first()).0, Outcome::Violation(_)));
    }

    #[test]
    fn a_hello_that_is_said_again_changes_nothing() {
        let (mut a, mut b) = (side("1", &["m"]), side("1", &["m"]));
        assert_eq!(a.unanswered(), None, "it was not said");
        let lost = a.speak_first();
        assert_eq!(a.unanswered(), Some(lost.clone()));
        let (_, answers) = b.handle(lost.clone());
        assert_eq!(b.handle(lost), (Outcome::Pending, vec![]));
        for answer in answers {
            a.handle(answer);
        }
        assert_eq!(a.unanswered(), None);
    }

    #[test]
    fn a_game_packet_stands_in_for_a_late_accept() {
        let mut a = side("1", &[]);
        assert_eq!(a.game_packet(), Outcome::Pending);
        let mut a = side("1", &[]);
        a.handle(side("1", &[]).speak_first());
        assert_eq!(a.game_packet(), Outcome::Established);
    }

    #[test]
    fn both_ends_of_a_link_go_on_with_it() {
        let (mut a, mut b) = (goes_on(1, 2), goes_on(2, 1));
        assert_eq!(run(&mut a, &mut b), (Outcome::Established, Outcome::Established));
        assert_eq!((a.their_link().stream, b.their_link().stream), (2, 1));
    }

    #[test]
    fn a_side_that_was_never_sure_goes_on_too() {
        // Ours was established, theirs waited for our last word: it knows no number of ours yet.
        let (mut a, mut b) = (goes_on(1, 2), goes_on(2, 0));
        assert_eq!(run(&mut a, &mut b), (Outcome::Established, Outcome::Established));
    }

    #[test]
    fn a_link_whose_other_end_is_gone_is_told_so() {
        for (mut a, mut b) in [
            (goes_on(1, 2), goes_on(3, 0)),
            (goes_on(1, 2), goes_on(3, 4)),
            (goes_on(1, 2), goes_on(2, 4)),
        ] {
            let (end_a, end_b) = run(&mut a, &mut b);
            assert_eq!(end_a, Outcome::LinkGone);
            assert!(matches!(end_b, Outcome::LinkGone | Outcome::Pending), "{end_b:?}");
        }
    }
}
