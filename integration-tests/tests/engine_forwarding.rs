//! Whole stacks with routers of ours between them, on an event heap (RFC 1812, RFC 8200, RFC 1191, RFC 8201).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tidewire::engine::UdpSlot;
use tidewire::engine::icmp_listener::{IcmpListener, IcmpReport};
use tidewire::stats::DropReason;
use tidewire::transport::ports::BindRequest;
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::chain::{Chain, ChainLink};
use tidewire_integration_tests::world::Side;
use tidewire_netdev::{Medium, OffloadSet};

const LIMIT: Duration = Duration::from_secs(60);

fn link(medium: Medium, offloads: OffloadSet, mtu: usize) -> ChainLink {
    ChainLink {
        medium,
        mtu,
        offloads,
        ..ChainLink::default()
    }
}

fn plain(links: &[ChainLink]) -> Chain {
    Chain::new(links, |_, _| ())
}

fn ethernet(mtu: usize) -> ChainLink {
    link(Medium::Ethernet, OffloadSet::ALL, mtu)
}

fn udp(chain: &Chain, host: usize, v6: bool, port: u16) -> Arc<UdpSlot> {
    let any: IpAddr = if v6 { [0; 16].into() } else { [0; 4].into() };
    let bound = BindRequest::new(SocketAddr::new(any, port));
    chain.engine(host).udp_bind(&bound).expect("free")
}

fn send(chain: &Chain, socket: &Arc<UdpSlot>, to: SocketAddr, payload: &[u8]) {
    let sent = chain
        .engine(0)
        .udp_send(chain.now, socket, payload, Some(to));
    assert_eq!(sent, Ok(payload.len()));
}

/// What the socket has received, one datagram.
fn receive(socket: &Arc<UdpSlot>) -> Option<Vec<u8>> {
    let mut buffer = [0; 65_536];
    let received = socket.lock().socket.socket.recv(&mut buffer).ok()?;
    Some(buffer[..received.len].to_vec())
}

fn report(listener: &IcmpListener) -> Option<IcmpReport> {
    match listener.poll_report(Waker::noop()) {
        Poll::Ready(report) => Some(report.expect("the stack lives")),
        Poll::Pending => None,
    }
}

/// The next report that the first host hears.
fn said(chain: &mut Chain, listener: &IcmpListener) -> IcmpReport {
    let mut heard = None;
    chain.run_until(LIMIT, |_| {
        heard = report(listener);
        heard.is_some()
    });
    heard.expect("a report")
}

#[test]
fn connections_go_through_routers_whatever_their_links_do_for_them() {
    let media = [Medium::Ip, Medium::Ethernet];
    let offloads = [OffloadSet::ALL, OffloadSet::NONE];
    for v6 in [false, true] {
        for (left, right) in media.into_iter().zip(media).chain([(media[0], media[1])]) {
            for near in offloads {
                for far in offloads {
                    let links = [link(left, near, 1500), link(right, far, 1500)];
                    let mut chain = plain(&links);
                    let (up, down) = (body(1, 1 << 20), body(2, 1 << 20));
                    let exchange = chain.exchange(v6, &up, &down, LIMIT);
                    assert!(exchange.far == up && exchange.near == down);
                    let stats = chain.engine(1).stats();
                    assert!(stats.packets_forwarded > 20, "{stats:?}");
                    for reason in [
                        DropReason::Malformed,
                        DropReason::Checksum,
                        DropReason::QueueFull,
                        DropReason::NoRoute,
                        DropReason::TooBig,
                        DropReason::HopLimit,
                    ] {
                        assert_eq!(stats.dropped(reason), 0, "{reason:?}: {stats:?}");
                    }
                    for end in exchange.ends {
                        let info = end.lock().socket.connection.info();
                        assert_eq!(info.bytes_retransmitted, 0, "{info:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn datagrams_go_through_routers_and_come_back() {
    for v6 in [false, true] {
        let mut chain = plain(&[ethernet(1500), ethernet(9000), ethernet(1500)]);
        let (near, far) = (udp(&chain, 0, v6, 1000), udp(&chain, 3, v6, 7));
        let to = SocketAddr::new(chain.far_address(v6), 7);
        // In one piece, and in fragments, which only their destination joins.
        for len in [10, 5000] {
            let payload = body(len, len as usize);
            send(&chain, &near, to, &payload);
            let mut received = None;
            chain.run_until(LIMIT, |_| {
                received = receive(&far);
                received.is_some()
            });
            assert_eq!(received, Some(payload));
        }
        let back = SocketAddr::new(Side::A.address_on(0, v6), 1000);
        let sent = chain
            .engine(3)
            .udp_send(chain.now, &far, b"back", Some(back));
        assert_eq!(sent, Ok(4));
        let mut received = None;
        chain.run_until(LIMIT, |_| {
            received = receive(&near);
            received.is_some()
        });
        assert_eq!(received.as_deref(), Some(&b"back"[..]));
    }
}

#[test]
fn each_router_takes_a_hop_and_names_itself_where_none_is_left() {
    // RFC 1812 5.3.1, RFC 4443 3.3.
    for v6 in [false, true] {
        let mut chain = plain(&[ethernet(1500), ethernet(1500), ethernet(1500)]);
        let engine = chain.engine(0);
        let errors = engine.listen_for_icmp_errors().expect("the stack lives");
        let echo = engine.echo_open(Side::A.address_on(0, v6)).expect("free");
        let far = chain.far_address(v6);
        for (hops, router) in [(1, Some(0)), (2, Some(1)), (3, None)] {
            echo.lock().socket.ttl = hops;
            let engine = chain.engine(0);
            let sent = engine.echo_send(chain.now, &echo, far, hops.into(), b"trace");
            assert_eq!(sent, Ok(()));
            match router {
                Some(link) => {
                    let report = said(&mut chain, &errors);
                    assert!(report.is_time_exceeded(), "{report:?}");
                    assert_eq!(report.reporter, Side::B.address_on(link, v6));
                    assert_eq!(report.about.destination, far);
                }
                None => {
                    let mut reply = None;
                    chain.run_until(LIMIT, |chain| {
                        reply = chain.engine(0).echo_receive(&echo).ok();
                        reply.is_some()
                    });
                    let reply = reply.expect("a reply");
                    assert_eq!((reply.source, reply.ttl), (far, 62));
                }
            }
        }
    }
}

#[test]
fn a_connection_finds_the_path_mtu_behind_a_router() {
    // RFC 1191 4, RFC 8201 4: by what the router says, and nothing else is lost.
    for v6 in [false, true] {
        for offloads in [OffloadSet::ALL, OffloadSet::NONE] {
            let links = [
                link(Medium::Ethernet, offloads, 1500),
                link(Medium::Ip, offloads, 1300),
                link(Medium::Ethernet, offloads, 9000),
            ];
            let mut chain = plain(&links);
            let (up, down) = (body(3, 1 << 20), body(4, 1 << 20));
            let exchange = chain.exchange(v6, &up, &down, LIMIT);
            assert!(exchange.far == up && exchange.near == down);
            let header = if v6 { 60 } else { 40 };
            for end in exchange.ends {
                let info = end.lock().socket.connection.info();
                assert!(info.mss <= 1300 - header, "{info:?}");
                assert_eq!(info.black_holes, 0, "{info:?}");
            }
            let too_big = |host: usize| chain.engine(host).stats().dropped(DropReason::TooBig);
            assert!(too_big(1) > 0);
            assert!(too_big(2) > 0);
        }
    }
}

#[test]
fn a_datagram_sent_before_the_path_mtu_is_known_is_lost_and_the_next_one_arrives() {
    for v6 in [false, true] {
        let mut chain = plain(&[ethernet(1500), ethernet(1300)]);
        let (near, far) = (udp(&chain, 0, v6, 1000), udp(&chain, 2, v6, 7));
        let to = SocketAddr::new(chain.far_address(v6), 7);
        let payload = body(5, 1400);
        send(&chain, &near, to, &payload);
        // Of IPv6 nobody is asked for before the own address is known to be nobody else's.
        let while_asking = Duration::from_secs(5);
        assert!(!chain.run_until(while_asking, |_| receive(&far).is_some()));
        send(&chain, &near, to, &payload);
        let mut received = None;
        assert!(chain.run_until(LIMIT, |_| {
            received = receive(&far);
            received.is_some()
        }));
        assert_eq!(received, Some(payload));
    }
}

#[test]
fn where_no_route_leads_and_where_nobody_answers_the_sender_is_told() {
    // RFC 1812 5.2.7.1, RFC 4443 3.1.
    for v6 in [false, true] {
        let mut chain = plain(&[ethernet(1500), ethernet(1500)]);
        let errors = chain.engine(0).listen_for_icmp_errors();
        let errors = errors.expect("the stack lives");
        let near = udp(&chain, 0, v6, 1000);
        let router = Side::B.address_on(0, v6);
        let text = if v6 { "fd00:0:0:1::77" } else { "10.0.1.77" };
        let nobody: IpAddr = text.parse().expect("an address");
        send(&chain, &near, SocketAddr::new(nobody, 7), b"anybody?");
        let report = said(&mut chain, &errors);
        let (unreachable, no_route) = if v6 {
            ((1, 3), (1, 0))
        } else {
            ((3, 1), (3, 0))
        };
        assert_eq!((report.kind, report.code), unreachable);
        assert_eq!(
            (report.reporter, report.about.destination),
            (router, nobody)
        );

        // The last router has no default route.
        let mut chain = Chain::new(&[ethernet(1500), ethernet(1500)], |host, config| {
            config.host.forwarding = host > 0;
        });
        let errors = chain.engine(0).listen_for_icmp_errors();
        let errors = errors.expect("the stack lives");
        let near = udp(&chain, 0, v6, 1000);
        let text = if v6 { "2001:db8::7" } else { "198.51.100.7" };
        let nowhere: IpAddr = text.parse().expect("an address");
        send(&chain, &near, SocketAddr::new(nowhere, 7), b"anybody?");
        let report = said(&mut chain, &errors);
        assert_eq!((report.kind, report.code), no_route);
        assert_eq!(report.reporter, chain.far_address(v6));
        assert_eq!(report.about.destination, nowhere);
    }
}

#[test]
fn routers_that_send_a_packet_to_each_other_end_when_its_hops_do() {
    // RFC 1812 5.3.1: a routing loop ends by TTL, and its end is told.
    for v6 in [false, true] {
        for medium in [Medium::Ip, Medium::Ethernet] {
            let links = [ethernet(1500), link(medium, OffloadSet::ALL, 1500)];
            let mut chain = Chain::new(&links, |host, config| {
                config.host.forwarding = host > 0;
            });
            // The last one sends everything back to the left.
            let gateway = Side::A.address_on(1, v6);
            let interface = chain.interface(1, Side::B);
            let everything = if v6 { "::/0" } else { "0.0.0.0/0" };
            chain.engine(2).network.add_route(
                everything.parse().expect("a network"),
                tidewire::ip::route::Route::via(interface, gateway),
            );
            let errors = chain.engine(0).listen_for_icmp_errors();
            let errors = errors.expect("the stack lives");
            let near = udp(&chain, 0, v6, 1000);
            let text = if v6 { "2001:db8::7" } else { "198.51.100.7" };
            let nowhere: IpAddr = text.parse().expect("an address");
            send(
                &chain,
                &near,
                SocketAddr::new(nowhere, 7),
                b"round and round",
            );
            let report = said(&mut chain, &errors);
            assert!(report.is_time_exceeded(), "{report:?}");
            let forwarded: u64 = (1..=2)
                .map(|host| chain.engine(host).stats().packets_forwarded)
                .sum();
            // 64 hops: the datagram has taken all but the last, and the message some.
            assert!((63..=65).contains(&forwarded), "{forwarded}");
            chain.run_until(LIMIT, |_| false);
            let after: u64 = (1..=2)
                .map(|host| chain.engine(host).stats().packets_forwarded)
                .sum();
            assert_eq!(after, forwarded, "nothing goes round for ever");
        }
    }
}

#[test]
fn hosts_that_are_no_routers_keep_networks_apart() {
    // RFC 1122 3.3.1.1.
    for v6 in [false, true] {
        let mut chain = Chain::new(&[ethernet(1500), ethernet(1500)], |_, config| {
            config.host.forwarding = false;
        });
        let (near, far) = (udp(&chain, 0, v6, 1000), udp(&chain, 2, v6, 7));
        let to = SocketAddr::new(chain.far_address(v6), 7);
        send(&chain, &near, to, b"anybody?");
        assert!(!chain.run_until(LIMIT, |_| receive(&far).is_some()));
        assert_eq!(chain.engine(1).stats().packets_forwarded, 0);
    }
}
