//! The receive half.
