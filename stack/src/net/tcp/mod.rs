//! TCP sockets, shaped like `tokio::net`'s: [`TcpStream`], [`TcpListener`], [`TcpSocket`] and the split halves.

mod listener;
mod options;
mod socket;
mod split;
mod split_owned;
mod stream;
mod stream_io;
mod stream_options;

pub use listener::TcpListener;
pub use options::SockOptExt;
pub use socket::TcpSocket;
pub use split::{ReadHalf, WriteHalf};
pub use split_owned::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use stream::TcpStream;
