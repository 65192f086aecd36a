//! x
/// x
pub fn schedule(_data: &[u8]) {}
