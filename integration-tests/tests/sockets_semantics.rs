//! How sockets behave, down to errno: the same tests on the kernel's sockets (tokio) and on ours.
//!
//! Each file of `semantics/` is compiled twice, with `net` meaning one and the other; what the kernel's run asserts is
//! an observation, what ours asserts is the requirement. Everything is on loopback.

#![allow(clippy::duplicate_mod, reason = "that is the point")]
#![allow(unreachable_pub, reason = "the re-exports are for the files below")]

#[path = "semantics"]
mod kernel {
    pub use tokio::net;

    mod addresses;
    mod readiness;
    mod tcp_close;
    mod tcp_listener;
    mod udp;
}

#[path = "semantics"]
mod user_space {
    pub use tidewire::net;

    mod addresses;
    mod readiness;
    mod tcp_close;
    mod tcp_listener;
    mod udp;
}
