//! Frames in and out (RFC 894, RFC 2464, RFC 1122 2.3, 2.4).
//!
//! Owned here: which frames are for this host, what is in them, and where groups are on the link. Left to others: the
//! header's octets (`wire`), who has which address (`neighbor`), the padding that a short frame ends with (cut by
//! whoever reads the length of what is inside).

use std::net::IpAddr;

use tidewire_netdev::{MacAddress, Packet};

use crate::stats::DropReason;
use crate::wire::ethernet::{HEADER_LEN, Header, ethertype};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkProtocol {
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
    /// An ARP packet.
    Arp,
    /// A RARP packet, which looks like one of ARP (RFC 903).
    Rarp,
}

impl LinkProtocol {
    /// The protocol of packets to `address`.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Its number in the Ethernet header.
    pub const fn ethertype(self) -> u16 {
        match self {
            Self::Ipv4 => ethertype::IPV4,
            Self::Ipv6 => ethertype::IPV6,
            Self::Arp => ethertype::ARP,
            Self::Rarp => ethertype::RARP,
        }
    }
}

/// Whom a frame was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkDestination {
    /// This host alone.
    Unicast,
    /// Everybody on the link.
    Broadcast,
    /// Some other group.
    Multicast,
}

/// What the link knows of a received frame; the packet behind its header begins at [`HEADER_LEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub protocol: LinkProtocol,
    /// Who sent it: one station's address.
    pub source: MacAddress,
    /// Whom it was sent to.
    pub destination: LinkDestination,
}

impl Frame {
    /// Whether it was sent to several hosts. Such a packet must not be answered with an ICMP error (RFC 1122 3.2.2,
    /// RFC 4443 2.4 (e.4)), and is to be dropped if its IP destination is one host's (RFC 1122 3.3.6).
    pub const fn is_link_broadcast(&self) -> bool {
        !matches!(self.destination, LinkDestination::Unicast)
    }
}

/// Looks at a received frame, of which `head` is the contiguous front; `ours` is this host's address on the link.
///
/// # Errors
/// The reason to drop it: [`DropReason::Malformed`] when it is shorter than its header, [`DropReason::NotForUs`] when
/// it is for another station (a switch floods those it does not know, RFC 1122 2.4), [`DropReason::BadSource`] when
/// its sender has no station's address or is this host, whose own frames some links give back,
/// [`DropReason::UnknownLinkProtocol`].
pub fn receive(ours: MacAddress, head: &[u8]) -> Result<Frame, DropReason> {
    let (header, _) = Header::parse(head).map_err(|_| DropReason::Malformed)?;
    let destination = match header.destination {
        MacAddress::BROADCAST => LinkDestination::Broadcast,
        group if group.is_multicast() => LinkDestination::Multicast,
        station if station == ours => LinkDestination::Unicast,
        _ => return Err(DropReason::NotForUs),
    };
    if !header.source.is_unicast() || header.source == ours {
        return Err(DropReason::BadSource);
    }
    let protocol = match header.ethertype {
        ethertype::IPV4 => LinkProtocol::Ipv4,
        ethertype::IPV6 => LinkProtocol::Ipv6,
        ethertype::ARP => LinkProtocol::Arp,
        ethertype::RARP => LinkProtocol::Rarp,
        _ => return Err(DropReason::UnknownLinkProtocol),
    };
    Ok(Frame {
        protocol,
        source: header.source,
        destination,
    })
}

/// Where packets to a group go on the link: multicast (RFC 1112 6.4, RFC 2464 7) and 255.255.255.255. `None` for
/// addresses that a neighbour must be asked for.
///
/// The directed broadcast address of a subnet looks like a host's; who knows the subnets sends such packets to
/// [`MacAddress::BROADCAST`].
pub const fn group_address(destination: IpAddr) -> Option<MacAddress> {
    match destination {
        IpAddr::V4(v4) if v4.is_multicast() => Some(MacAddress::multicast_v4(v4)),
        IpAddr::V4(v4) if v4.is_broadcast() => Some(MacAddress::BROADCAST),
        IpAddr::V6(v6) if v6.is_multicast() => Some(MacAddress::multicast_v6(v6)),
        _ => None,
    }
}

/// Puts the Ethernet header in front of a packet.
///
/// # Panics
/// When the packet's header room is used up, which the stack's own headers never do.
pub fn prepend(
    packet: &mut Packet,
    source: MacAddress,
    destination: MacAddress,
    protocol: LinkProtocol,
) {
    let header = Header {
        destination,
        source,
        ethertype: protocol.ethertype(),
    };
    header.emit(packet.prepend(HEADER_LEN));
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const THEIRS: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
    const ALL_NODES: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 1]);

    fn frame(destination: MacAddress, source: MacAddress, ethertype: u16) -> Vec<u8> {
        let mut octets = vec![0; 60];
        let header = Header {
            destination,
            source,
            ethertype,
        };
        header.emit(&mut octets);
        octets
    }

    #[test]
    fn frames_for_this_host_and_for_groups_are_taken() {
        use LinkDestination::{Broadcast, Multicast, Unicast};
        for (to, destination) in [
            (OURS, Unicast),
            (MacAddress::BROADCAST, Broadcast),
            (ALL_NODES, Multicast),
        ] {
            for (number, protocol) in [
                (0x0800, LinkProtocol::Ipv4),
                (0x0806, LinkProtocol::Arp),
                (0x8035, LinkProtocol::Rarp),
                (0x86dd, LinkProtocol::Ipv6),
            ] {
                let taken =
                    receive(OURS, &frame(to, THEIRS, number)).expect("a frame for this host");
                let expected = Frame {
                    protocol,
                    source: THEIRS,
                    destination,
                };
                assert_eq!(taken, expected);
                assert_eq!(taken.is_link_broadcast(), destination != Unicast);
                assert_eq!(protocol.ethertype(), number);
            }
        }
    }

    #[test]
    fn other_frames_are_dropped_with_their_reason() {
        let cases = [
            (
                frame(THEIRS, OURS, ethertype::IPV4),
                DropReason::NotForUs,
                "another station",
            ),
            (
                frame(MacAddress([0; 6]), THEIRS, ethertype::IPV4),
                DropReason::NotForUs,
                "nobody",
            ),
            (
                frame(ALL_NODES, OURS, ethertype::IPV6),
                DropReason::BadSource,
                "given back",
            ),
            (
                frame(OURS, ALL_NODES, ethertype::IPV4),
                DropReason::BadSource,
                "from a group",
            ),
            (
                frame(OURS, MacAddress([0; 6]), ethertype::ARP),
                DropReason::BadSource,
                "from nobody",
            ),
            // IEEE 802.3: a length (RFC 1122 2.3.3 permits hosts not to take those).
            (
                frame(OURS, THEIRS, 46),
                DropReason::UnknownLinkProtocol,
                "802.3",
            ),
            (
                frame(OURS, THEIRS, ethertype::VLAN),
                DropReason::UnknownLinkProtocol,
                "802.1Q",
            ),
            (
                frame(OURS, THEIRS, ethertype::SERVICE_VLAN),
                DropReason::UnknownLinkProtocol,
                "802.1ad",
            ),
        ];
        for (octets, reason, what) in cases {
            assert_eq!(receive(OURS, &octets), Err(reason), "{what}");
        }
        for len in 0..HEADER_LEN {
            let octets = frame(OURS, THEIRS, ethertype::IPV4);
            assert_eq!(receive(OURS, &octets[..len]), Err(DropReason::Malformed));
        }
    }

    #[test]
    fn groups_have_their_place_on_the_link() {
        let cases = [
            ("224.0.0.251", Some("01:00:5e:00:00:fb")),
            ("255.255.255.255", Some("ff:ff:ff:ff:ff:ff")),
            ("ff02::1:ff00:7", Some("33:33:ff:00:00:07")),
            ("10.0.0.255", None),
            ("10.0.0.1", None),
            ("fe80::1", None),
        ];
        for (address, mac) in cases {
            let expected = mac.map(|mac: &str| mac.parse().expect("a hardware address"));
            let address = address.parse().expect("an address");
            assert_eq!(group_address(address), expected, "{address}");
        }
    }

    #[test]
    fn a_header_is_put_in_front() {
        let mut packet = Packet::from_header(&[0x45, 0]);
        prepend(&mut packet, OURS, THEIRS, LinkProtocol::Ipv4);
        assert_eq!(
            packet.head(),
            [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]
        );
    }
}
