//! Header parsers: what is parsed can be emitted, and is parsed from that again as the same value.

use tidewire::wire::ipv6::extension::{self, Start};
use tidewire::wire::{icmpv4 as icmp4, icmpv6 as icmp6, ipv4 as ip4, ipv6 as ip6};
use tidewire::wire::{tcp as tcp_header, udp as udp_header};
use tidewire_netdev::checksum::Sum;

/// IPv4 header and options, with the checksum as it comes and with the checksum made right.
pub(super) fn ipv4(data: &[u8]) {
    check_ipv4(data);
    let mut octets = data.to_vec();
    let len = usize::from(octets.first().copied().unwrap_or(0) & 0x0f) * 4;
    if len >= ip4::HEADER_LEN && octets.len() >= len {
        octets[10..12].fill(0);
        let mut sum = Sum::new();
        sum.add_bytes(&octets[..len]);
        octets[10..12].copy_from_slice(&sum.finish().to_be_bytes());
        check_ipv4(&octets);
    }
}

fn check_ipv4(octets: &[u8]) {
    let Ok((header, len)) = ip4::Header::parse(octets) else {
        return;
    };
    assert!(len <= octets.len() && len <= usize::from(header.total_len));
    assert_eq!(len, header.encoded_len());
    let mut emitted = vec![0xff; len];
    header.emit(&mut emitted);
    // A reserved flag is not kept, and with it the checksum; all the rest is.
    if octets[6] & 0x80 == 0 {
        assert_eq!(emitted[..10], octets[..10]);
        assert_eq!(emitted[12..], octets[12..len]);
    }
    let options: Vec<_> = header.options.iter().collect();
    for option in options.iter().flatten() {
        let begin = usize::from(option.pointer);
        assert_eq!(octets[begin], option.kind);
        assert_eq!(
            &octets[begin + 2..begin + 2 + option.value.len()],
            option.value
        );
    }
    assert!(options.iter().rev().skip(1).all(Result::is_ok));
    let has_source_route = options
        .iter()
        .flatten()
        .any(|option| matches!(option.kind, 131 | 137));
    let route = ip4::ReceivedRoute::of(&header.options);
    assert_eq!(route.is_some(), has_source_route);
    if let Some(ip4::ReceivedRoute::Completed(Some(back))) = route {
        let options = back.options(header.source);
        assert_eq!(options.octets().len(), back.options_len());
    }
    assert_eq!(ip4::Header::parse(&emitted), Ok((header, len)));
}

/// IPv6 header, then its extension headers.
pub(super) fn ipv6(data: &[u8]) {
    let Ok((header, len)) = ip6::Header::parse(data) else {
        return;
    };
    let mut emitted = [0xff; ip6::HEADER_LEN];
    header.emit(&mut emitted);
    assert_eq!(emitted, data[..len]);

    let rest = &data[len..];
    extension::holds_header_chain(header.next_header, rest);
    let start = Start::behind(&header);
    let Ok(chain) = extension::walk(start, rest) else {
        return;
    };
    assert!(chain.len <= rest.len());
    assert_eq!(data[chain.pointer], chain.protocol);
    let mut at = len;
    let mut next_header = header.next_header;
    while at < len + chain.len {
        assert!(matches!(next_header, 0 | 43 | 44 | 60));
        assert!(next_header != 0 || at == len, "hop-by-hop stands first");
        let is_fragment = next_header == 44;
        next_header = data[at];
        at += if is_fragment {
            8
        } else {
            (usize::from(data[at + 1]) + 1) * 8
        };
    }
    assert_eq!((next_header, at), (chain.protocol, len + chain.len));
    // Nothing behind the chain has a say in it.
    assert_eq!(extension::walk(start, &rest[..chain.len]), Ok(chain));
    match chain.fragment {
        Some(fragment) => {
            assert!(!fragment.is_atomic());
            let mut emitted = [0xff; ip6::fragment::HEADER_LEN];
            fragment.emit(&mut emitted);
            assert_eq!(
                ip6::fragment::Fragment::parse(&emitted),
                Ok((fragment, emitted.len()))
            );
        }
        None => {
            let behind = Start {
                next_header: chain.protocol,
                pointer: chain.pointer,
                offset: len + chain.len,
            };
            let again = extension::walk(behind, &rest[chain.len..])
                .expect("a chain's end is no extension header");
            assert_eq!((again.len, again.protocol), (0, chain.protocol));
        }
    }
}

/// ICMPv4 messages.
pub(super) fn icmpv4(data: &[u8]) {
    let Ok((message, len)) = icmp4::Message::parse(data) else {
        assert!(data.len() < icmp4::HEADER_LEN);
        return;
    };
    assert_eq!(len, message.encoded_len());
    let mut emitted = [0xff; icmp4::HEADER_LEN];
    message.emit(&mut emitted);
    assert_eq!(emitted[..2], data[..2]);
    assert_eq!(icmp4::Message::parse(&emitted), Ok((message, len)));
    assert_eq!(message.is_error(), matches!(data[0], 3 | 4 | 5 | 11 | 12));
}

/// ICMPv6 messages.
pub(super) fn icmpv6(data: &[u8]) {
    let Ok((message, len)) = icmp6::Message::parse(data) else {
        assert!(data.len() < icmp6::HEADER_LEN);
        return;
    };
    assert_eq!(len, message.encoded_len());
    let mut emitted = [0xff; icmp6::HEADER_LEN];
    message.emit(&mut emitted);
    assert_eq!(emitted[0], data[0]);
    assert_eq!(icmp6::Message::parse(&emitted), Ok((message, len)));
    assert_eq!(message.is_error(), data[0] < 128);
}

/// UDP header and its length field.
pub(super) fn udp(data: &[u8]) {
    let Ok((header, len)) = udp_header::Header::parse(data) else {
        return;
    };
    let mut emitted = [0xff; udp_header::HEADER_LEN];
    header.emit(&mut emitted);
    assert_eq!(emitted, data[..len]);
    if let Ok(payload) = header.payload_len(data.len()) {
        assert!(len + payload <= data.len());
    }
}

/// TCP header and options.
pub(super) fn tcp(data: &[u8]) {
    let Ok((header, len)) = tcp_header::Header::parse(data) else {
        return;
    };
    assert!(
        len <= data.len() && (tcp_header::HEADER_LEN..=tcp_header::MAX_HEADER_LEN).contains(&len)
    );
    let emitted_len = header.encoded_len();
    assert!(emitted_len <= tcp_header::MAX_HEADER_LEN && emitted_len.is_multiple_of(4));
    let mut emitted = vec![0xff; emitted_len];
    header.emit(&mut emitted);
    assert_eq!(emitted[..12], data[..12]);
    // What a receiver reads is what was read, but for SACK blocks that found no room behind ill-packed options.
    let (mut again, again_len) =
        tcp_header::Header::parse(&emitted).expect("emitted headers are good");
    assert_eq!(again_len, emitted_len);
    assert!(header.options.sack.starts_with(&again.options.sack));
    assert_eq!(
        again.options.sack.len(),
        header
            .options
            .sack
            .len()
            .min(header.options.sack_capacity())
    );
    again.options.sack.clone_from(&header.options.sack);
    assert_eq!(again, header);
}
