//! Helpers shared by the integration tests: an event heap for whole engines, scenarios whose cost is counted, bodies with
//! known hashes, skipping rules, network namespaces, servers and other implementations as peers, fuzz targets.

pub mod bodies;
pub mod cable;
pub mod chain;
pub mod curves;
pub mod exchange;
pub mod flows;
pub mod fuzz_targets;
#[cfg(target_os = "linux")]
pub mod kernel;
#[cfg(target_os = "linux")]
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod peers;
pub mod requirements;
pub mod scenarios;
#[cfg(target_os = "linux")]
pub mod servers;
pub mod transfer;
pub mod world;
