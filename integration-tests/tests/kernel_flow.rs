//! Flow control against the kernel: readers that stop and go on, windows that fill, tiny buffers and segments.

#![cfg(target_os = "linux")]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::exchange::{digest, exchange, receive, send};
use tidewire_integration_tests::kernel::{
    Family, Link, LinkConfig, Role, kernel_listen, kernel_socket, on_each_family,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(40);
const MIB: usize = 1 << 20;

fn on_links<F>(test: &str, body: F)
where
    F: AsyncFn(&Link, Family) + Clone + Send + 'static,
{
    on_each_family(test, LIMIT, &LinkConfig::default(), body);
}

/// Sends `len` octets to a reader that does not begin before `pause` after the writer got stuck.
async fn into_a_stalled_reader<W, R>(to: &mut W, from: &mut R, len: usize, pause: Duration)
where
    W: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let body = body(6, len);
    let reader = async {
        tokio::time::sleep(pause).await;
        receive(from).await
    };
    let started = Instant::now();
    let (sent, got) = tokio::join!(send(to, &body), reader);
    sent.expect("the connection survives");
    assert_eq!(got.expect("the connection survives"), digest(&body));
    assert!(
        started.elapsed() >= pause,
        "the writer never met a full window"
    );
}

/// Long enough for several probes of a zero window (at RTO intervals of 200 ms, doubled each time).
const STALL: Duration = Duration::from_millis(2500);

// RFC 9293 3.8.6.1: a sender probes a zero window (MUST-36), a receiver answers, and the data flows again.
#[test]
fn a_kernel_reader_that_stalls_is_probed_and_served() {
    on_links(
        "a_kernel_reader_that_stalls_is_probed_and_served",
        async |link, family| {
            let (mut ours, mut kernel) = link.connected(Role::StackListens, family).await;
            SockRef::from(&kernel)
                .set_recv_buffer_size(64 * 1024)
                .expect("a plain option");
            into_a_stalled_reader(&mut ours, &mut kernel, 16 * MIB, STALL).await;
            assert!(
                link.counted("TcpExtTCPToZeroWindowAdv") > 0,
                "{}",
                link.report()
            );
            assert_eq!(link.counted("TcpOutRsts"), 0);
        },
    );
}

#[test]
fn a_stack_reader_that_stalls_answers_probes_and_drains() {
    // RFC 9293 MAY-8.
    on_links(
        "a_stack_reader_that_stalls_answers_probes_and_drains",
        async |link, family| {
            let (mut ours, mut kernel) = link.connected(Role::KernelListens, family).await;
            into_a_stalled_reader(&mut kernel, &mut ours, 64 * MIB, STALL).await;
            // Data beyond the window would have been dropped and sent again.
            assert!(link.counted("TcpExtTCPWinProbe") > 0, "{}", link.report());
            assert_eq!(link.counted("TcpOutRsts"), 0);
        },
    );
}

/// Windows that fill and drain again and again.
#[test]
fn readers_that_pause_often_lose_nothing() {
    on_links(
        "readers_that_pause_often_lose_nothing",
        async |link, family| {
            /// Reads `burst` octets at a time and then does something else.
            async fn read_in_bursts<R: AsyncRead + Unpin>(from: &mut R, burst: usize) -> Vec<u8> {
                let (mut all, mut some) = (Vec::new(), vec![0; burst]);
                loop {
                    match from.read(&mut some).await.expect("alive") {
                        0 => return all,
                        count => all.extend_from_slice(&some[..count]),
                    }
                    if all.len() % (4 * burst) < burst {
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                }
            }
            for (len, burst) in [(4 * MIB, 32 * 1024), (MIB, 1000)] {
                let body = body(7, len);
                let socket = small_stack_socket(link, family, 64 * 1024);
                let listener = kernel_listen(SocketAddr::new(family.kernel(), 0));
                let address = listener.local_addr().expect("bound");
                let (ours, kernel) = tokio::join!(socket.connect(address), listener.accept());
                let (mut ours, mut kernel) =
                    (ours.expect("connected"), kernel.expect("accepted").0);
                SockRef::from(&kernel)
                    .set_recv_buffer_size(64 * 1024)
                    .expect("a plain option");
                let (sent, got) =
                    tokio::join!(send(&mut ours, &body), read_in_bursts(&mut kernel, burst));
                sent.expect("alive");
                assert!(got == body, "kernel received {} octets", got.len());
                let (sent, got) =
                    tokio::join!(send(&mut kernel, &body), read_in_bursts(&mut ours, burst));
                sent.expect("alive");
                assert!(got == body, "we received {} octets", got.len());
            }
        },
    );
}

fn small_stack_socket(link: &Link, family: Family, buffer: u32) -> tidewire::net::TcpSocket {
    let socket = match family {
        Family::V4 => link.stack.tcp_socket_v4(),
        Family::V6 => link.stack.tcp_socket_v6(),
    };
    let socket = socket.expect("a socket");
    socket.set_recv_buffer_size(buffer).expect("a plain option");
    socket.set_send_buffer_size(buffer).expect("a plain option");
    socket
}

// RFC 9293 3.8.6.2: with windows of one segment or less nothing may get stuck, neither at the sender nor at the receiver.
#[test]
fn the_smallest_buffers_still_move_everything() {
    on_links(
        "the_smallest_buffers_still_move_everything",
        async |link, family| {
            for role in Role::ALL {
                let stack = small_stack_socket(link, family, 1);
                let kernel = kernel_socket(family);
                // The kernel makes its own smallest of these.
                kernel.set_recv_buffer_size(1).expect("a plain option");
                kernel.set_send_buffer_size(1).expect("a plain option");
                let (mut ours, mut kernel) = match role {
                    Role::StackListens => {
                        stack
                            .bind(SocketAddr::new(family.stack(), 0))
                            .expect("free");
                        let listener = stack.listen(8).expect("bound");
                        let address = listener.local_addr().expect("bound");
                        let (kernel, ours) =
                            tokio::join!(kernel.connect(address), listener.accept());
                        (ours.expect("accepted").0, kernel.expect("connected"))
                    }
                    Role::KernelListens => {
                        kernel
                            .bind(SocketAddr::new(family.kernel(), 0))
                            .expect("free");
                        let listener = kernel.listen(8).expect("bound");
                        let address = listener.local_addr().expect("bound");
                        let (ours, kernel) =
                            tokio::join!(stack.connect(address), listener.accept());
                        (ours.expect("connected"), kernel.expect("accepted").0)
                    }
                };
                let (up, down) = (body(8, 200_000), body(9, 100_000));
                let both = exchange(&mut ours, &mut kernel, &up, &down);
                let both = link.within(LIMIT / 3, &format!("{role:?}"), both).await;
                both.expect("the connection survives");
            }
        },
    );
}

// RFC 9293 3.7.1: neither side sends more than the other's MSS option says.
#[test]
fn small_segments_are_respected() {
    let mut config = LinkConfig::default();
    config.tcp.max_mss = Some(100);
    on_each_family(
        "small_segments_are_respected",
        LIMIT,
        &config,
        async |link, family| {
            for role in Role::ALL {
                let (mut ours, mut kernel) = link.connected(role, family).await;
                let (up, down) = (body(10, 300_000), body(11, 300_000));
                exchange(&mut ours, &mut kernel, &up, &down)
                    .await
                    .expect("the connection survives");
            }
        },
    );
    let config = LinkConfig::default();
    on_each_family(
        "small_segments_of_the_kernel",
        LIMIT,
        &config,
        async |link, family| {
            let listener = link
                .stack
                .tcp_listener((family.stack(), 0))
                .await
                .expect("bound");
            let socket = kernel_socket(family);
            SockRef::from(&socket)
                .set_tcp_mss(200)
                .expect("a plain option");
            let address = listener.local_addr().expect("bound");
            let (kernel, ours) = tokio::join!(socket.connect(address), listener.accept());
            let (mut kernel, mut ours) = (kernel.expect("connected"), ours.expect("accepted").0);
            assert!(ours.info().mss <= 200, "{:?}", ours.info());
            let (up, down) = (body(10, MIB), body(11, MIB));
            exchange(&mut ours, &mut kernel, &up, &down)
                .await
                .expect("the connection survives");
        },
    );
}

/// Request and response of one octet, with Nagle off: each round trip is a matter of microseconds, not of delayed ACKs.
#[test]
fn ping_pong_is_not_delayed() {
    on_links("ping_pong_is_not_delayed", async |link, family| {
        const ROUNDS: u32 = 2000;
        for role in Role::ALL {
            let (mut ours, mut kernel) = link.connected(role, family).await;
            ours.set_nodelay(true).expect("a plain option");
            kernel.set_nodelay(true).expect("a plain option");
            let started = Instant::now();
            let ask = async {
                for round in 0..ROUNDS {
                    ours.write_all(&[round as u8]).await?;
                    assert_eq!(ours.read_u8().await?, round as u8);
                }
                ours.shutdown().await
            };
            let answer = async {
                let mut octet = [0];
                while kernel.read(&mut octet).await? == 1 {
                    kernel.write_all(&octet).await?;
                }
                io::Result::Ok(())
            };
            tokio::try_join!(ask, answer).expect("alive");
            let each = started.elapsed() / ROUNDS;
            assert!(
                each < Duration::from_millis(4),
                "{role:?}: {each:?} a round trip"
            );
        }
    });
}

// RFC 9293 3.7.4 and 3.8.6.3: Nagle at one end and delayed ACKs at the other slow small writes down, but not to a halt.
#[test]
fn nagle_and_delayed_acks_do_not_lock_up() {
    on_links(
        "nagle_and_delayed_acks_do_not_lock_up",
        async |link, family| {
            const ROUNDS: u32 = 10;
            let (mut ours, mut kernel) = link.connected(Role::StackListens, family).await;
            for round in 0..ROUNDS {
                for direction in 0..2 {
                    let mut text = [0; 8];
                    if direction == 0 {
                        ours.write_all(b"head").await.expect("alive");
                        ours.write_all(b"tail").await.expect("alive");
                        kernel.read_exact(&mut text).await.expect("alive");
                    } else {
                        kernel.write_all(b"head").await.expect("alive");
                        kernel.write_all(b"tail").await.expect("alive");
                        ours.read_exact(&mut text).await.expect("alive");
                    }
                    assert_eq!(&text, b"headtail", "round {round}");
                }
            }
            assert_eq!(link.counted("TcpExtTCPTimeouts"), 0, "{}", link.report());
        },
    );
}
