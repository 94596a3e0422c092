//! Ways a TCP connection ends, and what each side hears of it.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

use super::net::{TcpListener, TcpStream};

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

/// Waits until the stream has heard of its peer's end, of whatever kind.
async fn heard(stream: &TcpStream) {
    while !stream
        .ready(Interest::READABLE)
        .await
        .unwrap()
        .is_read_closed()
    {
        tokio::task::yield_now().await;
    }
}

/// A connection whose other end was dropped with data unread, and has heard so.
async fn reset_by_unread_data() -> TcpStream {
    let (mut client, server) = pair().await;
    client.write_all(b"never read").await.unwrap();
    server.readable().await.unwrap();
    drop(server);
    heard(&client).await;
    client
}

fn read_now(stream: &TcpStream) -> Result<usize, ErrorKind> {
    stream.try_read(&mut [0; 64]).map_err(|error| error.kind())
}

fn write_now(stream: &TcpStream) -> Result<usize, ErrorKind> {
    stream.try_write(b"x").map_err(|error| error.kind())
}

// RFC 2525 2.17, RFC 9293 3.10.4.
#[tokio::test]
async fn unread_data_at_drop_resets_and_the_error_is_read_once() {
    // RFC 9293 MAY-1, SHLD-3.
    let client = reset_by_unread_data().await;
    assert_eq!(read_now(&client), Err(ErrorKind::ConnectionReset));
    assert_eq!(read_now(&client), Ok(0));
    assert_eq!(write_now(&client), Err(ErrorKind::BrokenPipe));
    assert_eq!(read_now(&client), Ok(0));
}

#[tokio::test]
async fn a_write_takes_the_error_from_the_read() {
    let client = reset_by_unread_data().await;
    assert_eq!(write_now(&client), Err(ErrorKind::ConnectionReset));
    assert_eq!(write_now(&client), Err(ErrorKind::BrokenPipe));
    assert_eq!(read_now(&client), Ok(0));
}

#[tokio::test]
async fn take_error_takes_the_error_from_both() {
    let client = reset_by_unread_data().await;
    let taken = client.take_error().unwrap().expect("the reset is pending");
    assert_eq!(taken.kind(), ErrorKind::ConnectionReset);
    assert!(client.take_error().unwrap().is_none());
    assert_eq!(read_now(&client), Ok(0));
    assert_eq!(write_now(&client), Err(ErrorKind::BrokenPipe));
}

#[tokio::test]
async fn data_before_a_reset_is_still_read() {
    let (mut client, mut server) = pair().await;
    server.write_all(b"last words").await.unwrap();
    client.write_all(b"never read").await.unwrap();
    server.readable().await.unwrap();
    drop(server);
    heard(&client).await;
    let mut text = [0; 64];
    assert_eq!(client.read(&mut text).await.unwrap(), 10);
    assert_eq!(&text[..10], b"last words");
    assert_eq!(
        client.read(&mut text).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(client.read(&mut text).await.unwrap(), 0);
}

#[tokio::test]
async fn a_reset_connection_has_no_peer_and_shuts_down_quietly() {
    let mut client = reset_by_unread_data().await;
    assert_eq!(
        client.peer_addr().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    assert!(client.local_addr().unwrap().ip().is_loopback());
    client.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_reset_closes_both_directions_and_shows_an_error() {
    let client = reset_by_unread_data().await;
    let ready = client
        .ready(Interest::READABLE | Interest::WRITABLE | Interest::ERROR)
        .await
        .unwrap();
    assert!(
        ready.is_read_closed() && ready.is_write_closed() && ready.is_error(),
        "{ready:?}"
    );
}

#[tokio::test]
async fn a_clean_drop_ends_the_stream_and_then_breaks_the_pipe() {
    let (mut client, mut server) = pair().await;
    server.write_all(b"bye").await.unwrap();
    drop(server);
    let mut text = Vec::new();
    client.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"bye");
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    // The peer's half is only known to be closed for reading; its RST teaches the rest (RFC 9293 3.10.7.1).
    assert_eq!(write_now(&client), Ok(1));
    while !client
        .ready(Interest::WRITABLE)
        .await
        .unwrap()
        .is_write_closed()
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(write_now(&client), Err(ErrorKind::BrokenPipe));
}

#[tokio::test]
async fn a_fin_shows_as_read_closed_alone() {
    let (client, mut server) = pair().await;
    server.shutdown().await.unwrap();
    heard(&client).await;
    let ready = client
        .ready(Interest::READABLE | Interest::WRITABLE)
        .await
        .unwrap();
    assert!(ready.is_readable() && ready.is_writable(), "{ready:?}");
    assert!(
        ready.is_read_closed() && !ready.is_write_closed(),
        "{ready:?}"
    );
}

#[tokio::test]
async fn both_sides_shut_shows_as_write_closed_too() {
    let (mut client, mut server) = pair().await;
    server.shutdown().await.unwrap();
    heard(&client).await;
    client.shutdown().await.unwrap();
    while !client
        .ready(Interest::WRITABLE)
        .await
        .unwrap()
        .is_write_closed()
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn own_shutdown_breaks_writing_and_leaves_reading() {
    let (mut client, mut server) = pair().await;
    client.shutdown().await.unwrap();
    assert_eq!(
        client.write(b"x").await.unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    server.write_all(b"still here").await.unwrap();
    let mut text = [0; 10];
    client.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"still here");
}

#[tokio::test]
async fn a_connection_closed_by_both_has_no_peer() {
    let (mut client, mut server) = pair().await;
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    server.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    for stream in [&client, &server] {
        // The last ACK may still be on its way.
        while stream.peer_addr().is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            stream.peer_addr().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        assert!(stream.local_addr().is_ok());
    }
    client.shutdown().await.unwrap();
}

#[tokio::test]
async fn zero_linger_resets_at_drop() {
    let (client, server) = pair().await;
    server.set_zero_linger().unwrap();
    drop(server);
    heard(&client).await;
    assert_eq!(read_now(&client), Err(ErrorKind::ConnectionReset));
    assert_eq!(read_now(&client), Ok(0));
}

#[tokio::test]
async fn dropping_the_owned_write_half_shuts_the_write_side() {
    let (client, mut server) = pair().await;
    let (mut read, write) = client.into_split();
    drop(write);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    server.write_all(b"answer").await.unwrap();
    let mut text = [0; 6];
    read.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"answer");
}

#[tokio::test]
async fn a_forgotten_write_half_shuts_nothing() {
    let (client, server) = pair().await;
    let (_read, write) = client.into_split();
    write.forget();
    server.readable().now_or_pending().await;
    assert_eq!(read_now(&server), Err(ErrorKind::WouldBlock));
}

#[tokio::test]
async fn reunited_halves_are_the_stream_again() {
    let (client, mut server) = pair().await;
    let (other, _other_server) = pair().await;
    let (read, write) = client.into_split();
    let (other_read, other_write) = other.into_split();
    let mismatch = read.reunite(other_write).unwrap_err();
    let mut client = mismatch.0.reunite(write).unwrap();
    drop((mismatch.1, other_read));
    client.write_all(b"whole").await.unwrap();
    let mut text = [0; 5];
    server.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"whole");
}

#[tokio::test]
async fn halves_shut_down_by_hand_do_not_do_it_again_at_drop() {
    let (client, mut server) = pair().await;
    let (mut read, mut write) = client.into_split();
    write.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    drop(write);
    server.write_all(b"ok").await.unwrap();
    let mut text = [0; 2];
    read.read_exact(&mut text).await.unwrap();
}

#[tokio::test]
async fn a_stream_carries_much_more_than_its_buffers() {
    const TOTAL: usize = 24 << 20;
    let (mut client, mut server) = pair().await;
    let writer = tokio::spawn(async move {
        let chunk: Vec<u8> = (0..=250).cycle().take(65_521).collect();
        let mut left = TOTAL;
        while left > 0 {
            let n = left.min(chunk.len());
            client.write_all(&chunk[..n]).await.unwrap();
            left -= n;
        }
    });
    let mut at = 0_usize;
    let mut buffer = vec![0; 100_000];
    loop {
        let n = server.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        for (i, octet) in buffer[..n].iter().enumerate() {
            assert_eq!(
                usize::from(*octet),
                (at + i) % 65_521 % 251,
                "octet {}",
                at + i
            );
        }
        at += n;
    }
    assert_eq!(at, TOTAL);
    writer.await.unwrap();
}

/// Polls a future for a moment: what it waits for does not come.
trait NowOrPending: Future + Sized {
    async fn now_or_pending(self) {
        let _ = tokio::time::timeout(Duration::from_millis(20), self).await;
    }
}

impl<F: Future> NowOrPending for F {}
