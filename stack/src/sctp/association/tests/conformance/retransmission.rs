//! RT: the retransmission timer (RFC 9260 6.3, 6.4.1).

use super::*;

const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));

#[test]
fn t3_doubles_with_each_expiry_up_to_rto_max() {
    // RFC 9260 6.3.3 E2, 6.3.1 C7; the chunk stays the same (6.3.3).
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.write("lost");
        let first = tester.expect_data();
        for millis in [100, 200, 400, 800, 800, 800] {
            assert_eq!(tester.fire(), ms(millis), "{role:?}");
            assert_eq!(tester.expect_data(), first);
            tester.expect_nothing();
        }
    }
}

#[test]
fn measured_round_trip_ends_the_backoff() {
    // RFC 9260 6.3.1 C5, 6.3.3: what was sent again measures nothing, the next chunk does.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.write("lost");
        tester.expect_data();
        for _ in 0..3 {
            tester.fire();
            tester.expect_data();
        }
        tester.pass(ms(10));
        tester.acknowledge(1, PEER_RWND);
        tester.write("soon there");
        tester.expect_data();
        tester.pass(ms(10));
        tester.acknowledge(2, PEER_RWND);
        tester.write("lost again");
        tester.expect_data();
        assert_eq!(tester.fire(), ms(100), "RTO.Min: {role:?}");
    }
}

#[test]
fn defaults_double_from_one_second_to_sixty() {
    // RFC 9260 16, 6.3.1 C1.
    let mut tester = Tester::new();
    tester.connect();
    tester.receive_init();
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(tester.fire(), Duration::from_secs(seconds));
        tester.receive_init();
    }
}

#[test]
fn data_that_times_out_goes_to_the_other_address_each_with_its_own_rto() {
    // RFC 9260 6.4.1, 6.3.3 E4: the RTO is the address's own.
    let mut tester = Tester::with(Config::default(), quick());
    tester.connect_to(&[BOB, OTHER]);
    tester.receive_init();
    let mut listed = init();
    listed.parameters.addresses.extend([BOB, OTHER]);
    tester.send(&[acknowledging(listed)]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    tester.send(&[Chunk::CookieAck]);
    tester.write("lost");
    assert_eq!(tester.receive().destination, BOB);
    for (millis, destination) in [
        (100, OTHER),
        (100, BOB),
        (200, OTHER),
        (200, BOB),
        (400, OTHER),
        (400, BOB),
    ] {
        assert_eq!(tester.fire(), ms(millis));
        let seen = tester.receive();
        assert_eq!(seen.destination, destination);
        assert!(matches!(&seen.chunks[..], [Chunk::Data(data)] if data.payload == "lost"));
        tester.expect_nothing();
    }
}
