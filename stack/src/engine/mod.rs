//! The whole stack, synchronous.
