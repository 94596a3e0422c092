use super::AckUrgency::{Delayed, EndOfBatch, None as Nothing, Now};
use super::*;

const FULL: usize = 1448;

fn arrival(len: usize) -> Arrival {
    Arrival {
        len,
        segment_size: len.min(FULL),
        rto: Duration::from_millis(200),
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// A schedule after its quick phase; a full segment came and was acknowledged at time 0.
fn settled() -> AckSchedule {
    let mut ack = AckSchedule::new(&Config {
        quick_acks: 0,
        ..Config::default()
    });
    ack.on_data(at(0), arrival(FULL));
    ack.on_ack_sent();
    ack
}

#[test]
fn urgency_of_what_arrives() {
    // RFC 9293 3.8.6.3 (SHLD-18, SHLD-19), RFC 5681 4.2. Lengths that arrive at 1 ms, and the urgency then.
    let delayed = Delayed(at(41));
    let cases: [(&[usize], AckUrgency); 8] = [
        (&[], Nothing),
        (&[FULL], delayed),
        (&[1], delayed),
        (&[FULL, 1], EndOfBatch),
        (&[FULL, FULL], EndOfBatch),
        (&[500, 500], delayed),
        (&[500, 500, 500], EndOfBatch),
        (&[65_000], EndOfBatch),
    ];
    for (lens, expected) in cases {
        let mut ack = settled();
        for len in lens {
            ack.on_data(at(1), arrival(*len));
        }
        assert_eq!(ack.urgency(), expected, "{lens:?}");
    }
}

#[test]
fn irregular_segments_get_an_ack_of_their_own() {
    // RFC 5681 4.2. RFC 9293 MAY-13.
    let mut ack = settled();
    assert_eq!(ack.on_irregular(), Now);
    ack.on_ack_sent();
    assert_eq!(ack.urgency(), Nothing);
    assert_eq!(ack.on_data(at(1), arrival(10)), Delayed(at(41)));
}

#[test]
fn urgency_never_falls_before_an_ack_is_sent() {
    let mut ack = settled();
    ack.on_irregular();
    assert_eq!(ack.on_data(at(1), arrival(10)), Now);
    assert_eq!(ack.on_event(), Now);
    let mut ack = settled();
    assert_eq!(ack.on_data(at(1), arrival(10)), Delayed(at(41)));
    assert_eq!(
        ack.on_data(at(30), arrival(10)),
        Delayed(at(41)),
        "from the first"
    );
    assert_eq!(ack.on_event(), EndOfBatch);
}

#[test]
fn first_acks_are_quick_and_again_after_a_pause() {
    let mut ack = AckSchedule::new(&Config {
        quick_acks: 2,
        ..Config::default()
    });
    for (time, expected) in [
        (0, EndOfBatch),
        (10, EndOfBatch),
        (20, Delayed(at(60))),
        (250, EndOfBatch),
    ] {
        assert_eq!(ack.on_data(at(time), arrival(10)), expected, "{time}");
        ack.on_ack_sent();
    }
}

#[test]
fn delayed_ack_is_due_within_its_delay() {
    // RFC 9293 3.8.6.3, MUST-40: less than 0.5 s.
    let mut ack = settled();
    ack.on_data(at(1), arrival(10));
    assert_eq!(ack.deadline(), Some(at(41)));
    assert_eq!(ack.handle_timeout(at(40)), Delayed(at(41)));
    assert_eq!(ack.handle_timeout(at(41)), EndOfBatch);
    assert_eq!(ack.deadline(), None);
    let mut slow = AckSchedule::new(&Config {
        quick_acks: 0,
        delayed_ack: Duration::from_secs(5),
        ..Config::default()
    });
    slow.on_data(at(0), arrival(10));
    assert_eq!(slow.deadline(), Some(at(499)));
}

#[test]
fn answers_make_the_exchange_interactive_until_one_is_missing() {
    let mut ack = AckSchedule::new(&Config::default());
    assert_eq!(ack.on_data(at(0), arrival(10)), EndOfBatch, "quick phase");
    ack.on_data_sent(at(1));
    ack.on_ack_sent();
    assert_eq!(ack.on_data(at(10), arrival(10)), Delayed(at(50)));
    assert_eq!(
        ack.on_drained(),
        Delayed(at(50)),
        "the answer will carry it"
    );
    ack.handle_timeout(at(50));
    ack.on_ack_sent();
    assert_eq!(
        ack.on_data(at(60), arrival(10)),
        EndOfBatch,
        "no longer interactive"
    );
    ack.on_ack_sent();
    // Data sent long after any arrival is no answer.
    ack.on_data_sent(at(200));
    assert!(ack.quickack());
}

#[test]
fn drained_reader_acknowledges_small_segments() {
    let mut ack = settled();
    ack.on_data(at(1), arrival(10));
    assert_eq!(ack.on_drained(), EndOfBatch);
    let mut ack = settled();
    ack.on_data(at(1), arrival(FULL));
    assert_eq!(ack.on_drained(), Delayed(at(41)), "more is coming");
    let mut ack = settled();
    assert_eq!(ack.on_drained(), Nothing);
}

#[test]
fn quickack_option_releases_a_delayed_ack() {
    let mut ack = settled();
    ack.on_data(at(1), arrival(10));
    assert_eq!(ack.set_quickack(false), Delayed(at(41)));
    assert!(!ack.quickack());
    assert_eq!(ack.set_quickack(true), EndOfBatch);
    assert!(ack.quickack());
}
