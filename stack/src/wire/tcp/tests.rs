use proptest::prelude::*;
use smallvec::smallvec;

use super::*;

/// A header whose fixed part matters to no option test, with `flags` and `options`.
fn octets(flags: Flags, options: &[u8]) -> Vec<u8> {
    let header = Header {
        source_port: 80,
        destination_port: 40_000,
        flags,
        ..Header::default()
    };
    let mut octets = vec![0; HEADER_LEN];
    header.emit(&mut octets);
    octets.extend_from_slice(options);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets[12] = ((octets.len() / 4) as u8) << 4;
    octets
}

fn parse_options(flags: Flags, options: &[u8]) -> Options {
    let octets = octets(flags, options);
    let (header, len) = Header::parse(&octets).expect("the fixed part is good");
    assert_eq!(len, octets.len());
    header.options
}

fn arbitrary_header() -> impl Strategy<Value = Header> {
    let fixed = (
        any::<u16>(),
        any::<u16>(),
        any::<u32>(),
        any::<u32>(),
        any::<u8>(),
        any::<u16>(),
        any::<u16>(),
    );
    let timestamps = proptest::option::of(any::<(u32, u32)>());
    let sack = proptest::collection::vec(any::<(u32, u32)>(), 0..=4);
    let syn = (
        proptest::option::of(1..=u16::MAX),
        proptest::option::of(any::<u8>()),
        any::<bool>(),
    );
    (fixed, timestamps, sack, syn).prop_map(|(fixed, timestamps, sack, syn)| {
        let flags = Flags(fixed.4);
        let mut options = Options {
            timestamps: timestamps.map(|(value, echo)| Timestamps { value, echo }),
            ..Options::default()
        };
        if flags.contains(Flags::SYN) {
            (options.mss, options.window_scale, options.sack_permitted) = syn;
        }
        options.sack = sack.into_iter().take(options.sack_capacity()).collect();
        Header {
            source_port: fixed.0,
            destination_port: fixed.1,
            sequence: fixed.2,
            acknowledgment: fixed.3,
            flags,
            window: fixed.5,
            urgent: fixed.6,
            options,
        }
    })
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed(header in arbitrary_header()) {
        let mut octets = vec![0xff; header.encoded_len()];
        header.emit(&mut octets);
        prop_assert!(octets.len() <= MAX_HEADER_LEN && octets.len().is_multiple_of(4));
        prop_assert_eq!(Header::parse(&octets), Ok((header, octets.len())));
    }

    #[test]
    fn arbitrary_octets_never_panic_and_survive_a_round_trip(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok((header, len)) = Header::parse(&octets) {
            prop_assert!(len <= octets.len());
            let mut emitted = vec![0; header.encoded_len()];
            header.emit(&mut emitted);
            prop_assert_eq!(Header::parse(&emitted).map(|(again, _)| again), Ok(header));
        }
    }
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    // RFC 9293 3.1: the data offset counts 32-bit words and is at least 5.
    let good = octets(Flags::ACK, &[]);
    let mut short_offset = good.clone();
    short_offset[12] = 4 << 4;
    let mut long_offset = good.clone();
    long_offset[12] = 6 << 4;
    let cases: [(&[u8], ParseError); 4] = [
        (&[], ParseError::Truncated),
        (&good[..19], ParseError::Truncated),
        (&short_offset, ParseError::Malformed),
        (&long_offset, ParseError::Truncated),
    ];
    for (octets, error) in cases {
        assert_eq!(Header::parse(octets), Err(error), "{octets:?}");
    }
}

#[test]
fn the_fixed_part_lies_as_the_rfc_draws_it() {
    let header = Header {
        source_port: 0x0102,
        destination_port: 0x0304,
        sequence: 0x0506_0708,
        acknowledgment: 0x090a_0b0c,
        flags: Flags::SYN | Flags::ACK,
        window: 0x0d0e,
        urgent: 0x0f10,
        options: Options::default(),
    };
    let mut octets = [0xff; HEADER_LEN];
    header.emit(&mut octets);
    let expected = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x50, 0x12, 13, 14, 0, 0, 15, 16,
    ];
    assert_eq!(octets, expected);
}

#[test]
fn options_go_out_in_linux_order() {
    let timestamps = Some(Timestamps { value: 1, echo: 2 });
    let cases: [(Options, Flags, &[u8]); 6] = [
        (
            Options {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps,
                ..Options::default()
            },
            Flags::SYN,
            &[
                2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7,
            ],
        ),
        (
            Options {
                mss: Some(1460),
                sack_permitted: true,
                window_scale: Some(7),
                ..Options::default()
            },
            Flags::SYN,
            &[2, 4, 0x05, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7],
        ),
        (
            Options {
                mss: Some(536),
                ..Options::default()
            },
            Flags::SYN,
            &[2, 4, 0x02, 0x18],
        ),
        (
            Options {
                timestamps,
                ..Options::default()
            },
            Flags::ACK,
            &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        ),
        (
            Options {
                timestamps,
                sack: smallvec![(3, 4)],
                ..Options::default()
            },
            Flags::ACK,
            &[
                1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4,
            ],
        ),
        (
            Options {
                sack: smallvec![(3, 4)],
                ..Options::default()
            },
            Flags::ACK,
            &[1, 1, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4],
        ),
    ];
    for (options, flags, expected) in cases {
        let header = Header {
            flags,
            options,
            ..Header::default()
        };
        let mut octets = vec![0; header.encoded_len()];
        header.emit(&mut octets);
        assert_eq!(&octets[HEADER_LEN..], expected);
        assert_eq!(Header::parse(&octets), Ok((header, octets.len())));
    }
}

#[test]
fn sack_blocks_that_do_not_fit_are_left_out() {
    // RFC 2018 3: four blocks fill the 40 octets of options, with timestamps three.
    let blocks: SmallVec<[(u32, u32); 4]> = smallvec![(1, 2), (3, 4), (5, 6), (7, 8)];
    for (timestamps, kept) in [(None, 4), (Some(Timestamps::default()), 3)] {
        let header = Header {
            options: Options {
                timestamps,
                sack: blocks.clone(),
                ..Options::default()
            },
            ..Header::default()
        };
        assert_eq!(header.options.sack_capacity(), kept);
        let mut octets = vec![0; header.encoded_len()];
        header.emit(&mut octets);
        let (parsed, _) = Header::parse(&octets).unwrap();
        assert_eq!(parsed.options.sack[..], blocks[..kept]);
    }
}

#[test]
fn odd_options_are_read_as_linux_reads_them() {
    // Each list of octets goes before a timestamps option, which is read or lost.
    // RFC 9293 MUST-4, MUST-5, MUST-6, MUST-7, MUST-64, MUST-68.
    let cases: [(&str, &[u8], bool); 12] = [
        ("no padding", &[], true),
        // RFC 9293 3.2, MUST-6: an unknown option is skipped by its length.
        ("an unknown kind", &[253, 4, 9, 9], true),
        ("an unknown kind without value", &[254, 2], true),
        ("a known kind of a wrong length", &[5, 6, 1, 1, 1, 1], true),
        ("SACK of no block", &[5, 2], true),
        ("timestamps of a wrong length", &[8, 3, 9], true),
        // RFC 9293 3.2, MUST-7: illegal option lengths are handled without crashing.
        ("length 0", &[253, 0], false),
        ("length 1", &[253, 1], false),
        ("a length beyond the header", &[253, 200], false),
        ("the end of the list", &[0], false),
        // RFC 9293 3.2, RFC 7323 2.2, RFC 2018 2: these count in a SYN only.
        ("MSS without SYN", &[2, 4, 2, 0x18], true),
        (
            "window scale, SACK permitted without SYN",
            &[3, 3, 7, 4, 2],
            true,
        ),
    ];
    for (what, before, is_read) in cases {
        let expected = Options {
            timestamps: is_read.then_some(Timestamps { value: 1, echo: 2 }),
            ..Options::default()
        };
        let options = [before, &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2]].concat();
        assert_eq!(parse_options(Flags::ACK, &options), expected, "{what}");
    }
}

#[test]
fn odd_options_of_a_syn_are_read_as_linux_reads_them() {
    let read = |mss, window_scale| Options {
        mss,
        window_scale,
        ..Options::default()
    };
    let cases: [(&str, &[u8], Options); 6] = [
        (
            "a kind in the last octet",
            &[2, 4, 2, 0x18, 1, 1, 1, 2],
            read(Some(536), None),
        ),
        (
            "a wrong length before",
            &[3, 4, 7, 7, 2, 4, 2, 0x18],
            read(Some(536), None),
        ),
        (
            "nothing after the end of the list",
            &[0, 2, 4, 2, 0x18],
            read(None, None),
        ),
        // RFC 9293 3.7.1: an MSS of 0 cannot be meant; the default serves.
        ("MSS 0", &[2, 4, 0, 0], read(None, None)),
        (
            "the last of two counts",
            &[2, 4, 5, 0xb4, 2, 4, 2, 0x18],
            read(Some(536), None),
        ),
        // RFC 7323 2.3: more than 14 is used as 14, by whoever uses it.
        ("window scale above 14", &[3, 3, 15], read(None, Some(15))),
    ];
    for (what, octets, expected) in cases {
        assert_eq!(parse_options(Flags::SYN, octets), expected, "{what}");
    }
}

#[test]
fn padding_behind_the_options_is_zeros() {
    // RFC 9293 3.1 (MUST-69, MUST-68): options fill whole words, and nothing but zeros follows their end.
    for subset in 0..32 {
        let is_in = |bit: u32| subset & (1 << bit) != 0;
        let header = Header {
            flags: Flags::SYN,
            options: Options {
                mss: is_in(0).then_some(1460),
                window_scale: is_in(1).then_some(7),
                sack_permitted: is_in(2),
                timestamps: is_in(3).then_some(Timestamps { value: 1, echo: 2 }),
                sack: is_in(4).then_some((5, 9)).into_iter().collect(),
            },
            ..Header::default()
        };
        let mut octets = vec![0xff; header.encoded_len()];
        header.emit(&mut octets);
        assert_eq!(octets.len(), usize::from(octets[12] >> 4) * 4);
        let mut rest = &octets[HEADER_LEN..];
        while let Some((&kind, behind)) = rest.split_first() {
            rest = match kind {
                0 => {
                    assert!(behind.iter().all(|octet| *octet == 0), "{octets:?}");
                    &[]
                }
                1 => behind,
                _ => &rest[usize::from(behind[0])..],
            };
        }
    }
}
