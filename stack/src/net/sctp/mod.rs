//! SCTP sockets (RFC 9260), in RFC 6458's vocabulary and with the manners of the TCP sockets: [`SctpListener`],
//! [`SctpAssociation`], [`SctpStream`], [`SctpSocket`] for many associations at once, and [`SctpBuilder`] for what is to be
//! set before.
//!
//! tokio has no SCTP, so there is no signature to match; names follow RFC 6458, shapes follow `TcpStream`: methods take
//! `&self`, futures are cancel safe, `try_*` and `poll_*` are there for each, and dropping a handle closes the
//! association in the background.

mod association;
mod association_io;
mod association_options;
mod builder;
mod listener;
mod socket;
mod socket_io;
mod socket_options;
mod split;
mod stream;

pub use association::SctpAssociation;
pub use builder::SctpBuilder;
pub use listener::SctpListener;
pub use socket::SctpSocket;
pub use socket_options::OptionScope;
pub use split::{ReuniteError, SctpReceiveHalf, SctpSendHalf};
pub use stream::SctpStream;

pub use crate::engine::sctp_one_to_many::{AssociationId, OneToManyLimits, OneToManyStats};
pub use crate::sctp::association::{
    AssociationChange, Notification, PathStatus, State, Stats, Status,
};
pub use crate::sctp::config::{
    AssociationParameters, DelayedSack, InitMessage, PeerAddressParameters, RtoInfo, SocketOptions,
    Subscriptions,
};
pub use crate::sctp::path::{HeartbeatSwitch, PathChange, PathState, PathStats};
pub use crate::sctp::{SctpMessage, SendOptions, SocketOption};
