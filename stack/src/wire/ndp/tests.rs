use proptest::prelude::*;
use tidewire_netdev::MacAddress;

use super::option::{LinkLayerKind, PrefixInformation, RouteInformation};
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
                preference: RouterPreference::High,
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

#[test]
fn a_router_preference_lies_behind_the_flags_and_its_reserved_value_is_medium() {
    // RFC 4191 2.2
    let message = messages()[1].0;
    let mut octets = emitted(&message, &[]);
    assert_eq!(octets[5], 0x80 | 0x08);
    for (bits, expected) in [
        (0x00, RouterPreference::Medium),
        (0x08, RouterPreference::High),
        (0x18, RouterPreference::Low),
        (0x10, RouterPreference::Medium),
    ] {
        octets[5] = bits;
        let Ok((Message::RouterAdvertisement(advertisement), _)) = Message::parse(&octets) else {
            panic!("an advertisement");
        };
        assert_eq!(advertisement.preference, expected, "{bits:#x}");
    }
}

#[test]
fn route_information_has_the_octets_that_its_prefix_needs() {
    // RFC 4191 2.3
    let route = |prefix_len, flags, prefix: &[u8]| {
        let mut octets = vec![
            24,
            (1 + prefix.len() / 8) as u8,
            prefix_len,
            flags,
            0,
            0,
            1,
            0,
        ];
        octets.extend(prefix);
        let options = Options::parse(&octets).expect("one option");
        let mut found = options.into_iter().map(|option| match option {
            NdpOption::RouteInformation(information) => information,
            other => panic!("{other:?}"),
        });
        found.next()
    };
    let prefix = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 0];
    let expected = RouteInformation {
        prefix_len: 48,
        preference: RouterPreference::Low,
        lifetime: 256,
        prefix: "2001:db8:7::".parse().expect("a prefix"),
    };
    assert_eq!(route(48, 0x18, &prefix), Some(expected));
    let everything = RouteInformation {
        prefix_len: 0,
        prefix: Ipv6Addr::UNSPECIFIED,
        ..expected
    };
    assert_eq!(route(0, 0x18, &[]), Some(everything));
    assert_eq!(route(0, 0x18, &[0; 16]), Some(everything));
    assert_eq!(route(48, 0x10, &prefix), None, "the reserved preference");
    assert_eq!(route(1, 0, &[]), None, "length 1");
    assert_eq!(route(65, 0, &prefix), None, "length 2");
    assert_eq!(route(129, 0, &[0; 16]), None);
    assert_eq!(route(48, 0, &[0; 24]), None, "length 4");
}

#[test]
fn dns_servers_are_whole_addresses_of_hosts() {
    // RFC 8106 5.3.1
    let servers = |addresses: &[&str], extra: &[u8]| {
        let len = 1 + 2 * addresses.len() + extra.len() / 8;
        let mut octets = vec![25, len as u8, 0, 0, 0, 0, 2, 0];
        for address in addresses {
            let address: Ipv6Addr = address.parse().expect("an address");
            octets.extend(address.octets());
        }
        octets.extend(extra);
        let options = Options::parse(&octets).expect("one option");
        let mut found = options.into_iter().map(|option| match option {
            NdpOption::DnsServers(servers) => {
                (servers.lifetime, servers.addresses().collect::<Vec<_>>())
            }
            other => panic!("{other:?}"),
        });
        found.next()
    };
    let two = vec![
        "2001:db8::53".parse().expect("an address"),
        "fe80::53".parse().expect("an address"),
    ];
    assert_eq!(
        servers(&["2001:db8::53", "fe80::53"], &[]),
        Some((512, two))
    );
    assert_eq!(servers(&[], &[]), None, "length 1");
    assert_eq!(servers(&["2001:db8::53"], &[0; 8]), None, "half an address");
    assert_eq!(servers(&["ff02::1"], &[]), None, "a group");
    assert_eq!(servers(&["::"], &[]), None);
}

#[test]
fn search_domains_are_uncompressed_names_of_plain_characters() {
    // RFC 8106 5.2, 5.3.1
    let domains = |names: &[u8]| {
        let len = (8 + names.len()).div_ceil(8);
        let mut octets = vec![31, len as u8, 0, 0, 0, 0, 0, 9];
        octets.extend(names);
        octets.resize(len * 8, 0);
        let options = Options::parse(&octets).expect("one option");
        let mut found = options.into_iter().map(|option| match option {
            NdpOption::DnsSearchList(list) => (list.lifetime, list.names().collect::<Vec<_>>()),
            other => panic!("{other:?}"),
        });
        found.next()
    };
    let list = |names: &[&str]| Some((9, names.iter().map(ToString::to_string).collect()));
    let two = b"\x07example\x03com\x00\x03lab\x00";
    assert_eq!(domains(two), list(&["example.com", "lab"]));
    assert_eq!(domains(b"\x06abcdef\x00"), list(&["abcdef"]), "no padding");
    assert_eq!(domains(b""), None, "length 1");
    assert_eq!(domains(b"\x00"), None, "no name");
    assert_eq!(
        domains(b"\x03lab\x00\x00\x03lab\x00"),
        None,
        "padding in between"
    );
    assert_eq!(domains(b"\x03lab\xc0\x08"), None, "compressed");
    assert_eq!(domains(b"\x07exa"), None, "cut short");
    assert_eq!(domains(b"\x03a b\x00"), None, "a blank");
    assert_eq!(domains(b"\x03a\nb\x00"), None, "a line's end");
    let mut long = Vec::new();
    for _ in 0..5 {
        long.push(60);
        long.extend([b'a'; 60]);
    }
    long.push(0);
    assert_eq!(domains(&long), None, "more than 255 octets");
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
