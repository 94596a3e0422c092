//! The send half.
