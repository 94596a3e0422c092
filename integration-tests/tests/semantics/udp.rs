//! Datagrams.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{Interest, ReadBuf};
use tokio_test::{assert_pending, task};

use super::net::UdpSocket;

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result
        .unwrap_err()
        .raw_os_error()
        .expect("an error of the system")
}

async fn bound() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// A socket connected to a port that nobody holds.
async fn connected_to_nobody() -> UdpSocket {
    let socket = bound().await;
    let nobody = bound().await.local_addr().unwrap();
    socket.connect(nobody).await.unwrap();
    socket
}

#[tokio::test]
async fn a_datagram_is_cut_to_the_buffer_without_a_word() {
    let socket = bound().await;
    let own = socket.local_addr().unwrap();
    socket.send_to(b"0123456789", own).await.unwrap();
    socket.send_to(b"next", own).await.unwrap();
    let mut text = [0; 4];
    assert_eq!(socket.recv(&mut text).await.unwrap(), 4);
    assert_eq!(&text, b"0123");
    assert_eq!(socket.recv(&mut text).await.unwrap(), 4);
    assert_eq!(&text, b"next");
}

#[tokio::test]
async fn empty_datagrams_arrive() {
    let socket = bound().await;
    let own = socket.local_addr().unwrap();
    assert_eq!(socket.send_to(b"", own).await.unwrap(), 0);
    assert_eq!(socket.recv_from(&mut [0; 8]).await.unwrap(), (0, own));
    assert_eq!(
        socket.try_recv(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[tokio::test]
async fn a_closed_port_refuses_the_next_operation_once() {
    let socket = connected_to_nobody().await;
    assert_eq!(socket.send(b"x").await.unwrap(), 1);
    assert_eq!(code(socket.recv(&mut [0; 8]).await), libc::ECONNREFUSED);
    assert_eq!(
        socket.try_recv(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );

    assert_eq!(socket.send(b"x").await.unwrap(), 1);
    socket.ready(Interest::ERROR).await.unwrap();
    assert_eq!(code(socket.send(b"x").await), libc::ECONNREFUSED);
    assert_eq!(socket.send(b"x").await.unwrap(), 1);

    socket.ready(Interest::ERROR).await.unwrap();
    let taken = socket.take_error().unwrap().expect("an error is pending");
    assert_eq!(taken.kind(), ErrorKind::ConnectionRefused);
    assert!(socket.take_error().unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_shows_as_writable_write_closed_and_error() {
    let socket = connected_to_nobody().await;
    socket.send(b"x").await.unwrap();
    socket.ready(Interest::ERROR).await.unwrap();
    let all = Interest::ERROR | Interest::WRITABLE | Interest::READABLE;
    let ready = socket.ready(all).await.unwrap();
    assert!(
        ready.is_writable() && ready.is_write_closed() && ready.is_error(),
        "{ready:?}"
    );
    assert!(!ready.is_readable());
}

#[tokio::test]
async fn a_parked_receive_hears_of_the_refusal() {
    let socket = connected_to_nobody().await;
    let mut buffer = [0; 8];
    let mut receive = task::spawn(socket.recv(&mut buffer));
    assert_pending!(receive.poll());
    socket.send(b"x").await.unwrap();
    assert_eq!(code(receive.await), libc::ECONNREFUSED);
}

#[tokio::test]
async fn an_unconnected_socket_hears_nothing_of_it() {
    let socket = bound().await;
    let nobody = bound().await.local_addr().unwrap();
    for _ in 0..3 {
        assert_eq!(socket.send_to(b"x", nobody).await.unwrap(), 1);
    }
    assert!(socket.take_error().unwrap().is_none());
    assert_eq!(
        socket.try_recv(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[tokio::test]
async fn a_connected_socket_hears_its_peer_alone_and_may_send_to_others() {
    let (socket, peer, other) = (bound().await, bound().await, bound().await);
    let own = socket.local_addr().unwrap();
    socket.connect(peer.local_addr().unwrap()).await.unwrap();
    assert_eq!(socket.peer_addr().unwrap(), peer.local_addr().unwrap());
    other.send_to(b"stranger", own).await.unwrap();
    peer.send_to(b"peer", own).await.unwrap();
    let mut text = [0; 16];
    assert_eq!(
        socket.recv_from(&mut text).await.unwrap(),
        (4, peer.local_addr().unwrap())
    );
    assert_eq!(
        socket.try_recv(&mut text).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    socket
        .send_to(b"hello", other.local_addr().unwrap())
        .await
        .unwrap();
    assert_eq!(other.recv_from(&mut text).await.unwrap(), (5, own));
}

#[tokio::test]
async fn connect_chooses_the_local_address_and_may_be_repeated() {
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    assert!(socket.local_addr().unwrap().ip().is_unspecified());
    assert_eq!(code(socket.peer_addr()), libc::ENOTCONN);
    let (first, second) = (bound().await, bound().await);
    for peer in [first, second] {
        socket.connect(peer.local_addr().unwrap()).await.unwrap();
        assert_eq!(socket.local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
        socket.send(b"hi").await.unwrap();
        let (len, from) = peer.recv_from(&mut [0; 8]).await.unwrap();
        assert_eq!((len, from), (2, socket.local_addr().unwrap()));
    }
}

#[tokio::test]
async fn sending_fails_as_linux_says() {
    let socket = bound().await;
    let own = socket.local_addr().unwrap();
    let broadcast = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
    let six: SocketAddr = "[::1]:9".parse().unwrap();
    assert_eq!(code(socket.send(b"x").await), libc::EDESTADDRREQ);
    assert_eq!(
        code(socket.send_to(&[0; 65_508], own).await),
        libc::EMSGSIZE
    );
    assert_eq!(code(socket.send_to(b"x", six).await), libc::EAFNOSUPPORT);
    assert_eq!(code(socket.connect(six).await), libc::EAFNOSUPPORT);
    assert_eq!(
        code(socket.send_to(b"x", (Ipv4Addr::LOCALHOST, 0)).await),
        libc::EINVAL
    );
    // Also NetworkUnreachable where the host has no route to send a broadcast by.
    let refused = code(socket.send_to(b"x", broadcast).await);
    assert!(
        [libc::EACCES, libc::ENETUNREACH].contains(&refused),
        "{refused}"
    );
    let nothing: &[SocketAddr] = &[];
    assert_eq!(
        socket.send_to(b"x", nothing).await.unwrap_err().to_string(),
        "no addresses to send data to"
    );
}

#[tokio::test]
async fn the_largest_datagram_arrives_whole() {
    let socket = bound().await;
    let own = socket.local_addr().unwrap();
    let data: Vec<u8> = (0..65_507_u32).map(|i| i as u8).collect();
    assert_eq!(socket.send_to(&data, own).await.unwrap(), data.len());
    let mut received = vec![0; 65_536];
    assert_eq!(socket.recv(&mut received).await.unwrap(), data.len());
    assert_eq!(received[..data.len()], data);
}

#[tokio::test]
async fn peeking_leaves_the_datagram() {
    let (socket, sender) = (bound().await, bound().await);
    let from = sender.local_addr().unwrap();
    sender
        .send_to(b"look", socket.local_addr().unwrap())
        .await
        .unwrap();
    let mut text = [0; 2];
    assert_eq!(socket.peek_from(&mut text).await.unwrap(), (2, from));
    assert_eq!(socket.peek_sender().await.unwrap(), from);
    assert_eq!(socket.try_peek(&mut [0; 8]).unwrap(), 4);
    let mut storage = [0; 8];
    let mut buffer = ReadBuf::new(&mut storage);
    let sender = std::future::poll_fn(|cx| socket.poll_recv_from(cx, &mut buffer))
        .await
        .unwrap();
    assert_eq!((sender, buffer.filled()), (from, &b"look"[..]));
    assert_eq!(
        socket.try_peek_sender().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing() {
    let socket = bound().await;
    for _ in 0..3 {
        let mut buffer = [0; 8];
        let mut receive = task::spawn(socket.recv_from(&mut buffer));
        assert_pending!(receive.poll());
    }
    socket
        .send_to(b"kept", socket.local_addr().unwrap())
        .await
        .unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).await.unwrap(), 4);
}

#[tokio::test]
async fn an_ipv6_wildcard_speaks_ipv4_by_mapped_addresses() {
    let six = UdpSocket::bind("[::]:0").await.unwrap();
    let four = bound().await;
    let port = six.local_addr().unwrap().port();
    four.send_to(b"hi", (Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let (_, from) = six.recv_from(&mut [0; 8]).await.unwrap();
    let expected = (
        Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        four.local_addr().unwrap().port(),
    );
    assert_eq!(from, SocketAddr::from(expected));
    six.send_to(b"back", from).await.unwrap();
    let (_, from) = four.recv_from(&mut [0; 8]).await.unwrap();
    assert_eq!(from, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert_eq!(
        code(UdpSocket::bind(("0.0.0.0", port)).await),
        libc::EADDRINUSE
    );
}

#[tokio::test]
async fn a_full_receive_queue_drops_and_the_sender_does_not_wait() {
    let (socket, sender) = (bound().await, bound().await);
    let own = socket.local_addr().unwrap();
    for _ in 0..2000 {
        sender.send_to(&[0; 1024], own).await.unwrap();
    }
    let mut received = 0;
    while tokio::time::timeout(Duration::from_millis(20), socket.recv(&mut [0; 2048]))
        .await
        .is_ok()
    {
        received += 1;
    }
    assert!((50..2000).contains(&received), "{received}");
}

#[tokio::test]
async fn options_read_back_and_refuse_what_linux_refuses() {
    let socket = bound().await;
    assert_eq!(socket.ttl().unwrap(), 64);
    assert!(socket.multicast_loop_v4().unwrap() && !socket.broadcast().unwrap());
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 1);
    assert_eq!(code(socket.set_ttl(0)), libc::EINVAL);
    assert_eq!(code(socket.set_ttl(256)), libc::EINVAL);
    assert_eq!(code(socket.set_multicast_ttl_v4(256)), libc::EINVAL);
    assert_eq!(code(socket.set_tclass_v6(1)), libc::ENOPROTOOPT);
    assert_eq!(code(socket.multicast_loop_v6()), libc::EOPNOTSUPP);
    assert!(socket.device().unwrap().is_none());
    assert_eq!(
        code(socket.bind_device(Some(b"no-such-device"))),
        libc::ENODEV
    );
    assert_eq!(
        code(socket.join_multicast_v4(Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED)),
        libc::EINVAL
    );
}

#[tokio::test]
async fn groups_on_the_loopback_reach_who_has_joined_them() {
    let group = Ipv4Addr::new(239, 77, 1, 2);
    let joined = bound_to_any().await;
    let to = SocketAddr::from((group, joined.local_addr().unwrap().port()));
    joined
        .join_multicast_v4(group, Ipv4Addr::LOCALHOST)
        .unwrap();
    let sender = bound().await;
    sender.send_to(b"all", to).await.unwrap();
    let mut buffer = [0; 16];
    let received = tokio::time::timeout(Duration::from_secs(5), joined.recv_from(&mut buffer));
    let (len, from) = received.await.expect("it arrives").unwrap();
    assert_eq!(&buffer[..len], b"all");
    assert_eq!(from, sender.local_addr().unwrap());
    joined
        .leave_multicast_v4(group, Ipv4Addr::LOCALHOST)
        .unwrap();
    sender.send_to(b"none", to).await.unwrap();
    let received = tokio::time::timeout(Duration::from_millis(50), joined.recv_from(&mut buffer));
    assert!(received.await.is_err(), "nobody has joined");
}

#[tokio::test]
async fn joining_and_leaving_refuse_what_linux_refuses() {
    let socket = bound_to_any().await;
    let (here, elsewhere) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 77));
    let group = |n| Ipv4Addr::new(239, 77, 2, n);
    for n in 0..20 {
        socket.join_multicast_v4(group(n), here).unwrap();
    }
    let join = |n, interface| code(socket.join_multicast_v4(group(n), interface));
    assert_eq!(join(0, here), libc::EADDRINUSE);
    assert_eq!(join(20, here), libc::ENOBUFS);
    assert_eq!(join(21, elsewhere), libc::ENODEV);
    let leave = |n, interface| socket.leave_multicast_v4(group(n), interface);
    assert_eq!(code(leave(0, elsewhere)), libc::EADDRNOTAVAIL);
    assert_eq!(code(leave(20, here)), libc::EADDRNOTAVAIL);
    leave(0, here).unwrap();
    assert_eq!(code(leave(0, here)), libc::EADDRNOTAVAIL);
}

async fn bound_to_any() -> UdpSocket {
    UdpSocket::bind("0.0.0.0:0").await.unwrap()
}
