//! TCP, UDP and SCTP in user space for tokio.
