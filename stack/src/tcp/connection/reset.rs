//! Resets for segments that nobody owns (RFC 9293 3.5.2 group 1, 3.10.7.1).

use tidewire_netdev::Payload;

use crate::tcp::{Segment, Transmit, Tuple};
use crate::wire::Ecn;
use crate::wire::tcp::{Flags, Header};

/// The RST that answers `segment` on a connection that does not exist; `None` for a RST, which is never answered.
///
/// With ACK: `<SEQ=SEG.ACK><CTL=RST>`. Without: `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`.
pub fn reset_reply(tuple: Tuple, segment: &Segment) -> Option<Transmit> {
    let flags = segment.header.flags;
    if flags.contains(Flags::RST) {
        return None;
    }
    let (sequence, acknowledgment, flags) = match segment.acknowledgment() {
        Some(ack) => (ack.0, 0, Flags::RST),
        None => {
            let end = segment.sequence() + segment.sequence_len();
            (0, end.0, Flags::RST | Flags::ACK)
        }
    };
    Some(Transmit {
        header: Header {
            source_port: tuple.local.port(),
            destination_port: tuple.remote.port(),
            sequence,
            acknowledgment,
            flags,
            ..Header::default()
        },
        payload: Payload::new(),
        segment_size: None,
        ecn: Ecn::NotEct,
    })
}
