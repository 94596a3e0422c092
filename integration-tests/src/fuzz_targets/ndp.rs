//! Neighbor Discovery messages and their options.

use std::net::Ipv6Addr;

use tidewire::ip::InterfaceId;
use tidewire::neighbor::ndp::{self as neighbor_ndp, Arrival, Received};
use tidewire::wire::ndp::{HOP_LIMIT, Message, NdpOption, Options, is_solicited_node};
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
        Ok(Received::RouterAdvertisement(received)) => {
            assert!(octets.len() >= 16 && received.router.is_unicast_link_local());
            check_station(received.source_link_layer, ours);
            check_options(received.options);
        }
        Ok(Received::Redirect(received)) => {
            let redirect = received.redirect;
            assert!(octets.len() >= 40 && received.router.is_unicast_link_local());
            assert!(!redirect.destination.is_multicast());
            let is_neighbor = redirect.target == redirect.destination;
            assert!(is_neighbor || redirect.target.is_unicast_link_local());
            check_station(received.target_link_layer, ours);
        }
        Ok(Received::RouterSolicitation) | Err(_) => {}
    }
}

fn check_station(address: Option<MacAddress>, ours: MacAddress) {
    assert!(address.is_none_or(|address| address.is_unicast() && address != ours));
}

/// What options promise.
fn check_options(options: Options<'_>) {
    for option in options {
        match option {
            NdpOption::PrefixInformation(information) => assert!(information.prefix_len <= 128),
            NdpOption::RouteInformation(information) => assert!(information.prefix_len <= 128),
            NdpOption::DnsServers(servers) => {
                assert!(servers.addresses().count() > 0);
                assert!(servers.addresses().all(|address| !address.is_multicast()));
            }
            NdpOption::DnsSearchList(list) => {
                assert!(list.names().count() > 0);
                for name in list.names() {
                    assert!((1..=253).contains(&name.len()), "{name}");
                    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                    assert!(name.chars().all(is_plain), "{name}");
                }
            }
            NdpOption::SourceLinkLayerAddress(_)
            | NdpOption::TargetLinkLayerAddress(_)
            | NdpOption::RedirectedHeader(_)
            | NdpOption::Mtu(_) => {}
        }
    }
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
