//! The game that all players of these tests play.

use netplay_peer::LinkConfig;
use netplay_peer::link::liveness::LivenessConfig;
use netplay_protocol::control::{Hello, LinkPoint, carriers, lane_entries};
use netplay_protocol::schema::{Schema, SchemaEntry};
use netplay_protocol::{BuildId, GameId, Lane, LaneTable, PROTOCOL_VERSION};

/// A game with these reliable messages.
pub fn config_with(messages: &[&str]) -> LinkConfig {
    let entries =
        messages.iter().map(|name| SchemaEntry { name: (*name).into(), lane: Lane::Reliable });
    let schema = Schema::new(entries.collect()).expect("different names");
    LinkConfig {
        hello: Hello {
            version: PROTOCOL_VERSION,
            codec: 1,
            game: GameId::new("game").expect("a valid id"),
            build: BuildId::new("1").expect("a valid id"),
            schema_hash: schema.hash(),
            lanes: lane_entries(&LaneTable::default()),
            carriers: carriers::DATA_CHANNEL,
            link: LinkPoint::default(),
        },
        schema,
        lanes: LaneTable::default(),
        liveness: LivenessConfig::default(),
    }
}

/// The usual game.
pub fn config() -> LinkConfig {
    config_with(&["move", "shout"])
}
