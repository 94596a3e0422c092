//! Multicast Listener Discovery's packets: what is received as [`Received`], what is to be said as IPv6 packets (RFC
//! 3810 5, RFC 2710 3).

use std::net::{IpAddr, Ipv6Addr};

use tidewire_netdev::Packet;
use tidewire_netdev::checksum::{pseudo_header_v6, sum_packet};

use super::{Config, Message, Query, Received, Version, asked_sources, pack};
use crate::ip::input::IpPacket;
use crate::stats::DropReason;
use crate::wire::{icmpv6, ipv6, mld, ndp, protocol};

/// Reads the message that is all of `octets`, from the ICMPv6 header on, its checksum verified.
///
/// # Errors
/// [`DropReason::BadSource`] for one that does not come from the link: it has been forwarded, or pretends (RFC 3810
/// 6.2): neither a link-local source, nor a hop limit of 1, nor a router alert may be missing.
/// [`DropReason::Malformed`] for what is no message of either version.
pub fn receive(ip: &IpPacket, octets: &[u8], config: &Config) -> Result<Received, DropReason> {
    let IpAddr::V6(source) = ip.source else {
        return Err(DropReason::Malformed);
    };
    if ip.hop_limit != mld::HOP_LIMIT || !has_router_alert(ip.header()) {
        return Err(DropReason::BadSource);
    }
    let message = mld::Message::parse(octets).map_err(|_| DropReason::Malformed)?;
    let is_query = matches!(message, mld::Message::Query(_));
    // RFC 3590 4: a host without an address yet reports from the unspecified one.
    if !source.is_unicast_link_local() && (is_query || !source.is_unspecified()) {
        return Err(DropReason::BadSource);
    }
    Ok(match message {
        mld::Message::Query(query) => Received::Query(Query {
            version: match query.version {
                mld::Version::V1 => Version::Older,
                mld::Version::V2 => Version::Current,
            },
            group: (!query.group.is_unspecified()).then_some(IpAddr::V6(query.group)),
            max_response: query.max_response(),
            robustness: query.tail.robustness,
            interval: query.interval(),
            sources: asked_sources(query.tail.sources, config),
        }),
        mld::Message::Report { group } => Received::Report(group.into()),
        mld::Message::Done { .. } | mld::Message::ReportV2(_) => Received::Nothing,
    })
}

/// The packets that say it, from the IPv6 header on, each with the group it goes to; none for what is about IPv4.
/// `source` is a link-local address of the interface, or `::` while it has none (RFC 3810 5.2.13).
pub fn packets(message: &Message, source: Ipv6Addr, mtu: usize) -> Vec<(Ipv6Addr, Packet)> {
    let (destination, message) = match *message {
        Message::Report {
            group: IpAddr::V6(group),
            ..
        } => (group, mld::Message::Report { group }),
        Message::Leave {
            group: IpAddr::V6(group),
        } => (ndp::ALL_ROUTERS, mld::Message::Done { group }),
        Message::State {
            is_v6: true,
            ref records,
        } => {
            let headers = ipv6::HEADER_LEN + ROUTER_ALERT.len() + mld::REPORT_LEN;
            let reports = pack(
                records,
                mtu.saturating_sub(headers),
                |address| match address {
                    IpAddr::V6(v6) => Some(v6.octets()),
                    IpAddr::V4(_) => None,
                },
            );
            return reports
                .iter()
                .map(|report| {
                    let records: Vec<_> = report.iter().map(|record| record.as_record()).collect();
                    let mut octets = vec![0; mld::report_len(&records)];
                    mld::emit_report(&records, &mut octets);
                    (
                        mld::ALL_V2_ROUTERS,
                        packet(octets, source, mld::ALL_V2_ROUTERS),
                    )
                })
                .collect();
        }
        Message::Report { .. } | Message::Leave { .. } | Message::State { .. } => {
            return Vec::new();
        }
    };
    let mut octets = vec![0; message.encoded_len()];
    message.emit(&mut octets);
    vec![(destination, packet(octets, source, destination))]
}

/// A hop-by-hop header in front of ICMPv6 with the router alert option (RFC 2711 2.1: 0 for MLD), padded.
const ROUTER_ALERT: [u8; 8] = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];

fn packet(mut message: Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr) -> Packet {
    let len = message.len() as u32;
    let mut body = Packet::new();
    body.push(message.clone().into());
    let mut sum = pseudo_header_v6(source, destination, protocol::ICMPV6, len);
    sum.add_u16(sum_packet(&body, 0).fold());
    let field = icmpv6::CHECKSUM_OFFSET..icmpv6::CHECKSUM_OFFSET + 2;
    message[field].copy_from_slice(&sum.finish().to_be_bytes());
    let mut packet = Packet::new();
    packet.push(message.into());
    packet
        .prepend(ROUTER_ALERT.len())
        .copy_from_slice(&ROUTER_ALERT);
    let header = ipv6::Header {
        source,
        destination,
        traffic_class: 0,
        flow_label: 0,
        payload_len: packet.len() as u16,
        next_header: protocol::HOP_BY_HOP,
        hop_limit: mld::HOP_LIMIT,
    };
    header.emit(packet.prepend(ipv6::HEADER_LEN));
    packet
}

/// Whether the IPv6 header, with the extension headers behind it, has the router alert option (RFC 2711 2.1).
fn has_router_alert(header: &[u8]) -> bool {
    let Some((fixed, rest)) = header.split_at_checked(ipv6::HEADER_LEN) else {
        return false;
    };
    let Some([_, units, ..]) = rest.first_chunk::<8>() else {
        return false;
    };
    let len = (usize::from(*units) + 1) * 8;
    let Some(mut options) = rest
        .get(2..len)
        .filter(|_| fixed[6] == protocol::HOP_BY_HOP)
    else {
        return false;
    };
    loop {
        options = match options {
            [5, 2, ..] => return true,
            // Padding of one octet.
            [0, rest @ ..] => rest,
            [_, len, rest @ ..] if rest.len() >= usize::from(*len) => &rest[usize::from(*len)..],
            _ => return false,
        };
    }
}
