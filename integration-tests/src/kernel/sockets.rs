//! The kernel's sockets, as tests want them.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpSocket;

use super::Family;

/// A socket of the kernel's with CUBIC, whatever the machine's default is: BBR would be another test.
///
/// # Panics
/// When the kernel has no CUBIC.
pub fn kernel_socket(family: Family) -> TcpSocket {
    let socket = match family {
        Family::V4 => TcpSocket::new_v4(),
        Family::V6 => TcpSocket::new_v6(),
    };
    let socket = socket.expect("a socket");
    let cubic = SockRef::from(&socket).set_tcp_congestion(b"cubic");
    cubic.expect("a kernel with CUBIC");
    socket
}

/// Listens on the kernel's side with room for 1,024 waiting connections.
///
/// # Panics
/// When the port is taken.
pub fn kernel_listen(address: SocketAddr) -> tokio::net::TcpListener {
    let socket = kernel_socket(family_of(address));
    socket.set_reuseaddr(true).expect("a plain option");
    socket.bind(address).expect("a free port");
    socket.listen(1024).expect("bound")
}

/// Connects from the kernel's side.
///
/// # Errors
/// As the kernel says.
pub async fn kernel_connect(address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    kernel_socket(family_of(address)).connect(address).await
}

const fn family_of(address: SocketAddr) -> Family {
    match address {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(_) => Family::V6,
    }
}
