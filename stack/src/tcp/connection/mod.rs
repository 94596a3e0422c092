//! One TCP connection.

/// One connection.
#[derive(Debug)]
pub struct Connection;
