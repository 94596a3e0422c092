//! TODO capture
