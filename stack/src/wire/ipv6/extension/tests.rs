use proptest::prelude::*;

use super::*;

const PAD_4: [u8; 6] = [PAD_N, 4, 0, 0, 0, 0];

/// An options header of 8 octets: `next_header`, then six octets of options.
fn options(next_header: u8, options: [u8; 6]) -> Vec<u8> {
    [&[next_header, 0][..], &options].concat()
}

fn routing(next_header: u8, kind: u8, segments_left: u8) -> Vec<u8> {
    vec![next_header, 0, kind, segments_left, 0, 0, 0, 0]
}

fn fragment(next_header: u8, offset: u16, more: bool) -> Vec<u8> {
    let mut octets = vec![0; 8];
    Fragment {
        next_header,
        offset,
        more,
        identification: 9,
    }
    .emit(&mut octets);
    octets
}

fn walk_from(next_header: u8, octets: &[u8]) -> Result<Chain, ChainError> {
    let start = Start {
        next_header,
        pointer: 6,
        offset: ipv6::HEADER_LEN,
    };
    walk(start, octets)
}

fn refused(code: u8, pointer: usize) -> ChainError {
    ChainError::ParameterProblem {
        code,
        pointer,
        to_multicast: false,
    }
}

#[test]
fn known_headers_are_walked_in_any_order() {
    // RFC 8200 4.1: nodes must accept any order and number, hop-by-hop at the front apart.
    let hop = |next| options(next, PAD_4);
    let found = |protocol, pointer, len| Chain {
        protocol,
        pointer,
        len,
        fragment: None,
    };
    let cases: [(&str, u8, Vec<u8>, Chain); 6] = [
        ("none", 6, vec![], found(6, 6, 0)),
        ("no next header", 59, vec![], found(59, 6, 0)),
        ("hop-by-hop", 0, hop(17), found(17, 40, 8)),
        (
            "destination options twice",
            60,
            [hop(60), hop(6)].concat(),
            found(6, 48, 16),
        ),
        (
            "routing, no segments left",
            43,
            routing(17, 0, 0),
            found(17, 40, 8),
        ),
        (
            "all, out of the usual order",
            0,
            [hop(43), routing(44, 4, 0), fragment(60, 0, false), hop(132)].concat(),
            found(132, 64, 32),
        ),
    ];
    for (what, first, mut octets, expected) in cases {
        octets.extend_from_slice(b"payload");
        assert_eq!(walk_from(first, &octets), Ok(expected), "{what}");
    }
}

#[test]
fn the_walk_ends_behind_a_fragment_header() {
    // RFC 8200 4.5: what lies behind a later fragment's header is no header.
    let octets = [options(44, PAD_4), fragment(60, 1480, true), vec![0xff; 8]].concat();
    let chain = walk_from(0, &octets).unwrap();
    assert_eq!((chain.protocol, chain.pointer, chain.len), (60, 48, 16));
    let fragment = chain.fragment.unwrap();
    assert_eq!(
        (fragment.offset, fragment.more, fragment.identification),
        (1480, true, 9)
    );
}

#[test]
fn a_hop_by_hop_header_anywhere_else_is_an_unknown_next_header() {
    // RFC 8200 4: parameter problem, code 1, pointing at the Next Header of value 0.
    let octets = [options(0, PAD_4), options(6, PAD_4)].concat();
    let code = parameter_problem::UNRECOGNIZED_NEXT_HEADER;
    assert_eq!(walk_from(60, &octets), Err(refused(code, 40)));
}

#[test]
fn the_action_bits_of_an_unknown_option_decide() {
    // RFC 8200 4.2: 00 skip, 01 discard, 10 discard and answer, 11 answer unless it was multicast.
    let problem = |to_multicast| ChainError::ParameterProblem {
        code: parameter_problem::UNRECOGNIZED_OPTION,
        pointer: 43,
        to_multicast,
    };
    let cases = [
        (0x1e, None),
        (0x5e, Some(ChainError::Discard(ParseError::Malformed))),
        (0x9e, Some(problem(true))),
        (0xde, Some(problem(false))),
        // RFC 2675: a jumbo payload option, unknown here.
        (0xc2, Some(problem(false))),
    ];
    for (kind, error) in cases {
        let octets = options(6, [PAD_1, kind, 3, 0, 0, 0]);
        for first in [0, 60] {
            assert_eq!(walk_from(first, &octets).err(), error, "option {kind:#x}");
        }
    }
}

#[test]
fn a_routing_header_with_segments_left_is_refused() {
    // RFC 8200 4.4, RFC 5095 3: the pointer is at the routing type.
    for kind in [0, 1, 3, 253] {
        let octets = [options(43, PAD_4), routing(6, kind, 1)].concat();
        let code = parameter_problem::ERRONEOUS_FIELD;
        assert_eq!(walk_from(0, &octets), Err(refused(code, 50)));
    }
}

#[test]
fn headers_cut_short_are_discarded() {
    let truncated = Err(ChainError::Discard(ParseError::Truncated));
    for first in [0, 43, 44, 60] {
        for len in 0..8 {
            assert_eq!(
                walk_from(first, &vec![0; len]),
                truncated,
                "{first}, {len} octets"
            );
        }
    }
    let mut long = options(6, PAD_4);
    long[1] = 1;
    assert_eq!(walk_from(60, &long), truncated);
}

#[test]
fn options_beyond_their_header_are_discarded() {
    let malformed = Err(ChainError::Discard(ParseError::Malformed));
    assert_eq!(walk_from(60, &options(6, [0x1e, 5, 0, 0, 0, 0])), malformed);
    assert_eq!(
        walk_from(60, &options(6, [PAD_N, 3, 0, 0, 0, 0x1e])),
        malformed
    );
}

#[test]
fn headers_options_and_padding_are_limited() {
    // RFC 8504 5.3.
    let malformed = Err(ChainError::Discard(ParseError::Malformed));
    let many = |n| [options(60, PAD_4).repeat(n - 1), options(6, PAD_4)].concat();
    assert!(walk_from(60, &many(MAX_HEADERS)).is_ok());
    assert_eq!(walk_from(60, &many(MAX_HEADERS + 1)), malformed);

    // Three octets of padding, then options of two octets each without value.
    let full = |n: usize| [&[6, 2, PAD_N, 1, 0][..], &[0x1e, 0].repeat(n), &[PAD_1; 3]].concat();
    assert_eq!(full(MAX_OPTIONS).len(), 24);
    assert!(walk_from(60, &full(MAX_OPTIONS)).is_ok());
    let mut over = full(MAX_OPTIONS);
    over[21..23].copy_from_slice(&[0x1e, 0]);
    assert_eq!(walk_from(60, &over), malformed);

    let padded = |padding: u8| {
        let mut octets = vec![6, 1, PAD_N, padding - 2];
        octets.resize(2 + usize::from(padding), 0);
        octets.extend([0x1e, 14 - padding - 2]);
        octets.resize(16, 0);
        octets
    };
    assert!(walk_from(60, &padded(7)).is_ok());
    assert_eq!(walk_from(60, &padded(8)), malformed);
}

#[test]
fn a_first_fragment_holds_the_whole_chain() {
    // RFC 8200 4.5: through the transport's header, or the fragment is refused.
    let hop = |next| options(next, PAD_4);
    let cases: [(u8, Vec<u8>, bool); 9] = [
        (6, vec![0; 20], true),
        (6, vec![0; 19], false),
        (17, vec![0; 8], true),
        (17, vec![0; 7], false),
        (59, vec![], true),
        (99, vec![], false),
        (60, hop(17), false),
        (60, [hop(17), vec![0; 8]].concat(), true),
        (60, hop(60).repeat(MAX_HEADERS + 1), false),
    ];
    for (first, octets, expected) in cases {
        assert_eq!(
            holds_header_chain(first, &octets),
            expected,
            "{first} {octets:?}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(first in any::<u8>(), octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let first = [0, 43, 44, 60, first][usize::from(first) % 5];
        if let Ok(chain) = walk_from(first, &octets) {
            prop_assert!(chain.len <= octets.len());
        }
        holds_header_chain(first, &octets);
    }
}
