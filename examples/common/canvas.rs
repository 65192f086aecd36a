//! Shapes of one frame, painted in order into one mesh.

use std::f32::consts::TAU;

use bevy::asset::RenderAssetUsages;
use bevy::camera::visibility::NoFrustumCulling;
use bevy::mesh::{Indices, PrimitiveTopology};
use bevy::prelude::*;
use bevy::sprite_render::AlphaMode2d;

/// What is painted this frame. Later shapes cover earlier ones.
#[derive(Resource, Default)]
pub struct Canvas {
    positions: Vec<[f32; 3]>,
    colors: Vec<[f32; 4]>,
    indices: Vec<u32>,
}

#[derive(Component)]
struct CanvasMesh;

/// Where on the way to the screen the canvas is.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Paint;

/// The canvas of an app with a window.
pub fn plugin(app: &mut App) {
    app.init_resource::<Canvas>()
        .add_systems(Startup, stretch)
        .add_systems(PostUpdate, hang.after(Paint));
}

fn stretch(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    let mut canvas = Canvas::default();
    commands.spawn((
        CanvasMesh,
        Mesh2d(meshes.add(canvas.take())),
        MeshMaterial2d(materials.add(see_through())),
        NoFrustumCulling,
    ));
}

/// The material of all canvases: the colours of the corners.
pub fn see_through() -> ColorMaterial {
    ColorMaterial { alpha_mode: AlphaMode2d::Blend, ..default() }
}

fn hang(
    mut canvas: ResMut<Canvas>,
    mesh: Single<&Mesh2d, With<CanvasMesh>>,
    mut meshes: ResMut<Assets<Mesh>>,
) {
    if let Some(mut shown) = meshes.get_mut(&mesh.0) {
        *shown = canvas.take();
    }
}

impl Canvas {
    /// The shapes painted so far as a mesh; the canvas is empty again.
    pub fn take(&mut self) -> Mesh {
        if self.positions.is_empty() {
            self.triangle([Vec2::ZERO; 3], [LinearRgba::NONE; 3]);
        }
        let Self { positions, colors, indices } = std::mem::take(self);
        Mesh::new(PrimitiveTopology::TriangleList, RenderAssetUsages::default())
            .with_inserted_attribute(Mesh::ATTRIBUTE_POSITION, positions)
            .with_inserted_attribute(Mesh::ATTRIBUTE_COLOR, colors)
            .with_inserted_indices(Indices::U32(indices))
    }

    fn corner(&mut self, at: Vec2, color: LinearRgba) -> u32 {
        let index = u32::try_from(self.positions.len()).unwrap_or(0);
        self.positions.push([at.x, at.y, 0.0]);
        self.colors.push(color.to_f32_array());
        index
    }

    /// A triangle with a colour at each corner.
    pub fn triangle(&mut self, at: [Vec2; 3], colors: [LinearRgba; 3]) {
        for (at, color) in at.into_iter().zip(colors) {
            let index = self.corner(at, color);
            self.indices.push(index);
        }
    }

    /// A shape with four corners, in order around it, with a colour at each.
    pub fn quad(&mut self, at: [Vec2; 4], colors: [LinearRgba; 4]) {
        let first = self.corner(at[0], colors[0]);
        for index in 1..4 {
            self.corner(at[index], colors[index]);
        }
        self.indices.extend([0, 1, 2, 0, 2, 3].map(|index| first + index));
    }

    /// A rectangle between two corners.
    pub fn rectangle(&mut self, min: Vec2, max: Vec2, color: LinearRgba) {
        self.quad([min, Vec2::new(max.x, min.y), max, Vec2::new(min.x, max.y)], [color; 4]);
    }

    /// A line that fades from one colour to another.
    pub fn line(&mut self, from: Vec2, to: Vec2, width: f32, colors: [LinearRgba; 2]) {
        let side = (to - from).normalize_or_zero().perp() * (width / 2.0);
        let [start, end] = colors;
        self.quad([from - side, to - side, to + side, from + side], [start, end, end, start]);
    }

    /// The outline of a shape, with round corners.
    pub fn outline(&mut self, corners: &[Vec2], width: f32, color: LinearRgba) {
        for (index, from) in corners.iter().enumerate() {
            let to = corners[(index + 1) % corners.len()];
            self.line(*from, to, width, [color; 2]);
            self.disc(*from, width / 2.0, [color; 2], 8);
        }
    }

    /// A disc with a colour inside and one at the rim.
    pub fn disc(&mut self, at: Vec2, radius: f32, colors: [LinearRgba; 2], sides: u32) {
        let middle = self.corner(at, colors[0]);
        for side in 0..=sides {
            let way = Vec2::from_angle(side as f32 / sides as f32 * TAU);
            let rim = self.corner(at + way * radius, colors[1]);
            if side > 0 {
                self.indices.extend([middle, rim - 1, rim]);
            }
        }
    }

    /// A part of a ring, from one angle over another, with a colour at the inner, middle and outer
    /// rim.
    pub fn arc(
        &mut self,
        at: Vec2,
        radius: f32,
        width: f32,
        (from, over): (f32, f32),
        colors: [LinearRgba; 3],
    ) {
        let sides = (over.abs() / TAU * 40.0).ceil().max(3.0) as u32;
        for side in 0..=sides {
            let way = Vec2::from_angle(from + over * side as f32 / sides as f32);
            let inner = self.corner(at + way * (radius - width / 2.0), colors[0]);
            self.corner(at + way * radius, colors[1]);
            self.corner(at + way * (radius + width / 2.0), colors[2]);
            if side > 0 {
                let last = inner - 3;
                for step in [0, 1] {
                    let corners = [last, last + 1, inner + 1, last, inner + 1, inner];
                    self.indices.extend(corners.map(|index| index + step));
                }
            }
        }
    }

    /// A ring of one colour.
    pub fn ring(&mut self, at: Vec2, radius: f32, width: f32, color: LinearRgba) {
        self.arc(at, radius, width, (0.0, TAU), [color; 3]);
    }

    /// Light around a place: strong in the middle, nothing at the rim.
    pub fn glow(&mut self, at: Vec2, radius: f32, color: LinearRgba) {
        let half = color.with_alpha(color.alpha * 0.20);
        let none = color.with_alpha(0.0);
        self.disc(at, radius * 0.45, [color, half], 20);
        let width = radius * 0.55;
        let between = color.with_alpha(color.alpha * 0.045);
        self.arc(at, radius - width / 2.0, width, (0.0, TAU), [half, between, none]);
    }
}
