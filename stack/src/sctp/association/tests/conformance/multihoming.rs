//! Several addresses (RFC 9260 5.1.2, 5.4, 6.4, 8): what ETSI's suite does not ask for.

use super::*;

const THIRD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 4));

fn listing(addresses: &[IpAddr]) -> Init {
    let mut listed = init();
    listed
        .parameters
        .addresses
        .extend(addresses.iter().copied());
    listed
}

#[test]
fn addresses_that_the_user_names_and_the_peer_does_not_list_are_forgotten() {
    // As Linux: whoever has them would answer with an ABORT.
    let mut tester = Tester::with(Config::default(), quick());
    tester.connect_to(&[BOB, OTHER, THIRD]);
    tester.receive_init();
    tester.send(&[acknowledging(listing(&[BOB, THIRD]))]);
    assert_eq!(tester.ours().ends().peer_addresses, [BOB, THIRD]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    tester.send(&[Chunk::CookieAck]);
    tester.write("lost");
    assert_eq!(tester.receive().destination, BOB);
    tester.fire();
    assert_eq!(tester.receive().destination, THIRD);
}

#[test]
fn sack_goes_to_where_the_data_came_from() {
    // RFC 9260 6.4.
    let mut tester = Tester::with_two_addresses(quick());
    let sources = [(1, BOB), (2, OTHER), (3, BOB), (4, BOB), (5, OTHER)];
    for (n, from) in sources {
        tester.send_from(from, tester.tag, &[nth_data(n, b"x")]);
        // The first at once, then every second packet (5.1, 6.2).
        if n % 2 == 1 {
            let seen = tester.receive();
            assert!(matches!(seen.chunks[..], [Chunk::Sack(_)]));
            assert_eq!(seen.destination, from, "{n}");
        }
        tester.expect_nothing();
    }
}

#[test]
fn sack_takes_another_way_when_data_comes_again_from_where_it_came() {
    // RFC 9260 6.4: the way back may be broken. A peer that has gone over to another address is answered there.
    let mut tester = Tester::with_two_addresses(quick());
    let mut destination_after = |n, from| {
        tester.send_from(from, tester.tag, &[nth_data(n, b"x")]);
        let seen = tester.receive();
        assert!(matches!(seen.chunks[..], [Chunk::Sack(_)]));
        seen.destination
    };
    assert_eq!(destination_after(1, BOB), BOB);
    assert_eq!(destination_after(1, BOB), OTHER);
    assert_eq!(destination_after(1, BOB), BOB, "and the next one");
    assert_eq!(destination_after(1, OTHER), OTHER, "the peer has moved");
}

#[test]
fn heartbeat_is_answered_to_where_it_came_from_confirmed_or_not() {
    // RFC 9260 6.4, 5.4: a HEARTBEAT ACK may go to an unconfirmed address, and nothing rides on it.
    let mut tester = Tester::with(Config::default(), quick());
    tester.connect();
    tester.receive_init();
    tester.send(&[acknowledging(listing(&[BOB, OTHER]))]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    tester.send(&[Chunk::CookieAck]);
    while let Some(probe) = tester.try_receive() {
        assert_eq!(probe.destination, OTHER);
    }
    tester.write("data");
    tester.send_from(OTHER, tester.tag, &[heartbeat()]);
    let mut answered = false;
    while let Some(seen) = tester.try_receive() {
        let is_answer = matches!(seen.chunks[..], [Chunk::HeartbeatAck(_)]);
        assert_eq!(is_answer, seen.destination == OTHER, "{seen:?}");
        answered |= is_answer;
    }
    assert!(answered);
}

#[test]
fn data_avoids_an_address_that_did_not_answer_the_init() {
    // RFC 9260 5.1, 6.4.1 and RFC 7829 3.2: T1 counts as an error of its path.
    let mut options = quick();
    options.peer_address.pf_max_retrans = Some(0);
    let mut tester = Tester::with(Config::default(), options);
    tester.connect_to(&[BOB, OTHER]);
    tester.receive_init();
    tester.fire();
    tester.receive_init();
    tester.send_from(OTHER, tester.tag, &[acknowledging(listing(&[BOB, OTHER]))]);
    assert_eq!(tester.receive().destination, OTHER, "COOKIE ECHO");
    tester.send_from(OTHER, tester.tag, &[Chunk::CookieAck]);
    tester.write("first");
    let mut data = 0;
    while let Some(seen) = tester.try_receive() {
        if let [Chunk::Data(_)] = seen.chunks[..] {
            assert_eq!(seen.destination, OTHER);
            data += 1;
        } else {
            assert_eq!(seen.destination, BOB, "a HEARTBEAT: {seen:?}");
        }
    }
    assert_eq!(data, 1);
}

#[test]
fn primary_path_is_changed_to_confirmed_addresses_only() {
    // RFC 9260 5.4, 6.4; RFC 6458 8.1.9.
    let mut tester = Tester::with_two_addresses(quick());
    tester.write("x");
    assert_eq!(tester.receive().destination, BOB);
    tester.acknowledge(1, PEER_RWND);
    assert_eq!(tester.ours().set_primary_path(OTHER), Ok(()));
    tester.write("y");
    assert_eq!(tester.receive().destination, OTHER);
    let refused = Err(SocketError::InvalidInput);
    assert_eq!(tester.ours().set_primary_path(THIRD), refused);
}

#[test]
fn path_that_alone_is_left_is_not_held_back() {
    // Its device was full while the peer was believed to have a second address.
    let mut tester = Tester::with(Config::default(), quick());
    tester.connect_to(&[BOB, OTHER]);
    for address in [BOB, OTHER] {
        tester.ours().hold_back(address, true);
    }
    tester.receive_init();
    tester.send(&[acknowledging(listing(&[BOB]))]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    tester.send(&[Chunk::CookieAck]);
    tester.write("goes");
    assert_eq!(tester.expect_data().len(), 1);
}
