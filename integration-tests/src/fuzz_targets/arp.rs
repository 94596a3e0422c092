//! Ethernet frames and ARP packets: what is parsed can be emitted, octet by octet.

use tidewire::link::ethernet;
use tidewire::neighbor::arp as build;
use tidewire::wire::arp::{Message, PACKET_LEN};
use tidewire::wire::ethernet::{HEADER_LEN, Header};
use tidewire_netdev::MacAddress;

/// A frame, and the ARP packet that all of it, or what is behind its header, may be.
pub(super) fn arp(data: &[u8]) {
    let ours = MacAddress([2, 0, 0, 0, 0, 1]);
    check(data);
    let Ok((header, len)) = Header::parse(data) else {
        assert!(data.len() < HEADER_LEN);
        return;
    };
    let mut emitted = [0xff; HEADER_LEN];
    header.emit(&mut emitted);
    assert_eq!(emitted, data[..len]);
    if let Ok(frame) = ethernet::receive(ours, data) {
        assert!(frame.source.is_unicast() && frame.source == header.source);
        assert_eq!(frame.is_link_broadcast(), header.destination.is_multicast());
        assert_eq!(frame.protocol.ethertype(), header.ethertype);
    }
    check(&data[len..]);
}

fn check(octets: &[u8]) {
    let Ok((message, len)) = Message::parse(octets) else {
        return;
    };
    assert_eq!(len, PACKET_LEN);
    let mut emitted = [0xff; PACKET_LEN];
    message.emit(&mut emitted);
    assert_eq!(emitted, octets[..len]);
    let ours = MacAddress([2, 0, 0, 0, 0, 1]);
    let reply = build::reply(ours, &message);
    let frame = build::frame(&reply, ours, reply.target_hardware).to_bytes();
    assert_eq!(Message::parse(&frame[HEADER_LEN..]), Ok((reply, len)));
}
