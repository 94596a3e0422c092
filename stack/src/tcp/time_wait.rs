//! The compact rest of closed connections.

/// TIME-WAIT entries.
#[derive(Debug)]
pub struct TimeWaitTable;
