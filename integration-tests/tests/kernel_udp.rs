//! UDP and ICMP with the kernel: datagrams of all sizes, fragments, echo requests, unreachable ports.

#![cfg(target_os = "linux")]

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidewire::net::{IcmpSocket, UdpSocket};
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::kernel::{
    Family, Link, LinkConfig, Role, on_each_family, scenarios,
};
use tidewire_integration_tests::namespace::set_sysctl;
use tidewire_netdev::checksum;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const LIMIT: Duration = Duration::from_secs(20);

fn on_links<F>(test: &str, body: F)
where
    F: AsyncFn(&Link, Family) + Clone + Send + 'static,
{
    on_each_family(test, LIMIT, &LinkConfig::default(), body);
}

async fn kernel_udp(family: Family) -> tokio::net::UdpSocket {
    tokio::net::UdpSocket::bind((family.kernel(), 0))
        .await
        .expect("a free port")
}

async fn stack_udp(link: &Link, family: Family) -> UdpSocket {
    link.stack
        .udp_socket((family.stack(), 0))
        .await
        .expect("a free port")
}

async fn datagrams_of_all_sizes(link: &Link, family: Family) {
    for first in Role::ALL {
        let exchanged = scenarios::datagrams(link, family, first).await;
        exchanged.expect("no error");
    }
}

#[test]
fn datagrams_and_fragments_arrive_whole() {
    for (mtu, offload) in [(1500, true), (1500, false), (9000, true), (1280, false)] {
        let config = LinkConfig {
            mtu,
            offload,
            ..LinkConfig::default()
        };
        let test = format!("datagrams_and_fragments_arrive_whole mtu {mtu} offload {offload}");
        on_each_family(&test, LIMIT, &config, datagrams_of_all_sizes);
    }
}

#[test]
fn bursts_of_datagrams_keep_their_order() {
    on_links(
        "bursts_of_datagrams_keep_their_order",
        async |link, family| {
            /// The kernel's default buffer holds 92 of these.
            const COUNT: u32 = 64;
            let (ours, kernel) = (stack_udp(link, family).await, kernel_udp(family).await);
            ours.connect(kernel.local_addr().expect("bound"))
                .await
                .expect("connected");
            kernel
                .connect(ours.local_addr().expect("bound"))
                .await
                .expect("connected");
            let mut buffer = [0; 2000];
            for index in 0..COUNT {
                let mut payload = vec![0; 1000];
                payload[..4].copy_from_slice(&index.to_be_bytes());
                kernel.send(&payload).await.expect("sent");
                ours.send(&payload).await.expect("sent");
            }
            for index in 0..COUNT {
                assert_eq!(ours.recv(&mut buffer).await.expect("received"), 1000);
                assert_eq!(buffer[..4], index.to_be_bytes(), "at us");
                assert_eq!(kernel.recv(&mut buffer).await.expect("received"), 1000);
                assert_eq!(buffer[..4], index.to_be_bytes(), "at the kernel");
            }
        },
    );
}

// RFC 1122 4.1.3.1 and 4.1.3.3: nobody there is answered by port unreachable, which the application learns.
#[test]
fn closed_udp_ports_refuse_in_both_directions() {
    on_links(
        "closed_udp_ports_refuse_in_both_directions",
        async |link, family| {
            let kernel = kernel_udp(family).await;
            kernel.connect((family.stack(), 9)).await.expect("a route");
            for payload in [&[][..], &[1; 10], &[2; 1400]] {
                kernel.send(payload).await.expect("sent");
                let refused = kernel.recv(&mut [0; 8]).await.expect_err("nobody there");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            }
            let ours = stack_udp(link, family).await;
            ours.connect((family.kernel(), 9)).await.expect("a route");
            for payload in [&[][..], &[1; 10], &[2; 1400]] {
                ours.send(payload).await.expect("sent");
                let refused = ours.recv(&mut [0; 8]).await.expect_err("nobody there");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            }
            // An unconnected socket hears nothing of it.
            let ours = stack_udp(link, family).await;
            ours.send_to(b"x", SocketAddr::new(family.kernel(), 9))
                .await
                .expect("sent");
            let heard =
                tokio::time::timeout(Duration::from_millis(50), ours.recv(&mut [0; 8])).await;
            assert!(heard.is_err(), "{heard:?}");
        },
    );
}

// RFC 9293 3.9.2.2 (MUST-56): host unreachable does not end the attempt, but is what is told when it ends (SHLD-25).
#[test]
fn unreachable_hosts_are_told_when_connecting_gives_up() {
    let mut config = LinkConfig::default();
    config.tcp.initial_rto = Duration::from_millis(100);
    config.tcp.syn_retries = 2;
    let test = "unreachable_hosts_are_told_when_connecting_gives_up";
    on_each_family(test, LIMIT, &config, async |link, family| {
        // The kernel is a router that knows no way.
        set_sysctl("ipv4/ip_forward", "1");
        set_sysctl("ipv6/conf/all/forwarding", "1");
        let nowhere: IpAddr = match family {
            Family::V4 => [192, 0, 2, 1].into(),
            Family::V6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        };
        let connect = link.stack.tcp_stream((nowhere, 80));
        let connected = link.within(LIMIT / 2, "giving up", connect).await;
        let error = connected.expect_err("nobody there");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error:?}");
    });
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the socket is owned and stays open"
)]
fn readable(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// A raw ICMP socket of the kernel's, which leaves echo requests to us.
struct KernelPing {
    socket: AsyncFd<Socket>,
    family: Family,
}

impl KernelPing {
    fn open(family: Family) -> io::Result<Self> {
        let (domain, protocol) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.connect(&SocketAddr::new(family.stack(), 0).into())?;
        Ok(Self {
            socket: readable(socket)?,
            family,
        })
    }

    /// Sends an echo request; the reply's payload.
    async fn ping(&self, sequence: u16, payload: &[u8]) -> io::Result<Vec<u8>> {
        const IDENTIFIER: u16 = 0x7177;
        let (request, reply) = match self.family {
            Family::V4 => (8, 0),
            Family::V6 => (128, 129),
        };
        let mut message = vec![request, 0, 0, 0];
        message.extend(IDENTIFIER.to_be_bytes());
        message.extend(sequence.to_be_bytes());
        message.extend(payload);
        if self.family == Family::V4 {
            // ICMPv6 checksums are the kernel's matter.
            let mut sum = checksum::Sum::default();
            sum.add_bytes(&message);
            let sum = sum.finish();
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.socket.get_ref().send(&message)?;
        let mut buffer = vec![0; 70_000];
        loop {
            let mut ready = self.socket.readable().await?;
            let read = ready.try_io(|socket| {
                let mut socket = socket.get_ref();
                socket.read(&mut buffer)
            });
            let Ok(len) = read else { continue };
            let packet = &buffer[..len?];
            // IPv4 raw sockets give the IP header, too; the kernel sends none with options.
            let message = packet
                .get(if self.family == Family::V4 { 20 } else { 0 }..)
                .unwrap_or(&[]);
            let is_reply = message.len() >= 8
                && message[0] == reply
                && message[4..6] == IDENTIFIER.to_be_bytes()
                && message[6..8] == sequence.to_be_bytes();
            if is_reply {
                return Ok(message[8..].to_vec());
            }
        }
    }
}

// RFC 1122 3.2.2.6, RFC 4443 4.2: every host answers echo requests, with the data that came.
#[test]
fn the_kernel_pings_the_stack() {
    on_links("the_kernel_pings_the_stack", async |link, family| {
        let ping = KernelPing::open(family).expect("root may");
        for (sequence, size) in [0, 1, 56, 1400, 1473, 8000, 60_000].into_iter().enumerate() {
            let payload = body(sequence as u64, size);
            let reply = ping.ping(sequence as u16, &payload);
            let reply = link
                .within(LIMIT / 4, &format!("ping of {size} octets"), reply)
                .await;
            assert!(
                reply.expect("a reply") == payload,
                "{size} octets come back unharmed"
            );
        }
    });
}

#[test]
fn the_stack_pings_the_kernel() {
    on_links("the_stack_pings_the_kernel", async |link, family| {
        let ping: IcmpSocket = link
            .stack
            .icmp_socket(family.stack())
            .await
            .expect("an address of ours");
        let mut buffer = vec![0; 65_536];
        for (sequence, size) in [0, 1, 56, 1400, 1473, 8000].into_iter().enumerate() {
            let payload = body(sequence as u64, size);
            ping.send_to(&payload, sequence as u16, family.kernel())
                .await
                .expect("sent");
            let reply = ping.recv_from(&mut buffer);
            let reply = link
                .within(LIMIT / 4, &format!("ping of {size} octets"), reply)
                .await;
            let reply = reply.expect("a reply");
            assert_eq!(
                (reply.source, reply.sequence),
                (family.kernel(), sequence as u16)
            );
            assert_eq!(reply.ttl, 64);
            assert!(
                buffer[..reply.len] == payload,
                "{size} octets come back unharmed"
            );
        }
    });
}
