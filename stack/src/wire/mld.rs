//! Multicast Listener Discovery, versions 1 and 2: ICMPv6 types 130 to 132 and 143 (RFC 2710 3, RFC 3810 5), from the
//! ICMPv6 header on.
//!
//! Owns the octets of the messages, and how a query's version is told (RFC 3810 8.1). Leaves the checksum, the hop
//! limit, the router alert and the IP addresses to `ip::multicast`.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     Type      |   Code (0)    |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |  Max response code, reserved; in a report of version 2        |
//! |  reserved, number of records                                  |
//! +---------------------------------------------------------------+
//! |  Group, 16 octets, but not in a report of version 2           |
//! +-------+-+-----+---------------+-------------------------------+  of a query of
//! | Resv  |S| QRV |     QQIC      |       Number of sources       |  version 2 alone
//! +-------+-+-----+---------------+-------------------------------+
//! |  Sources, or the records of a report of version 2             |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::wire::ParseError;
use crate::wire::group_record::{
    QueryTail, Record, Records, decode_8_bits, decode_16_bits, emit_all,
};

/// Octets of a report of version 2 without records.
pub const REPORT_LEN: usize = 8;
/// Octets of a message of version 1.
pub const V1_LEN: usize = 24;
/// Octets of a query of version 2 without sources.
pub const QUERY_V2_LEN: usize = 28;
/// The hop limit that every such message has (RFC 2710 3, RFC 3810 5).
pub const HOP_LIMIT: u8 = 1;
/// Where reports of version 2 go (RFC 3810 5.2.14).
pub const ALL_V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// ICMPv6 types of Multicast Listener Discovery.
pub mod kind {
    /// Multicast listener query, both versions.
    pub const QUERY: u8 = 130;
    /// Report of version 1.
    pub const REPORT_V1: u8 = 131;
    /// Done, version 1.
    pub const DONE: u8 = 132;
    /// Report of version 2.
    pub const REPORT_V2: u8 = 143;
}

/// Whether the ICMPv6 type is one of Multicast Listener Discovery.
pub const fn is_listener_discovery(kind: u8) -> bool {
    matches!(
        kind,
        kind::QUERY | kind::REPORT_V1 | kind::DONE | kind::REPORT_V2
    )
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 2710: no sources.
    V1,
    /// RFC 3810.
    V2,
}

/// A query, of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query<'a> {
    /// The version that it is of.
    pub version: Version,
    /// Which group is asked for; `::` for all.
    pub group: Ipv6Addr,
    /// The time for answers as it is sent.
    pub max_response_code: u16,
    /// What version 2 adds; all of it zero in older ones.
    pub tail: QueryTail<'a, 16>,
}

impl Query<'_> {
    /// The time within which it is to be answered (RFC 2710 3.4, RFC 3810 5.1.3).
    pub const fn max_response(&self) -> Duration {
        let millis = match self.version {
            Version::V1 => self.max_response_code as u32,
            Version::V2 => decode_16_bits(self.max_response_code),
        };
        Duration::from_millis(millis as u64)
    }

    /// The time between general queries (RFC 3810 5.1.9); 0 if unknown.
    pub const fn interval(&self) -> Duration {
        Duration::from_secs(decode_8_bits(self.tail.interval_code) as u64)
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A router asks.
    Query(Query<'a>),
    /// A host listens to a group: version 1.
    Report {
        /// The group.
        group: Ipv6Addr,
    },
    /// A host leaves a group: version 1.
    Done {
        /// The group.
        group: Ipv6Addr,
    },
    /// A host says what it listens to: version 2.
    ReportV2(Records<'a, 16>),
}

impl<'a> Message<'a> {
    /// Reads a message, which is all of `octets`.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer octets than it says or needs, [`ParseError::Malformed`] for another type, a
    /// group that is none, and a query of a length that no version has (RFC 3810 8.1).
    pub fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let (&[kind, _, _, _, a, b, c, d], rest) = octets
            .split_first_chunk::<REPORT_LEN>()
            .ok_or(ParseError::Truncated)?;
        if kind == kind::REPORT_V2 {
            let count = u16::from_be_bytes([c, d]);
            return Records::parse(rest, count).map(Self::ReportV2);
        }
        let (group, rest) = rest
            .split_first_chunk::<16>()
            .ok_or(ParseError::Truncated)?;
        let group = Ipv6Addr::from(*group);
        match kind {
            kind::QUERY if group.is_unspecified() || group.is_multicast() => {
                parse_query(rest, u16::from_be_bytes([a, b]), group).map(Self::Query)
            }
            kind::REPORT_V1 if group.is_multicast() => Ok(Self::Report { group }),
            kind::DONE if group.is_multicast() => Ok(Self::Done { group }),
            _ => Err(ParseError::Malformed),
        }
    }

    /// Octets that [`Self::emit`] writes.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Query(query) if query.version == Version::V2 => V1_LEN + query.tail.encoded_len(),
            Self::Query(_) | Self::Report { .. } | Self::Done { .. } => V1_LEN,
            Self::ReportV2(records) => {
                REPORT_LEN + records.map(|record| record.encoded_len()).sum::<usize>()
            }
        }
    }

    /// Writes the message into the front of `buffer`; its checksum is left 0.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`Self::encoded_len`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let buffer = &mut buffer[..self.encoded_len()];
        let (kind, code, group) = match *self {
            Self::Query(query) => (kind::QUERY, query.max_response_code, query.group),
            Self::Report { group } => (kind::REPORT_V1, 0, group),
            Self::Done { group } => (kind::DONE, 0, group),
            Self::ReportV2(records) => {
                let records: Vec<_> = records.collect();
                return emit_report(&records, buffer);
            }
        };
        let [high, low] = code.to_be_bytes();
        buffer[..REPORT_LEN].copy_from_slice(&[kind, 0, 0, 0, high, low, 0, 0]);
        buffer[REPORT_LEN..V1_LEN].copy_from_slice(&group.octets());
        if let Self::Query(query) = self
            && query.version == Version::V2
        {
            query.tail.emit(&mut buffer[V1_LEN..]);
        }
    }
}

/// Octets of a report of version 2 with these records.
pub fn report_len(records: &[Record<'_, 16>]) -> usize {
    REPORT_LEN + records.iter().map(Record::encoded_len).sum::<usize>()
}

/// Writes a report of version 2 into the front of `buffer`, its checksum left 0; at most 65,535 records.
///
/// # Panics
/// When `buffer` is shorter than [`report_len`].
pub fn emit_report(records: &[Record<'_, 16>], buffer: &mut [u8]) {
    let [high, low] = (records.len() as u16).to_be_bytes();
    buffer[..REPORT_LEN].copy_from_slice(&[kind::REPORT_V2, 0, 0, 0, 0, 0, high, low]);
    emit_all(records, &mut buffer[REPORT_LEN..]);
}

/// RFC 3810 8.1: 24 octets are version 1, 28 and more version 2, and what is between is none. `rest` is behind the group.
fn parse_query(rest: &[u8], code: u16, group: Ipv6Addr) -> Result<Query<'_>, ParseError> {
    let query = Query {
        version: Version::V1,
        group,
        max_response_code: code,
        tail: QueryTail::default(),
    };
    if rest.is_empty() {
        return Ok(query);
    }
    Ok(Query {
        version: Version::V2,
        tail: QueryTail::parse(rest)?,
        ..query
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::group_record::RecordKind;

    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);

    fn octets(message: &Message<'_>) -> Vec<u8> {
        let mut buffer = vec![0xff; message.encoded_len()];
        message.emit(&mut buffer);
        buffer
    }

    /// The first eight octets of a message, its group, and what is behind.
    fn raw(first: [u8; 8], group: Ipv6Addr, rest: &[u8]) -> Vec<u8> {
        [&first[..], &group.octets(), rest].concat()
    }

    #[test]
    fn messages_lie_as_the_rfcs_draw_them() {
        let report = Message::Report { group: GROUP };
        let done = Message::Done { group: GROUP };
        for (message, kind) in [(report, 131), (done, 132)] {
            let expected = raw([kind, 0, 0, 0, 0, 0, 0, 0], GROUP, &[]);
            assert_eq!(octets(&message), expected);
            assert_eq!(Message::parse(&expected), Ok(message));
            // RFC 2710 3.7: what is behind does not count.
            let longer = raw([kind, 0, 0, 0, 0, 0, 0, 0], GROUP, &[1, 2, 3]);
            assert_eq!(Message::parse(&longer), Ok(message));
        }
    }

    #[test]
    fn the_length_tells_the_version_of_a_query() {
        // RFC 3810 8.1.
        let first = [130, 0, 0, 0, 0x27, 0x10, 0, 0];
        let v1 = raw(first, Ipv6Addr::UNSPECIFIED, &[]);
        let Ok(Message::Query(query)) = Message::parse(&v1) else {
            panic!("a query of version 1");
        };
        assert_eq!(query.version, Version::V1);
        assert_eq!(query.max_response(), Duration::from_secs(10));
        let source = Ipv6Addr::LOCALHOST.octets();
        let rest = [&[0x0a, 0x80, 0, 1][..], &source].concat();
        let v2 = raw([130, 0, 0, 0, 0x80, 0, 0, 0], GROUP, &rest);
        let Ok(Message::Query(query)) = Message::parse(&v2) else {
            panic!("a query of version 2");
        };
        assert_eq!((query.version, query.group), (Version::V2, GROUP));
        assert_eq!(query.max_response(), Duration::from_millis(32_768));
        assert_eq!(query.interval(), Duration::from_secs(128));
        assert!(query.tail.suppress && query.tail.robustness == 2);
        assert_eq!(query.tail.sources, [source]);
        for len in 25..28 {
            let mut octets = v1.clone();
            octets.resize(len, 0);
            assert_eq!(Message::parse(&octets), Err(ParseError::Malformed), "{len}");
        }
    }

    #[test]
    fn what_is_cut_short_or_no_group_is_refused() {
        let host = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let any = Ipv6Addr::UNSPECIFIED;
        let cases = [
            (
                raw([131, 0, 0, 0, 0, 0, 0, 0], host, &[]),
                ParseError::Malformed,
            ),
            (
                raw([130, 0, 0, 0, 0, 0, 0, 0], host, &[]),
                ParseError::Malformed,
            ),
            (
                raw([129, 0, 0, 0, 0, 0, 0, 0], GROUP, &[]),
                ParseError::Malformed,
            ),
            (
                raw([130, 0, 0, 0, 0, 0, 0, 0], any, &[0, 0, 0, 1]),
                ParseError::Truncated,
            ),
            (vec![143, 0, 0, 0, 0, 0, 0, 1], ParseError::Truncated),
            (vec![131, 0, 0, 0, 0, 0, 0, 0, 0xff], ParseError::Truncated),
            (vec![130, 0], ParseError::Truncated),
        ];
        for (octets, expected) in cases {
            assert_eq!(Message::parse(&octets), Err(expected), "{octets:?}");
        }
    }

    #[test]
    fn a_report_of_version_2_is_a_list_of_records() {
        let source = Ipv6Addr::LOCALHOST.octets();
        let sources = [source];
        let records = [
            Record {
                kind: RecordKind::IsExclude,
                group: GROUP.octets(),
                sources: &[],
            },
            Record {
                kind: RecordKind::BlockOld,
                group: GROUP.octets(),
                sources: &sources,
            },
        ];
        let mut buffer = vec![0xff; report_len(&records)];
        emit_report(&records, &mut buffer);
        let group = GROUP.octets();
        let expected = [
            &[143, 0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0][..],
            &group,
            &[6, 0, 0, 1],
            &group,
            &source,
        ]
        .concat();
        assert_eq!(buffer, expected);
        let Ok(Message::ReportV2(parsed)) = Message::parse(&buffer) else {
            panic!("a report of version 2");
        };
        assert_eq!(parsed.collect::<Vec<_>>(), records);
        assert_eq!(octets(&Message::ReportV2(parsed)), buffer);
    }

    proptest! {
        #[test]
        fn queries_of_version_2_that_are_emitted_are_parsed(
            code in any::<u16>(),
            interval_code in any::<u8>(),
            suppress in any::<bool>(),
            robustness in 0_u8..8,
            sources in proptest::collection::vec(any::<[u8; 16]>(), 0..20),
        ) {
            let query = Message::Query(Query {
                version: Version::V2,
                group: GROUP,
                max_response_code: code,
                tail: QueryTail {
                    suppress,
                    robustness,
                    interval_code,
                    sources: &sources,
                },
            });
            let octets = octets(&query);
            prop_assert_eq!(Message::parse(&octets), Ok(query));
        }

        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Message::parse(&octets);
        }
    }
}
