//! The thin async shell around the engine.
