//! How fast the path delivers: one sample an ACK, from what was delivered between the sending of a packet and its ACK.
//!
//! Owns what was delivered and lost in all, and what of that was known when each packet in flight was sent: one entry
//! for a transmission, whole super-packets included, in the order of sending. Kept only on connections whose controller
//! asks for it. draft-cardwell-ccwg-bbr 4.5.2.
//!
//! ```text
//!   sent ──── first_sent_time ──▶ sent_at        (send_elapsed)
//!   ACKs ──── delivered_time ──▶ now             (ack_elapsed)     rate = delivered / the longer of the two
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::tcp::SeqNum;
use crate::tcp::send::delivered::Sent;
use crate::time::Instant;
use crate::transport::congestion::{LossSample, RateSample};

/// A packet that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// When it leaves, and the sequence number behind it.
    pub sent: Sent,
    /// Its octets of sequence space.
    pub octets: u32,
    /// Octets in flight with it.
    pub in_flight: u32,
    /// It was sent before.
    pub retransmission: bool,
}

/// What an ACK delivered.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When it came.
    pub now: Instant,
    /// Octets newly delivered, cumulatively or selectively.
    pub octets: u32,
    /// The last sent of them.
    pub newest: Option<Sent>,
    /// SND.UNA.
    pub snd_una: SeqNum,
    /// The path's smallest round trip: a sample of a shorter time is of no use.
    pub min_rtt: Duration,
}

/// The state of delivery at the time a packet was sent.
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    packet: Departure,
    delivered: u64,
    delivered_time: Instant,
    first_sent_time: Instant,
    lost: u64,
    app_limited: bool,
}

/// The delivery rate of a connection.
#[derive(Clone, Debug, Default)]
pub struct DeliveryRate {
    /// C.delivered, in octets.
    delivered: u64,
    delivered_time: Instant,
    first_sent_time: Instant,
    /// C.lost: octets deemed lost so far.
    lost: u64,
    /// C.app_limited: samples are of the application's rate until this is delivered; 0 if they are of the path's.
    app_limited: u64,
    /// In the order of sending.
    sent: VecDeque<Snapshot>,
}

impl DeliveryRate {
    /// Octets delivered so far.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether samples are of the application's rate (4.5.2.2.3).
    pub const fn is_app_limited(&self) -> bool {
        self.app_limited != 0
    }

    /// There is nothing more to send, although `pipe` octets in flight leave room in the window.
    pub const fn note_app_limited(&mut self, pipe: u32) {
        let mark = self.delivered + pipe as u64;
        self.app_limited = if mark == 0 { 1 } else { mark };
    }

    /// SendPacket (4.5.2.3.2).
    pub fn on_sent(&mut self, packet: Departure) {
        let at = packet.sent.at;
        if packet.in_flight <= packet.octets {
            self.first_sent_time = at;
            self.delivered_time = at;
        }
        if self.sent.len() >= MAX_SNAPSHOTS {
            self.sent.pop_front();
        }
        self.sent.push_back(Snapshot {
            packet,
            delivered: self.delivered,
            delivered_time: self.delivered_time,
            first_sent_time: self.first_sent_time,
            lost: self.lost,
            app_limited: self.app_limited != 0,
        });
    }

    /// GenerateRateSample (4.5.2.3.3).
    pub fn on_ack(&mut self, arrival: &Arrival) -> Option<RateSample> {
        let Arrival { now, octets, .. } = *arrival;
        if octets > 0 {
            self.delivered += u64::from(octets);
            self.delivered_time = now;
        }
        let snapshot = arrival.newest.and_then(|newest| self.find(newest));
        while self.is_settled(arrival.snd_una) {
            self.sent.pop_front();
        }
        if self.app_limited != 0 && self.delivered > self.app_limited {
            self.app_limited = 0;
        }
        if self.sent.is_empty() {
            self.sent = VecDeque::new(); // an idle connection owns nothing
        }
        let snapshot = snapshot?;
        let packet = snapshot.packet;
        self.first_sent_time = packet.sent.at;
        let send_elapsed = packet.sent.at - snapshot.first_sent_time;
        let interval = send_elapsed.max(now - snapshot.delivered_time);
        let delivered = self.delivered - snapshot.delivered;
        let reliable = interval >= arrival.min_rtt && !interval.is_zero();
        let delivery_rate = if reliable {
            let rate = u128::from(delivered) * 1_000_000_000 / interval.as_nanos();
            u64::try_from(rate).unwrap_or(u64::MAX)
        } else {
            0
        };
        Some(RateSample {
            delivery_rate,
            delivered,
            prior_delivered: snapshot.delivered,
            in_flight_when_sent: u64::from(packet.in_flight),
            lost: self.lost - snapshot.lost,
            app_limited: snapshot.app_limited,
            rtt: (!packet.retransmission).then(|| now - packet.sent.at),
        })
    }

    /// `octets` are newly deemed lost; `newest` is what was sent last of them, if that is known.
    pub fn on_lost(&mut self, octets: u32, newest: Option<Sent>) -> Option<LossSample> {
        self.lost += u64::from(octets);
        let snapshot = self.find(newest?)?;
        Some(LossSample {
            octets: u64::from(snapshot.packet.octets),
            in_flight_when_sent: u64::from(snapshot.packet.in_flight),
            lost: self.lost - snapshot.lost,
            app_limited: snapshot.app_limited,
        })
    }

    /// What was known when `sent` was.
    fn find(&self, sent: Sent) -> Option<Snapshot> {
        let from = self.sent.partition_point(|s| s.packet.sent.at < sent.at);
        let same_time = self.sent.range(from..);
        same_time
            .take_while(|s| s.packet.sent.at == sent.at)
            .find(|s| {
                let Departure {
                    sent: known,
                    octets,
                    ..
                } = s.packet;
                sent.end.at_or_before(known.end) && sent.end.after(known.end - octets)
            })
            .copied()
    }

    fn is_settled(&self, snd_una: SeqNum) -> bool {
        let front = self.sent.front();
        front.is_some_and(|s| s.packet.sent.end.at_or_before(snd_una))
    }
}

/// Transmissions remembered at most; beyond, the oldest are forgotten and give no sample.
const MAX_SNAPSHOTS: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn packet(millis: u64, end: u32, octets: u32, in_flight: u32) -> Departure {
        Departure {
            sent: Sent {
                at: at(millis),
                end: SeqNum(end),
            },
            octets,
            in_flight,
            retransmission: false,
        }
    }

    fn arrival(millis: u64, octets: u32, sent: Sent, una: u32) -> Arrival {
        Arrival {
            now: at(millis),
            octets,
            newest: Some(sent),
            snd_una: SeqNum(una),
            min_rtt: Duration::from_millis(50),
        }
    }

    #[test]
    fn rate_is_what_was_delivered_since_the_packet_left() {
        // draft-cardwell-ccwg-bbr 4.5.2.2.2: ten packets of 1000 octets, one each 10 ms, over 100 ms: 100 kB/s.
        let mut rate = DeliveryRate::default();
        let start = 0u32.wrapping_sub(3000);
        let packets: Vec<Departure> = (0..20)
            .map(|n| {
                let end = start.wrapping_add((n + 1) * 1000);
                packet(u64::from(n) * 10, end, 1000, (n + 1).min(10) * 1000)
            })
            .collect();
        let mut samples = Vec::new();
        for n in 0..20 {
            rate.on_sent(packets[n]);
            if n >= 9 {
                let acked = packets[n - 9];
                let now = 100 + (n as u64 - 9) * 10;
                samples.push(rate.on_ack(&arrival(now, 1000, acked.sent, acked.sent.end.0)));
            }
        }
        let last = samples.last().unwrap().unwrap();
        assert_eq!(last.delivery_rate, 100_000);
        assert_eq!(last.rtt, Some(Duration::from_millis(100)));
        assert_eq!(last.in_flight_when_sent, 10_000);
        assert_eq!(rate.delivered(), 11_000);
        assert_eq!(rate.sent.len(), 9, "what is acknowledged is forgotten");
    }

    #[test]
    fn compressed_acks_do_not_raise_the_rate() {
        // 4.5.2.2.2.3: the longer of the sending and the acknowledging counts.
        let mut rate = DeliveryRate::default();
        let packets = [0, 100, 200].map(|n| packet(n, 1000 + n as u32 * 10, 1000, 1000));
        for (n, known) in packets.into_iter().enumerate() {
            let in_flight = (n as u32 + 1) * 1000;
            rate.on_sent(Departure { in_flight, ..known });
        }
        rate.on_ack(&arrival(300, 1000, packets[0].sent, 1000));
        rate.on_ack(&arrival(300, 1000, packets[1].sent, 2000));
        let sample = rate.on_ack(&arrival(300, 1000, packets[2].sent, 3000));
        assert_eq!(
            sample.unwrap().delivery_rate,
            10_000,
            "3000 octets in 300 ms"
        );
        assert_eq!(sample.unwrap().prior_delivered, 0);
    }

    #[test]
    fn samples_shorter_than_the_path_tell_no_rate() {
        // 4.5.2.3.3: a retransmission that was spurious is acknowledged by the original's ACK.
        let mut rate = DeliveryRate::default();
        rate.on_sent(packet(0, 1000, 1000, 1000));
        let again = Departure {
            retransmission: true,
            ..packet(90, 1000, 1000, 1000)
        };
        rate.on_sent(again);
        let sample = rate.on_ack(&arrival(100, 1000, again.sent, 1000)).unwrap();
        assert_eq!((sample.delivery_rate, sample.rtt), (0, None));
    }

    #[test]
    fn samples_of_a_sender_without_data_are_marked_until_that_is_delivered() {
        // 4.5.2.2.3.
        let mut rate = DeliveryRate::default();
        let packets =
            [0, 1, 2].map(|n| packet(n, 1000 * (n as u32 + 1), 1000, 1000 * (n as u32 + 1)));
        rate.on_sent(packets[0]);
        rate.note_app_limited(1000);
        rate.on_sent(packets[1]);
        let first = rate.on_ack(&arrival(100, 1000, packets[0].sent, 1000));
        assert!(!first.unwrap().app_limited, "sent before");
        let second = rate.on_ack(&arrival(101, 1000, packets[1].sent, 2000));
        assert!(second.unwrap().app_limited);
        assert!(!rate.is_app_limited());
        rate.on_sent(packets[2]);
        let third = rate.on_ack(&arrival(102, 1000, packets[2].sent, 3000));
        assert!(!third.unwrap().app_limited);
    }

    #[test]
    fn losses_are_counted_from_the_sending_of_the_lost_packet() {
        let mut rate = DeliveryRate::default();
        let packets =
            [0, 1, 2].map(|n| packet(n, 1000 * (n as u32 + 1), 1000, 1000 * (n as u32 + 1)));
        for packet in packets {
            rate.on_sent(packet);
        }
        let first = rate.on_lost(1000, Some(packets[0].sent)).unwrap();
        assert_eq!((first.lost, first.in_flight_when_sent), (1000, 1000));
        let second = rate.on_lost(1000, Some(packets[1].sent)).unwrap();
        assert_eq!((second.lost, second.in_flight_when_sent), (2000, 2000));
        let sample = rate
            .on_ack(&arrival(100, 1000, packets[2].sent, 0))
            .unwrap();
        assert_eq!(sample.lost, 2000);
        assert_eq!(rate.on_lost(5, None), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut rate = DeliveryRate::default();
        for n in 0..100_000u32 {
            rate.on_sent(packet(u64::from(n), n, 1, 2));
        }
        assert_eq!(rate.sent.len(), MAX_SNAPSHOTS);
    }
}
