//! SCTP (RFC 9260).

pub mod message;
pub mod path;
pub mod send;
pub mod serial;
