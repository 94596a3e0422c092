//! SCTP (RFC 9260). So far the two halves of an association, [`send`] and [`receive`], and its [`path`]s.

pub mod message;
pub mod path;
pub mod receive;
pub mod send;
pub mod serial;
