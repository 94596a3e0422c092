//! tokio's test files, one module each, as they are published.

include!(concat!(env!("OUT_DIR"), "/modules.rs"));
