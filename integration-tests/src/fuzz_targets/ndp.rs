//! Neighbor Discovery messages and their options.

use std::net::Ipv6Addr;

use tidewire::ip::InterfaceId;
use tidewire::neighbor::ndp::{self as neighbor_ndp, Arrival, Received};
use tidewire::wire::ndp::{HOP_LIMIT, Message, is_solicited_node};
use tidewire_netdev::MacAddress;

use super::Input;

/// How the message came, then the message.
pub(super) fn ndp(data: &[u8]) {
    check(data);
    let mut input = Input(data);
    let bits = input.u8();
    let choose = |bit: u8, yes: Ipv6Addr, no: Ipv6Addr| if bits & bit != 0 { yes } else { no };
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
    let host = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    let ours = MacAddress([2, 0, 0, 0, 0, 1]);
    let arrival = Arrival {
        interface: InterfaceId(2),
        link_source: (bits & 1 == 0).then_some(MacAddress([2, 0, 0, 0, 0, 2])),
        source: choose(2, Ipv6Addr::UNSPECIFIED, host),
        destination: choose(4, group, Ipv6Addr::LOCALHOST),
        hop_limit: if bits & 8 != 0 { 64 } else { HOP_LIMIT },
        was_fragmented: bits & 16 != 0,
    };
    let octets = input.rest();
    check(octets);
    let received = neighbor_ndp::receive(&arrival, ours, octets);
    assert!(received.is_err() || (arrival.hop_limit == HOP_LIMIT && !arrival.was_fragmented));
    match received {
        Ok(Received::Solicitation(solicitation)) => {
            assert!(octets.len() >= 24 && !solicitation.target.is_multicast());
            if solicitation.source.is_unspecified() {
                assert_eq!(solicitation.source_link_layer, None);
                assert!(is_solicited_node(arrival.destination));
            }
            check_station(solicitation.source_link_layer, ours);
        }
        Ok(Received::Advertisement(advertisement)) => {
            let flags = advertisement.advertisement;
            assert!(octets.len() >= 24 && !flags.target.is_multicast());
            assert!(!flags.solicited || !arrival.destination.is_multicast());
            check_station(advertisement.target_link_layer, ours);
        }
        Ok(Received::Router(..)) | Err(_) => {}
    }
}

fn check_station(address: Option<MacAddress>, ours: MacAddress) {
    assert!(address.is_none_or(|address| address.is_unicast() && address != ours));
}

fn check(octets: &[u8]) {
    let Ok((message, options)) = Message::parse(octets) else {
        return;
    };
    let len = message.encoded_len();
    assert!(options.into_iter().count() <= (octets.len() - len) / 8);
    let mut emitted = octets.to_vec();
    message.emit(&mut emitted);
    assert_eq!(emitted[..2], octets[..2]);
    assert_eq!(Message::parse(&emitted), Ok((message, options)));
}
