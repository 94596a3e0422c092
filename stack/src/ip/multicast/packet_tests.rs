//! Packets of IGMP and MLD, octet by octet, and what of received ones is believed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::ip::input::{self, Arrival};
use crate::stats::DropReason;
use crate::wire::group_record::QueryTail;
use crate::wire::{igmp as igmp_wire, ipv4, ipv6, mld as mld_wire};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 3);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn joined(group: IpAddr) -> Message {
    Message::State {
        is_v6: group.is_ipv6(),
        records: vec![GroupRecord {
            kind: RecordKind::ToExclude,
            group,
            sources: Vec::new(),
        }],
    }
}

#[test]
fn igmp_goes_out_with_ttl_1_and_router_alert() {
    // RFC 3376 4, 4.2.14; RFC 2236 9 for where older messages go.
    let source = Ipv4Addr::new(10, 0, 0, 1);
    let older = Message::Report {
        version: Version::Older,
        group: GROUP_V4.into(),
    };
    let first = Message::Report {
        version: Version::Igmpv1,
        group: GROUP_V4.into(),
    };
    let leave = Message::Leave {
        group: GROUP_V4.into(),
    };
    let cases = [
        (joined(GROUP_V4.into()), "224.0.0.22", 0x22),
        (older, "239.1.2.3", 0x16),
        (first, "239.1.2.3", 0x12),
        (leave, "224.0.0.2", 0x17),
    ];
    for (message, destination, kind) in cases {
        let packets = igmp::packets(&message, source, 1500);
        let [(to, packet)] = &packets[..] else {
            panic!("{message:?}");
        };
        let octets = packet.to_bytes();
        let (header, len) = ipv4::Header::parse(&octets).unwrap();
        assert_eq!(*to, destination.parse::<Ipv4Addr>().unwrap());
        assert_eq!((header.source, header.destination), (source, *to));
        assert_eq!((header.ttl, header.tos, header.protocol), (1, 0xc0, 2));
        assert_eq!(header.options.octets(), [148, 4, 0, 0]);
        assert_eq!(usize::from(header.total_len), octets.len());
        let parsed = igmp_wire::Message::parse(&octets[len..]);
        assert!(parsed.is_ok() && octets[len] == kind, "{parsed:?}");
    }
    assert!(igmp::packets(&joined(GROUP_V6.into()), source, 1500).is_empty());
}

#[test]
fn mld_goes_out_with_hop_limit_1_and_router_alert() {
    // RFC 3810 5, 5.2.14; RFC 2710 5.
    let older = Message::Report {
        version: Version::Older,
        group: GROUP_V6.into(),
    };
    let done = Message::Leave {
        group: GROUP_V6.into(),
    };
    let cases = [
        (joined(GROUP_V6.into()), "ff02::16", 143),
        (older, "ff05::3", 131),
        (done, "ff02::2", 132),
    ];
    for (message, destination, kind) in cases {
        let packets = mld::packets(&message, LINK_LOCAL, 1500);
        let [(to, packet)] = &packets[..] else {
            panic!("{message:?}");
        };
        assert_eq!(*to, destination.parse::<Ipv6Addr>().unwrap());
        let octets = packet.to_bytes();
        assert_eq!(octets[40..48], [58, 0, 5, 2, 0, 0, 1, 0]);
        let mut packet = packet.clone();
        let ip = input::parse(&mut packet, Arrival::Wire).unwrap();
        assert_eq!((ip.source, ip.hop_limit), (LINK_LOCAL.into(), 1));
        assert_eq!((ip.destination, ip.protocol), (IpAddr::V6(*to), 58));
        // The checksum is right: so says who verifies it.
        let parsed = crate::ip::icmp::parse(&ip, &mut packet).unwrap();
        assert!(matches!(parsed, crate::ip::icmp::Message::OtherV6(_)));
        assert_eq!(packet.to_bytes()[0], kind);
        let received = mld::receive(&ip, &packet.to_bytes(), &Config::default());
        let expected = match kind {
            131 => Received::Report(GROUP_V6.into()),
            _ => Received::Nothing,
        };
        assert_eq!(received, Ok(expected));
    }
    assert!(mld::packets(&joined(GROUP_V4.into()), LINK_LOCAL, 1500).is_empty());
}

#[test]
fn listener_queries_from_beyond_the_link_are_not_believed() {
    // RFC 3810 6.2: link-local source, hop limit 1, router alert.
    let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let alert = [58, 0, 5, 2, 0, 0, 1, 0];
    let padding = [58, 0, 1, 4, 0, 0, 0, 0];
    let late_alert = [58, 0, 0, 0, 5, 2, 0, 0];
    let cases = [
        (LINK_LOCAL, 1, Some(alert), true),
        (LINK_LOCAL, 1, Some(late_alert), true),
        (global, 1, Some(alert), false),
        (Ipv6Addr::UNSPECIFIED, 1, Some(alert), false),
        (LINK_LOCAL, 255, Some(alert), false),
        (LINK_LOCAL, 1, Some(padding), false),
        (LINK_LOCAL, 1, None, false),
    ];
    for (source, hop_limit, options, is_believed) in cases {
        let query = mld_wire::Message::Query(mld_wire::Query {
            version: mld_wire::Version::V2,
            group: Ipv6Addr::UNSPECIFIED,
            max_response_code: 1000,
            tail: QueryTail {
                suppress: false,
                robustness: 2,
                interval_code: 125,
                sources: &[],
            },
        });
        let mut packet = tidewire_netdev::Packet::new();
        query.emit(packet.prepend(query.encoded_len()));
        if let Some(options) = options {
            packet.prepend(8).copy_from_slice(&options);
        }
        let header = ipv6::Header {
            source,
            destination: crate::wire::ndp::ALL_NODES,
            traffic_class: 0,
            flow_label: 0,
            payload_len: packet.len() as u16,
            next_header: if options.is_some() { 0 } else { 58 },
            hop_limit,
        };
        header.emit(packet.prepend(ipv6::HEADER_LEN));
        let ip = input::parse(&mut packet, Arrival::Wire).unwrap();
        let received = mld::receive(&ip, &packet.to_bytes(), &Config::default());
        let expected = Query {
            version: Version::Current,
            group: None,
            max_response: Duration::from_secs(1),
            robustness: 2,
            interval: Duration::from_secs(125),
            sources: Vec::new(),
        };
        let expected = if is_believed {
            Ok(Received::Query(expected))
        } else {
            Err(DropReason::BadSource)
        };
        assert_eq!(received, expected, "{source} {hop_limit} {options:?}");
    }
}

#[test]
fn igmp_is_told_by_version() {
    let group = igmp_wire::Query {
        version: igmp_wire::Version::V3,
        group: GROUP_V4,
        max_response_code: 10,
        tail: QueryTail {
            suppress: false,
            robustness: 3,
            interval_code: 60,
            sources: &[[10, 0, 0, 9]],
        },
    };
    let octets = |query| {
        let message = igmp_wire::Message::Query(query);
        let mut octets = vec![0; message.encoded_len()];
        message.emit(&mut octets);
        octets
    };
    let config = Config::default();
    let expected = Query {
        version: Version::Current,
        group: Some(GROUP_V4.into()),
        max_response: Duration::from_secs(1),
        robustness: 3,
        interval: Duration::from_secs(60),
        sources: vec![IpAddr::from([10, 0, 0, 9])],
    };
    assert_eq!(
        igmp::receive(&octets(group), &config),
        Ok(Received::Query(expected.clone()))
    );
    // More sources than are answered one by one ask for the group.
    let many = vec![[10, 0, 0, 9]; 65];
    let many = igmp_wire::Query {
        tail: QueryTail {
            sources: &many,
            ..group.tail
        },
        ..group
    };
    let expected = Query {
        sources: Vec::new(),
        ..expected
    };
    assert_eq!(
        igmp::receive(&octets(many), &config),
        Ok(Received::Query(expected))
    );
    let report = [0x16, 0, 0xf8, 0xfa, 239, 1, 2, 3];
    assert_eq!(
        igmp::receive(&report, &config),
        Ok(Received::Report(GROUP_V4.into()))
    );
    let damaged = [0x16, 0, 0xf8, 0xfb, 239, 1, 2, 3];
    assert_eq!(igmp::receive(&damaged, &config), Err(DropReason::Checksum));
}

#[test]
fn reports_fit_into_the_mtu() {
    // RFC 3376 4.2.16: what excludes is cut, everything else divided.
    let sources: Vec<_> = (0..100_u8).map(|n| IpAddr::from([10, 0, 0, n])).collect();
    let record = |kind| GroupRecord {
        kind,
        group: GROUP_V4.into(),
        sources: sources.clone(),
    };
    let message = Message::State {
        is_v6: false,
        records: vec![
            record(RecordKind::AllowNew),
            record(RecordKind::IsExclude),
            record(RecordKind::BlockOld),
        ],
    };
    let packets = igmp::packets(&message, Ipv4Addr::UNSPECIFIED, 200);
    let mut allowed = Vec::new();
    let mut excluded = 0;
    for (_, packet) in &packets {
        let octets = packet.to_bytes();
        assert!(octets.len() <= 200);
        let Ok(igmp_wire::Message::ReportV3(records)) = igmp_wire::Message::parse(&octets[24..])
        else {
            panic!("a report");
        };
        for record in records {
            match record.kind {
                RecordKind::AllowNew => allowed.extend(record.sources.to_vec()),
                RecordKind::IsExclude => excluded += record.sources.len(),
                _ => {}
            }
        }
    }
    let expected: Vec<_> = (0..100_u8).map(|n| [10, 0, 0, n]).collect();
    assert_eq!(allowed, expected);
    assert!((1..100).contains(&excluded), "{excluded}");
    // Many groups of one record each.
    let records = (0..200_u8).map(|n| GroupRecord {
        kind: RecordKind::ToExclude,
        group: IpAddr::from([239, 0, 0, n]),
        sources: Vec::new(),
    });
    let message = Message::State {
        is_v6: false,
        records: records.collect(),
    };
    let packets = igmp::packets(&message, Ipv4Addr::UNSPECIFIED, 1500);
    assert_eq!(packets.len(), 2);
}
