//! Links that go down, come back, or vanish under connections with the kernel.

#![cfg(target_os = "linux")]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tidewire::net::SockOptExt;
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::exchange::exchange;
use tidewire_integration_tests::kernel::{
    Family, Link, LinkConfig, Role, kernel_connect, kernel_listen, on_each_family,
};
use tidewire_integration_tests::namespace::{delete_link, run_program, set_up};
use tidewire_integration_tests::requirements::{missing_program, skip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;

/// Takes the interface down for as long as `outage`; addresses and routes come back with it.
async fn interrupt(link: &Link, family: Family, outage: Duration) {
    set_up(&link.name, false).await.expect("down");
    tokio::time::sleep(outage).await;
    set_up(&link.name, true).await.expect("up");
    link.restore_address(family).await;
}

// RFC 6298 5: what was lost during an outage is sent again when the timer says so, in both directions.
#[test]
fn transfers_survive_an_outage() {
    let test = "transfers_survive_an_outage";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        for role in Role::ALL {
            let (mut ours, mut kernel) = link.connected(role, family).await;
            let (up, down) = (body(1, 96 * MIB), body(2, 96 * MIB));
            let outage = async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                interrupt(link, family, Duration::from_millis(700)).await;
            };
            let both = exchange(&mut ours, &mut kernel, &up, &down);
            let both = async { tokio::join!(both, outage).0 };
            let both = link.within(LIMIT / 3, &format!("{role:?}"), both).await;
            both.unwrap_or_else(|error| panic!("{role:?}: {error}\n{}", link.report()));
        }
    });
}

// RFC 6298 5, RFC 9293 MUST-23: a SYN is sent again.
#[test]
fn connections_are_made_although_the_first_syn_is_lost() {
    let test = "connections_are_made_although_the_first_syn_is_lost";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        let listener = kernel_listen(SocketAddr::new(family.kernel(), 0));
        let address = listener.local_addr().expect("bound");
        let outage = interrupt(link, family, Duration::from_millis(300));
        let connect = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            link.stack.tcp_stream(address).await
        };
        let ((), connected) = tokio::join!(outage, connect);
        let mut ours = connected.expect("the second SYN arrives");
        ours.write_all(b"hello").await.expect("alive");
        assert!(ours.info().retransmits > 0, "{:?}", ours.info());
        let (mut kernel, _) = listener.accept().await.expect("accepted");
        kernel.read_exact(&mut [0; 5]).await.expect("alive");
    });
}

// RFC 9293 3.8.3: after R2 the connection is given up, with ETIMEDOUT.
#[test]
fn silent_links_end_connections_with_timed_out() {
    let mut config = LinkConfig::default();
    config.tcp.retries = 3;
    config.tcp.keepalive_probes = 2;
    config.tcp.keepalive_interval = Duration::from_secs(1);
    let test = "silent_links_end_connections_with_timed_out";
    on_each_family(test, LIMIT, &config, async |link, family| {
        let (mut writing, _kernel1) = link.connected(Role::StackListens, family).await;
        let (mut probing, _kernel2) = link.connected(Role::KernelListens, family).await;
        probing.set_keepalive(true).expect("a plain option");
        probing
            .set_keepalive_time(Duration::from_secs(1))
            .expect("a plain option");
        set_up(&link.name, false).await.expect("down");
        writing
            .write_all(b"is anybody there?")
            .await
            .expect("buffered");
        let mut octets = [[0]; 2];
        let [first, second] = &mut octets;
        let ends = async { tokio::join!(writing.read(first), probing.read(second)) };
        let ends = link.within(LIMIT / 2, "giving up", ends).await;
        for (end, what) in [(ends.0, "writing"), (ends.1, "probing")] {
            assert_eq!(end.expect_err(what).kind(), ErrorKind::TimedOut, "{what}");
        }
        assert!(link.stack.sockets().is_empty(), "{}", link.report());
    });
}

// RFC 9293 3.8.4: keepalives are answered, whoever sends them, and keep an idle connection.
#[test]
fn keepalives_of_both_ends_are_answered() {
    let test = "keepalives_of_both_ends_are_answered";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        let (mut ours, mut kernel) = link.connected(Role::StackListens, family).await;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(1))
            .with_interval(Duration::from_secs(1))
            .with_retries(1);
        SockRef::from(&kernel)
            .set_tcp_keepalive(&keepalive)
            .expect("a plain option");
        ours.set_keepalive(true).expect("a plain option");
        ours.set_keepalive_time(Duration::from_secs(1))
            .expect("a plain option");
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert!(link.counted("TcpExtTCPKeepAlive") >= 1, "{}", link.report());
        ours.write_all(b"still here").await.expect("alive");
        kernel.read_exact(&mut [0; 10]).await.expect("alive");
    });
}

#[test]
fn a_deleted_interface_ends_everything_on_it() {
    const TEST: &str = "a_deleted_interface_ends_everything_on_it";
    on_each_family(TEST, LIMIT, &LinkConfig::default(), async |link, family| {
        let (mut ours, _kernel) = link.connected(Role::StackListens, family).await;
        let listener = link
            .stack
            .tcp_listener((family.stack(), 80))
            .await
            .expect("bound");
        let socket = link
            .stack
            .udp_socket((family.stack(), 0))
            .await
            .expect("bound");
        let ends = async {
            let mut octet = [0];
            tokio::join!(ours.read(&mut octet), listener.accept(), async {
                let _ = tokio::time::timeout(LIMIT / 10, socket.recv(&mut [0])).await;
            })
        };
        let deleted = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            delete_link(&link.name).await
        };
        let both = async { tokio::join!(ends, deleted) };
        let limit = LIMIT / 3;
        match tokio::time::timeout(limit, both).await {
            Ok(((read, accepted, ()), deleted)) => {
                deleted.expect("root may");
                read.expect_err("the stream failed");
                accepted.map(drop).expect_err("the listener failed");
            }
            Err(_) => panic!("sockets outlive their interface: {}", link.report()),
        }
    });
}

/// Both SYNs on their way at the same time (RFC 9293 3.5, figure 8). A rule keeps the kernel's peer from answering
/// before both ends have sent theirs.
#[test]
fn simultaneous_open_makes_one_connection() {
    const TEST: &str = "simultaneous_open_makes_one_connection";
    if let Some(reason) = missing_program("nft") {
        return skip(TEST, &reason);
    }
    on_each_family(TEST, LIMIT, &LinkConfig::default(), async |link, family| {
        // The kernel's RST for our SYN to a port where it has no listener would end ours.
        let rules = "add table inet t; add chain inet t o { type filter hook output priority 0; }; \
                     add rule inet t o tcp flags & rst == rst drop";
        if let Err(reason) = run_program("nft", &[rules]) {
            return skip(TEST, &format!("nft: {reason}"));
        }
        let (at_stack, at_kernel) = (
            SocketAddr::new(family.stack(), 5001),
            SocketAddr::new(family.kernel(), 5002),
        );
        let socket = match family {
            Family::V4 => link.stack.tcp_socket_v4(),
            Family::V6 => link.stack.tcp_socket_v6(),
        };
        let socket = socket.expect("a socket");
        socket.bind(at_stack).expect("free");
        let kernel = tidewire_integration_tests::kernel::kernel_socket(family);
        kernel.bind(at_kernel).expect("free");
        // Ours is unanswered: its RST is dropped. Then the kernel's SYN meets our SYN-SENT.
        let ours = socket.connect(at_kernel);
        let theirs = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            kernel.connect(at_stack).await
        };
        let both = async { tokio::join!(ours, theirs) };
        let (ours, theirs) = link.within(LIMIT / 3, "opening", both).await;
        let (mut ours, mut theirs) = (ours.expect("connected"), theirs.expect("connected"));
        let (up, down) = (body(3, MIB), body(4, MIB));
        exchange(&mut ours, &mut theirs, &up, &down)
            .await
            .expect("alive");
    });
}

/// A stack that is shut down has delivered what its dropped sockets still had, and does not wait for the peer to close.
#[test]
fn shutdown_delivers_what_dropped_sockets_had() {
    let test = "shutdown_delivers_what_dropped_sockets_had";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        let listener = link
            .stack
            .tcp_listener((family.stack(), 80))
            .await
            .expect("bound");
        let address = listener.local_addr().expect("bound");
        let (kernel, ours) = tokio::join!(kernel_connect(address), listener.accept());
        let (mut kernel, mut ours) = (kernel.expect("connected"), ours.expect("accepted").0);
        let text = body(5, MIB);
        let read = async {
            let mut got = Vec::new();
            tokio::time::sleep(Duration::from_millis(100)).await;
            kernel.read_to_end(&mut got).await?;
            io::Result::Ok(got)
        };
        let end = async {
            ours.write_all(&text).await.expect("fits the buffer");
            drop(ours);
            link.stack.shutdown().await;
        };
        let (got, ()) = tokio::join!(read, end);
        assert!(got.expect("alive") == text);
        let error = listener
            .accept()
            .await
            .map(drop)
            .expect_err("the stack has ended");
        drop(error);
    });
}
