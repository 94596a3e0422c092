//! How large both buffers may be.
//!
//! A connection begins with small ones and lets them grow with what its path carries: the receive buffer with what the
//! application reads in a round trip (`receive/space.rs`), the send buffer with the congestion window. A size that the
//! socket has set ends that. Neither takes back what has been promised.

use std::time::Duration;

use crate::tcp::Segment;
use crate::tcp::connection::Connection;
use crate::time::Instant;

/// A round trip that no peer nearby takes, queues included: the smallest one then says nothing of the path any more.
const NEAR: Duration = Duration::from_millis(16);
/// The rate that [`Config::short_send_buffer`](crate::tcp::Config::short_send_buffer) speaks of.
const SHORT_PATH_OCTETS_PER_NANOSECOND: usize = 4;

impl Connection {
    /// Octets that may be written and not yet acknowledged.
    pub(super) fn send_capacity(&self) -> usize {
        let most = self.config.max_send_buffer;
        if let Some(own) = self.options.send_buffer {
            return own.min(most);
        }
        // Twice: what is in flight, and what is written meanwhile.
        let wanted = self.congestion.cwnd().saturating_mul(2);
        let limit = self.growth_limit(self.config.short_send_buffer, most);
        wanted.min(limit).max(self.config.send_buffer.min(most))
    }

    /// A segment with data has come: what it tells of the round trip.
    pub(super) fn measure_receive_space(&mut self, now: Instant, segment: &Segment) {
        match (
            self.negotiated.timestamps,
            segment.header.options.timestamps,
        ) {
            // Linux looks at full segments only: small ones are those of a sender that had nothing to send before.
            (Some(state), Some(option))
                if segment.segment_size >= self.receive.acks.largest_segment() =>
            {
                if let Some(round_trip) = state.round_trip(option.echo, now) {
                    self.receive.space.on_echo(option.echo, round_trip);
                }
            }
            (Some(_), _) => {}
            (None, _) => {
                let window = self.receive.capacity();
                self.receive
                    .space
                    .on_data(now, segment.payload_len(), window);
            }
        }
    }

    /// The application has read `len` octets: the buffer grows if it was what limited the peer.
    pub(super) fn grow_receive_buffer(&mut self, len: usize) {
        if self.options.receive_buffer.is_some() {
            return;
        }
        let round_trip = self.rtt.smoothed().unwrap_or_default();
        let mss = usize::from(self.negotiated.our_mss);
        let wanted = self.receive.space.on_read(self.clock, len, round_trip, mss);
        let Some(wanted) = wanted else {
            return;
        };
        let most = self.config.max_receive_buffer;
        // A receiver's own round trip may be that of the handshake only, before the path was full.
        let limit = if self.receive.space.rtt() < NEAR {
            self.growth_limit(self.config.short_receive_buffer, most)
        } else {
            most
        };
        let wanted = wanted.min(limit);
        if wanted > self.receive.capacity() {
            self.receive.set_capacity(wanted);
        }
    }

    /// Where a buffer ends to grow by itself: `most`, or on a short path what that holds, `least` at least.
    fn growth_limit(&self, least: usize, most: usize) -> usize {
        match (self.rtt.minimum(), self.rtt.smoothed()) {
            (Some(minimum), Some(smoothed)) if smoothed < NEAR => {
                let held = minimum.as_nanos() as usize * SHORT_PATH_OCTETS_PER_NANOSECOND;
                held.clamp(least.min(most), most)
            }
            _ => most,
        }
    }
}
