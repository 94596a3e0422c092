//! Messages about multicast groups: what is parsed can be emitted, and is parsed from that again as the same value.

use tidewire::wire::{igmp as igmp_wire, mld as mld_wire};
use tidewire_netdev::checksum::Sum;

/// IGMP messages, with the checksum as it comes and with the checksum made right.
pub(super) fn igmp(data: &[u8]) {
    check_igmp(data);
    if data.len() < igmp_wire::HEADER_LEN {
        return;
    }
    let mut octets = data.to_vec();
    octets[2..4].fill(0);
    let mut sum = Sum::new();
    sum.add_bytes(&octets);
    octets[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    check_igmp(&octets);
}

fn check_igmp(octets: &[u8]) {
    let Ok(message) = igmp_wire::Message::parse(octets) else {
        return;
    };
    let mut emitted = vec![0xff; message.encoded_len()];
    message.emit(&mut emitted);
    assert!(emitted.len() <= octets.len() && emitted[0] == octets[0]);
    let again = igmp_wire::Message::parse(&emitted).expect("emitted messages are good");
    match (message, again) {
        (igmp_wire::Message::ReportV3(records), igmp_wire::Message::ReportV3(again)) => {
            assert!(records.eq(again));
        }
        (message, again) => assert_eq!(again, message),
    }
}

/// Multicast Listener Discovery messages.
pub(super) fn mld(data: &[u8]) {
    let Ok(message) = mld_wire::Message::parse(data) else {
        return;
    };
    let mut emitted = vec![0xff; message.encoded_len()];
    message.emit(&mut emitted);
    assert!(emitted.len() <= data.len() && emitted[0] == data[0]);
    let again = mld_wire::Message::parse(&emitted).expect("emitted messages are good");
    match (message, again) {
        (mld_wire::Message::ReportV2(records), mld_wire::Message::ReportV2(again)) => {
            assert!(records.eq(again));
        }
        (message, again) => assert_eq!(again, message),
    }
}
