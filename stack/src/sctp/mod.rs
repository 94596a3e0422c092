//! SCTP (RFC 9260).

pub mod path;
pub mod send;
pub mod serial;
