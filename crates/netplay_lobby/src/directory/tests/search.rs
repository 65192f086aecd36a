//! Which lobbies are found, and in which order.

use core::cmp::Ordering;

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
fn those_as_far_above_as_others_are_below_are_equal_on_every_page() {
    let mut node = Node::new();
    let rated = [9, 11].map(|rating: i64| [("rating", Value::Number(rating))]);
    let all: Vec<String> = (0..130).map(|number| format!("{number:03}")).collect();
    let described = (0..).zip(&all).map(|(at, name)| (name.as_str(), 4, &rated[at % 2][..]));
    lobbies(&mut node, &described.collect::<Vec<_>>());
    let near = Search::all().by(data("rating"), Order::Near(10));
    assert_eq!(names(&mut node, near), all[..LOBBY_LIST_MAX], "the oldest come first");
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

/// A value, a text or none.
fn value() -> impl Strategy<Value = Option<Value>> {
    let text = (0..3usize).prop_map(|which| Value::from(["ab", "bc", "c"][which]));
    prop_oneof![3 => (0..4i64).prop_map(|number| Some(number.into())), 1 => text.prop_map(Some), 1 => Just(None)]
}

/// The number of one of two values, how it is compared, and with what.
fn filter() -> impl Strategy<Value = (usize, Compare, Value)> {
    use Compare::{Contains, Eq, Ge, Gt, Le, Lt, Ne};
    let compare = prop::sample::select(vec![Eq, Eq, Ne, Lt, Le, Gt, Ge, Contains]);
    (0..2usize, compare, value().prop_filter_map("a value", |value| value))
}

/// The number of one of two values, and how it is sorted by.
fn sort() -> impl Strategy<Value = (usize, Order)> {
    let order = prop_oneof![
        Just(Order::Ascending),
        Just(Order::Descending),
        (-1..5i64).prop_map(Order::Near)
    ];
    (0..2usize, order)
}

/// As the protocol says it.
fn holds(here: Option<&Value>, compare: Compare, with: &Value) -> bool {
    match (here, with) {
        (Some(Value::Text(here)), Value::Text(with)) if compare == Compare::Contains => {
            here.contains(with.as_str())
        }
        (Some(Value::Text(_)), Value::Text(_)) | (Some(Value::Number(_)), Value::Number(_)) => {
            match compare {
                Compare::Eq => here == Some(with),
                Compare::Ne => here != Some(with),
                Compare::Lt => here < Some(with),
                Compare::Le => here <= Some(with),
                Compare::Gt => here > Some(with),
                Compare::Ge => here >= Some(with),
                Compare::Contains => false,
            }
        }
        _ => false,
    }
}

/// Which of two lobbies comes first, by a value of each.
fn first_of(order: Order, a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let far = |value: Option<&Value>, to| match value {
        Some(Value::Number(number)) => number.abs_diff(to),
        _ => u64::MAX,
    };
    let lacks = a.is_none().cmp(&b.is_none());
    match order {
        Order::Ascending => lacks.then(a.cmp(&b)),
        Order::Descending => lacks.then(b.cmp(&a)),
        Order::Near(to) => far(a, to).cmp(&far(b, to)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

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

    /// However it is that lobbies are looked for, a page is what filtering and sorting all would give.
    #[test]
    fn a_page_is_what_all_that_fit_in_their_order_would_have_there(
        values in prop::collection::vec([value(), value()], 1..150),
        filters in prop::collection::vec(filter(), 0..3),
        sorts in prop::collection::vec(sort(), 0..3),
        skip in prop_oneof![Just(0usize), 0..80usize],
    ) {
        let mut node = Node::new();
        let names: Vec<String> = (0..values.len()).map(|number| format!("{number:03}")).collect();
        let owned: Vec<Vec<_>> = values
            .iter()
            .map(|[a, b]| [("a", a), ("b", b)].into_iter())
            .map(|both| both.filter_map(|(key, value)| Some((key, value.clone()?))).collect())
            .collect();
        let all = names.iter().zip(&owned).map(|(name, values)| (name.as_str(), 2, &values[..]));
        lobbies(&mut node, &all.collect::<Vec<_>>());

        let field = |which: usize| data(["a", "b"][which]);
        let mut search = Search { skip: u16::try_from(skip).unwrap(), ..Search::default() };
        for (which, compare, with) in &filters {
            search = search.with(field(*which), *compare, with.clone());
        }
        for (which, order) in &sorts {
            search = search.by(field(*which), *order);
        }
        let (page, more) = node.search(1, search);
        let page: Vec<String> = page.into_iter().map(|lobby| lobby.name).collect();

        let fits = |lobby: &usize| {
            let here = |which: usize| values[*lobby][which].as_ref();
            filters.iter().all(|(which, compare, with)| holds(here(*which), *compare, with))
        };
        let mut expected: Vec<usize> = (0..values.len()).filter(fits).collect();
        // What is equal stays as old as it is.
        expected.sort_by(|a, b| {
            let orders = sorts.iter().map(|(which, order)| {
                first_of(*order, values[*a][*which].as_ref(), values[*b][*which].as_ref())
            });
            orders.fold(Ordering::Equal, Ordering::then)
        });
        prop_assert_eq!(more, expected.len() > skip + LOBBY_LIST_MAX);
        let expected = expected.into_iter().skip(skip).take(LOBBY_LIST_MAX);
        prop_assert_eq!(page, expected.map(|lobby| names[lobby].clone()).collect::<Vec<_>>());
    }
}
