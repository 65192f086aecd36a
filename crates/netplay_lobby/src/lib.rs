//! Lobbies as a pure state machine: commands in, effects out.
