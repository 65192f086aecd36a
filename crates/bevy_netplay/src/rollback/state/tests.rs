//! Saved states against a model that copies everything.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use bevy_ecs::system::EntityCommands;
use netplay_protocol::codec::{Bincode, Codec};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::rollback::clock::SimulatedTick;
use crate::rollback::{DespawnRollback, Rollback};

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Plain(u32);

#[derive(Component, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Heap(Vec<u32>);

#[derive(Component, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[component(storage = "SparseSet")]
struct Sparse(u8);

#[derive(Component, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[component(immutable)]
struct Fixed(u8);

#[derive(Resource, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Score(u32);

/// What an entity is to everybody who can query it.
type Looks = (Option<Plain>, Option<Heap>, Option<Sparse>, Option<Fixed>);

#[derive(Clone, Debug, PartialEq)]
struct Model {
    entities: BTreeMap<RollbackId, Looks>,
    score: Option<Score>,
    next: u32,
}

fn looks(world: &mut World) -> Model {
    let mut query = world.query_filtered::<(
        &RollbackId,
        Option<&Plain>,
        Option<&Heap>,
        Option<&Sparse>,
        Option<&Fixed>,
    ), With<Rollback>>();
    let entities = query.iter(world).map(|(id, plain, heap, sparse, fixed)| {
        (*id, (plain.copied(), heap.cloned(), sparse.cloned(), fixed.cloned()))
    });
    let entities = entities.collect();
    Model {
        entities,
        score: world.get_resource::<Score>().cloned(),
        next: world.resource::<NextId>().0,
    }
}

#[derive(Clone, Debug)]
enum Act {
    Spawn { plain: Option<u32>, heap: bool, sparse: bool, fixed: bool },
    Die(u32),
    Despawn(u32),
    Write(u32, u32),
    Grow(u32),
    Give(u32, u8),
    Take(u32, u8),
    Anew(u32),
    Stop(u32),
    Score(Option<u32>),
    Tick,
    Back(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (any::<Option<u32>>(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(plain, heap, sparse, fixed)| Act::Spawn { plain, heap, sparse, fixed }),
        2 => any::<u32>().prop_map(Act::Die),
        1 => any::<u32>().prop_map(Act::Despawn),
        4 => any::<(u32, u32)>().prop_map(|(who, what)| Act::Write(who, what)),
        3 => any::<u32>().prop_map(Act::Grow),
        2 => (any::<u32>(), 0..4_u8).prop_map(|(who, what)| Act::Give(who, what)),
        2 => (any::<u32>(), 0..4_u8).prop_map(|(who, what)| Act::Take(who, what)),
        1 => any::<u32>().prop_map(Act::Anew),
        1 => any::<u32>().prop_map(Act::Stop),
        1 => prop::option::of(any::<u32>()).prop_map(Act::Score),
        8 => Just(Act::Tick),
        3 => (0..6_u8).prop_map(Act::Back),
    ]
}

/// A rollback entity, chosen by a number.
fn pick(world: &mut World, number: u32) -> Option<Entity> {
    let mut query = world.query_filtered::<(Entity, &RollbackId), With<Rollback>>();
    let mut all: Vec<_> = query.iter(world).map(|(entity, id)| (*id, entity)).collect();
    all.sort();
    let at = number as usize % all.len().max(1);
    all.get(at).map(|(_, entity)| *entity)
}

struct Kit {
    world: World,
    tick: i32,
    /// By tick, as they were saved.
    models: BTreeMap<i32, Model>,
    columns: [usize; 6],
}

fn value<C: DeserializeOwned>(bytes: &[u8]) -> C {
    Bincode::decode(bytes).expect("it was encoded")
}

const KEPT: usize = 6;

impl Kit {
    fn new() -> Self {
        let mut world = World::new();
        world.init_resource::<SimulatedTick>();
        let mut states = States::new(&mut world, KEPT);
        let columns = [
            states.next_id(),
            states.register(&mut world, Some(encode::<Plain>)),
            states.register(&mut world, Some(encode::<Heap>)),
            states.register(&mut world, Some(encode::<Sparse>)),
            states.register_immutable(&mut world, Some(encode::<Fixed>)),
            states.register_resource(&mut world, Some(encode::<Score>)),
        ];
        world.insert_resource(SavedStates::new(states));
        // The next entities have indices of these, as in a game that runs for a while.
        let before: Vec<_> = (0..300).map(|_| world.spawn_empty().id()).collect();
        before.into_iter().for_each(|entity| _ = world.despawn(entity));
        let mut kit = Self { world, tick: 0, models: BTreeMap::new(), columns };
        kit.save();
        kit
    }

    fn save(&mut self) {
        let tick = self.tick;
        SavedStates::scope(&mut self.world, |world, states| states.save(world, tick));
        self.models.insert(tick, looks(&mut self.world));
        self.models.retain(|at, _| *at > tick - KEPT as i32);
        self.world.insert_resource(SimulatedTick(tick));
    }

    /// What can be read of a state that is kept.
    fn read(&mut self, tick: i32) -> Model {
        let mut model = Model { entities: BTreeMap::new(), score: None, next: 0 };
        let mut alive = Vec::new();
        let mut values = Vec::new();
        let put = |nth: usize, id: RollbackId, hash: u64, bytes: &[u8]| {
            assert_eq!(hash, crate::rollback::encode::hash(id, bytes));
            values.push((nth, id, bytes.to_vec()));
        };
        let columns = self.columns;
        let read = SavedStates::scope(&mut self.world, |_, states| {
            states.read(tick, columns.into_iter(), |id| alive.push(id), put)
        });
        read.expect("it is kept");
        model.entities.extend(alive.into_iter().map(|id| (id, Looks::default())));
        for (nth, id, bytes) in values {
            if nth == 0 {
                model.next = value::<NextId>(&bytes).0;
            } else if nth == 5 {
                model.score = Some(value(&bytes));
            } else {
                let looks = model.entities.get_mut(&id).expect("it is alive");
                match nth {
                    1 => looks.0 = Some(value(&bytes)),
                    2 => looks.1 = Some(value(&bytes)),
                    3 => looks.2 = Some(value(&bytes)),
                    _ => looks.3 = Some(value(&bytes)),
                }
            }
        }
        model
    }

    fn read_all(&mut self) {
        for (tick, model) in self.models.clone() {
            assert_eq!(self.read(tick), model, "read tick {tick} at {}", self.tick);
        }
    }

    fn load(&mut self, tick: i32) {
        let loaded = SavedStates::scope(&mut self.world, |world, states| states.load(world, tick));
        assert_eq!(loaded.is_ok(), self.models.contains_key(&tick), "tick {tick}");
        if loaded.is_ok() {
            assert_eq!(looks(&mut self.world), self.models[&tick], "loaded tick {tick}");
            self.models.retain(|at, _| *at <= tick);
            self.tick = tick;
            self.world.insert_resource(SimulatedTick(tick));
        }
    }

    fn entity(&mut self, who: u32, then: impl FnOnce(&mut EntityCommands<'_>)) {
        if let Some(entity) = pick(&mut self.world, who) {
            let mut commands = self.world.commands();
            then(&mut commands.entity(entity));
            self.world.flush();
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Spawn { plain, heap, sparse, fixed } => {
                let mut entity = self.world.spawn(Rollback);
                plain.map(|value| entity.insert(Plain(value)).id());
                heap.then(|| entity.insert(Heap(vec![1])).id());
                sparse.then(|| entity.insert(Sparse(1)).id());
                fixed.then(|| entity.insert(Fixed(1)).id());
            }
            Act::Die(who) => self.entity(who, |entity| entity.despawn_rollback()),
            Act::Despawn(who) => self.entity(who, |entity| entity.despawn()),
            Act::Write(who, what) => {
                if let Some(entity) = pick(&mut self.world, who)
                    && let Some(mut plain) = self.world.get_mut::<Plain>(entity)
                {
                    plain.0 = what;
                }
            }
            Act::Grow(who) => {
                if let Some(entity) = pick(&mut self.world, who)
                    && let Some(mut heap) = self.world.get_mut::<Heap>(entity)
                {
                    heap.0.push(who);
                }
            }
            Act::Give(who, what) => self.entity(who, |entity| {
                match what {
                    0 => entity.insert(Plain(who)),
                    1 => entity.insert(Heap(vec![who])),
                    2 => entity.insert(Sparse(who as u8)),
                    _ => entity.insert(Fixed(who as u8)),
                };
            }),
            Act::Take(who, what) => self.entity(who, |entity| {
                match what {
                    0 => entity.remove::<Plain>(),
                    1 => entity.remove::<Heap>(),
                    2 => entity.remove::<Sparse>(),
                    _ => entity.remove::<Fixed>(),
                };
            }),
            Act::Stop(who) => self.entity(who, |entity| {
                entity.remove::<(Rollback, RollbackId)>();
            }),
            // It gets another id.
            Act::Anew(who) => self.entity(who, |entity| {
                entity.remove::<(Rollback, RollbackId)>().insert(Rollback);
            }),
            Act::Score(Some(score)) => self.world.insert_resource(Score(score)),
            Act::Score(None) => {
                self.world.remove_resource::<Score>();
            }
            Act::Tick => {
                self.tick += 1;
                self.save();
            }
            Act::Back(ticks) => self.load(self.tick - i32::from(ticks)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_loaded_state_is_what_was_saved(acts in prop::collection::vec(act(), 1..120)) {
        let mut kit = Kit::new();
        for act in &acts {
            kit.act(act);
        }
    }

    #[test]
    fn every_kept_state_can_be_read_at_any_time(acts in prop::collection::vec(act(), 1..80)) {
        let mut kit = Kit::new();
        for act in &acts {
            kit.act(act);
            if matches!(act, Act::Tick | Act::Back(_)) {
                kit.read_all();
            }
        }
    }
}

#[test]
fn a_save_notes_no_removal_that_somebody_would_have_to_clear() {
    let mut kit = Kit::new();
    for _ in 0..100 {
        kit.act(&Act::Tick);
    }
    kit.load(98);
    let states = kit.world.component_id::<SavedStates>().expect("it is registered");
    assert_eq!(kit.world.removed_with_id(states).count(), 0);
}

/// A world with these states, in which so many have values on the heap.
fn crowd(count: u32) -> Kit {
    let mut kit = Kit::new();
    for value in 0..count {
        kit.world.spawn((Rollback, Plain(value), Heap(vec![value])));
    }
    kit.act(&Act::Tick);
    kit
}

#[test]
fn those_who_come_back_with_the_indices_of_others_have_their_own_values() {
    let mut kit = crowd(400);
    let mut all = kit.world.query_filtered::<Entity, With<Plain>>();
    let all: Vec<_> = all.iter(&kit.world).collect();
    all.iter().for_each(|entity| _ = kit.world.despawn(*entity));
    kit.act(&Act::Tick);
    kit.load(1);
    kit.read_all();
}

#[test]
fn who_stopped_being_rolled_back_is_the_same_entity_again_after_a_load() {
    let mut kit = crowd(3);
    let entity = pick(&mut kit.world, 1).expect("it is there");
    kit.act(&Act::Stop(1));
    kit.act(&Act::Tick);
    kit.load(1);
    assert_eq!(pick(&mut kit.world, 1), Some(entity));
    let mut all = kit.world.query_filtered::<Entity, With<Plain>>();
    assert_eq!(all.iter(&kit.world).count(), 3);
}

#[test]
fn a_clone_has_an_id_of_its_own() {
    let mut kit = crowd(1);
    let entity = pick(&mut kit.world, 0).expect("it is there");
    let clone = kit.world.entity_mut(entity).clone_and_spawn();
    let id = |entity| *kit.world.get::<RollbackId>(entity).expect("it has one");
    assert_ne!(id(entity), id(clone));
    kit.act(&Act::Tick);
    kit.load(1);
}
