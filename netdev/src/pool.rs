//! TODO pool
