//! Behaviour of a connection: against a scripted peer, and of two against each other over a virtual wire.

mod adversary;
mod close;
mod congestion;
mod ecn;
mod errors;
mod footprint;
mod handshake;
mod info;
mod input;
mod loss;
mod memory;
mod noise;
mod options;
mod output;
mod path_mtu;
mod requirements;
mod script;
mod storm;
mod timers;
mod transfer;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::tcp::{Segment, Transmit, TransmitLimits};
use crate::wire::Ecn;
use crate::wire::tcp::{Flags, Header};

pub(super) const MTU: usize = 1500;

pub(super) fn tuple() -> Tuple {
    Tuple {
        local: "10.0.0.1:4000".parse().unwrap(),
        remote: "10.0.0.2:80".parse().unwrap(),
    }
}

pub(super) fn reversed(tuple: Tuple) -> Tuple {
    Tuple {
        local: tuple.remote,
        remote: tuple.local,
    }
}

pub(super) fn limits(super_payload: usize) -> TransmitLimits {
    TransmitLimits {
        path_mtu: MTU,
        ip_header_len: 20,
        max_super_payload: super_payload,
    }
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a segment looks like when it arrives at the other end.
pub(super) fn arrive(transmit: Transmit) -> Segment {
    let len: usize = transmit.payload.iter().map(bytes::Bytes::len).sum();
    Segment {
        header: transmit.header,
        payload: transmit.payload,
        segment_size: transmit.segment_size.map_or(len, usize::from),
        ecn: Ecn::NotEct,
    }
}

pub(super) fn open(now: Instant, config: &Arc<Config>, iss: u32) -> Connection {
    Connection::open(
        now,
        OpenParameters {
            config: Arc::clone(config),
            options: Arc::default(),
            tuple: tuple(),
            iss: SeqNum(iss),
            timestamp_offset: 77,
            path_mtu: MTU,
        },
    )
}

/// Carries the passive handshake as a listener would: the SYN-ACK for `syn`, and what becomes a connection.
pub(super) fn answer_syn(
    now: Instant,
    config: &Arc<Config>,
    syn: &Segment,
    iss: u32,
) -> (Segment, AcceptedRequest) {
    let tuple = reversed(tuple());
    let offer = Offer::new(config, tuple.remote.ip(), MTU);
    let remote = tuple.remote.ip();
    let negotiated = Negotiated::new(config, &offer, remote, &syn.header.options, now, 99);
    let header = Header {
        source_port: tuple.local.port(),
        destination_port: tuple.remote.port(),
        sequence: iss,
        acknowledgment: syn.header.sequence + 1,
        flags: Flags::SYN | Flags::ACK,
        window: u16::MAX,
        urgent: 0,
        options: negotiated.syn_ack_options(now),
    };
    let request = AcceptedRequest {
        config: Arc::clone(config),
        tuple,
        negotiated,
        iss: SeqNum(iss),
        irs: syn.sequence(),
        window: syn.header.window,
        round_trip: Some(ms(1)),
        retransmitted: false,
    };
    (segment(header, b""), request)
}

pub(super) fn segment(header: Header, data: &[u8]) -> Segment {
    let mut payload = tidewire_netdev::Payload::new();
    if !data.is_empty() {
        payload.push(bytes::Bytes::copy_from_slice(data));
    }
    Segment {
        header,
        payload,
        segment_size: data.len(),
        ecn: Ecn::NotEct,
    }
}
