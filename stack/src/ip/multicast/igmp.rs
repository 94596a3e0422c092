//! IGMP's packets: what is received as [`Received`], what is to be said as IPv4 packets (RFC 3376 4, RFC 2236 2).

use std::net::{IpAddr, Ipv4Addr};

use tidewire_netdev::Packet;

use super::{Config, Message, Query, Received, Version, asked_sources, pack};
use crate::stats::DropReason;
use crate::wire::{ParseError, igmp, ipv4, protocol};

/// Reads the message that is all of `octets`, from behind the IPv4 header.
///
/// # Errors
/// [`DropReason::Checksum`], [`DropReason::Malformed`] for what is no message of any version.
pub fn receive(octets: &[u8], config: &Config) -> Result<Received, DropReason> {
    let message = igmp::Message::parse(octets).map_err(|error| match error {
        ParseError::Checksum => DropReason::Checksum,
        ParseError::Truncated | ParseError::Malformed => DropReason::Malformed,
    })?;
    Ok(match message {
        igmp::Message::Query(query) => Received::Query(Query {
            version: match query.version {
                igmp::Version::V1 => Version::Igmpv1,
                igmp::Version::V2 => Version::Older,
                igmp::Version::V3 => Version::Current,
            },
            // RFC 1112 appendix I: a query of version 1 has no group, whatever stands there.
            group: (query.version != igmp::Version::V1 && !query.group.is_unspecified())
                .then_some(IpAddr::V4(query.group)),
            max_response: query.max_response(),
            robustness: query.tail.robustness,
            interval: query.interval(),
            sources: asked_sources(query.tail.sources, config),
        }),
        igmp::Message::Report { group, .. } => Received::Report(group.into()),
        igmp::Message::Leave { .. } | igmp::Message::ReportV3(_) => Received::Nothing,
    })
}

/// The packets that say it, from the IPv4 header on, each with the group it goes to; none for what is about IPv6.
/// `source` is the interface's address, or 0.0.0.0 (RFC 3376 4.2.13).
pub fn packets(message: &Message, source: Ipv4Addr, mtu: usize) -> Vec<(Ipv4Addr, Packet)> {
    let wire = match *message {
        Message::Report {
            version,
            group: IpAddr::V4(group),
        } => {
            let version = match version {
                Version::Igmpv1 => igmp::Version::V1,
                Version::Older | Version::Current => igmp::Version::V2,
            };
            (group, igmp::Message::Report { version, group })
        }
        Message::Leave {
            group: IpAddr::V4(group),
        } => (igmp::ALL_ROUTERS, igmp::Message::Leave { group }),
        Message::State {
            is_v6: false,
            ref records,
        } => {
            let room = mtu.saturating_sub(HEADER_LEN + igmp::HEADER_LEN);
            let reports = pack(records, room, |address| match address {
                IpAddr::V4(v4) => Some(v4.octets()),
                IpAddr::V6(_) => None,
            });
            return reports
                .iter()
                .map(|report| {
                    let records: Vec<_> = report.iter().map(|record| record.as_record()).collect();
                    let mut packet = Packet::new();
                    let mut octets = vec![0; igmp::report_len(&records)];
                    igmp::emit_report(&records, &mut octets);
                    packet.push(octets.into());
                    prepend(&mut packet, source, igmp::ALL_V3_ROUTERS);
                    (igmp::ALL_V3_ROUTERS, packet)
                })
                .collect();
        }
        Message::Report { .. } | Message::Leave { .. } | Message::State { .. } => {
            return Vec::new();
        }
    };
    let (destination, message) = wire;
    let mut packet = Packet::new();
    message.emit(packet.prepend(message.encoded_len()));
    prepend(&mut packet, source, destination);
    vec![(destination, packet)]
}

/// Octets of the IPv4 header with router alert.
const HEADER_LEN: usize = ipv4::HEADER_LEN + ROUTER_ALERT.len();
/// RFC 2113 2.1.
const ROUTER_ALERT: [u8; 4] = [ipv4::option_kind::ROUTER_ALERT, 4, 0, 0];
/// Internetwork control (RFC 3376 4).
const PRECEDENCE: u8 = 0xc0;

/// The IPv4 header that every such message has (RFC 3376 4): TTL 1, router alert.
fn prepend(packet: &mut Packet, source: Ipv4Addr, destination: Ipv4Addr) {
    let header = ipv4::Header {
        source,
        destination,
        protocol: protocol::IGMP,
        ttl: 1,
        tos: PRECEDENCE,
        total_len: (packet.len() + HEADER_LEN) as u16,
        identification: 0,
        // RFC 6864 4.1: an atomic datagram's identification means nothing.
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        options: ipv4::Options::new(&ROUTER_ALERT).unwrap_or_default(),
    };
    header.emit(packet.prepend(HEADER_LEN));
}
