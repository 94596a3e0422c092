//! Linux devices.
