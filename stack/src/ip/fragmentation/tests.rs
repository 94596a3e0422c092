use bytes::Bytes;
use tidewire_netdev::Checksum;

use super::*;
use crate::ip::input::{Arrival, parse};

fn header(is_ipv6: bool) -> OutputHeader {
    let (source, destination) = match is_ipv6 {
        false => ("10.0.0.1", "10.0.0.2"),
        true => ("2001:db8::1", "2001:db8::2"),
    };
    OutputHeader {
        dont_fragment: false,
        ..OutputHeader::new(
            source.parse().unwrap(),
            destination.parse().unwrap(),
            protocol::UDP,
        )
    }
}

fn payload(len: usize) -> Packet {
    Packet::from_bytes((0..len).map(|i| i as u8).collect())
}

/// Fragments as (offset, length, more) with their identification.
fn places(fragments: Fragments) -> Vec<(u16, usize, bool, u32)> {
    let place = |mut packet: Packet| {
        let ip = parse(&mut packet, Arrival::Wire).unwrap();
        let info = ip.fragment.unwrap();
        (info.offset, packet.len(), info.more, info.identification)
    };
    fragments.into_iter().map(place).collect()
}

#[test]
fn fragments_are_as_long_as_the_mtu_permits() {
    // RFC 791 3.2, RFC 8200 4.5: units of 8 octets, all but the last.
    let v4 = fragment(payload(3000), &header(false), 1500, 0x0001_1234).unwrap();
    assert!(v4.iter().all(|packet| packet.len() <= 1500));
    let expected = [
        (0, 1480, true, 0x1234),
        (1480, 1480, true, 0x1234),
        (2960, 40, false, 0x1234),
    ];
    assert_eq!(places(v4), expected);

    let v6 = fragment(payload(3000), &header(true), 1500, 0x0001_1234).unwrap();
    assert!(v6.iter().all(|packet| packet.len() <= 1500));
    let expected = [
        (0, 1448, true, 0x0001_1234),
        (1448, 1448, true, 0x0001_1234),
        (2896, 104, false, 0x0001_1234),
    ];
    assert_eq!(places(v6), expected);
}

#[test]
fn what_fits_stays_whole() {
    for (is_ipv6, fits) in [(false, 1480), (true, 1460)] {
        let mut whole = fragment(payload(fits), &header(is_ipv6), 1500, 1).unwrap();
        assert_eq!(whole.len(), 1);
        let ip = parse(&mut whole[0], Arrival::Wire).unwrap();
        assert_eq!((ip.fragment, ip.was_fragmented), (None, false));
        assert_eq!(
            fragment(payload(fits + 1), &header(is_ipv6), 1500, 1)
                .unwrap()
                .len(),
            2
        );
    }
}

#[test]
fn the_payload_is_shared() {
    let data = Bytes::from(vec![1; 3000]);
    let mut packet = Packet::from_bytes(data.clone());
    packet.prepend(8);
    let fragments = fragment(packet, &header(false), 1500, 1).unwrap();
    assert_eq!(fragments[0].head().len(), 28);
    assert_eq!(fragments[0].body()[0].as_ptr(), data.as_ptr());
    assert_eq!(fragments[1].body()[0].as_ptr(), data[1472..].as_ptr());
}

#[test]
fn partial_checksums_are_completed_first() {
    let mut packet = payload(3000);
    packet.offload.checksum = Checksum::Partial {
        start: 0,
        offset: 6,
    };
    let sum = tidewire_netdev::checksum::sum_packet(&packet, 0).finish();
    let fragments = fragment(packet, &header(false), 1500, 1).unwrap();
    assert_eq!(fragments[0].to_bytes()[26..28], sum.to_be_bytes());
    assert!(fragments.iter().all(|f| f.offload == Default::default()));
}

#[test]
fn refuses_what_must_not_or_cannot_be_cut() {
    let whole = OutputHeader {
        dont_fragment: true,
        ..header(false)
    };
    let refused = |packet, header: &OutputHeader, mtu| fragment(packet, header, mtu, 1).err();
    let too_long = Some(SocketError::MessageTooLong);
    assert_eq!(refused(payload(3000), &whole, 1500), too_long);
    assert_eq!(refused(payload(65_516), &header(false), 1500), too_long);
    assert_eq!(refused(payload(65_515), &header(false), 1500), None);
    assert_eq!(refused(payload(65_536), &header(true), 1500), too_long);
    assert_eq!(refused(payload(65_535), &header(true), 1500), None);
    assert_eq!(refused(payload(100), &header(false), 27), too_long);
    assert_eq!(refused(payload(100), &header(true), 55), too_long);
    let mut outside = payload(3000);
    outside.offload.checksum = Checksum::Partial {
        start: 2999,
        offset: 6,
    };
    assert_eq!(
        refused(outside, &header(false), 1500),
        Some(SocketError::InvalidInput)
    );
}

#[test]
fn identifications_count_up_for_each_pair_of_addresses() {
    // RFC 7739 5.3
    let mut identifications = Identifications::new(&mut Random::new(Some(3)));
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (a, b, c) = (ip("2001:db8::1"), ip("2001:db8::2"), ip("2001:db8::3"));
    let first = identifications.reserve(a, b, 17, 1);
    let other = identifications.reserve(a, c, 17, 1);
    assert_eq!(identifications.reserve(a, b, 17, 5), first.wrapping_add(1));
    assert_eq!(identifications.reserve(a, b, 17, 1), first.wrapping_add(6));
    assert!(
        first.abs_diff(other) > 1000,
        "destinations see unrelated values"
    );
}
