//! The tests are in `tests/`; the build script finds them in tokio's published source.
