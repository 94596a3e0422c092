//! The peer's receive window, and what is done while it is closed (RFC 9260 6.2.1, 6.1 A).
//!
//! rwnd is the latest a_rwnd without the octets in flight, at any time: that is what the rules 6.2.1 B to D come to, since
//! sending adds to the flight, and acknowledgment and loss take away from it.
//!
//! A closed window is probed with one packet: the first after one RTO, then at intervals that double. As long as the peer
//! answers with SACKs, however long its window stays closed, that is no error of the path, and says nothing about
//! congestion (6.1 A). The timer is the path's T3-rtx.

/// The window and the state of probing.
#[derive(Debug)]
pub(super) struct PeerWindow {
    /// The latest a_rwnd.
    announced: usize,
    /// The largest a_rwnd so far.
    largest: usize,
    /// DATA is in flight that was sent although the window was closed.
    probing: bool,
    /// What the window must hold to count as open again.
    probe_len: usize,
    /// T3-rtx fired with nothing in flight: one chunk may go.
    probe_permitted: bool,
    /// A SACK came after the latest DATA.
    answered: bool,
    /// How often the interval between probes has been doubled.
    doublings: u32,
}

impl PeerWindow {
    pub(super) fn new(announced: u32) -> Self {
        Self {
            announced: announced as usize,
            largest: announced as usize,
            probing: false,
            probe_len: 1,
            probe_permitted: false,
            answered: false,
            doublings: 0,
        }
    }

    /// Octets of user data the peer can still take, with `in_flight` under way.
    pub(super) fn rwnd(&self, in_flight: usize) -> usize {
        self.announced.saturating_sub(in_flight)
    }

    /// Whether new DATA of `len` octets may go (6.1 A). A smaller piece is not sent instead: that is the sender's part of
    /// silly window avoidance.
    pub(super) fn admits(&self, len: usize, in_flight: usize) -> bool {
        len <= self.rwnd(in_flight)
    }

    /// The largest a_rwnd so far: a chunk larger than that may never be taken.
    pub(super) fn largest(&self) -> usize {
        self.largest
    }

    /// Whether one chunk may go although the window is closed.
    pub(super) fn permits_probe(&self) -> bool {
        self.probe_permitted
    }

    /// How often the interval of T3-rtx is doubled beyond the path's own backoff.
    pub(super) fn doublings(&self) -> u32 {
        self.doublings
    }

    /// DATA of `len` octets was sent, new or again. What is sent again need not fit what is left of rwnd; but whatever goes
    /// into a window announced as too small for it is a probe.
    pub(super) fn on_sent(&mut self, len: usize) {
        if self.announced < len {
            self.probing = true;
            self.probe_len = len;
        }
        self.probe_permitted = false;
        self.answered = false;
    }

    /// T3-rtx fired with nothing in flight, while DATA waits for the window: one chunk may go.
    pub(super) fn permit_probe(&mut self) {
        self.probe_permitted = true;
        self.double();
    }

    /// T3-rtx fired for DATA in flight. Whether that is no error: it is a probe, and the peer answers probes.
    pub(super) fn excuses_timeout(&mut self) -> bool {
        let excused = self.probing && self.answered;
        if excused {
            self.double();
        }
        excused
    }

    fn double(&mut self) {
        self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
    }

    /// A SACK came, and leaves `in_flight` octets of user data in flight (6.2.1 D ii). Whether it opens a window into which
    /// the DATA in flight was sent as a probe: the peer had no room for it then, and has now.
    pub(super) fn on_sack(&mut self, a_rwnd: u32, in_flight: usize) -> bool {
        self.announced = a_rwnd as usize;
        self.largest = self.largest.max(self.announced);
        self.answered = true;
        let open = self.announced >= self.probe_len;
        if open {
            self.doublings = 0;
        }
        let opened = open && self.probing && in_flight > 0;
        self.probing &= !open && in_flight > 0;
        opened
    }
}

impl PeerWindow {
    /// The peer acknowledged `octets` of user data without saying how much room that leaves (SHUTDOWN): none, for now.
    pub(super) fn on_acked_blindly(&mut self, octets: usize) {
        self.announced = self.announced.saturating_sub(octets);
    }
}

/// The interval has reached RTO.Max long before.
const MAX_DOUBLINGS: u32 = 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_is_what_was_announced_without_what_is_in_flight() {
        // RFC 9260 6.2.1 A, D ii.
        let mut window = PeerWindow::new(1000);
        assert_eq!((window.rwnd(0), window.rwnd(400)), (1000, 600));
        assert!(window.admits(600, 400) && !window.admits(601, 400));
        window.on_sack(5000, 400);
        assert_eq!(window.rwnd(400), 4600);
        window.on_sack(100, 400);
        assert_eq!(window.rwnd(400), 0, "the peer shrank it");
        window.on_acked_blindly(400);
        assert_eq!(window.rwnd(0), 0);
    }

    #[test]
    fn answered_probes_are_no_errors_and_come_at_doubling_intervals() {
        // RFC 9260 6.1 A.
        let mut window = PeerWindow::new(0);
        assert!(!window.permits_probe());
        assert_eq!(window.doublings(), 0, "the first after one RTO");
        window.permit_probe();
        assert!(window.permits_probe());
        window.on_sent(100);
        assert!(!window.permits_probe(), "one");
        for doublings in 1..5 {
            assert_eq!(window.doublings(), doublings);
            assert!(!window.on_sack(0, 100));
            assert!(window.excuses_timeout());
            window.on_sent(100);
        }
        assert!(!window.excuses_timeout(), "nothing answered this one");
        assert!(window.on_sack(100, 100), "opened");
        assert_eq!(window.doublings(), 0);
        assert!(!window.on_sack(100, 100), "said once");
        assert!(!window.excuses_timeout());
    }

    #[test]
    fn retransmission_into_an_open_window_is_no_probe() {
        let mut window = PeerWindow::new(1000);
        window.on_sent(900);
        window.on_sent(800);
        window.on_sack(1000, 800);
        assert!(!window.excuses_timeout());
    }

    #[test]
    fn accepted_probe_ends_probing_but_not_the_backoff() {
        let mut window = PeerWindow::new(0);
        window.permit_probe();
        window.on_sent(100);
        assert!(!window.on_sack(0, 0), "the peer took it and is full again");
        assert_eq!(window.doublings(), 1);
        assert!(!window.excuses_timeout());
    }
}
