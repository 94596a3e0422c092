//! IGMP, versions 1 to 3 (RFC 1112 appendix I, RFC 2236 2, RFC 3376 4).
//!
//! Owns the octets of the messages and their checksum, and how a query's version is told (RFC 3376 7.1). Leaves to
//! `ip::multicast` what they mean, and to `ip` the IP header around them.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     Type      | Max resp code |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |  Group; in a report of version 3 reserved, number of records  |
//! +-------+-+-----+---------------+-------------------------------+  of a query of
//! | Resv  |S| QRV |     QQIC      |       Number of sources       |  version 3 alone
//! +-------+-+-----+---------------+-------------------------------+
//! |  Sources, or the records of a report of version 3             |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use tidewire_netdev::checksum::Sum;

use crate::wire::ParseError;
use crate::wire::group_record::{QueryTail, Record, Records, decode_8_bits, emit_all};

/// Octets of a message of versions 1 and 2, and of a report of version 3 without records.
pub const HEADER_LEN: usize = 8;
/// Octets of a query of version 3 without sources.
pub const QUERY_V3_LEN: usize = 12;
/// The hosts of a link, which every host listens to and nobody reports (RFC 1112 4).
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// The routers of a link, whom a version 2 host tells that it leaves (RFC 2236 3).
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// Where reports of version 3 go (RFC 3376 4.2.14).
pub const ALL_V3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// Message types.
pub mod kind {
    /// Membership query, all versions.
    pub const QUERY: u8 = 0x11;
    /// Report of version 1.
    pub const REPORT_V1: u8 = 0x12;
    /// Report of version 2.
    pub const REPORT_V2: u8 = 0x16;
    /// Leave group, version 2.
    pub const LEAVE: u8 = 0x17;
    /// Report of version 3.
    pub const REPORT_V3: u8 = 0x22;
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 1112: no leaving, no times in queries.
    V1,
    /// RFC 2236: no sources.
    V2,
    /// RFC 3376.
    V3,
}

/// A query, of any version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query<'a> {
    /// The version that it is of.
    pub version: Version,
    /// Which group is asked for; 0.0.0.0 for all.
    pub group: Ipv4Addr,
    /// The time for answers as it is sent; of no meaning in version 1, where it is 0.
    pub max_response_code: u8,
    /// What version 3 adds; all of it zero in older ones.
    pub tail: QueryTail<'a, 4>,
}

impl Query<'_> {
    /// The time within which it is to be answered (RFC 3376 4.1.1): 10 s in version 1 (RFC 1112 appendix I).
    pub const fn max_response(&self) -> Duration {
        let tenths = match self.version {
            Version::V1 => 100,
            Version::V2 => self.max_response_code as u32,
            Version::V3 => decode_8_bits(self.max_response_code),
        };
        Duration::from_millis(tenths as u64 * 100)
    }

    /// The time between general queries (RFC 3376 4.1.7); 0 if unknown.
    pub const fn interval(&self) -> Duration {
        Duration::from_secs(decode_8_bits(self.tail.interval_code) as u64)
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A router asks.
    Query(Query<'a>),
    /// A host listens to a group: version 1 or 2.
    Report {
        /// The version that it is of.
        version: Version,
        /// The group.
        group: Ipv4Addr,
    },
    /// A host leaves a group: version 2.
    Leave {
        /// The group.
        group: Ipv4Addr,
    },
    /// A host says what it listens to: version 3.
    ReportV3(Records<'a, 4>),
}

impl<'a> Message<'a> {
    /// Reads a message, which is all of `octets`, and verifies its checksum.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer octets than it says or needs, [`ParseError::Checksum`],
    /// [`ParseError::Malformed`] for another type, a group that is none, and a query of a length that no version has
    /// (RFC 3376 7.1).
    pub fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let &[kind, code, _, _, a, b, c, d] = octets
            .first_chunk::<HEADER_LEN>()
            .ok_or(ParseError::Truncated)?;
        if checksum(octets) != 0 {
            return Err(ParseError::Checksum);
        }
        let group = Ipv4Addr::new(a, b, c, d);
        let is_group = |message| {
            if group.is_multicast() {
                Ok(message)
            } else {
                Err(ParseError::Malformed)
            }
        };
        match kind {
            kind::QUERY if group.is_unspecified() || group.is_multicast() => {
                parse_query(octets, code, group).map(Self::Query)
            }
            kind::REPORT_V1 => is_group(Self::Report {
                version: Version::V1,
                group,
            }),
            kind::REPORT_V2 => is_group(Self::Report {
                version: Version::V2,
                group,
            }),
            kind::LEAVE => is_group(Self::Leave { group }),
            kind::REPORT_V3 => {
                let count = u16::from_be_bytes([c, d]);
                Records::parse(&octets[HEADER_LEN..], count).map(Self::ReportV3)
            }
            _ => Err(ParseError::Malformed),
        }
    }

    /// Octets that [`Self::emit`] writes.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Query(query) if query.version == Version::V3 => {
                HEADER_LEN + query.tail.encoded_len()
            }
            Self::Query(_) | Self::Report { .. } | Self::Leave { .. } => HEADER_LEN,
            Self::ReportV3(records) => {
                HEADER_LEN + records.map(|record| record.encoded_len()).sum::<usize>()
            }
        }
    }

    /// Writes the message with its checksum into the front of `buffer`.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`Self::encoded_len`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let buffer = &mut buffer[..self.encoded_len()];
        let (kind, code, group) = match *self {
            Self::Query(query) => (kind::QUERY, query.max_response_code, query.group),
            Self::Report {
                version: Version::V1,
                group,
            } => (kind::REPORT_V1, 0, group),
            Self::Report { group, .. } => (kind::REPORT_V2, 0, group),
            Self::Leave { group } => (kind::LEAVE, 0, group),
            Self::ReportV3(records) => {
                let records: Vec<_> = records.collect();
                return emit_report(&records, buffer);
            }
        };
        buffer[..4].copy_from_slice(&[kind, code, 0, 0]);
        buffer[4..HEADER_LEN].copy_from_slice(&group.octets());
        if let Self::Query(query) = self
            && query.version == Version::V3
        {
            query.tail.emit(&mut buffer[HEADER_LEN..]);
        }
        fill_checksum(buffer);
    }
}

/// Octets of a report of version 3 with these records.
pub fn report_len(records: &[Record<'_, 4>]) -> usize {
    HEADER_LEN + records.iter().map(Record::encoded_len).sum::<usize>()
}

/// Writes a report of version 3 with its checksum into the front of `buffer`; at most 65,535 records.
///
/// # Panics
/// When `buffer` is shorter than [`report_len`].
pub fn emit_report(records: &[Record<'_, 4>], buffer: &mut [u8]) {
    let buffer = &mut buffer[..report_len(records)];
    let [high, low] = (records.len() as u16).to_be_bytes();
    buffer[..HEADER_LEN].copy_from_slice(&[kind::REPORT_V3, 0, 0, 0, 0, 0, high, low]);
    emit_all(records, &mut buffer[HEADER_LEN..]);
    fill_checksum(buffer);
}

/// RFC 3376 7.1: the length tells the version, and in 8 octets the time for answers does.
fn parse_query(octets: &[u8], code: u8, group: Ipv4Addr) -> Result<Query<'_>, ParseError> {
    let query = Query {
        version: if code == 0 { Version::V1 } else { Version::V2 },
        group,
        max_response_code: code,
        tail: QueryTail::default(),
    };
    if octets.len() == HEADER_LEN {
        return Ok(query);
    }
    Ok(Query {
        version: Version::V3,
        tail: QueryTail::parse(&octets[HEADER_LEN..])?,
        ..query
    })
}

fn checksum(octets: &[u8]) -> u16 {
    let mut sum = Sum::new();
    sum.add_bytes(octets);
    sum.finish()
}

/// Fills in the checksum of a message whose field is 0.
fn fill_checksum(message: &mut [u8]) {
    let checksum = checksum(message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::group_record::RecordKind;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    fn octets(message: &Message<'_>) -> Vec<u8> {
        let mut buffer = vec![0xff; message.encoded_len()];
        message.emit(&mut buffer);
        buffer
    }

    /// With its checksum made right.
    fn summed(octets: &[u8]) -> Vec<u8> {
        let mut octets = octets.to_vec();
        octets[2..4].fill(0);
        fill_checksum(&mut octets);
        octets
    }

    fn query(version: Version) -> Query<'static> {
        Query {
            version,
            group: GROUP,
            max_response_code: 0,
            tail: QueryTail::default(),
        }
    }

    #[test]
    fn messages_lie_as_the_rfcs_draw_them() {
        let report = |version| Message::Report {
            version,
            group: GROUP,
        };
        // RFC 1112 appendix I, RFC 2236 2: checksums by hand.
        let cases = [
            (report(Version::V1), [0x12, 0, 0xfc, 0xfa, 239, 1, 2, 3]),
            (report(Version::V2), [0x16, 0, 0xf8, 0xfa, 239, 1, 2, 3]),
            (
                Message::Leave { group: GROUP },
                [0x17, 0, 0xf7, 0xfa, 239, 1, 2, 3],
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(octets(&message), expected);
            assert_eq!(Message::parse(&expected), Ok(message));
        }
    }

    #[test]
    fn the_length_tells_the_version_of_a_query() {
        // RFC 3376 7.1.
        let v1 = summed(&[0x11, 0, 0, 0, 0, 0, 0, 0]);
        let v2 = summed(&[0x11, 100, 0, 0, 239, 1, 2, 3]);
        let v3 = summed(&[
            0x11, 0x8f, 0, 0, 239, 1, 2, 3, 0x0a, 0x80, 0, 1, 10, 0, 0, 9, 0xee,
        ]);
        let Ok(Message::Query(first)) = Message::parse(&v1) else {
            panic!("a query of version 1");
        };
        assert_eq!(
            (first.version, first.group),
            (Version::V1, Ipv4Addr::UNSPECIFIED)
        );
        assert_eq!(first.max_response(), Duration::from_secs(10));
        let Ok(Message::Query(second)) = Message::parse(&v2) else {
            panic!("a query of version 2");
        };
        assert_eq!((second.version, second.group), (Version::V2, GROUP));
        assert_eq!(second.max_response(), Duration::from_secs(10));
        let Ok(Message::Query(third)) = Message::parse(&v3) else {
            panic!("a query of version 3");
        };
        assert_eq!(third.version, Version::V3);
        assert_eq!(third.max_response(), Duration::from_millis(24_800));
        assert_eq!(third.interval(), Duration::from_secs(128));
        assert!(third.tail.suppress && third.tail.robustness == 2);
        assert_eq!(third.tail.sources, [[10, 0, 0, 9]]);
        for len in 9..12 {
            let mut octets = v1.clone();
            octets.resize(len, 0);
            assert_eq!(Message::parse(&octets), Err(ParseError::Malformed), "{len}");
        }
    }

    #[test]
    fn what_is_cut_short_or_damaged_is_refused() {
        let report = summed(&[0x16, 0, 0, 0, 239, 1, 2, 3]);
        assert_eq!(Message::parse(&report[..7]), Err(ParseError::Truncated));
        let mut damaged = report;
        damaged[7] ^= 1;
        assert_eq!(Message::parse(&damaged), Err(ParseError::Checksum));
        let cases = [
            // A host's address where a group belongs.
            (summed(&[0x16, 0, 0, 0, 10, 0, 0, 1]), ParseError::Malformed),
            (summed(&[0x11, 9, 0, 0, 10, 0, 0, 1]), ParseError::Malformed),
            // DVMRP.
            (summed(&[0x13, 0, 0, 0, 0, 0, 0, 0]), ParseError::Malformed),
            // One source, of which two octets are there.
            (
                summed(&[0x11, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 10, 0]),
                ParseError::Truncated,
            ),
            // One record, which is not there.
            (summed(&[0x22, 0, 0, 0, 0, 0, 0, 1]), ParseError::Truncated),
        ];
        for (octets, expected) in cases {
            assert_eq!(Message::parse(&octets), Err(expected), "{octets:?}");
        }
    }

    #[test]
    fn a_report_of_version_3_is_a_list_of_records() {
        let records = [
            Record {
                kind: RecordKind::ToExclude,
                group: GROUP.octets(),
                sources: &[],
            },
            Record {
                kind: RecordKind::AllowNew,
                group: [232, 0, 0, 1],
                sources: &[[10, 0, 0, 8], [10, 0, 0, 9]],
            },
        ];
        let mut buffer = vec![0xff; report_len(&records)];
        emit_report(&records, &mut buffer);
        let expected = [
            0x22, 0, 0, 0, 0, 0, 0, 2, //
            4, 0, 0, 0, 239, 1, 2, 3, //
            5, 0, 0, 2, 232, 0, 0, 1, 10, 0, 0, 8, 10, 0, 0, 9,
        ];
        assert_eq!(buffer, summed(&expected));
        let Ok(Message::ReportV3(parsed)) = Message::parse(&buffer) else {
            panic!("a report of version 3");
        };
        assert_eq!(parsed.collect::<Vec<_>>(), records);
        assert_eq!(octets(&Message::ReportV3(parsed)), buffer);
    }

    proptest! {
        #[test]
        fn queries_of_version_3_that_are_emitted_are_parsed(
            codes in any::<(u8, u8)>(),
            suppress in any::<bool>(),
            robustness in 0_u8..8,
            sources in proptest::collection::vec(any::<[u8; 4]>(), 0..20),
        ) {
            let query = Message::Query(Query {
                max_response_code: codes.0,
                tail: QueryTail {
                    suppress,
                    robustness,
                    interval_code: codes.1,
                    sources: &sources,
                },
                ..query(Version::V3)
            });
            let octets = octets(&query);
            prop_assert_eq!(Message::parse(&octets), Ok(query));
        }

        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 8..60)) {
            let _ = Message::parse(&octets);
            let _ = Message::parse(&summed(&octets));
        }
    }
}
