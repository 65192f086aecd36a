//! A hierarchy: parents with children that die with them or move to another parent, entities that name each
//! other, and components that come and go.

use bevy::prelude::*;
use bevy_netplay::rollback::{
    AddRollback, DespawnRollback, Player, PlayerInputs, Rollback, RollbackId,
};
use serde::{Deserialize, Serialize};

use super::{Pad, Random};

/// Ticks that a parent lives.
const LIFE: u32 = 150;

#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    age: u32,
    food: i32,
}

/// A child's strength.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Child(i32);

/// Whom a child looks at, if it lives.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Friend(#[entities] Entity);

/// All whom a parent has seen, most of whom are dead.
#[derive(Component, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known(#[entities] Vec<Entity>);

/// For some ticks.
#[derive(Component, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[component(storage = "SparseSet")]
pub struct Asleep(u8);

#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deaths(pub u32);

pub fn build(app: &mut App) {
    app.rollback::<Parent>()
        .rollback::<Child>()
        .rollback::<Friend>()
        .rollback::<Known>()
        .rollback::<Asleep>()
        .rollback_immutable::<ChildOf>()
        .rollback_resource::<Deaths>()
        .init_resource::<Deaths>()
        .add_systems(FixedUpdate, (bear, feed, befriend, sleep, move_out, die).chain());
}

/// A new parent, with three children; one of them has a child of its own.
fn bear(mut commands: Commands, mut random: ResMut<Random>, parents: Query<&Parent>) {
    if parents.iter().count() >= 6 || random.below(9) > 0 {
        return;
    }
    let strength = random.below(20) as i32;
    let grandchild = children![(Rollback, Child(strength / 2))];
    commands.spawn((
        Rollback,
        Parent { age: random.below(u64::from(LIFE) / 2) as u32, food: 10 },
        Known::default(),
        children![
            (Rollback, Child(strength)),
            (Rollback, Child(strength + 1), grandchild),
            (Rollback, Child(strength + 2)),
        ],
    ));
}

/// Parents get older, and feed their children; with whom that begins counts.
fn feed(
    inputs: Res<PlayerInputs<Pad>>,
    mut parents: Query<(&RollbackId, &mut Parent, Option<&Children>)>,
    mut young: Query<(&RollbackId, &mut Child), Without<Asleep>>,
) {
    for (id, mut parent, children) in &mut parents {
        parent.age += 1;
        parent.food += i32::from(inputs[Player((id.get() % 2) as u8)].x);
        let all = children.into_iter().flatten();
        let ids = all.filter_map(|child| Some((*young.get(*child).ok()?.0, *child)));
        let mut ids: Vec<_> = ids.collect();
        ids.sort();
        for (_, child) in ids {
            if let Ok((_, mut child)) = young.get_mut(child)
                && parent.food > 0
            {
                child.0 += 1 + parent.food % 3;
                parent.food -= 1;
            }
        }
    }
}

/// Children choose a friend, and grow beside it.
fn befriend(
    mut commands: Commands,
    inputs: Res<PlayerInputs<Pad>>,
    mut all: Query<(&RollbackId, Entity, &mut Child, Option<&Friend>)>,
    mut parents: Query<(&RollbackId, &mut Known)>,
) {
    let mut young: Vec<_> = all.iter().map(|(id, entity, ..)| (*id, entity)).collect();
    young.sort();
    for (place, (id, entity)) in young.iter().enumerate() {
        let friend = all.get(*entity).ok().and_then(|(.., friend)| friend.copied());
        let lives = friend.is_some_and(|friend| all.contains(friend.0));
        let strength = friend.and_then(|friend| all.get(friend.0).ok()).map(|(.., it, _)| it.0);
        if let Ok((_, _, mut child, _)) = all.get_mut(*entity) {
            child.0 = (child.0 + strength.unwrap_or(-1) % 5).clamp(-1_000, 1_000);
        }
        if !lives && inputs[Player((id.get() % 2) as u8)].fire {
            let (_, friend) = young[(place + 1) % young.len()];
            commands.entity(*entity).insert(Friend(friend));
            if let Some((_, mut known)) = parents.iter_mut().min_by_key(|(id, _)| **id) {
                known.0.push(friend);
                let more = known.0.len().saturating_sub(12);
                known.0.drain(..more);
            }
        }
    }
}

fn sleep(
    mut commands: Commands,
    mut all: Query<(Entity, &RollbackId, &mut Child, Option<&mut Asleep>)>,
) {
    for (entity, id, mut child, asleep) in &mut all {
        match asleep {
            Some(mut asleep) if asleep.0 > 0 => asleep.0 -= 1,
            Some(_) => _ = commands.entity(entity).remove::<Asleep>(),
            None if child.0 > 60 => {
                child.0 -= 50;
                commands.entity(entity).insert(Asleep((id.get() % 11) as u8));
            }
            None => {}
        }
    }
}

/// A strong child moves to the parent with the lowest id, or has none any more.
fn move_out(
    mut commands: Commands,
    mut random: ResMut<Random>,
    young: Query<(&RollbackId, Entity, &Child)>,
    parents: Query<(&RollbackId, Entity), With<Parent>>,
) {
    let strongest = young.iter().max_by_key(|(id, _, child)| (child.0, **id));
    let Some((_, child, _)) = strongest.filter(|_| random.below(10) == 0) else { return };
    let parent = parents.iter().min().filter(|_| random.below(4) > 0);
    if let Some((_, parent)) = parent {
        commands.entity(child).insert(ChildOf(parent));
    } else {
        commands.entity(child).remove::<ChildOf>();
    }
}

/// Old parents die with all their children, and orphans by and by.
fn die(
    mut commands: Commands,
    parents: Query<(Entity, &Parent)>,
    mut orphans: Query<(Entity, &mut Child), Without<ChildOf>>,
    mut deaths: ResMut<Deaths>,
) {
    orphans.iter_mut().for_each(|(_, mut child)| child.0 -= 4);
    let old = parents.iter().filter(|(_, parent)| parent.age > LIFE).map(|(entity, _)| entity);
    let weak = orphans.iter().filter(|(_, child)| child.0 < 0).map(|(entity, _)| entity);
    for entity in old.chain(weak) {
        commands.entity(entity).despawn_rollback();
        deaths.0 += 1;
    }
}
