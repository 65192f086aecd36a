//! Golden bytes, and messages that come back.

use proptest::prelude::*;

use super::*;

fn decision() -> Decision {
    let leaves = vec![Leave { slot: 3, last: 8 }];
    Decision { leaves, joins: vec![Join { slot: 2, from: 90, epoch: 6 }] }
}

fn all() -> Vec<Message> {
    let ballot = Ballot { round: 0x0102, slot: 1 };
    let tail = Tail { first: 5, count: 1, bits: vec![1, 2] };
    let agree = [
        Agree::Report { lost: Mask(0b1000) },
        Agree::Propose { ballot, joins: Mask(4), leaves: vec![(3, 6)] },
        Agree::Promise {
            ballot,
            tick: 60,
            held: vec![Held { slot: 3, last: 77, tail: tail.clone() }],
            accepted: Some((ballot, decision())),
        },
        Agree::Accept { ballot, decision: decision(), tails: vec![(3, tail)] },
        Agree::Accepted { ballot },
        Agree::TooLate { ballot, confirmed: 100 },
        Agree::Decided(Outcome {
            ballot,
            members: Mask(7),
            decision: decision(),
            epochs: vec![(2, 6)],
        }),
        Agree::Behind,
        Agree::Want { ready: true, epoch: 5 },
    ];
    let mut all: Vec<Message> = agree.map(|agree| Message::Agree { view: 9, agree }).into();
    all.extend([
        Message::Checksum { tick: 60, sum: 0x0102_0304_0506_0708 },
        Message::Watch { next: -1, delay: 300, view: 2 },
        Message::Feed { first: 2, count: 3, bits: vec![9] },
        Message::Fed { next: 4 },
        Message::Leave,
        Message::Delay { at: 70, delay: 3 },
        Message::Absent,
    ]);
    all
}

#[test]
fn golden_bytes() {
    let text: Vec<String> = all()
        .iter()
        .map(|message| message.encode(0xAA).iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let decision = "010308000000_01025a000000_06000000".replace('_', "");
    let tail = "05000000_0100_0200_0102";
    let expected = [
        "01aa000000_09000000_0800".into(),
        "02aa000000_09000000_0201000001_0400_01_03_06000000".into(),
        format!(
            "03aa000000_09000000_0201000001_3c000000_01_03_4d000000_{tail}_01_0201000001_{decision}"
        ),
        format!("04aa000000_09000000_0201000001_{decision}_01_03_{tail}"),
        "05aa000000_09000000_0201000001".into(),
        "06aa000000_09000000_0201000001_64000000".into(),
        format!("07aa000000_09000000_0201000001_0700_{decision}_01_02_06000000"),
        "08aa000000_09000000".into(),
        "09aa000000_09000000_01_05000000".into(),
        "00aa000000_3c000000_0807060504030201".into(),
        "0aaa000000_ffffffff_2c01_02000000".into(),
        "0baa000000_02000000_0300_09".into(),
        "0caa000000_04000000".into(),
        "0daa000000".into(),
        "0eaa000000_46000000_03".to_owned(),
        "0faa000000".into(),
    ];
    assert_eq!(text, expected.map(|line: String| line.replace('_', "")));
}

#[test]
fn every_message_comes_back_and_no_shorter_one_does() {
    for message in all() {
        let bytes = message.encode(7);
        assert_eq!(Message::decode(&bytes, 7), Ok(Some(message.clone())));
        assert_eq!(Message::decode(&bytes, 8), Ok(None));
        let feed = matches!(message, Message::Feed { .. });
        for len in 0..bytes.len() - usize::from(feed) {
            assert!(Message::decode(&bytes[..len], 7).is_err(), "{message:?} cut to {len}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Message::decode(&longer, 7).is_err(), !feed);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(kind in 0..20_u8, bytes in prop::collection::vec(any::<u8>(), 0..99)) {
        let mut all = vec![kind, 0, 0, 0, 0];
        all.extend(bytes);
        let _ = Message::decode(&all, 0);
    }
}
