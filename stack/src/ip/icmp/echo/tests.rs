use bytes::Bytes;

use super::*;
use crate::ip::InterfaceId;
use crate::ip::address::{AddressTable, InterfaceAddress};
use crate::ip::icmp::{Message, parse};
use crate::ip::input::{self, Arrival};
use crate::ip::output;
use crate::stats::DropReason;

fn addresses() -> AddressTable {
    let mut table = AddressTable::new();
    for cidr in ["10.0.0.2/24", "2001:db8::2/64"] {
        table.insert(InterfaceAddress::new(InterfaceId(2), cidr.parse().unwrap()));
    }
    table
}

fn request(source: &str, destination: &str, traffic_class: u8) -> Packet {
    let (source, destination): (IpAddr, IpAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let mut packet = Packet::from_bytes(Bytes::from_static(b"some odd data"));
    let area = packet.prepend(8);
    let (identifier, sequence) = (0x1234, 7);
    let protocol = match source {
        IpAddr::V4(_) => {
            icmpv4::Message::EchoRequest {
                identifier,
                sequence,
            }
            .emit(area);
            protocol::ICMPV4
        }
        IpAddr::V6(_) => {
            icmpv6::Message::EchoRequest {
                identifier,
                sequence,
            }
            .emit(area);
            protocol::ICMPV6
        }
    };
    fill_checksum(source, destination, &mut packet);
    let header = OutputHeader {
        traffic_class,
        ..OutputHeader::new(source, destination, protocol)
    };
    output::prepend(&mut packet, &header).unwrap();
    packet
}

fn answer(mut request: Packet, fallback_source: Option<IpAddr>) -> Option<Outgoing> {
    let ip = input::parse(&mut request, Arrival::Wire).unwrap();
    let Ok(Message::EchoRequest(echo)) = parse(&ip, &mut request) else {
        panic!("not an echo request");
    };
    let addresses = addresses();
    let responder = Responder {
        addresses: &addresses,
        fallback_source,
        is_link_broadcast: false,
    };
    reply(&ip, &request, echo, &responder)
}

#[test]
fn a_reply_has_the_data_the_type_of_service_and_a_good_checksum() {
    // RFC 1122 3.2.2.6, RFC 4443 4.2
    for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
        let mut reply = answer(request(source, destination, 0xbb), None).unwrap();
        assert_eq!(reply.header.traffic_class, 0xb8);
        output::prepend(&mut reply.packet, &reply.header).unwrap();
        let mut packet = Packet::from_bytes(reply.packet.to_bytes());
        let ip = input::parse(&mut packet, Arrival::Wire).unwrap();
        assert_eq!(
            (ip.source.to_string(), ip.destination.to_string()),
            (destination.into(), source.into())
        );
        let echo = Echo {
            identifier: 0x1234,
            sequence: 7,
        };
        assert_eq!(parse(&ip, &mut packet), Ok(Message::EchoReply(echo)));
        assert_eq!(&packet.to_bytes()[8..], b"some odd data");
    }
}

#[test]
fn requests_to_many_are_answered_in_ipv6_only() {
    let own: IpAddr = "2001:db8::2".parse().unwrap();
    assert!(answer(request("10.0.0.1", "10.0.0.255", 0), None).is_none());
    assert!(answer(request("10.0.0.1", "224.0.0.1", 0), None).is_none());
    assert!(answer(request("10.0.0.1", "10.0.0.3", 0), None).is_none());
    assert!(answer(request("2001:db8::1", "ff02::1", 0), None).is_none());
    let reply = answer(request("2001:db8::1", "ff02::1", 0), Some(own)).unwrap();
    assert_eq!(reply.header.source, own);
    assert!(answer(request("::", "2001:db8::2", 0), Some(own)).is_none());
}

#[test]
fn a_wrong_checksum_or_version_is_refused() {
    let strip = |mut packet: Packet, change: &dyn Fn(&mut Vec<u8>)| {
        let ip = input::parse(&mut packet, Arrival::Wire).unwrap();
        let mut octets = packet.to_bytes().to_vec();
        change(&mut octets);
        parse(&ip, &mut Packet::from_bytes(octets.into()))
    };
    for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
        let flip = |octets: &mut Vec<u8>| octets[9] ^= 1;
        let result = strip(request(source, destination, 0), &flip);
        assert_eq!(result, Err(DropReason::Checksum));
        let cut = |octets: &mut Vec<u8>| octets.truncate(7);
        let result = strip(request(source, destination, 0), &cut);
        assert_eq!(result, Err(DropReason::Malformed));
    }
    let mut packet = request("10.0.0.1", "10.0.0.2", 0);
    let mut ip = input::parse(&mut packet, Arrival::Wire).unwrap();
    ip.protocol = protocol::ICMPV6;
    assert_eq!(parse(&ip, &mut packet), Err(DropReason::UnknownProtocol));
}
