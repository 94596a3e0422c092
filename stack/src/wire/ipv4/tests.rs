use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header {
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(10, 0, 0, 2),
        protocol: 6,
        ttl: 64,
        tos: 0,
        total_len: 40,
        identification: 7,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        options: Options::default(),
    }
}

fn emitted(header: &Header) -> Vec<u8> {
    let mut octets = vec![0xff; header.encoded_len()];
    header.emit(&mut octets);
    octets
}

/// Sets an octet and makes the checksum right again.
fn with_octet(mut octets: Vec<u8>, position: usize, value: u8) -> Vec<u8> {
    octets[position] = value;
    octets[10..12].fill(0);
    let mut sum = Sum::new();
    sum.add_bytes(&octets);
    octets[10..12].copy_from_slice(&sum.finish().to_be_bytes());
    octets
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed(
        addresses in any::<(u32, u32)>(),
        octets in any::<(u8, u8, u8)>(),
        total_len in 60..=u16::MAX,
        identification in any::<u16>(),
        flags in any::<(bool, bool)>(),
        offset in 0..0x2000_u16,
        options in proptest::collection::vec(any::<u8>(), 0..=40),
    ) {
        let header = Header {
            source: addresses.0.into(),
            destination: addresses.1.into(),
            protocol: octets.0,
            ttl: octets.1,
            tos: octets.2,
            total_len,
            identification,
            dont_fragment: flags.0,
            more_fragments: flags.1,
            fragment_offset: offset * 8,
            options: Options::new(&options).unwrap(),
        };
        let octets = emitted(&header);
        prop_assert_eq!(Header::parse(&octets), Ok((header, octets.len())));
    }

    #[test]
    fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(Header::parse(&octets).is_err() || octets.len() >= HEADER_LEN);
    }

    #[test]
    fn arbitrary_options_end_and_lie_inside_the_header(octets in proptest::collection::vec(any::<u8>(), 0..=40)) {
        let options = Options::new(&octets).unwrap();
        let items: Vec<_> = options.iter().collect();
        prop_assert!(items.len() <= 40);
        for option in items.iter().flatten() {
            prop_assert!(usize::from(option.pointer) + 2 + option.value.len() <= MAX_HEADER_LEN);
        }
        prop_assert!(items.iter().rev().skip(1).all(Result::is_ok), "a malformed option is the last");
    }
}

#[test]
fn the_header_lies_as_the_rfc_draws_it() {
    // The checksum is worked out by hand.
    let expected = [
        0x45, 0x00, 0x00, 0x28, 0x00, 0x07, 0x40, 0x00, 0x40, 0x06, 0x26, 0xc7, 10, 0, 0, 1, 10, 0,
        0, 2,
    ];
    assert_eq!(emitted(&header()), expected);
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let good = emitted(&header());
    let cases: Vec<(&str, Vec<u8>, ParseError)> = vec![
        ("nothing", vec![], ParseError::Truncated),
        ("19 octets", good[..19].to_vec(), ParseError::Truncated),
        // RFC 1122 3.2.1.1: a version other than 4 is discarded silently.
        (
            "version 6",
            with_octet(good.clone(), 0, 0x65),
            ParseError::Malformed,
        ),
        (
            "IHL 4",
            with_octet(good.clone(), 0, 0x44),
            ParseError::Malformed,
        ),
        (
            "IHL beyond the octets",
            with_octet(good.clone(), 0, 0x46),
            ParseError::Truncated,
        ),
        (
            "IHL beyond the total length",
            with_octet(good.clone(), 0, 0x4b),
            ParseError::Malformed,
        ),
        (
            "total length 19",
            with_octet(good.clone(), 3, 19),
            ParseError::Malformed,
        ),
        // RFC 1122 3.2.1.2: the checksum is verified on every packet.
        (
            "wrong checksum",
            [&good[..8], &[63], &good[9..]].concat(),
            ParseError::Checksum,
        ),
    ];
    for (what, octets, error) in cases {
        assert_eq!(Header::parse(&octets), Err(error), "{what}");
    }
}

#[test]
fn fragments_are_told_from_whole_packets() {
    for (more_fragments, fragment_offset, is_fragment) in [
        (false, 0, false),
        (true, 0, true),
        (false, 8, true),
        (true, 65_528, true),
    ] {
        let header = Header {
            more_fragments,
            fragment_offset,
            ..header()
        };
        let (parsed, _) = Header::parse(&emitted(&header)).unwrap();
        assert_eq!(parsed.fragment_offset, fragment_offset);
        assert_eq!(parsed.is_fragment(), is_fragment);
    }
}

#[test]
fn source_routes_are_found_behind_other_options() {
    // RFC 791 3.1: loose 131, strict 137.
    let cases: [(&[u8], bool); 6] = [
        (&[], false),
        (&[148, 4, 0, 0], false),
        (&[131, 7, 4, 10, 0, 0, 1], true),
        (&[1, 148, 4, 0, 0, 137, 3, 4], true),
        (&[0, 131, 3, 4], false),
        (&[7, 3, 131, 137, 3, 4], true),
    ];
    for (octets, expected) in cases {
        let options = Options::new(octets).unwrap();
        assert_eq!(
            ReceivedRoute::of(&options).is_some(),
            expected,
            "{octets:?}"
        );
    }
}

#[test]
fn a_malformed_option_says_where_it_lies() {
    // RFC 792: the pointer of a parameter problem is the octet where the error was detected.
    let cases: [(&[u8], u8); 4] = [
        (&[7, 0, 0, 0], 20),
        (&[1, 7, 1, 0], 21),
        (&[148, 4, 0, 0, 7, 5, 0, 0], 24),
        (&[1, 1, 1, 7], 23),
    ];
    for (octets, pointer) in cases {
        let options = Options::new(octets).unwrap();
        assert_eq!(
            options.iter().last(),
            Some(Err(MalformedOption { pointer })),
            "{octets:?}"
        );
    }
}

#[test]
fn more_option_octets_than_fit_are_refused() {
    assert!(Options::new(&[1; 40]).is_ok());
    assert_eq!(Options::new(&[1; 41]), Err(ParseError::Malformed));
    assert_eq!(Options::new(&[148, 4, 0, 0, 1]).unwrap().octets().len(), 8);
}
