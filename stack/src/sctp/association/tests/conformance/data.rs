//! D: data transfer (RFC 9260 6.1 to 6.3, 6.9, 3.3.1).

use super::*;
use crate::wire::sctp::GapBlock;

/// Octets of user data that fill a packet: an MTU of 1500 without the headers of IPv4, SCTP and DATA.
const FULL: usize = 1452;

fn full() -> Bytes {
    Bytes::from(vec![7; FULL])
}

/// What a chunk says: its TSN, counted from our first one as 1, its flags and its length.
fn shape(tester: &Tester, data: &Data) -> (u32, DataFlags, usize) {
    let n = data.header.tsn.wrapping_sub(tester.tsn) + 1;
    (n, data.header.flags, data.payload.len())
}

#[test]
fn message_that_fits_a_packet_is_not_fragmented() {
    // RFC 9260 6.9.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.write(full());
        let data = tester.expect_data();
        assert_eq!(data.len(), 1);
        assert_eq!(shape(&tester, &data[0]), (1, whole(), FULL));
        assert_eq!((data[0].header.stream, data[0].header.ssn), (0, 0));
        tester.expect_nothing();
    }
}

#[test]
fn larger_message_is_cut_into_fragments_with_consecutive_tsns() {
    // RFC 9260 6.9, 3.3.1: B on the first, E on the last, one SSN.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.write(vec![1; 2 * FULL + 100]);
        let expected = [
            (1, DataFlags::BEGINNING, FULL),
            (2, DataFlags::NONE, FULL),
            (3, DataFlags::END, 100),
        ];
        for fragment in expected {
            let data = tester.expect_data();
            assert_eq!(data.len(), 1);
            assert_eq!(shape(&tester, &data[0]), fragment);
            assert_eq!((data[0].header.stream, data[0].header.ssn), (0, 0));
        }
        tester.expect_nothing();
    }
}

#[test]
fn fragments_are_put_together_in_whatever_order_they_come() {
    // RFC 9260 6.9: the user gets the message, and nothing before it is complete.
    let fragments = [
        fragment(1, 0, DataFlags::BEGINNING, b"one "),
        fragment(2, 0, DataFlags::NONE, b"two "),
        fragment(3, 0, DataFlags::END, b"three"),
    ];
    for role in ROLES {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut tester = Tester::established(role);
            for (i, at) in order.into_iter().enumerate() {
                assert_eq!(tester.read(), Err(SocketError::WouldBlock), "{i}");
                tester.send(&fragments[at..=at]);
            }
            let mut last = None;
            while let Some(seen) = tester.try_receive() {
                last = seen.chunks.last().cloned();
            }
            let message = Bytes::from_static(b"one two three");
            assert_eq!(tester.read(), Ok(Some(message)), "{order:?}");
            // All of it is acknowledged, in order at the delay's end at the latest.
            if order == [0, 1, 2] {
                continue;
            }
            let told =
                matches!(&last, Some(Chunk::Sack(sack)) if sack.cumulative_tsn_ack == PEER_TSN + 2);
            assert!(told, "{order:?}: {last:?}");
        }
    }
}

#[test]
fn acknowledged_data_is_not_sent_again() {
    // RFC 9260 6.3.2 R2.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.write("x");
        tester.expect_data();
        tester.pass(ms(50));
        tester.acknowledge(1, PEER_RWND);
        tester.pass(Duration::from_secs(10));
        tester.expect_nothing();
        assert_eq!(tester.ours().status().unacked, 0);
        // What is sent next has an RTO of its own.
        tester.write("y");
        tester.expect_data();
        assert!(tester.fire() >= ms(100));
        let again = tester.expect_data();
        assert_eq!(shape(&tester, &again[0]), (2, whole(), 1));
    }
}

#[test]
fn data_is_sent_again_when_t3_expires() {
    // RFC 9260 6.3.3.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.write("x");
        let first = tester.expect_data();
        assert_eq!(tester.fire(), ms(100));
        assert_eq!(tester.expect_data(), first);
        tester.acknowledge(1, PEER_RWND);
        tester.expect_nothing();
    }
}

#[test]
fn duplicates_are_reported_once_and_not_delivered() {
    // RFC 9260 6.2, 3.3.4: at once, since the packet has nothing else.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[nth_data(1, b"1")]);
        tester.expect_sack();
        tester.send(&[nth_data(2, b"2")]);
        tester.expect_nothing();
        tester.send(&[nth_data(2, b"2")]);
        let sack = tester.expect_sack();
        assert_eq!(sack.cumulative_tsn_ack, PEER_TSN + 1);
        assert_eq!(sack.duplicates[..], [PEER_TSN + 1]);
        tester.send(&[nth_data(3, b"3")]);
        tester.expect_nothing();
        tester.pass(ms(200));
        let sack = tester.expect_sack();
        assert!(sack.duplicates.is_empty());
        for payload in [&b"1"[..], b"2", b"3"] {
            assert_eq!(tester.read(), Ok(Some(Bytes::from_static(payload))));
        }
        assert_eq!(tester.read(), Err(SocketError::WouldBlock));
    }
}

/// A full packet arrived and closed the peer's window.
fn with_closed_window(role: Role) -> Tester {
    let mut tester = Tester::with(Config::default(), quick()).establish(role);
    tester.write(full());
    tester.expect_data();
    tester.acknowledge(1, 0);
    tester
}

#[test]
fn closed_window_holds_new_data_back_and_an_opened_one_lets_it_go() {
    // RFC 9260 6.1 A: one probe, after one RTO; the rest waits.
    for role in ROLES {
        let mut tester = with_closed_window(role);
        tester.write(full());
        tester.write(full());
        tester.expect_nothing();
        assert_eq!(tester.fire(), ms(100));
        let probe = tester.expect_data();
        assert_eq!(shape(&tester, &probe[0]), (2, whole(), FULL));
        tester.expect_nothing();
        tester.acknowledge(2, FULL as u32);
        let next = tester.expect_data();
        assert_eq!(shape(&tester, &next[0]), (3, whole(), FULL));
        tester.expect_nothing();
    }
}

#[test]
fn closed_window_is_probed_at_doubling_intervals_and_that_is_no_error() {
    // RFC 9260 6.1 A: as long as the peer answers.
    for role in ROLES {
        let mut tester = with_closed_window(role);
        tester.write(full());
        tester.expect_nothing();
        for millis in [100, 200, 400, 800].into_iter().chain([800; 20]) {
            assert_eq!(tester.fire(), ms(millis), "{role:?}");
            let probe = tester.expect_data();
            assert_eq!(shape(&tester, &probe[0]), (2, whole(), FULL));
            tester.expect_nothing();
            tester.acknowledge(1, 0);
            tester.expect_nothing();
        }
        tester.acknowledge(1, PEER_RWND);
        let again = tester.expect_data();
        assert_eq!(shape(&tester, &again[0]), (2, whole(), FULL));
        tester.acknowledge(2, PEER_RWND);
        assert_eq!(tester.state(), Some(State::Established));
    }
}

#[test]
fn lost_data_goes_before_new_data() {
    // RFC 9260 6.1 C.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        for _ in 0..5 {
            tester.write(full());
        }
        let tsns = |tester: &mut Tester| {
            let mut tsns = Vec::new();
            while let Some(seen) = tester.try_receive() {
                for chunk in seen.chunks {
                    if let Chunk::Data(data) = chunk {
                        tsns.push(shape(tester, &data).0);
                    }
                }
            }
            tsns
        };
        assert_eq!(tsns(&mut tester), [1, 2, 3], "a window of 4380 octets");
        tester.fire();
        assert_eq!(tsns(&mut tester), [1], "one packet, and nothing new");
        tester.acknowledge(1, PEER_RWND);
        assert_eq!(tsns(&mut tester)[..2], [2, 3]);
        tester.acknowledge(3, PEER_RWND);
        let rest = tsns(&mut tester);
        assert!(rest.is_empty() || rest == [4, 5] || rest == [5], "{rest:?}");
    }
}

#[test]
fn sack_counts_from_whichever_address_of_the_peer_it_comes() {
    // RFC 9260 6.4: the DATA went to another.
    let mut tester = Tester::with_two_addresses(quick());
    tester.write("x");
    assert_eq!(tester.receive().destination, BOB);
    tester.send_from(OTHER, tester.tag, &[tester.sack(1, PEER_RWND)]);
    assert_eq!(tester.ours().status().unacked, 0);
    tester.pass(Duration::from_secs(5));
    tester.expect_nothing();
}

#[test]
fn data_without_user_data_aborts() {
    // RFC 9260 6.2, 3.3.10.9.
    for role in ROLES {
        let mut tester = Tester::established(role);
        let mut octets = vec![0, 3, 0, 16];
        octets.extend_from_slice(&PEER_TSN.to_be_bytes());
        octets.extend_from_slice(&[0; 8]);
        tester.send_octets(tester.tag, &octets);
        let cause = tester.expect_abort(PEER_TAG, false);
        assert_eq!(cause, Some(ErrorCause::NoUserData { tsn: PEER_TSN }));
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Closed));
        let told = lost(&tester.events());
        assert_eq!(told, Some(Some(SocketError::ConnectionAborted)));
    }
}

#[test]
fn sack_that_is_older_than_another_is_dropped() {
    // RFC 9260 6.2.1 D i: its gap blocks say nothing, either.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.write("x");
        tester.expect_data();
        tester.acknowledge(1, PEER_RWND);
        tester.write("y");
        tester.expect_data();
        let old = Sack {
            cumulative_tsn_ack: tester.tsn.wrapping_sub(1),
            a_rwnd: 0,
            gap_blocks: [GapBlock { start: 2, end: 2 }].into_iter().collect(),
            duplicates: smallvec::SmallVec::new(),
        };
        tester.send(&[Chunk::Sack(old)]);
        tester.fire();
        let again = tester.expect_data();
        assert_eq!(shape(&tester, &again[0]), (2, whole(), 1), "{role:?}");
    }
}

#[test]
fn message_larger_than_the_window_is_delivered_in_parts() {
    // RFC 9260 6.9, RFC 6458 8.1.21: the user's buffer limits no message.
    let options = SocketOptions {
        receive_buffer: Some(4000),
        ..SocketOptions::default()
    };
    let payload: &'static [u8] = &[9; 1000];
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), options.clone()).establish(role);
        let mut octets = 0;
        for n in 1..=10 {
            let flags = match n {
                1 => DataFlags::BEGINNING,
                10 => DataFlags::END,
                _ => DataFlags::NONE,
            };
            tester.send(&[fragment(n, 0, flags, payload)]);
            while let Ok(Some(part)) = tester.ours().recv(usize::MAX) {
                octets += part.data.len();
                assert_eq!(part.end_of_record, octets == 10_000);
            }
        }
        assert_eq!(octets, 10_000, "{role:?}");
    }
}

#[test]
fn message_that_fills_a_large_packet_up_ends_the_wait_for_company() {
    // Nagle's algorithm (RFC 9260 6.1) with packets larger than what is otherwise gathered.
    let mut tester = Tester::established(Role::Initiator);
    tester.ours().handle_path_mtu(BOB, 65_535);
    tester.write(vec![1; 1000]);
    assert_eq!(tester.expect_data().len(), 1);
    tester.write(vec![2; 20_000]);
    tester.expect_nothing();
    tester.write(vec![3; 60_000]);
    assert!(tester.ours().wants_transmit());
    assert!(!tester.expect_data().is_empty());
}

#[test]
fn read_that_uncovers_part_of_another_message_wakes_who_waits_for_it() {
    let mut tester = Tester::established(Role::Responder);
    tester.ours().set_partial_delivery_point(2000);
    tester.send(&[fragment(1, 0, whole(), b"first")]);
    for n in 2..5 {
        let flags = if n == 2 {
            DataFlags::BEGINNING
        } else {
            DataFlags::NONE
        };
        let data = Data {
            header: DataHeader {
                tsn: PEER_TSN + n - 1,
                stream: 1,
                ssn: 0,
                ppid: 0,
                flags,
            },
            payload: vec![1; 1000].into(),
        };
        tester.send(&[Chunk::Data(data)]);
    }
    while tester.try_receive().is_some() {}
    tester.ours().take_readiness();
    assert!(tester.ours().recv_on(1, 100).is_err(), "not in parts yet");
    assert!(tester.ours().recv_on(0, 100).is_ok());
    assert!(tester.ours().wants_transmit(), "somebody looks at it");
    let edges = tester.ours().take_readiness();
    assert!(edges.intersects(Readiness::READABLE));
    let part = tester.ours().recv_on(1, 100).expect("a part");
    assert!(part.is_some_and(|part| !part.end_of_record));
}
