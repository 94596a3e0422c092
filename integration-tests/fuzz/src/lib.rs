//! The fuzz targets' bodies, which the integration tests share (they replay the corpora with a stable compiler).
//!
//! ```sh
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir integration-tests/fuzz tcp -- -max_total_time=120 -rss_limit_mb=2048
//! ```

#[path = "../../src/fuzz_targets/mod.rs"]
pub mod targets;
