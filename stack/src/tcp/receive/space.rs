//! How large the receive buffer has to be: dynamic right-sizing, as Linux's `tcp_rcv_space_adjust` does it.
//!
//! A window must hold what the path carries in a round trip, or it is what limits the sender. How much that is shows in
//! how much the application reads in a round trip: the buffer is to hold twice as much and some more, since the sender's
//! window may double in the next one (slow start). The buffer only grows: what is promised is not taken back (RFC 9293
//! 3.8.6, SHLD-14; RFC 7323 2.4). How large it may become, and whether memory is short, is its owner's business.

use std::time::Duration;

use crate::time::Instant;

/// The measurement of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveSpace {
    /// Octets read in the busiest round trip so far.
    space: u32,
    /// Octets read since `since`.
    read: u32,
    since: Instant,
    /// The round trip as the receiver sees it, smoothed, in microseconds; zero before it is known.
    rtt: u32,
    /// Octets received since `window_since`, until a window's worth is there: the round trip without timestamps.
    window_left: u32,
    window_since: Instant,
    /// The echoed timestamp that was measured last: each tells once. 0 is none.
    measured: u32,
}

impl ReceiveSpace {
    /// Nothing measured; a connection's first round trip is taken to bring `initial` octets.
    pub fn new(now: Instant, initial: usize) -> Self {
        Self {
            space: initial.min(MAX) as u32,
            read: 0,
            since: now,
            rtt: 0,
            window_left: 0,
            window_since: now,
            measured: 0,
        }
    }

    /// The receiver's round trip; zero before it is known.
    pub const fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt as u64)
    }

    /// Octets that the application has read in the busiest round trip (`tcpi_rcv_space`).
    pub const fn space(&self) -> usize {
        self.space as usize
    }

    /// A segment with data echoed the timestamp `echo`, which was sent `round_trip` ago. That includes what the sender has
    /// waited for data, so it is a bound from above, and weighted as such.
    pub fn on_echo(&mut self, echo: u32, round_trip: Duration) {
        if self.measured != echo {
            self.measured = echo;
            self.sample(micros(round_trip));
        }
    }

    /// `len` octets came on a connection without timestamps, whose window is `window`: a window takes a round trip at
    /// least.
    pub fn on_data(&mut self, now: Instant, len: usize, window: usize) {
        if self.window_left == 0 {
            self.window_left = window.clamp(1, MAX) as u32;
            self.window_since = now;
        }
        self.window_left = self.window_left.saturating_sub(len.min(MAX) as u32);
        if self.window_left == 0 {
            let taken = micros(now - self.window_since);
            if self.rtt == 0 || taken < self.rtt {
                self.rtt = taken;
            }
        }
    }

    fn sample(&mut self, round_trip: u32) {
        self.rtt = if self.rtt == 0 {
            round_trip
        } else {
            self.rtt - self.rtt / 8 + round_trip / 8
        };
    }

    /// The application has read `len` octets; `fallback` is the round trip known otherwise, by the handshake. Gives the
    /// buffer that the connection should have, once a round trip, if it was busier than those before.
    pub fn on_read(
        &mut self,
        now: Instant,
        len: usize,
        fallback: Duration,
        mss: usize,
    ) -> Option<usize> {
        self.read = self.read.saturating_add(len.min(MAX) as u32);
        let rtt = if self.rtt == 0 { fallback } else { self.rtt() };
        if rtt.is_zero() || now - self.since < rtt {
            return None;
        }
        let read = std::mem::take(&mut self.read);
        self.since = now;
        if read <= self.space {
            return None;
        }
        let (read, before) = (read as usize, self.space as usize);
        self.space = read as u32;
        // What was read was sent a round trip ago, and what is sent now may be twice as much; in slow start the difference
        // doubles too.
        let window = 2 * read + 16 * mss;
        let growth = window as u128 * (read - before) as u128 / before.max(1) as u128;
        Some(window.saturating_add(2 * growth as usize).min(MAX))
    }
}

/// No window is larger (RFC 7323 2.3).
const MAX: usize = 1 << 30;
/// Of timestamps, in microseconds: no round trip is taken for shorter.
const RESOLUTION: u32 = 1000;

/// A round trip in microseconds.
fn micros(round_trip: Duration) -> u32 {
    u32::try_from(round_trip.as_micros()).map_or(u32::MAX, |micros| micros.max(RESOLUTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn buffer_follows_what_is_read_in_a_round_trip() {
        let mut space = ReceiveSpace::new(at(0), 10_000);
        space.on_echo(1, ms(100));
        // Within the round trip only the count grows.
        assert_eq!(space.on_read(at(50), 15_000, ms(0), MSS), None);
        // 20,000 instead of 10,000: twice as much, and twice the growth on top.
        let wanted = space.on_read(at(100), 5_000, ms(0), MSS);
        assert_eq!(wanted, Some(56_000 + 2 * 56_000));
        // The same again is no reason to grow.
        assert_eq!(space.on_read(at(200), 20_000, ms(0), MSS), None);
        assert_eq!(space.on_read(at(300), 10, ms(0), MSS), None);
        assert_eq!(space.space(), 20_000);
    }

    #[test]
    fn round_trip_is_that_of_echoes_each_taken_once() {
        let mut space = ReceiveSpace::new(at(0), 10_000);
        space.on_echo(1, ms(80));
        space.on_echo(1, ms(500));
        assert_eq!(space.rtt(), ms(80));
        space.on_echo(2, ms(160));
        assert_eq!(space.rtt(), ms(90));
        let mut near = ReceiveSpace::new(at(0), 10_000);
        near.on_echo(1, ms(0));
        assert_eq!(near.rtt(), ms(1), "milliseconds tell no less");
    }

    #[test]
    fn round_trip_without_timestamps_is_the_shortest_time_of_a_window() {
        let mut space = ReceiveSpace::new(at(0), 10_000);
        space.on_data(at(0), 1000, 4000);
        space.on_data(at(60), 3000, 4000);
        assert_eq!(space.rtt(), ms(60));
        space.on_data(at(100), 4000, 4000);
        assert_eq!(space.rtt(), ms(1));
    }

    #[test]
    fn handshake_serves_until_something_is_measured() {
        let mut space = ReceiveSpace::new(at(0), 1000);
        assert_eq!(space.on_read(at(10), 5000, ms(0), MSS), None, "unknown");
        assert!(space.on_read(at(30), 1, ms(20), MSS).is_some());
    }

    #[test]
    fn absurd_amounts_overflow_nothing() {
        let mut space = ReceiveSpace::new(at(0), 0);
        space.on_data(at(0), usize::MAX, usize::MAX);
        space.on_echo(7, Duration::MAX);
        assert_eq!(space.on_read(at(1), usize::MAX, ms(1), MSS), None);
        let mut space = ReceiveSpace::new(at(0), 0);
        let wanted = space.on_read(at(5), usize::MAX, ms(1), usize::MAX / 64);
        assert_eq!(wanted, Some(MAX));
    }
}
