//! hyper-util's clients on a [`TcpStream`].

use hyper_util::client::legacy::connect::{Connected, Connection};

use super::TcpStream;

impl Connection for TcpStream {
    /// A plain connection to the origin. The addresses are the stream's own methods: hyper-util's `HttpInfo` can be
    /// made by nobody else.
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
