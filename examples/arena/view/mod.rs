//! The arena on a screen.

mod backdrop;
mod colors;
mod hud;
mod input;
mod scene;
mod sparks;

use bevy::camera::ScalingMode;
use bevy::prelude::*;
use netplay_examples::canvas;

use crate::game::HALF;

/// What surrounds the arena where the window has another shape.
const OUTSIDE: Color = Color::srgb(0.012, 0.016, 0.035);
/// Space between the arena's border and the window's, in world units.
const MARGIN: f32 = 8.0;

/// What is drawn, and what the keys do.
pub struct ViewPlugin;

impl Plugin for ViewPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(ClearColor(OUTSIDE))
            .add_plugins((
                backdrop::plugin,
                canvas::plugin,
                colors::plugin,
                hud::plugin,
                input::plugin,
                scene::plugin,
                sparks::plugin,
            ))
            .add_systems(Startup, look);
    }
}

/// The whole arena is always in sight.
fn look(mut commands: Commands) {
    let size = 2.0 * (HALF + MARGIN);
    commands.spawn((
        Camera2d,
        Projection::Orthographic(OrthographicProjection {
            scaling_mode: ScalingMode::AutoMin { min_width: size.x, min_height: size.y },
            ..OrthographicProjection::default_2d()
        }),
    ));
}

/// World units per pixel.
fn pixel(window: &Window) -> f32 {
    let size = 2.0 * (HALF + MARGIN);
    (size.x / window.width().max(1.0)).max(size.y / window.height().max(1.0))
}
