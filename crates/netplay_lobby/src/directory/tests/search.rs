//! Which lobbies are found, and in which order.

use netplay_protocol::DataKey;
use netplay_protocol::limits::LOBBY_LIST_MAX;
use netplay_protocol::lobby::{
    ClientMessage, Compare, CreateWith, Entry, Field, LobbyOptions, Order, Search, Value,
};
use proptest::prelude::*;

use super::node::Node;

fn data(name: &str) -> Field {
    Field::Data(DataKey::new(name).unwrap())
}

/// Its name, its capacity, and public values.
type Described<'a> = (&'a str, u8, &'a [(&'a str, Value)]);

/// A lobby for each.
fn lobbies(node: &mut Node, all: &[Described<'_>]) {
    for (number, (name, capacity, values)) in all.iter().enumerate() {
        let connection = 100 + number as u64;
        node.hello(connection);
        let entry = |(name, value): &(&str, Value)| {
            (DataKey::new(*name).unwrap(), Entry::public(value.clone()))
        };
        let with = CreateWith { data: values.iter().map(entry).collect(), ..Default::default() };
        let options = LobbyOptions { name: (*name).into(), ..LobbyOptions::public(*capacity) };
        node.say(connection, ClientMessage::Create { request: 1, options, with });
    }
    node.hello(1);
}

fn names(node: &mut Node, search: Search) -> Vec<String> {
    node.search(1, search).0.into_iter().map(|found| found.name).collect()
}

#[test]
fn filters_compare_like_with_like() {
    let mut node = Node::new();
    let number = |number: i64| Value::Number(number);
    lobbies(
        &mut node,
        &[
            ("a", 2, &[("map", "desert".into()), ("rating", number(1400))]),
            ("b", 4, &[("map", "forest".into()), ("rating", number(1500))]),
            ("c", 4, &[("map", number(3))]),
        ],
    );
    let mut find = |field, compare, value: Value| {
        let mut found = names(&mut node, Search::all().with(field, compare, value));
        found.sort_unstable();
        found.concat()
    };
    assert_eq!(find(data("map"), Compare::Eq, "desert".into()), "a");
    assert_eq!(find(data("map"), Compare::Ne, "desert".into()), "b", "a number is not compared");
    assert_eq!(find(data("map"), Compare::Contains, "es".into()), "ab");
    assert_eq!(find(data("map"), Compare::Contains, number(3)), "");
    assert_eq!(find(data("rating"), Compare::Ge, number(1400)), "ab");
    assert_eq!(find(data("rating"), Compare::Gt, number(1400)), "b");
    assert_eq!(find(data("rating"), Compare::Lt, number(1500)), "a");
    assert_eq!(find(data("rating"), Compare::Le, number(1500)), "ab");
    assert_eq!(find(Field::Capacity, Compare::Eq, number(4)), "bc");
    assert_eq!(find(Field::Free, Compare::Ge, number(2)), "bc");
    assert_eq!(find(Field::Members, Compare::Eq, number(1)), "abc");
    assert_eq!(find(Field::Name, Compare::Gt, "a".into()), "bc");
    assert_eq!(find(Field::Password, Compare::Eq, number(0)), "abc");
    assert_eq!(find(Field::Playing, Compare::Eq, number(1)), "");
    assert_eq!(find(data("nothing"), Compare::Ne, number(1)), "");
}

#[test]
fn results_come_in_the_order_that_is_asked_for() {
    let mut node = Node::new();
    let rated = |rating: i64| [("rating", Value::Number(rating))];
    lobbies(
        &mut node,
        &[("a", 4, &rated(1000)), ("b", 4, &rated(1490)), ("c", 4, &rated(1600)), ("d", 4, &[])],
    );
    let mut by = |order| names(&mut node, Search::all().by(data("rating"), order)).concat();
    assert_eq!(by(Order::Near(1500)), "bcad", "who has no rating comes last");
    assert_eq!(by(Order::Ascending), "abcd");
    assert_eq!(by(Order::Descending), "cbad");
    node.hello(2);
    let first = node.search(1, Search::all()).0.remove(2);
    node.join(2, first.code);
    assert_eq!(names(&mut node, Search::all()).concat(), "cabd", "the fullest, then the oldest");
    let last = Search::all().by(Field::Name, Order::Descending);
    assert_eq!(names(&mut node, last).concat(), "dcba");
}

#[test]
fn quick_join_finds_only_what_fits_or_creates_it() {
    let mut node = Node::new();
    let mode = |mode: &str| [("mode", Value::from(mode))];
    lobbies(&mut node, &[("a", 2, &mode("race")), ("b", 2, &mode("duel"))]);
    let duel = Search::all().with(data("mode"), Compare::Eq, "duel").filters;
    let quick = |filters| {
        let (options, with) = (LobbyOptions::public(2), CreateWith::default());
        ClientMessage::QuickJoin { request: 1, options, filters, with }
    };
    node.say(1, quick(duel.clone()));
    let duels = Search { filters: duel.clone(), ..Search::default() };
    node.take(1);
    assert_eq!(names(&mut node, duels), Vec::<String>::new(), "it is full now");
    node.hello(2);
    node.say(2, quick(duel));
    node.take(2);
    assert_eq!(node.directory.stats().lobbies, 3);
}

#[test]
fn pages_follow_each_other_without_a_gap_and_end() {
    let mut node = Node::new();
    let names: Vec<String> = (0..120).map(|number| format!("{number:03}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), 2, &[][..])).collect();
    lobbies(&mut node, &all);
    let (mut found, mut more) = (Vec::new(), true);
    while more {
        let skip = u16::try_from(found.len()).unwrap();
        let page = node.search(1, Search { skip, ..Search::default() });
        assert!(page.0.len() <= LOBBY_LIST_MAX);
        found.extend(page.0.into_iter().map(|lobby| lobby.name));
        more = page.1;
    }
    assert_eq!(found, names);
}

#[test]
fn a_page_of_lobbies_that_say_much_ends_where_the_message_is_full() {
    let mut node = Node::new();
    let text = Value::Text("\"".repeat(256));
    let names = ["a", "b", "c", "d", "e", "f"];
    let values: Vec<_> = names.iter().map(|name| (*name, text.clone())).collect();
    lobbies(&mut node, &vec![("much", 2, &values[..]); 40]);
    let (first, more) = node.search(1, Search::all());
    assert!(more && first.len() < 40, "{}", first.len());
    let skip = u16::try_from(first.len()).unwrap();
    let (rest, _) = node.search(1, Search { skip, ..Search::default() });
    assert!(!rest.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]

    /// With the index and without it the same lobbies are found.
    #[test]
    fn the_index_finds_what_looking_at_all_finds(
        values in prop::collection::vec((0..3i64, 0..3i64), 1..40),
        wanted in (0..3i64, 0..3i64),
    ) {
        let mut node = Node::new();
        let owned: Vec<_> = values
            .iter()
            .map(|(a, b)| [("a", Value::Number(*a)), ("b", Value::Number(*b))])
            .collect();
        let all: Vec<_> = owned.iter().map(|values| ("x", 2, &values[..])).collect();
        lobbies(&mut node, &all);
        let by = |compare| {
            let search = Search::all().with(data("a"), compare, wanted.0);
            search.with(data("b"), compare, wanted.1)
        };
        let codes = |found: Vec<netplay_protocol::lobby::LobbySummary>| {
            found.into_iter().map(|lobby| lobby.code).collect::<Vec<_>>()
        };
        let indexed = codes(node.search(1, by(Compare::Eq)).0);
        let both = by(Compare::Ge).filters.into_iter().chain(by(Compare::Le).filters).collect();
        let plain = codes(node.search(1, Search { filters: both, ..Search::default() }).0);
        prop_assert_eq!(indexed, plain);
    }
}
