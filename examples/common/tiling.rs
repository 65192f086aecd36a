//! Where the windows of several players go, so that none covers another.

use std::num::NonZero;

use bevy::prelude::*;
use bevy::window::{Monitor, PrimaryMonitor, PrimaryWindow};

use crate::args::PlayArgs;

/// The screen's size until the real one is known.
const ASSUMED: UVec2 = UVec2::new(1280, 720);
/// What a window's frame adds to its content, at most, on usual desktops.
const FRAME: UVec2 = UVec2::new(8, 36);
/// A window that has the screen for itself takes this share of it.
const ALONE: f32 = 0.8;

/// One of the windows.
#[derive(Resource, Clone, Copy)]
pub struct Tile {
    name: &'static str,
    players: u32,
    number: u32,
    is_child: bool,
}

/// Where a window is, in physical pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    position: IVec2,
    size: UVec2,
}

/// Moves the window to its place once the screen's size is known.
pub struct TilingPlugin(pub Tile);

impl Plugin for TilingPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(self.0).add_systems(Update, arrange);
    }
}

impl Tile {
    /// The window of this process.
    pub fn of(name: &'static str, args: &PlayArgs) -> Self {
        Self {
            name,
            players: args.players().into(),
            number: args.child.unwrap_or(0).into(),
            is_child: args.child.is_some(),
        }
    }

    /// The window as it opens.
    pub fn window(self) -> Window {
        let title = match self.is_child {
            true => format!("Netplay {} – player {}", self.name, self.number + 1),
            false => format!("Netplay {}", self.name),
        };
        let place = self.place(ASSUMED);
        Window {
            title,
            name: Some(format!("netplay.{}", self.name)),
            resolution: place.size.into(),
            position: WindowPosition::At(place.position),
            // The keys stay with the window of who started the game.
            focused: !self.is_child,
            desired_maximum_frame_latency: NonZero::new(1),
            ..default()
        }
    }

    fn place(self, screen: UVec2) -> Place {
        if self.players <= 1 {
            let size = (screen.as_vec2() * ALONE).as_uvec2();
            return Place { position: ((screen - size) / 2).as_ivec2(), size };
        }
        let columns = (1..).find(|n| n * n >= self.players).unwrap_or(1);
        let rows = self.players.div_ceil(columns);
        let cell = screen / UVec2::new(columns, rows);
        let corner = cell * UVec2::new(self.number % columns, self.number / columns);
        let mut size = cell.saturating_sub(FRAME).max(UVec2::splat(64));
        // The games are wide: a tall window would be mostly empty.
        size.y = size.y.min(size.x * 3 / 4);
        let spare = cell.y.saturating_sub(size.y + FRAME.y) / 2;
        Place { position: (corner + UVec2::new(0, spare)).as_ivec2(), size }
    }
}

fn arrange(
    tile: Res<Tile>,
    monitors: Query<(&Monitor, Has<PrimaryMonitor>)>,
    mut window: Single<&mut Window, With<PrimaryWindow>>,
    mut done: Local<bool>,
) {
    if *done {
        return;
    }
    let Some((monitor, _)) = monitors.iter().max_by_key(|(_, primary)| *primary) else { return };
    *done = true;
    let place = tile.place(monitor.physical_size());
    window.position = WindowPosition::At(monitor.physical_position + place.position);
    window.resolution.set_physical_resolution(place.size.x, place.size.y);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_stay_on_the_screen_and_apart() {
        for players in 1..=8 {
            let place = |number| {
                let tile = Tile { name: "arena", players, number, is_child: number > 0 };
                let place = tile.place(ASSUMED);
                let min = place.position.as_vec2();
                Rect::from_corners(min, min + place.size.as_vec2())
            };
            for number in 0..players {
                let screen = Rect::from_corners(Vec2::ZERO, ASSUMED.as_vec2());
                assert_eq!(screen.intersect(place(number)), place(number));
                for other in 0..number {
                    assert!(place(number).intersect(place(other)).is_empty());
                }
            }
        }
    }
}
