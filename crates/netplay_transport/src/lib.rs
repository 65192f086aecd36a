//! Runs peer links over WebRTC on a background runtime.
