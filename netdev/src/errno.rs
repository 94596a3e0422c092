//! The host's error numbers, so that the crates above can speak the kernel's `errno` without a system-call crate.
//!
//! tokio's callers see raw `errno` values through [`std::io::Error::raw_os_error`]; a drop-in must give the same ones.

pub use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EALREADY, ECONNABORTED, ECONNREFUSED,
    ECONNRESET, EDESTADDRREQ, EHOSTUNREACH, EINPROGRESS, EINVAL, EISCONN, EMSGSIZE, ENETDOWN,
    ENETUNREACH, ENOBUFS, ENODEV, ENOENT, ENOPROTOOPT, ENOTCONN, EOPNOTSUPP, EPERM, EPIPE, EPROTO,
    EPROTONOSUPPORT, ESHUTDOWN, ETIMEDOUT,
};
