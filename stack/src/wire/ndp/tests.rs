use proptest::prelude::*;
use tidewire_netdev::MacAddress;

use super::option::{LinkLayerKind, PrefixInformation};
use super::*;

const TARGET: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x1234, 0x5678);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 9);

fn emitted(message: &Message, options: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; message.encoded_len()];
    message.emit(&mut octets);
    octets.extend_from_slice(options);
    octets
}

fn messages() -> Vec<(Message, u8)> {
    vec![
        (Message::RouterSolicitation, 133),
        (
            Message::RouterAdvertisement(RouterAdvertisement {
                current_hop_limit: 64,
                managed: true,
                other_configuration: false,
                router_lifetime: 1800,
                reachable_time: 30_000,
                retrans_timer: 1000,
            }),
            134,
        ),
        (
            Message::NeighborSolicitation(NeighborSolicitation { target: TARGET }),
            135,
        ),
        (
            Message::NeighborAdvertisement(NeighborAdvertisement {
                router: true,
                solicited: false,
                overrides: true,
                target: TARGET,
            }),
            136,
        ),
        (
            Message::Redirect(Redirect {
                target: TARGET,
                destination: Ipv6Addr::LOCALHOST,
            }),
            137,
        ),
    ]
}

#[test]
fn messages_survive_a_round_trip_and_shorter_ones_are_refused() {
    for (message, kind) in messages() {
        let octets = emitted(&message, &[]);
        assert_eq!(octets[..4], [kind, 0, 0, 0]);
        assert_eq!(Message::parse(&octets), Ok((message, Options::NONE)));
        for len in 0..octets.len() {
            let cut = Message::parse(&octets[..len]);
            assert_eq!(cut, Err(ParseError::Truncated), "{message:?} of {len}");
        }
    }
}

#[test]
fn a_neighbor_advertisement_lies_as_the_rfc_draws_it() {
    // RFC 4861 4.4: R, S and O are the upper bits of the fifth octet.
    for (router, solicited, overrides, octet) in [
        (true, false, false, 0x80),
        (false, true, false, 0x40),
        (false, false, true, 0x20),
        (true, true, true, 0xe0),
    ] {
        let message = Message::NeighborAdvertisement(NeighborAdvertisement {
            router,
            solicited,
            overrides,
            target: TARGET,
        });
        let octets = emitted(&message, &[]);
        assert_eq!(octets[4..8], [octet, 0, 0, 0]);
        assert_eq!(octets[8..], TARGET.octets());
    }
}

#[test]
fn reserved_bits_are_ignored() {
    // RFC 4861 7.1.1: "The contents of the Reserved field … MUST be ignored".
    let message = Message::NeighborSolicitation(NeighborSolicitation { target: TARGET });
    let mut octets = emitted(&message, &[]);
    octets[4..8].fill(0xff);
    assert_eq!(Message::parse(&octets), Ok((message, Options::NONE)));
}

#[test]
fn codes_groups_and_other_types_are_refused() {
    for (message, kind) in messages() {
        let mut octets = emitted(&message, &[]);
        octets[1] = 1;
        assert_eq!(Message::parse(&octets), Err(ParseError::Malformed));
        let mut octets = emitted(&message, &[]);
        let at = 8.min(octets.len() - 1);
        octets[at] = 0xff;
        let is_refused = Message::parse(&octets) == Err(ParseError::Malformed);
        assert_eq!(is_refused, kind >= 135, "{message:?}");
    }
    let mut redirect = emitted(&messages()[4].0, &[]);
    redirect[24..].copy_from_slice(&GROUP.octets());
    assert_eq!(Message::parse(&redirect), Err(ParseError::Malformed));
    for kind in [0, 128, 132, 138, 255] {
        let octets = [kind, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Message::parse(&octets), Err(ParseError::Malformed));
    }
}

#[test]
fn options_of_length_0_or_cut_short_refuse_the_message() {
    let message = Message::NeighborSolicitation(NeighborSolicitation { target: TARGET });
    let cases: [(&[u8], ParseError); 5] = [
        (&[1, 0, 1, 2, 3, 4, 5, 6], ParseError::Malformed),
        (&[200, 0], ParseError::Malformed),
        (&[1], ParseError::Truncated),
        (&[1, 1, 1, 2, 3, 4, 5], ParseError::Truncated),
        (
            &[1, 1, 1, 2, 3, 4, 5, 6, 9, 2, 0, 0, 0, 0, 0, 0],
            ParseError::Truncated,
        ),
    ];
    for (options, error) in cases {
        let octets = emitted(&message, options);
        assert_eq!(Message::parse(&octets), Err(error), "{options:?}");
    }
}

#[test]
fn known_options_are_read_and_others_skipped() {
    let mut octets = vec![14, 1, 0, 0, 0, 0, 0, 0]; // a nonce (RFC 3971), unknown here
    octets.extend([1, 2, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0]); // 14 octets of address: not Ethernet
    octets.extend([1, 1, 2, 0, 0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 0, 2]);
    octets.extend([2, 1, 2, 0, 0, 0, 0, 3]);
    octets.extend([5, 1, 0, 0, 0, 0, 5, 0xdc]);
    octets.extend([5, 2, 0, 0, 0, 0, 5, 0xdc, 0, 0, 0, 0, 0, 0, 0, 0]);
    octets.extend([4, 2, 0, 0, 0, 0, 0, 0, 0x60, 1, 2, 3, 4, 5, 6, 7]);
    octets.extend([3, 4, 64, 0xc0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0]);
    octets.extend(TARGET.octets());
    octets.extend([3, 4, 129, 0xc0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0]);
    octets.extend(TARGET.octets());
    let options = Options::parse(&octets).expect("well-formed options");
    let source = |last| NdpOption::SourceLinkLayerAddress(MacAddress([2, 0, 0, 0, 0, last]));
    let expected = [
        source(1),
        source(2),
        NdpOption::TargetLinkLayerAddress(MacAddress([2, 0, 0, 0, 0, 3])),
        NdpOption::Mtu(1500),
        NdpOption::RedirectedHeader(&[0x60, 1, 2, 3, 4, 5, 6, 7]),
        NdpOption::PrefixInformation(PrefixInformation {
            prefix_len: 64,
            on_link: true,
            autonomous: true,
            valid_lifetime: 9,
            preferred_lifetime: 8,
            prefix: TARGET,
        }),
    ];
    assert_eq!(options.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(
        options.source_link_layer(),
        Some(MacAddress([2, 0, 0, 0, 0, 1]))
    );
    assert_eq!(
        options.target_link_layer(),
        Some(MacAddress([2, 0, 0, 0, 0, 3]))
    );
}

#[test]
fn link_layer_options_are_emitted_as_they_are_read() {
    let address = MacAddress([2, 0, 0, 0, 0, 7]);
    let mut octets = [0xff; option::LINK_LAYER_LEN];
    NdpOption::emit_link_layer(LinkLayerKind::Source, address, &mut octets);
    let options = Options::parse(&octets).expect("an option");
    assert_eq!(options.source_link_layer(), Some(address));
    assert_eq!(options.target_link_layer(), None);
    NdpOption::emit_link_layer(LinkLayerKind::Target, address, &mut octets);
    let options = Options::parse(&octets).expect("an option");
    assert_eq!(options.target_link_layer(), Some(address));
}

#[test]
fn solicited_node_groups_have_the_lower_24_bits() {
    // RFC 4291 2.7.1's own example.
    let address: Ipv6Addr = "4037::01:800:200e:8c6c".parse().expect("an address");
    let group: Ipv6Addr = "ff02::1:ff0e:8c6c".parse().expect("an address");
    assert_eq!(solicited_node(address), group);
    assert!(is_solicited_node(group));
    assert!(!is_solicited_node(ALL_NODES));
    assert!(!is_solicited_node(address));
    assert!(!is_solicited_node(
        "ff02::1:fe0e:8c6c".parse().expect("an address")
    ));
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(
        kind in 130..140u8,
        octets in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut octets = octets;
        if octets.len() > 1 {
            octets[0] = kind;
            octets[1] = 0;
        }
        if let Ok((message, options)) = Message::parse(&octets) {
            prop_assert!(options.into_iter().count() <= octets.len() / 8);
            let again = emitted(&message, &octets[message.encoded_len()..]);
            prop_assert_eq!(Message::parse(&again), Ok((message, options)));
        }
    }
}
