//! A passive socket.

/// A passive socket.
#[derive(Debug)]
pub struct Listener;
