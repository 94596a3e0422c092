//! How connections with the kernel end: half-close, simultaneous close, RST in both directions, peers that vanish.

#![cfg(target_os = "linux")]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tidewire::net::TcpStream;
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::exchange::{digest, receive};
use tidewire_integration_tests::kernel::scenarios;
use tidewire_integration_tests::kernel::{
    Family, Link, LinkConfig, Role, kernel_connect, kernel_listen, kernel_socket, on_each_family,
};
use tidewire_integration_tests::namespace::set_up;
use tidewire_integration_tests::requirements::{missing_program, skip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;

fn on_links<F>(test: &str, body: F)
where
    F: AsyncFn(&Link, Family) + Clone + Send + 'static,
{
    on_each_family(test, LIMIT, &LinkConfig::default(), body);
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}

/// Our sockets that are not listeners, once the stack has had time to finish.
async fn settled(link: &Link) -> usize {
    for _ in 0..200 {
        if link.stack.sockets().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    link.stack.sockets().len()
}

#[test]
fn kernel_half_closes_and_gets_an_answer() {
    on_links(
        "kernel_half_closes_and_gets_an_answer",
        async |link, family| {
            for role in Role::ALL {
                let done = scenarios::kernel_half_closes(link, family, role).await;
                done.expect("no error");
            }
            assert_eq!(link.counted("TcpOutRsts"), 0);
        },
    );
}

#[test]
fn stack_half_closes_and_gets_an_answer() {
    on_links(
        "stack_half_closes_and_gets_an_answer",
        async |link, family| {
            for role in Role::ALL {
                let done = scenarios::stack_half_closes(link, family, role).await;
                done.expect("no error");
            }
            assert_eq!(link.counted("TcpOutRsts"), 0);
        },
    );
}

// RFC 9293 3.6, case 3, figure 13.
#[test]
fn simultaneous_close_ends_cleanly_on_both_sides() {
    on_links(
        "simultaneous_close_ends_cleanly_on_both_sides",
        async |link, family| {
            for round in 0..40 {
                let role = Role::ALL[round % 2];
                let (mut ours, mut kernel) = link.connected(role, family).await;
                // Both FINs are on their way before either end looks at what came.
                let closed = tokio::try_join!(ours.shutdown(), kernel.shutdown());
                closed.expect("no error");
                let ends =
                    tokio::try_join!(receive(&mut ours), receive(&mut kernel)).expect("ends");
                assert_eq!((ends.0.len, ends.1.len), (0, 0));
            }
            assert_eq!(link.counted("TcpOutRsts"), 0);
            assert_eq!(link.counted("TcpEstabResets"), 0);
        },
    );
}

#[test]
fn reset_by_the_kernel_is_connection_reset() {
    on_links(
        "reset_by_the_kernel_is_connection_reset",
        async |link, family| {
            for role in Role::ALL {
                let done = scenarios::kernel_resets(link, family, role).await;
                done.expect("nothing but the RST");
            }
            assert_eq!(link.counted("TcpOutRsts"), 2);
            assert_eq!(settled(link).await, 0, "{}", link.report());
        },
    );
}

#[test]
fn reset_by_the_stack_is_connection_reset() {
    on_links(
        "reset_by_the_stack_is_connection_reset",
        async |link, family| {
            for role in Role::ALL {
                let done = scenarios::stack_resets(link, family, role).await;
                done.expect("nothing but the RST");
            }
            assert_eq!(link.counted("TcpEstabResets"), 2);
            assert_eq!(settled(link).await, 0, "{}", link.report());
        },
    );
}

// RFC 9293 3.6.1: closing with data unread loses data, so the peer must learn of it (RFC 1122 4.2.2.13).
#[test]
fn closing_with_unread_data_resets_in_both_directions() {
    on_links(
        "closing_with_unread_data_resets_in_both_directions",
        async |link, family| {
            for role in Role::ALL {
                let (ours, mut kernel) = link.connected(role, family).await;
                kernel.write_all(b"unread").await.expect("connected");
                ours.peek(&mut [0]).await.expect("alive");
                drop(ours);
                assert_eq!(
                    kind(kernel.read(&mut [0; 8]).await),
                    ErrorKind::ConnectionReset
                );

                let (mut ours, kernel) = link.connected(role, family).await;
                ours.write_all(b"unread").await.expect("connected");
                kernel.peek(&mut [0]).await.expect("alive");
                drop(kernel);
                assert_eq!(
                    kind(ours.read(&mut [0; 8]).await),
                    ErrorKind::ConnectionReset
                );
            }
        },
    );
}

/// Writes until it fails; with what.
async fn write_until_failure<W: AsyncWriteExt + Unpin>(to: &mut W) -> ErrorKind {
    loop {
        if let Err(error) = to.write(b"is anybody there?").await {
            return error.kind();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// The first write after the peer's full close is answered by RST; what was written then fails with EPIPE.
#[test]
fn writes_to_a_closed_peer_end_in_broken_pipe() {
    on_links(
        "writes_to_a_closed_peer_end_in_broken_pipe",
        async |link, family| {
            for role in Role::ALL {
                let (mut ours, kernel) = link.connected(role, family).await;
                drop(kernel);
                assert_eq!(ours.read(&mut [0]).await.expect("FIN"), 0);
                assert_eq!(write_until_failure(&mut ours).await, ErrorKind::BrokenPipe);

                let (ours, mut kernel) = link.connected(role, family).await;
                drop(ours);
                assert_eq!(kernel.read(&mut [0]).await.expect("FIN"), 0);
                assert_eq!(
                    write_until_failure(&mut kernel).await,
                    ErrorKind::BrokenPipe
                );
            }
            assert_eq!(settled(link).await, 0, "{}", link.report());
        },
    );
}

// RFC 9293 3.10.7.1: a SYN to a closed port is answered by RST.
#[test]
fn closed_ports_refuse_in_both_directions() {
    on_links(
        "closed_ports_refuse_in_both_directions",
        async |link, family| {
            let refused = kernel_connect(SocketAddr::new(family.stack(), 9)).await;
            assert_eq!(kind(refused), ErrorKind::ConnectionRefused);
            let refused = link.stack.tcp_stream((family.kernel(), 9)).await;
            assert_eq!(kind(refused), ErrorKind::ConnectionRefused);
            assert_eq!(settled(link).await, 0, "{}", link.report());
        },
    );
}

#[test]
fn dropped_listeners_reset_the_unaccepted() {
    on_links(
        "dropped_listeners_reset_the_unaccepted",
        async |link, family| {
            let listener = link
                .stack
                .tcp_listener((family.stack(), 0))
                .await
                .expect("bound");
            let address = listener.local_addr().expect("bound");
            let mut clients = Vec::new();
            for _ in 0..5 {
                clients.push(kernel_connect(address).await.expect("the backlog has room"));
            }
            drop(listener);
            for mut client in clients {
                assert_eq!(
                    kind(client.read(&mut [0]).await),
                    ErrorKind::ConnectionReset
                );
            }
            assert_eq!(
                kind(kernel_connect(address).await),
                ErrorKind::ConnectionRefused
            );

            let listener = kernel_listen(SocketAddr::new(family.kernel(), 0));
            let address = listener.local_addr().expect("bound");
            let mut client = link.stack.tcp_stream(address).await.expect("connected");
            drop(listener);
            assert_eq!(
                kind(client.read(&mut [0]).await),
                ErrorKind::ConnectionReset
            );
            drop(client);
            assert_eq!(settled(link).await, 0, "{}", link.report());
        },
    );
}

#[test]
fn peers_that_give_up_in_the_middle_of_a_transfer_end_it() {
    on_links(
        "peers_that_give_up_in_the_middle_of_a_transfer_end_it",
        async |link, family| {
            /// Reads a MiB, then goes away with more on its way.
            async fn give_up<R: AsyncReadExt + Unpin>(mut from: R) {
                let mut some = vec![0; MIB];
                from.read_exact(&mut some)
                    .await
                    .expect("the beginning arrives");
            }
            let bulk = body(5, 64 * MIB);
            for role in Role::ALL {
                let (mut ours, kernel) = link.connected(role, family).await;
                let (sent, ()) = tokio::join!(ours.write_all(&bulk), give_up(kernel));
                let kind_of = kind(sent);
                assert!(
                    matches!(kind_of, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                    "{kind_of:?}"
                );
                drop(ours);

                let (ours, mut kernel) = link.connected(role, family).await;
                let (sent, ()) = tokio::join!(kernel.write_all(&bulk), give_up(ours));
                let kind_of = kind(sent);
                assert!(
                    matches!(kind_of, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                    "{kind_of:?}"
                );
            }
            assert_eq!(settled(link).await, 0, "{}", link.report());
        },
    );
}

// RFC 9293 3.5.1: one end has forgotten the connection; the other learns it by RST when it sends.
#[test]
fn half_open_connections_are_found_out_by_sending() {
    if let Some(reason) = missing_program("ss") {
        return skip("half_open_connections_are_found_out_by_sending", &reason);
    }
    on_links(
        "half_open_connections_are_found_out_by_sending",
        async |link, family| {
            let (mut ours, kernel) = link.connected(Role::StackListens, family).await;
            ours.write_all(b"before").await.expect("connected");
            kernel.peek(&mut [0]).await.expect("alive");
            // The RST of the destroyed socket is lost: the interface is down.
            set_up(&link.name, false).await.expect("down");
            let port = kernel.peer_addr().expect("connected").port();
            let destroyed = Command::new("ss")
                .args(["-Kt", "dport", "=", &port.to_string()])
                .output();
            assert!(destroyed.expect("ss").status.success());
            drop(kernel);
            set_up(&link.name, true).await.expect("up");
            link.restore_address(family).await;
            let read = async {
                ours.write_all(b"after").await?;
                ours.read(&mut [0; 8]).await
            };
            assert_eq!(kind(read.await), ErrorKind::ConnectionReset);
            assert_eq!(settled(link).await, 0, "{}", link.report());
        },
    );
}

async fn serve_once(listener: &tidewire::net::TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.expect("accepted");
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.expect("a request");
    stream.write_all(&request).await.expect("connected");
    stream
}

// RFC 9293 3.6.1, RFC 6191: a new SYN with a later sequence number or timestamp reopens a connection in TIME-WAIT.
#[test]
fn kernel_reuses_a_port_that_we_hold_in_time_wait() {
    on_links(
        "kernel_reuses_a_port_that_we_hold_in_time_wait",
        async |link, family| {
            let listener = link
                .stack
                .tcp_listener((family.stack(), 80))
                .await
                .expect("bound");
            for round in 0..20 {
                let socket = kernel_socket(family);
                socket.set_reuseaddr(true).expect("a plain option");
                socket
                    .bind(SocketAddr::new(family.kernel(), 40_000))
                    .expect("its connection is over");
                let client = async {
                    let mut stream = socket
                        .connect(listener.local_addr().expect("bound"))
                        .await?;
                    stream.write_all(b"ping").await?;
                    let got = receive(&mut stream).await?;
                    assert_eq!(got, digest(b"ping"), "round {round}");
                    io::Result::Ok(())
                };
                // The server closes first: TIME-WAIT is ours.
                let server = async {
                    drop(serve_once(&listener).await);
                    io::Result::Ok(())
                };
                let limit = Duration::from_secs(3);
                let both = async { tokio::try_join!(client, server) };
                let result = link.within(limit, &format!("round {round}"), both).await;
                result.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", link.report()));
                // The client's last ACK is still to come; until then its end of the old connection is in use.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        },
    );
}

#[test]
fn stack_reuses_a_port_that_the_kernel_holds_in_time_wait() {
    on_links(
        "stack_reuses_a_port_that_the_kernel_holds_in_time_wait",
        async |link, family| {
            let listener = kernel_listen(SocketAddr::new(family.kernel(), 80));
            let address = listener.local_addr().expect("bound");
            for round in 0..20 {
                let socket = match family {
                    Family::V4 => link.stack.tcp_socket_v4(),
                    Family::V6 => link.stack.tcp_socket_v6(),
                };
                let socket = socket.expect("a socket");
                socket.set_reuseaddr(true).expect("a plain option");
                let local = SocketAddr::new(family.stack(), 40_000);
                socket.bind(local).expect("its connection is over");
                let client = async {
                    let mut stream = socket.connect(address).await?;
                    stream.write_all(b"ping").await?;
                    let got = receive(&mut stream).await?;
                    assert_eq!(got, digest(b"ping"), "round {round}");
                    io::Result::Ok(())
                };
                let server = async {
                    let (mut stream, _) = listener.accept().await?;
                    let mut request = [0; 4];
                    stream.read_exact(&mut request).await?;
                    stream.write_all(&request).await
                };
                let limit = Duration::from_secs(3);
                let both = async { tokio::try_join!(client, server) };
                let result = link.within(limit, &format!("round {round}"), both).await;
                result.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", link.report()));
                // The client's last ACK is still to come; until then its end of the old connection is in use.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        },
    );
}
