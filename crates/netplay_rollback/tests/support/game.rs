//! A tiny deterministic game: whatever any player does at any tick changes all that follows.

use netplay_rollback::{InputStatus, PlayerInput};

/// The state. Each player has a place, and there is one number that everything flows into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Game {
    pub players: Vec<i32>,
    pub sum: u64,
    /// Makes snapshots large.
    pub ballast: usize,
}

impl Game {
    pub fn new(players: usize, ballast: usize) -> Self {
        Self { players: vec![0; players], sum: 1, ballast }
    }

    pub fn step<'a>(&mut self, inputs: impl Iterator<Item = PlayerInput<'a>>) {
        for input in inputs {
            let absent = input.status == InputStatus::Absent;
            let place = &mut self.players[input.player.index()];
            for byte in input.bytes {
                *place = place.wrapping_mul(31).wrapping_add(i32::from(*byte));
            }
            let part = if absent { u64::MAX } else { *place as u64 ^ input.bytes.len() as u64 };
            self.sum = (self.sum ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17);
        }
    }

    pub fn checksum(&self) -> u64 {
        self.players.iter().fold(self.sum, |sum, place| sum.rotate_left(9) ^ *place as u64)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.sum.to_le_bytes().to_vec();
        self.players.iter().for_each(|place| bytes.extend(place.to_le_bytes()));
        bytes.resize(bytes.len() + self.ballast, 0xAB);
        bytes
    }

    pub fn from_bytes(bytes: &[u8], players: usize) -> Self {
        let (sum, rest) = bytes.split_first_chunk().unwrap();
        let places = rest.chunks(4).take(players);
        let place = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().unwrap());
        let players: Vec<i32> = places.map(place).collect();
        let ballast = rest.len() - players.len() * 4;
        Self { players, sum: u64::from_le_bytes(*sum), ballast }
    }
}
