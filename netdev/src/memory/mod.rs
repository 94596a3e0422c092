//! In-memory links.
