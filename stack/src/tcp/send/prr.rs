//! PRR: how fast to send while fast recovery brings the window down (RFC 6937).
//!
//! Owns the octets delivered and sent since recovery began, and the window that follows from them on each ACK. The target
//! is the controller's `ssthresh`, which it has set when recovery began. With more in flight than that, as many octets
//! go out as the target is of the former flight; with less, what was delivered is replaced, and while recovery makes
//! progress one segment more (slow start), which is the safe ACK of RFC 9937, the successor: an ACK that advances
//! SND.UNA and shows no further loss. From the same come the flight at the beginning without what was SACKed before,
//! the octet count of the segment that begins recovery, and that the window ends at the target and not below. RFC 9937
//! was followed from general knowledge of it and from Linux; of the two RFCs, only 6937's text was at hand.

/// The state of one recovery. All counts are octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prr {
    /// RecoverFS: the flight when recovery began.
    recover_fs: u32,
    /// prr_delivered.
    delivered: u32,
    /// prr_out.
    out: u32,
}

/// An ACK in recovery.
#[derive(Clone, Copy, Debug)]
pub struct PrrAck {
    /// DeliveredData: octets newly acknowledged in any way.
    pub delivered: u32,
    /// What is in flight after it.
    pub pipe: u32,
    /// SND.UNA advanced and nothing more was found to be lost.
    pub safe: bool,
    /// The target.
    pub ssthresh: u32,
    /// Effective MSS.
    pub mss: u32,
}

impl Prr {
    /// Recovery begins with `flight` octets sent, not SACKed before this ACK and, but for this ACK, not acknowledged. Of them,
    /// ACKs that came together with this one have acknowledged `unreplaced`, in whose place nothing could be sent yet.
    pub const fn begin(flight: u32, unreplaced: u32) -> Self {
        Self {
            recover_fs: flight,
            delivered: unreplaced,
            out: 0,
        }
    }

    /// The congestion window after `ack`; `None` leaves it, since nothing was delivered.
    pub fn on_ack(&mut self, ack: PrrAck) -> Option<u32> {
        if ack.delivered == 0 && self.out > 0 {
            return None;
        }
        self.delivered = self.delivered.saturating_add(ack.delivered);
        let mut count = if ack.pipe > ack.ssthresh {
            let share = u64::from(self.delivered) * u64::from(ack.ssthresh);
            let due = share.div_ceil(u64::from(self.recover_fs.max(1)));
            due.saturating_sub(u64::from(self.out))
                .min(u64::from(u32::MAX)) as u32
        } else {
            let mut count = self.delivered.saturating_sub(self.out).max(ack.delivered);
            if ack.safe {
                count = count.saturating_add(ack.mss);
            }
            count.min(ack.ssthresh - ack.pipe)
        };
        if self.out == 0 {
            // The first retransmission goes out at once.
            count = count.max(ack.mss);
        }
        Some(ack.pipe.saturating_add(count))
    }

    /// `octets` went out, new or again.
    pub const fn on_sent(&mut self, octets: u32) {
        self.out = self.out.saturating_add(octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// A recovery from 20 segments to `ssthresh`; the receiver has the rest, one ACK for each segment that arrives.
    struct Path {
        prr: Prr,
        pipe: u32,
        ssthresh: u32,
        sent: u32,
    }

    impl Path {
        fn new(pipe: u32, ssthresh: u32) -> Self {
            Self {
                prr: Prr::begin(20 * MSS, 0),
                pipe,
                ssthresh,
                sent: 0,
            }
        }

        /// `delivered` octets arrive; sends what the window permits and says how many segments.
        fn ack(&mut self, delivered: u32, safe: bool) -> u32 {
            self.pipe -= delivered;
            let window = self.prr.on_ack(PrrAck {
                delivered,
                pipe: self.pipe,
                safe,
                ssthresh: self.ssthresh,
                mss: MSS,
            });
            let mut segments = 0;
            while window.is_some_and(|window| self.pipe + MSS <= window) {
                self.pipe += MSS;
                self.prr.on_sent(MSS);
                segments += 1;
            }
            self.sent += segments;
            segments
        }
    }

    #[test]
    fn reduction_is_spread_over_the_recovery() {
        // RFC 6937 3: half the window: one segment for every second that arrives, and at the end ssthresh is in flight.
        let mut path = Path::new(19 * MSS, 10 * MSS);
        let sent: Vec<u32> = (0..18).map(|_| path.ack(MSS, false)).collect();
        assert!(sent.iter().all(|count| *count <= 1), "{sent:?}");
        assert_eq!(path.sent, 9);
        assert_eq!(path.pipe, 10 * MSS);
    }

    #[test]
    fn below_the_target_delivered_octets_are_replaced() {
        // RFC 6937 3.1: packet conservation while further losses show; slow start when recovery makes progress.
        let mut path = Path::new(5 * MSS, 10 * MSS);
        assert_eq!(path.ack(MSS, false), 1);
        assert_eq!(path.ack(MSS, false), 1);
        assert_eq!(path.ack(MSS, true), 2, "a safe ACK");
        assert_eq!(path.ack(MSS, false), 1);
        assert_eq!(path.ack(2 * MSS, true), 3);
        for _ in 0..10 {
            path.ack(MSS, true);
        }
        assert_eq!(path.pipe, 10 * MSS, "not beyond the target");
    }

    #[test]
    fn first_retransmission_goes_out_whatever_the_share_is() {
        // RFC 9937 6: recovery begins with one segment.
        let mut path = Path::new(20 * MSS, 2 * MSS);
        assert_eq!(path.ack(MSS, false), 1);
        assert_eq!(path.ack(MSS, false), 0);
    }

    #[test]
    fn ack_that_delivers_nothing_changes_nothing() {
        // RFC 6937 3: sndcnt follows DeliveredData.
        let mut path = Path::new(10 * MSS, 10 * MSS);
        path.ack(MSS, false);
        let before = path.prr;
        assert_eq!(path.ack(0, true), 0);
        assert_eq!(path.prr, before);
    }
}
