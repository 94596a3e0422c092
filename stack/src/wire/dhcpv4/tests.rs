use proptest::prelude::*;

use super::*;

fn offer() -> Message {
    Message {
        kind: MessageType::Offer,
        is_reply: true,
        transaction: 0x0102_0304,
        seconds: 7,
        broadcast: true,
        client: Ipv4Addr::UNSPECIFIED,
        your: Ipv4Addr::new(10, 0, 0, 9),
        hardware: MacAddress([2, 0, 0, 0, 0, 1]),
        options: Options {
            prefix: Some(24),
            routers: [Ipv4Addr::new(10, 0, 0, 1)].into_iter().collect(),
            name_servers: [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)]
                .into_iter()
                .collect(),
            lease_time: Some(3600),
            server: Some(Ipv4Addr::new(10, 0, 0, 1)),
            mtu: Some(1400),
            ..Options::default()
        },
    }
}

/// The fixed part with this operation, then the cookie and the options.
fn raw(options: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; FIXED_LEN];
    octets[..3].copy_from_slice(&[BOOT_REPLY, 1, 6]);
    octets.extend_from_slice(&COOKIE);
    octets.extend_from_slice(options);
    octets
}

#[test]
fn messages_come_back_as_they_were_written() {
    let offer = offer();
    let octets = offer.to_vec();
    assert_eq!(Message::parse(&octets), Ok(offer.clone()));
    // RFC 2131 2, figure 1.
    assert_eq!(octets[..12], [2, 1, 6, 0, 1, 2, 3, 4, 0, 7, 0x80, 0]);
    assert_eq!(octets[16..20], [10, 0, 0, 9]);
    assert_eq!(octets[28..34], [2, 0, 0, 0, 0, 1]);
    assert_eq!(octets[236..243], [99, 130, 83, 99, 53, 1, 2]);
    assert_eq!(octets[243..249], [1, 4, 255, 255, 255, 0]);
    assert_eq!(octets.len(), 300);

    let request = Message {
        kind: MessageType::Request,
        is_reply: false,
        options: Options {
            requested: Some(Ipv4Addr::new(10, 0, 0, 9)),
            host_name: Some("tidewire".to_owned()),
            parameters: [1, 3, 6].into_iter().collect(),
            max_message: Some(1472),
            renewal_time: Some(1),
            rebinding_time: Some(2),
            client_identifier: true,
            ..offer.options.clone()
        },
        ..offer
    };
    assert_eq!(Message::parse(&request.to_vec()), Ok(request));
}

#[test]
fn options_go_on_in_the_fields_that_are_overloaded() {
    // RFC 2131 4.1, RFC 2132 9.3: file, then sname; what came first counts.
    let mut octets = raw(&[53, 1, 5, 52, 1, 3, 26, 2, 5, 0, 255]);
    octets[108..117].copy_from_slice(&[26, 2, 9, 9, 51, 4, 0, 0, 1]);
    octets[117..119].copy_from_slice(&[0, 255]);
    octets[44..51].copy_from_slice(&[54, 4, 10, 0, 0, 1, 255]);
    let message = Message::parse(&octets).expect("a message");
    assert_eq!(message.kind, MessageType::Ack);
    assert_eq!(message.options.mtu, Some(1280));
    assert_eq!(message.options.lease_time, Some(256));
    assert_eq!(message.options.server, Some(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn what_is_no_message_is_refused() {
    use ParseError::{Malformed, Truncated};
    let good = raw(&[53, 1, 5, 255]);
    assert!(Message::parse(&good).is_ok());
    assert!(Message::parse(&raw(&[0, 0, 53, 1, 5])).is_ok(), "no end");
    let cases: [(&[u8], ParseError); 4] = [
        (&[255], Malformed),
        (&[53, 1, 99, 255], Malformed),
        (&[53, 1, 5, 51, 4, 0], Truncated),
        (&[53, 1, 5, 51], Truncated),
    ];
    for (options, error) in cases {
        assert_eq!(Message::parse(&raw(options)), Err(error), "{options:?}");
    }
    for len in 0..240 {
        assert_eq!(Message::parse(&good[..len]), Err(Truncated), "{len}");
    }
    for (at, value) in [(0, 3), (1, 6), (2, 16), (236, 0)] {
        let mut octets = good.clone();
        octets[at] = value;
        assert_eq!(Message::parse(&octets), Err(Malformed), "{at}");
    }
}

#[test]
fn options_of_wrong_lengths_or_with_nonsense_are_as_if_absent() {
    let options = [
        53, 1, 5, 1, 4, 255, 0, 255, 0, 3, 3, 1, 2, 3, 51, 2, 0, 1, 26, 1, 9, 61, 2, 1, 1, 12, 0,
        255,
    ];
    let message = Message::parse(&raw(&options)).expect("a message");
    assert_eq!(message.options, Options::default());
}

#[test]
fn no_more_addresses_are_kept_than_there_is_room_for() {
    let mut options = vec![53, 1, 5, 6, 252];
    options.extend(std::iter::repeat_n(1, 252));
    let message = Message::parse(&raw(&options)).expect("a message");
    assert_eq!(message.options.name_servers.len(), MAX_ADDRESSES);
}

proptest! {
    #[test]
    fn nothing_panics_and_what_is_read_is_written_the_same(mut octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Message::parse(&octets);
        if octets.len() > FIXED_LEN + 4 {
            octets[..3].copy_from_slice(&[BOOT_REPLY, 1, 6]);
            octets[FIXED_LEN..FIXED_LEN + 4].copy_from_slice(&COOKIE);
        }
        if let Ok(message) = Message::parse(&octets) {
            prop_assert_eq!(Message::parse(&message.to_vec()), Ok(message));
        }
    }
}
