//! How addresses come to an interface.

pub mod dad;
pub mod dhcp;
