//! Binding, connecting, names, and the errors of each.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, lookup_host};

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result
        .unwrap_err()
        .raw_os_error()
        .expect("an error of the system")
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A port that was free a moment ago.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let address = closed_port().await;
    assert_eq!(code(TcpStream::connect(address).await), libc::ECONNREFUSED);
}

#[tokio::test]
async fn connect_tries_every_address_and_gives_the_last_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (refused, listening) = (closed_port().await, listener.local_addr().unwrap());
    let stream = TcpStream::connect(&[refused, listening][..]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), listening);
    assert_eq!(
        code(TcpStream::connect(&[refused, refused][..]).await),
        libc::ECONNREFUSED
    );
}

#[tokio::test]
async fn no_address_and_no_port_are_invalid() {
    let nothing: &[SocketAddr] = &[];
    let errors = [
        TcpStream::connect(nothing).await.unwrap_err(),
        TcpListener::bind(nothing).await.unwrap_err(),
        UdpSocket::bind(nothing).await.unwrap_err(),
        TcpListener::bind("localhost").await.unwrap_err(),
        TcpListener::bind("127.0.0.1:port").await.unwrap_err(),
        lookup_host("127.0.0.1").await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let error = TcpStream::connect(nothing).await.unwrap_err();
    assert_eq!(error.to_string(), "could not resolve to any address");
}

#[tokio::test]
async fn localhost_is_a_loopback_address() {
    let found: Vec<_> = lookup_host("localhost:80").await.unwrap().collect();
    assert!(
        found
            .iter()
            .all(|address| address.ip().is_loopback() && address.port() == 80),
        "{found:?}"
    );
    assert!(found.contains(&address("127.0.0.1:80")));
    let found: Vec<_> = lookup_host(("::1", 80)).await.unwrap().collect();
    assert_eq!(found, [address("[::1]:80")]);
}

#[tokio::test]
async fn foreign_addresses_cannot_be_bound_and_taken_ones_neither() {
    assert_eq!(
        code(TcpListener::bind("192.0.2.1:0").await),
        libc::EADDRNOTAVAIL
    );
    assert_eq!(
        code(UdpSocket::bind("192.0.2.1:0").await),
        libc::EADDRNOTAVAIL
    );
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(
        code(TcpListener::bind(tcp.local_addr().unwrap()).await),
        libc::EADDRINUSE
    );
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(
        code(UdpSocket::bind(udp.local_addr().unwrap()).await),
        libc::EADDRINUSE
    );
    // The same port number of the other protocol is another port.
    let other = UdpSocket::bind(tcp.local_addr().unwrap()).await;
    assert!(other.is_ok());
}

#[tokio::test]
async fn a_wildcard_listener_takes_the_port_from_its_addresses() {
    let all = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = all.local_addr().unwrap().port();
    assert_eq!(
        code(TcpListener::bind(("127.0.0.1", port)).await),
        libc::EADDRINUSE
    );
    let stream = TcpStream::connect((Ipv4Addr::UNSPECIFIED, port))
        .await
        .unwrap();
    assert_eq!(
        stream.peer_addr().unwrap(),
        SocketAddr::from(([127, 0, 0, 1], port))
    );
    let (accepted, peer) = all.accept().await.unwrap();
    assert_eq!(accepted.local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
    assert_eq!(peer, stream.local_addr().unwrap());
}

#[tokio::test]
async fn an_ipv6_wildcard_takes_ipv4_and_shows_it_mapped() {
    let all = TcpListener::bind("[::]:0").await.unwrap();
    let port = all.local_addr().unwrap().port();
    assert_eq!(
        code(TcpListener::bind(("0.0.0.0", port)).await),
        libc::EADDRINUSE
    );
    let four = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (accepted, peer) = all.accept().await.unwrap();
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    assert_eq!(
        peer,
        SocketAddr::from((mapped, four.local_addr().unwrap().port()))
    );
    assert_eq!(accepted.peer_addr().unwrap(), peer);
    assert_eq!(
        accepted.local_addr().unwrap(),
        SocketAddr::from((mapped, port))
    );
    let six = TcpStream::connect(("::1", port)).await.unwrap();
    let (_, peer) = all.accept().await.unwrap();
    assert_eq!(peer, six.local_addr().unwrap());
}

#[tokio::test]
async fn mapped_addresses_reach_ipv4() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
    let stream = TcpStream::connect(mapped).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), mapped);
    assert_eq!(
        stream.local_addr().unwrap().ip(),
        Ipv4Addr::LOCALHOST.to_ipv6_mapped()
    );
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), Ipv4Addr::LOCALHOST);
}

#[tokio::test]
async fn fresh_sockets_have_no_address_and_bind_once() {
    let four = TcpSocket::new_v4().unwrap();
    let six = TcpSocket::new_v6().unwrap();
    assert_eq!(four.local_addr().unwrap(), address("0.0.0.0:0"));
    assert_eq!(six.local_addr().unwrap(), address("[::]:0"));
    assert_eq!(code(four.bind(address("[::1]:0"))), libc::EAFNOSUPPORT);
    assert_eq!(code(six.bind(address("127.0.0.1:0"))), libc::EINVAL);
    four.bind(address("127.0.0.1:0")).unwrap();
    assert_ne!(four.local_addr().unwrap().port(), 0);
    assert_eq!(code(four.bind(address("127.0.0.1:0"))), libc::EINVAL);
}

#[tokio::test]
async fn sockets_connect_in_their_own_family() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let four = listener.local_addr().unwrap();
    assert_eq!(
        code(TcpSocket::new_v6().unwrap().connect(four).await),
        libc::EINVAL
    );
    assert_eq!(
        code(
            TcpSocket::new_v4()
                .unwrap()
                .connect(address("[::1]:9"))
                .await
        ),
        libc::EAFNOSUPPORT
    );
}

#[tokio::test]
async fn a_listening_socket_need_not_be_bound() {
    let listener = TcpSocket::new_v4().unwrap().listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    assert!(address.ip().is_unspecified() && address.port() != 0);
    assert!(
        TcpStream::connect(("127.0.0.1", address.port()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_socket_connects_from_where_it_is_bound() {
    // RFC 9293 MUST-43.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address("127.0.0.2:0")).unwrap();
    let bound = socket.local_addr().unwrap();
    let stream = socket
        .connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    assert_eq!(stream.local_addr().unwrap(), bound);
    assert_eq!(listener.accept().await.unwrap().1, bound);
}

// RFC 9293 3.5, figure 8: simultaneous open, with itself.
#[tokio::test]
async fn a_socket_connects_to_itself() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address("127.0.0.1:0")).unwrap();
    let own = socket.local_addr().unwrap();
    let mut stream = socket.connect(own).await.unwrap();
    assert_eq!(
        (stream.local_addr().unwrap(), stream.peer_addr().unwrap()),
        (own, own)
    );
    stream.write_all(b"echo").await.unwrap();
    let mut text = [0; 4];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"echo");
}

#[tokio::test]
async fn defaults_are_linuxs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    assert_eq!(stream.ttl().unwrap(), 64);
    assert!(!stream.nodelay().unwrap());
    assert!(stream.linger().unwrap().is_none());
    assert!(stream.take_error().unwrap().is_none());
    assert_eq!(listener.ttl().unwrap(), 64);
    let socket = TcpSocket::new_v4().unwrap();
    assert!(
        !socket.keepalive().unwrap()
            && !socket.reuseaddr().unwrap()
            && !socket.reuseport().unwrap()
    );
    assert!(socket.device().unwrap().is_none());
    assert_eq!(socket.tos_v4().unwrap(), 0);
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    for ttl in [0, 256] {
        assert_eq!(code(stream.set_ttl(ttl)), libc::EINVAL);
        assert_eq!(code(listener.set_ttl(ttl)), libc::EINVAL);
    }
    stream.set_ttl(255).unwrap();
    assert_eq!(stream.ttl().unwrap(), 255);
    let (four, six) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v6().unwrap());
    assert_eq!(code(four.set_tclass_v6(96)), libc::ENOPROTOOPT);
    assert_eq!(code(four.tclass_v6()), libc::EOPNOTSUPP);
    assert_eq!(code(six.set_tclass_v6(256)), libc::EINVAL);
    // TCP keeps the ECN bits to itself.
    four.set_tos_v4(0b111).unwrap();
    assert_eq!(four.tos_v4().unwrap(), 0b100);
}

#[tokio::test]
#[allow(deprecated, reason = "it is there")]
async fn options_of_a_socket_are_those_of_its_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_nodelay(true).unwrap();
    socket
        .set_linger(Some(Duration::from_millis(2500)))
        .unwrap();
    let stream = socket
        .connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    assert!(stream.nodelay().unwrap());
    assert_eq!(stream.linger().unwrap(), Some(Duration::from_secs(2)));
}

#[test]
fn sockets_are_made_and_set_without_a_runtime() {
    let socket = TcpSocket::new_v6().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_keepalive(true).unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    assert!(socket.reuseaddr().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.send_buffer_size().unwrap(), 8192);
    assert_eq!(socket.recv_buffer_size().unwrap(), 8192);
}

#[tokio::test]
async fn debug_output_names_both_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let text = format!("{stream:?} {listener:?}");
    for address in [stream.local_addr().unwrap(), stream.peer_addr().unwrap()] {
        assert!(text.contains(&address.to_string()), "{text}");
    }
}
