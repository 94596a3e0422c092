//! The readiness cache, wakers, zero-length operations, cancelling.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};
use tokio_test::{assert_pending, assert_ready_ok, task};

use super::net::{TcpListener, TcpStream};

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

/// Sends `data` and waits until the other side has a readable edge for it.
async fn send(from: &mut TcpStream, to: &TcpStream, data: &[u8]) {
    from.write_all(data).await.unwrap();
    to.readable().await.unwrap();
}

fn is_read_ready(stream: &TcpStream) -> bool {
    task::spawn(poll_fn(|cx| stream.poll_read_ready(cx)))
        .poll()
        .is_ready()
}

#[tokio::test]
async fn an_accepted_stream_is_assumed_readable_and_writable() {
    let (_client, server) = pair().await;
    let ready = server
        .ready(Interest::READABLE | Interest::WRITABLE)
        .await
        .unwrap();
    assert!(ready.is_readable() && ready.is_writable());
    assert_eq!(
        server.try_read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert!(!is_read_ready(&server));
}

#[tokio::test]
async fn a_try_read_clears_only_when_it_would_block() {
    let (mut client, server) = pair().await;
    send(&mut client, &server, b"four").await;
    // A short try_read has emptied the buffer, but the cache does not know.
    assert_eq!(server.try_read(&mut [0; 64]).unwrap(), 4);
    assert!(is_read_ready(&server));
    assert_eq!(
        server.try_read(&mut [0; 64]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert!(!is_read_ready(&server));
}

#[tokio::test]
async fn a_short_read_clears_and_an_exact_one_does_not() {
    let (mut client, mut server) = pair().await;
    send(&mut client, &server, b"four").await;
    assert_eq!(server.read(&mut [0; 4]).await.unwrap(), 4);
    assert!(is_read_ready(&server));
    assert_eq!(
        server.try_read(&mut [0; 4]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );

    send(&mut client, &server, b"four").await;
    assert_eq!(server.read(&mut [0; 5]).await.unwrap(), 4);
    assert!(!is_read_ready(&server));
}

#[tokio::test]
async fn try_io_clears_when_its_closure_would_block() {
    let (mut client, server) = pair().await;
    send(&mut client, &server, b"data").await;
    let error = server
        .try_io(Interest::READABLE, || {
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(!is_read_ready(&server));
    let error = server.try_io(Interest::READABLE, || Ok(())).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::WouldBlock,
        "the closure must not run"
    );
    assert_eq!(server.try_io(Interest::WRITABLE, || Ok(7)).unwrap(), 7);
}

#[tokio::test]
async fn async_io_runs_again_after_the_next_edge() {
    let (mut client, server) = pair().await;
    assert!(server.try_read(&mut [0; 1]).is_err());
    let reader = async {
        let mut calls = 0;
        let n = server
            .async_io(Interest::READABLE, || {
                calls += 1;
                if calls == 1 {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(calls)
                }
            })
            .await
            .unwrap();
        assert_eq!(n, 2);
    };
    let writer = async {
        client.write_all(b"1").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        client.write_all(b"2").await.unwrap();
    };
    tokio::join!(reader, writer);
}

#[tokio::test]
async fn empty_operations() {
    let (mut client, mut server) = pair().await;
    assert_eq!(
        server.try_read(&mut []).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    {
        let mut nothing = [];
        let mut read = task::spawn(server.read(&mut nothing));
        assert_pending!(read.poll());
    }
    assert_eq!(client.write(&[]).await.unwrap(), 0);
    send(&mut client, &server, b"x").await;
    assert_eq!(server.read(&mut []).await.unwrap(), 0);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
}

#[tokio::test]
async fn the_last_poll_of_a_direction_is_woken_and_every_async_waiter() {
    let (mut client, server) = pair().await;
    assert!(server.try_read(&mut [0; 1]).is_err());
    let mut first = task::spawn(poll_fn(|cx| server.poll_read_ready(cx)));
    assert_pending!(first.poll());
    let mut waiters: Vec<_> = (0..10).map(|_| task::spawn(server.readable())).collect();
    for waiter in &mut waiters {
        assert_pending!(waiter.poll());
    }
    let mut last = task::spawn(poll_fn(|cx| {
        let mut buffer = [0; 8];
        server.poll_peek(cx, &mut ReadBuf::new(&mut buffer))
    }));
    assert_pending!(last.poll());

    client.write_all(b"wake").await.unwrap();
    while !last.is_woken() {
        tokio::task::yield_now().await;
    }
    assert!(!first.is_woken(), "its waker was replaced");
    for waiter in &mut waiters {
        assert!(waiter.is_woken());
        assert_ready_ok!(waiter.poll());
    }
    assert_eq!(assert_ready_ok!(last.poll()), 4);
}

#[tokio::test]
async fn a_woken_waiter_resolves_even_if_another_has_read_the_data() {
    let (mut client, server) = pair().await;
    assert!(server.try_read(&mut [0; 1]).is_err());
    let mut slow = task::spawn(server.readable());
    assert_pending!(slow.poll());
    client.write_all(b"x").await.unwrap();
    while !slow.is_woken() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.try_read(&mut [0; 8]).unwrap(), 1);
    assert!(server.try_read(&mut [0; 8]).is_err());
    assert_ready_ok!(slow.poll());
}

#[tokio::test]
async fn cancelled_waits_lose_nothing() {
    let (mut client, mut server) = pair().await;
    assert!(server.try_read(&mut [0; 1]).is_err());
    for _ in 0..3 {
        let mut buffer = [0; 8];
        let mut peek = task::spawn(server.peek(&mut buffer));
        assert_pending!(peek.poll());
        drop(peek);
        let mut readable = task::spawn(server.readable());
        assert_pending!(readable.poll());
    }
    send(&mut client, &server, b"kept").await;
    let mut text = [0; 4];
    assert_eq!(server.peek(&mut text).await.unwrap(), 4);
    server.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"kept");
}

#[tokio::test]
async fn vectored_operations_go_through_the_buffers_in_order() {
    let (mut client, server) = pair().await;
    let slices = [
        IoSlice::new(b"one "),
        IoSlice::new(b""),
        IoSlice::new(b"two"),
    ];
    assert_eq!(client.write_vectored(&slices).await.unwrap(), 7);
    server.readable().await.unwrap();
    let (mut head, mut tail) = ([0; 2], [0; 16]);
    let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
    assert_eq!(server.try_read_vectored(&mut buffers).unwrap(), 7);
    assert_eq!((&head[..], &tail[..5]), (&b"on"[..], &b"e two"[..]));
}

#[tokio::test]
async fn try_read_buf_fills_no_more_than_the_chunk() {
    let (mut client, server) = pair().await;
    send(&mut client, &server, b"0123456789").await;
    let mut text = Vec::with_capacity(4);
    let room = text.capacity();
    assert_eq!(server.try_read_buf(&mut text).unwrap(), room.min(10));
    assert_eq!(text, &b"0123456789"[..room.min(10)]);
}

#[tokio::test]
async fn borrowed_halves_read_and_write_at_once() {
    let (mut client, mut server) = pair().await;
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = server.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let (mut read, mut write) = client.split();
    let sent = vec![7_u8; 3 << 20];
    let mut received = Vec::new();
    let (written, count) = tokio::join!(
        async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
            sent.len()
        },
        read.read_to_end(&mut received)
    );
    assert_eq!((written, count.unwrap()), (received.len(), received.len()));
    echo.await.unwrap();
}

#[tokio::test]
async fn streams_work_from_threads_without_a_runtime() {
    let (mut client, mut server) = pair().await;
    let thread = std::thread::spawn(move || {
        assert_eq!(client.try_write(b"from a thread").unwrap(), 13);
        let mut text = [0; 5];
        // Any executor will do.
        futures::executor::block_on(client.read_exact(&mut text)).unwrap();
        assert_eq!(&text, b"reply");
        drop(client);
    });
    let mut text = [0; 13];
    server.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"from a thread");
    server.write_all(b"reply").await.unwrap();
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_full_stream_becomes_writable_when_the_peer_reads() {
    let (client, mut server) = pair().await;
    let block = vec![1_u8; 1 << 16];
    let mut total = 0;
    loop {
        match client.try_write(&block) {
            Ok(n) => total += n,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                // What is under way may free some room; full is when it stays full.
                if tokio::time::timeout(Duration::from_millis(20), client.writable())
                    .await
                    .is_err()
                {
                    break;
                }
            }
        }
    }
    let mut writable = task::spawn(client.writable());
    assert_pending!(writable.poll());
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    while read < total {
        read += server.read(&mut buffer).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(10), writable)
        .await
        .expect("room again")
        .unwrap();
}

#[tokio::test]
async fn operations_cost_budget_and_yield() {
    let (mut client, mut server) = pair().await;
    send(&mut client, &server, &[1; 4096]).await;
    let other = tokio::spawn(async {});
    // Reads one by one from a full buffer: without a budget this would never yield.
    let mut buffer = [0; 1];
    for _ in 0..1000 {
        server.read_exact(&mut buffer).await.unwrap();
    }
    assert!(other.is_finished());
}
