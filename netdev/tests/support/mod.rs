//! What the tests against the kernel share, whatever device they are of.

#![allow(dead_code, reason = "each device's tests use their part of it")]

pub(crate) mod exchanges;
pub(crate) mod link;
pub(crate) mod namespace;
pub(crate) mod packets;
