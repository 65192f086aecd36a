//! What does not move: clouds, the grid, the arena's border.

use bevy::asset::RenderAssetUsages;
use bevy::prelude::*;
use bevy::render::render_resource::{Extent3d, TextureDimension, TextureFormat};
use netplay_examples::canvas::{Canvas, see_through};

use crate::game::HALF;

use super::OUTSIDE;

/// Size of the picture of the clouds, which is stretched over the arena.
const CLOUDS: UVec2 = UVec2::new(480, 270);
/// Distance of the grid's lines; it divides the arena.
const GRID: f32 = 60.0;

pub fn plugin(app: &mut App) {
    app.add_systems(Startup, paint);
}

fn paint(
    mut commands: Commands,
    mut images: ResMut<Assets<Image>>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    commands.spawn((
        Sprite { image: images.add(clouds()), custom_size: Some(2.0 * HALF), ..default() },
        Transform::from_xyz(0.0, 0.0, -2.0),
    ));
    let material = materials.add(see_through());
    let mut canvas = Canvas::default();
    grid(&mut canvas);
    commands.spawn((
        Mesh2d(meshes.add(canvas.take())),
        MeshMaterial2d(material.clone()),
        Transform::from_xyz(0.0, 0.0, -1.0),
    ));
    border(&mut canvas);
    commands.spawn((
        Mesh2d(meshes.add(canvas.take())),
        MeshMaterial2d(material),
        Transform::from_xyz(0.0, 0.0, 1.0),
    ));
}

fn grid(canvas: &mut Canvas) {
    let color = LinearRgba::new(0.25, 0.42, 0.85, 0.075);
    let mut x = -HALF.x + GRID;
    while x < HALF.x - 1.0 {
        canvas.line(Vec2::new(x, -HALF.y), Vec2::new(x, HALF.y), 1.0, [color; 2]);
        x += GRID;
    }
    let mut y = -HALF.y + GRID / 2.0;
    while y < HALF.y - 1.0 {
        canvas.line(Vec2::new(-HALF.x, y), Vec2::new(HALF.x, y), 1.0, [color; 2]);
        y += GRID;
    }
}

/// The border, and what hides ships that are half over it.
fn border(canvas: &mut Canvas) {
    let far = HALF * 8.0;
    let outside = OUTSIDE.to_linear();
    canvas.rectangle(-far, Vec2::new(far.x, -HALF.y), outside);
    canvas.rectangle(Vec2::new(-far.x, HALF.y), far, outside);
    canvas.rectangle(Vec2::new(-far.x, -HALF.y), Vec2::new(-HALF.x, HALF.y), outside);
    canvas.rectangle(Vec2::new(HALF.x, -HALF.y), Vec2::new(far.x, HALF.y), outside);
    let light = LinearRgba::new(0.10, 0.28, 0.85, 0.07);
    let none = light.with_alpha(0.0);
    let corners =
        |half: Vec2| [-half, Vec2::new(half.x, -half.y), half, Vec2::new(-half.x, half.y)];
    for (other, colors) in [(-22.0, [light, none]), (7.0, [light.with_alpha(0.22), none])] {
        let (near, away) = (corners(HALF), corners(HALF + other));
        for side in 0..4 {
            let next = (side + 1) % 4;
            let shape = [near[side], near[next], away[next], away[side]];
            canvas.quad(shape, [colors[0], colors[0], colors[1], colors[1]]);
        }
    }
    canvas.outline(&corners(HALF), 1.8, LinearRgba::new(0.16, 0.36, 0.85, 1.0));
}

/// Dark clouds.
fn clouds() -> Image {
    let mut data = Vec::with_capacity((CLOUDS.x * CLOUDS.y * 4) as usize);
    let size = CLOUDS.as_vec2();
    for y in 0..CLOUDS.y {
        for x in 0..CLOUDS.x {
            let at = (Vec2::new(x as f32, y as f32) - size / 2.0) / size.y;
            let bend = Vec2::new(cloud(at * 2.0 + 7.3), cloud(at * 2.0 - 3.1));
            let blue = cloud(at * 2.2 + bend * 1.4);
            let red = cloud(at * 1.7 - bend * 1.2 + 11.0);
            let dim = 1.0 - 0.5 * at.length_squared();
            let blue = (blue - 0.38).max(0.0) * 1.9 * dim;
            let red = (red - 0.46).max(0.0) * 1.7 * dim;
            let color = Vec3::new(0.020, 0.026, 0.062)
                + Vec3::new(0.04, 0.16, 0.32) * blue
                + Vec3::new(0.27, 0.06, 0.32) * red;
            // Noise of one step hides the steps between dark colours.
            let noise = hash(x as i32, y as i32);
            let bytes = color.to_array().map(|part| (part * 255.0 + noise) as u8);
            data.extend(bytes);
            data.push(255);
        }
    }
    Image::new(
        Extent3d { width: CLOUDS.x, height: CLOUDS.y, depth_or_array_layers: 1 },
        TextureDimension::D2,
        data,
        TextureFormat::Rgba8UnormSrgb,
        RenderAssetUsages::RENDER_WORLD,
    )
}

/// Noise between 0 and 1, smooth over several scales.
fn cloud(at: Vec2) -> f32 {
    let (mut sum, mut size, mut scale) = (0.0, 0.5, 1.0);
    for _ in 0..5 {
        sum += size * smooth(at * scale);
        size *= 0.5;
        scale *= 2.03;
    }
    sum
}

fn smooth(at: Vec2) -> f32 {
    let (cell, part) = (at.floor(), at.fract_gl());
    let part = part * part * (3.0 - 2.0 * part);
    let (x, y) = (cell.x as i32, cell.y as i32);
    let low = hash(x, y).lerp(hash(x + 1, y), part.x);
    let high = hash(x, y + 1).lerp(hash(x + 1, y + 1), part.x);
    low.lerp(high, part.y)
}

/// A number between 0 and 1 that looks random.
pub fn hash(x: i32, y: i32) -> f32 {
    let mut bits = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x2C1B_3C6D);
    bits = (bits ^ (bits >> 12)).wrapping_mul(0x297A_2D39);
    (bits ^ (bits >> 15)) as f32 / u32::MAX as f32
}
