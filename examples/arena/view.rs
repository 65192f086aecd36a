//! The arena on a screen.

use bevy::app::PluginGroupBuilder;
use bevy::prelude::*;
use netplay_examples::PlayArgs;

/// Bevy's plugins with our window.
pub fn window_plugins(_args: &PlayArgs) -> PluginGroupBuilder {
    DefaultPlugins.build()
}

/// What is drawn.
pub struct ViewPlugin;

impl Plugin for ViewPlugin {
    fn build(&self, _app: &mut App) {}
}
