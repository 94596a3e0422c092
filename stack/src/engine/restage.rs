//! Packets that waited for a full device while their path's MTU shrank: they are cut anew before they leave.
//!
//! Only this host's TCP is cut: a datagram that no longer fits is for IP to fragment, or for its sender to hear of, as is
//! what other hosts have sent.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidewire_netdev::segmentation;
use tidewire_netdev::{Capabilities, Medium, Packet, Segmentation, SegmentationKind};

use crate::wire::tcp::Flags;
use crate::wire::{ethernet, protocol};

/// Cuts every staged TCP packet from one of ours, which `is_own` knows, to `destination` so that none has more than `mtu`
/// octets on the wire; order is kept.
pub(crate) fn shrink(
    packets: &mut VecDeque<Packet>,
    capabilities: &Capabilities,
    (destination, mtu): (IpAddr, usize),
    is_own: impl Fn(IpAddr) -> bool,
) {
    let staged = std::mem::take(packets);
    for mut packet in staged {
        let cut = cut_for(&packet, capabilities.medium, destination, mtu);
        if let Some((_, segmentation)) = cut.filter(|(source, _)| is_own(*source)) {
            packet.offload.segmentation = Some(segmentation);
        }
        if segmentation::prepare(&mut packet, capabilities, packets).is_err() {
            debug_assert!(
                false,
                "the stack's own packets have headers that can be cut"
            );
        }
    }
}

/// Whose packet it is and the cut that it needs; `None` for packets to others, of other protocols, or small enough.
fn cut_for(
    packet: &Packet,
    medium: Medium,
    destination: IpAddr,
    mtu: usize,
) -> Option<(IpAddr, Segmentation)> {
    let link = match medium {
        Medium::Ip => 0,
        Medium::Ethernet => ethernet::HEADER_LEN,
    };
    let head = packet.contiguous().get(link..)?;
    let (kind, source, ip_len) = match (head.first()? >> 4, destination) {
        (4, IpAddr::V4(to)) => {
            let octets: [u8; 4] = head.get(16..20)?.try_into().ok()?;
            // With options it goes by a source route: it is no super-packet, and its connection sends it again in smaller ones.
            let is_plain = head[0] & 0x0f == 5;
            let ours = is_plain && Ipv4Addr::from(octets) == to && *head.get(9)? == protocol::TCP;
            let source: [u8; 4] = head.get(12..16)?.try_into().ok()?;
            (SegmentationKind::TcpV4, source.into(), ours.then_some(20)?)
        }
        (6, IpAddr::V6(to)) => {
            let octets: [u8; 16] = head.get(24..40)?.try_into().ok()?;
            let ours = Ipv6Addr::from(octets) == to && *head.get(6)? == protocol::TCP;
            let source: [u8; 16] = head.get(8..24)?.try_into().ok()?;
            (SegmentationKind::TcpV6, source.into(), ours.then_some(40)?)
        }
        _ => return None,
    };
    let tcp_len = usize::from(head.get(ip_len + 12)? >> 4) * 4;
    let room = mtu.checked_sub(ip_len + tcp_len).filter(|room| *room > 0)?;
    let payload = packet.len().checked_sub(link + ip_len + tcp_len)?;
    let now = packet
        .offload
        .segmentation
        .map_or(payload, |cut| usize::from(cut.segment_size));
    let segmentation = Segmentation {
        kind,
        segment_size: room as u16,
        ecn: Flags(*head.get(ip_len + 13)?).contains(Flags::CWR),
    };
    (now > room && payload > room).then_some((source, segmentation))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewire_netdev::{Checksum, OffloadSet};

    use super::*;
    use crate::ip::output::{self, OutputHeader};
    use crate::wire::tcp;

    #[test]
    fn what_other_hosts_have_sent_to_the_same_destination_is_not_cut_anew() {
        // RFC 791 3.2, RFC 8200 4.5: a router cuts by fragments, if at all.
        let capabilities = Capabilities {
            medium: Medium::Ip,
            mtu: 1500,
            offloads: OffloadSet::NONE,
            max_super_packet: 65_535,
        };
        for (ours, theirs, to) in [
            ("10.1.0.1", "10.0.0.9", "192.0.2.7"),
            ("fd01::1", "fd00::9", "2001:db8::7"),
        ] {
            let [ours, theirs, to]: [IpAddr; 3] =
                [ours, theirs, to].map(|text| text.parse().expect("an address"));
            let segment = |source| {
                let header = tcp::Header::default();
                let mut packet = Packet::from_bytes(Bytes::from(vec![7; 1200]));
                header.emit(packet.prepend(header.encoded_len()));
                packet.offload.checksum = Checksum::Verified;
                let header = OutputHeader::new(source, to, protocol::TCP);
                output::prepend(&mut packet, &header).expect("a short packet");
                packet
            };
            let mut queue = VecDeque::from([segment(theirs), segment(ours)]);
            let before = queue[0].to_bytes();
            shrink(&mut queue, &capabilities, (to, 700), |source| {
                source == ours
            });
            assert_eq!(queue[0].to_bytes(), before);
            assert_eq!(queue.len(), 3, "one as it was, and the other in two");
            assert!(queue.iter().skip(1).all(|packet| packet.len() <= 700));
        }
    }
}
