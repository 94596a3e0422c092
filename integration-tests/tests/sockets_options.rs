//! TCP options by their Linux names, on streams, sockets and listeners: ranges, errnos and inheritance.

use std::io;
use std::time::Duration;

use tidewire::net::{SockOptExt, TcpListener, TcpSocket, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

const EINVAL: Option<i32> = Some(22);
const ENOENT: Option<i32> = Some(2);

fn check_ranges(socket: &impl SockOptExt) {
    let seconds = Duration::from_secs;
    assert_eq!(
        errno(socket.set_congestion_control("no such thing")),
        ENOENT
    );
    assert_eq!(errno(socket.set_keepalive_interval(seconds(0))), EINVAL);
    assert_eq!(
        errno(socket.set_keepalive_interval(seconds(32_768))),
        EINVAL
    );
    assert_eq!(errno(socket.set_keepalive_time(seconds(0))), EINVAL);
    assert_eq!(errno(socket.set_keepalive_retries(0)), EINVAL);
    assert_eq!(errno(socket.set_keepalive_retries(128)), EINVAL);
    assert_eq!(errno(socket.set_mss(87)), EINVAL);
    assert_eq!(errno(socket.set_mss(32_768)), EINVAL);
    assert_eq!(
        errno(socket.set_user_timeout(Some(seconds(1 << 31)))),
        EINVAL
    );
    // What was refused has changed nothing.
    assert_eq!(socket.congestion_control().unwrap(), "cubic");
    assert_eq!(socket.keepalive_interval().unwrap(), seconds(75));
    assert_eq!(socket.keepalive_retries().unwrap(), 9);
    assert_eq!(socket.user_timeout().unwrap(), None);
    assert_eq!(socket.linger2().unwrap(), seconds(60));
    assert_eq!(socket.notsent_lowat().unwrap(), u32::MAX);
    socket.set_linger2(Some(seconds(500))).unwrap();
    assert_eq!(socket.linger2().unwrap(), seconds(120));
    socket.set_user_timeout(Some(seconds(3))).unwrap();
    assert_eq!(socket.user_timeout().unwrap(), Some(seconds(3)));
    socket.set_user_timeout(Some(Duration::ZERO)).unwrap();
    assert_eq!(socket.user_timeout().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn ranges_and_errnos_are_the_kernels_on_every_kind_of_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    check_ranges(&listener);
    check_ranges(&TcpSocket::new_v4().unwrap());
    let address = listener.local_addr().unwrap();
    check_ranges(&TcpStream::connect(address).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn accepted_connections_inherit_what_the_listener_has() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.set_congestion_control("reno").unwrap();
    let listener = socket.listen(16).unwrap();
    let address = listener.local_addr().unwrap();
    let _first = TcpStream::connect(address).await.unwrap();
    let (first, _) = listener.accept().await.unwrap();
    assert_eq!(first.info().congestion_control, "reno");
    // Set on the listener itself, for those that come later.
    listener.set_congestion_control("cubic").unwrap();
    listener.set_mss(600).unwrap();
    listener.set_cork(true).unwrap();
    listener.set_keepalive_retries(3).unwrap();
    let second_client = TcpStream::connect(address).await.unwrap();
    let (second, _) = listener.accept().await.unwrap();
    assert_eq!(second.info().congestion_control, "cubic");
    assert!(second.cork().unwrap());
    assert_eq!(second.keepalive_retries().unwrap(), 3);
    assert_eq!(second.info().advertised_mss, 600);
    assert_eq!(second_client.mss().unwrap(), 588, "less the timestamps");
    // A stream's change is its own.
    second.set_cork(false).unwrap();
    assert!(listener.cork().unwrap());
    assert_eq!(first.keepalive_retries().unwrap(), 9);
}

#[tokio::test(start_paused = true)]
async fn corked_writes_arrive_together() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.set_cork(true).unwrap();
    let start = Instant::now();
    client.write_all(b"header ").await.unwrap();
    client.write_all(b"body").await.unwrap();
    let mut buffer = [0; 64];
    let wait = timeout(Duration::from_millis(100), server.read(&mut buffer)).await;
    assert!(wait.is_err(), "nothing is sent while corked");
    client.set_cork(false).unwrap();
    let read = server.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"header body");
    assert_eq!(start.elapsed().as_millis(), 100);
    assert_eq!(client.info().data_segments_sent, 1);
}

#[tokio::test(start_paused = true)]
async fn a_writer_with_a_limit_of_unsent_data_goes_on_as_it_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.set_notsent_lowat(16_384).unwrap();
    // Nobody reads: the peer's window fills, then the limit holds, long before the send buffer is full.
    let mut written = 0;
    while let Ok(Ok(count)) = timeout(Duration::from_secs(1), client.write(&[7; 100_000])).await {
        written += count;
    }
    let info = client.info();
    assert!(info.not_sent <= 16_384, "{}", info.not_sent);
    let unread = server.info().receive_buffered;
    assert_eq!(written, unread + info.send_buffered);
    // Reading lets it go on to any length.
    let more = tokio::spawn(async move {
        client.write_all(&[7; 1_000_000]).await.unwrap();
        written + 1_000_000
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), more.await.unwrap());
}
