//! What TCP, UDP and SCTP share: readiness bits, a budget of memory, RTT estimation, congestion control, ICMP errors as transports see them.

pub(crate) mod chunk_pool;
pub mod congestion;
pub mod demux;
pub mod icmp_error;
pub mod memory;
pub mod ports;
pub mod readiness;
pub mod rtt;

pub use icmp_error::IcmpError;
pub use readiness::Readiness;
