//! RTT and RTO estimation (RFC 6298).
