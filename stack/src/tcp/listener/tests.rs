use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::tcp::config::EcnMode;
use crate::tcp::connection::negotiated::timestamp_clock;
use crate::wire::tcp::{Options, Timestamps};

const IRS: u32 = 5_000_000;
const ISS: u32 = 77_000;
const OFFSET: u32 = 1 << 20;

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn tuple(port: u16) -> Tuple {
    Tuple {
        local: ([10, 0, 0, 1], 80).into(),
        remote: ([10, 0, 0, 2], port).into(),
    }
}

fn segment(flags: Flags, sequence: u32, acknowledgment: u32) -> Segment {
    Segment {
        header: Header {
            source_port: 1000,
            destination_port: 80,
            sequence,
            acknowledgment,
            flags,
            window: 4000,
            ..Header::default()
        },
        payload: tidewire_netdev::Payload::new(),
        segment_size: 0,
        ecn: Ecn::NotEct,
    }
}

fn syn() -> Segment {
    let mut segment = segment(Flags::SYN, IRS, 0);
    segment.header.options = Options {
        mss: Some(1400),
        window_scale: Some(5),
        sack_permitted: true,
        timestamps: Some(Timestamps {
            value: 900,
            echo: 0,
        }),
        ..Options::default()
    };
    segment
}

fn ack() -> Segment {
    segment(Flags::ACK, IRS + 1, ISS + 1)
}

fn surroundings() -> Surroundings {
    Surroundings {
        accept_queue: AcceptQueue { len: 0, limit: 2 },
        path_mtu: 1500,
        iss: SeqNum(ISS),
        timestamp_offset: OFFSET,
    }
}

fn full() -> Surroundings {
    Surroundings {
        accept_queue: AcceptQueue { len: 2, limit: 2 },
        ..surroundings()
    }
}

fn listener() -> Listener {
    Listener::new(Arc::new(Config::default()), &SocketOptions::default(), 128)
}

/// A listener that has answered the SYN of [`tuple`]`(1000)` at time 0.
fn with_request() -> Listener {
    let mut listener = listener();
    let verdict = listener.handle_segment(at(0), tuple(1000), &syn(), &surroundings());
    assert!(matches!(verdict, ListenerVerdict::Nothing));
    assert!(listener.poll_transmit(at(0)).is_some());
    listener
}

#[test]
fn syn_is_answered_with_what_both_sides_offer() {
    // RFC 9293 3.10.7.2 third; RFC 7323 2.2, 3.2; RFC 2018 2. RFC 9293 SHLD-5, MAY-3.
    let mut listener = listener();
    listener.handle_segment(at(3), tuple(1000), &syn(), &surroundings());
    assert!(listener.wants_transmit());
    let (to, transmit) = listener.poll_transmit(at(4)).unwrap();
    let header = &transmit.header;
    assert_eq!(to, tuple(1000));
    assert_eq!((header.source_port, header.destination_port), (80, 1000));
    assert_eq!(header.flags, Flags::SYN | Flags::ACK);
    assert_eq!((header.sequence, header.acknowledgment), (ISS, IRS + 1));
    assert_eq!(header.window, 65_535, "unscaled in a SYN");
    let expected = Options {
        mss: Some(1460),
        window_scale: Some(10),
        sack_permitted: true,
        timestamps: Some(Timestamps {
            value: timestamp_clock(at(4), OFFSET),
            echo: 900,
        }),
        ..Options::default()
    };
    assert_eq!(header.options, expected);
    assert!(listener.poll_transmit(at(4)).is_none() && !listener.wants_transmit());

    listener.handle_segment(at(5), tuple(7), &segment(Flags::SYN, 1, 0), &surroundings());
    let (_, transmit) = listener.poll_transmit(at(5)).unwrap();
    let plain = Options {
        mss: Some(1460),
        ..Options::default()
    };
    assert_eq!(transmit.header.options, plain);
}

#[test]
fn final_ack_completes_the_handshake() {
    let mut listener = with_request();
    let verdict = listener.handle_segment(at(30), tuple(1000), &ack(), &surroundings());
    let ListenerVerdict::Accept(request) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(request.tuple, tuple(1000));
    assert_eq!((request.iss, request.irs), (SeqNum(ISS), SeqNum(IRS)));
    assert_eq!((request.window, request.negotiated.peer_mss), (4000, 1400));
    assert_eq!(
        (
            request.negotiated.send_shift(),
            request.negotiated.receive_shift()
        ),
        (5, 10)
    );
    assert_eq!(request.round_trip, Some(Duration::from_millis(30)));
    assert!(!request.retransmitted);
    assert_eq!(
        (listener.request_count(), listener.poll_timeout()),
        (0, None)
    );
    // The request is gone: another ACK is one too many.
    let verdict = listener.handle_segment(at(31), tuple(1000), &ack(), &surroundings());
    assert!(matches!(verdict, ListenerVerdict::Reset(_)));
}

#[test]
fn data_may_complete_the_handshake() {
    // The bare ACK was lost, or the ACK carries data or a FIN: the connection gets the segment.
    for (flags, data) in [
        (Flags::ACK, 100),
        (Flags::ACK | Flags::FIN, 0),
        (Flags::ACK | Flags::PSH, 70_000),
    ] {
        let mut listener = with_request();
        let mut first = segment(flags, IRS + 1, ISS + 1);
        first.payload.push(Bytes::from(vec![0; data]));
        let verdict = listener.handle_segment(at(9), tuple(1000), &first, &surroundings());
        assert!(matches!(verdict, ListenerVerdict::Accept(_)), "{flags:?}");
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Nothing,
    Dropped(DropReason),
    /// A reset with this sequence number.
    Reset(u32),
    /// An ACK with the request's own numbers.
    Ack,
    Accepted,
}

fn outcome(verdict: ListenerVerdict) -> Outcome {
    match verdict {
        ListenerVerdict::Nothing => Outcome::Nothing,
        ListenerVerdict::Drop(reason) => Outcome::Dropped(reason),
        ListenerVerdict::Accept(_) => Outcome::Accepted,
        ListenerVerdict::Reset(transmit) => {
            assert_eq!(transmit.header.flags, Flags::RST);
            assert_eq!(transmit.header.window, 0);
            Outcome::Reset(transmit.header.sequence)
        }
        ListenerVerdict::Ack(transmit) => {
            let header = transmit.header;
            assert_eq!(header.flags, Flags::ACK);
            assert_eq!((header.sequence, header.acknowledgment), (ISS + 1, IRS + 1));
            Outcome::Ack
        }
    }
}

#[test]
fn segments_in_listen() {
    // RFC 9293 3.10.7.2.
    use DropReason::Unacceptable;
    let cases = [
        (Flags::RST, Outcome::Dropped(Unacceptable)),
        (Flags::RST | Flags::ACK, Outcome::Dropped(Unacceptable)),
        (Flags::RST | Flags::SYN, Outcome::Dropped(Unacceptable)),
        (Flags::ACK, Outcome::Reset(44)),
        (Flags::ACK | Flags::SYN, Outcome::Reset(44)),
        (Flags::ACK | Flags::FIN, Outcome::Reset(44)),
        (Flags(0), Outcome::Dropped(Unacceptable)),
        (Flags::FIN, Outcome::Dropped(Unacceptable)),
        (Flags::SYN | Flags::FIN, Outcome::Dropped(Unacceptable)),
        (Flags::SYN, Outcome::Nothing),
        (Flags::SYN | Flags::ECE | Flags::CWR, Outcome::Nothing),
        (Flags::SYN | Flags::PSH | Flags::URG, Outcome::Nothing),
    ];
    for (flags, expected) in cases {
        let mut listener = listener();
        let segment = segment(flags, 33, 44);
        let verdict = listener.handle_segment(at(0), tuple(1), &segment, &surroundings());
        let created = expected == Outcome::Nothing;
        assert_eq!(outcome(verdict), expected, "{flags:?}");
        assert_eq!(listener.request_count(), usize::from(created), "{flags:?}");
    }
}

#[test]
fn syn_with_a_fin_opens_a_connection_where_it_is_configured_so() {
    // RFC 9293 3.10.7.2: other controls on a SYN do not keep it from being one.
    let config = Config {
        drop_syn_fin: false,
        ..Config::default()
    };
    let mut listener = Listener::new(Arc::new(config), &SocketOptions::default(), 128);
    let syn_fin = segment(Flags::SYN | Flags::FIN, 33, 44);
    let verdict = listener.handle_segment(at(0), tuple(1), &syn_fin, &surroundings());
    assert_eq!(outcome(verdict), Outcome::Nothing);
    assert_eq!(listener.request_count(), 1);
    let (_, syn_ack) = listener.poll_transmit(at(0)).expect("a SYN-ACK");
    assert_eq!(syn_ack.header.acknowledgment, 34, "the SYN alone");
}

#[test]
fn segments_in_syn_received() {
    // RFC 9293 3.10.7.4; RFC 5961 3.2, 4.2. Flags, sequence number relative to RCV.NXT, acknowledgment to ISS + 1.
    // RFC 9293 MUST-11.
    use DropReason::{BadAck, OutOfWindow, Unacceptable};
    let (syn, ack, rst, fin) = (Flags::SYN, Flags::ACK, Flags::RST, Flags::FIN);
    let cases = [
        (ack, 0, 0, Outcome::Accepted, false),
        (ack | fin, 0, 0, Outcome::Accepted, false),
        (ack, 100, 0, Outcome::Accepted, false),
        (ack, 65_536, 0, Outcome::Ack, true),
        (ack, -1, 0, Outcome::Ack, true),
        (ack, 0, 1, Outcome::Reset(ISS + 2), true),
        (ack, 0, -1, Outcome::Reset(ISS), true),
        (ack | rst, 0, 1, Outcome::Dropped(BadAck), true),
        (rst, 0, 0, Outcome::Nothing, false),
        (rst | ack, 0, 0, Outcome::Nothing, false),
        (rst, 1, 0, Outcome::Ack, true),
        (rst, 65_534, 0, Outcome::Ack, true),
        (rst, 65_535, 0, Outcome::Dropped(OutOfWindow), true),
        (rst, -1, 0, Outcome::Dropped(OutOfWindow), true),
        (syn, -1, 0, Outcome::Nothing, true),
        (syn, 0, 0, Outcome::Ack, true),
        (syn, 1 << 28, 0, Outcome::Ack, true),
        (syn | ack, 0, 0, Outcome::Ack, true),
        (syn | fin, -1, 0, Outcome::Ack, true),
        (fin, 0, 0, Outcome::Dropped(Unacceptable), true),
        (Flags(0), 0, 0, Outcome::Dropped(Unacceptable), true),
    ];
    for (flags, sequence, acknowledgment, expected, stays) in cases {
        let mut listener = with_request();
        let segment = segment(
            flags,
            (IRS + 1).wrapping_add_signed(sequence),
            (ISS + 1).wrapping_add_signed(acknowledgment),
        );
        let verdict = listener.handle_segment(at(5), tuple(1000), &segment, &surroundings());
        assert_eq!(outcome(verdict), expected, "{flags:?} {sequence}");
        assert_eq!(
            listener.request_count(),
            usize::from(stays),
            "{flags:?} {sequence}"
        );
        assert_eq!(listener.poll_timeout().is_some(), stays);
    }
}

#[test]
fn old_timestamp_does_not_complete_the_handshake() {
    // RFC 7323 5.3 R1.
    let mut listener = with_request();
    for (value, expected) in [(899, Outcome::Ack), (900, Outcome::Accepted)] {
        let mut segment = ack();
        segment.header.options.timestamps = Some(Timestamps { value, echo: 0 });
        let verdict = listener.handle_segment(at(5), tuple(1000), &segment, &surroundings());
        assert_eq!(outcome(verdict), expected);
    }
}

#[test]
fn answers_to_the_unexpected_are_limited() {
    let mut listener = with_request();
    let stray = segment(Flags::ACK, IRS - 100, ISS + 1);
    for (time, expected) in [
        (0, Outcome::Ack),
        (499, Outcome::Dropped(DropReason::RateLimited)),
        (500, Outcome::Ack),
    ] {
        let verdict = listener.handle_segment(at(time), tuple(1000), &stray, &surroundings());
        assert_eq!(outcome(verdict), expected, "{time}");
    }
}

#[test]
fn syn_ack_is_sent_again_until_given_up() {
    // RFC 6298 5.5; Linux: five times, 1, 2, 4, ... seconds apart.
    let mut listener = with_request();
    let mut sent = Vec::new();
    while let Some(deadline) = listener.poll_timeout() {
        listener.handle_timeout(deadline - Duration::from_nanos(1));
        assert!(!listener.wants_transmit(), "not before the deadline");
        listener.handle_timeout(deadline);
        while let Some((_, transmit)) = listener.poll_transmit(deadline) {
            assert_eq!(transmit.header.sequence, ISS);
            sent.push(deadline.as_millis());
        }
    }
    assert_eq!(sent, [1000, 3000, 7000, 15_000, 31_000]);
    assert_eq!(listener.request_count(), 0);
    assert_eq!(
        (listener.stats().expired, listener.stats().retransmits),
        (1, 5)
    );
}

#[test]
fn repeated_syn_gets_the_same_answer_and_spoils_the_round_trip() {
    // Karn (RFC 6298 3): which SYN-ACK the ACK answers cannot be known, unless a timestamp tells.
    let mut listener = with_request();
    listener.handle_segment(at(600), tuple(1000), &syn(), &surroundings());
    let other = Surroundings {
        iss: SeqNum(1),
        ..surroundings()
    };
    listener.handle_segment(at(600), tuple(1000), &syn(), &other);
    let (_, transmit) = listener.poll_transmit(at(600)).unwrap();
    assert_eq!(transmit.header.sequence, ISS);
    assert!(listener.poll_transmit(at(600)).is_none(), "one answer");
    assert_eq!(
        listener.poll_timeout(),
        Some(at(1600)),
        "the timer starts anew"
    );
    for (echo, round_trip) in [
        (None, None),
        (
            Some(timestamp_clock(at(600), OFFSET)),
            Some(Duration::from_millis(20)),
        ),
    ] {
        let mut listener = with_request();
        listener.handle_segment(at(600), tuple(1000), &syn(), &surroundings());
        listener.poll_transmit(at(600)).unwrap();
        let mut last = ack();
        last.header.options.timestamps = echo.map(|echo| Timestamps { value: 901, echo });
        let verdict = listener.handle_segment(at(620), tuple(1000), &last, &surroundings());
        let ListenerVerdict::Accept(request) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(request.round_trip, round_trip);
    }
}

#[test]
fn full_accept_queue_drops_syns_and_ignores_final_acks() {
    // As Linux: the request stays and its SYN-ACK comes again.
    let mut listener = with_request();
    let verdict = listener.handle_segment(at(1), tuple(2000), &syn(), &full());
    assert_eq!(outcome(verdict), Outcome::Dropped(DropReason::Backlog));
    let verdict = listener.handle_segment(at(1), tuple(1000), &ack(), &full());
    assert_eq!(outcome(verdict), Outcome::Dropped(DropReason::Backlog));
    assert_eq!(listener.request_count(), 1);
    listener.handle_timeout(at(1000));
    assert!(listener.poll_transmit(at(1000)).is_some());
    let verdict = listener.handle_segment(at(1001), tuple(1000), &ack(), &surroundings());
    assert_eq!(outcome(verdict), Outcome::Accepted);
    let stats = listener.stats();
    assert_eq!(
        (stats.syns_dropped, stats.accept_overflows, stats.accepted),
        (1, 1, 1)
    );
}

#[test]
fn backlog_and_configuration_limit_the_syn_queue() {
    // RFC 4987 3.4: at the limit new SYNs are dropped, those under way stay.
    for (backlog, max, limit) in [
        (0, 1024, 8),
        (128, 1024, 128),
        (100_000, 1024, 1024),
        (128, 3, 3),
    ] {
        let config = Config {
            max_syn_backlog: max,
            ..Config::default()
        };
        let mut listener = Listener::new(Arc::new(config), &SocketOptions::default(), backlog);
        for port in 0..2000 {
            let verdict = listener.handle_segment(at(0), tuple(port), &syn(), &surroundings());
            assert_eq!(
                matches!(verdict, ListenerVerdict::Nothing),
                usize::from(port) < limit
            );
        }
        assert_eq!(listener.request_count(), limit);
    }
}

#[test]
fn smaller_receive_buffer_shows_in_the_syn_ack() {
    let options = SocketOptions {
        receive_buffer: Some(8192),
        ..SocketOptions::default()
    };
    let mut listener = Listener::new(Arc::new(Config::default()), &options, 1);
    listener.handle_segment(at(0), tuple(1), &syn(), &surroundings());
    assert_eq!(listener.poll_transmit(at(0)).unwrap().1.header.window, 8192);
}

proptest! {
    #[test]
    fn queue_and_timers_stay_consistent(
        steps in prop::collection::vec((0u16..12, 0u8..64, -2i32..3, -1i32..2, 0u64..3000), 1..300),
    ) {
        let mut listener = Listener::new(Arc::new(Config::default()), &SocketOptions::default(), 8);
        let mut now = 0;
        for (port, flags, sequence, acknowledgment, wait) in steps {
            now += wait / 10;
            let segment = segment(
                Flags(flags),
                (IRS + 1).wrapping_add_signed(sequence),
                (ISS + 1).wrapping_add_signed(acknowledgment),
            );
            listener.handle_segment(at(now), tuple(port), &segment, &surroundings());
            listener.handle_timeout(at(now));
            prop_assert!(listener.poll_timeout().is_none_or(|deadline| deadline > at(now)));
            prop_assert_eq!(listener.poll_timeout().is_some(), listener.request_count() > 0);
            prop_assert!(listener.request_count() <= 8);
            if wait % 2 == 0 {
                let mut answers = 0;
                while listener.poll_transmit(at(now)).is_some() {
                    answers += 1;
                }
                prop_assert!(answers <= 8);
                prop_assert!(!listener.wants_transmit());
            }
        }
    }
}

/// A listener of `mode` and its SYN-ACKs for SYNs with these flags, one after the other.
fn answers(mode: EcnMode, syns: &[Flags]) -> (Listener, Vec<(Flags, Ecn)>) {
    let config = Config {
        ecn: mode,
        ..Config::default()
    };
    let mut listener = Listener::new(Arc::new(config), &SocketOptions::default(), 128);
    let mut answers = Vec::new();
    for (flags, millis) in syns.iter().zip((0..).step_by(1000)) {
        let mut syn = syn();
        syn.header.flags = *flags;
        listener.handle_segment(at(millis), tuple(1000), &syn, &surroundings());
        let (_, transmit) = listener.poll_transmit(at(millis)).expect("a SYN-ACK");
        answers.push((transmit.header.flags, transmit.ecn));
    }
    (listener, answers)
}

/// Whether the connection that comes of it has ECN.
fn accepts_with_ecn(listener: &mut Listener) -> bool {
    let mut ack = ack();
    ack.header.options.timestamps = Some(Timestamps {
        value: 901,
        echo: timestamp_clock(at(0), OFFSET),
    });
    match listener.handle_segment(at(5000), tuple(1000), &ack, &surroundings()) {
        ListenerVerdict::Accept(request) => request.negotiated.ecn,
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn ecn_is_granted_to_who_asks_unless_it_is_off() {
    // RFC 3168 6.1.1: ECE without CWR on a SYN-ACK that is not ECN-capable itself.
    const ASKING: Flags = Flags(Flags::SYN.0 | Flags::ECE.0 | Flags::CWR.0);
    const PLAIN: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);
    let granted = PLAIN | Flags::ECE;
    for (mode, syn, answer) in [
        (EcnMode::Accept, ASKING, granted),
        (EcnMode::Request, ASKING, granted),
        (EcnMode::Off, ASKING, PLAIN),
        (EcnMode::Accept, Flags::SYN, PLAIN),
        (EcnMode::Accept, Flags::SYN | Flags::ECE, PLAIN),
        (EcnMode::Accept, Flags::SYN | Flags::CWR, PLAIN),
    ] {
        let (mut listener, answers) = answers(mode, &[syn]);
        assert_eq!(answers, [(answer, Ecn::NotEct)], "{mode:?} {syn:?}");
        assert_eq!(accepts_with_ecn(&mut listener), answer == granted);
    }
}

#[test]
fn ecn_ends_with_a_syn_that_asks_no_more() {
    // RFC 3168 6.1.1 and 6.1.1.1: the peer has given up asking, and may not use what it was granted.
    let asking = Flags::SYN | Flags::ECE | Flags::CWR;
    let plain = Flags::SYN | Flags::ACK;
    let (mut listener, answers) = answers(EcnMode::Accept, &[asking, Flags::SYN, asking]);
    let expected = [plain | Flags::ECE, plain, plain].map(|flags| (flags, Ecn::NotEct));
    assert_eq!(answers, expected);
    assert!(!accepts_with_ecn(&mut listener));
}

#[test]
fn syn_in_a_packet_that_claims_to_be_ecn_capable_asks_for_nothing() {
    // As Linux: somebody on the way writes into the field.
    let mut listener = listener();
    let mut syn = syn();
    syn.header.flags = Flags::SYN | Flags::ECE | Flags::CWR;
    syn.ecn = Ecn::Ect0;
    listener.handle_segment(at(0), tuple(1000), &syn, &surroundings());
    let (_, transmit) = listener.poll_transmit(at(0)).expect("a SYN-ACK");
    assert_eq!(transmit.header.flags, Flags::SYN | Flags::ACK);
}
