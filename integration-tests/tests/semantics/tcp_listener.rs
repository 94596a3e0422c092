//! Accepting.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio_test::{assert_pending, task};

use super::net::{TcpListener, TcpSocket, TcpStream};

#[tokio::test]
async fn connections_are_accepted_in_the_order_they_came() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(
            TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap(),
        );
    }
    for client in &clients {
        let (stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(stream.peer_addr().unwrap(), peer);
    }
}

#[tokio::test]
async fn data_sent_before_accept_waits_in_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    client.write_all(b"early").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "early");
}

#[tokio::test]
async fn a_cancelled_accept_loses_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..3 {
        let mut accept = task::spawn(listener.accept());
        assert_pending!(accept.poll());
    }
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    let mut accept = task::spawn(listener.accept());
    assert_pending!(accept.poll());
}

#[tokio::test]
async fn dropping_a_listener_resets_what_nobody_accepted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted_client = TcpStream::connect(address).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    let waiting = TcpStream::connect(address).await.unwrap();
    drop(listener);

    while !waiting
        .ready(Interest::READABLE)
        .await
        .unwrap()
        .is_read_closed()
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        waiting.try_read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        TcpStream::connect(address).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    // The accepted one goes on.
    accepted.write_all(b"on").await.unwrap();
    let mut accepted_client = accepted_client;
    let mut text = [0; 2];
    accepted_client.read_exact(&mut text).await.unwrap();
}

#[tokio::test]
async fn a_backlog_of_n_admits_n_plus_one_and_then_is_silent() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let first = TcpStream::connect(address).await.unwrap();
    let second = TcpStream::connect(address).await.unwrap();
    // No refusal: the SYN is dropped, and comes again.
    let third = tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await;
    assert!(third.is_err(), "{third:?}");
    for client in [first, second] {
        assert_eq!(
            listener.accept().await.unwrap().1,
            client.local_addr().unwrap()
        );
    }
}

#[tokio::test]
async fn a_port_is_free_again_when_its_listener_is_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let accepted = listener.accept().await.unwrap();
    drop(listener);
    // SO_REUSEADDR, which bind sets: the accepted connection does not hold the port.
    let again = TcpListener::bind(address).await.unwrap();
    assert_eq!(again.local_addr().unwrap(), address);
    drop((client, accepted));
}

#[tokio::test]
async fn listeners_share_a_port_by_reuseport() {
    let listen = |address| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        socket.listen(64).unwrap()
    };
    let first = listen("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let second = listen(address);
    let mut clients = Vec::new();
    for _ in 0..32 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let mut counts = [0; 2];
    for _ in 0..32 {
        tokio::select! {
            accepted = first.accept() => { accepted.unwrap(); counts[0] += 1; }
            accepted = second.accept() => { accepted.unwrap(); counts[1] += 1; }
        }
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
}
