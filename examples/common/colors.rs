//! Colours of players.

use bevy::prelude::*;

/// One for each player: as far apart as eight can be, and bright enough for a dark ground.
pub const PALETTE: [Srgba; 8] = [
    Srgba::rgb(0.30, 0.79, 0.94),
    Srgba::rgb(1.00, 0.62, 0.27),
    Srgba::rgb(0.48, 0.90, 0.51),
    Srgba::rgb(1.00, 0.44, 0.82),
    Srgba::rgb(1.00, 0.88, 0.40),
    Srgba::rgb(0.68, 0.55, 1.00),
    Srgba::rgb(0.36, 0.52, 1.00),
    Srgba::rgb(1.00, 0.36, 0.34),
];
