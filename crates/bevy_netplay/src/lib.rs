//! Peer-to-peer multiplayer for Bevy: the plugin group that a game imports.
