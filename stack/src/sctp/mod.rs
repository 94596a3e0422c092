//! SCTP (RFC 9260). So far the receiving half of an association: [`receive`].

pub mod receive;
